--- Waits outside of any task: nothing else of the program goes on, but tasks that there are do.
local core = require "cloudsync.core"
local scheduler = require "cloudsync.driver.scheduler"

local blocking = { event = scheduler.event }

function blocking.wait(transfer)
  scheduler.run_until(function() return transfer:done() end)
end

function blocking.sleep(seconds)
  scheduler.run_until(function() return false end, core.now() + seconds)
end

return blocking
