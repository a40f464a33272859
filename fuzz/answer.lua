--- What clients make of an answer: four bytes choose an operation, a status, a failure of the
-- transfer and a header; the body is what follows.
local client = require "cloudsync.client"
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local operations = require "fuzz.operations"
local throttle = require "cloudsync.throttle"
local transfer = require "transfer"

local ENDPOINT = "https://host.example"

-- One begins like another, and one is spelt in many ways.
local TOKEN = "PLANTED-s3cr3t-TAIL"
local SECRETS = { "PLANTED-s3cr3t", TOKEN, "PLANTED-\"\\</&>'+\195\169\240\159\152\128%" }

local STATUSES = { 200, 200, 200, 201, 202, 204, 302, 400, 400, 401, 403, 404, 405, 407, 408, 409,
  413, 422, 423, 429, 500, 500, 501, 503, 0, 999 }
local CODES = { 0, 0, 0, 0, 0, 0, 0, 0, 5, 6, 7, 23, 28, 35, 42, 56, 60, 61, 63 }
local HEADS = { "", "", "", "Retry-After: 3\r\n", "Location: https://host.example/next\r\n",
  "Location: https://other.example/next\r\nRetry-After: 1\r\n",
  "Azure-AsyncOperation: /operations/1?x=1\r\nLocation: /result\r\n", "x-ms-request-id: 7\r\n" }

local KINDS = {}
for kind in ("argument auth denied not_found conflict busy throttled service unsupported protocol "
  .. "transport timeout limit cancelled job"):gmatch "%S+" do KINDS[kind] = true end

local OUTCOMES = { not_sent = true, rejected = true, unknown = true }

local TYPES = { kind = "string", code = "string", message = "string", status = "number",
  target = "string", service = "string", operation = "string", request_id = "string",
  attempts = "number", retryable = "boolean", retry_after = "number", outcome = "string",
  body = "string" }

local function utf8_of(code)
  if code < 0x80 then return string.char(code) end
  local tail = ""
  local first = code < 0x800 and 0xc0 or code < 0x10000 and 0xe0 or 0xf0
  repeat
    tail = string.char(0x80 + code % 64) .. tail
    code = math.floor(code / 64)
  until code < (first == 0xc0 and 0x20 or first == 0xe0 and 0x10 or 0x08)
  return string.char(first + code) .. tail
end

local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }

-- How a reader may take a text that another program has escaped.
local READERS = {
  plain = function(text) return text end,
  url = function(text)
    return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
  end,
  html = function(text)
    local function number(digits, base)
      local code = #digits <= 8 and tonumber(digits, base)
      return code and code < 0x110000 and utf8_of(code) or nil
    end
    text = text:gsub("&#(%d+);", function(digits) return number(digits, 10) end)
    text = text:gsub("&#[xX](%x+);", function(digits) return number(digits, 16) end)
    return (text:gsub("&(%a+);", ENTITIES))
  end,
  json = function(text)
    text = text:gsub('\\(["/\\])', function(char)
      return ("\\u%04x"):format(char:byte())
    end):gsub("\\u([dD][89abAB]%x%x)\\u([dD][c-fC-F]%x%x)", function(high, low)
      return utf8_of(0x10000 + (tonumber(high, 16) - 0xd800) * 0x400 + tonumber(low, 16) - 0xdc00)
    end)
    return (text:gsub("\\u(%x%x%x%x)", function(hex) return utf8_of(tonumber(hex, 16)) end))
  end,
}

local function check_text(text, path, body)
  local escaped = text:find "[%%&\\]"
  for reader, read in pairs(READERS) do
    local seen = (escaped or reader == "plain") and read(text) or ""
    for i, secret in ipairs(SECRETS) do
      assert(not seen:find(secret, 1, true),
        ("%s tells secret %d, read as %s"):format(path, i, reader))
    end
  end
  -- what stands behind the whole of a secret is none of it
  local excused = body:find("<secret>", 1, true) or body:find "[^t]%-TAIL"
  assert(excused or not text:find("<secret>-TAIL", 1, true),
    path .. " tells the end of a secret")
end

-- Fails where a secret is in the value, however deep and also in its names.
local function check_secrets(value, path, body)
  if type(value) == "string" then
    check_text(value, path, body)
  elseif type(value) == "table" then
    for name, item in pairs(value) do
      check_secrets(name, path .. " (name)", body)
      check_secrets(item, path .. "." .. tostring(name), body)
    end
  end
end

