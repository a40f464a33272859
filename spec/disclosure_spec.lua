--- What people and programs get to see of secrets that were planted in everything that a client is
-- given, of each service: errors, events, dry runs, dumps, traces, the command's output, the process.
local arcgis = require "cloudsync.arcgis"
local azure = require "cloudsync.azure"
local cjson = require "cjson"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

local b64 = require "mime".b64

local MARK, assert_secret = support.MARK, support.assert_secret

local function secret(name) return MARK .. name .. "+1/2=" end

local HEADERS = { ["X-Api-Key"] = cloudsync.secret(secret "header") }

-- Ways to sign in with planted secrets, and answers that give planted tokens.
local TOKENS = {
  { match = { service = "entra" }, times = 0, status = 200,
    body = { access_token = MARK .. "entra-token", expires_in = 3600, token_type = "Bearer" } },
  { match = { service = "vcenter", method = "POST", path = "session$" }, times = 0, status = 201,
    body = cjson.encode(MARK .. "session") },
  { match = { operation = "generateToken" }, times = 0, status = 200,
    body = { token = MARK .. "arcgis-token", expires = (os.time() + 3600) * 1000 } },
}

local USER = "ops"
local PROXY = "http://ops:" .. MARK .. "proxy@127.0.0.1:1" -- no_proxy names what is called

local function with(defaults, overrides)
  local options = { ca_file = support.env "CA_FILE", proxy = PROXY, retries = 0 }
  for name, value in pairs(defaults) do options[name] = value end
  for name, value in pairs(overrides or {}) do options[name] = value end
  return options
end

local function of_datafactory(overrides)
  local events = overrides and overrides.on_event
  return support.datafactory(with({
    credential = support.credential(with({ client_secret = secret "client", on_event = events })),
  }, overrides))
end

local function of_vcenter(api)
  return function(overrides)
    return vcenter.new(with({ endpoint = support.env "VCENTER", username = USER, api = api,
      password = secret "password" }, overrides))
  end
end

local function of_arcgis(extra)
  return function(overrides)
    local options = with(extra, overrides)
    options.endpoint = support.env "ARCGIS"
    if options.portal then options.portal = support.env "PORTAL" end
    return arcgis.new(options)
  end
end

local function add_credential(gis, options)
  return gis.providers:add_credential({ providerID = "azgatvskp6",
    credential = arcgis.storage_account_key { storageAccountName = secret "account",
      storageAccountKey = cloudsync.secret(secret "key") } }, options)
end

local function start_sync(vc, options)
  return vc.sync_providers:start({ link = "link-1", provider = "tagging",
    credentials = { user_name = USER, password = secret "remote" } }, options)
end

-- Each carries a secret in its URL, its headers and its body, as far as the operation has them.
local SERVICES = {
  ["Data Factory"] = { make = of_datafactory, match = { service = "arm" },
    call = function(adf, options)
      return adf.linked_services:create_or_update({ linkedServiceName = "l",
        ifMatch = cloudsync.secret(secret "match"), linkedService = { properties = {
          type = "AzureSqlDatabase", typeProperties = {
            connectionString = { type = "SecureString", value = secret "connection" },
            password = secret "sql", key = cloudsync.secret(secret "value") } } } }, options)
    end },
  ["Data Factory, in a URL"] = { make = of_datafactory, match = { service = "arm" },
    call = function(adf, options)
      return adf.pipelines:create_run({ pipelineName = cloudsync.secret(MARK .. "name"),
        startActivityName = cloudsync.secret(secret "query"),
        parameters = { key = cloudsync.secret(secret "parameter") } }, options)
    end },
  ["vCenter on /api"] = { make = of_vcenter "api", match = { path = "/hvc/" }, call = start_sync },
  ["vCenter on /rest"] = { make = of_vcenter "rest", match = { path = "/hvc/" },
    call = start_sync },
  ["vCenter, whose link has a password"] = { make = of_vcenter "api", match = { path = "/hvc/" },
    call = function(vc, options)
      return vc.links:create({ psc_hostname = "h", domain_name = "d", username = USER,
        password = secret "domain" }, options)
    end },
  ["vCenter's login"] = { make = of_vcenter "api", match = { method = "POST", path = "session$" },
    call = function(vc) return vc.links:list() end },
  ["ArcGIS with a password"] = { make = of_arcgis { username = USER,
    password = secret "password" }, match = { operation = "add" }, call = add_credential },
  ["ArcGIS with a portal"] = { make = of_arcgis { username = USER, portal = true,
    password = secret "password" }, match = { operation = "add" }, call = add_credential },
  ["ArcGIS with a token"] = { make = of_arcgis { token = MARK .. "own-token" },
    match = { operation = "add" }, call = add_credential },
  ["ArcGIS's sign-in"] = { make = of_arcgis { username = USER, password = secret "password" },
    match = { operation = "generateToken" }, call = function(gis) return gis.providers:list() end },
}

