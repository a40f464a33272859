-- What Azure Resource Manager does in front of every resource provider.
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local settings = require "simulator.settings"
local state = require "simulator.state"
local tokens = require "simulator.tokens"

local arm = { api_version = "2018-06-01" }

local limits = ngx.shared.limits
local operations = ngx.shared.operations
local tenant_id = os.getenv "CLOUDSYNC_SIM_TENANT_ID"
local static_token = os.getenv "CLOUDSYNC_SIM_STATIC_TOKEN"

function arm.ok (body)
  return new_answer(200, body)
end

function arm.error (status, code, message, target)
  return new_answer(status, { error = { code = code, message = message, target = target } })
end

local failures = {
  [408] = { "RequestTimeout", "The request timed out." },
  [409] = { "Conflict", "Another operation on the resource is in progress." },
  [429] = { "TooManyRequests", "The request is being throttled. Please try again later." },
  [500] = { "InternalServerError", "An internal server error has occurred." },
  [503] = { "ServiceUnavailable", "The service is unavailable." },
  [504] = { "GatewayTimeout", "The gateway did not receive a response in time." },
}

function arm.guid (hex)
  return (hex:gsub("^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)", "%1-%2-%3-%4-"))
end

local function identify (answer, request)
  local id = arm.guid(ngx.var.request_id)
  answer.headers["x-ms-request-id"] = id
  answer.headers["x-ms-correlation-request-id"] = id
  answer.headers["x-ms-client-request-id"] = request.headers["x-ms-client-request-id"]
  answer.headers["X-Content-Type-Options"] = "nosniff"
  return answer
end

-- The error with which ARM itself would answer; statuses that are no error have no body.
function arm.failure (status, request)
  if status < 400 then return identify(new_answer(status), request) end
  local words = failures[status] or { "RequestFailed", "The request failed." }
  return identify(arm.error(status, words[1], words[2]), request)
end

local function unauthorized (code, message)
  local refusal = arm.error(401, code, message)
  refusal.headers["WWW-Authenticate"] = ('Bearer authorization_uri='
    .. '"https://login.windows.net/%s", error="invalid_token", error_description="%s"')
    :format(tenant_id, message)
  return refusal
end

local token_errors = {
  invalid = function ()
    return unauthorized("InvalidAuthenticationToken", "The access token is invalid.")
  end,
  expired = function (claims)
    return unauthorized("ExpiredAuthenticationToken", ("The access token expiry UTC time '%s' is "
      .. "earlier than current UTC time '%s'."):format(os.date("!%c", claims.exp), os.date "!%c"))
  end,
}

local function authenticate (request)
  local header = request.headers.authorization
  local token = type(header) == "string" and header:match "^[Bb]earer +(%S+)$"
  if not token then
    return unauthorized("AuthenticationFailed",
      "Authentication failed. The 'Authorization' header is missing or invalid.")
  end
  if token == static_token then return nil end
  local claims, err, expired = tokens.check(token)
  return not claims and token_errors[err](expired) or nil
end

local function check_version (request)
  local version = request.query["api-version"]
  if not version then
    return arm.error(400, "MissingApiVersionParameter",
      "The api-version query parameter (?api-version=) is required for all requests.")
  elseif version ~= arm.api_version then
    return arm.error(400, "InvalidApiVersionParameter", ("The api-version '%s' is invalid. The "
      .. "supported versions are '%s'."):format(
      request.uri:match "[?&]api%-version=([^&]*)" or "", arm.api_version))
  end
end

