--- Adds a credential to a cloud provider of an ArcGIS Server and waits for the job that it starts.
--
-- See the page "Cloud provider: add credential" of the
-- [reference](https://developers.arcgis.com/rest/enterprise-administration/server/cloud).
local check = require "cloudsync.options".check
local errors = require "cloudsync.error"

local OPTIONS = {
  providerID = "string", credential = "table", timeout = "number", interval = "number",
  resume = "string", on_progress = "function",
}

-- What to do where the credential may have been added: sending it again is no choice.
local LOOK = " (it may have been added: look at providers:get and jobs:list before adding it again)"

-- Posts the credential, once. Returns the id of the job, or nil and an error.
local function add(gis, options)
  local answer, response = gis.providers:add_credential({
    providerID = options.providerID, credential = options.credential,
  }, { retries = 0 })
  if answer == nil then
    if response.outcome == "unknown" then response.message = response.message .. LOOK end
    return nil, response
  end
  local id = type(answer) == "table" and answer.cloudCredentialRotationJobId
  if type(id) == "string" and id:find "^[%w_-]+$" then return id end
  return nil, errors.new {
    kind = "protocol", service = "arcgis", operation = "providers:add_credential",
    outcome = "unknown", attempts = 1, retryable = false,
    message = "the answer names no job" .. LOOK,
  }
end

--- Runs the workflow.
-- @param gis a client of `cloudsync.arcgis`
-- @tparam table options
--
--   - `providerID`, `credential`: see `cloudsync.arcgis` for constructors
--   - `resume`: the id of a job, or a poller's token, to wait for instead of adding anything
--   - `timeout` (3600 s), `interval` (growing), `on_progress`: of the waiting for the job
-- @return the job, which has succeeded, and its id; or nil, an error, and the id of the job if there
--   is one
return function(gis, options)
  check(options, OPTIONS, "add_credential", 2)
  if not options or not (options.resume or (options.providerID and options.credential)) then
    error("add_credential: providerID and credential are missing, or resume", 2)
  end
  local id, err = options.resume, nil
  if not id then id, err = add(gis, options) end
  if not id then return nil, err end
  local handle = id:sub(1, 1) == "{" and gis:poller(id) or gis:job_poller(id)
  local job, failure = handle:wait {
    timeout = options.timeout or 3600, interval = options.interval,
    on_progress = options.on_progress,
  }
  if job == nil then return nil, failure, handle.state.job end
  return job, handle.state.job
end
