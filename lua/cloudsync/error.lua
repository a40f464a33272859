--- Failures as values: what happened, to which call, what became of the request.
--
-- Fields: `kind`, `code` (the service's own), `message`, `status`, `target`, `details`, `service`,
-- `operation`, `request_id`, `attempts`, `retryable`, `retry_after` (seconds, where the service tells),
-- `outcome`, `body`.
--
-- `kind` is one of `argument`, `auth`, `denied`, `not_found`, `conflict`, `busy`, `throttled`,
-- `service`, `unsupported`, `protocol`, `transport`, `timeout`, `limit`, `cancelled`, `job`.
--
-- `outcome` is `not_sent`, `rejected` (it had no effect) or `unknown` (it may have taken effect).
local errors = {}

local Error = { __name = "cloudsync.error" }

function Error.__tostring(e)
  local subject = e.operation and e.service and e.service .. " " .. e.operation or e.service
  local facts = {}
  if e.status then facts[#facts + 1] = "status " .. e.status end
  if e.request_id then facts[#facts + 1] = "request " .. e.request_id end
  if e.attempts and e.attempts > 1 then facts[#facts + 1] = e.attempts .. " attempts" end
  if e.outcome == "unknown" then facts[#facts + 1] = "it may have taken effect" end
  return (subject and subject .. ": " or "") .. (e.code and e.code .. ": " or "")
    .. tostring(e.message) .. (facts[1] and " [" .. table.concat(facts, ", ") .. "]" or "")
end

local KIND_BY_STATUS = {
  [400] = "argument", [401] = "auth", [403] = "denied", [404] = "not_found",
  [405] = "unsupported", [407] = "transport", [408] = "timeout", [409] = "conflict",
  [410] = "not_found", [412] = "conflict", [413] = "limit", [422] = "argument", [423] = "busy",
  [429] = "throttled", [431] = "limit", [501] = "unsupported",
}

local KIND_BY_HUNDRED = { [2] = "protocol", [3] = "protocol", [4] = "argument", [5] = "service" }

-- A server that answers so has not carried out the request.
local REJECTED_BY_HUNDRED = { [3] = true, [4] = true }

local MESSAGES = {
  [2] = "the service answered with a status that is not documented for this operation",
  [3] = "the service redirects to another address, which is not followed: check endpoint",
  [4] = "the service refused the call and did not say why",
  [5] = "the service failed and did not say why",
}

local PROXY_REFUSES = "the proxy refused the call: check the user and password in proxy"

-- How nginx, which checks it before all else, words that a client certificate is missing or wrong.
local CERTIFICATE = "SSL certificate"
local WANTS_CERTIFICATE = "the server wants another client certificate, or one at all: check "
  .. "client_cert and client_key"

--- Makes an error of its fields.
function errors.new(fields)
  return setmetatable(fields, Error)
end

--- Whether a value is an error object of this library.
function errors.is(value)
  return getmetatable(value) == Error
end

--- Completes what the core tells of a call that failed.
-- @tparam table fields as `interpret` returns them
-- @tparam ?number retry_after what the service asked for, in seconds
-- @treturn table the error
function errors.of_call(fields, retry_after)
  local status = fields.status
  local hundred = status and math.floor(status / 100)
  fields.retry_after = retry_after
  if status == 407 then
    fields.message, fields.body = PROXY_REFUSES, nil -- its page may repeat the password
  elseif status == 400 and fields.body and fields.body:find(CERTIFICATE, 1, true) then
    fields.kind, fields.message = "denied", WANTS_CERTIFICATE
  end
  fields.kind = fields.kind or KIND_BY_STATUS[status] or KIND_BY_HUNDRED[hundred] or "protocol"
  fields.message = fields.message or MESSAGES[hundred] or "the service answered with this status"
  if status == 429 or status == 503 and retry_after then
    fields.outcome = "rejected" -- whatever its words: it is repeated for that
  elseif fields.outcome then
    return errors.new(fields) -- the service's own words tell
  elseif not status then
    fields.outcome = fields.sent and "unknown" or "not_sent"
  elseif REJECTED_BY_HUNDRED[hundred] and status ~= 408 then
    fields.outcome = "rejected"
  else
    fields.outcome = "unknown"
  end
  return errors.new(fields)
end

return errors
