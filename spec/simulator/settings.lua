-- What a test may change about the simulator as a whole.
local merge = require("simulator.tables").merge
local store = require "simulator.store"

local settings = {}

-- Of those that are not free text.
local choices = {
  vcenter_not_offered = { operation_not_found = true, http_not_found = true,
    operations_for_url = true },
  arcgis_expires_type = { string = true, number = true },
  arcgis_jobs_path = { jobs = true, ["system/jobs"] = true, both = true },
}

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
  vcenter_session_seconds = 1800, -- how long a session may be idle
  vcenter_max_sessions = 550,
  vcenter_sync_seconds = 0.4,
  vcenter_busy_status = 400, -- of resource_busy
  vcenter_not_offered = "operation_not_found", -- the wording of 404 for a path without operation
  arcgis_max_expiration_minutes = 1440,
  arcgis_expires_type = "string", -- of `expires` in an answer of the admin root's
  arcgis_lockout_seconds = 900,
  arcgis_jobs_path = "jobs", -- where jobs are, under the admin root
  arcgis_malformed_job_id = false, -- answers as the published sample does
}

function settings.current ()
  return store.read("settings", "current") or defaults
end

-- Returns the settings, or nil and the name of one that is unknown or has a wrong value. A quota
-- that somebody asks for is meant to be enforced.
function settings.change (changes)
  for name, value in pairs(changes) do
    local off = name == "journal" and value == false
    local wrong = type(value) ~= type(defaults[name]) or choices[name] and not choices[name][value]
    if wrong and not off then return nil, name end
  end
  local changed = merge(settings.current(), { quota_enforced = changes.quota and true }, changes)
  store.write("settings", "current", changed)
  return changed
end

return settings
