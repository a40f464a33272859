-- Secrets: texts that can be passed on but not printed by mistake.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local secret = cloudsync.secret

describe("a secret", function()
  it("prints as <secret>", function()
    assert.equal("<secret>", tostring(secret "hush"))
    assert.equal("<secret>", tostring(secret ""))
    assert.equal("a <secret> b", ("a %s b"):format(tostring(secret "hush")))
  end)

  it("is formatted as <secret> with %s", function()
    assert.equal("<secret>", ("%s"):format(secret "hush"))
  end)

  for name, use in pairs {
    ["joined to a text"] = function(s) return "key=" .. s end,
    ["joined in front of a text"] = function(s) return s .. "!" end,
    ["joined to another"] = function(s) return s .. s end,
    ["joined in a list"] = function(s) return table.concat { s } end,
    ["measured"] = function(s) return #s end,
    ["compared by order"] = function(s) return s < secret "other" end,
    ["added to"] = function(s) return s + 1 end,
    ["called"] = function(s) return s() end,
    ["changed"] = function(s) s.bytes = "x" end,
    ["taken for a text"] = function(s) return string.upper(s) end,
  } do
    it(("can't be %s, and the message does not tell it"):format(name), function()
      local ok, err = pcall(use, secret "hush")
      assert.is_false(ok)
      assert.is_nil(tostring(err):find("hush", 1, true))
    end)
  end

  it("is revealed only where that is asked for", function()
    for _, text in ipairs { "", "hush", "a\0b\0", "\0", "\255\254", ("x"):rep(100000), "é\n" } do
      assert.equal(text, secret(text):reveal())
    end
  end)

  it("has nothing else to ask for", function()
    local s = secret "hush"
    assert.is_nil(s.bytes)
    assert.is_nil(s[1])
    assert.is_nil(s.length)
    assert.is_string(getmetatable(s))
    assert.has_error(function() setmetatable(s, {}) end)
  end)

  it("equals a secret with the same content and nothing else", function()
    assert.is_true(secret "hush" == secret "hush")
    assert.is_true(secret "" == secret "")
    assert.is_true(secret "a\0b" == secret "a\0b")
    assert.is_false(secret "hush" == secret "husH")
    assert.is_false(secret "hush" == secret "hush ")
    assert.is_false(secret "hush" == secret "")
    assert.is_false(secret "a\0b" == secret "a\0c")
    assert.is_false(secret "a" == secret "a\0")
    assert.is_false(secret "hush" == "hush")
  end)

  it("is made of a secret by giving it back", function()
    local s = secret "hush"
    assert.is_true(rawequal(s, secret(s)))
  end)

  for _, wrong in ipairs { 1, true, {}, print, io.stdout } do
    it(("can't be made of a %s"):format(type(wrong)), function()
      assert.has_error(function() secret(wrong) end)
    end)
  end

  it("can't be made of nothing", function()
    assert.has_error(function() secret() end)
    assert.has_error(function() secret(nil) end)
  end)

  it("does not let other values pass as it", function()
    local reveal = secret "hush".reveal
    for _, wrong in ipairs { io.stdout, {}, "hush", core.engine() } do
      assert.has_error(function() reveal(wrong) end)
    end
  end)

  it("survives the collection of others", function()
    local kept = {}
    for i = 1, 1000 do
      kept[i] = secret("kept " .. i)
      local _ = secret("dropped " .. i)
    end
    collectgarbage()
    collectgarbage()
    for i = 1, 1000 do assert.equal("kept " .. i, kept[i]:reveal()) end
  end)
end)

