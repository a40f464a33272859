local cjson = require "cjson"
local cloudsync = require "cloudsync"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

local BASES = { "rest", "api" }
local LOGIN = { rest = "/rest/com/vmware/cis/session", api = "/api/session" }
local SESSION_HEADER = "vmware-api-session-id"
local TARGET = { link = "link-1", provider = "tagging" }

local function client(overrides)
  local options = {
    endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
    username = support.env "USERNAME", password = support.env "PASSWORD", retries = 0,
  }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return vcenter.new(options)
end

local function basic()
  return "Basic " .. require "mime".b64(support.env "USERNAME" .. ":" .. support.env "PASSWORD")
end

local function is_session(request)
  return request.path == LOGIN.rest or request.path == LOGIN.api
end

-- The journal without what opens and closes sessions.
local function calls()
  local found = {}
  for _, request in ipairs(support.requests "service=vcenter") do
    if not is_session(request) then found[#found + 1] = request end
  end
  return found
end

local function count_session(method)
  local count = 0
  for _, request in ipairs(support.requests("service=vcenter&method=" .. method)) do
    if is_session(request) and not request.query["~action"] then count = count + 1 end
  end
  return count
end

-- As at the start; clients of earlier tests close their sessions before, not within the next test.
local function reset()
  collectgarbage()
  collectgarbage()
  support.reset()
end

local function state() return support.control("GET", "vcenter") end

local function define(definition) support.control("POST", "vcenter", definition) end

local function set(settings) support.control("POST", "settings", settings) end

local function one_provider(provider)
  provider.provider = "tagging"
  define { links = { { link = "link-1", providers = { provider } } } }
end

local function assert_kind(kind, ok, err)
  assert.is_nil(ok)
  assert.equal("string", type(err.message))
  assert.equal(kind, err.kind)
  return err
end

-- Runs a script with `vc` a client; returns what it printed and its exit status.
local function run_script(script)
  return support.run_script([[
    local vc = require "cloudsync.vcenter".new {
      endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
      username = support.env "USERNAME", password = support.env "PASSWORD", api = "api",
    }
  ]] .. script)
end

local CREDENTIALS = { user_name = "admin@sim.example", password = 'p"ä\\ss/word' }
local SPEC = { psc_hostname = "psc.example", domain_name = "vsphere.local", username = "root",
  password = "let me in", port = "443", ssl_thumbprint = "AA:BB", admin_groups = { "g@x.example" } }
local LINK, PROVIDER = "a b+ü", "tag?ging"
local LINK_PATH = "/hvc/links/a%20b%2B%C3%BC"
local PROVIDER_PATH = LINK_PATH .. "/sync/providers/tag%3Fging"

-- Everything but the session: the path is that under either base.
local OPERATIONS = {
  { "links", "list", nil, "GET", "/hvc/links" },
  { "links", "get", { link = LINK }, "GET", LINK_PATH },
  { "links", "create", SPEC, "POST", "/hvc/links", SPEC, wrapper = "spec", status = 201 },
  { "links", "delete", { link = LINK }, "DELETE", LINK_PATH, status = 204 },
  { "links", "delete_with_credentials", { link = LINK }, "POST", LINK_PATH .. "?action=delete",
    status = 204 },
  { "links", "delete_with_credentials", { link = LINK, credentials = CREDENTIALS }, "POST",
    LINK_PATH .. "?action=delete", { credentials = CREDENTIALS }, status = 204 },
  { "sync", "reset", { link = LINK }, "POST", LINK_PATH .. "/sync?action=reset", status = 204 },
  { "sync", "remediate", { link = LINK }, "POST", LINK_PATH .. "/sync?action=remediate" },
  { "sync", "remediate", { link = LINK, credentials = CREDENTIALS }, "POST",
    LINK_PATH .. "/sync?action=remediate", { credentials = CREDENTIALS } },
  { "sync_providers", "list", { link = LINK }, "GET", LINK_PATH .. "/sync/providers" },
  { "sync_providers", "get", { link = LINK, provider = PROVIDER }, "GET", PROVIDER_PATH },
  { "sync_providers", "start", { link = LINK, provider = PROVIDER }, "POST",
    PROVIDER_PATH .. "?action=start", status = 204 },
  { "sync_providers", "start", { link = LINK, provider = PROVIDER, credentials = CREDENTIALS },
    "POST", PROVIDER_PATH .. "?action=start", { credentials = CREDENTIALS }, status = 204 },
  { "administrators", "get", nil, "GET", "/hvc/management/administrators" },
  { "administrators", "set", { group_names = { "a@b.example", "c@d.example" } }, "PUT",
    "/hvc/management/administrators", { group_names = { "a@b.example", "c@d.example" } },
    status = 204 },
  { "administrators", "add", { group_name = "a@b.example" }, "POST",
    "/hvc/management/administrators?action=add", { group_name = "a@b.example" }, status = 204 },
  { "administrators", "remove", { group_name = "administrators@sim.example" }, "POST",
    "/hvc/management/administrators?action=remove", { group_name = "administrators@sim.example" },
    status = 204 },
}

local function define_odd_names()
  define { links = { { link = LINK, display_name = "odd", health = "UNHEALTHY",
    providers = { { provider = PROVIDER } } } } }
end

local function describe_operation(operation)
  local given = operation[3]
  return ("%s:%s%s"):format(operation[1], operation[2],
    given and given.credentials and " with credentials" or "")
end

describe("vCenter's operations", function()
  before_each(function()
    reset()
    define_odd_names()
  end)

  for _, base in ipairs(BASES) do
    for _, operation in ipairs(OPERATIONS) do
      it(("sends %s on /%s as documented"):format(describe_operation(operation), base), function()
        local vc = client { api = base }
        local result, response = vc[operation[1]][operation[2]](vc[operation[1]], operation[3])
        assert.is_truthy(result, tostring(response))
        assert.equal(base == "api" and operation.status or 200, response.status)
        assert.equal(1, response.attempts)
        local sent = calls()
        assert.equal(1, #sent)
        local request, body = sent[1], operation[6]
        assert.equal(operation[4], request.method)
        assert.equal("/" .. base .. operation[5], request.uri)
        assert.is_string(request.headers[SESSION_HEADER])
        assert.is_nil(request.headers.authorization)
        assert.is_nil(request.headers.cookie)
        assert.is_nil(request.headers["vmware-use-header-authn"])
        if body then
          if base == "rest" and operation.wrapper then body = { [operation.wrapper] = body } end
          assert.same(body, cjson.decode(request.body))
          assert.equal("application/json", request.headers["content-type"])
        else
          assert.equal("", request.body)
          assert.is_nil(request.headers["content-type"])
        end
      end)
    end
  end

  for _, operation in ipairs(OPERATIONS) do
    it("gives the same result of " .. describe_operation(operation) .. " on both bases", function()
      local results = {}
      for i, base in ipairs(BASES) do
        -- a change needs the same start; what is only read has times that must stay
        if i == 2 and operation[4] ~= "GET" then define_odd_names() end
        local vc = client { api = base }
        results[i] = assert(vc[operation[1]][operation[2]](vc[operation[1]], operation[3]))
      end
      if operation[2] == "create" then
        assert.matches("^link%-%x+$", results[1])
        assert.matches("^link%-%x+$", results[2])
      else
        assert.same(results[1], results[2])
      end
    end)
  end

  it("leaves alone what is no list of keys and values, although it begins like one", function()
    local params = { { key = "a", value = 1 }, 2, { value = 3 } }
    support.fault { match = { service = "vcenter", path = "/hvc/links$" }, status = 200,
      body = { value = { { link = LINK, params = params } } } }
    assert.same({ { link = LINK, params = params } }, client { api = "rest" }.links:list())
  end)

  it("unwraps results, and makes maps of lists of keys and values", function()
    for _, base in ipairs(BASES) do
      local vc = client { api = base }
      assert.same({ { link = LINK, display_name = "odd" } }, vc.links:list())
      assert.same({ { provider = PROVIDER } }, vc.sync_providers:list { link = LINK })
      assert.same({ "administrators@sim.example" }, vc.administrators:get())
      local health = vc.links:get { link = LINK }
      assert.equal("UNHEALTHY", health.connection_health_status)
      assert.same({ link = { s = LINK } }, health.health_status_message.params)
      assert.equal("SUCCEEDED",
        vc.sync_providers:get { link = LINK, provider = PROVIDER }.status)
      assert.is_true(vc.sync_providers:start { link = LINK, provider = PROVIDER })
      assert.is_true(vc.sync:reset { link = LINK })
      assert.is_string(vc.sync:remediate { link = LINK }.status_message.default_message)
      assert.is_string(vc.links:create(SPEC))
      define_odd_names()
    end
  end)

  it("passes the credentials on, and none where there are none", function()
    for _, base in ipairs(BASES) do
      define_odd_names()
      local vc = client { api = base }
      assert(vc.sync_providers:start { link = LINK, provider = PROVIDER,
        credentials = CREDENTIALS })
      assert.same(CREDENTIALS, state().links[1].providers[1].credentials)
      define_odd_names()
      assert(vc.sync_providers:start { link = LINK, provider = PROVIDER })
      assert.is_nil(state().links[1].providers[1].credentials)
    end
  end)

  it("sends an empty list of groups as a list", function()
    for _, base in ipairs(BASES) do
      assert(client { api = base }.administrators:set { group_names = {} })
    end
    for _, request in ipairs(support.requests "method=PUT") do
      assert.equal('{"group_names":[]}', request.body)
    end
  end)

  for _, base in ipairs(BASES) do
    it("says who opened the session on /" .. base, function()
      local vc = client { api = base }
      local session = assert(vc.session:get())
      assert.equal(support.env "USERNAME", session.user)
      assert.is_string(session.created_time)
      local requests = support.requests "service=vcenter"
      assert.equal(2, #requests)
      local request = requests[2]
      assert.equal(base == "rest" and "POST" or "GET", request.method)
      assert.equal(LOGIN[base] .. (base == "rest" and "?~action=get" or ""), request.uri)
      assert.equal("", request.body)
      assert.is_string(request.headers[SESSION_HEADER])
      assert.is_nil(request.headers.authorization)
    end)

    it("closes the session on /" .. base .. " as an operation, and opens another", function()
      local vc = client { api = base }
      assert.is_true(vc.session:delete())
      assert.equal(1, state().logouts)
      local request = support.requests "method=DELETE"[1]
      assert.equal(LOGIN[base], request.uri)
      assert.equal("", request.body)
      assert(vc.links:list())
      assert.equal(2, state().logins)
    end)

    it("opens a session on /" .. base .. " as an operation, with Basic", function()
      local vc = client { api = base }
      local id, err = vc.session:create()
      assert.is_string(id, tostring(err))
      for _, request in ipairs(support.requests "service=vcenter") do
        assert.equal(LOGIN[base], request.uri)
        assert.equal(basic(), request.headers.authorization)
        assert.is_nil(request.headers[SESSION_HEADER])
      end
    end)
  end

  it("raises for what is missing or unknown, before anything is sent", function()
    local vc = client { api = "api" }
    for _, wrong in ipairs {
      { "start", { link = "link-1" }, "provider" },
      { "start", { link = "l", provider = "p", credential = {} }, "credential" },
      { "begin", {}, "begin" },
    } do
      local ok, message = pcall(function()
        return vc.sync_providers[wrong[1]](vc.sync_providers, wrong[2])
      end)
      assert.is_false(ok, wrong[3])
      assert.matches(wrong[3], message)
    end
    assert.equal(0, #support.requests())
  end)

  it("raises for options that are wrong or missing", function()
    for name, wrong in pairs { api = "soap", username = 1, pasword = "x" } do
      local ok, message = pcall(client, { [name] = wrong })
      assert.is_false(ok, name)
      assert.matches(name, message)
    end
    for _, name in ipairs { "username", "password" } do
      local options = { endpoint = support.env "VCENTER", username = "u", password = "p" }
      options[name] = nil
      local ok, message = pcall(vcenter.new, options)
      assert.is_false(ok)
      assert.matches(name, message)
    end
  end)
end)

-- How many requests went to each base, and how many before the login.
local function bases()
  local seen, probes, login = { rest = 0, api = 0 }, 0, false
  for _, request in ipairs(support.requests "service=vcenter") do
    login = login or request.headers.authorization ~= nil
    if not login then
      probes = probes + 1
      assert.equal("GET", request.method)
      assert.is_nil(request.headers[SESSION_HEADER])
    else
      local base = request.path:match "^/(%w+)"
      seen[base] = seen[base] + 1
    end
  end
  return seen, probes
end

describe("api = \"auto\"", function()
  before_each(reset)

  for version, base in support.sorted { ["6.7"] = "rest", ["7.0"] = "api", ["8.0U1"] = "api" } do
    it(("finds /%s on %s with one safe request, and remembers"):format(base, version), function()
      define { version = version }
      local vc = client { api = "auto" }
      for _ = 1, 3 do assert.equal("link-1", vc.links:list()[1].link) end
      local seen, probes = bases()
      assert.equal(1, probes)
      assert.same({ rest = base == "rest" and 4 or 0, api = base == "api" and 4 or 0 }, seen)
    end)
  end

  it("is the default", function()
    define { version = "6.7" }
    assert(client().links:list())
    assert.equal(1, select(2, bases()))
  end)

  it("makes one request also for 64 concurrent first calls", function()
    local vc = client { api = "auto" }
    local tasks = {}
    for i = 1, 64 do tasks[i] = i end
    local _, failures = cloudsync.map(tasks, function() return vc.links:list() end,
      { concurrency = 64 })
    assert.same({}, failures)
    assert.equal(1, select(2, bases()))
    assert.equal(1, state().logins)
  end)

  it("asks nothing where the base is given", function()
    for _, base in ipairs(BASES) do assert(client { api = base }.links:list()) end
    assert.equal(0, select(2, bases()))
  end)

  it("says on 9.1, which has none of it, that it is not offered", function()
    for _, wording in ipairs { "operation_not_found", "http_not_found", "operations_for_url" } do
      reset()
      define { version = "9.1" }
      set { vcenter_not_offered = wording }
      local vc = client { api = "auto" }
      assert_kind("unsupported", vc.links:list())
      assert_kind("unsupported", vc.sync_providers:list { link = "link-1" })
    end
  end)

  it("sends nothing in a dry run", function()
    local request = assert(client { api = "auto" }.links:list(nil, { dry_run = true }))
    assert.equal("GET", request.method)
    assert.equal(0, #support.requests())
  end)

  it("guesses nothing where it got no answer, and asks again", function()
    define { version = "6.7" }
    local vc = client { api = "auto" }
    support.fault { kind = "reset_before", times = 0,
      match = { service = "vcenter", method = "GET" } }
    assert_kind("transport", vc.links:list())
    assert.equal(0, count_session "POST")
    support.control("DELETE", "faults")
    assert.equal("link-1", vc.links:list()[1].link)
  end)
end)

local WORDINGS = { "operation_not_found", "http_not_found", "operations_for_url" }

local SYNC_CALLS = {
  { "sync_providers", "list", { link = "link-1" } },
  { "sync_providers", "get", TARGET },
  { "sync_providers", "start", TARGET },
  { "sync", "reset", { link = "link-1" } },
  { "sync", "remediate", { link = "link-1" } },
}

describe("a vCenter without the operation", function()
  before_each(reset)

  for _, base in ipairs(BASES) do
    for _, wording in ipairs(WORDINGS) do
      it(("of 8.0U1 on /%s gives unsupported, worded %s"):format(base, wording), function()
        define { version = "8.0U1" }
        set { vcenter_not_offered = wording }
        local vc = client { api = base }
        for _, call in ipairs(SYNC_CALLS) do
          local err = assert_kind("unsupported", vc[call[1]][call[2]](vc[call[1]], call[3]))
          assert.matches("does not offer", err.message)
          assert.equal(404, err.status)
          assert.equal("rejected", err.outcome)
          assert.is_false(err.retryable)
          assert.equal(call[1] .. ":" .. call[2], err.operation)
        end
        assert.equal("link-1", vc.links:list()[1].link)
      end)

      it(("knows an unknown link and provider on /%s, worded %s"):format(base, wording), function()
        set { vcenter_not_offered = wording }
        local vc = client { api = base }
        for _, target in ipairs { { link = "none", provider = "tagging" },
          { link = "link-1", provider = "none" } } do
          for _, name in ipairs { "get", "start" } do
            local err = assert_kind("not_found",
              vc.sync_providers[name](vc.sync_providers, target))
            assert.equal("not_found", err.code)
            assert.matches("'none' was not found", err.message)
            assert.equal("rejected", err.outcome)
          end
        end
        assert_kind("not_found", vc.links:get { link = "none" })
        assert_kind("not_found", vc.links:delete { link = "none" })
      end)
    end
  end

  it("of 9.1 gives unsupported for all of hybrid linked mode", function()
    for _, wording in ipairs(WORDINGS) do
      reset()
      define { version = "9.1" }
      set { vcenter_not_offered = wording }
      local vc = client { api = "api" }
      for _, operation in ipairs(OPERATIONS) do
        local err = assert_kind("unsupported",
          vc[operation[1]][operation[2]](vc[operation[1]], operation[3]))
        assert.matches("does not offer", err.message)
      end
      assert.equal(support.env "USERNAME", assert(vc.session:get()).user)
    end
  end)

  it("of 9.1 gives unsupported on /rest, which it does not have", function()
    define { version = "9.1" }
    assert_kind("unsupported", client { api = "rest" }.links:list())
  end)
end)

-- The errors of vSphere: type, kind, outcome.
local TYPES = {
  { "already_exists", "conflict", "rejected" },
  { "already_in_desired_state", "conflict", "rejected" },
  { "canceled", "cancelled", "unknown" }, { "concurrent_change", "conflict", "rejected" },
  { "error", "service", "unknown" }, { "feature_in_use", "conflict", "rejected" },
  { "internal_server_error", "service", "unknown" },
  { "invalid_argument", "argument", "rejected" },
  { "invalid_element_configuration", "argument", "rejected" },
  { "invalid_element_type", "argument", "rejected" },
  { "invalid_request", "argument", "rejected" },
  { "not_allowed_in_current_state", "conflict", "rejected" },
  { "not_found", "not_found", "rejected" },
  { "operation_not_found", "unsupported", "rejected" }, { "resource_busy", "busy", "rejected" },
  { "resource_in_use", "conflict", "rejected" },
  { "resource_inaccessible", "service", "unknown" },
  { "service_unavailable", "service", "unknown" }, { "timed_out", "timeout", "unknown" },
  { "unable_to_allocate_resource", "limit", "rejected" },
  { "unauthenticated", "auth", "rejected" }, { "unauthorized", "denied", "rejected" },
  { "unexpected_input", "argument", "rejected" }, { "unsupported", "unsupported", "rejected" },
  { "unverified_peer", "argument", "rejected" },
}

local function error_body(base, name)
  local messages = { { id = "com.vmware.example." .. name, default_message = "told: " .. name,
    args = { "x" } } }
  if base == "api" then return { error_type = name:upper(), messages = messages } end
  return { type = "com.vmware.vapi.std.errors." .. name, value = { messages = messages } }
end

local START = { service = "vcenter", uri = "action=start" }

local function start_with(fault, base)
  fault.match = START
  support.fault(fault)
  return client { api = base }.sync_providers:start(TARGET)
end

describe("vCenter's errors", function()
  before_each(reset)

  for _, base in ipairs(BASES) do
    for _, case in ipairs(TYPES) do
      it(("are classified on /%s by the type %s, with any status"):format(base, case[1]), function()
        for _, status in ipairs { 400, 404, 423, 500 } do
          reset()
          local ok, err = start_with({ status = status, times = 0,
            body = error_body(base, case[1]) }, base)
          -- a 404 of the operation itself is told by its wording elsewhere
          if status ~= 404 or case[1] == "not_found" or case[1] == "operation_not_found" then
            assert_kind(case[2], ok, err)
            assert.equal(case[1], err.code)
            assert.equal(status, err.status)
            assert.equal(case[3], err.outcome)
            assert.is_false(err.retryable)
            if status ~= 404 then assert.matches("told: " .. case[1], err.message, 1, true) end
            assert.equal(case[2] == "auth" and 2 or 1, #support.requests "method=POST"
              - count_session "POST")
          end
        end
      end)
    end

    it("give busy on /" .. base .. " for the simulator's own, whatever its status", function()
      for _, status in ipairs { 400, 423, 500 } do
        reset()
        set { vcenter_busy_status = status, vcenter_sync_seconds = 30 }
        local vc = client { api = base, retries = 3 }
        assert(vc.sync_providers:start(TARGET))
        local err = assert_kind("busy", vc.sync_providers:start(TARGET))
        assert.equal(status, err.status)
        assert.equal("rejected", err.outcome)
        assert.equal("resource_busy", err.code)
        assert.equal("A sync is already running.", err.message)
        assert.equal(1, err.attempts)
        assert.equal(1, state().starts)
      end
    end)

    it("are read on /" .. base .. " from JSON that comes as text/plain", function()
      local ok, err = start_with({ status = 500, body = error_body(base, "resource_busy"),
        headers = { ["Content-Type"] = "text/plain" } }, base)
      assert.equal("told: resource_busy", assert_kind("busy", ok, err).message)
    end)

    it("have kinds also without a body, on /" .. base, function()
      for status, kind in support.sorted { [400] = "argument", [401] = "auth", [403] = "denied",
        [423] = "busy", [500] = "service", [503] = "service" } do
        reset()
        local ok, err = start_with({ status = status, body = "", times = 0 }, base)
        assert_kind(kind, ok, err)
        assert.equal(status, err.status)
        assert.equal(status < 500 and "rejected" or "unknown", err.outcome)
        assert.is_nil(err.code)
      end
    end)

    it("keep a proxy's page, on /" .. base, function()
      local ok, err = start_with({ kind = "html", status = 502 }, base)
      assert_kind("service", ok, err)
      assert.equal("unknown", err.outcome)
      assert.matches("proxy.example could not connect", err.body, 1, true)
      ok, err = start_with({ kind = "html" }, base)
      assert_kind("protocol", ok, err)
      assert.equal("unknown", err.outcome)
      assert.matches("proxy.example could not connect", err.body, 1, true)
      assert.equal(2, #calls())
    end)

    it("keep a text that is no JSON, on /" .. base, function()
      local ok, err = start_with({ status = 403, body = "go away",
        headers = { ["Content-Type"] = "text/plain" } }, base)
      assert_kind("denied", ok, err)
      assert.equal("go away", err.body)
    end)
  end

  it("are read in the shape that 7.0U2 brought to /rest", function()
    local messages = { { id = "x", defaultMessage = "new shape", args = { "y" } } }
    local ok, err = start_with({ status = 423, body = {
      name = "com.vmware.vapi.std.errors.resource_busy", majorErrorCode = 423,
      localizableMessages = messages,
    } }, "rest")
    assert.equal("new shape", assert_kind("busy", ok, err).message)
    ok, err = start_with({ status = 500, body = {
      type = "com.vmware.vapi.std.errors.resource_busy", majorErrorCode = 500,
      name = "com.vmware.example.odd", localizableMessages = messages,
    } }, "rest")
    assert.equal("new shape", assert_kind("busy", ok, err).message)
    assert.is_table(err.details)
  end)
end)

-- What may stand for a list without items, on either base.
local EMPTY = {
  rest = { '{"value":null}', '{"value":[]}', "{}", "" },
  api = { "null", "[]", "" },
}

describe("an empty list of vCenter's", function()
  before_each(reset)

  for _, base in ipairs(BASES) do
    for _, body in ipairs(EMPTY[base]) do
      it(("is one also as '%s' on /%s"):format(body, base), function()
        support.fault { status = 200, body = body, times = 0,
          match = { service = "vcenter", path = "/hvc/" } }
        local vc = client { api = base }
        for _, list in ipairs { assert(vc.links:list()), assert(vc.administrators:get()),
          (assert(vc.sync_providers:list { link = "link-1" })) } do
          assert.equal("table", type(list))
          assert.is_nil(next(list))
          assert.equal("[]", require "cloudsync.core".encode(list))
        end
      end)
    end
  end
end)

local function map64(vc)
  local items = {}
  for i = 1, 64 do items[i] = i end
  return cloudsync.map(items, function() return vc.links:list() end, { concurrency = 64 })
end

describe("vCenter's session", function()
  before_each(reset)

  for _, base in ipairs(BASES) do
    it("is opened on /" .. base .. " at the first call, and used from then on", function()
      local vc = client { api = base }
      assert.equal(0, #support.requests())
      assert(vc.links:list())
      assert(vc.links:list())
      local requests = support.requests "service=vcenter"
      assert.equal(3, #requests)
      local login = requests[1]
      assert.equal("POST", login.method)
      assert.equal(LOGIN[base], login.uri)
      assert.equal(basic(), login.headers.authorization)
      assert.is_string(login.headers["vmware-use-header-authn"])
      assert.equal("0", login.headers["content-length"])
      assert.equal("", login.body)
      assert.is_nil(login.headers[SESSION_HEADER])
      for i = 2, 3 do
        assert.is_nil(requests[i].headers.authorization)
        assert.equal(requests[2].headers[SESSION_HEADER], requests[i].headers[SESSION_HEADER])
      end
      for _, request in ipairs(requests) do assert.is_nil(request.headers.cookie) end
    end)

    it("is one for 64 concurrent first calls on /" .. base, function()
      local vc = client { api = base }
      local results, failures = map64(vc)
      assert.same({}, failures)
      assert.equal(64, #results)
      assert.equal(1, state().logins)
      assert.equal(1, count_session "POST")
    end)

    it("is renewed once for 64 concurrent calls on /" .. base, function()
      local vc = client { api = base }
      assert(vc.links:list())
      support.control("POST", "sessions/expire")
      local _, failures = map64(vc)
      assert.same({}, failures)
      assert.equal(2, state().logins)
    end)

    it("is closed once by close() on /" .. base, function()
      local vc = client { api = base }
      assert(vc.links:list())
      assert.is_true(vc:close())
      assert.is_true(vc:close())
      local deletes = support.requests "method=DELETE"
      assert.equal(1, #deletes)
      assert.equal(LOGIN[base], deletes[1].uri)
      assert.is_string(deletes[1].headers[SESSION_HEADER])
      assert.is_nil(deletes[1].headers.authorization)
      assert.same({}, state().sessions)
      assert.equal(1, state().logouts)
      assert(vc.links:list())
      assert.equal(2, state().logins)
      assert.is_true(vc:close())
      assert.equal(2, count_session "DELETE")
    end)
  end

  it("takes no cookies, also where they are offered", function()
    support.fault { delay = 0.01, times = 0, match = { service = "vcenter" },
      headers = { ["Set-Cookie"] = "vmware-api-session-id=bad;Path=/;Secure;HttpOnly" } }
    local vc = client { api = "api" }
    assert(vc.links:list())
    assert(vc.links:list())
    assert(vc:close())
    for _, request in ipairs(support.requests()) do assert.is_nil(request.headers.cookie) end
  end)

  it("is not opened where nothing is called", function()
    local vc = client { api = "api" }
    assert.is_true(vc:close())
    assert.equal(0, #support.requests())
  end)

  it("is renewed once for a call, which then keeps its refusal", function()
    support.fault { status = 401, times = 0, match = { service = "vcenter", path = "/hvc/" } }
    local err = assert_kind("auth", client { api = "api", retries = 3 }.links:list())
    assert.equal(401, err.status)
    assert.equal(2, err.attempts)
    assert.equal(2, state().logins)
  end)

  it("counts as closed where vCenter has ended it already", function()
    local vc = client { api = "api" }
    assert(vc.links:list())
    support.control("POST", "sessions/expire")
    assert.is_true(vc:close())
    assert.equal(1, count_session "DELETE")
    assert.equal(1, state().logins)
  end)

  it("is renewed after it was idle for too long", function()
    set { vcenter_session_seconds = 0.1 }
    local vc = client { api = "rest" }
    assert(vc.links:list())
    cloudsync.sleep(0.15)
    assert(vc.links:list())
    assert.equal(2, state().logins)
  end)

  it("that was renewed leaves one logout, not one for each", function()
    local vc = client { api = "api" }
    assert(vc.links:list())
    support.control("POST", "sessions/expire")
    assert(vc.links:list())
    collectgarbage()
    collectgarbage()
    assert.equal(0, count_session "DELETE")
    assert(vc:close())
    collectgarbage()
    assert.equal(1, count_session "DELETE")
  end)

  it("is closed when the client is collected", function()
    assert(client { api = "api" }.links:list())
    for _ = 1, 3 do collectgarbage() end
    assert.equal(1, count_session "DELETE")
    assert.same({}, state().sessions)
  end)

  it("is not closed again when a closed client is collected", function()
    local vc = client { api = "api" }
    assert(vc.links:list())
    assert(vc:close())
    vc = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    assert.equal(1, count_session "DELETE")
  end)

  it("of a client that is collected is closed beside calls in flight", function()
    local other = client { api = "api" }
    assert(other.links:list())
    support.fault { delay = 0.2, match = { service = "vcenter", path = "/hvc/links$" } }
    local task = cloudsync.spawn(function() return other.links:list() end)
    cloudsync.sleep(0.05)
    assert(client { api = "api" }.links:list())
    for _ = 1, 3 do collectgarbage() end
    assert.equal(1, count_session "DELETE")
    assert.is_table((task:wait()))
    assert(other:close())
  end)

  for name, ending in support.sorted {
    ["ends with the client in use"] = "",
    ["closes the client"] = "vc:close()",
    ["drops the client"] = "vc = nil collectgarbage() collectgarbage()",
    ["is ended by os.exit that closes the state"] = "os.exit(true, true)",
    ["ends with an error"] = "error 'end'",
  } do
    it("is closed once where the script " .. name, function()
      local text, status = run_script("assert(vc.links:list()) " .. ending)
      assert.equal(ending:find "error" and 1 or 0, status, text)
      assert.equal(1, state().logins)
      assert.equal(1, count_session "DELETE")
      assert.same({}, state().sessions)
    end)
  end
end)

describe("a login of vCenter's", function()
  before_each(reset)

  for _, base in ipairs { "rest", "api", "auto" } do
    it("that is refused is reported once and never repeated, api = " .. base, function()
      local vc = client { api = base, password = "wrong", retries = 3 }
      local err = assert_kind("auth", vc.links:list())
      assert.equal(401, err.status)
      assert.equal("not_sent", err.outcome)
      local sent = #support.requests()
      assert.equal(1, count_session "POST")
      for _ = 1, 3 do assert_kind("auth", vc.sync_providers:start(TARGET)) end
      assert.equal(sent, #support.requests())
    end)
  end

  it("that is refused is one for 64 concurrent calls", function()
    local vc = client { api = "api", password = "wrong" }
    local _, failures = map64(vc)
    assert.equal(64, #failures)
    for _, failure in ipairs(failures) do assert.equal("auth", failure.err.kind) end
    assert.equal(1, #support.requests())
  end)

  it("that is refused at a renewal is not repeated", function()
    local vc = client { api = "api", retries = 3 }
    assert(vc.links:list())
    support.control("POST", "sessions/expire")
    support.fault { status = 401, times = 0, match = { service = "vcenter", path = "/session$" } }
    for _ = 1, 3 do assert_kind("auth", vc.links:list()) end
    assert.equal(2, count_session "POST")
  end)

  for _, base in ipairs(BASES) do
    it("beyond the cap of sessions is not repeated on /" .. base, function()
      set { vcenter_max_sessions = 1 }
      local holder = client { api = base }
      assert(holder.links:list())
      local vc = client { api = base, retries = 3 }
      for _ = 1, 2 do
        local err = assert_kind("service", vc.links:list())
        assert.equal(503, err.status)
        assert.matches("User session count is limited to 1", err.message)
        assert.equal("not_sent", err.outcome)
      end
      assert.equal(2, count_session "POST")
      assert(holder:close())
    end)
  end

  it("that answers with something that is no session is an error", function()
    for _, body in ipairs { '{"value":null}', "null", '""', '"a\\nb"', "7" } do
      reset()
      support.fault { status = 200, body = body, match = { service = "vcenter", method = "POST" } }
      local vc = client { api = body:find "value" and "rest" or "api" }
      assert_kind("protocol", vc.links:list())
      assert.equal(1, #support.requests())
    end
  end)

  it("that answers with a proxy's page is an error", function()
    support.fault { kind = "html", match = { service = "vcenter", method = "POST" } }
    assert_kind("protocol", client { api = "api" }.links:list())
  end)
end)

-- Everything that can be read in a value, in one text.
local function spell(value, seen)
  seen = seen or {}
  if type(value) ~= "table" then return tostring(value) end
  if seen[value] then return "" end
  seen[value] = true
  local parts = { tostring(value) }
  for key, field in pairs(value) do
    parts[#parts + 1] = spell(key, seen)
    parts[#parts + 1] = spell(field, seen)
  end
  return table.concat(parts, "\n")
end

describe("vCenter's secrets", function()
  before_each(reset)

  for _, base in ipairs(BASES) do
    it("are in no error, event, dry run or token, on /" .. base, function()
      local told, secrets = {}, { support.env "PASSWORD", (basic():gsub("^Basic ", "")) }
      local function tell(...) told[#told + 1] = { ... } end
      local vc = client { api = base, on_event = tell }
      assert(vc.links:list())
      local id = calls()[1].headers[SESSION_HEADER]
      secrets[#secrets + 1] = id
      secrets[#secrets + 1] = CREDENTIALS.password
      secrets[#secrets + 1] = SPEC.password
      local messages = { { id = id, args = { id, support.env "PASSWORD" },
        default_message = id .. " " .. CREDENTIALS.password } }
      local body = base == "api" and { error_type = "RESOURCE_BUSY", messages = messages }
        or { type = "com.vmware.vapi.std.errors.resource_busy", value = { messages = messages } }
      local with = { link = "link-1", provider = "tagging", credentials = CREDENTIALS }
      support.fault { status = 500, body = body, match = START }
      local _, err = vc.sync_providers:start(with)
      assert.equal("busy", err.kind)
      -- the session's own id is the service's to repeat, but not the library's to pass on
      err.details, err.message = nil, err.message:gsub(id, "")
      tell(err)
      support.fault { status = 500, body = "it was " .. CREDENTIALS.password, match = START }
      tell(vc.sync_providers:start(with))
      tell(vc.sync_providers:start(with, { dry_run = true }))
      tell(vc.links:create(SPEC, { dry_run = true }))
      tell(vc.session:create(nil, { dry_run = true }))
      tell(vc:sync_poller(TARGET):token())
      tell(vc.links:get { link = "none" })
      support.control("POST", "sessions/expire")
      tell(vc.links:get { link = "none" })
      tell(client({ api = base, username = "nobody", on_event = tell }).links:list())
      tell(vc:close())
      local text = spell(told)
      for i, secret in ipairs(secrets) do
        assert.is_nil(text:find(secret, 1, true), "secret " .. i)
      end
      assert.is_truthy(text:find("link-1", 1, true))
    end)

    it("are not repeated where vCenter repeats the session's id, on /" .. base, function()
      local vc = client { api = base }
      assert(vc.links:list())
      local id = calls()[1].headers[SESSION_HEADER]
      local messages = { { id = "x", args = { id }, default_message = "session " .. id } }
      support.fault { status = 500, match = START,
        body = base == "api" and { error_type = "ERROR", messages = messages }
          or { type = "com.vmware.vapi.std.errors.error", value = { messages = messages } } }
      local _, err = vc.sync_providers:start(TARGET)
      assert.is_nil(spell(err):find(id, 1, true))
    end)
  end

  it("shows a dry run of a start without its password", function()
    local request = assert(client { api = "rest" }.sync_providers:start(
      { link = "link-1", provider = "tagging", credentials = CREDENTIALS }, { dry_run = true }))
    assert.equal("POST", request.method)
    assert.matches("action=start$", request.url)
    assert.matches("admin@sim.example", request.body, 1, true)
    assert.matches("<secret>", request.body, 1, true)
    assert.equal(0, #support.requests())
  end)
end)

describe("a poller of a sync", function()
  before_each(reset)

  -- Starts the sync of the one provider, and returns a poller of it.
  local function begin(vc)
    local info = assert(vc.sync_providers:get(TARGET))
    assert(vc.sync_providers:start(TARGET))
    return vc:sync_poller { link = "link-1", provider = "tagging",
      before = info.last_sync_time or "" }
  end

  for _, base in ipairs(BASES) do
    for _, before in ipairs { "SUCCEEDED", "FAILED", "NO_SYNC_FOUND" } do
      it(("goes by the stage, not by the last status %s, on /%s"):format(before, base), function()
        one_provider { status = before, sync_seconds = 0.3 }
        local handle = begin(client { api = base })
        local done, status = handle:poll()
        assert.is_false(done)
        assert.equal(before, status.status)
        assert.matches("^CHANGE_", status.current_session_info.stage)
        local seen = {}
        local result = assert(handle:wait { interval = 0.05, timeout = 5,
          on_progress = function(info) seen[#seen + 1] = info.current_session_info.stage end })
        assert.equal("COMPLETED", result.current_session_info.stage)
        assert.equal("SUCCEEDED", result.status)
        assert.is_true(#seen >= 2)
        assert.equal(1, state().starts)
        local looked = #support.requests()
        assert.same({ true, result }, { handle:poll() })
        assert.equal(result, handle:wait())
        assert.equal(looked, #support.requests())
      end)
    end

    it("fails where the stage is FAILED, on /" .. base, function()
      one_provider { sync_seconds = 0.1, fail = true }
      local handle = begin(client { api = base })
      local err = assert_kind("job", handle:wait { interval = 0.05, timeout = 5 })
      assert.matches("The sync of provider 'tagging' has failed.", err.message, 1, true)
      assert.equal("tagging", err.target)
      assert.equal("FAILED", err.details.current_session_info.stage)
      assert.same({ provider = { s = "tagging" }, link = { s = "link-1" } },
        err.details.current_session_info.exception.params)
      assert.is_false(err.retryable)
      assert.is_true((handle:poll()))
    end)

    it("knows that it has ended where its session is gone, on /" .. base, function()
      for _, status in ipairs { "SUCCEEDED", "FAILED", "NO_SYNC_FOUND" } do
        one_provider { sync_seconds = 0.15, vanish = true, status = status }
        local result = assert(begin(client { api = base }):wait { interval = 0.05, timeout = 5 })
        assert.is_nil(result.current_session_info)
        assert.equal("SUCCEEDED", result.status)
        one_provider { sync_seconds = 0.15, vanish = true, status = status, fail = true }
        local err = assert_kind("job",
          begin(client { api = base }):wait { interval = 0.05, timeout = 5 })
        assert.matches("The sync of provider 'tagging' has failed.", err.message, 1, true)
      end
    end)

    it("outlives its session, on /" .. base, function()
      one_provider { sync_seconds = 0.4 }
      local expired = 0
      local result = assert(begin(client { api = base }):wait { interval = 0.05, timeout = 5,
        on_progress = function()
          if expired < 2 then support.control("POST", "sessions/expire") end
          expired = expired + 1
        end })
      assert.equal("COMPLETED", result.current_session_info.stage)
      assert.equal(3, state().logins)
      assert.equal(1, state().starts)
    end)

    for _, shape in ipairs { "empty", "null", "object" } do
      it(("survives an %s answer, on /%s"):format(shape, base), function()
        one_provider { sync_seconds = 0.2 }
        local handle = begin(client { api = base })
        local body = shape == "empty" and "" or shape == "object" and "{}"
          or base == "rest" and '{"value":null}' or "null"
        support.fault { status = 200, body = body, times = 2,
          match = { service = "vcenter", method = "GET", suffix = "tagging" } }
        local ok, result, err = pcall(handle.wait, handle, { interval = 0.05, timeout = 5 })
        assert.is_true(ok, tostring(result))
        if result == nil then
          assert_kind("protocol", result, err)
        else
          assert.equal("COMPLETED", result.current_session_info.stage)
        end
      end)
    end
  end

  it("takes a stage that it does not know for work that goes on", function()
    one_provider { sync_seconds = 0.2, stages = { "REORGANISING", "WAITING" } }
    local stages = {}
    local result = assert(begin(client { api = "api" }):wait { interval = 0.03, timeout = 5,
      on_progress = function(info) stages[info.current_session_info.stage] = true end })
    assert.equal("COMPLETED", result.current_session_info.stage)
    assert.is_true(stages.REORGANISING)
  end)

  it("fails where the sync is reset", function()
    one_provider { sync_seconds = 30 }
    local vc = client { api = "api" }
    local handle = begin(vc)
    assert.is_false((handle:poll()))
    assert(vc.sync:reset { link = "link-1" })
    assert_kind("job", handle:wait { interval = 0.05, timeout = 5 })
  end)

  it("keeps its timeout, and goes on from its token in another client", function()
    one_provider { sync_seconds = 0.7 }
    local handle = begin(client { api = "rest" })
    local started = cloudsync.now()
    local err = assert_kind("timeout", handle:wait { timeout = 0.3, interval = 0.05 })
    assert.is_true(math.abs(cloudsync.now() - started - 0.3) < 0.15)
    assert.equal("unknown", err.outcome)
    assert.is_true(err.retryable)
    local other = client { api = "api" }
    local result = assert(other:poller(handle:token()):wait { interval = 0.05, timeout = 5 })
    assert.equal("COMPLETED", result.current_session_info.stage)
    assert.equal(1, state().starts)
  end)

  it("goes on from its token in another process", function()
    one_provider { sync_seconds = 0.3, vanish = true }
    local token = begin(client { api = "api" }):token()
    local text, status = run_script(("local info = assert(vc:poller(%q):wait { interval = 0.05 }) "
      .. "print(info.status)"):format(token))
    assert.equal("SUCCEEDED\n", text)
    assert.equal(0, status)
    assert.equal(1, state().starts)
  end)

  it("keeps its timeout where vCenter does not answer", function()
    one_provider { sync_seconds = 30 }
    local handle = begin(client { api = "api" })
    support.fault { delay = 3, times = 0,
      match = { service = "vcenter", method = "GET", suffix = "tagging" } }
    local started = cloudsync.now()
    assert_kind("timeout", handle:wait { timeout = 0.3 })
    assert.is_true(cloudsync.now() - started < 0.8)
  end)

  it("looks again after a look that failed in passing", function()
    one_provider { sync_seconds = 0.2 }
    local handle = begin(client { api = "api" })
    local match = { service = "vcenter", method = "GET", suffix = "tagging" }
    support.fault {
      { status = 503, match = match }, { kind = "reset_before", match = match },
      { status = 500, body = error_body("api", "resource_busy"), match = match },
    }
    assert(handle:wait { interval = 0.05, timeout = 5 })
  end)

  it("ends where a look fails for good", function()
    one_provider { sync_seconds = 30 }
    local handle = begin(client { api = "api" })
    define {}
    define { links = { { link = "other", providers = {} } } }
    local err = assert_kind("not_found", handle:wait { interval = 0.05, timeout = 2 })
    assert.equal("sync_providers:get", err.operation)
    local done, again = handle:poll()
    assert.is_nil(done)
    assert.equal("not_found", again.kind)
  end)

  it("is not ended by an observer that raises", function()
    one_provider { sync_seconds = 0.1 }
    assert(begin(client { api = "api" }):wait { interval = 0.05, timeout = 5,
      on_progress = function() error "observer" end })
  end)

  it("is not done by a session that was there before", function()
    for _, fail in ipairs { false, true } do
      one_provider { sync_seconds = 0, fail = fail }
      local vc = client { api = "api" }
      assert(vc.sync_providers:start(TARGET))
      local info = assert(vc.sync_providers:get(TARGET))
      assert.equal(fail and "FAILED" or "COMPLETED", info.current_session_info.stage)
      local handle = vc:sync_poller { link = "link-1", provider = "tagging",
        before = info.last_sync_time }
      assert.is_false((handle:poll()))
    end
  end)

  it("raises for what is no token of its own", function()
    local vc = client { api = "api" }
    for _, token in ipairs { "", "nonsense", "[]", "{}",
      '{"service":"datafactory","kind":"sync","state":{}}',
      '{"service":"vcenter","kind":"other","state":{}}', '{"service":"vcenter","kind":"sync"}' } do
      local ok, message = pcall(vc.poller, vc, token)
      assert.is_false(ok, token)
      assert.matches("token", message)
    end
  end)

  it("raises for options that there are not", function()
    local handle = client({ api = "api" }):sync_poller(TARGET)
    local ok, message = pcall(handle.wait, handle, { intervall = 1 })
    assert.is_false(ok)
    assert.matches("unknown option 'intervall'", message)
  end)
end)
