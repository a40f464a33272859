-- The JSON writer and reader of the core.
local core = require "cloudsync.core"
local support = require "spec.support"

local sorted, printable = support.sorted, support.printable
local encode, decode, array, null = core.encode, core.decode, core.array, core.null

-- Integers of Lua 5.3 and later are exact to 64 bits, other numbers to 53.
local INTEGERS = math.type ~= nil

-- Checks that the text, once read, is written as it was, or as `expected`.
local function round(text, expected)
  local value, err = decode(text)
  assert.is_nil(err)
  assert.equal(expected or text, encode(value))
end

local function nested(depth, opening, core_text, closing)
  return opening:rep(depth) .. core_text .. closing:rep(depth)
end

local NOT_UTF8 = {
  ["a lone continuation byte"] = "\128", ["an overlong slash"] = "\192\175",
  ["an overlong NUL"] = "\192\128", ["an overlong three-byte form"] = "\224\128\175",
  ["an overlong four-byte form"] = "\240\128\128\175", ["a surrogate"] = "\237\160\128",
  ["a surrogate pair"] = "\237\160\189\237\184\128", ["U+110000"] = "\244\144\128\128",
  ["a truncated two-byte form"] = "\195", ["a truncated three-byte form"] = "\226\130",
  ["a truncated four-byte form"] = "\240\159\152", ["0xFF"] = "\255", ["0xFE"] = "\254",
  ["a letter within a sequence"] = "\226a\130",
}

local UTF8 = {
  ["two bytes"] = "\194\128\223\191", ["three bytes"] = "\224\160\128\237\159\191\238\128\128",
  ["four bytes"] = "\240\144\128\128\244\143\191\191", ["U+FFFF"] = "\239\191\191",
  ["line separators"] = "\226\128\168\226\128\169", ["a DEL"] = "\127",
  ["a BOM inside"] = "a\239\187\191b",
}

