-- JSON as a service writes it: cjson cannot tell an empty array from an empty object, escapes
-- slashes, and orders names by chance.
local cjson = require "cjson.safe"

local json = { null = cjson.null, decode = cjson.decode }

local array_mt, raw_mt = {}, {}

-- Marks a table that is to be written as an array even when it is empty.
function json.array (items)
  return setmetatable(items or {}, array_mt)
end

-- JSON text to be written as it is.
function json.raw (text)
  return setmetatable({ text = text }, raw_mt)
end

local function quote (text)
  return '"' .. text:gsub('[%z\1-\31"\\]', function (char)
    return char:byte() < 32 and ("\\u%04x"):format(char:byte()) or "\\" .. char
  end) .. '"'
end

local encode

local function encode_array (items)
  local out = {}
  for i, item in ipairs(items) do out[i] = encode(item) end
  return "[" .. table.concat(out, ",") .. "]"
end

local function encode_object (fields)
  local names, out = {}, {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do out[i] = quote(name) .. ":" .. encode(fields[name]) end
  return "{" .. table.concat(out, ",") .. "}"
end

local function encode_table (value)
  local mt = getmetatable(value)
  if mt == raw_mt then return value.text end
  if mt == array_mt or #value > 0 then return encode_array(value) end
  return encode_object(value)
end

local function encode_number (value)
  local whole = value % 1 == 0 and math.abs(value) < 2 ^ 53
  return (whole and "%d" or "%.14g"):format(value)
end

local encoders = {
  string = quote,
  number = encode_number,
  boolean = tostring,
  table = encode_table,
  userdata = function () return "null" end,
}

function encode (value)
  return encoders[type(value)](value)
end

json.encode = encode

return json
