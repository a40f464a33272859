--- Makes a driver of an event loop that runs coroutines: what has to wait in one of them then suspends
-- that one alone.
--
-- The loop is given as a table of functions; `require("cloudsync.driver").add(loop.new(functions))`
-- makes it known. examples/luv.lua does that for libuv.
--
--   - `is_current()`: whether the code that runs is a coroutine of the loop's. Where it is not, only
--     `set` may be called
--   - `signal()`: makes what one coroutine waits for, once
--   - `wait(signal, seconds)`: suspends the running coroutine until the signal is set, which may be
--     before, or the time is over; it is finite
--   - `set(signal)`: has the coroutine that waits go on soon, but not within this call
--   - `sleep(seconds)`: suspends the running coroutine for no less
--   - `spawn(fn)`: runs a function, which raises nothing, in a new coroutine of the loop's
--   - `pump(step)`: begins to call `step()`, which does not wait, whenever the descriptor
--     `cloudsync.core.engine():pollfd()` is readable (level-triggered; time-outs make it so, too),
--     and at least twice a second, until `step()` returns false. Returns at once, and whether it
--     can. After a second without a `step()` it is called again; if the loop was merely held up, it
--     must not begin anew. Behind true it may return a function that has `step()` called at once
--
-- These may be left out:
--
--   - `runner()`: the loop that runs the code, an object, where there can be several; each then has a
--     pump of its own
--   - `check()`: raises where the code that runs can't wait; without it, what has to wait below a C
--     function holds up the loop
--   - `outlive(fn)`: runs a function where nobody ends it, and returns whether it can; for loops whose
--     coroutines can be ended while they wait
--   - `run(done, deadline)`: called outside of the loop's coroutines, goes on with what `outlive` began
--     until `done()` is true, at the latest until the deadline by `cloudsync.now()`
local core = require "cloudsync.core"
local news = require "cloudsync.driver.news"

local loop = {}

local unpack = table.unpack or unpack

local function pack(...)
  return { n = select("#", ...), ... }
end

local STALLED = 1 -- s after which a pump is taken for dead
local WITHOUT_PUMP = 0.01 -- s between two steps of who waits where there is no pump

local Event = {}
Event.__index = Event

function Event:set()
  self.happened = true
  for _, signal in ipairs(self.waiters) do self.host.set(signal) end
  self.waiters = {}
end

-- Waits outside of the loop's coroutines, where only what `outlive` began goes on.
local function wait_outside(event, deadline)
  local run = event.host.run
  if run then run(function() return event.happened end, deadline or math.huge) end
  if event.happened or deadline and core.now() >= deadline then return event.happened or false end
  error("cloudsync: what is waited for here happens in an event loop, which stands still "
    .. "meanwhile; wait in one of its coroutines", 0)
end

-- Returns whether it happened before the deadline.
function Event:wait(deadline)
  local is_current = self.host.is_current
  if not self.happened and is_current and not is_current() then
    return wait_outside(self, deadline)
  end
  while not self.happened do
    local left = deadline and deadline - core.now() or math.huge
    if left <= 0 then return false end
    local signal = self.host.signal()
    self.waiters[#self.waiters + 1] = signal
    self.host.wait(signal, math.min(left, 60))
  end
  return true
end

-- By the number of a transfer, in whichever loop: who waits for it, who is not kept if it was ended
-- while waiting; and those that nobody waits for.
local waiting, kept = setmetatable({}, { __mode = "v" }), {} -- luacheck: ignore 241

-- Tells a pump that one call less needs it, and who waits that there is news.
local function wake(waiter)
  local pump = waiter.pump
  if pump then
    waiter.pump = nil
    pump.calls = pump.calls - 1
    if pump.calls == 0 and pump.hurry then pump.hurry() end
  end
  waiter.host.set(waiter.signal)
end

news.subscribe(function(number)
  local waiter = waiting[number]
  waiting[number], kept[number] = nil, nil
  if waiter then wake(waiter) end
end, function()
  for number, waiter in pairs(waiting) do
    waiting[number] = nil
    wake(waiter)
  end
  kept = {}
end)

-- What moves the transfers for one loop; it ends with the last of that loop's calls.
local function new_pump()
  local pump = { calls = 0, seen = -math.huge } -- how many need it; when it was last seen alive
  function pump.turn()
    local going = news.step(0) and (pump.calls > 0 or next(kept) ~= nil)
    pump.seen = going and core.now() or -math.huge
    return going
  end
  return pump
end

-- What does the work, at most once. This has returned before anything waits: what a function shares
-- with a frame that is still active is lost when the caller is ended, as nginx gives the stack of a
-- light thread to the next.
local function work_of(ended, fn, ...)
  local arguments = pack(...)
  return function()
    if ended.begun then return end
    ended.begun = true
    ended.results = pack(pcall(fn, unpack(arguments, 1, arguments.n)))
    ended:set()
  end
end

--- Makes the driver.
-- @tparam table host see above
function loop.new(host)
  local pumps = setmetatable({}, { __mode = "k" }) -- by what runs them

  local function own_pump()
    local runner = host.runner and host.runner() or host
    pumps[runner] = pumps[runner] or new_pump()
    return pumps[runner]
  end

  -- Steps, and sees to it that it goes on. Returns for how long one may wait for that.
  local function drive(pump)
    if not news.step(0) or core.now() - pump.seen < STALLED then return STALLED end
    pump.seen = core.now()
    local can, hurry = host.pump(pump.turn)
    pump.hurry = can and hurry
    if can then return STALLED end
    pump.seen = -math.huge
    return WITHOUT_PUMP
  end

  local driver = { check = host.check, is_current = host.is_current, sleep = host.sleep,
    spawn = host.spawn }

  function driver.wait(transfer)
    local pump = own_pump()
    local waiter = { host = host, pump = pump }
    pump.calls = pump.calls + 1
    local seconds = drive(pump)
    while not transfer:done() do
      waiter.signal = host.signal()
      waiting[transfer:number()] = waiter
      host.wait(waiter.signal, seconds)
      if not transfer:done() then seconds = drive(pump) end
    end
    if waiter.pump then pump.calls = pump.calls - 1 end
  end

  function driver.event()
    return setmetatable({ host = host, waiters = {} }, Event)
  end

  function driver.finish(transfer)
    news.step(0) -- which forgets those of a parent process
    if transfer:done() then return end
    kept[transfer:number()] = transfer
    drive(own_pump())
  end

  function driver.outlive(fn, ...)
    if not host.outlive then return fn(...) end
    local ended = driver.event()
    local work = work_of(ended, fn, ...)
    -- a loop may drop what it has taken, as nginx does when too many timers run
    if not host.outlive(work) or not ended:wait(core.now() + STALLED) and not ended.begun then
      work()
    end
    ended:wait()
    if not ended.results[1] then error(ended.results[2], 0) end
    return unpack(ended.results, 2, ended.results.n)
  end

  return driver
end

return loop
