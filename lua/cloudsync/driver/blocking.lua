--- Waits where there is no task to suspend. In the main program the tasks go on meanwhile. Inside of a
-- task, in a coroutine that it made or below a C function, they do not: they could need what waits
-- here, and they would run on its stack.
local core = require "cloudsync.core"
local scheduler = require "cloudsync.driver.scheduler"

local blocking = { event = scheduler.event, spawn = scheduler.spawn }

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

-- No task runs meanwhile: this is for finalizers.
function blocking.finish(transfer)
  local engine = core.engine()
  while not transfer:done() do engine:step(0.1) end
  transfer:cancel()
end

function blocking.outlive(fn, ...)
  return fn(...)
end

scheduler.finish, scheduler.outlive = blocking.finish, blocking.outlive

return blocking
