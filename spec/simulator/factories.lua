-- Factories.
local arm = require "simulator.arm"
local json = require "simulator.json"
local merge = require("simulator.tables").merge
local new_answer = require("simulator.answer").new
local resource = require "simulator.resource"
local state = require "simulator.state"

local factories = {}

local function describe (factory)
  local given = factory.resource
  return merge({ location = "East US", tags = {} }, given, {
    name = factory.factoryName,
    id = resource.id(factory),
    type = "Microsoft.DataFactory/factories",
    eTag = '"' .. resource.etag(factory.epoch, json.encode(given)) .. '"',
    properties = merge({
      provisioningState = "Succeeded",
      createTime = arm.time(factory.created),
      version = arm.api_version,
    }, given.properties or {}),
  })
end

function factories.list (request, scope)
  local found = state.factories(scope.subscription, scope.group)
  return arm.page(request, #found, 50, function (position)
    return describe(found[position])
  end)
end

local function put (request, scope, factory)
  local body, refusal = arm.body(request)
  if not body then return refusal end
  if not factory then
    factory = assert(state.define {
      subscriptionId = scope.subscription,
      resourceGroupName = scope.group,
      factoryName = scope.rest[2],
      runtimes = 0,
    })
  end
  local changed = request.method == "PATCH" and merge(factory.resource, body) or body
  factory = merge(factory, { resource = changed })
  state.save(factory)
  return arm.ok(describe(factory))
end

-- method(request, scope, factory) -> answer; only PUT and DELETE meet no factory.
factories.methods = { PUT = put, PATCH = put }

function factories.methods.GET (_, _, factory)
  return arm.ok(describe(factory))
end

function factories.methods.DELETE (_, _, factory)
  if not factory then return new_answer(204) end
  state.remove(factory)
  return new_answer(200)
end

local policy_values = {
  permissions = { r = true },
  accessResourcePath = { [""] = true },
  profileName = { DefaultProfile = true },
}
local policy_fields = { "permissions", "accessResourcePath", "profileName", "startTime",
  "expireTime" }

local function check_policy (policy)
  for _, name in ipairs(policy_fields) do
    local value = policy[name]
    if value ~= nil and value ~= json.null then
      local allowed = policy_values[name]
      if type(value) ~= "string" or allowed and not allowed[value] then
        return arm.error(400, "BadRequest", ("The value of '%s' is invalid."):format(name), name)
      end
    end
  end
end

function factories.get_data_plane_access (request, factory)
  local policy, refusal = arm.body(request)
  refusal = refusal or check_policy(policy)
  if refusal then return refusal end
  local now = ngx.now()
  local granted = {
    permissions = "r",
    accessResourcePath = "",
    profileName = "DefaultProfile",
    startTime = arm.time(now),
    expireTime = arm.time(now + 8 * 3600),
  }
  for name in pairs(granted) do
    local value = policy[name]
    if value ~= nil and value ~= json.null then granted[name] = value end
  end
  return arm.ok {
    policy = granted,
    accessToken = "dataplane-" .. ngx.md5(factory.factoryName) .. ngx.var.request_id,
    dataPlaneUrl = "https://rpeastus.svc.datafactory.azure.com:4433",
  }
end

return factories
