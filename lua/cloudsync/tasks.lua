--- Concurrency for scripts: code that reads as if it blocked, and waits side by side.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local scheduler = require "cloudsync.driver.scheduler"

local tasks = {}

--- Starts a task. It runs while something waits: another call, `task:wait()`, `run`.
-- @tparam function fn
-- @param ... its arguments
-- @return a task; `task:wait(timeout?)` returns what `fn` returned and raises what it raised
tasks.spawn = scheduler.spawn

--- Suspends the task, or the program outside of one, for some seconds.
-- @tparam number seconds
function tasks.sleep(seconds)
  return driver.current().sleep(seconds)
end

--- Runs a function as a task, and with it all other tasks, until it ends.
-- @tparam function fn
-- @return what it returned; raises what it raised
function tasks.run(fn, ...)
  return scheduler.spawn(fn, ...):wait()
end

--- Seconds on a clock that is never set.
tasks.now = core.now

--- Calls a function for each item, several at a time.
--
-- An item fails where `fn` raises or returns `nil, err`; the others go on.
-- @tparam table items a list
-- @tparam function fn called with the item and its index
-- @tparam ?table options `concurrency` (16): how many at a time
-- @treturn table results by index
-- @treturn table failures, a list of `{index, item, err}` in the order of the items
function tasks.map(items, fn, options)
  local limit = options and options.concurrency or 16
  if type(limit) ~= "number" or limit < 1 then
    error("cloudsync.map: concurrency must be a number of at least 1", 2)
  end
  local results, failures, next_index = {}, {}, 1
  local function work()
    while next_index <= #items do
      local index = next_index
      next_index = index + 1
      local ok, result, err = pcall(fn, items[index], index)
      if not ok then result, err = nil, result end
      results[index] = result
      if result == nil and err ~= nil then
        failures[#failures + 1] = { index = index, item = items[index], err = err }
      end
    end
  end
  local workers = {}
  for i = 1, math.min(limit, #items) do workers[i] = scheduler.spawn(work) end
  for _, worker in ipairs(workers) do worker:wait() end
  table.sort(failures, function(a, b) return a.index < b.index end)
  return results, failures
end

return tasks
