-- Failures on demand.
local answer = require "simulator.answer"
local json = require "simulator.json"
local request = require "simulator.request"
local socket = require "simulator.socket"
local store = require "simulator.store"

local faults = {}

local dict = ngx.shared.faults
local other_origin = os.getenv "CLOUDSYNC_SIM_OTHER_ORIGIN"

local html = "<html><head><title>Bad Gateway</title></head>"
  .. "<body><h1>502 Bad Gateway</h1><p>proxy.example could not connect.</p></body></html>\n"

local function ok (body, content_type)
  local given = answer.new(200, body)
  given.headers["Content-Type"] = content_type or answer.json_type
  return given
end

-- Sends the pieces that next_piece returns until it returns nil or the client goes. The sleep lets
-- other requests have their turn while a fast reader keeps the socket writable.
local function stream (next_piece)
  for piece in next_piece do
    if not ngx.print(piece) or not ngx.flush(true) then break end
    ngx.sleep(0)
  end
end

local function filler (bytes)
  local piece = (" "):rep(64 * 1024)
  return function ()
    bytes = bytes - #piece
    return bytes >= 0 and piece or nil
  end
end

-- kind(rule, proceed, request, service) -> answer, or nil when it has seen to the answer itself.
-- proceed() carries the request out, if that has not been done, and returns the true answer.
local kinds = {}

function kinds.status (rule, _, r, service)
  local given = service.failure(rule.status, r)
  if not rule.body then return given end
  given.body = rule.body
  given.headers["Content-Type"] = answer.json_type
  return given
end

function kinds.delay (_, proceed)
  return proceed()
end

function kinds.reset_before ()
  return socket.reset()
end

function kinds.reset_after (_, proceed)
  proceed()
  return socket.reset()
end

function kinds.reset_mid_body (_, proceed)
  local body = answer.start(proceed())
  ngx.header.content_length = #body
  ngx.print(body:sub(1, math.floor(#body / 2)))
  ngx.flush(true)
  return socket.reset()
end

function kinds.truncated (_, proceed)
  local given = proceed()
  local body = answer.start(given)
  ngx.header.content_length = #body + 100
  ngx.print(body)
  ngx.flush(true)
  ngx.eof()
  return ngx.exit(444)
end

function kinds.bad_json ()
  return ok '{"value": [{"name": "ir-00'
end

function kinds.html ()
  return ok(html, "text/html")
end

function kinds.endless ()
  answer.start(ok())
  stream(filler(math.huge))
end

function kinds.huge ()
  local bytes = 5 * 1024 ^ 3
  answer.start(ok())
  ngx.header.content_length = ("%d"):format(bytes)
  stream(filler(bytes))
end

function kinds.redirect (rule, _, r)
  local given = answer.new(307)
  given.headers.Location = rule.location or other_origin .. r.uri
  return given
end

function kinds.empty ()
  return answer.new(200)
end

function kinds.invalid_utf8 ()
  return ok '{"name": "ir-\255\254", "value": [{"name": "\192\175"}]}'
end

function kinds.deep_json ()
  return ok(("["):rep(2000) .. ("]"):rep(2000))
end

function kinds.next_link (rule, proceed)
  local given = proceed()
  if type(given.body) == "table" then given.body.nextLink = rule.next_link end
  return given
end

function kinds.many_headers (_, proceed)
  local given = proceed()
  local value = ("x"):rep(1024)
  for i = 1, 200 do given.headers[("X-Filler-%03d"):format(i)] = value end
  return given
end

function kinds.slow_body (rule, proceed)
  local body = answer.start(proceed())
  ngx.header.content_length = #body
  local sent = 0
  stream(function ()
    if sent > 0 then ngx.sleep(rule.delay) end
    sent = sent + 1
    return sent <= #body and body:sub(sent, sent) or nil
  end)
end

-- The other fields of a rule and their types; a field that a kind cannot do without.
local fields = {
  kind = "string", match = "table", times = "number", skip = "number", status = "number",
  headers = "table", delay = "number", effect = "boolean", location = "string",
  next_link = "string",
}
local needs = { status = "status", delay = "delay", slow_body = "delay", next_link = "next_link" }

local function check (rule)
  for name, value in pairs(rule) do
    if name ~= "body" and not fields[name] then return nil, "unknown field '" .. name .. "'" end
    if name ~= "body" and type(value) ~= fields[name] then
      return nil, "'" .. name .. "' must be a " .. fields[name]
    end
  end
  if not kinds[rule.kind] then return nil, "unknown kind '" .. tostring(rule.kind) .. "'" end
  local need = needs[rule.kind]
  if need and not rule[need] then return nil, "'" .. need .. "' is missing" end
  return request.check_criteria(rule.match)
end

local function complete (rule)
  rule.kind = rule.kind or rule.status and "status" or rule.delay and "delay"
  rule.match = rule.match or {}
  rule.times = rule.times or 1
  rule.skip = rule.skip or 0
  return rule
end

-- Adds one rule or a list of them after those that are there. Returns the ids, or nil and why not.
function faults.add (given)
  local added = given[1] and given or { given }
  local rules, ids = {}, {}
  for i, rule in ipairs(store.read("faults", "rules") or {}) do rules[i] = rule end
  for i, rule in ipairs(added) do
    local good, err = check(complete(rule))
    if not good then return nil, err end
    ids[i] = dict:incr("last id", 1, 0)
    rule.id = ids[i]
    rules[#rules + 1] = rule
  end
  store.write("faults", "rules", json.array(rules))
  return ids
end

function faults.clear ()
  dict:flush_all()
end

-- The rules with the number of requests that each has met so far.
function faults.list ()
  local listed = json.array()
  for i, rule in ipairs(store.read("faults", "rules") or {}) do
    listed[i] = { rule = rule, seen = dict:get("seen:" .. rule.id) or 0 }
  end
  return listed
end

-- The first rule that matches and is neither waiting (skip) nor used up (times).
function faults.pick (r)
  for _, rule in ipairs(store.read("faults", "rules") or {}) do
    if request.matches(rule.match, r) then
      local seen = dict:incr("seen:" .. rule.id, 1, 0) - rule.skip
      if seen > 0 and (rule.times == 0 or seen <= rule.times) then return rule end
    end
  end
end

-- Returns the answer to send, or nil if there is nothing left to do.
function faults.apply (rule, r, service, proceed)
  if rule.delay and rule.kind ~= "slow_body" then ngx.sleep(rule.delay) end
  local outcome
  local function proceed_once ()
    outcome = outcome or proceed()
    return outcome
  end
  if rule.effect then proceed_once() end
  local given = kinds[rule.kind](rule, proceed_once, r, service)
  if not given then return nil end
  given.status = rule.status or given.status
  for name, value in pairs(rule.headers or {}) do given.headers[name] = value end
  return given
end

return faults
