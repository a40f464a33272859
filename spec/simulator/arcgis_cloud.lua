-- ArcGIS Server's cloud providers and services, the change of their credentials, and its jobs.
local answers = require "simulator.arcgis_answers"
local jobs = require "simulator.arcgis_jobs"
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local settings = require "simulator.settings"
local state = require "simulator.arcgis_state"
local tables = require "simulator.tables"

local cloud = {}

local key = "v2Crypt"

-- How a secret is shown.
local function mask (text)
  return ("x"):rep(16) .. text:sub(-4)
end

local function encrypt (text)
  if text:find "^v2Crypt_" then return text end
  return "v2Crypt_" .. ngx.encode_base64(ngx.hmac_sha1(key, text) .. ngx.hmac_sha1(text, key))
end

local function show_credential (text, show)
  local credential, secret = json.decode(text), {}
  if type(credential.secret) ~= "table" then return credential end
  for name, value in pairs(credential.secret) do
    secret[name] = type(value) == "string" and show(value) or value
  end
  return tables.merge(credential, { secret = secret })
end

-- What providers and services are shown as: everything but what is for the simulator only.
local views = {}

local function view (kind, item, show, more)
  local credential = state.credential(kind, item)
  local shown = tables.merge(item, more)
  shown.job, shown.services = nil, nil
  shown.credential = credential and show_credential(credential, show) or nil
  return shown
end

function views.services (service, show, provider)
  return view("services", service, show, { providerId = provider.id })
end

function views.providers (provider, show)
  local services = json.array()
  for i, service in ipairs(provider.services or {}) do
    services[i] = views.services(service, show, provider)
  end
  return view("providers", provider, show, { cloudServices = services })
end

local lists = {}

function lists.providers (show)
  local list = json.array()
  for i, provider in ipairs(state.providers()) do list[i] = views.providers(provider, show) end
  return { cloudProviders = list }
end

function lists.services (show)
  local list = json.array()
  for _, provider in ipairs(lists.providers(show).cloudProviders) do
    for _, service in ipairs(provider.cloudServices) do list[#list + 1] = service end
  end
  return { cloudServices = list }
end

local function not_found (what, id)
  return answers.error(404, ("%s '%s' was not found."):format(what, id))
end

local kinds = { providers = "Cloud provider", services = "Cloud service" }

-- The page that documents the operation shows this answer without the quote; the job starts.
local malformed = '{\n"cloudCredentialRotationJobId": %s",\n"message": "%s"\n}'

local function accept (id)
  local message = "A cloud credentials rotation job is in-progress"
  if settings.current().arcgis_malformed_job_id then
    return answers.ok(malformed:format(id, message))
  end
  return answers.ok { cloudCredentialRotationJobId = id, message = message }
end

-- The form's field as text, or nil if it is not a credential object.
local function read_credential (call)
  local text = call.form.credential
  local credential = text and text:find "^%s*{" and json.decode(text)
  return credential and type(credential.type) == "string" and text or nil
end

-- Why the operation cannot be carried out, or nil.
local refusals = {}

function refusals.add (kind, item)
  return state.has_credential(kind, item) and ("%s '%s' already has credentials. Use the update "
    .. "operation instead."):format(kinds[kind], item.id) or nil
end

function refusals.update (kind, item)
  return not state.credential(kind, item) and ("%s '%s' has no credentials to update."):format(
    kinds[kind], item.id) or nil
end

local function rotate (call, kind, item, operation)
  local credential = read_credential(call)
  if not credential then
    return answers.error(400, "The parameter 'credential' is missing or not a credential object.")
  end
  local refusal = refusals[operation](kind, item)
  if refusal then return answers.error(400, refusal) end
  local id = state.rotate(kind, item, operation, credential)
  return id and accept(id)
    or answers.error(409, "A cloud credentials rotation job is in-progress already.")
end

local function show_cloud (call)
  local show = call.params.maskedSecret == "true" and mask or encrypt
  local _, kind, id, word, operation = unpack(call.segments)
  if not kinds[kind] or #call.segments > 5 then return nil end
  if not id then return answers.ok(lists[kind](show)) end
  local item, provider = state.find(kind, id)
  if not item then return not_found(kinds[kind], id) end
  if not word then return answers.ok(views[kind](item, show, provider)) end
  if word ~= "credential" or not refusals[operation] then return nil end
  if call.request.method ~= "POST" then
    return new_answer(405, answers.error(405, "Method not allowed.").body)
  end
  return rotate(call, kind, item, operation)
end

local function offered (path)
  local where = settings.current().arcgis_jobs_path
  return where == path or where == "both"
end

local function show_jobs (path, id)
  if not offered(path) then return nil end
  if id then
    local job = jobs.get(id)
    return job and answers.ok(jobs.views[path](job)) or not_found("Job", id)
  end
  local list = json.array()
  for i, job in ipairs(jobs.list()) do list[i] = job.id end
  return answers.ok { jobs = list }
end

local resources = {}

resources.cloud = show_cloud

function resources.jobs (call)
  return show_jobs("jobs", call.segments[2])
end

function resources.system (call)
  return call.segments[2] == "jobs" and show_jobs("system/jobs", call.segments[3]) or nil
end

-- Answers a request whose segments begin after the admin root; nil if there is no such resource.
function cloud.answer (call)
  local resource = resources[call.segments[1]]
  return resource and resource(call)
end

return cloud
