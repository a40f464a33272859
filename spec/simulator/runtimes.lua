-- Integration runtimes.
local arm = require "simulator.arm"
local json = require "simulator.json"
local merge = require("simulator.tables").merge
local new_answer = require("simulator.answer").new
local resource = require "simulator.resource"
local settings = require "simulator.settings"
local state = require "simulator.state"

local runtimes = {}

local function properties (runtime)
  if runtime.kind == "Managed" then
    return {
      type = "Managed",
      description = "A managed integration runtime",
      state = runtime.state,
      typeProperties = { computeProperties = { location = "AutoResolve" } },
    }
  elseif runtime.kind == "Linked" then
    return {
      type = "SelfHosted",
      description = "A linked selfhosted integration runtime",
      typeProperties = { linkedInfo = {
        authorizationType = "RBAC",
        resourceId = "/subscriptions/061774c7-4b5a-4159-a55b-365581830283/resourceGroups/shared"
          .. "/providers/Microsoft.DataFactory/factories/shared-factory/integrationruntimes/"
          .. runtime.name,
      } },
    }
  end
  return { type = "SelfHosted", description = "A selfhosted integration runtime" }
end

local function describe (factory, runtime)
  local described = {
    id = resource.id(factory, "integrationruntimes", runtime.name),
    name = runtime.name,
    type = "Microsoft.DataFactory/factories/integrationruntimes",
    etag = resource.etag(factory.epoch, runtime.name, runtime.body or ""),
  }
  if runtime.body then return resource.splice(described, runtime.body) end
  described.properties = properties(runtime)
  return described
end

function runtimes.list (request, factory)
  return arm.page(request, state.count(factory), factory.page_size, function (position)
    local runtime = state.runtime(factory, state.name_at(factory, position))
    return runtime and describe(factory, runtime)
  end)
end

-- method(request, factory, runtime, name) -> answer; only PUT and DELETE meet no runtime.
runtimes.methods = {}

function runtimes.methods.GET (_, factory, runtime)
  return arm.ok(describe(factory, runtime))
end

function runtimes.methods.PUT (request, factory, _, name)
  local body, refusal = arm.body(request)
  if not body then return refusal end
  local kind = type(body.properties) == "table" and body.properties.type
  if kind ~= "Managed" and kind ~= "SelfHosted" then
    return arm.error(400, "BadRequest", "The integration runtime's type is missing or unknown.",
      "properties.type")
  end
  state.put_runtime(factory, name, request.body)
  return arm.ok(describe(factory, state.runtime(factory, name)))
end

function runtimes.methods.DELETE (_, factory, runtime, name)
  if not runtime then return new_answer(204) end
  state.delete_runtime(factory, name)
  return new_answer(200)
end

function runtimes.methods.PATCH (request, factory, runtime)
  local body, refusal = arm.body(request)
  return body and arm.ok(describe(factory, runtime)) or refusal
end

local function capabilities (connected, in_sync)
  local yes = connected and "True" or "False"
  return {
    serviceBusConnected = yes,
    httpsPortEnabled = yes,
    credentialInSync = connected and in_sync and "True" or "False",
    connectedToResourceManager = yes,
    nodeEnabled = "True",
  }
end

-- Which nodes are online, given the runtime's state: all, only the dispatcher, or none.
local function is_online (runtime_state, number)
  return runtime_state == "Online" or runtime_state == "Limited" and number == 1
end

local function node_status (factory, runtime, number)
  local override = (runtime.override.nodes or {})[number] or {}
  local status = override.status or is_online(runtime.state, number) and "Online" or "Offline"
  local online = status == "Online"
  local seen = arm.time(online and ngx.now() or factory.created)
  return merge({
    nodeName = "Node_" .. number,
    machineName = ("%s-NODE-%d"):format(runtime.name:upper(), number),
    hostServiceUri = ("https://%s-node-%d.corp.example:8050/HostServiceRemote.svc/")
      :format(runtime.name, number),
    status = status,
    versionStatus = "UpToDate",
    version = "5.44.8984.1",
    registerTime = arm.time(factory.created),
    lastConnectTime = seen,
    lastStartTime = arm.time(factory.created),
    lastUpdateResult = "None",
    isActiveDispatcher = number == 1,
    maxConcurrentJobs = 56,
  }, override, {
    capabilities = merge(capabilities(online, runtime.in_sync), override.capabilities or {}),
  })
end

local function nodes (factory, runtime)
  local list = json.array()
  if runtime.kind == "Managed" or runtime.state == "NeedRegistration" then return list end
  local count = runtime.override.nodes and #runtime.override.nodes or factory.nodes
  for number = 1, count do list[number] = node_status(factory, runtime, number) end
  return list
end

