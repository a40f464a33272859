--- Every fault that the simulator can make, for every service: what the call comes to, what it says,
-- and how often the service saw the request. tools/fault_table.lua has the rules.
local arcgis = require "cloudsync.arcgis"
local azure = require "cloudsync.azure"
local core = require "cloudsync.core"
local datafactory = require "cloudsync.datafactory"
local rules = require "tools.fault_table"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

-- LuaJIT goes through it in nginx.
if rawget(_G, "jit") and not support.in_nginx then return end

local RUNTIME, LINK = "ir-0001", "link-1"

local function merge(...)
  local merged = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...)) or {}) do merged[name] = value end
  end
  return merged
end

---------------------------------------------------------------------------------------------------
-- The services. Each makes a client of settings; in the table of a call, `match` finds its request
-- in the simulator. `answering` is an unsafe call whose answer has a body.

local function with(settings, defaults)
  local options = merge({ ca_file = support.env "CA_FILE", retries = 1 }, defaults, settings)
  if not options.ca_file then options.ca_file = nil end -- false: whom the system trusts
  return options
end

local function account(settings, defaults)
  return with(settings, merge({ username = support.env "USERNAME",
    password = support.env "PASSWORD" }, defaults))
end

local function datafactory_at(endpoint)
  return function(settings)
    return datafactory.new(with(settings, {
      credential = azure.static_token_credential(support.env "STATIC_TOKEN"),
      endpoint = support.env(endpoint), subscriptionId = support.env "SUBSCRIPTION_ID",
      resourceGroupName = support.env "RESOURCE_GROUP", factoryName = support.env "FACTORY",
    }))
  end
end

local function datafactory_signing_in(settings)
  return datafactory_at "ARM" { credential = azure.client_secret_credential(with(settings, {
    tenant_id = support.env "TENANT_ID", client_id = support.env "CLIENT_ID",
    client_secret = support.env "CLIENT_SECRET", authority = support.env "AUTHORITY",
  })) }
end

local DATAFACTORY = {
  safe = { match = { operation = "getStatus" }, call = function(adf, options)
    return adf.integration_runtimes:get_status({ integrationRuntimeName = RUNTIME }, options)
  end },
  unsafe = { match = { operation = "syncCredentials" }, call = function(adf, options)
    return adf.integration_runtimes:sync_credentials({ integrationRuntimeName = RUNTIME }, options)
  end },
  answering = { match = { operation = "regenerateAuthKey" }, call = function(adf, options)
    return adf.integration_runtimes:regenerate_auth_key({ integrationRuntimeName = RUNTIME,
      regenerateKeyParameters = { keyName = "authKey1" } }, options)
  end },
  words = { "The request failed.",
    [408] = "The request timed out.", [409] = "Another operation on the resource is in progress.",
    [429] = "The request is being throttled.", [500] = "An internal server error has occurred.",
    [503] = "The service is unavailable.", [504] = "The gateway did not receive a response",
  },
}

local VCENTER = {
  safe = { match = { operation = "links" }, call = function(vc, options)
    return vc.links:list(nil, options)
  end },
  unsafe = { match = { operation = "tagging", method = "POST" }, call = function(vc, options)
    return vc.sync_providers:start({ link = LINK, provider = "tagging" }, options)
  end },
  answering = { match = { operation = "sync" }, call = function(vc, options)
    return vc.sync:remediate({ link = LINK }, options)
  end },
  sign_in = { operation = "session", method = "POST" }, locks = true,
  words = { "The request failed." },
  close = function(vc) vc:close() end, -- or it would when it is collected, within another test
}

local function vcenter_on(base)
  return function(settings)
    return vcenter.new(account(settings, { endpoint = support.env "VCENTER", api = base }))
  end
end

local function site(settings)
  return arcgis.new(account(settings, { endpoint = support.env "ARCGIS" }))
end

local function site_with_portal(settings)
  return site(merge({ portal = support.env "PORTAL" }, settings))
end

