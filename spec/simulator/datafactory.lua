-- Data Factory: the way from a path to what answers it.
local arm = require "simulator.arm"
local echo = require "simulator.echo"
local factories = require "simulator.factories"
local runtimes = require "simulator.runtimes"
local state = require "simulator.state"

local datafactory = { failure = arm.failure }

local function not_found (request, code, what)
  return arm.error(404, code, what .. " was not found.", request.path)
end

local function has_body (request)
  return request.headers["content-length"] ~= "0" or request.headers["content-type"] ~= nil
end

local function runtime_route (request, factory, scope)
  local name, action = scope.rest[4], (scope.rest[5] or ""):lower()
  if not name and request.method == "GET" then return runtimes.list(request, factory) end
  if not name then return echo.answer(request, scope) end
  local runtime = state.runtime(factory, name)
  local creates = action == "" and (request.method == "PUT" or request.method == "DELETE")
  if not runtime and not creates then
    return not_found(request, "IntegrationRuntimeNotFound",
      ("The integration runtime '%s'"):format(name))
  end
  if action == "" and runtimes.methods[request.method] then
    return runtimes.methods[request.method](request, factory, runtime, name)
  elseif request.method ~= "POST" or scope.rest[6] or not runtimes.actions[action] then
    return echo.answer(request, scope)
  elseif runtimes.without_body[action] and has_body(request) then
    return arm.error(400, "InvalidRequestContent",
      "The operation takes no body: Content-Length must be 0, and Content-Type absent.")
  end
  return runtimes.actions[action](request, factory, runtime, scope)
end

local function factory_route (request, scope)
  local name, collection = scope.rest[2], (scope.rest[3] or ""):lower()
  local factory = state.factory(scope.subscription, scope.group, name)
  local creates = collection == "" and (request.method == "PUT" or request.method == "DELETE")
  if not factory and not creates then
    return not_found(request, "ResourceNotFound", ("The Resource 'Microsoft.DataFactory/factories/"
      .. "%s' under resource group '%s'"):format(name, scope.group))
  end
  if factory and factory.latency > 0 then ngx.sleep(factory.latency) end
  if collection == "" and factories.methods[request.method] then
    return factories.methods[request.method](request, scope, factory)
  elseif collection == "getdataplaneaccess" and request.method == "POST" then
    return factories.get_data_plane_access(request, factory)
  elseif collection == "integrationruntimes" then
    return runtime_route(request, factory, scope)
  end
  return echo.answer(request, scope)
end

local function route (request)
  local scope, refusal = arm.scope(request)
  if not scope then return refusal end
  if (scope.provider or ""):lower() ~= "microsoft.datafactory" then
    return arm.error(404, "InvalidResourceNamespace",
      ("The resource namespace '%s' is invalid."):format(scope.provider or ""))
  end
  local is_factory = (scope.rest[1] or ""):lower() == "factories"
  if is_factory and scope.group and scope.rest[2] then return factory_route(request, scope) end
  if is_factory and request.method == "GET" then return factories.list(request, scope) end
  return arm.operation(request, scope) or echo.answer(request, scope)
end

function datafactory.handle (request)
  return arm.serve(request, route)
end

return datafactory