local function self_hosted_status (factory, runtime)
  local list, in_sync = nodes(factory, runtime), true
  for _, node in ipairs(list) do
    in_sync = in_sync and node.capabilities.credentialInSync == "True"
  end
  return {
    autoUpdate = "Off",
    taskQueueId = resource.etag("queue", factory.epoch, runtime.name),
    version = "5.44.8984.1",
    nodes = list,
    updateDelayOffset = "PT3H",
    localTimeZoneOffset = "PT8H",
    serviceUrls = { "wu.frontend.clouddatahub.example", "*.servicebus.example" },
    links = json.array(),
    versionStatus = "UpToDate",
    capabilities = capabilities(list[1] ~= nil and list[1].status == "Online", in_sync),
    latestVersion = "5.44.8984.1",
    createTime = arm.time(factory.created),
  }
end

local function runtime_status (factory, runtime)
  local managed = runtime.kind == "Managed"
  return {
    name = runtime.name,
    properties = {
      dataFactoryName = factory.factoryName,
      state = runtime.state,
      type = managed and "Managed" or "SelfHosted",
      typeProperties = managed and {
        nodes = json.array(),
        otherErrors = json.array(),
        createTime = arm.time(factory.created),
      } or self_hosted_status(factory, runtime),
    },
  }
end

local function unsuitable (request, runtime, operation)
  return arm.error(400, "InvalidIntegrationRuntimeType", ("The operation '%s' is not supported for "
    .. "the integration runtime '%s' of type '%s'."):format(operation, runtime.name, runtime.kind),
    request.path)
end

-- Actions by their names in lower case: action(request, factory, runtime, scope) -> answer.
runtimes.actions = {}

function runtimes.actions.getstatus (_, factory, runtime)
  return arm.ok(runtime_status(factory, runtime))
end

function runtimes.actions.synccredentials (request, factory, runtime)
  if runtime.kind ~= "SelfHosted" then return unsuitable(request, runtime, "syncCredentials") end
  if runtime.state == "Offline" or runtime.state == "NeedRegistration" then
    return arm.error(400, "IntegrationRuntimeOffline",
      ("The integration runtime '%s' has no node online."):format(runtime.name), request.path)
  end
  state.sync(factory, runtime.name)
  return new_answer(200)
end

function runtimes.actions.listauthkeys (request, factory, runtime)
  if runtime.kind ~= "SelfHosted" then return unsuitable(request, runtime, "listAuthKeys") end
  return arm.ok {
    authKey1 = state.auth_key(factory, runtime.name, "authKey1"),
    authKey2 = state.auth_key(factory, runtime.name, "authKey2"),
  }
end

function runtimes.actions.regenerateauthkey (request, factory, runtime)
  if runtime.kind ~= "SelfHosted" then return unsuitable(request, runtime, "regenerateAuthKey") end
  local body, refusal = arm.body(request)
  if not body then return refusal end
  local name = body.keyName
  if name ~= "authKey1" and name ~= "authKey2" then
    return arm.error(400, "BadRequest", "The value of 'keyName' is invalid.", "keyName")
  end
  state.renew_key(factory, runtime.name, name)
  return arm.ok { [name] = state.auth_key(factory, runtime.name, name) }
end

function runtimes.actions.getconnectioninfo (_, factory, runtime)
  local seed = factory.epoch .. runtime.name
  return arm.ok {
    version = "5.44.8984.1",
    publicKey = ngx.encode_base64(ngx.sha1_bin("key" .. seed)),
    serviceToken = ngx.encode_base64(ngx.sha1_bin("token" .. seed)),
    identityCertThumbprint = ngx.md5("certificate" .. seed):upper(),
    hostServiceUri = ("https://%s-node-1.corp.example:8050/HostServiceRemote.svc/")
      :format(runtime.name),
    isIdentityCertExprired = false,
  }
end

function runtimes.actions.monitoringdata (_, factory, runtime)
  local list = json.array()
  for i, node in ipairs(nodes(factory, runtime)) do
    list[i] = {
      nodeName = node.nodeName,
      availableMemoryInMB = 16384,
      cpuUtilization = 7,
      concurrentJobsLimit = 20,
      concurrentJobsRunning = 0,
      maxConcurrentJobs = 56,
      sentBytes = 2.647,
      receivedBytes = 6.387,
    }
  end
  return arm.ok { name = runtime.name, nodes = list }
end

-- start and stop: `during` while the operation runs, `after` when it has ended.
local function transition (operation, during, after, result)
  return function (request, factory, runtime, scope)
    if runtime.kind ~= "Managed" then return unsuitable(request, runtime, operation) end
    local current = settings.current()
    local succeeds = current.operation_status == "Succeeded"
    state.change(factory, runtime.name, during, succeeds and after or runtime.state,
      current.operation_seconds)
    runtime.state = after
    return arm.accept(request, scope, result(factory, runtime))
  end
end

runtimes.actions.start = transition("start", "Starting", "Started", function (factory, runtime)
  return arm.ok(runtime_status(factory, runtime))
end)
runtimes.actions.stop = transition("stop", "Stopping", "Stopped", function ()
  return new_answer(200)
end)

-- These take nothing, and say so as Microsoft's own clients do.
runtimes.without_body = { getstatus = true, synccredentials = true, listauthkeys = true,
  getconnectioninfo = true, monitoringdata = true, start = true, stop = true }

return runtimes
