--- The choices that a target makes, one after the other, by the bytes of its input.
local core = require "cloudsync.core"

local Bytes = {}
Bytes.__index = Bytes

local bytes = {}

function bytes.new(text)
  return setmetatable({ text = text, at = 1 }, Bytes)
end

--- The next byte, 0 behind the end.
function Bytes:byte()
  local byte = self.text:byte(self.at) or 0
  self.at = self.at + 1
  return byte
end

--- One of a list.
function Bytes:pick(list)
  local number = self:byte()
  if #list > 256 then number = number * 256 + self:byte() end
  return list[number % #list + 1]
end

--- A text, whose length goes before it.
function Bytes:string()
  local length = self:byte()
  local text = self.text:sub(self.at, self.at + length - 1)
  self.at = self.at + length
  return text
end

--- All that is left.
function Bytes:rest()
  local text = self.text:sub(self.at)
  self.at = #self.text + 1
  return text
end

local NUMBERS = { 0, 1, -1, 0.5, -0.0, 100, 1e15, 2 ^ 53, -(2 ^ 53), 1e18, -1e18, 1e19, 0.1, 1 / 3,
  5e-324, 1.7976931348623157e308, 1e-7, 400, math.maxinteger or 1, math.mininteger or 1 }

--- A number, finite or not.
function Bytes:number()
  local kind = self:byte()
  if kind < 128 then return NUMBERS[kind % #NUMBERS + 1] end
  local mantissa = 0
  for _ = 1, kind % 8 do mantissa = mantissa * 256 + self:byte() end
  return kind < 192 and mantissa or (mantissa + 0.0) * 2.0 ^ (self:byte() * 8 - 1100)
end

local function object(self, depth, names, note)
  local value = {}
  for _ = 1, self:byte() % 8 do
    local name = self:byte() % 2 == 0 and self:pick(names) or self:string()
    if note then note(name) end
    value[name] = self:value(depth - 1, names, note)
  end
  return value
end

local function list(self, depth, names, note)
  local value = core.array()
  for i = 1, self:byte() % 8 do value[i] = self:value(depth - 1, names, note) end
  return value
end

--- A value that JSON has, apart from infinite numbers and texts that are not UTF-8.
-- @tparam number depth
-- @tparam {string,...} names that properties may have, beside any
-- @tparam ?function note told of every text, names included, and of every number
function Bytes:value(depth, names, note)
  local kind = self:byte() % 8
  if kind == 0 then return core.null end
  if kind == 1 then return self:byte() % 2 == 0 end
  if kind <= 3 or (kind >= 6 and depth == 0) then
    local value = kind == 2 and self:number() or self:string()
    if note then note(value) end
    return value
  end
  if kind == 4 then return core.array() end
  if kind == 5 then return {} end
  return (kind == 6 and list or object)(self, depth, names, note)
end

--- Whether two values of JSON are the same.
-- @tparam ?function alike whether two values that are no tables are
function bytes.equal(a, b, alike)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b or alike ~= nil and alike(a, b)
  end
  for name, item in pairs(a) do
    if not bytes.equal(item, b[name], alike) then return false end
  end
  for name in pairs(b) do
    if a[name] == nil then return false end
  end
  return true
end

return bytes
