--- Requests of any operation: the input chooses one, and what each of its parameters is.
local bytes = require "fuzz.bytes"
local core = require "cloudsync.core"
local operations = require "fuzz.operations"
local transfer = require "transfer"

local ENDPOINT = "https://host.example:8443/base"
local MARK = "PLANTED-" -- begins each secret, and nothing else does

local PROPERTIES = { "password", "secret", "value", "type", "properties", "typeProperties",
  "policy", "folder", "name", "annotations", "user_name", "description", "interval" }
local VALUES = { "SecureString", "xxxx1234", "", ".", "..", "a/b", "a\r\nb: c", "a\0b", "\255",
  "é" }
local HEADERS = { "X-A", "x-a", "Accept", "If-Match", "x-ms-client-request-id", "X-B\r\n", "",
  "x-ms-client-request-id-2", "Authorization", "Host" }

local transport = core.transport { endpoint = ENDPOINT }
local list = operations(transport)

local function unmarked(text)
  return (text:gsub(MARK:sub(1, -2), "planted"))
end

-- A copy without marks but in secrets, which are themselves marked.
local function copy(value)
  if type(value) == "string" then return unmarked(value) end
  if type(value) ~= "table" then return value end
  local new = getmetatable(value) and core.array() or {}
  for name, item in pairs(value) do new[copy(name)] = copy(item) end
  return new
end

local function text_of(input)
  return unmarked(input:byte() % 2 == 0 and input:pick(VALUES) or input:string())
end

-- A table that holds what an operation needs, and something more.
local function body_of(input, value)
  local body = value and copy(value) or {}
  local at = body
  for _ = 1, input:byte() % 4 do
    local inner = type(at) == "table" and at[input:pick(PROPERTIES)]
    if type(inner) == "table" then at = inner end
  end
  for _ = 1, input:byte() % 4 do
    local name = input:byte() % 4 > 0 and input:pick(PROPERTIES) or text_of(input)
    at[name] = copy(input:value(4, PROPERTIES))
    if name == "password" and type(at[name]) == "string" then at[name] = MARK .. at[name] end
    if input:byte() % 4 == 0 then at[name] = core.secret(MARK .. text_of(input)) end
  end
  if input:byte() % 8 == 0 then
    at.connection = { type = "SecureString", value = core.secret(MARK .. text_of(input)) }
  end
  return body
end

local function value_of(input, parameter, least)
  local kind = input:byte() % 8
  if kind <= 2 then return least end
  if kind == 3 then return nil end
  if parameter.type == "object" and kind < 7 then return body_of(input, least) end
  if kind == 4 then return text_of(input) end
  if kind == 5 then return core.secret(MARK .. text_of(input)) end
  if kind == 6 then return parameter.secret and MARK .. text_of(input) or text_of(input) end
  return copy(input:value(4, PROPERTIES))
end

-- The text that a value stands for where it is sent as text.
local function spelt(value)
  if type(value) == "userdata" and value ~= core.null then return value:reveal() end
  return type(value) == "string" and value or nil
end

