--- The JSON writer and reader against each other, and the reader against lua-cjson as it is.
--
-- An input is a document, or, where its first byte is a control character that none begins with,
-- the choices that a value is made by.
local bytes = require "fuzz.bytes"
local cjson = require "cjson".new()
local core = require "cloudsync.core"

cjson.decode_max_depth(1000)
cjson.decode_invalid_numbers(false)

local NAMES = { "", "a", "type", "value", "1", "\0", "\0a", "é" }

local function is_finite(value)
  if type(value) == "table" then
    for _, item in pairs(value) do
      if not is_finite(item) then return false end
    end
  end
  return type(value) ~= "number" or value > -math.huge and value < math.huge
end

-- A value that can be written is read as the same, and then written in the same way.
local function round(value)
  local text = assert(core.encode(value))
  local again = core.decode(text)
  assert(bytes.equal(value, again), "another value is read than was written")
  assert(core.encode(again) == text, "what was read is written in another way")
end

-- The same to lua-cjson, to which all numbers are floats.
local function alike(a, b)
  return type(a) == "number" and type(b) == "number" and a + 0.0 == b + 0.0
end

local function read(text)
  local value, err = core.decode(text)
  if value == nil then assert(type(err) == "string", "no reason") end
  local plain = text:gsub("^\239\187\191", "")
  local known, expected = pcall(cjson.decode, plain)
  local refused = value == nil and (err:find "UTF%-8" ~= nil)
  assert(refused or known == (value ~= nil), "lua-cjson sees it differently")
  if value == nil then return end
  assert(bytes.equal(value, expected, alike), "lua-cjson reads something else")
  if is_finite(value) then return round(value) end
  assert(not core.encode(value), "infinity is written")
end

local function write(input)
  local valid = true
  local value = input:value(5, NAMES, function(part)
    if type(part) == "number" then valid = valid and is_finite(part) end
    if type(part) == "string" then
      valid = valid and core.decode('"' .. part:gsub("[%c\"\\]", ".") .. '"') ~= nil
    end
  end)
  local text, err = core.encode(value)
  -- what was not valid may have been replaced by a later property of the same name
  if valid or text then return round(value) end
  assert(type(err) == "string" and err:find "^value", "no reason")
end

return function(text)
  if text:find "^[\1-\8]" then write(bytes.new(text:sub(2))) else read(text) end
end