-- All that came with the last request, as it came.
local function sent()
  local requests = support.requests "service=any"
  local request = requests[#requests]
  local parts = { request.uri, request.body }
  for _, value in pairs(request.headers) do parts[#parts + 1] = tostring(value) end
  return table.concat(parts, "\n")
end

-- The shapes of errors that services have, each with the text in all of its words.
local SHAPES = {
  { error = { code = "%s", message = "%s", target = "%s", details = { { message = "%s" } } } },
  { error_type = "%s", messages = { { id = "%s", default_message = "%s", args = { "%s" } } } },
  { status = "error", code = 400, messages = { "%s", "%s" } },
  { error = "invalid_client", error_description = "%s" },
}

local function fill(shape, text)
  if type(shape) ~= "table" then return shape == "%s" and text or shape end
  local filled = {}
  for name, value in pairs(shape) do filled[name] = fill(value, text) end
  return filled
end

local function reset()
  collectgarbage() -- sessions of earlier clients close now, not within the test
  collectgarbage()
  support.reset()
  support.fault(TOKENS)
end

describe("planted in all that a client is given, no secret of", function()
  before_each(reset)

  -- Calls where this rule applies, and searches all that comes of it.
  local function search(service, rule, options)
    local events = {}
    local client = service.make { on_event = function(event) events[#events + 1] = event end,
      timeout = rule.delay and 0.05 or nil }
    local matched = { match = service.match, times = 0 }
    for name, value in pairs(rule) do matched[name] = value end
    support.control("DELETE", "faults")
    support.fault(matched)
    support.fault(TOKENS)
    local call_options = { headers = HEADERS }
    for name, value in pairs(options or {}) do call_options[name] = value end
    local result, err = service.call(client, call_options)
    assert.is_nil(result)
    assert.is_string(err.kind)
    assert.is_true(#events >= 2)
    for _, seen in ipairs { err, tostring(err), events, client, tostring(client) } do
      assert_secret(seen)
      assert.is_nil(tostring(seen):find(b64(USER .. ":" .. secret "password"), 1, true))
    end
    return err
  end

  for name, service in support.sorted(SERVICES) do
    it(name .. " is in an error of what may go wrong on the way, or its events", function()
      for _, rule in ipairs {
        { kind = "reset_before" }, { kind = "reset_after" }, { kind = "truncated" },
        { kind = "bad_json" }, { kind = "html" }, { kind = "redirect" },
        { kind = "redirect", location = "https://host.example/?" .. MARK }, { delay = 0.2 },
      } do
        if rule.kind ~= "bad_json" and rule.kind ~= "truncated" or name:find "Factory$" then
          search(service, rule)
        end
      end
    end)

    it(name .. " is in an error of a service that repeats all it was sent", function()
      search(service, { status = 418 })
      local text = sent()
      assert.is_truthy(text:find(MARK, 1, true) or text:find("Basic ", 1, true))
      for _, status in ipairs { 400, 401, 403, 429, 500 } do
        reset()
        search(service, { status = status, body = "<pre>" .. text })
        for _, shape in ipairs(SHAPES) do
          search(service, { status = status, body = cjson.encode(fill(shape, text)) })
        end
      end
      search(service, { status = 200, body = "<pre>" .. text })
    end)

    it(name .. " is in the events of repeats", function()
      local random = core.random
      core.random = function() return 0.01 end
      local err = search(service, { status = 429, headers = { ["Retry-After"] = "0" },
        body = "<pre>" .. MARK:sub(1, 3) }, { retries = 2 })
      core.random = random
      assert.is_string(err.kind)
    end)

    if not name:find "login" and not name:find "sign%-in" then
      it(name .. " is in a dry run, for which nothing is sent", function()
        local shown = assert(service.call(service.make(), { dry_run = true, headers = HEADERS }))
        assert_secret(shown)
        assert.equal("<secret>", shown.headers["X-Api-Key"])
        assert.equal(0, #support.requests "service=any")
      end)
    end
  end
end)

---------------------------------------------------------------------------------------------------

describe("a trace", function()
  before_each(reset)

  local function traced(fn, ...)
    local arguments = { ... }
    return select(2, xpcall(function() fn(arguments[1], arguments[2]) end, debug.traceback))
  end

  it("of an option of a wrong type shows no value", function()
    local token = MARK .. "token"
    for _, name in ipairs { "timeout", "retries", "deadline", "insecure", "connect_timeout",
      "on_event", "max_response_bytes", "allow_plain_http", "credential" } do
      local said = traced(support.datafactory, { [name] = token })
      assert.matches(name, said)
      assert_secret(said)
    end
    for _, said in ipairs {
      traced(azure.static_token_credential, token .. "\n"),
      traced(support.credential, { client_secret = { token } }),
      traced(support.credential, { cache = token }),
      traced(of_vcenter "api", { password = { token } }),
      traced(of_vcenter "api", { api = token }),
      traced(of_arcgis {}, { token = { token } }),
      traced(of_arcgis {}, { jobs_path = token, token = token }),
      traced(of_arcgis {}, { password = token }),
      traced(arcgis.storage_account_key, { storageAccountName = token }),
      traced(arcgis.storage_account_key, { storageAccountName = token, storageAccountKey = 1 }),
    } do
      assert.is_string(said)
      assert_secret(said)
    end
  end)

  it("of a call that is a mistake shows no value", function()
    local adf, token = of_datafactory(), MARK .. "token"
    for _, said in ipairs {
      traced(function() adf.factories:get(token) end),
      traced(function() adf.factories:get(nil, { dry_run = token }) end),
      traced(function() adf.factories:get(nil, { headers = { Authorization = token } }) end),
      traced(function() adf.factories:get(nil, { headers = { "Authorization: " .. token } }) end),
      traced(function() adf.linked_services:get { linkedServiceName = { token } } end),
      traced(function() adf.linked_services:create_or_update {
        linkedServiceName = "l", linkedService = token } end),
      traced(function() adf.linked_services:create_or_update { linkedServiceName = "l",
        linkedService = { properties = { [1] = token, typeProperties = token } } } end),
      traced(function() adf:poller(token) end),
      traced(function() return "Bearer " .. cloudsync.secret(token) end),
    } do
      assert.matches("traceback", said)
      assert_secret(said)
    end
  end)

  it("from inside of an observer shows none, and what it raises ends no call", function()
    local traces = {}
    local function raise()
      traces[#traces + 1] = debug.traceback()
      error "the observer's own"
    end
    for _, service in pairs(SERVICES) do
      reset()
      support.fault { match = service.match, status = 500, times = 0 }
      local client = service.make { on_event = raise }
      local ok, result, err = pcall(service.call, client, { headers = HEADERS })
      assert.is_true(ok)
      assert.is_nil(result)
      assert_secret(err)
    end
    assert.is_true(#traces > 10)
    assert_secret(traces)
  end)

  it("from inside of on_progress shows none, and what it raises ends no waiting", function()
    reset()
    support.control("POST", "settings", { operation_seconds = 0.1, operation_retry_after = 0 })
    local traces = {}
    local handle = assert(support.datafactory { proxy = PROXY }.integration_runtimes:start {
      integrationRuntimeName = "ir-0200" })
    assert.is_not_nil(handle:wait { interval = 0.02, on_progress = function()
      traces[#traces + 1] = debug.traceback()
      error "the observer's own"
    end })
    assert.is_true(#traces > 0)
    assert_secret(traces)
    assert_secret(handle:token())
  end)

  it("of a list that breaks off in a loop shows none", function()
    support.fault { match = { service = "arm" }, status = 403, times = 0, body = MARK:sub(1, 4) }
    local adf, said = of_datafactory(), nil
    local ok = xpcall(function()
      for _ in adf.factories:list() do error "an item" end
    end, function(err) said = { err, tostring(err), debug.traceback() } end)
    assert.is_false(ok)
    assert.equal("denied", said[1].kind)
    assert_secret(said)
  end)
end)

describe("a poller's token", function()
  before_each(support.reset)

  it("holds no secret of the client or of the call that began the work", function()
    for name, service in pairs(SERVICES) do
      if name:find "vCenter on" then assert_secret(service.make():sync_poller {
        link = "link-1", provider = "tagging" }:token()) end
      if name:find "ArcGIS with" then assert_secret(service.make():job_poller("j1"):token()) end
    end
  end)
end)

---------------------------------------------------------------------------------------------------

-- inside of nginx the interpreter is no program that a shell can start
local LUA = support.in_nginx and "luajit" or arg[-1]

local COMMAND = table.concat({
  [[AZURE_TENANT_ID="$CLOUDSYNC_SIM_TENANT_ID"]], [[AZURE_CLIENT_ID="$CLOUDSYNC_SIM_CLIENT_ID"]],
  [[AZURE_AUTHORITY_HOST="$CLOUDSYNC_SIM_AUTHORITY"]],
  [[AZURE_SUBSCRIPTION_ID="$CLOUDSYNC_SIM_SUBSCRIPTION_ID"]],
  ("AZURE_CLIENT_SECRET='%s' https_proxy='%s' exec"):format(secret "client", PROXY), LUA,
  [[bin/cloudsync datafactory sync --endpoint "$CLOUDSYNC_SIM_ARM"]],
  [[--ca-file "$CLOUDSYNC_SIM_CA_FILE" --resource-group "$CLOUDSYNC_SIM_RESOURCE_GROUP"]],
  [[--factory command-factory]],
}, " ")

-- What the command prints, on both of its outputs.
local function said_by(arguments)
  local pipe = io.popen(("(%s %s) 2>&1"):format(COMMAND, arguments))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

describe("the command shows no secret", function()
  before_each(function()
    reset()
    support.factory { factoryName = "command-factory", runtimes = 2, sync_seconds = 0.1 }
  end)

  for _, arguments in ipairs { "", "--json", "--dry-run", "--dry-run --json", "--verify" } do
    it(("where all goes wrong, with '%s'"):format(arguments), function()
      support.fault { match = { service = "arm" }, times = 0, status = 403, body = { error = {
        code = "AuthorizationFailed", message = "not with " .. MARK .. "entra-token" } } }
      local text = said_by(arguments)
      assert.matches("AuthorizationFailed", text)
      assert_secret(text)
    end)
  end

  for _, arguments in ipairs { "--json", "--dry-run --json", "--verify", "--dry-run" } do
    it(("of the token that it got, where all goes well, with '%s'"):format(arguments), function()
      support.control("DELETE", "faults")
      support.fault { match = { service = "entra" }, times = 0, status = 200, body = {
        access_token = support.env "STATIC_TOKEN", expires_in = 3600, token_type = "Bearer" } }
      local text = said_by(arguments)
      assert.matches("ir%-0001", text)
      assert_secret(text)
      assert.is_nil(text:find(support.env "STATIC_TOKEN", 1, true))
    end)
  end

  for what, arguments in support.sorted {
    ["a proxy that is none"] = "--proxy htps://ops:%s@host:1",
    ["an endpoint with a password"] = "--endpoint https://ops:%s@host.example",
    ["an authority with a password"] = "--authority https://ops:%s@host.example",
    ["a flag that there is none of"] = "--client-secret %s",
    ["a flag that there is none of, with its value"] = "--client-secret=%s",
    ["an argument too many"] = "%s", ["a request for help"] = "--help", ["a version"] = "--version",
  } do
    it("given " .. what, function()
      support.fault { match = { service = "arm" }, times = 0, status = 403 }
      local text = said_by(arguments:format(MARK .. "argument"))
      assert.is_true(#text > 0)
      assert_secret(text)
    end)
  end
end)

describe("a process that runs the command", function()
  local function read(path)
    local file = io.open(path, "rb")
    local text = file and file:read "*a" or ""
    if file then file:close() end
    return text
  end

  it("has no secret among its arguments, and of those in its environment only what was given",
    function()
      reset()
      support.fault { match = { service = "arm" }, status = 403, delay = 0.3 }
      local pipe = io.popen(("echo $$; %s 2>&1"):format(COMMAND))
      local pid = pipe:read "*l"
      local deadline = core.now() + 10
      repeat
        cloudsync.sleep(0.02)
      until #support.requests "service=arm" > 0 or core.now() > deadline
      local arguments, environment = read("/proc/" .. pid .. "/cmdline"),
        read("/proc/" .. pid .. "/environ")
      pipe:close()
      assert.matches("bin/cloudsync", arguments)
      assert_secret(arguments)
      assert.is_nil(environment:find(MARK .. "entra-token", 1, true))
      local given = environment:gsub("AZURE_CLIENT_SECRET=%Z*", ""):gsub("https_proxy=%Z*", "")
      assert_secret(given)
    end)
end)

---------------------------------------------------------------------------------------------------

describe("what a service puts where it does not belong shows no secret", function()
  local events

  before_each(function()
    support.reset()
    events = {}
  end)

  local TOKEN = MARK .. "token"

  local function adf()
    return support.datafactory { credential = azure.static_token_credential(TOKEN), retries = 0,
      on_event = function(event) events[#events + 1] = event end }
  end

  for _, status in ipairs { 200, 400 } do
    it(("as the identifier of a request that is answered with %d"):format(status), function()
      support.fault { status = status, headers = { ["x-ms-request-id"] = TOKEN } }
      local result, second = adf().factories:get()
      assert.equal("<secret>", second.request_id)
      assert_secret { result == nil and second or nil, tostring(second), events }
    end)
  end

  it("as a link of long work, by the events of what follows it", function()
    support.fault { { match = { operation = "start" }, status = 202,
      headers = { Location = support.env "ARM" .. "/x?token=" .. TOKEN } },
      { match = { path = "^/x" }, status = 400 } }
    local handle = assert(adf().integration_runtimes:start { integrationRuntimeName = "ir-0200" })
    assert.is_nil((handle:wait()))
    assert_secret(events)
  end)

  for _, base in ipairs { "api", "rest" } do
    it("as the password in the error of a login to vCenter, on /" .. base, function()
      support.fault { match = { path = "session$" }, status = 401, times = 0, body = {
        error_type = "UNAUTHENTICATED", messages = { { id = "i", args = { secret "password" },
          default_message = "not with " .. secret "password" } } } }
      for _, call in ipairs {
        function(vc) return vc.links:list() end, function(vc) return vc.session:create() end,
      } do
        local _, err = call(of_vcenter(base) {
          on_event = function(event) events[#events + 1] = event end })
        assert.equal("auth", err.kind)
        assert.matches("not with <secret>$", err.message)
        assert_secret(err)
        assert_secret(events)
      end
    end)
  end
end)
