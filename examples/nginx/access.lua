--- Gives requests the data-plane access of a factory, in the access phase.
--
-- The access is fetched when the first request needs it; those that come meanwhile wait for that one
-- fetch, in this worker by the token cache, in others by the memory that all share. It is fetched
-- anew shortly before it expires.
local cloudsync = require "cloudsync"
local errors = require "cloudsync.error"
local reply = require "reply"
local settings = require "settings"
local shared_tokens = require "cloudsync.shared_tokens"
local token_cache = require "cloudsync.token_cache"

local access = {}

local PATIENCE = 10 -- s for which a request waits for the access
local DEFAULT_LIFE = 8 * 3600 -- s, as documented
local CAUTIOUS_LIFE = 600 -- s, where the answer's words can't be understood
local PAUSE = 30 -- s after which to come back, where the service does not say

local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

-- How long an access is good, in seconds.
local function life_of(policy)
  local expiry = type(policy) == "table" and policy.expireTime
  if not expiry or expiry == cloudsync.null then return DEFAULT_LIFE end
  local year, month, day, time = tostring(expiry):match
    "^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d:%d%d:%d%d)[%d.]*Z?$"
  local at = year and MONTHS[tonumber(month)] and ngx.parse_http_time(
    ("Mon, %s %s %s %s GMT"):format(day, MONTHS[tonumber(month)], year, time))
  return at and math.max(0, at - ngx.time()) or CAUTIOUS_LIFE
end

local function fetch(_, deadline)
  local answer, err = settings.data_plane.adf.factories:get_data_plane_access(
    { policy = { permissions = "r", accessResourcePath = "", profileName = "DefaultProfile" } },
    { deadline = deadline and math.max(0, deadline - cloudsync.now()) })
  if not answer then return nil, err end
  local token = answer.accessToken
  if type(token) ~= "string" or not token:find "^%g+$" then
    return nil, errors.new { kind = "protocol", message = "the answer holds no access" }
  end
  return cloudsync.secret(token), life_of(answer.policy)
end

local cache -- of this worker

local function get(deadline)
  local key = settings.data_plane.key
  cache = cache or token_cache.new(shared_tokens.wrap(ngx.shared.tokens, "data plane", fetch))
  return cache:get(key, nil, deadline)
end

local function refuse(err)
  ngx.log(ngx.WARN, "no data-plane access: ", tostring(err))
  if err.kind == "throttled" or err.kind == "timeout" or err.code == "CircuitOpen" then
    ngx.header["Retry-After"] = math.ceil(err.retry_after or PAUSE)
    return reply.refuse(503, err.kind, "the data plane can't be reached now")
  end
  return reply.refuse(502, err.kind, "there is no access to the data plane")
end

--- Puts the access into the request, or refuses it.
function access.add()
  local token, err = get(cloudsync.now() + PATIENCE)
  if not token then return refuse(err) end
  ngx.req.set_header("Authorization", "Bearer " .. token:reveal())
end

return access
