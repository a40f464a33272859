--- Shares tokens between nginx's workers, in a `lua_shared_dict`: one of them fetches, the others take.
--
-- The tokens are in the memory that the workers share, not encrypted, never on disk; whoever can read
-- the memory of a worker, or runs Lua in it, can read them.
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local tasks = require "cloudsync.tasks"

local shared_tokens = {}

local MARGIN = 300 -- s before its expiry at which a token is replaced, or half of a shorter life
local LOCK_LIFE = 60 -- s after which the worker that fetches is taken for dead
local LOOK = 0.02 -- s between two looks at what another worker fetches

-- The token that is kept, if it is not to be replaced yet, and its life in seconds.
local function read(dict, key, rejected)
  local text = dict:get(key)
  local kept = text and core.decode(text)
  if not kept or ngx.now() >= kept.stale_at then return nil end
  local token = core.secret(kept.token)
  if token == rejected then return nil end
  return token, kept.expires_at - ngx.now()
end

local function write(dict, key, token, life)
  local now = ngx.now()
  if life <= 0 then return end
  dict:set(key, core.encode {
    token = core.secret(token):reveal(), expires_at = now + life,
    stale_at = now + life - math.min(MARGIN, life / 2),
  }, life)
end

--- Wraps what fetches tokens.
-- @param dict an `ngx.shared.NAME`
-- @tparam string identity tells whose tokens they are; those who have it get the tokens
-- @tparam function fetch called with a scope and a deadline; returns a token and its life in
--   seconds, or nil and an error
-- @treturn function called with a scope, a deadline and a rejected token
function shared_tokens.wrap(dict, identity, fetch)
  return function(scope, deadline, rejected)
    local key = identity .. " " .. scope
    local lock = "lock " .. key
    while true do
      local token, life = read(dict, key, rejected)
      if token then return token, life end
      local locked, why = dict:add(lock, true, LOCK_LIFE)
      if locked or why ~= "exists" then -- without memory for a lock, each fetches
        token, life = read(dict, key, rejected) -- another may have come before
        if token then
          dict:delete(lock)
          return token, life
        end
        local ok, fetched, result = pcall(fetch, scope, deadline)
        if ok and fetched then write(dict, key, fetched, result) end
        dict:delete(lock)
        if not ok then error(fetched, 0) end
        return fetched, result
      end
      if deadline and core.now() >= deadline then
        return nil, errors.new {
          kind = "timeout", message = "the deadline passed before another worker had a token",
        }
      end
      tasks.sleep(LOOK)
    end
  end
end

return shared_tokens
