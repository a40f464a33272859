--- Waits where there is no task to suspend. In the main program the tasks go on meanwhile. Inside of a
-- task, in a coroutine that it made or below a C function, they do not: they could need what waits
-- here, and they would run on its stack.
local core = require "cloudsync.core"
local scheduler = require "cloudsync.driver.scheduler"

local blocking = { event = scheduler.event, spawn = scheduler.spawn, finish = scheduler.finish,
  outlive = scheduler.outlive }

local function wait_until(done, deadline)
  local run = scheduler.is_running() and scheduler.step_until or scheduler.run_until
  return run(done, deadline)
end

function blocking.wait(transfer)
  wait_until(function() return transfer:done() end)
end

function blocking.sleep(seconds)
  wait_until(function() return false end, core.now() + seconds)
end

return blocking
