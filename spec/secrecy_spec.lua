--- No secret is in what a program prints or logs, and none goes where it does not belong.
local azure = require "cloudsync.azure"
local cjson = require "cjson"
local cloudsync = require "cloudsync"
local datafactory = require "cloudsync.datafactory"
local support = require "spec.support"

local MARK = support.MARK
local SECRETS = {
  token = MARK .. "token.eyJ0eXAi-_.sig",
  header = MARK .. "header:with space",
  text = MARK .. [[text"quoted\back/slash+plus&amp é<b>']],
  plain = MARK .. "plain-password",
}

local leak, assert_secret = support.leak, support.assert_secret

describe("the search for secrets", function()
  it("finds one in a field, a key, a text and a fragment", function()
    assert.is_string(leak { a = { { b = SECRETS.plain } } })
    assert.is_string(leak { [SECRETS.plain] = 1 })
    assert.is_string(leak(setmetatable({}, { __tostring = function() return SECRETS.plain end })))
    assert.is_string(leak(cjson.encode(SECRETS.text)))
    assert.is_nil(leak { a = "b", c = cloudsync.secret(SECRETS.plain) })
  end)
end)

local events

local function record(event) events[#events + 1] = event end

local function client(overrides)
  local options = { on_event = record, credential = azure.static_token_credential(SECRETS.token) }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

local function linked_service()
  return {
    linkedServiceName = "store",
    linkedService = { properties = {
      type = "AzureSqlDatabase", annotations = { cloudsync.secret(SECRETS.plain .. "-3") },
      typeProperties = {
        connectionString = { type = "SecureString", value = SECRETS.text },
        password = SECRETS.plain, servicePrincipalKey = SECRETS.plain .. "-2",
        nested = { { encryptedCredential = SECRETS.text .. "2" } },
      },
    } },
  }
end

-- A call that carries every kind of secret.
local function call(adf, options)
  options = options or {}
  options.headers = { ["X-Api-Key"] = cloudsync.secret(SECRETS.header) }
  if options.retries == nil then options.retries = 0 end
  return adf.linked_services:create_or_update(linked_service(), options)
end

-- As .NET's encoder, which much of Azure uses, spells a text in JSON.
local function dotnet(text)
  return (text:gsub('["&\'<>+\\]', function(c) return ("\\u%04X"):format(c:byte()) end))
end

local function html(text)
  local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
    ["'"] = "&#39;" }
  return (text:gsub("[&<>\"']", entities))
end

local function join(spell)
  local parts = {}
  for _, text in pairs(SECRETS) do parts[#parts + 1] = spell(text) end
  table.sort(parts)
  return table.concat(parts, " | ")
end

local function same(text) return text end

local function in_json(text) return cjson.encode(text):sub(2, -2) end

-- What a server that repeats what it was sent may answer. `sent` is the body it got.
local ECHOES = {
  { "in the message of its error", function()
    return { error = { code = "Bad", message = "got " .. join(same) } }
  end },
  { "in the code of its error", function()
    return { error = { code = join(same), message = "bad" } }
  end },
  { "in the target of its error", function()
    return { error = { code = "Bad", message = "bad", target = join(same) } }
  end },
  { "in the details of its error", function()
    return { error = { code = "Bad", message = "bad", details = {
      { code = "Bad", message = join(same), details = { { target = join(same) } } },
      { additionalInfo = { { info = { value = SECRETS.text, list = { SECRETS.plain } } } } },
    } } }
  end },
  { "as a key in the details of its error", function()
    return { error = { code = "Bad", message = "bad", details = { { [SECRETS.plain] = "bad" } } } }
  end },
  { "in a flat error", function() return { code = "Bad", message = join(same) } end },
  { "in an error of an unknown shape", function() return { Fault = { Text = join(same) } } end },
  { "in a JSON string", function() return cjson.encode(join(same)) end },
  { "in a page", function() return "<html>" .. join(same) .. "</html>" end },
  { "in the header line in a page", function()
    return "<pre>Authorization: Bearer " .. SECRETS.token .. "\nX-Api-Key: " .. SECRETS.header
  end },
  { "in a page that shows what was sent", function(sent) return "<pre>" .. sent .. "</pre>" end },
  { "in half of a JSON document", function(sent) return '{"echo":' .. sent end },
  { "in a page, spelt as in JSON", function() return "<pre>" .. join(in_json) end },
  { "in a page, spelt as .NET does in JSON", function() return "<pre>" .. join(dotnet) end },
  { "in a page, spelt as in HTML", function() return "<pre>" .. join(html) .. "</pre>" end },
  { "at the end of what is kept of a page", function()
    return "<pre>" .. ("x"):rep(2048 - 5 - 12) .. SECRETS.token
  end },
}

describe("a secret is not shown", function()
  before_each(function()
    support.reset()
    events = {}
  end)

  it("by a dry run, which shows that there is one", function()
    local request = call(client(), { dry_run = true })
    assert_secret(request)
    assert.equal("<secret>", request.headers["X-Api-Key"])
    local properties = cjson.decode(request.body).properties
    assert.equal("<secret>", properties.typeProperties.connectionString.value)
    assert.equal("SecureString", properties.typeProperties.connectionString.type)
    assert.equal("<secret>", properties.typeProperties.password)
    assert.equal("<secret>", properties.annotations[1])
    assert.equal(0, #support.requests())
  end)

  it("though it is sent", function()
    call(client())
    local request = support.requests()[1]
    assert.equal("Bearer " .. SECRETS.token, request.headers.authorization)
    assert.equal(SECRETS.header, request.headers["x-api-key"])
    local properties = cjson.decode(request.body).properties
    assert.equal(SECRETS.text, properties.typeProperties.connectionString.value)
    assert.equal(SECRETS.plain, properties.typeProperties.password)
    assert.equal(SECRETS.plain .. "-3", properties.annotations[1])
  end)

  it("by the events of a call that is repeated and succeeds", function()
    local adf = client { credential = support.credential { on_event = record } }
    support.fault {
      { match = { service = "arm" }, status = 429, headers = { ["Retry-After"] = "0" } },
      { match = { service = "arm" }, status = 401 },
    }
    assert.is_table((call(adf, { retries = 2 })))
    assert.is_true(#events >= 8)
    assert_secret(events)
    local secret = support.env "CLIENT_SECRET"
    for _, event in ipairs(events) do
      for _, value in pairs(event) do
        assert.is_nil(tostring(value):find(secret, 1, true))
        assert.is_nil(tostring(value):find("eyJ", 1, true))
      end
    end
  end)

  for _, status in ipairs { 400, 401, 500, 200 } do
    for _, echo in ipairs(ECHOES) do
      it(("where the service answers %d and repeats it %s"):format(status, echo[1]), function()
        local adf = client()
        support.fault { status = 418 }
        call(adf)
        local sent = support.requests()[1].body
        local body = echo[2](sent)
        local text = type(body) == "table" and cjson.encode(body) or body
        -- an answer that can be read is the caller's
        if status == 200 and pcall(cjson.decode, text) then text = text .. "]" end
        support.fault { status = status, body = text, times = 0 }
        local _, err = call(adf)
        assert.equal(status, err.status)
        assert_secret(err)
        assert_secret(tostring(err))
        assert_secret(events)
      end)
    end
  end

  it("but the words around it are", function()
    support.fault { status = 400,
      body = { error = { code = "Bad", message = "the key " .. SECRETS.text .. " is bad" } } }
    local _, err = call(client())
    assert.equal("Bad", err.code)
    assert.equal("the key <secret> is bad", err.message)
  end)

  it("by the error of a call that no answer came to", function()
    for _, rule in ipairs { { kind = "reset_after" }, { kind = "redirect" },
      { kind = "redirect", location = "https://127.0.0.1:1/?" .. SECRETS.token } } do
      support.fault(rule)
      local _, err = call(client())
      assert.is_string(err.kind)
      assert_secret(err)
    end
    assert_secret(events)
  end)

  it("by an error about the value itself", function()
    local parameters = linked_service()
    parameters.linkedService.properties.typeProperties.password = SECRETS.plain .. "\255"
    local _, err = client().linked_services:create_or_update(parameters)
    assert.equal("argument", err.kind)
    assert_secret(err)
    _, err = client().linked_services:get({ linkedServiceName = "store" },
      { headers = { ["X-Api-Key"] = cloudsync.secret(SECRETS.header .. "\n") } })
    assert.equal("argument", err.kind)
    assert_secret(err)
    local ok, raised = pcall(call, client(), { dry_run = SECRETS.plain })
    assert.is_false(ok)
    assert_secret(raised)
  end)

  local results = {
    list_auth_keys = {}, get_connection_info = {},
    regenerate_auth_key = { regenerateKeyParameters = { keyName = "authKey1" } },
  }
  for name, parameters in pairs(results) do
    for _, rule in ipairs {
      { status = 200, body = '{"authKey1":"' .. SECRETS.plain .. '"' },
      { status = 502, body = '{"authKey1":"' .. SECRETS.plain .. '"' },
      { status = 202, body = { authKey1 = SECRETS.plain } },
    } do
      it(("by the error of %s, whose answer is one, with %d"):format(name, rule.status), function()
        support.fault(rule)
        parameters.integrationRuntimeName = "ir-0001"
        local runtimes = client().integration_runtimes
        local _, err = runtimes[name](runtimes, parameters, { retries = 0 })
        assert.equal(rule.status, err.status)
        assert.is_nil(err.body)
        assert_secret(err)
        assert_secret(events)
      end)
    end
  end

  it("by the error of a token endpoint that repeats what it was sent", function()
    local secret = SECRETS.text
    for _, status in ipairs { 400, 401, 500, 200 } do
      for _, body in ipairs {
        { error = "bad", error_description = "the secret " .. secret .. " is wrong" },
        "<html>" .. secret, "<html>" .. in_json(secret),
        "<html>client_secret=" .. secret:gsub("[^%w._~-]", function(c)
          return ("%%%02X"):format(c:byte())
        end),
        '{"access_token":"' .. secret .. '"',
      } do
        support.control("POST", "reset")
        support.fault { match = { service = "entra" }, status = status, body = body, times = 0 }
        local credential = support.credential { client_secret = secret, retries = 0,
          on_event = record }
        local _, err = call(client { credential = credential })
        assert.is_string(err.kind)
        assert_secret(err)
        assert_secret(events)
      end
    end
  end)

  it("by what a credential, a client and a secret look like as text", function()
    local credential = azure.static_token_credential(SECRETS.token)
    assert_secret(tostring(credential))
    assert_secret(tostring(cloudsync.secret(SECRETS.plain)))
    assert_secret(tostring(credential:get_token "scope"))
    assert_secret(support.credential { client_secret = SECRETS.plain }.cache)
  end)
end)

describe("a token is not sent", function()
  before_each(function()
    support.reset()
    events = {}
  end)

  local function port(name) return support.env(name):match ":(%d+)$" end

  local elsewhere = {
    ["to another port"] = function() return support.env "OTHER_ORIGIN" .. "/next" end,
    ["to another port without a scheme"] = function()
      return "//127.0.0.1:" .. port "OTHER_ORIGIN" .. "/next"
    end,
    ["over plain http"] = function() return support.env "PLAIN" .. "/next" end,
    ["to another name of the host"] = function()
      return "https://localhost:" .. port "ARM" .. "/next"
    end,
    ["behind a user name"] = function()
      return support.env "ARM" .. "@127.0.0.1:" .. port "OTHER_ORIGIN" .. "/next"
    end,
    ["behind a backslash"] = function()
      return "https:\\\\127.0.0.1:" .. port "OTHER_ORIGIN" .. "/next"
    end,
    ["behind a slash and a backslash"] = function()
      return "/\\127.0.0.1:" .. port "OTHER_ORIGIN" .. "/next"
    end,
    ["behind a space"] = function() return " " .. support.env "OTHER_ORIGIN" .. "/next" end,
    ["to a path that is no path"] = function()
      return "@127.0.0.1:" .. port "OTHER_ORIGIN" .. "/next"
    end,
    ["to a file"] = function() return "file:///etc/hostname" end,
    ["to another protocol"] = function() return "gopher://127.0.0.1:1/next" end,
    ["into a header"] = function() return "/next HTTP/1.1\r\nX-Injected: 1\r\n\r\n" end,
  }
  for name, link in pairs(elsewhere) do
    it("by a link to the next page " .. name, function()
      support.fault { kind = "next_link", next_link = link(), times = 0 }
      local items, err = client { credential = azure.static_token_credential(
        support.env "STATIC_TOKEN") }.integration_runtimes:list_by_factory():collect()
      assert.is_nil(items)
      assert.equal("protocol", err.kind)
      assert.equal(0, #support.requests "service=other")
      assert.equal(1, #support.requests())
      assert.equal(1, #support.requests "service=arm")
    end)
  end

  for _, status in ipairs { 301, 302, 303, 307, 308 } do
    for _, method in ipairs { "get", "sync_credentials" } do
      it(("by the redirect %d of %s"):format(status, method), function()
        for _, location in ipairs { support.env "OTHER_ORIGIN" .. "/", support.env "PLAIN" .. "/",
          support.env "ARM" .. "/", "/elsewhere" } do
          support.control("POST", "reset")
          support.fault { kind = "redirect", status = status, location = location, times = 0 }
          local runtimes = client().integration_runtimes
          local _, err = runtimes[method](runtimes, { integrationRuntimeName = "ir-0001" })
          assert.equal("protocol", err.kind)
          assert.equal("rejected", err.outcome)
          assert.equal(status, err.status)
          assert.equal(1, #support.requests())
        end
      end)
    end
  end

  it("nor is a client secret, by a redirect of the token endpoint", function()
    support.fault { match = { service = "entra" }, kind = "redirect", times = 0 }
    local credential = support.credential()
    local _, err = call(client { credential = credential })
    assert.is_string(err.kind)
    assert.equal(0, #support.requests "service=other")
    assert.equal(1, #support.requests "service=entra")
    assert.equal(0, #support.requests "service=arm")
  end)

  local function try(endpoint, overrides)
    local options = { endpoint = endpoint, credential = azure.static_token_credential "x",
      subscriptionId = support.env "SUBSCRIPTION_ID", resourceGroupName = "g", factoryName = "fff" }
    for name, value in pairs(overrides or {}) do options[name] = value end
    return pcall(datafactory.new, options)
  end

  local remote = { "http://sim.example", "HTTP://sim.example", "http://127.0.0.1.sim.example",
    "http://localhost.sim.example", "http://localhos", "http://127.sim.example",
    "http://128.0.0.1", "http://[::2]", "http://0x7f.sim.example", "http://localhost@sim.example",
    "http://127.0.0.1:80@sim.example" }
  for _, endpoint in ipairs(remote) do
    it("over plain http to another machine: " .. endpoint, function()
      local ok, why = try(endpoint)
      assert.is_false(ok)
      assert.matches("endpoint", why)
    end)
    it("nor is a client secret, to an authority at " .. endpoint, function()
      assert.is_false((pcall(support.credential, { authority = endpoint })))
    end)
  end

  it("over plain http, but to this machine, and where the program insists", function()
    for _, endpoint in ipairs { "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80",
      "http://127.8.9.10/path" } do
      assert.is_true((try(endpoint)), endpoint)
    end
    assert.is_true((try("http://sim.example", { allow_plain_http = true })))
  end)

  it("with a line break that would make a header of its rest", function()
    for _, endpoint in ipairs { "ARM", "PLAIN" } do
      for _, token in ipairs { "abc\r\nX-Injected: 1", "abc\nX-Injected: 1", "abc\rX-Injected: 1",
        "abc\r\n\r\n" } do
        local made, credential = pcall(azure.static_token_credential, token)
        if made then
          local adf = client { credential = credential, endpoint = support.env(endpoint) }
          local ok, _, err = pcall(call, adf)
          assert.is_true(not ok or err.outcome == "not_sent", "it was sent")
        end
        assert.equal(0, #support.requests())
      end
    end
  end)
end)
