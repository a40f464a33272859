-- The cloud providers of a site, their services, and the credentials of both.
local jobs = require "simulator.arcgis_jobs"
local json = require "simulator.json"
local store = require "simulator.store"
local tables = require "simulator.tables"

local state = {}

local dict = ngx.shared.arcgis

local service_fields = { id = "string", name = "string", type = "string", usage = "string",
  category = "string", connection = "table", credential = "table", job = "table" }
local provider_fields = { id = "string", name = "string", credential = "table",
  services = "table", job = "table" }
local definition_fields = { providers = "table", job = "table", jobs = "table" }

local defaults = {
  providers = {
    { id = "azgatvskp6", name = "Azure", services = {
      { id = "azblob5t2k", name = "Azure Blob Store", type = "objectStore", usage = "DEFAULT",
        category = "storage", connection = { containerName = "arcgis", regionId = "" } },
      { id = "azcosmosx1", name = "Azure Cosmos DB", type = "tableStore", usage = "DEFAULT",
        category = "storage", connection = { accountEndpoint = "https://cosmos.sim.example/" } },
      { id = "azbus8qw3z", name = "Azure Service Bus", type = "queueService", usage = "DEFAULT",
        category = "queue", connection = { endpoint = "bus.sim.example" } },
    } },
    { id = "awsk3jv9m2", name = "AWS",
      credential = { type = "ACCESS-KEY",
        secret = { accessKey = "AKIASIMULATORAZXL", secretKey = "simulator/secret+key=VC5M" } },
      services = {
        { id = "awss3p0l7d", name = "AWS S3", type = "objectStore", usage = "DEFAULT",
          category = "storage", connection = { bucketName = "arcgis", region = "eu-west-1" } },
      } },
  },
  job = {},
  jobs = {},
}

local function check_item (item, fields)
  local good, err = tables.check(item, fields)
  if not good then return nil, err end
  if not item.id then return nil, "'id' is missing" end
  return jobs.check_options(item.job or {})
end

local function check_all (items, check, ...)
  for _, item in ipairs(items) do
    local good, err = check(item, ...)
    if not good then return nil, err end
  end
  return true
end

local function check_provider (provider)
  local good, err = check_item(provider, provider_fields)
  if not good then return nil, err end
  return check_all(provider.services or {}, check_item, service_fields)
end

local function check (spec)
  local good, err = tables.check(spec, definition_fields)
  if good then good, err = check_all(spec.providers or {}, check_provider) end
  if good then good, err = jobs.check_options(spec.job or {}) end
  if good then good, err = check_all(spec.jobs or {}, jobs.check_options) end
  return good, err
end

-- Replaces everything but the tokens. Returns true, or nil and what is wrong.
function state.define (spec)
  local good, err = check(spec)
  if not good then return nil, err end
  dict:flush_all()
  store.write("arcgis", "definition", tables.merge(defaults, spec))
  return true
end

function state.reset ()
  assert(state.define {})
end

local function definition ()
  return store.read("arcgis", "definition")
end

function state.providers ()
  return definition().providers
end

-- A provider, or a service and its provider; nil if there is none.
local finders = {}

function finders.providers (id)
  return (tables.find(state.providers(), "id", id))
end

function finders.services (id)
  for _, provider in ipairs(state.providers()) do
    local service = tables.find(provider.services or {}, "id", id)
    if service then return service, provider end
  end
end

-- `kind` is "providers" or "services", as in paths.
function state.find (kind, id)
  return finders[kind](id)
end

-- As JSON text, or nil.
function state.credential (kind, item)
  return jobs.credential(kind .. "/" .. item.id)
    or item.credential and json.encode(item.credential) or nil
end

-- Whether a provider or a service has a credential, or a provider a service that has one.
function state.has_credential (kind, item)
  if state.credential(kind, item) then return true end
  for _, service in ipairs(item.services or {}) do
    if state.credential("services", service) then return true end
  end
  return false
end

-- Returns a job's id, or nil if another one is running.
function state.rotate (kind, item, operation, credential)
  return jobs.start(kind .. "/" .. item.id, operation, credential,
    { definition().job, item.job }, definition().jobs)
end

local function describe_item (kind, item)
  local credential = state.credential(kind, item)
  local services
  if kind == "providers" then
    services = json.array()
    for i, service in ipairs(item.services or {}) do
      services[i] = describe_item("services", service)
    end
  end
  return { id = item.id, name = item.name, services = services,
    credential = credential and json.raw(credential) or nil }
end

-- All of it, for a test.
function state.describe ()
  local described = { providers = json.array(), jobs = json.array() }
  local counts = { add = 0, update = 0 }
  for i, provider in ipairs(state.providers()) do
    described.providers[i] = describe_item("providers", provider)
  end
  for i, job in ipairs(jobs.list()) do
    described.jobs[i] = jobs.describe(job)
    counts[job.operation] = counts[job.operation] + 1
  end
  described.adds, described.updates = counts.add, counts.update
  return described
end

return state
