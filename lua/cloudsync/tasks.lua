--- Concurrency for scripts: code that reads as if it blocked, and waits side by side.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local check = require "cloudsync.options".check

local tasks = {}

local unpack = table.unpack or unpack

local Task = {}
Task.__index = Task

--- Waits for the task to end.
-- @tparam ?number timeout seconds
-- @return what its function returned; `nil, "timeout"` if it has not ended in time
function Task:wait(timeout)
  if not self.ended:wait(timeout and core.now() + timeout) then return nil, "timeout" end
  if not self.ok then error(self.results[1], 0) end
  return unpack(self.results, 1, self.results.n)
end

local function finish(task, ok, ...)
  task.ok, task.results = ok, { n = select("#", ...), ... }
  task.ended:set()
end

--- Starts a task. It runs while something waits: another call, `task:wait()`, `run`. In nginx it is a
-- light thread of the request.
-- @tparam function fn
-- @param ... its arguments
-- @return a task; `task:wait(timeout?)` returns what `fn` returned and raises what it raised
function tasks.spawn(fn, ...)
  if type(fn) ~= "function" then
    error("cloudsync.spawn: function expected, got " .. type(fn), 2)
  end
  local waiter = driver.current()
  local task = setmetatable({ ended = waiter.event() }, Task)
  local arguments = { n = select("#", ...), ... }
  waiter.spawn(function() finish(task, pcall(fn, unpack(arguments, 1, arguments.n))) end)
  return task
end

--- Suspends the task, or the program outside of one, for some seconds.
-- @tparam number seconds
function tasks.sleep(seconds)
  if type(seconds) ~= "number" then
    error("cloudsync.sleep: number expected, got " .. type(seconds), 2)
  end
  return driver.current().sleep(seconds)
end

--- Runs a function as a task, and with it all other tasks, until it ends.
-- @tparam function fn
-- @return what it returned; raises what it raised
function tasks.run(fn, ...)
  return tasks.spawn(fn, ...):wait()
end

--- Seconds on a clock that is never set.
tasks.now = core.now

local function is_callable(value)
  local metatable = getmetatable(value)
  return type(value) == "function" or (type(metatable) == "table" and metatable.__call ~= nil)
end

-- Gives the items of a list or of an iterator one by one, each with its index.
local function source_of(items)
  local last, ended = 0, false
  if is_callable(items) then
    return function()
      if ended then return nil end
      local item = items() -- may wait, and others may take theirs meanwhile
      last, ended = last + 1, ended or item == nil
      return item, last
    end
  end
  return function()
    last = last + 1
    return items[last], last
  end
end

--- Calls a function for each item, several at a time.
--
-- An item fails where `fn` raises or returns `nil, err`; the others go on. Where an iterator raises,
-- no more items are taken, and the failure has no item.
-- @tparam table|function items a list, or an iterator such as a pager
-- @tparam function fn called with the item and its index
-- @tparam ?table options `concurrency` (16): how many at a time
-- @treturn table results by index
-- @treturn table failures, a list of `{index, item, err}` in the order of the items
function tasks.map(items, fn, options)
  check(options, { concurrency = "count" }, "cloudsync.map", 2)
  if type(items) ~= "table" and not is_callable(items) then
    error("cloudsync.map: list or iterator expected, got " .. type(items), 2)
  end
  local limit = options and options.concurrency or 16
  local results, failures, broken = {}, {}, false
  local next_item = source_of(items)
  local function work()
    while not broken do
      local taken, item, index = pcall(next_item)
      if not taken then
        broken = true
        failures[#failures + 1] = { index = math.huge, err = item }
        return
      end
      if item == nil then return end
      local ok, result, err = pcall(fn, item, index)
      if not ok then result, err = nil, result end
      results[index] = result
      if not ok or (result == nil and err ~= nil) then
        failures[#failures + 1] = { index = index, item = item, err = err }
      end
    end
  end
  local workers = {}
  local count = is_callable(items) and limit or math.min(limit, #items)
  for i = 1, count do workers[i] = tasks.spawn(work) end
  for _, worker in ipairs(workers) do worker:wait() end
  table.sort(failures, function(a, b) return a.index < b.index end)
  return results, failures
end

return tasks