local function check_error(err, body)
  assert(errors.is(err), "the failure is no error")
  for name, value in pairs(err) do
    assert(name == "details" or type(value) == TYPES[name], name .. " is a " .. type(value))
  end
  assert(KINDS[err.kind], "kind")
  assert(OUTCOMES[err.outcome], "outcome")
  assert(err.message and err.retryable ~= nil and err.service and err.operation,
    "a field is missing")
  assert(not err.body or #err.body <= 2048, "the body is long")
  assert(not err.body or core.encode(err.body), "the body is not UTF-8")
  local readable = not body:find "[%c?]" and core.encode(body)
  assert(not err.body or not readable or not err.body:find("?", 1, true), "the body is mangled")
  check_secrets(err, "err", body)
  check_text(tostring(err), "tostring(err)", body)
end

local function client_of(service)
  local options = { endpoint = ENDPOINT, retries = 0 }
  if service == "datafactory" then
    options.credential = require "cloudsync.azure".static_token_credential(TOKEN)
    return require "cloudsync.datafactory".new(options)
  elseif service == "arcgis" then
    options.token = TOKEN
    return require "cloudsync.arcgis".new(options)
  elseif service == "entra" then
    return client.new({ service = "entra", options = {} }, options)
  end
  options.username, options.password, options.api = "ops", SECRETS[1], service:match "/(.*)"
  local vc = require "cloudsync.vcenter".new(options)
  rawset(vc, "authorise", function() return TOKEN end)
  return vc
end

local clients, list = {}, operations(core.transport { endpoint = ENDPOINT })
for _, entry in ipairs(list) do
  clients[entry.service] = clients[entry.service] or client_of(entry.service)
end

-- Stands in for the engine: gives the answer to whatever goes to the client's own origin.
local function engine_of(answer)
  local engine = {}
  function engine.step() end
  function engine.next() end
  function engine.running() return 0 end
  function engine.submit(_, request)
    local url = transfer.look(request)
    assert(url:find(ENDPOINT .. "/", 1, true) == 1, "a request leads elsewhere: " .. url)
    return transfer.finish(request, answer, TOKEN)
  end
  return engine
end

local OPTIONS = { headers = { ["X-First"] = core.secret(SECRETS[1]),
  ["X-Third"] = core.secret(SECRETS[3]) } }

local function call(entry, self, body)
  local group, name = self[entry.operation.group], entry.operation.name
  local result, response = group[name](group, entry.parameters, OPTIONS)
  if entry.operation.pageable then result, response = result:collect() end
  if result == nil then return check_error(response, body) end
  if not entry.operation.pageable then assert(type(response.headers) == "table") end
  if entry.operation.long_running and type(result) == "table" and result.poll then
    local ended, err = result:poll()
    if ended == nil then check_error(err, body) end
    if result.outcome and result.outcome.err then
      assert(errors.is(result.outcome.err) and tostring(result.outcome.err))
    end
    assert(core.decode(result:token()))
  end
end

-- The result is what the document holds, and what is no JSON never succeeds.
local function check_result(entry, answer)
  local request = assert(entry.prepare(clients[entry.service].transport, entry.parameters))
  local ok, result = core.interpret(transfer.finish(request, answer), request)
  if not ok then
    assert(type(result) == "table")
    return
  end
  assert(answer.code == 0, "a transfer that failed has a result")
  if answer.body == "" then return assert(result == true) end
  local document = core.decode(answer.body)
  assert(document ~= nil, "a result of no JSON")
  assert(type(result) ~= "table" or type(document) == "table", "a result from nowhere")
end

return function(text)
  local entry = list[text:byte(1) and text:byte(1) % #list + 1 or 1]
  local status, code, head = text:byte(2, 4)
  local answer = { sends = 1, body = text:sub(5), status = STATUSES[(status or 0) % #STATUSES + 1],
    code = CODES[(code or 0) % #CODES + 1] }
  if answer.code ~= 0 then answer.status, answer.sends = 0, (code or 0) % 2 end
  answer.head = ("HTTP/1.1 %d OK\r\n%s\r\n"):format(answer.status, HEADS[(head or 0) % #HEADS + 1])
  check_result(entry, answer)
  local self, engine = clients[entry.service], core.engine
  rawset(self, "throttle", throttle.new(self.throttle.quotas))
  core.engine = function() return engine_of(answer) end
  local ok, problem = xpcall(function() call(entry, self, answer.body) end, debug.traceback)
  core.engine = engine
  if not ok then error(problem, 0) end
end
