-- vCenter's two REST bases: who may come in, and where to.
local clock = require "simulator.clock"
local dialects = require "simulator.vcenter_dialects"
local errors = require "simulator.vcenter_errors"
local hvc = require "simulator.hvc"
local new_answer = require("simulator.answer").new
local settings = require "simulator.settings"
local sessions = require "simulator.vcenter_sessions"
local state = require "simulator.vcenter_state"

local vcenter = {}

local header_name = "vmware-api-session-id"
local user = os.getenv "CLOUDSYNC_SIM_USERNAME"
local basic = "Basic " .. ngx.encode_base64(user .. ":" .. os.getenv "CLOUDSYNC_SIM_PASSWORD")

local function dialect_of (request)
  return dialects[request.segments[1] or ""]
end

-- VMware's runtime looks at the header only if there are no cookies at all.
local function session_id (request)
  local cookie = request.headers.cookie
  if not cookie then return request.headers[header_name] end
  cookie = type(cookie) == "table" and table.concat(cookie, "; ") or cookie
  return cookie:match "vmware%-api%-session%-id=([^;%s]+)"
end

-- The session that the request names, and its id; nothing if there is none, or a user as well.
local function identify (request)
  local id = session_id(request)
  if type(id) ~= "string" or request.headers.authorization then return nil end
  local session = sessions.use(id)
  if session then return session, id end
end

local session_methods = {}

function session_methods.login (request, dialect)
  if request.headers.authorization ~= basic or request.headers[header_name] then
    return errors.unauthenticated(dialect)
  end
  local id, count = sessions.open(user)
  if not id then
    return errors.new(dialect, "service_unavailable",
      "com.vmware.vapi.endpoint.failedToLoginMaxUserSessionCountReached",
      ("User session count is limited to %d. Existing session count is %d for user %s")
      :format(settings.current().vcenter_max_sessions, count, user))
  end
  local answer = dialect.created(id)
  if not request.headers["vmware-use-header-authn"] then
    answer.headers["Set-Cookie"] = ("%s=%s;Path=/%s;Secure;HttpOnly"):format(header_name, id,
      request.segments[1])
  end
  return answer
end

function session_methods.info (request, dialect)
  local session = identify(request)
  if not session then return errors.unauthenticated(dialect) end
  return dialect.ok {
    user = session.user,
    created_time = clock.iso(session.created),
    last_accessed_time = clock.iso(session.last_accessed),
  }
end

function session_methods.logout (request, dialect)
  local session, id = identify(request)
  if not session then return errors.unauthenticated(dialect) end
  sessions.close(id)
  return dialect.done()
end

-- By method, path and, under /rest, the action, whose name has a tilde there.
local session_operations = {
  ["POST /rest/com/vmware/cis/session"] = session_methods.login,
  ["POST /rest/com/vmware/cis/session get"] = session_methods.info,
  ["DELETE /rest/com/vmware/cis/session"] = session_methods.logout,
  ["POST /api/session"] = session_methods.login,
  ["GET /api/session"] = session_methods.info,
  ["DELETE /api/session"] = session_methods.logout,
}

local function find_session_operation (request)
  local action = request.query["~action"]
  return session_operations[("%s %s%s"):format(request.method, request.path,
    action and " " .. tostring(action) or "")]
end

-- A base that this version does not have is not vCenter's to word: a proxy in front answers.
local function no_such_base ()
  return new_answer(404)
end

function vcenter.handle (request)
  local dialect, version = dialect_of(request), state.versions[state.version()]
  if not dialect or not version[request.segments[1]] then return no_such_base() end
  local session_operation = find_session_operation(request)
  if session_operation then return session_operation(request, dialect) end
  local run = request.segments[2] == "hvc" and hvc.find(request, dialect, version)
  if not run then return errors.not_offered(dialect, request) end
  if not identify(request) then return errors.unauthenticated(dialect) end
  return run()
end

function vcenter.failure (status, request)
  return errors.failure(dialect_of(request) or dialects.rest, status)
end

return vcenter
