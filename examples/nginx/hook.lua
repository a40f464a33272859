--- POST /hooks/credential-rotated: begins to sync a factory, for those who have the key.
local cjson = require "cjson.safe"
local jobs = require "jobs"
local reply = require "reply"
local settings = require "settings"
local signature = require "signature"
local sync = require "sync"

local hook = {}

local WINDOW = 300 -- s by which the clocks may differ, and for which a message is good

local function unauthorised(message)
  ngx.header["WWW-Authenticate"] = 'HMAC-SHA256 realm="hooks"'
  return reply.refuse(401, "unauthorised", message)
end

-- A header that was sent exactly once; what is sent twice is not what was signed.
local function header(name)
  local value = ngx.req.get_headers(0)[name]
  return type(value) == "string" and value or nil
end

-- Why the message is not to be trusted, or nil and its signature.
local function distrust(body)
  local timestamp, given = header "x-timestamp", header "x-signature"
  local sent_at = timestamp and timestamp:match "^%d+$" and #timestamp <= 12 and tonumber(timestamp)
  if not sent_at or not given then return "X-Timestamp and X-Signature are needed" end
  if not signature.is_valid(settings.key, timestamp .. "." .. body, given) then
    return "the signature is wrong"
  end
  if math.abs(ngx.time() - sent_at) > WINDOW then return "X-Timestamp is too far from now" end
  return nil, given:lower()
end

local function overloaded(err)
  ngx.log(ngx.ERR, "no job can be begun: ", err)
  ngx.header["Retry-After"] = 30
  return reply.refuse(503, "overloaded", "no job can be begun now")
end

-- The names in the message, or nil.
local function names_in(body)
  local message = cjson.decode(body)
  if type(message) ~= "table" then return nil end
  local group, factory = message.resourceGroupName, message.factoryName
  if type(group) ~= "string" or type(factory) ~= "string" then return nil end
  return group, factory
end

local function begin(factory)
  -- 128 random bits, from where nginx's TLS has its own
  local job, other, err = jobs.open(ngx.var.request_id, factory)
  if other then
    ngx.header["Location"] = "/jobs/" .. other
    return reply.refuse(409, "running", "a sync of this factory is under way", { id = other })
  end
  local started
  if job then
    started, err = sync.start(job, factory)
    if not started then job:finish "abandoned" end
  end
  if not started then return overloaded(err) end
  ngx.header["Location"] = "/jobs/" .. job.facts.id
  return reply.json(202, { id = job.facts.id, state = job.facts.state })
end

--- Handles the request, in the content phase.
function hook.handle()
  if ngx.req.get_method() ~= "POST" then
    ngx.header["Allow"] = "POST"
    return reply.refuse(405, "method", "the method is POST")
  end
  ngx.req.read_body()
  local body = ngx.req.get_body_data() or "" -- whole, as nginx.conf keeps it in memory
  local reason, given = distrust(body)
  if reason then return unauthorised(reason) end
  local added, err = ngx.shared.locks:safe_add("message " .. given, true, 2 * WINDOW)
  if err == "exists" then return unauthorised "this message has been received before" end
  if not added then return overloaded(err) end
  local group, name = names_in(body)
  if not group then
    return reply.refuse(400, "malformed",
      "the body must be a JSON object with the strings resourceGroupName and factoryName")
  end
  local factory = settings.factory(group, name)
  if not factory then
    return reply.refuse(403, "factory", "this factory is not one that the webhook may sync")
  end
  return begin(factory)
end

return hook
