-- vCenter's errors. A kind is the last part of a /rest `type`, and in capitals an /api `error_type`.
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local settings = require "simulator.settings"

local errors = {}

-- As VMware's own runtime maps them.
local statuses = {
  already_exists = 400, invalid_argument = 400, invalid_request = 400, resource_busy = 400,
  unauthenticated = 401, unauthorized = 403, not_found = 404, operation_not_found = 404,
  service_unavailable = 503,
}

local by_status = {
  [400] = "invalid_request", [401] = "unauthenticated", [403] = "unauthorized",
  [404] = "not_found", [408] = "timed_out", [409] = "concurrent_change", [423] = "resource_busy",
  [429] = "service_unavailable", [500] = "internal_server_error", [503] = "service_unavailable",
  [504] = "timed_out",
}

function errors.message (id, text, args)
  return { id = id, default_message = text, args = json.array(args) }
end

local message = errors.message

function errors.new (dialect, kind, id, text, args)
  return dialect.error(statuses[kind], kind, message(id, text, args))
end

function errors.unauthenticated (dialect)
  local answer = errors.new(dialect, "unauthenticated",
    "com.vmware.vapi.endpoint.method.authentication.required", "Authentication required.")
  answer.headers["WWW-Authenticate"] = 'Basic realm="VAPI endpoint"'
  if answer.body.error_type then answer.body.challenge = answer.headers["WWW-Authenticate"] end
  return answer
end

-- Sources differ about its status, which a client therefore must not rely upon.
function errors.busy (dialect)
  return dialect.error(settings.current().vcenter_busy_status, "resource_busy",
    message("com.vmware.vcenter.hvc.links.sync.resource_busy", "A sync is already running."))
end

function errors.not_found (dialect, what, id)
  return errors.new(dialect, "not_found", ("com.vmware.vcenter.hvc.%s.not_found"):format(what),
    ("The %s '%s' was not found."):format(what, id), { id })
end

function errors.invalid (dialect, text)
  return errors.new(dialect, "invalid_argument", "vapi.data.structure.field.missing", text)
end

local http_not_found = "com.vmware.vapi.rest.httpNotFound"

-- What a path without an operation is answered with, by the setting vcenter_not_offered. The last
-- two have been seen on real servers.
local not_offered = {}

function not_offered.operation_not_found (dialect)
  local answer = errors.new(dialect, "operation_not_found", http_not_found, "Not found.")
  if not answer.body.type then return answer end
  answer.body.name = http_not_found
  answer.body.localizableMessages =
    json.array { { id = http_not_found, defaultMessage = "Not found." } }
  answer.body.majorErrorCode = 404
  return answer
end

-- 6.x; on 9.x under /api.
function not_offered.http_not_found (dialect)
  local answer = errors.new(dialect, "not_found", http_not_found, "Not found.")
  if not answer.body.type then return answer end
  return new_answer(404, {
    name = http_not_found,
    localizableMessages = json.array { { id = http_not_found, defaultMessage = "Not found." } },
    majorErrorCode = 404,
  })
end

-- 7.0.3.
function not_offered.operations_for_url (dialect, request)
  local url = request.path:match "^/[^/]*(.*)"
  local answer = errors.new(dialect, "not_found", "com.vmware.vapi.rest.operationsForUrlNotFound",
    ("Unable to find operations for URL: %s."):format(url), { url })
  if answer.body.value then answer.body.value.error_type = "NOT_FOUND" end
  return answer
end

function errors.not_offered (dialect, request)
  return not_offered[settings.current().vcenter_not_offered](dialect, request)
end

function errors.failure (dialect, status)
  if status < 400 then return new_answer(status) end
  local kind = by_status[status] or "error"
  return dialect.error(status, kind,
    message("com.vmware.vapi.simulator." .. kind, "The request failed."))
end

return errors