describe("a client with secrets", function()
  before_each(support.reset)

  local function told(call)
    local texts = {}
    local function collect(value, depth)
      if type(value) ~= "table" then
        texts[#texts + 1] = tostring(value)
      elseif depth < 6 then
        for name, item in pairs(value) do
          collect(name, depth + 1)
          collect(item, depth + 1)
        end
      end
    end
    local adf = support.datafactory { retries = 0, on_event = function(e) collect(e, 0) end }
    local result, err = call(adf)
    assert.is_nil(result)
    collect(err, 0)
    texts[#texts + 1] = tostring(err)
    return table.concat(texts, "\n")
  end

  it("tells none of them in events or errors where they are in the path", function()
    assert.is_nil(told(function(adf)
      return adf.integration_runtimes:get { integrationRuntimeName = secret "hush-hush" }
    end):find("hush-hush", 1, true))
  end)

  it("tells none of them in events or errors where they are in the query or the body", function()
    support.fault { match = { operation = "createRun" }, status = 400,
      body = { error = { code = "Bad", message = "hush-query and hush-body are wrong" } } }
    local text = told(function(adf)
      return adf.pipelines:create_run { pipelineName = "p",
        startActivityName = secret "hush-query", parameters = { key = secret "hush-body" } }
    end)
    assert.is_nil(text:find("hush", 1, true))
    assert.truthy(text:find("<secret>", 1, true))
  end)

  it("tells none of them in errors where they are in headers", function()
    support.fault { match = { method = "GET" }, status = 400,
      body = { error = { code = "Bad", message = "hush-header is wrong" } } }
    local text = told(function(adf)
      return adf.factories:get(nil, { headers = { ["X-Key"] = secret "hush-header" } })
    end)
    assert.is_nil(text:find("hush", 1, true))
  end)

  -- the server's words, with a secret é😀'"/ somewhere in them
  for how, said in support.sorted {
    ["plainly"] = "no hush-é😀'\"/ known",
    ["as JSON"] = [[{"key":"hush-\u00e9\ud83d\ude00\u0027\"\/"} and so on]],
    ["as JSON in capitals"] = [[{"key":"hush-\u00E9\uD83D\uDE00\u0027\u0022\u002F"} and so on]],
    ["as HTML"] = "<p>hush-é😀&apos;&quot;/</p>",
    ["as HTML, by numbers"] = "<p>hush-&#233;&#128512;&#39;&#34;&#47;</p>",
    ["as HTML, by hexadecimal numbers"] = "<p>hush-&#xe9;&#x1F600;&#x27;&#X22;&#x2f;</p>",
    ["as a URL"] = "no /hush-%C3%A9%F0%9F%98%80%27%22%2f known",
  } do
    it("tells none of them in errors where a server spells it " .. how, function()
      support.fault { match = { method = "GET" }, status = 500, body = said }
      local text = told(function(adf)
        return adf.factories:get(nil, { headers = { ["X-Key"] = secret "hush-é😀'\"/" } })
      end)
      assert.is_nil(text:find("hush", 1, true), text)
      assert.truthy(text:find("<secret>", 1, true))
    end)
  end

  it("tells none of them in errors where a server spells the lines of one as JSON", function()
    support.fault { match = { operation = "createRun" }, status = 400,
      body = [[not accepted: {"key":"hush\nl\/ne\r\tend"}]] }
    local text = told(function(adf)
      return adf.pipelines:create_run { pipelineName = "p",
        parameters = { key = secret "hush\nl/ne\r\tend" } }
    end)
    assert.is_nil(text:find("hush", 1, true), text)
  end)

  it("tells none of them in errors where what looks like an escape is none", function()
    support.fault { match = { method = "GET" }, status = 500,
      body = [[no "hush-\u0022-%41-&#65;-%"ED known]] }
    local text = told(function(adf)
      return adf.factories:get(nil, { headers = { ["X-Key"] = secret 'hush-"-%41-&#65;-%' } })
    end)
    assert.is_nil(text:find("hush", 1, true), text)
  end)

  it("tells no end of one that begins like another", function()
    support.fault { times = 4, match = { method = "GET" }, status = 400,
      body = { error = { code = "Bad", message = "hush-key, hush-key-two, hush-key-two-three" } } }
    for _ = 1, 4 do -- headers have no order
      local text = told(function(adf)
        return adf.factories:get(nil, { headers = { ["X-A"] = secret "hush-key-two",
          ["X-B"] = secret "hush-key", ["X-C"] = secret "hush-key-two-three" } })
      end)
      assert.is_nil(text:find("-two", 1, true), text)
      assert.is_nil(text:find("-three", 1, true), text)
    end
  end)

  it("does not tell its token, which a server repeats", function()
    local token = support.env "STATIC_TOKEN"
    support.fault { match = { method = "GET" }, status = 403,
      body = { error = { code = "Bad", message = "no rights for Bearer " .. token } } }
    local text = told(function(adf) return adf.factories:get() end)
    assert.is_nil(text:find(token, 1, true))
  end)
end)
