--- Chooses who waits. Asked each time a call has to wait, never at `require`.
local blocking = require "cloudsync.driver.blocking"
local scheduler = require "cloudsync.driver.scheduler"

local driver = {}

--- The driver for the code that is running.
function driver.current()
  return scheduler.current() and coroutine.isyieldable() and scheduler or blocking
end

return driver
