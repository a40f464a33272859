--- Waits in the coroutines of a cqueues controller; others of it go on.
local core = require "cloudsync.core"
local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local loop = require "cloudsync.driver.loop"

local LONGEST = 0.5 -- s between two looks, in case another controller has taken the descriptor's news

local host = { signal = condition.new, sleep = cqueues.sleep }

function host.wait(signal, seconds)
  signal:wait(seconds)
end

function host.set(signal)
  signal:signal()
end

function host.spawn(fn)
  cqueues.running():wrap(fn)
end

function host.pump(step)
  cqueues.running():wrap(function()
    while step() do cqueues.poll(core.engine(), LONGEST) end
  end)
  return true
end

return loop.new(host)