-- Data Factory's published examples count a POST that only asks as a read.
local function is_read (request)
  local action = (request.segments[#request.segments] or ""):lower()
  return request.method == "GET" or request.method == "POST"
    and (action:find "^get" or action:find "^list" or action:find "^query") ~= nil
end

-- Counts the request; returns the counter's header with what remains, and a refusal if too much
-- has been asked for.
local function throttle (request)
  local current, now = settings.current(), ngx.now()
  local kind = is_read(request) and "read" or "write"
  local window = math.floor(now / current.quota_seconds)
  local subscription = (request.segments[2] or ""):lower()
  local used = limits:incr(table.concat({ kind, window, subscription }, ":"), 1, 0,
    2 * current.quota_seconds)
  local headers = { ["x-ms-ratelimit-remaining-subscription-" .. kind .. "s"] =
    math.max(0, current.quota - used) }
  if used <= current.quota or not current.quota_enforced then return headers end
  local wait = math.max(1, math.ceil((window + 1) * current.quota_seconds - now))
  local refusal = arm.error(429, "SubscriptionRequestsThrottled", ("Number of '%s' requests for "
    .. "subscription '%s' actor 'simulator' exceeded. Please try again after '%d' seconds.")
    :format(kind, subscription, wait))
  refusal.headers["Retry-After"] = wait
  return headers, refusal
end

local function not_modified (request, answer)
  local body = answer.body
  local tag = type(body) == "table" and (body.etag or body.eTag)
  return tag and request.method == "GET" and request.headers["if-none-match"] == tag
end

-- Answers a request to a provider whose route(request) -> answer.
function arm.serve (request, route)
  local answer, remaining = authenticate(request), {}
  if not answer then remaining, answer = throttle(request) end
  answer = answer or check_version(request) or route(request)
  if not_modified(request, answer) then answer = new_answer(304) end
  for name, value in pairs(remaining) do answer.headers[name] = value end
  return identify(answer, request)
end

-- Splits a request's path into { subscription, group, provider, rest }, rest being the list of
-- segments after the provider's name. Returns nil and an answer if there is no such scope.
function arm.scope (request)
  local segments, scope = request.segments, {}
  local i = 1
  local function take (name)
    if (segments[i] or ""):lower() ~= name then return nil end
    i = i + 2
    return segments[i - 1] or ""
  end
  scope.subscription = take "subscriptions"
  scope.group = scope.subscription and take "resourcegroups"
  scope.provider = take "providers"
  scope.rest = { unpack(segments, i) }
  if scope.subscription and not state.has_subscription(scope.subscription) then
    return nil, arm.error(404, "SubscriptionNotFound",
      ("The subscription '%s' could not be found."):format(scope.subscription))
  elseif scope.group and not state.has_group(scope.subscription, scope.group) then
    return nil, arm.error(404, "ResourceGroupNotFound",
      ("Resource group '%s' could not be found."):format(scope.group))
  end
  return scope
end

-- The body, an object, as a table; or nil and an answer.
function arm.body (request)
  local content_type = request.headers["content-type"]
  if type(content_type) ~= "string" or not content_type:lower():find "^application/json" then
    return nil, arm.error(415, "UnsupportedMediaType",
      "The content media type is not supported. Only 'application/json' is supported.")
  end
  local body = json.decode(request.body)
  if not body or not request.body:find "^%s*{" then
    return nil, arm.error(400, "InvalidRequestContent", "The request content was invalid and could "
      .. "not be deserialized: '" .. request.body:sub(1, 100) .. "'.")
  end
  return body
end

-- The link to the page that starts at this position. Its escapes are such that a client which
-- decodes and encodes them anew comes to another link.
local function page_link (request, position)
  return ("%s%s?api-version=%s&%%24skiptoken=p%d%%2bx%%3D"):format(request.origin, request.raw_path,
    arm.api_version, position)
end

local function page_start (request)
  local token = request.query["$skiptoken"]
  if not token then return 1 end
  local position = tonumber((tostring(token):match "^p(%d+)"))
  return position and request.origin .. request.uri == page_link(request, position)
    and position
end

-- One page of a list of `count` positions; at(position) -> item, or nil where one was deleted, so
-- that a page may hold less than `size`, even nothing, and not be the last.
function arm.page (request, count, size, at)
  local start = page_start(request)
  if not start then return arm.error(400, "InvalidSkipToken", "The skip token is invalid.") end
  local items, stop = json.array(), math.min(count, start + size - 1)
  for position = start, stop do items[#items + 1] = at(position) end
  return arm.ok {
    value = items,
    nextLink = stop < count and page_link(request, stop + 1) or nil,
  }
end

-- Accepts a long-running operation, which ends in `result`, an answer.
function arm.accept (request, scope, result)
  local current, id = settings.current(), ngx.var.request_id
  operations:set(id, json.encode {
    started = ngx.now(),
    done = ngx.now() + current.operation_seconds,
    status = current.operation_status,
    result = { status = result.status, body = result.body and json.encode(result.body) },
  })
  local function url (kind)
    return ("%s/subscriptions/%s/providers/%s/locations/eastus/%s/%s?api-version=%s"):format(
      request.origin, scope.subscription, scope.provider, kind, id, arm.api_version)
  end
  local answer = new_answer(202)
  answer.headers.Location = url "operationresults"
  answer.headers["Azure-AsyncOperation"] = url "operationstatuses"
  answer.headers["Retry-After"] = current.operation_retry_after
  return answer
end

local function operation_error (operation)
  return { code = "Operation" .. operation.status, message = "The operation has not succeeded." }
end

local views = {}

function views.operationstatuses (request, operation, running)
  local status = running and "InProgress" or operation.status
  local answer = arm.ok {
    id = request.path,
    name = request.segments[#request.segments],
    status = status,
    startTime = arm.time(operation.started),
    endTime = not running and arm.time(operation.done) or nil,
    error = not running and status ~= "Succeeded" and operation_error(operation) or nil,
  }
  answer.headers["Retry-After"] = running and settings.current().operation_retry_after or nil
  return answer
end

function views.operationresults (request, operation, running)
  if running then
    local answer = new_answer(202)
    answer.headers.Location = request.origin .. request.uri
    answer.headers["Retry-After"] = settings.current().operation_retry_after
    return answer
  elseif operation.status ~= "Succeeded" then
    local err = operation_error(operation)
    return arm.error(400, err.code, err.message)
  end
  local result = operation.result
  return new_answer(result.status, result.body and json.raw(result.body))
end

-- The answer about an operation accepted earlier, or nil if the path is not of one.
function arm.operation (request, scope)
  local view = scope.rest[1] == "locations" and views[(scope.rest[3] or ""):lower()]
  if not view then return nil end
  local text = operations:get(scope.rest[4] or "")
  if not text then
    return arm.error(404, "OperationNotFound", "The operation could not be found.")
  end
  local operation = json.decode(text)
  return view(request, operation, ngx.now() < operation.done)
end

-- Clocks here have milliseconds; .NET writes seven digits.
function arm.time (seconds)
  local milliseconds = math.floor(seconds * 1000 + 0.5)
  return ("%s.%03d0000Z"):format(os.date("!%Y-%m-%dT%H:%M:%S", math.floor(milliseconds / 1000)),
    milliseconds % 1000)
end

return arm