local function revealed(value)
  if type(value) ~= "table" then return spelt(value) or value end
  local new = {}
  for name, item in pairs(value) do new[name] = revealed(item) end
  return new
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function segments(path)
  local found = {}
  for segment in path:gmatch "/([^/]*)" do found[#found + 1] = segment end
  return found
end

local function pairs_of(query)
  local found = {}
  for pair in query:gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=?(.*)$"
    name = decoded(name)
    assert(not found[name], name .. " is there twice")
    found[name] = decoded(value)
  end
  return found
end

local function check_url(entry, url, parameters)
  assert(url:find(ENDPOINT .. "/", 1, true) == 1, "another origin: " .. url)
  assert(not url:find "[^%w%-%._~!'%(%)%*%%/:?&=]", "the URL holds what it must not")
  local path, query = url:sub(#ENDPOINT + 1):match "^([^?]*)%??(.*)$"
  local wanted, got = segments(entry.operation.path), segments(path)
  assert(#wanted == #got, "the path has another shape")
  local sent, values = pairs_of(query), {}
  for _, parameter in ipairs(entry.operation.parameters) do
    local text = spelt(parameters[parameter.name])
    values["{" .. parameter.wire .. "}"] = parameter.place == "path" and text
    if parameter.place == "query" and text then
      assert(sent[parameter.wire] == text, parameter.name .. " arrives as something else")
    end
  end
  for i, segment in ipairs(wanted) do
    assert(decoded(got[i]) == (values[segment] or segment), "a segment is something else")
  end
end

local function check_headers(lines, headers)
  local seen = {}
  assert(#lines < 40, "too many headers")
  for _, line in ipairs(lines) do
    assert(not line:find "[%z\1-\31\127]", "a header with a control character")
    local name, rest = line:match "^([%w!#$%%&'*+.^_`|~-]+)([:;].*)$"
    assert(name, "a line that is no header")
    assert(not seen[name:lower()], "a header is there twice")
    seen[name:lower()] = rest
  end
  for name, value in pairs(headers or {}) do
    local text = spelt(value)
    local wanted = text == "" and ";" or ": " .. text
    assert(seen[name:lower()] == wanted, "a header arrives as something else")
  end
end

-- What the body says is what was given.
local function check_body(entry, body, parameters)
  local fields, wrapped, form = {}, false, nil
  for _, parameter in ipairs(entry.operation.parameters) do
    local value = parameters[parameter.name]
    if parameter.place == "body" and value ~= nil then
      assert(bytes.equal(revealed(value), assert(core.decode(body))), "another body")
    elseif parameter.place == "field" and value ~= nil then
      fields[parameter.wire], wrapped = revealed(value), true
    elseif parameter.place == "form" and value ~= nil then
      form = form or pairs_of(body)
      local sent = form[parameter.wire]
      if type(value) == "table" then
        assert(bytes.equal(revealed(value), assert(core.decode(sent))), "another object")
      elseif spelt(value) then
        assert(sent == spelt(value), "another field in the form")
      end
    end
  end
  if not wrapped then return end
  local sent = assert(core.decode(body))
  assert(bytes.equal(fields, sent) or bytes.equal({ spec = fields }, sent), "other fields")
end

local function check_secrets(request)
  local shown = assert(core.encode(request:describe()))
  assert(not shown:find(MARK, 1, true), "a description tells a secret: " .. shown)
  local _, url = request:target()
  assert(not url:find(MARK, 1, true), "target() tells a secret")
end

-- The headers go on to the next page, but for those that are the request's own.
local function check_follow(request, lines, headers)
  local _, next_lines = transfer.look(assert(request:follow(transport, "/next?page=2")))
  local there = {}
  for _, line in ipairs(next_lines) do there[line] = true end
  check_headers(next_lines)
  for _, line in ipairs(lines) do
    local name = line:match "^[^:;]*"
    if headers and headers[name] ~= nil then assert(there[line], name .. " does not go on") end
  end
end

local function headers_of(input)
  local count = input:byte() % 8
  if count == 0 then return nil end
  local headers = {}
  for _ = 1, count > 5 and count * 5 or count do
    local name = unmarked(input:byte() % 2 == 0 and input:pick(HEADERS) or input:string())
    headers[name] = input:byte() % 4 == 0 and core.secret(MARK .. text_of(input)) or text_of(input)
  end
  return headers
end

local MISTAKES = { misuse = true, unknown = true }

return function(text)
  local input = bytes.new(text)
  local entry = input:pick(list)
  local parameters, defaults = {}, {}
  for _, parameter in ipairs(entry.operation.parameters) do
    local to = input:byte() % 8 == 0 and defaults or parameters
    to[parameter.name] = value_of(input, parameter, entry.parameters[parameter.name])
  end
  if input:byte() % 16 == 15 then parameters[text_of(input)] = 1 end
  local headers = headers_of(input)
  local request, reason, _, mistake =
    entry.prepare(transport, parameters, defaults, headers)
  local shown, shown_reason = entry.prepare(transport, parameters, defaults, headers, true)
  assert((request == nil) == (shown == nil), shown_reason or reason)
  if not request then
    assert(type(reason) == "string" and (mistake == nil or MISTAKES[mistake]))
    assert(not reason:find(MARK, 1, true), "a refusal tells a secret: " .. reason)
    return
  end
  local url, lines, body = transfer.look(request)
  for name, value in pairs(defaults) do
    if parameters[name] == nil then parameters[name] = value end
  end
  check_url(entry, url, parameters)
  check_headers(lines, headers)
  check_body(entry, body, parameters)
  check_secrets(request)
  check_secrets(shown)
  check_follow(request, lines, headers)
end
