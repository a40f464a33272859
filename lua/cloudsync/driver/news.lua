--- Moves the transfers, and tells all drivers which are done, whichever of them it is that moves them.
local core = require "cloudsync.core"

local news = {}

local readers, last_engine = {}, nil

--- @tparam function on_done called with the number of a transfer that is done, anybody's
-- @tparam function on_fork called in a child process: what its parent began will not be done here
function news.subscribe(on_done, on_fork)
  readers[#readers + 1] = { on_done = on_done, on_fork = on_fork }
end

--- Lets bytes move, waiting up to `seconds`. Returns whether any transfer is in flight.
function news.step(seconds)
  local engine = core.engine()
  if engine ~= last_engine then
    last_engine, seconds = engine, 0
    for _, reader in ipairs(readers) do reader.on_fork() end
  end
  engine:step(seconds)
  for number in engine.next, engine do
    for _, reader in ipairs(readers) do reader.on_done(number) end
  end
  return engine:running() > 0
end

return news
