-- Jobs that rotate the credential of a provider or a service, and what comes of them.
local clock = require "simulator.clock"
local json = require "simulator.json"
local tables = require "simulator.tables"

local jobs = {}

local dict = ngx.shared.arcgis

local defaults = { seconds = 0.4, result = "success" }

local succeeded = { status = "success" }
local failed = { status = "error",
  messages = json.array { "The credential was not accepted by the cloud provider." }, code = 500 }

-- By `result`: what a job says once it has ended, and whether the credential is in use then.
local outcomes = {
  success = { status = "COMPLETED", operationResponse = succeeded, effective = true },
  unavailable_first = { status = "COMPLETED", operationResponse = succeeded, effective = true },
  failed = { status = "FAILED", operationResponse = failed, result = failed },
  completed_with_error = { status = "COMPLETED", operationResponse = failed },
  completed_with_result_error = { status = "COMPLETED", result = failed },
  cancelled = { status = "CANCELLED" },
  timed_out = { status = "TIMED OUT" },
}

local option_types = { seconds = "number", result = "string" }

-- Whether these can be a job's options; else nil and what is wrong.
function jobs.check_options (options)
  local good, err = tables.check(options, option_types)
  if not good then return nil, err end
  if options.result and not outcomes[options.result] then
    return nil, ("unknown result '%s'"):format(options.result)
  end
  return true
end

function jobs.get (id)
  local text = dict:get("job " .. id)
  return text and json.decode(text) or nil
end

local function ended (job)
  return ngx.now() >= job.started + job.seconds
end

-- The nth job of a target.
local function nth (target, n)
  local id = dict:get(("of %s %d"):format(target, n))
  return id and jobs.get(id)
end

local function count (target)
  return dict:get("count of " .. target) or 0
end

-- The text of the credential that a target has got from a job, or nil.
function jobs.credential (target)
  for n = count(target), 1, -1 do
    local job = nth(target, n)
    if job and ended(job) and outcomes[job.result].effective then return job.credential end
  end
end

local function new_id ()
  return "j" .. ngx.var.request_id:gsub("^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)",
    "%1-%2-%3-%4-")
end

-- Starts a job and returns its id, or nil if the last one of the target is still running. Of two
-- workers that come here at once, only one can add the name of the next. The options are a list, of
-- which later ones win; those for the nth job of all are in `queue`.
function jobs.start (target, operation, credential, options, queue)
  local n = count(target)
  local last = n > 0 and nth(target, n)
  local id = new_id()
  if last and not ended(last) or not dict:add(("of %s %d"):format(target, n + 1), id) then
    return nil
  end
  local number = dict:incr("jobs", 1, 0)
  local job = tables.merge(defaults, options[1] or {}, options[2] or {}, queue[number] or {}, {
    id = id, target = target, operation = operation, credential = credential, started = ngx.now(),
  })
  assert(dict:safe_set("job " .. id, json.encode(job)))
  dict:set("id " .. number, id)
  dict:incr("count of " .. target, 1, 0)
  return id
end

-- All, in order.
function jobs.list ()
  local list = {}
  for number = 1, dict:get "jobs" or 0 do
    list[#list + 1] = jobs.get(dict:get("id " .. number) or "")
  end
  return list
end

local function progress (job)
  return job.seconds > 0 and math.min(1, (ngx.now() - job.started) / job.seconds) or 1
end

-- Its status, and the outcome if it has ended. A job that is to be unavailable is so for the first
-- that asks after it has been submitted.
function jobs.status (job)
  if progress(job) < 0.25 then return "SUBMITTED" end
  if job.result == "unavailable_first" and dict:add("unavailable " .. job.id, true) then
    return "UNAVAILABLE"
  end
  if not ended(job) then return "EXECUTING" end
  return outcomes[job.result].status, outcomes[job.result]
end

local function uri (job)
  return ("/cloud/%s/credential/%s"):format(job.target, job.operation)
end

local steps = { "Validating the credential", "Applying the credential", "Restarting the services" }

-- How a job looks, by the path it is asked for at.
jobs.views = {}

jobs.views["system/jobs"] = function (job)
  local status, outcome = jobs.status(job)
  local current = math.max(1, math.ceil(progress(job) * #steps))
  local info = json.array()
  for i = 1, current do info[i] = steps[i] end
  return {
    jobid = job.id,
    status = status,
    totalsteps = #steps,
    currentstep = current,
    stepInfo = info,
    operationResponse = outcome and outcome.operationResponse or nil,
    result = outcome and not outcome.operationResponse and outcome.result or nil,
  }
end

jobs.views.jobs = function (job)
  local status, outcome = jobs.status(job)
  local done = job.started + job.seconds
  return {
    jobid = job.id,
    status = status,
    starttime = clock.epoch_ms(job.started),
    endtime = outcome and clock.epoch_ms(done) or 0,
    updatedtime = clock.epoch_ms(math.min(ngx.now(), done)),
    operationURI = uri(job),
    username = os.getenv "CLOUDSYNC_SIM_USERNAME",
    operationResponse = outcome and outcome.operationResponse or nil,
    result = outcome and outcome.result or nil,
  }
end

-- For a test. It does not use up what the first that asks is answered.
function jobs.describe (job)
  return {
    jobid = job.id,
    target = job.target,
    operation = job.operation,
    credential = json.raw(job.credential),
    ended = ended(job),
    result = job.result,
    started = job.started,
  }
end

return jobs