local ARCGIS = {
  safe = { match = { operation = "providers" }, call = function(gis, options)
    return gis.providers:list(nil, options)
  end },
  unsafe = { match = { operation = "add" }, call = function(gis, options)
    return gis.providers:add_credential({ providerID = "azgatvskp6",
      credential = arcgis.iam_role() }, options)
  end },
  sign_in = { operation = "generateToken" }, locks = true,
  words = { "The request failed." },
}

-- The same refusal as ArcGIS's errors come: with HTTP 200, and the status in the body.
local function in_200(row)
  if row.says ~= rules.OWN then return nil end
  return merge(row.rule, { status = 200,
    body = { status = "error", code = row.status, messages = { "The request failed." } } })
end

-- `address` is the setting by which a fault before there is a connection is met, with a `token` for
-- who would sign in before. vCenter's calls meet no such fault: its sign-in has by then.
local SERVICES = {
  merge(DATAFACTORY, { name = "Data Factory", open = datafactory_at "ARM",
    address = "endpoint" }),
  merge(DATAFACTORY, { name = "Data Factory over plain HTTP", open = datafactory_at "PLAIN" }),
  merge(VCENTER, { name = "vCenter on /api", open = vcenter_on "api" }),
  merge(VCENTER, { name = "vCenter on /rest", open = vcenter_on "rest" }),
  merge(ARCGIS, { name = "ArcGIS Server", open = site, address = "endpoint",
    token = "a-token" }),
  merge(ARCGIS, { name = "ArcGIS Server with errors in 200", open = site, translate = in_200 }),
}

local SIGN_INS = {
  merge(DATAFACTORY, { name = "Microsoft Entra", address = "authority",
    open = datafactory_signing_in, sign_in = { operation = "token" }, locks = false,
    words = { "AADSTS90033: A transient error has occurred." },
    prefix = "no token from Microsoft Entra: " }),
  merge(VCENTER, { name = "vCenter on /api", open = vcenter_on "api", address = "endpoint",
    prefix = "no session from vCenter: " }),
  merge(VCENTER, { name = "vCenter on /rest", open = vcenter_on "rest", address = "endpoint",
    prefix = "no session from vCenter: " }),
  merge(ARCGIS, { name = "ArcGIS Server", open = site, address = "endpoint",
    prefix = "no token from ArcGIS: " }),
  merge(ARCGIS, { name = "ArcGIS's portal", open = site_with_portal, address = "portal",
    prefix = "no token from ArcGIS: " }),
}

