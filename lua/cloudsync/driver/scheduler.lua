--- Runs tasks (coroutines) that wait for transfers, for a time or for each other.
--
-- What every driver offers: `wait(transfer)`; `sleep(seconds)`; `spawn(fn)`; `event()`, an object with
-- `wait(deadline?)` and `set()`; `finish(transfer)`, which lets a transfer that nobody waits for come to
-- its end; `outlive(fn, ...)`, which calls a function whose work others need, and which is to be
-- done also where the caller is ended.
local core = require "cloudsync.core"
local news = require "cloudsync.driver.news"

local scheduler = {}

local LONGEST_STEP = 0.5 -- s; so that a signal handler of the interpreter's gets its turn

local tasks = setmetatable({}, { __mode = "k" }) -- coroutine -> its task
local waiting = {} -- number of a transfer -> the task that waits for it
local ready, first, last = {}, 1, 0 -- a queue of tasks
local timers = {} -- a binary heap of {at, task}
local depth = 0 -- of tasks that run, one inside of another

local function wake(task)
  if task.queued then return end
  task.queued = true
  last = last + 1
  ready[last] = task
end

local function add_timer(at, task)
  local timer = { at = at, task = task }
  local i = #timers + 1
  while i > 1 do
    local parent = math.floor(i / 2)
    if timers[parent].at <= at then break end
    timers[i] = timers[parent]
    i = parent
  end
  timers[i] = timer
  return timer
end

local function remove_first_timer()
  local timer, bottom = timers[1], table.remove(timers)
  local i, count = 1, #timers
  if count == 0 then return timer end
  while 2 * i <= count do
    local child = 2 * i
    if child < count and timers[child + 1].at < timers[child].at then child = child + 1 end
    if bottom.at <= timers[child].at then break end
    timers[i] = timers[child]
    i = child
  end
  timers[i] = bottom
  return timer
end

news.subscribe(function(number)
  local task = waiting[number]
  waiting[number] = nil
  if task then wake(task) end
end, function()
  for _, task in pairs(waiting) do wake(task) end
  waiting = {}
end)

local function settle(task)
  if coroutine.status(task.coroutine) == "dead" then
    tasks[task.coroutine] = nil -- LuaJIT's weak tables keep a key that its value leads to
  elseif not task.suspended then
    wake(task) -- the function yielded by itself: it goes on after the others
  end
end

-- Runs the tasks whose time has come and those that are ready.
local function run_ready()
  while timers[1] and timers[1].at <= core.now() do
    local task = remove_first_timer().task
    if task then wake(task) end
  end
  local stop = last
  while first <= stop do -- a coroutine that a task made may run this loop inside of it
    local task = ready[first]
    ready[first] = nil
    first = first + 1
    task.queued = false
    if coroutine.status(task.coroutine) == "suspended" then
      task.suspended = false
      depth = depth + 1
      coroutine.resume(task.coroutine)
      depth = depth - 1
      settle(task)
    end
  end
end

-- How long nothing can happen but on a socket, or within `left` seconds.
local function idle_time(left)
  if last >= first then return 0 end
  local seconds = math.min(left, LONGEST_STEP)
  return timers[1] and math.max(0, math.min(seconds, timers[1].at - core.now())) or seconds
end

--- The task that is running, or nil; a coroutine that a task made itself is not one.
function scheduler.current()
  return tasks[coroutine.running()]
end

-- Suspends the running task until it is woken, at the latest at `deadline`.
local function suspend(task, deadline)
  local timer = deadline and add_timer(deadline, task)
  task.suspended = true
  coroutine.yield()
  if timer then timer.task = nil end
end

--- Runs all tasks until `done()` is true, at the latest until `deadline`.
function scheduler.run_until(done, deadline)
  while not done() do
    run_ready()
    local left = deadline and deadline - core.now() or math.huge
    if left <= 0 or done() then return end
    news.step(idle_time(left))
  end
end

--- Whether a task is being run: then whoever is not that task is a coroutine it made.
function scheduler.is_running()
  return depth > 0
end

--- Lets bytes move, and no task run, until `done()` is true, at the latest until `deadline`.
function scheduler.step_until(done, deadline)
  while not done() do
    local left = deadline and deadline - core.now() or math.huge
    if left <= 0 then return end
    news.step(math.min(left, LONGEST_STEP))
  end
end

function scheduler.wait(transfer)
  local task = scheduler.current()
  while not transfer:done() do
    waiting[transfer:number()] = task
    suspend(task)
  end
end

function scheduler.sleep(seconds)
  local deadline = core.now() + seconds
  repeat suspend(scheduler.current(), deadline) until core.now() >= deadline
end

local Event = {}
Event.__index = Event

--- Something that happens once, and that any number of callers can wait for.
function scheduler.event()
  return setmetatable({ waiters = {} }, Event)
end

function Event:set()
  self.happened = true
  for _, task in ipairs(self.waiters) do wake(task) end
  self.waiters = {}
end

-- Returns whether it happened before the deadline.
function Event:wait(deadline)
  local task = core.is_yieldable() and scheduler.current()
  if not task then
    scheduler.run_until(function() return self.happened end, deadline)
    return self.happened or false
  end
  while not self.happened and not (deadline and core.now() >= deadline) do
    self.waiters[#self.waiters + 1] = task
    suspend(task, deadline)
  end
  return self.happened or false
end

--- Starts a task; it runs while something waits.
-- @tparam function fn which raises nothing
function scheduler.spawn(fn)
  local task = { coroutine = coroutine.create(fn) }
  tasks[task.coroutine] = task
  wake(task)
end

-- No task runs meanwhile: this is for finalizers.
function scheduler.finish(transfer)
  local engine = core.engine()
  while not transfer:done() do engine:step(0.1) end
  transfer:cancel()
end

function scheduler.outlive(fn, ...)
  return fn(...)
end

return scheduler
