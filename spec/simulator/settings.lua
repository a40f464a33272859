-- What a test may change about the simulator as a whole.
local merge = require("simulator.tables").merge
local store = require "simulator.store"

local settings = {}

local defaults = {
  journal = 20000, -- requests kept; false keeps none
  latency = 0, -- added to every answer of every service
  token_lifetime = 3600,
  quota = 1000000, -- requests of a kind (reads, writes) per subscription and window
  quota_enforced = false,
  quota_seconds = 60,
  operation_seconds = 0.2, -- how long a long-running operation runs
  operation_retry_after = 1,
  operation_status = "Succeeded", -- how it ends
}

function settings.current ()
  return store.read("settings", "current") or defaults
end

-- Returns the settings, or nil and the name of one that is unknown or of the wrong type. A quota
-- that somebody asks for is meant to be enforced.
function settings.change (changes)
  for name, value in pairs(changes) do
    local off = name == "journal" and value == false
    if type(value) ~= type(defaults[name]) and not off then return nil, name end
  end
  local changed = merge(settings.current(), { quota_enforced = changes.quota and true }, changes)
  store.write("settings", "current", changed)
  return changed
end

return settings