describe("the writer", function()
  local NUMBERS = {
    { 0, "0" }, { 1, "1" }, { -1, "-1" }, { 100, "100" }, { 1e15, "1000000000000000" },
    { 999999999999999, "999999999999999" }, { -999999999999999, "-999999999999999" },
    { 2 ^ 53, "9007199254740992" }, { -(2 ^ 53), "-9007199254740992" },
    { 2 ^ 53 - 1, "9007199254740991" }, { 1.0, "1" }, { -1.0, "-1" },
    { 1e17, "100000000000000000" },
    { -0.0, "0" }, { 0.5, "0.5" }, { -0.25, "-0.25" }, { 0.1, "0.1" }, { 1.1, "1.1" },
    { 1 / 3, "0.3333333333333333" }, { 0.1 + 0.2, "0.30000000000000004" }, { 123.456, "123.456" },
    { 5e-324, "4.94065645841247e-324" }, { 1e-7, "1e-07" }, { 1e300, "1e+300" },
    { 1.7976931348623157e308, "1.7976931348623157e+308" },
    { 2.2250738585072014e-308, "2.2250738585072014e-308" },
  }

  for _, case in ipairs(NUMBERS) do
    it(("writes %s in the shortest form that reads back as the same"):format(case[2]), function()
      assert.equal(case[2], encode(case[1]))
      assert.equal(case[1], tonumber(case[2]))
    end)
  end

  if INTEGERS then
    for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "9007199254740993",
      "1234567890123456789", "1000000000000000001" } do
      it(("writes the integer %s in full"):format(text), function()
        assert.equal(text, encode(math.tointeger(tonumber(text) or text)))
      end)
    end
  end

  local INFINITE = { ["NaN"] = 0 / 0, ["infinity"] = math.huge, ["-infinity"] = -math.huge }
  for what, number in sorted(INFINITE) do
    it(("refuses %s, wherever it is, and says where"):format(what), function()
      local text, err = encode(number)
      assert.is_nil(text)
      assert.matches("finite", err)
      text, err = encode { a = { 1, { b = number } } }
      assert.is_nil(text)
      assert.truthy(err:find("value.a[2].b", 1, true), err)
    end)
  end

  it("writes true, false and null", function()
    assert.equal("[true,false,null]", encode { true, false, null })
    assert.equal("true", encode(true))
    assert.equal("null", encode(null))
  end)

  it("writes an unmarked empty table as an object and a marked one as an array", function()
    assert.equal("{}", encode {})
    assert.equal("[]", encode(array()))
    assert.equal("[]", encode(array {}))
    assert.equal('{"a":[],"b":{},"c":[[],{}]}', encode { a = array(), b = {}, c = { array(), {} } })
  end)

  it("marks the table that it is given", function()
    local list = {}
    assert.equal(list, array(list))
    list[1] = 1
    assert.equal("[1]", encode(list))
  end)

  for _, wrong in ipairs { 1, "a", true } do
    it(("can mark no %s as an array"):format(type(wrong)), function()
      assert.has_error(function() array(wrong) end)
    end)
  end

  it("sorts names by their bytes", function()
    assert.equal('{"":0,"A":1,"a":2,"aa":3,"b":4,"é":5}',
      encode { b = 4, a = 2, aa = 3, A = 1, ["é"] = 5, [""] = 0 })
  end)

  it("writes names with a NUL in them", function()
    assert.equal('{"a":1,"a\\u0000":2,"a\\u0000b":3}', encode { ["a\0b"] = 3, ["a\0"] = 2, a = 1 })
  end)

  it("escapes what must be escaped and nothing else", function()
    assert.equal([["\"\\/\b\f\n\r\t\u0000\u0001\u001f]] .. "\127'<>&" .. '"',
      encode '"\\/\b\f\n\r\t\0\1\31\127\'<>&')
    for byte = 0, 31 do
      local text = encode(string.char(byte))
      assert.is_nil(text:find "%c")
      assert.equal(string.char(byte), decode(text))
    end
  end)

  for what, text in sorted(UTF8) do
    it(("writes %s as it is"):format(what), function()
      assert.equal('"' .. text .. '"', encode(text))
      assert.equal('{"' .. text .. '":"x' .. text .. '"}', encode { [text] = "x" .. text })
    end)
  end

  for what, bad in sorted(NOT_UTF8) do
    it(("refuses %s in a text and in a name"):format(what), function()
      for offset = 0, 17 do
        local text, err = encode { a = { ("x"):rep(offset) .. bad .. "yyyyyyyyyyyyyyyyy" } }
        assert.is_nil(text)
        assert.truthy(err:find("value.a[1]", 1, true), err)
        assert.matches("UTF%-8", err)
      end
      local text, err = encode { a = { [bad] = 1 } }
      assert.is_nil(text)
      assert.truthy(err:find("value.a", 1, true), err)
    end)
  end

  local NO_JSON = {
    ["a function"] = print, ["a coroutine"] = coroutine.create(print), ["a file"] = io.stdout,
  }
  for what, value in sorted(NO_JSON) do
    it(("refuses %s and says where it is"):format(what), function()
      local text, err = encode { a = { 1, value } }
      assert.is_nil(text)
      assert.truthy(err:find("value.a[2]", 1, true), err)
    end)
  end

  local TABLES = {
    ["names and positions"] = { 1, x = 1 }, ["a gap"] = { [1] = 1, [3] = 3 },
    ["no first position"] = { [2] = 2 }, ["position 0"] = { [0] = 0 },
    ["position 0 beside others"] = { [0] = 0, 1, 2 }, ["a negative position"] = { [-1] = 1 },
    ["a fraction as a key"] = { [1.5] = 1 }, ["a boolean as a key"] = { [true] = 1 },
    ["a table as a key"] = { [{}] = 1 }, ["null as a key"] = { [null] = 1 },
    ["infinity as a key"] = { [math.huge] = 1 }, ["a huge position"] = { [2 ^ 53] = 1 },
    ["names in a marked array"] = array { x = 1 },
    ["a gap in a marked array"] = array { 1, [3] = 3 },
  }
  for what, value in sorted(TABLES) do
    it(("refuses a table with %s"):format(what), function()
      local text, err = encode { a = value }
      assert.is_nil(text)
      assert.truthy(err:find("value.a ", 1, true), err)
    end)
  end

  it("never asks metamethods", function()
    local strange = setmetatable({ 1, 2 }, {
      __index = function() return 1 end, __len = function() return 7 end,
      __pairs = function() error "asked" end, __ipairs = function() error "asked" end,
      __tostring = function() error "asked" end,
    })
    assert.equal("[1,2]", encode(strange))
  end)

  it("refuses a cycle", function()
    local value = {}
    value.a = { value }
    local text, err = encode(value)
    assert.is_nil(text)
    assert.matches("nested too deeply", err)
  end)

  local SHAPES = {
    ["arrays"] = function(inner) return { inner } end,
    ["objects"] = function(inner) return { a = inner } end,
  }
  local INNERMOST = {
    ["a number"] = 1, ["an empty object"] = "object", ["an empty array"] = "array",
  }

  -- A value of that many tables, each in the next.
  local function deep(depth, shape, innermost)
    local value = innermost
    if innermost == "object" then value, depth = {}, depth - 1 end
    if innermost == "array" then value, depth = array(), depth - 1 end
    for _ = 1, depth do value = shape(value) end
    return value
  end

  for shape_name, shape in sorted(SHAPES) do
    for inner_name, innermost in sorted(INNERMOST) do
      it(("writes 1000 %s around %s, but not 1001"):format(shape_name, inner_name), function()
        assert.is_string((encode(deep(1000, shape, innermost))))
        local text, err = encode(deep(1001, shape, innermost))
        assert.is_nil(text)
        assert.matches("nested too deeply", err)
      end)
    end
  end

  it("survives a depth of a hundred thousand", function()
    local text = encode(deep(100000, SHAPES.arrays, 1))
    assert.is_nil(text)
  end)

  it("writes a secret in full, and does not reveal it in what it says of another fault", function()
    assert.equal('{"key":"hush\\n\\u0000"}', encode { key = core.secret "hush\n\0" })
    local text, err = encode { a = core.secret "hush\255" }
    assert.is_nil(text)
    assert.is_nil(err:find("hush", 1, true))
  end)

  it("needs an argument, which may be nil", function()
    assert.has_error(function() encode() end)
    assert.is_nil((encode(nil)))
  end)

  it("says where a fault is even when the names on the way are very long", function()
    local value = 0 / 0
    for _ = 1, 20 do value = { [("name"):rep(100)] = value } end
    local text, err = encode(value)
    assert.is_nil(text)
    assert.matches("finite", err)
    assert.is_true(#err < 400)
  end)
end)

---------------------------------------------------------------------------------------------------

describe("the reader", function()
  for _, text in ipairs { "0", "1", "-1", "999999999999999", "-999999999999999", "1000000000000000",
    "9007199254740991", "9007199254740992", "-9007199254740992" } do
    it(("reads the integer %s exactly"):format(text), function()
      local number = decode(text)
      assert.equal(tonumber(text), number)
      if INTEGERS then assert.equal("integer", math.type(number)) end
      round(text)
      round(("[%s,{\"a\":%s}]"):format(text, text))
    end)
  end

  if INTEGERS then
    for _, text in ipairs { "9007199254740993", "-9007199254740993", "1000000000000001",
      "9223372036854775807", "-9223372036854775807", "-9223372036854775808",
      "1234567890123456789" } do
      it(("reads the integer %s exactly"):format(text), function()
        for _, document in ipairs { "%s", " %s ", "[%s]", "[1,%s,2]", '{"a":%s}', '{"a":[%s,%s]}',
          '["x",%s,[],{}]', "[%s\n]", "[\t%s]", '["%s",%s]' } do
          local filled = document:gsub("%%s", text)
          local value = decode(filled)
          while type(value) == "table" do value = value.a or value[2] or value[1] end
          assert.equal("integer", math.type(value))
          assert.equal(text, ("%d"):format(value))
        end
        round('{"a":[' .. text .. ',{"b":' .. text .. "}]}")
      end)
    end
  end

  it("reads integers that no Lua holds as floats", function()
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "18446744073709551615",
      "1" .. ("0"):rep(30) } do
      local number = decode("[" .. text .. "]")[1]
      assert.equal(tonumber(text .. ".0"), number)
    end
  end)

  it("reads floats exactly", function()
    for _, text in ipairs { "0.1", "0.30000000000000004", "1.7976931348623157e+308", "-0.25",
      "1e+300", "123456789.12345678", "1234567890123456.5" } do
      assert.equal(tonumber(text), decode(text))
      assert.equal(tonumber(text), decode("[" .. text .. ",[],12345678901234567]")[1])
      assert.equal(tonumber(text), decode(encode(decode(text))))
    end
    for _, text in ipairs { "1e2", "1E+2", "100.0", "1.0e2" } do assert.equal(100, decode(text)) end
  end)

  it("reads -0 as a zero", function()
    assert.equal(0, decode "-0")
    assert.equal(0, decode "-0.0")
    assert.equal("0", encode(decode "-0"))
  end)

  it("reads a whole float in the same way whatever else the document holds", function()
    if not INTEGERS then return end
    assert.equal(math.type(decode "[1.0]"[1]), math.type(decode "[1.0,[]]"[1]))
    assert.equal(math.type(decode "[1.0]"[1]), math.type(decode "[1.0,12345678901234567]"[1]))
  end)

  for _, text in ipairs { "[]", "{}", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}', "[[],{},[[]],[{}]]",
    '{"a":[],"b":[[],{"c":[]}]}', "[1,[],2]", '[[],"[]",[]]' } do
    it(("gives %s back as it was"):format(text), function() round(text) end)
  end

  it("reads an empty array with white space in it", function()
    round("[ ]", "[]")
    round("[ \t\r\n ]", "[]")
    round('{"a": [\n]\n}', '{"a":[]}')
  end)

  for _, text in ipairs { '["[]"]', '{"[]":"{}"}', '["[ ]",[]]', '["\\"[]",[]]', '["\\\\",[]]',
    '["\\\\\\"[]",[]]', '["12345678901234567890",[]]', '{"12345678901234567":"98765432109876543"}',
    '["-12345678901234567",12]', '["a[]b: 12345678901234567, [1]",[]]', '["]","[",[]]',
    '["i12345678901234567",[]]' } do
    it(("leaves texts alone: %s"):format(text), function() round(text) end)
  end

  for _, text in ipairs { '["\\u0000[]"]', '["\\u0000i12345678901234567"]', '{"\\u0000[]":1}',
    '["\\u0000"]', '["\\u0000[]",[]]', '["\\u0000",[],{"a":[]}]', '["\\u0000i1",[]]',
    '["C:\\\\u0000",[]]', '["\\\\u0000[]"]' } do
    it(("leaves texts with a NUL in them alone, and what is beside them: %s"):format(text),
      function() round(text) end)
  end

  if INTEGERS then
    it("reads large integers exactly beside a text with a NUL in it", function()
      round '["\\u0000",12345678901234567]'
      round '["C:\\\\u0000",9223372036854775807]'
    end)
  end

  it("reads null as the null that it writes", function()
    assert.equal(null, decode "null")
    assert.equal(null, decode '{"a":null}'.a)
    assert.equal(require "cjson".null, null)
    round '[null,{"a":null}]'
  end)

  it("reads escapes", function()
    assert.equal('"\\/\b\f\n\r\t', decode [["\"\\\/\b\f\n\r\t"]])
    assert.equal("A\0\195\169\226\130\172", decode [["\u0041\u0000\u00e9\u20AC"]])
    assert.equal("\240\159\152\128", decode [["\ud83d\ude00"]])
  end)

  it("takes the last of several values of one name", function()
    assert.equal(2, decode '{"a":1,"a":2}'.a)
    assert.equal('{"a":[]}', encode(decode '{"a":{"b":1},"a":[]}'))
  end)

  it("ignores one byte order mark at the beginning", function()
    assert.same({ a = 1 }, decode "\239\187\191{\"a\":1}")
    assert.is_nil((decode "\239\187\191\239\187\191{}"))
    assert.is_nil((decode "\239\187\191"))
    assert.is_nil((decode "{\239\187\191}"))
  end)

  it("ignores white space around a document", function()
    assert.same({ 1 }, decode " \t\r\n[ 1 ]\r\n")
  end)

  for what, text in sorted(UTF8) do
    it(("reads %s"):format(what), function()
      assert.equal(text, decode('"' .. text .. '"'))
      assert.equal(text, decode('["' .. text .. '",[]]')[1])
    end)
  end

  for what, bad in sorted(NOT_UTF8) do
    it(("refuses %s and says at which byte"):format(what), function()
      for offset = 0, 17 do
        local value, err = decode('"' .. ("x"):rep(offset) .. bad .. 'yyyyyyyyyyyyyyyyy"')
        assert.is_nil(value)
        assert.matches("UTF%-8", err)
        if bad:byte() > 0xc1 then
          assert.matches("byte " .. offset + 2 .. "$", err)
        end
      end
      assert.is_nil((decode('{"' .. bad .. '":1}')))
    end)
  end

  for what, text in sorted {
    ["a lone high surrogate"] = [["\ud800"]], ["a lone low surrogate"] = [["\udc00"]],
    ["a high surrogate before a letter"] = [["\ud800a"]],
    ["two high surrogates"] = [["\ud800\ud800"]],
  } do
    it(("refuses %s in an escape"):format(what), function() assert.is_nil((decode(text))) end)
  end

  for _, text in ipairs { "", " ", "{", "[", "}", "]", '"', '"a', "tru", "nul", "nulll",
    "truefalse", "NaN", "nan", "-nan", "Infinity", "-Infinity", "inf", "0x10", "-0x10",
    "[0x10]", "01", "-01", "00",
    "+1", "-", "1e", "1e+", ".5", "[1,]", '{"a":1,}', "[,1]", "[1 2]", '{"a" 1}', '{"a":}',
    "{a:1}", "{'a':1}", "{1:1}", "[1]]", "{}{}", "[] []", "1 2", "[] x", "// x\n1", "/**/1",
    [["\x"]], [["\u12"]], [["\u12g4"]], [["\]], "[1\0]", "1\0", '"a\0b"', "[]\0", "[1]\0",
    "[1]\0x", '{"a":1}\0{}', "undefined",
    '{"a":1 "b":2}', '["a":1]', "--1", "[[]", "[][", "[]]", "[],", '[]"', "12345678901234567x",
    "[12345678901234567 1]", "--12345678901234567", "[-]" } do
    it(("refuses what is no JSON: '%s'"):format(printable(text)), function()
      local value, err = decode(text)
      assert.is_nil(value)
      assert.is_string(err)
    end)
  end

  for _, text in ipairs { "{[]:1}", "{[ ]:1}", '{"a":1,[]:2}', "{12345678901234567:1}",
    '{"a":1,-12345678901234567:2}' } do
    it(("refuses what is no name of a property: %s"):format(text), function()
      local value, err = decode(text)
      assert.is_true(value == nil)
      assert.is_string(err)
    end)
  end

  for opening, closing in sorted { ["["] = "]", ['{"a":'] = "}" } do
    for _, inner in ipairs { "1", "[]", "{}" } do
      local depth = inner == "1" and 1000 or 999
      it(("reads 1000 levels of %s around %s, but not 1001"):format(opening, inner), function()
        assert.is_table((decode(nested(depth, opening, inner, closing))))
        local value, err = decode(nested(depth + 1, opening, inner, closing))
        assert.is_nil(value)
        assert.is_string(err)
      end)
    end
  end

  it("survives a depth of a million", function()
    assert.is_nil((decode(("["):rep(1000000))))
    assert.is_nil((decode(nested(1000000, "[", "", "]"))))
  end)

  it("reads only texts", function()
    for _, wrong in ipairs { {}, true, print } do
      assert.has_error(function() decode(wrong) end)
    end
    assert.has_error(function() decode() end)
  end)

  it("does not depend on what the host program does with lua-cjson", function()
    local cjson = require "cjson"
    finally(function()
      cjson.decode_max_depth(1000)
      cjson.decode_invalid_numbers(true)
    end)
    cjson.decode_max_depth(2)
    cjson.decode_invalid_numbers(true)
    assert.is_table((decode "[[[[]]]]"))
    assert.is_nil((decode "NaN"))
  end)
end)

---------------------------------------------------------------------------------------------------

describe("writing and reading", function()
  it("gives big documents back", function()
    local list = {}
    for i = 1, 50000 do
      list[i] = { id = i, name = "ir-" .. i, tags = array(), data = { x = i / 4, none = null } }
    end
    local text = encode(list)
    assert.equal(text, encode(decode(text)))
    local long = ("\226\130\172x"):rep(500000)
    assert.equal(long, decode(encode(long)))
    assert.equal(long, decode(encode { long, array() })[1])
  end)

  it("reads a million digits and brackets in a text without delay", function()
    local text = '["' .. ("1"):rep(1000000) .. ("[]"):rep(500000) .. '",[]]'
    local before = os.clock()
    assert.equal(text, encode(decode(text)))
    assert.is_true(os.clock() - before < 2)
  end)

  local function same(a, b)
    if type(a) ~= type(b) then return false end
    if type(a) ~= "table" then return a == b end
    if next(a) == nil and getmetatable(a) ~= getmetatable(b) then return false end
    for name, value in pairs(a) do if not same(value, b[name]) then return false end end
    for name in pairs(b) do if a[name] == nil then return false end end
    return true
  end

  -- The same sequence under every Lua.
  local seed = 20180601
  local function random(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end

  local PIECES = { "", "a", "[]", "{}", "\"", "\\", "\n", "\1", "\127", "é", "€", "😀",
    "12345678901234567", "u0000", "/", ":", ",", " ", "i", "-", "\239\187\191" }

  local function random_text()
    local pieces = {}
    for i = 1, random(6) do pieces[i] = PIECES[random(#PIECES)] end
    if random(40) == 1 then pieces[#pieces + 1] = "\0" end
    return table.concat(pieces)
  end

  local function random_number()
    local kind = random(5)
    if kind == 1 then return random(10) - 5 end
    if kind == 2 then return (random(2147483646) - 2 ^ 30) * 2 ^ (random(22) - 1) end
    if kind == 3 then return random(2147483646) / random(2147483646) end
    if kind == 4 then return random(2147483646) * 2.0 ^ (random(1800) - 900) end
    if not INTEGERS then return -random(2147483646) end
    return math.tointeger(random(2147483646)) * 4294967296 + random(2147483646)
  end

  local random_value

  local MAKERS = {
    function() return null end,
    function() return random(2) == 1 end,
    random_number, random_number, random_text, random_text,
    function(depth)
      local list = array()
      for i = 1, random(5) - 1 do list[i] = random_value(depth + 1) end
      return list
    end,
    function(depth)
      local object = {}
      for _ = 1, random(5) - 1 do object[random_text()] = random_value(depth + 1) end
      return object
    end,
  }

  function random_value(depth)
    return MAKERS[random(depth > 5 and 6 or 8)](depth)
  end

  it("gives random values back", function()
    for i = 1, 5000 do
      local value = random_value(0)
      local text = assert(encode(value))
      local back, err = decode(text)
      assert.is_nil(err)
      assert.truthy(same(value, back), ("value %d comes back changed: %s"):format(i, text))
      assert.equal(text, encode(back))
    end
  end)

  it("does not depend on the locale's decimal sign", function()
    local before = os.setlocale()
    local found
    for _, name in ipairs { "de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8",
      "nl_NL.UTF-8", "ru_RU.UTF-8" } do
      found = found or os.setlocale(name)
    end
    if not found then return pending "no locale with a decimal comma is installed" end
    finally(function() os.setlocale(before) end)
    assert.equal("[0.5,-1.25,1e-07,1.5]", encode { 0.5, -1.25, 1e-7, 1.5 })
    assert.same({ 0.5, -1.25, 12 }, decode "[0.5,-1.25,12]")
    assert.equal("[0.30000000000000004]", encode(decode "[0.30000000000000004]"))
  end)
end)

describe("the writer", function()
  it("survives a finalizer that changes the table that is being written", function()
    for _ = 1, 200 do
      local target = { a = 1, b = 2, c = 3 }
      local function spoil()
        for i = 1, 50 do target["x" .. i] = i end
        target.a = nil
      end
      if newproxy then
        getmetatable(newproxy(true)).__gc = spoil
      else
        setmetatable({}, { __gc = spoil })
      end
      pcall(encode, { target, ("x"):rep(1000), target })
      collectgarbage "step"
    end
    collectgarbage()
  end)
end)
