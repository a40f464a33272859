--- Chooses who waits. Asked each time a call has to wait, never at `require`.
local blocking = require "cloudsync.driver.blocking"
local core = require "cloudsync.core"
local scheduler = require "cloudsync.driver.scheduler"

local driver = {}

local loops = {} -- that were added

-- The drivers of programs that are in use.
local function loop()
  for _, added in ipairs(loops) do
    if added.is_current() then return added end
  end
  local cqueues = package.loaded.cqueues
  if cqueues and select(2, cqueues.running()) then return require "cloudsync.driver.cqueues" end
end

--- The driver for the code that is running.
function driver.any()
  if package.loaded.ngx then return require "cloudsync.driver.nginx" end
  return loop() or scheduler.current() and core.is_yieldable() and scheduler or blocking
end

--- The driver for the code that is running, which can wait; it raises where it can't. Below a C
-- function that is the blocking one, if the loop does not object.
function driver.current()
  local found = driver.any()
  if found.check then
    found.check()
  elseif not core.is_yieldable() then
    return blocking
  end
  return found
end

--- Makes another event loop known: see `cloudsync.driver.loop`.
-- @param added what `loop.new` has made
function driver.add(added)
  loops[#loops + 1] = added
end

return driver
