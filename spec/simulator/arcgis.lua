-- ArcGIS Server's admin root and the portal: what a request says, and who may come in.
local answers = require "simulator.arcgis_answers"
local cloud = require "simulator.arcgis_cloud"
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local tables = require "simulator.tables"
local tokens = require "simulator.arcgis_tokens"

local arcgis = {}

-- Only text; of a name that is there more than once, the first.
local function fields (args)
  local read = {}
  for name, value in pairs(args) do
    local first = type(value) == "table" and value[1] or value
    read[name] = type(first) == "string" and first or nil
  end
  return read
end

local function read_form (request)
  local content_type = request.headers["content-type"]
  local is_form = type(content_type) == "string"
    and content_type:lower():find("^application/x%-www%-form%-urlencoded") ~= nil
  return is_form and fields(ngx.decode_args(request.body, 0)) or {}
end

local function bearer (header)
  return type(header) == "string" and header:match "^[Bb]earer +(%S+)$" or nil
end

-- The journal keeps where it was, so that a test can see that it was not in the query.
local function given_token (call)
  local headers = call.request.headers
  return call.form.token or call.params.token or bearer(headers["x-esri-authorization"])
    or bearer(headers.authorization)
end

local function authenticate (call)
  local token = given_token(call)
  if not token then
    return answers.error(499, "Unauthorized access.Token not found. You can generate a token using "
      .. "the 'generateToken' operation.")
  end
  local good, err = tokens.check(token, call.request)
  return not good and answers.error(498, err) or nil
end

local function root ()
  return answers.ok { currentVersion = 12, fullVersion = "12.0.0",
    resources = json.array { "cloud", "jobs", "system" } }
end

local function admin (call)
  if call.segments[1] == "generateToken" and not call.segments[2] then
    if call.request.method == "POST" then return tokens.generate_admin(call) end
    return new_answer(405, answers.error(405, "Method not allowed.").body)
  end
  return authenticate(call) or not call.segments[1] and root() or cloud.answer(call)
    or answers.error(404, "Resource not found.")
end

local function portal (call)
  if call.request.method ~= "POST" then
    return answers.portal_error(405, "Method not supported.", {})
  end
  return tokens.generate_portal(call)
end

local function respond (call)
  local segments = call.request.segments
  if segments[1] == "server" and segments[2] == "admin" then
    call.segments = { unpack(segments, 3) }
    return admin(call)
  elseif call.request.path == "/portal/sharing/rest/generateToken" then
    return portal(call)
  end
  return new_answer(404)
end

local formats = { json = true, pjson = true }

-- The format has no part in what is done, only in how that is told.
function arcgis.handle (request)
  local form = read_form(request)
  local call = { request = request, form = form,
    params = tables.merge(fields(request.query), form) }
  local answer = respond(call)
  return formats[call.params.f] and answer or answers.page(answer)
end

function arcgis.failure (status, request)
  if status < 400 then return new_answer(status) end
  local answer = request.segments[1] == "portal"
    and answers.portal_error(status, "The request failed.", {})
    or answers.error(status, "The request failed.")
  answer.status = status
  return answer
end

return arcgis