local function seen(match)
  local query = {}
  for name, value in support.sorted(match) do query[#query + 1] = name .. "=" .. value end
  return #support.requests(table.concat(query, "&"))
end

-- Ends the connection that is kept, on which libcurl itself would repeat what may be repeated.
local function cool(service, client, match)
  support.fault { kind = "reset_before", times = 2, match = match }
  service.safe.call(client, { retries = 0 })
  support.control("DELETE", "faults")
  support.control("DELETE", "requests")
end

local function assert_says(service, expected, message)
  local says = expected.says
  if says == rules.OWN then says = service.words[expected.status] or service.words[1] end
  local prefix, held = service.prefix or "", says:match "^… (.*)$"
  if held then assert.matches(held, message, 1, true) end
  local start = prefix .. (held and "" or says)
  assert.equal(start, message:sub(1, #start))
end

local function assert_comes_to(service, expected, result, err)
  if expected.ok then
    assert.is_truthy(result)
    return
  end
  assert.is_nil(result)
  assert.same({ kind = expected.kind, outcome = expected.outcome, status = expected.status,
    retryable = expected.retryable },
    { kind = err.kind, outcome = err.outcome, status = err.status, retryable = err.retryable })
  assert_says(service, expected, err.message)
  assert.matches(err.message, tostring(err), 1, true)
end

-- How a client is led to the fault: settings that replace its service's address, or a rule.
local function prepare(service, row)
  if not row.endpoint then return row.settings end
  return merge(row.settings,
    { [service.address] = support.env(row.endpoint), token = service.token })
end

local function make_fault(service, row, match)
  if not row.rule then return end
  local rule = service.translate and service.translate(row) or row.rule
  support.fault(merge(rule, { match = match, times = 0 }))
end

local function check_call(row, service, name, expected)
  local operation = name == "unsafe" and row.body and service.answering or service[name]
  local client = service.open(prepare(service, row))
  if row.rule then
    if service.sign_in then assert(service.safe.call(client)) end
    cool(service, client, service.safe.match)
    make_fault(service, row, operation.match)
  end
  local result, err = operation.call(client, row.options)
  local count = seen(operation.match)
  support.control("DELETE", "faults")
  if service.close then service.close(client) end
  assert_comes_to(service, expected, result, err)
  assert.equal(row.endpoint and 0 or expected.tries, count)
  if err.attempts then assert.equal(expected.tries, err.attempts) end
end

local function check_sign_in(row, service, _, expected)
  local client = service.open(merge(prepare(service, row), row.options))
  if row.rule then
    cool(service, service.open { retries = 0 }, service.sign_in)
    make_fault(service, row, service.sign_in)
  end
  local result, err = service.unsafe.call(client)
  assert.equal(row.endpoint and 0 or expected.tries, seen(service.sign_in))
  assert_comes_to(service, expected, result, err)
  assert.equal(expected.ok and 1 or 0, seen(service.unsafe.match))
  if expected.ok then return end
  assert.equal(0, err.attempts)
  -- who would try again at once, by many calls, locks an account or an endpoint that is down
  assert.is_nil((service.unsafe.call(client)))
  if expected.kind == "auth" and service.locks then
    local now = core.now
    core.now = function() return now() + 3600 end
    assert.is_nil((service.unsafe.call(client)))
  end
  assert.equal(row.endpoint and 0 or expected.tries, seen(service.sign_in))
end

-- Whether there is such a cell.
local function meets(row, service)
  if row.endpoint then return service.address ~= nil end
  return not service.translate or service.translate(row) ~= nil
end

local function tell(expected)
  if expected.ok then return "succeeds" end
  return ("fails with %s, %s, after %d %s"):format(expected.kind, expected.outcome, expected.tries,
    expected.tries == 1 and "try" or "tries")
end

local MATRIX = {
  { "a safe call", "safe", SERVICES, check_call },
  { "an unsafe call", "unsafe", SERVICES, check_call },
  { "the sign-in", "sign-in", SIGN_INS, check_sign_in },
}

for _, part in ipairs(MATRIX) do
  local title, operation, services, check = part[1], part[2], part[3], part[4]
  describe(title, function()
    local random, now = core.random, core.now

    before_each(function()
      support.reset()
      core.random = function() return 0.001 end -- the jitter alone; nothing else of the waiting
    end)
    after_each(function() core.random, core.now = random, now end)

    for _, row in ipairs(rules.faults) do
      for _, service in ipairs(services) do
        if meets(row, service) then
          local expected = rules.expect(row, service.name, operation)
          it(("of %s that meets %s %s"):format(service.name, row.name, tell(expected)), function()
            local started = now()
            check(row, service, operation, expected)
            assert.equal(0, #support.requests "service=other")
            assert.is_true(now() - started < 5)
          end)
        end
      end
    end
  end)
end

describe("the table of faults", function()
  it("has every fault that the simulator can make", function()
    local has, missing = {}, {}
    for _, row in ipairs(rules.faults) do
      local rule = row.rule or {}
      has[rule.kind or rule.status and "status" or "none"] = true
    end
    for kind in support.read("spec/simulator/faults.lua"):gmatch "function kinds%.([%w_]+)" do
      if not has[kind] and not rules.elsewhere[kind] then missing[#missing + 1] = kind end
    end
    assert.same({}, missing)
  end)

  it("has no exception that never applies", function()
    for _, exception in ipairs(rules.exceptions) do
      assert.is_true(exception.applies, exception.because)
    end
  end)

  it("is docs/faults.md, which `make docs-faults` writes", function()
    assert.is_true(support.read "docs/faults.md" == rules.markdown(), "run `make docs-faults`")
  end)
end)
