-- What Data Factory is made to answer where it has no behaviour of its own here.
local arm = require "simulator.arm"
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local resource = require "simulator.resource"

local echo = {}

-- Those that run for long.
local operations = { refreshobjectmetadata = true, subscribetoevents = true,
  unsubscribefromevents = true, createdataflowdebugsession = true,
  executedataflowdebugcommand = true, enableinteractivequery = true,
  disableinteractivequery = true }

local function echo_resource (request, scope)
  local type_name = { scope.provider }
  for i = 1, #scope.rest, 2 do type_name[#type_name + 1] = scope.rest[i] end
  local given = '{"properties":{}}'
  if request.method ~= "GET" then
    local body, refusal = arm.body(request)
    if not body then return refusal end
    given = request.body
  end
  return arm.ok(resource.splice({
    id = request.path,
    name = scope.rest[#scope.rest],
    type = table.concat(type_name, "/"),
    etag = resource.etag(request.path, given),
  }, given))
end

local function echo_action (request, scope)
  local action = (scope.rest[#scope.rest] or ""):lower()
  if action:find "^query" then return arm.ok { value = json.array() } end
  if operations[action] then return arm.accept(request, scope, arm.ok { name = action }) end
  return new_answer(200)
end

local echoes = { PUT = echo_resource, PATCH = echo_resource, POST = echo_action }

-- Collections and resources take turns in a path.
function echoes.GET (request, scope)
  if #scope.rest % 2 == 1 then return arm.ok { value = json.array() } end
  return echo_resource(request, scope)
end

function echoes.DELETE ()
  return new_answer(200)
end

function echo.answer (request, scope)
  local method = echoes[request.method]
  return method and method(request, scope)
    or arm.error(405, "MethodNotAllowed", "The method is not allowed.")
end

return echo
