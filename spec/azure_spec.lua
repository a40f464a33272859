--- Azure credentials: what Microsoft Entra is asked, how often, and what a failure comes to.
local azure = require "cloudsync.azure"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local SCOPE = "https://management.azure.com/.default"
local random = core.random

local function call(adf, options)
  return adf.integration_runtimes:get({ integrationRuntimeName = "ir-0001" }, options)
end

local function client(credential, overrides)
  local options = { credential = credential }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

local function asked() return support.requests "service=entra" end

local function entra(rule)
  rule.match = { service = "entra" }
  return rule
end

-- The fields of a form as they were before they were encoded.
local function form(body)
  local fields, order = {}, {}
  for name, value in body:gmatch "([^&=]+)=([^&]*)" do
    assert(fields[name] == nil, "a field is there twice")
    fields[name] = value:gsub("%+", " "):gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    order[#order + 1] = name
  end
  table.sort(order)
  return fields, order
end

local function start()
  support.reset()
  core.random = function() return 0.01 end
end

local function finish() core.random = random end

describe("a client secret credential", function()
  before_each(start)
  after_each(finish)

  it("asks for a token exactly as documented", function()
    assert.is_table((call(client(support.credential()))))
    local requests = asked()
    assert.equal(1, #requests)
    local request = requests[1]
    assert.equal("POST", request.method)
    assert.equal("/" .. support.env "TENANT_ID" .. "/oauth2/v2.0/token", request.uri)
    assert.matches("^application/x%-www%-form%-urlencoded", request.headers["content-type"])
    assert.is_nil(request.headers.authorization)
    local fields, names = form(request.body)
    assert.same({ "client_id", "client_secret", "grant_type", "scope" }, names)
    assert.equal(support.env "CLIENT_ID", fields.client_id)
    assert.equal(support.env "CLIENT_SECRET", fields.client_secret)
    assert.equal("client_credentials", fields.grant_type)
    assert.equal(SCOPE, fields.scope)
  end)

  it("sends the token that it got", function()
    local credential = support.credential()
    call(client(credential))
    local token, request = (credential:get_token(SCOPE)), support.requests("service=arm")[1]
    assert.equal("Bearer " .. token:reveal(), request.headers.authorization)
  end)

  for _, secret in ipairs { "a+b", "a%2Bb", "a&client_id=other", " lead and trail ", "=", "~-._",
    "\195\169\226\130\172", '"\\', "a;b", "a\tb", ("long"):rep(500) } do
    it(("sends the secret %q as it is"):format(secret:sub(1, 20)), function()
      support.credential({ client_secret = secret, retries = 0 }):get_token(SCOPE)
      assert.equal(secret, form(asked()[1].body).client_secret)
    end)
  end

  it("takes the secret as an object that does not show it", function()
    local secret = cloudsync.secret(support.env "CLIENT_SECRET")
    assert.is_table((call(client(support.credential { client_secret = secret }))))
  end)

  it("asks the authority that it is given, with or without a slash behind it", function()
    local credential = support.credential { authority = support.env "AUTHORITY" .. "/" }
    assert.is_table((call(client(credential))))
    assert.equal("/" .. support.env "TENANT_ID" .. "/oauth2/v2.0/token", asked()[1].uri)
  end)

  it("returns a token and when it expires", function()
    support.control("POST", "settings", { token_lifetime = 1000 })
    local token, expires_on = support.credential():get_token(SCOPE)
    assert.equal("<secret>", tostring(token))
    assert.matches("^[%w_-]+%.[%w_-]+%.[%w_-]+$", token:reveal())
    assert.is_true(math.abs(expires_on - (os.time() + 999)) <= 2)
  end)

  it("asks once for all the calls of all its clients", function()
    local credential = support.credential()
    for _ = 1, 3 do
      local adf = client(credential)
      for _ = 1, 3 do assert.is_table((call(adf))) end
    end
    assert.equal(1, #asked())
  end)

  it("asks once for each scope", function()
    local credential = support.credential()
    for _ = 1, 2 do
      credential:get_token(SCOPE)
      credential:get_token "https://vault.azure.net/.default"
    end
    assert.equal(2, #asked())
  end)

  it("shares nothing with another credential", function()
    support.credential():get_token(SCOPE)
    support.credential():get_token(SCOPE)
    assert.equal(2, #asked())
  end)

  it("gives nobody a token that was rejected, though another had it fetched", function()
    local cache = require "cloudsync.token_cache".new(function(_, _, rejected)
      cloudsync.sleep(0.05)
      return rejected == "first" and "second" or "first", 3600
    end)
    local other = cloudsync.spawn(cache.get, cache, SCOPE)
    local own = cloudsync.spawn(cache.get, cache, SCOPE, "first")
    assert.equal("first", (other:wait()))
    assert.equal("second", (own:wait()))
  end)

  it("asks once for 64 concurrent first calls", function()
    support.fault(entra { delay = 0.1 })
    local adf, items = client(support.credential()), {}
    for i = 1, 64 do items[i] = i end
    local results, failures = cloudsync.map(items, function() return call(adf) end,
      { concurrency = 64 })
    assert.equal(0, #failures)
    assert.equal(64, #results)
    assert.equal(1, #asked())
  end)

  it("asks once for 64 concurrent first calls that fail", function()
    support.fault(entra { delay = 0.1, status = 400, times = 0 })
    local adf, items = client(support.credential()), {}
    for i = 1, 64 do items[i] = i end
    local _, failures = cloudsync.map(items, function() return call(adf) end, { concurrency = 64 })
    assert.equal(64, #failures)
    assert.equal(1, #asked())
    for _, failure in ipairs(failures) do assert.equal("auth", failure.err.kind) end
  end)

  it("does not give its callers the same error object", function()
    local adf = client(support.credential { client_secret = "wrong" })
    local _, first = call(adf)
    local _, second = call(adf)
    assert.is_false(rawequal(first, second))
  end)

  it("replaces a token before it expires, and no call fails for it", function()
    support.control("POST", "settings", { token_lifetime = 3 })
    local adf = client(support.credential())
    assert.is_table((call(adf)))
    cloudsync.sleep(0.2)
    assert.is_table((call(adf)))
    assert.equal(1, #asked())
    cloudsync.sleep(1.1) -- half of its life of 2 s is over
    local _, response = call(adf)
    assert.equal(1, response.attempts)
    assert.equal(2, #asked())
  end)

  it("goes on with a token that is still good where no new one is to be had", function()
    support.control("POST", "settings", { token_lifetime = 3 })
    local adf = client(support.credential { retries = 0 })
    assert.is_table((call(adf)))
    cloudsync.sleep(1.1)
    support.fault(entra { status = 500, times = 0 })
    local result, response = call(adf)
    assert.is_table(result)
    assert.equal(1, response.attempts)
    assert.equal(2, #asked())
    assert.is_table((call(adf)))
    assert.equal(2, #asked())
  end)

  it("replaces a token that has expired", function()
    support.control("POST", "settings", { token_lifetime = 2 })
    local adf = client(support.credential())
    assert.is_table((call(adf)))
    cloudsync.sleep(1.1) -- it lives for 1 s
    local _, response = call(adf)
    assert.equal(1, response.attempts)
    assert.equal(2, #asked())
  end)

  it("replaces a revoked token once for many concurrent calls", function()
    local adf, items = client(support.credential()), {}
    for i = 1, 32 do items[i] = i end
    assert.is_table((call(adf)))
    support.control("POST", "tokens/revoke")
    support.control("DELETE", "requests")
    support.fault { entra { delay = 0.1 },
      { delay = 0.2, times = 32, match = { service = "arm" } } } -- none is refused before all are sent
    local _, failures = cloudsync.map(items, function()
      local result, response = call(adf)
      if result and response.attempts > 2 then return nil, "more than one repeat" end
      return result, response
    end, { concurrency = 32 })
    assert.equal(0, #failures)
    assert.equal(1, #asked())
    assert.equal(64, #support.requests "service=arm")
  end)

  it("reports a renewal that fails once, as what it is", function()
    local adf = client(support.credential { retries = 0 })
    assert.is_table((call(adf)))
    support.control("POST", "tokens/revoke")
    support.control("DELETE", "requests")
    support.fault(entra { status = 400, times = 0,
      body = { error = "invalid_client", error_description = "AADSTS7000222: expired" } })
    local _, err = call(adf)
    assert.equal("auth", err.kind)
    assert.equal("invalid_client", err.code)
    assert.matches("AADSTS7000222", err.message)
    assert.equal("rejected", err.outcome)
    assert.equal(401, err.status)
    assert.equal(1, err.attempts)
    assert.equal(1, #asked())
    assert.equal(1, #support.requests "service=arm")
  end)

  it("says what is wrong with a secret", function()
    local _, err = call(client(support.credential { client_secret = "wrong-secret" }))
    assert.equal("auth", err.kind)
    assert.equal("invalid_client", err.code)
    assert.equal(401, err.status)
    assert.equal("not_sent", err.outcome)
    assert.matches("Entra", err.message)
    assert.matches("AADSTS7000215: Invalid client secret", err.message, 1, true)
    assert.equal("integration_runtimes:get", err.operation)
    assert.is_false(err.retryable)
    assert.is_nil(tostring(err):find("wrong-secret", 1, true))
    assert.equal(1, #asked())
    assert.equal(0, #support.requests "service=arm")
  end)

  it("says what is wrong with an application and a tenant", function()
    local _, err = support.credential({ client_id = "nobody" }):get_token(SCOPE)
    assert.equal("unauthorized_client", err.code)
    assert.matches("AADSTS700016", err.message)
    _, err = support.credential({ tenant_id = "nowhere" }):get_token(SCOPE)
    assert.equal("invalid_request", err.code)
    assert.matches("AADSTS90002", err.message)
    _, err = support.credential({ tenant_id = "no/where" }):get_token(SCOPE)
    assert.equal("argument", err.kind)
    assert.matches("tenant", err.message)
  end)

  it("does not ask again within a second of a failure", function()
    local adf = client(support.credential { client_secret = "wrong" })
    local _, first = call(adf)
    local _, second = call(adf)
    assert.equal(first.code, second.code)
    assert.equal("auth", second.kind)
    assert.equal(1, #asked())
  end)

  it("gets over two failures of the token endpoint", function()
    support.fault(entra { status = 500, times = 2 })
    assert.is_table((call(client(support.credential()))))
    assert.equal(3, #asked())
  end)

  it("gets over a token endpoint that is busy, when it said", function()
    support.fault(entra { status = 429, headers = { ["x-ms-retry-after-ms"] = "200" } })
    assert.is_table((call(client(support.credential()))))
    local requests = asked()
    assert.equal(2, #requests)
    assert.is_true(requests[2].time - requests[1].time >= 0.19)
  end)

  it("gets over a connection to the token endpoint that is reset", function()
    support.fault(entra { kind = "reset_before", times = 2 })
    assert.is_table((call(client(support.credential()))))
  end)

  -- What the token endpoint does, and what kind of failure that is to the caller.
  local failures = {
    { "busy all the time", { status = 429, headers = { ["Retry-After"] = "0" } }, "throttled" },
    { "out of order", { status = 500 }, "service" },
    { "a proxy's page", { kind = "html" }, "protocol" },
    { "a proxy's failure", { kind = "html", status = 502 }, "service" },
    { "half of an answer", { kind = "bad_json" }, "protocol" },
    { "empty", { kind = "empty" }, "protocol" },
    { "without a token", { status = 200, body = { expires_in = 3599 } }, "protocol" },
    { "a token that is a number", { status = 200, body = { access_token = 1 } }, "protocol" },
    { "a token that is empty", { status = 200, body = { access_token = "", expires_in = 3599 } },
      "protocol" },
    { "a list", { status = 200, body = "[]" }, "protocol" },
    { "resetting", { kind = "reset_before" }, "transport" },
    { "redirecting", { kind = "redirect" }, "protocol" },
    { "without end", { kind = "endless" }, "limit", { max_response_bytes = 65536 } },
    { "slow", { delay = 0.5 }, "timeout", { timeout = 0.1 } },
  }
  for _, case in ipairs(failures) do
    it("reports a token endpoint that is " .. case[1], function()
      case[2].times = 0
      support.fault(entra(case[2]))
      local overrides = { retries = 1 }
      for name, value in pairs(case[4] or {}) do overrides[name] = value end
      local _, err = call(client(support.credential(overrides)))
      assert.equal(case[3], err.kind)
      assert.equal("not_sent", err.outcome)
      assert.equal("integration_runtimes:get", err.operation)
      assert.matches("Entra", err.message)
      assert.equal(0, err.attempts)
      assert.is_true(#asked() <= 4)
      assert.equal(0, #support.requests "service=arm")
      assert.equal(0, #support.requests "service=other")
    end)
  end

  it("reports a token endpoint that can't be reached", function()
    for endpoint, retryable in pairs { REFUSED = true, RESET = true, WRONG_NAME = false } do
      local credential = support.credential { authority = support.env(endpoint), retries = 0 }
      local _, err = call(client(credential))
      assert.equal("transport", err.kind)
      assert.equal("not_sent", err.outcome)
      assert.equal(retryable, err.retryable)
      assert.matches("Entra", err.message)
    end
    assert.equal(0, #support.requests())
  end)

  local function answer(expires_in)
    local body = ('{"token_type":"Bearer","access_token":"%s"%s}')
      :format(support.env "STATIC_TOKEN", expires_in and ',"expires_in":' .. expires_in or "")
    support.fault(entra { status = 200, body = body, times = 0 })
  end

  for text, life in pairs { ["1800"] = 1800, ['"1800"'] = 1800, ["1800.0"] = 1800,
    ["null"] = 3600, ['"soon"'] = 3600, ["[]"] = 3600 } do
    it("understands that a token lives for " .. text, function()
      answer(text)
      local credential = support.credential()
      local token, expires_on = credential:get_token(SCOPE)
      assert.equal(support.env "STATIC_TOKEN", token:reveal())
      assert.is_true(math.abs(expires_on - os.time() - life) <= 2)
      credential:get_token(SCOPE)
      assert.equal(1, #asked())
    end)
  end

  it("takes a token for an hour where its life is not told", function()
    answer(nil)
    local _, expires_on = support.credential():get_token(SCOPE)
    assert.is_true(math.abs(expires_on - os.time() - 3600) <= 2)
  end)

  for _, life in ipairs { "0", "-5" } do
    it("does not ask without end for a token that lives for " .. life .. " s", function()
      answer(life)
      local result, err = call(client(support.credential()), { deadline = 0.3 })
      assert.is_true(#asked() <= 2, "it asked " .. #asked() .. " times")
      assert.is_true(result ~= nil or err.kind == "protocol" or err.kind == "auth")
    end)
  end

  it("keeps within the deadline of the call", function()
    support.fault(entra { delay = 1 })
    local started = cloudsync.now()
    local _, err = call(client(support.credential()), { deadline = 0.2 })
    assert.is_true(cloudsync.now() - started < 0.3)
    assert.equal("timeout", err.kind)
    assert.equal("not_sent", err.outcome)
  end)

  it("serves others though the call that asked has run out of time", function()
    support.fault(entra { delay = 0.3, times = 1 })
    local adf = client(support.credential())
    local hasty = cloudsync.spawn(function() return call(adf, { deadline = 0.1 }) end)
    local patient = cloudsync.spawn(function() return call(adf) end)
    local _, err = hasty:wait()
    assert.equal("timeout", err.kind)
    local result = patient:wait()
    assert.equal("ir-0001", result.name)
  end)

  it("lets a call run out of time that waits for another's", function()
    support.fault(entra { delay = 0.4, times = 1 })
    local adf = client(support.credential())
    local patient = cloudsync.spawn(function() return call(adf) end)
    local hasty = cloudsync.spawn(function()
      local started = cloudsync.now()
      local _, err = call(adf, { deadline = 0.1 })
      return err, cloudsync.now() - started
    end)
    local err, spent = hasty:wait()
    assert.equal("timeout", err.kind)
    assert.equal("not_sent", err.outcome)
    assert.is_true(spent < 0.2)
    assert.equal("ir-0001", patient:wait().name)
    assert.equal(1, #asked())
  end)

  it("raises for what is missing or unknown, by its name", function()
    for name, pattern in pairs { tenant_id = "tenant_id", client_id = "client_id",
      client_secret = "client_secret" } do
      local options = { tenant_id = "t", client_id = "c", client_secret = "s" }
      options[name] = nil
      local ok, why = pcall(azure.client_secret_credential, options)
      assert.is_false(ok)
      assert.matches(pattern, why)
    end
    local ok, why = pcall(support.credential, { tennant = "x" })
    assert.is_false(ok)
    assert.matches("tennant", why)
    ok, why = pcall(support.credential, { cloud = "publik", authority = false })
    assert.is_false(ok)
    assert.matches("public", why)
    ok, why = pcall(support.credential, { client_secret = 42 })
    assert.is_false(ok)
    assert.matches("client_secret", why)
    assert.is_false((pcall(azure.client_secret_credential)))
  end)

  it("raises for a scope that is none", function()
    assert.is_false((pcall(function() return support.credential():get_token() end)))
  end)
end)

describe("an environment credential", function()
  local getenv = os.getenv
  local variables

  before_each(function()
    start()
    variables = {
      AZURE_TENANT_ID = support.env "TENANT_ID", AZURE_CLIENT_ID = support.env "CLIENT_ID",
      AZURE_CLIENT_SECRET = support.env "CLIENT_SECRET",
      AZURE_AUTHORITY_HOST = support.env "AUTHORITY",
    }
    -- luacheck: ignore 122
    os.getenv = function(name)
      if name:find "^AZURE_" then return variables[name] end
      return getenv(name)
    end
  end)
  after_each(function()
    os.getenv = getenv -- luacheck: ignore 122
    finish()
  end)

  local function make() return azure.environment_credential { ca_file = support.env "CA_FILE" } end

  it("signs in with what the variables say", function()
    assert.is_table((call(client(make()))))
    local fields = form(asked()[1].body)
    assert.equal(support.env "CLIENT_ID", fields.client_id)
    assert.equal(support.env "CLIENT_SECRET", fields.client_secret)
  end)

  for _, name in ipairs { "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET" } do
    for _, value in ipairs { "unset", "empty" } do
      it(("says that %s is %s"):format(name, value), function()
        variables[name] = value == "empty" and "" or nil
        local token, err = make():get_token(SCOPE)
        assert.is_nil(token)
        assert.equal("auth", err.kind)
        assert.equal("CredentialUnavailable", err.code)
        assert.matches(name, err.message, 1, true)
        for other in pairs { AZURE_TENANT_ID = 1, AZURE_CLIENT_ID = 1, AZURE_CLIENT_SECRET = 1 } do
          if other ~= name then assert.is_nil(err.message:find(other, 1, true)) end
        end
        local _, failure = call(client(make()))
        assert.equal("CredentialUnavailable", failure.code)
        assert.equal("not_sent", failure.outcome)
        assert.equal(0, #support.requests())
      end)
    end
  end

  it("names all variables that are missing", function()
    variables = {}
    local _, err = azure.environment_credential():get_token(SCOPE)
    assert.matches("AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_TENANT_ID", err.message)
  end)

  it("takes an authority that is given rather than the variable's", function()
    variables.AZURE_AUTHORITY_HOST = support.env "REFUSED"
    local credential = azure.environment_credential { ca_file = support.env "CA_FILE",
      authority = support.env "AUTHORITY" }
    assert.is_table((call(client(credential))))
  end)
end)

describe("a static token credential", function()
  before_each(start)
  after_each(finish)

  it("sends the token, given as a string or as a secret", function()
    local token = support.env "STATIC_TOKEN"
    for _, given in ipairs { token, cloudsync.secret(token) } do
      assert.is_table((call(client(azure.static_token_credential(given)))))
    end
    for _, request in ipairs(support.requests()) do
      assert.equal("Bearer " .. token, request.headers.authorization)
    end
  end)

  it("raises where there is no token", function()
    assert.is_false((pcall(azure.static_token_credential)))
    assert.is_false((pcall(azure.static_token_credential, 42)))
  end)
end)

describe("an object with get_token", function()
  before_each(start)
  after_each(finish)

  it("is a credential, asked with itself and the scope before each call", function()
    local credential = { calls = {} }
    function credential:get_token(scope)
      self.calls[#self.calls + 1] = scope
      return support.env "STATIC_TOKEN", os.time() + 3600
    end
    local adf = client(credential)
    assert.is_table((call(adf)))
    assert.is_table((call(adf)))
    assert.same({ SCOPE, SCOPE }, credential.calls)
  end)

  it("may wait, as a task does", function()
    local credential = { get_token = function()
      cloudsync.sleep(0.05)
      return support.env "STATIC_TOKEN"
    end }
    local adf = client(credential)
    assert.is_table((call(adf)))
    assert.is_table((cloudsync.run(call, adf)))
  end)

  it("is asked once more after a 401, and told what was rejected", function()
    local rejected = {}
    local credential = { get_token = function(_, _, context)
      rejected[#rejected + 1] = context.rejected or "none"
      return context.rejected and support.env "STATIC_TOKEN" or "stale"
    end }
    local _, response = call(client(credential))
    assert.equal(2, response.attempts)
    assert.same({ "none", "stale" }, rejected)
  end)

  it("that gives a rejected token again ends the call", function()
    local _, err = call(client { get_token = function() return "stale" end })
    assert.equal("auth", err.kind)
    assert.equal(401, err.status)
    assert.equal(1, #support.requests())
  end)

  local errors = require "cloudsync.error"
  local function check(get_token, kind, message)
    local _, err = call(client { get_token = get_token })
    assert.equal(kind, err.kind)
    assert.matches(message, err.message)
    assert.equal("not_sent", err.outcome)
    assert.equal("datafactory", err.service)
    assert.equal("integration_runtimes:get", err.operation)
    assert.equal(0, err.attempts)
    assert.equal(0, #support.requests())
    return err
  end

  it("may fail with a text", function()
    check(function() return nil, "the vault is sealed" end, "auth", "the vault is sealed")
  end)

  it("may fail with an error object, which stays as it is", function()
    local own = errors.new { kind = "timeout", code = "Sealed", message = "the vault is slow",
      retryable = true }
    local err = check(function() return nil, own end, "timeout", "the vault is slow")
    assert.equal("Sealed", err.code)
    assert.is_true(err.retryable)
    assert.is_nil(own.operation)
    assert.is_nil(own.outcome)
  end)

  it("may raise, which fails the call", function()
    check(function() error("the vault is on fire", 0) end, "auth", "the vault is on fire")
  end)

  it("may raise an error object, which fails the call", function()
    check(function() error(errors.new { kind = "denied", message = "no entry" }) end,
      "denied", "no entry")
  end)

  it("that gives nothing is said to have given no token", function()
    check(function() end, "auth", "token")
  end)

  for name, token in pairs { ["a number"] = 42, ["a table"] = {}, ["true"] = true,
    ["an empty text"] = "" } do
    it("that gives " .. name .. " is said to have given no token", function()
      check(function() return token end, "auth", "token")
    end)
  end

  it("may fail in any way, and the error tells whether a repeat is worth it", function()
    support.fault(entra { status = 200, body = "{}", times = 0 })
    for _, credential in ipairs {
      { get_token = function() return nil, "the vault is sealed" end },
      { get_token = function() return nil, errors.new { kind = "auth", message = "no" } end },
      azure.environment_credential(), support.credential(),
    } do
      local _, err = call(client(credential))
      assert.is_boolean(err.retryable)
    end
  end)

  it("that has no get_token raises", function()
    for _, wrong in ipairs { {}, "token", 42 } do
      assert.is_false((pcall(client, wrong)))
    end
  end)
end)

describe("a cloud", function()
  before_each(start)
  after_each(finish)

  local clouds = {
    public = { "https://management.azure.com", "https://login.microsoftonline.com" },
    usgovernment = { "https://management.usgovcloudapi.net", "https://login.microsoftonline.us" },
    china = { "https://management.chinacloudapi.cn", "https://login.chinacloudapi.cn" },
  }

  for cloud, hosts in pairs(clouds) do
    it(cloud .. " has its own Resource Manager", function()
      local adf = require "cloudsync.datafactory".new { cloud = cloud,
        credential = azure.static_token_credential "x", resourceGroupName = "g",
        subscriptionId = support.env "SUBSCRIPTION_ID", factoryName = "fff" }
      local request = call(adf, { dry_run = true })
      assert.equal(hosts[1] .. "/", request.url:sub(1, #hosts[1] + 1))
    end)

    it(cloud .. " has its own authority", function()
      local urls = {}
      -- the proxy refuses, so that nothing leaves this machine
      local credential = azure.client_secret_credential { cloud = cloud, tenant_id = "t",
        client_id = "c", client_secret = "s", retries = 0, proxy = "http://127.0.0.1:1",
        on_event = function(event) urls[#urls + 1] = event.url end }
      local _, err = credential:get_token(hosts[1] .. "/.default")
      assert.equal("transport", err.kind)
      assert.equal(hosts[2] .. "/t/oauth2/v2.0/token", urls[1])
    end)

    it(cloud .. " has its own scope", function()
      call(client(support.credential { cloud = cloud }, { cloud = cloud }))
      assert.equal(hosts[1] .. "/.default", form(asked()[1].body).scope)
    end)
  end

  it("that is unknown raises, with the name that may be meant", function()
    local ok, why = pcall(client, azure.static_token_credential "x", { cloud = "publik" })
    assert.is_false(ok)
    assert.matches("public", why)
  end)
end)

describe("a token that is due for renewal", function()
  before_each(support.reset)

  it("serves on where the renewal does not come in time", function()
    support.control("POST", "settings", { token_lifetime = 4 })
    local credential = support.credential()
    local token = assert(credential:get_token "x/.default")
    cloudsync.sleep(2.2)
    support.fault { match = { service = "entra" }, kind = "delay", delay = 5, times = 0 }
    local started = cloudsync.now()
    local again = credential:get_token("x/.default", { deadline = cloudsync.now() + 0.3 })
    assert.is_true(token == again)
    assert.is_true(cloudsync.now() - started < 0.5)
  end)
end)

describe("a mistake in a credential's options", function()
  it("is told in the user's words", function()
    for _, case in ipairs {
      { { tenantId = "t" }, "unknown option 'tenantId' %(did you mean 'tenant_id'%?%)" },
      { { tenant_id = "t", client_id = "c" }, "credential: client_secret is missing" },
    } do
      local ok, message = pcall(azure.client_secret_credential, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
    end
    local ok, message = pcall(azure.static_token_credential, nil)
    assert.is_false(ok)
    assert.matches("static_token_credential: a token expected, got nil", message)
  end)
end)
