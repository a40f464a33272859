--- Keeps tokens until shortly before they expire; one refresh serves all who wait for it.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"

local MARGIN = 300 -- s before its expiry at which a token is replaced, or half of a shorter life
local FAILURE_LIFE = 5 -- s for which a failed refresh is not tried again

local TokenCache = {}
TokenCache.__index = TokenCache

local token_cache = {}

--- @tparam function fetch called with a scope, a deadline and a token that is not to be returned;
--   returns a token and its life in seconds, or nil and an error
-- @tparam ?boolean once whether a refused sign-in is never tried again: accounts get locked
function token_cache.new(fetch, once)
  return setmetatable({ fetch = fetch, once = once, entries = {} }, TokenCache)
end

-- Fetches a token for all who wait. Returns it, or nil and an error.
local function refresh(self, entry, scope, deadline, rejected)
  local event = entry.refreshing
  local ok, token, life = pcall(self.fetch, scope, deadline, rejected)
  entry.refreshing = nil
  local now = core.now()
  local failure
  if ok and token then
    entry.token = token
    entry.stale_at = now + life - math.min(MARGIN, life / 2)
    entry.expires_at, entry.expires_on = now + life, os.time() + life
  else
    failure = ok and life or errors.new { kind = "auth", message = tostring(token) }
    -- one caller's short deadline is not the others' failure
    local own = failure.kind == "timeout" and deadline and now >= deadline
    local life_of_failure = self.once and failure.kind == "auth" and math.huge or FAILURE_LIFE
    entry.failure, entry.failed_until = failure, own and now or now + life_of_failure
  end
  event:set()
  return not failure and token or nil, failure
end

--- A token for a scope.
-- @tparam string scope
-- @param rejected a token that the service did not take, which is not given again
-- @tparam ?number deadline by `core.now()`
-- @return the token and when it expires (seconds since 1970), or nil and an error
function TokenCache:get(scope, rejected, deadline)
  local entry = self.entries[scope] or { stale_at = 0, expires_at = 0, failed_until = 0 }
  self.entries[scope] = entry
  while true do
    if rejected and entry.token == rejected then entry.token = nil end
    local now = core.now()
    local usable = entry.token and now < entry.expires_at
    if usable and (now < entry.stale_at or now < entry.failed_until) then
      return entry.token, entry.expires_on
    end
    if now < entry.failed_until then return nil, entry.failure end
    if not entry.refreshing then
      local waiter = driver.current()
      entry.refreshing = waiter.event()
      local token, failure =
        waiter.outlive(refresh, self, entry, scope, deadline, rejected)
      if token then return token, entry.expires_on end
      if not usable then return nil, failure end
      return entry.token, entry.expires_on
    elseif not entry.refreshing:wait(deadline) then
      return nil, errors.new {
        kind = "timeout", message = "the deadline passed before a token came",
      }
    end
  end
end

--- Forgets what is kept, and returns the token that was.
function TokenCache:drop(scope)
  local entry = self.entries[scope]
  self.entries[scope] = nil
  return entry and entry.token
end

return token_cache
