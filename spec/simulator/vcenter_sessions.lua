-- vCenter's sessions.
local json = require "simulator.json"
local settings = require "simulator.settings"

local sessions = {}

local dict = ngx.shared.vcenter_sessions
local counts = ngx.shared.vcenter

-- The session, or nil if it has been closed, or idle for too long.
local function alive (id)
  local text = dict:get(id)
  if not text then return nil end
  local session = json.decode(text)
  if ngx.now() < session.last_accessed + settings.current().vcenter_session_seconds then
    return session
  end
  dict:delete(id)
end

local function save (id, session)
  assert(dict:safe_set(id, json.encode(session)))
end

-- Those that are open, oldest first, without their ids.
function sessions.list ()
  local open = {}
  for _, id in ipairs(dict:get_keys(0)) do open[#open + 1] = alive(id) end
  table.sort(open, function (a, b) return a.created < b.created end)
  return json.array(open)
end

-- Returns the id of a new one, or nil and how many there are if there may be no more.
function sessions.open (user)
  local now, count = ngx.now(), #sessions.list()
  if count >= settings.current().vcenter_max_sessions then return nil, count end
  local id = ngx.var.request_id
  save(id, { user = user, created = now, last_accessed = now })
  counts:incr("logins", 1, 0)
  return id
end

-- The session with this id as it has been until now, or nil. This use keeps it from expiring.
function sessions.use (id)
  local session = alive(id)
  if not session then return nil end
  local last_accessed = session.last_accessed
  session.last_accessed = ngx.now()
  save(id, session)
  session.last_accessed = last_accessed
  return session
end

function sessions.close (id)
  dict:delete(id)
  counts:incr("logouts", 1, 0)
end

function sessions.expire ()
  dict:flush_all()
end

function sessions.counts ()
  return { logins = counts:get "logins" or 0, logouts = counts:get "logouts" or 0 }
end

return sessions
