--- ArcGIS Server's administrator API: cloud providers and services, their credentials, jobs.
--
-- A token is fetched with the user name and password, from the server or its portal, renewed when it
-- is refused, and never asked for again after a refusal: accounts lock after five. See the
-- [reference](https://developers.arcgis.com/rest/enterprise-administration/server/cloud).
local check = require "cloudsync.options".check
local client = require "cloudsync.client"
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local poller = require "cloudsync.poller"
local token_cache = require "cloudsync.token_cache"

local arcgis = {}

local DEFAULT_LIFE = 3600 -- s, where the answer does not tell

-- Codes that are no HTTP statuses. The others are, but in an answer with status 200.
local KINDS = { [498] = "auth", [499] = "auth" }

local function classify(fields)
  local code = tonumber(fields.code)
  if fields.status ~= 200 or fields.kind then return end
  if code and code >= 400 then
    fields.status, fields.kind = code, KINDS[code]
  elseif fields.message then
    fields.kind = "service"
  end
end

-- Whom a token is bound to.
local function binding_of(options)
  if options.referer then return { client = "referer", referer = options.referer } end
  if options.ip then return { client = "ip", ip = options.ip } end
  return { client = "requestip" }
end

-- A client of the place that gives tokens: the server itself, or its portal.
local function issuer_of(self)
  local transport = {}
  for name, value in pairs(self.options) do transport[name] = value end
  for name in pairs(self.own_options) do transport[name] = nil end
  transport.endpoint = self.options.portal or self.options.endpoint
  return client.new({ service = "arcgis", options = {}, classify = classify }, transport)
end

local function fetch_token(self, deadline)
  local options, issuer = self.options, issuer_of(self)
  local group = options.portal and issuer.portal_tokens or issuer.tokens
  local form = binding_of(options)
  form.username, form.password = options.username, options.password
  form.expiration = options.expiration
  local allowed = deadline and deadline < math.huge and math.max(0, deadline - core.now()) or nil
  local answer, err = group:generate(form, { deadline = allowed })
  local token = type(answer) == "table" and answer.token
  if not core.is_token(token) then
    if not errors.is(err) then
      err = errors.new { kind = "protocol", message = "the answer holds no token" }
    elseif err.outcome == "rejected" and not err.retryable or err.status == 200 then
      err.kind = err.kind == "protocol" and "protocol" or "auth"
    end
    err.message = "no token from ArcGIS: " .. err.message
    return nil, err
  end
  local expires = tonumber(answer.expires)
  return core.secret(token), expires and expires / 1000 - os.time() or DEFAULT_LIFE
end

local function authorise(self, rejected, deadline)
  if self.options.token then return self.options.token end
  return self.tokens_cache:get("token", rejected, deadline)
end

local SUCCESS = { COMPLETED = true, SUCCEEDED = true, SUCCESS = true, ESRIJOBSUCCEEDED = true }
local FAILURE = { FAILED = true, CANCELLED = true, ["TIMED OUT"] = true, TIMED_OUT = true,
  ESRIJOBFAILED = true, ESRIJOBTIMEDOUT = true, ESRIJOBCANCELLED = true }

local BAD = { error = true, failed = true, failure = true }

-- An error inside of a job that says it is completed, or nil.
local function hidden_error(job)
  for _, name in ipairs { "operationResponse", "result" } do
    local inner = job[name]
    if type(inner) == "table" and (BAD[inner.status] or type(inner.error) == "table") then
      return inner
    end
  end
end

-- What a failed job says.
local function complaint_of(job)
  local inner = hidden_error(job) or job
  local messages = inner.messages or (type(inner.error) == "table" and { inner.error.message })
    or job.messages or (type(job.result) == "table" and (job.result.messages
      or { job.result.message })) or { job.result }
  if type(messages) == "table" and type(messages[1]) == "string" then return messages[1] end
  return "the server does not say why"
end

-- Where jobs are differs from edition to edition: after one miss the other place is remembered.
local function get_job(self, id, options)
  local deadline = options.deadline and core.now() + options.deadline
  local group, known = self.jobs_group, self.jobs_known
  local job, err = self[group].get(self[group], { jobID = id }, options)
  if job == nil and err.kind == "not_found" and not known then
    group = group == "jobs" and "system_jobs" or "jobs"
    job, err = self[group].get(self[group], { jobID = id },
      { deadline = deadline and math.max(0, deadline - core.now()) })
  end
  if job ~= nil then self.jobs_group, self.jobs_known = group, true end
  return job, err
end

local function look_at_job(self, state, options)
  local job, err = get_job(self, state.job, options)
  if job == nil then return nil, err end
  local status = tostring(type(job) == "table" and (job.status or job.jobStatus)):upper()
  if SUCCESS[status] and not hidden_error(job) then
    return { done = true, status = job, result = job }
  end
  if not SUCCESS[status] and not FAILURE[status] then return { done = false, status = job } end
  return { done = true, status = job, err = errors.new {
    kind = "job", service = "arcgis", operation = "jobs:get", outcome = "rejected",
    code = job.status, target = state.job, details = job, retryable = false,
    message = "the job failed: " .. complaint_of(job),
  } }
end

local methods = {}

--- Goes on with a job, in this or in another process.
-- @tparam string token of a poller
function methods.poller(self, token)
  return poller.resume(self, token)
end

--- A poller of a job.
-- @tparam string id of the job
function methods.job_poller(self, id)
  return poller.new(self, "job", { job = id })
end

local OWN_OPTIONS = { username = "string", password = "text", token = "text", ip = "string",
  expiration = "number", portal = "string", jobs_path = "string" }

local JOBS_GROUPS = { jobs = "jobs", ["system/jobs"] = "system_jobs" }

--- Makes a client.
-- @tparam table options `endpoint` (the admin root, "https://gis.example.com/server/admin"),
--   `username` and `password`, or `token`; `referer` or `ip`, that tokens are bound to (the address
--   of the request); `expiration`, in minutes; `portal`, the address of a portal that gives the
--   tokens ("https://gis.example.com/portal"); `jobs_path` ("jobs" or "system/jobs"); and what every
--   client takes
function arcgis.new(options)
  if type(options) ~= "table" then error("arcgis: options must be a table", 2) end
  local jobs_path = options.jobs_path or "jobs"
  if not JOBS_GROUPS[jobs_path] then
    error('arcgis: option \'jobs_path\' must be "jobs" or "system/jobs"', 2)
  end
  local settings = {}
  for name, value in pairs(options) do settings[name] = value end
  if options.portal and not options.referer then settings.referer = options.endpoint end
  local made = client.new({
    service = "arcgis", options = OWN_OPTIONS, authorise = authorise, classify = classify,
    pollers = { job = look_at_job }, methods = methods,
  }, settings)
  local ok, problem = pcall(core.transport, { endpoint = options.portal or options.endpoint,
    allow_plain_http = options.allow_plain_http })
  if not ok then error("arcgis: " .. problem:gsub("^endpoint", "portal"), 2) end
  if not options.token and not (options.username and options.password) then
    error("arcgis: username and password are missing, or a token", 2)
  end
  made.own_options, made.jobs_group, made.jobs_known = OWN_OPTIONS, JOBS_GROUPS[jobs_path], false
  made.tokens_cache = token_cache.new(function(_, deadline)
    return fetch_token(made, deadline)
  end, true)
  return made
end

-- Makes the constructor of a documented type: the fields of its secret, and what is beside that.
local function constructor(kind, names, beside)
  return function(fields)
    fields = fields or {}
    local known, credential = {}, { type = kind }
    if beside then known[beside] = "string" end
    for _, name in ipairs(names) do known[name] = "text" end
    check(fields, known, "arcgis credential " .. kind, 2)
    for _, name in ipairs(names) do
      if fields[name] == nil then
        error(("arcgis credential %s: %s is missing"):format(kind, name), 2)
      end
      credential.secret = credential.secret or {}
      credential.secret[name] = fields[name]
    end
    if beside then credential[beside] = fields[beside] end
    return credential
  end
end

--- Credentials by their documented types, made of a table with the fields of their secret; any other
-- table is a credential too.

--- An access key of AWS: `accessKey`, `secretKey`.
arcgis.access_key = constructor("ACCESS-KEY", { "accessKey", "secretKey" })

--- The role of an AWS instance; it has no secret.
arcgis.iam_role = constructor("IAM-ROLE", {})

--- A key of an Azure storage account: `storageAccountName`, `storageAccountKey`.
arcgis.storage_account_key =
  constructor("STORAGE-ACCOUNT-KEY", { "storageAccountName", "storageAccountKey" })

--- A managed identity of Azure: `managedIdentityClientId`.
arcgis.user_assigned_identity =
  constructor("USER-ASSIGNED-IDENTITY", { "managedIdentityClientId" })

--- A service principal of Azure: `tenantId`, `clientId`, `clientSecret`, and `authorityHost`, which
-- may be left out.
arcgis.service_principal =
  constructor("SERVICE-PRINCIPAL", { "tenantId", "clientId", "clientSecret" }, "authorityHost")

--- A key of a Cosmos DB account: `accountName`, `accountKey`.
arcgis.cosmosdb_account_key = constructor("COSMOSDB-ACCOUNT-KEY", { "accountName", "accountKey" })

--- A key of a Service Bus: `sharedAccessKeyName`, `sharedAccessKey`.
arcgis.servicebus_access_key =
  constructor("SERVICEBUS-ACCESS-KEY", { "sharedAccessKeyName", "sharedAccessKey" })

--- HMAC keys of Google Cloud Storage: `accessKey`, `secretKey`.
arcgis.hmac_keys = constructor("HMAC-KEYS", { "accessKey", "secretKey" })

return arcgis
