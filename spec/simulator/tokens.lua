-- Bearer tokens in the shape of JWTs. They carry all that is known of them, signed, so that any
-- worker can judge one that another has issued.
local json = require "simulator.json"
local settings = require "simulator.settings"

local tokens = {}

local gauges = ngx.shared.gauges

local function random (bytes)
  local file = assert(io.open("/dev/urandom", "rb"))
  local data = file:read(bytes)
  file:close()
  return data
end

local key = random(32)
local base64url = { ["+"] = "-", ["/"] = "_", ["="] = "" }

local function part (text)
  return (ngx.encode_base64(text):gsub("[+/=]", base64url))
end

local function unpart (text)
  return ngx.decode_base64((text:gsub("[-_]", { ["-"] = "+", ["_"] = "/" }))
    .. ("="):rep(-#text % 4))
end

local head = part(json.encode { typ = "JWT", alg = "HS1", kid = part(random(20)) })

-- Returns a token with these claims, and the seconds that it lasts.
function tokens.issue (claims)
  local lifetime, now = settings.current().token_lifetime, ngx.now()
  claims.iat, claims.nbf, claims.exp = now, now, now + lifetime
  claims.uti = ngx.var.request_id
  claims.generation = gauges:get "revocations" or 0
  -- Real tokens are some 1,500 bytes long.
  claims.aio = part(random(480))
  local signed = head .. "." .. part(json.encode(claims))
  return signed .. "." .. part(ngx.hmac_sha1(key, signed)), lifetime
end

-- Returns the claims, or nil and "invalid" or "expired" (and then the claims).
function tokens.check (token)
  local signed, payload, signature = token:match "^([%w_-]+%.([%w_-]+))%.([%w_-]+)$"
  if not signed or signature ~= part(ngx.hmac_sha1(key, signed)) then return nil, "invalid" end
  local claims = json.decode(unpart(payload))
  if claims.generation < (gauges:get "revocations" or 0) then return nil, "invalid" end
  if claims.exp <= ngx.now() then return nil, "expired", claims end
  return claims
end

-- Makes every token issued so far invalid.
function tokens.revoke ()
  gauges:incr("revocations", 1, 0)
end

return tokens
