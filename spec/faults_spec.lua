--- What calls do where a service, or the way to it, fails: errors, repeats, deadlines, limits. What
-- each fault comes to for each service is in fault_matrix_spec.lua.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local RUNTIME = "ir-0001"

-- One that may be repeated, and one that may not.
local OPERATIONS = {
  get = { action = "getStatus", call = function(adf, options)
    return adf.integration_runtimes:get_status({ integrationRuntimeName = RUNTIME }, options)
  end },
  sync = { action = "syncCredentials", call = function(adf, options)
    return adf.integration_runtimes:sync_credentials({ integrationRuntimeName = RUNTIME }, options)
  end },
}

local PROTOCOLS = {
  { name = "TLS", endpoint = "ARM" },
  { name = "plain HTTP", endpoint = "PLAIN" },
}

local NOW = { ["Retry-After"] = "0" }

local function take(settings)
  local options = {}
  for name, value in pairs(settings or {}) do options[name] = value end
  return options
end

local function client(endpoint, settings)
  local options = take(settings)
  options.endpoint = support.env(endpoint)
  return support.datafactory(options)
end

local function seen(operation)
  return support.requests("operation=" .. operation.action)
end

local function elapsed(fn, ...)
  local started = cloudsync.now()
  local result, err = fn(...)
  return cloudsync.now() - started, result, err
end

describe("a call that meets", function()
  before_each(support.reset)

  it("an empty answer where JSON is expected returns true", function()
    support.fault { kind = "empty" }
    assert.is_true(OPERATIONS.get.call(client "ARM"))
  end)

  it("a failure in the service's words returns its code, message and request id", function()
    support.fault { status = 409 }
    local _, err = OPERATIONS.sync.call(client "ARM")
    assert.equal("Conflict", err.code)
    assert.equal("Another operation on the resource is in progress.", err.message)
    assert.matches("^%x+%-%x+%-%x+%-%x+%-%x+$", err.request_id)
    assert.matches("Conflict", tostring(err))
    assert.matches(err.request_id, tostring(err), 1, true)
  end)

  it("a page in place of JSON returns the start of it as text", function()
    support.fault { kind = "html", status = 502 }
    local _, err = OPERATIONS.sync.call(client "ARM")
    assert.matches("proxy.example could not connect", err.body, 1, true)
  end)

  it("a page that is no text returns no control characters", function()
    support.fault { status = 400, body = "\27[2J\0\7" .. ("x"):rep(10000) }
    local _, err = OPERATIONS.sync.call(client "ARM")
    assert.is_nil(err.body:find "%c")
    assert.is_true(#err.body <= 4096)
  end)

  it("a certificate for another name says that it is not trusted", function()
    local _, err = OPERATIONS.get.call(client "WRONG_NAME")
    assert.matches("certificate", err.message)
  end)

  it("an unreadable ca_file is not tried again", function()
    local _, err = OPERATIONS.get.call(client("ARM", { ca_file = "/nonexistent/ca.pem" }))
    assert.equal("transport", err.kind)
    assert.equal("not_sent", err.outcome)
    assert.equal(1, err.attempts)
    assert.matches("ca_file", err.message)
  end)

  it("a certificate that it was told not to check gets its answer", function()
    local status = OPERATIONS.get.call(client("WRONG_NAME", { insecure = true }))
    assert.equal(RUNTIME, status.name)
  end)
end)

describe("an unsafe call", function()
  before_each(support.reset)

  for _, protocol in ipairs(PROTOCOLS) do
    for _, kind in ipairs { "reset_before", "reset_after" } do
      local title = ("is never sent again on a kept connection that fails (%s, %s)")
      it(title:format(kind, protocol.name), function()
        local adf = client(protocol.endpoint)
        assert.is_true(OPERATIONS.sync.call(adf)) -- warms the connection
        support.control("DELETE", "requests")
        support.fault { kind = kind, times = 1 }
        local _, err = OPERATIONS.sync.call(adf)
        local requests = seen(OPERATIONS.sync)
        assert.equal(1, #requests)
        assert.is_true(requests[1].connection_requests > 1, "the connection was not a kept one")
        assert.equal("transport", err.kind)
        assert.equal("unknown", err.outcome)
        assert.is_false(err.retryable)
        assert.equal(1, err.attempts)
        assert.is_true(OPERATIONS.sync.call(adf))
      end)
    end

    it("may be repeated by the caller after it failed over " .. protocol.name, function()
      local adf = client(protocol.endpoint)
      support.fault { kind = "reset_before", times = 1 }
      assert.is_nil((OPERATIONS.sync.call(adf)))
      assert.is_true(OPERATIONS.sync.call(adf))
      assert.equal(1, support.control("GET", "factories/" .. support.env "FACTORY").syncs)
    end)

    it("is seen at most once where many share what fails, over " .. protocol.name, function()
      local adf, names = client(protocol.endpoint), {}
      for i = 1, 24 do names[i] = ("ir-%04d"):format(i) end
      local function warm(name)
        return adf.integration_runtimes:get { integrationRuntimeName = name }
      end
      cloudsync.map(names, warm, { concurrency = 8 })
      support.control("DELETE", "requests")
      support.fault { match = { operation = "syncCredentials" }, kind = "reset_after", skip = 3,
        times = 2 }
      local results, failures = cloudsync.map(names, function(name)
        return adf.integration_runtimes:sync_credentials { integrationRuntimeName = name }
      end, { concurrency = 8 })
      assert.is_true(#failures >= 2)
      for _, failure in ipairs(failures) do assert.equal("transport", failure.err.kind) end
      local by_name, succeeded = {}, 0
      for _, request in ipairs(seen(OPERATIONS.sync)) do
        by_name[request.path] = (by_name[request.path] or 0) + 1
      end
      for path, count in pairs(by_name) do assert.equal(1, count, path) end
      for i = 1, #names do succeeded = succeeded + (results[i] and 1 or 0) end
      assert.equal(#names, succeeded + #failures)
    end)
  end

  it("has its effect once where the answer is false", function()
    support.fault { match = { operation = "syncCredentials" }, status = 500, effect = true,
      times = 0 }
    local _, err = OPERATIONS.sync.call(client "ARM")
    assert.equal("unknown", err.outcome)
    assert.matches("may have taken effect", tostring(err))
    local factory = support.control("GET", "factories/" .. support.env "FACTORY")
    assert.equal(1, factory.synced[RUNTIME].syncs)
  end)

  it("that was refused for want of capacity is not said to have taken effect", function()
    support.fault { status = 503, headers = NOW, times = 0 }
    local _, err = OPERATIONS.sync.call(client "ARM", { retries = 1 })
    assert.equal("rejected", err.outcome)
    assert.is_nil(tostring(err):find "taken effect")
  end)
end)

describe("a safe call", function()
  before_each(support.reset)

  for _, protocol in ipairs(PROTOCOLS) do
    it("gets over a kept connection that fails, over " .. protocol.name, function()
      local adf = client(protocol.endpoint)
      OPERATIONS.get.call(adf)
      support.fault { kind = "reset_before", times = 1 }
      assert.equal(RUNTIME, OPERATIONS.get.call(adf).name)
    end)

  end
end)

describe("an answer", function()
  before_each(support.reset)

  -- libcurl takes an HTTP/1.1 connection that is in use for a multiplexed one while it has an HTTP/2
  -- connection to the same host, and crosses the answers (curl's issue 4885).
  it("is given to its own call, though the server offers HTTP/2 too", function()
    local adf, wrong, names = client "ARM", {}, {}
    for i = 1, 90 do names[i] = ("ir-%04d"):format(i) end
    support.fault { delay = 0.01, match = { operation = "getStatus" }, times = 0 }
    cloudsync.map(names, function(name)
      if tonumber(name:sub(-1)) % 3 == 0 then
        assert(adf.integration_runtimes:sync_credentials { integrationRuntimeName = name })
      end
      local status = assert(adf.integration_runtimes:get_status { integrationRuntimeName = name })
      if status.name ~= name then wrong[#wrong + 1] = name .. " got " .. status.name end
    end, { concurrency = 12 })
    assert.same({}, wrong)
    for _, request in ipairs(support.requests "service=arm") do
      assert.equal(1.1, request.http_version)
    end
  end)
end)

describe("a retry", function()
  local random = core.random

  before_each(support.reset)
  after_each(function() core.random = random end)

  for _, retries in ipairs { 0, 1, 3 } do
    for where, with in pairs {
      ["of the call"] = function() return client "ARM", { retries = retries } end,
      ["of the client"] = function() return client("ARM", { retries = retries }) end,
      ["of the call over the client's"] = function()
        return client("ARM", { retries = 7 }), { retries = retries }
      end,
    } do
      for name, operation in pairs { safe = OPERATIONS.get, unsafe = OPERATIONS.sync } do
        local title = "comes at most %d times for the retries %s, where it is %s"
        it(title:format(retries, where, name), function()
          support.fault { status = 429, headers = NOW, times = 0 }
          local adf, options = with()
          local _, err = operation.call(adf, options)
          assert.equal(retries + 1, err.attempts)
          assert.equal(retries + 1, #seen(operation))
        end)
      end
    end
  end

  it("comes at most 3 times where nothing is said", function()
    support.fault { status = 503, headers = NOW, times = 0 }
    local _, err = OPERATIONS.get.call(client "ARM")
    assert.equal(4, err.attempts)
    assert.equal(4, #seen(OPERATIONS.get))
  end)

  it("leads to the result, with the number of attempts", function()
    support.fault { status = 503, headers = NOW, times = 2 }
    local result, response = OPERATIONS.sync.call(client "ARM")
    assert.is_true(result)
    assert.equal(200, response.status)
    assert.equal(3, response.attempts)
    assert.equal(1, support.control("GET", "factories/" .. support.env "FACTORY").syncs)
  end)

  it("leads over failures of several kinds to the result", function()
    core.random = function() return 0.02 end
    support.fault { { status = 500 }, { status = 429, headers = NOW }, { kind = "reset_before" } }
    local result, response = OPERATIONS.get.call(client "ARM")
    assert.equal(RUNTIME, result.name)
    -- libcurl itself may repeat a safe request where a kept connection fails
    assert.is_true(response.attempts >= 3)
    assert.equal(4, #seen(OPERATIONS.get))
  end)

  it("ends at a failure that a repeat does not mend", function()
    support.fault { { status = 500, headers = NOW }, { status = 404 } }
    local _, err = OPERATIONS.get.call(client "ARM")
    assert.equal(404, err.status)
    assert.equal(2, err.attempts)
    assert.is_false(err.retryable)
  end)

  it("has the request id of the first attempt, and each call its own", function()
    support.fault { status = 429, headers = NOW, times = 2 }
    local adf = client "ARM"
    OPERATIONS.sync.call(adf)
    OPERATIONS.sync.call(adf)
    local ids = {}
    for i, request in ipairs(seen(OPERATIONS.sync)) do
      ids[i] = request.headers["x-ms-client-request-id"]
    end
    assert.equal(4, #ids)
    assert.matches("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$", ids[1])
    assert.equal(ids[1], ids[2])
    assert.equal(ids[1], ids[3])
    assert.is_not_equal(ids[1], ids[4])
  end)

  local function gap(headers)
    support.fault { status = 429, headers = headers, times = 1 }
    local result, response = OPERATIONS.sync.call(client "ARM")
    assert.is_true(result)
    assert.equal(2, response.attempts)
    local requests = seen(OPERATIONS.sync)
    return requests[2].time - requests[1].time
  end

  it("waits as many seconds as Retry-After says", function()
    local waited = gap { ["Retry-After"] = "1" }
    assert.is_true(waited >= 0.99 and waited < 1.3, "it waited " .. waited .. " s")
  end)

  it("waits as many milliseconds as x-ms-retry-after-ms says", function()
    local waited = gap { ["x-ms-retry-after-ms"] = "300" }
    assert.is_true(waited >= 0.29 and waited < 0.5, "it waited " .. waited .. " s")
  end)

  it("waits for x-ms-retry-after-ms rather than the coarser Retry-After", function()
    local waited = gap { ["x-ms-retry-after-ms"] = "100", ["Retry-After"] = "5" }
    assert.is_true(waited >= 0.09 and waited < 0.3, "it waited " .. waited .. " s")
  end)

  it("waits for the date that Retry-After says", function()
    local at = os.time() + 2
    gap { ["Retry-After"] = os.date("!%a, %d %b %Y %H:%M:%S GMT", at) }
    local second = seen(OPERATIONS.sync)[2].time
    assert.is_true(second >= at - 0.01, "it came " .. at - second .. " s early")
    assert.is_true(second <= at + 1.3, "it came " .. second - at .. " s late")
  end)

  it("waits twice as long each time where the service says nothing", function()
    core.random = function() return 0.1 end
    support.fault { status = 500, times = 3 }
    OPERATIONS.get.call(client "ARM")
    local requests = seen(OPERATIONS.get)
    for i, expected in ipairs { 0.1, 0.2, 0.4 } do
      local waited = requests[i + 1].time - requests[i].time
      assert.is_true(waited >= expected - 0.01 and waited < expected + 0.15,
        ("wait %d took %.3f s"):format(i, waited))
    end
  end)

  for name, seconds in pairs { ["the deadline"] = 5, ["all patience"] = 86400 } do
    it("is left to the caller where Retry-After is beyond " .. name, function()
      -- a subscription of its own, so that nothing else is held back
      local adf = client("ARM", { subscriptionId = "00000000-0000-4000-8000-0000000" .. 10000
        + #name })
      support.fault { status = 429, headers = { ["Retry-After"] = tostring(seconds) }, times = 0 }
      local spent, _, err = elapsed(OPERATIONS.sync.call, adf, { deadline = seconds < 100 and 1
        or nil })
      assert.is_true(spent < 0.3, "it took " .. spent .. " s")
      assert.equal("throttled", err.kind)
      assert.equal("rejected", err.outcome)
      assert.is_true(err.retryable)
      assert.equal(1, err.attempts)
      assert.equal(1, #seen(OPERATIONS.sync))
    end)
  end
end)

describe("the deadline", function()
  local random = core.random

  before_each(support.reset)
  after_each(function() core.random = random end)

  local DEADLINE = 0.3

  local cases = {
    { "ends an attempt that takes longer", { delay = 1 }, "timeout", least = DEADLINE },
    { "ends an answer that comes slowly", { kind = "slow_body", delay = 0.02 }, "timeout",
      least = DEADLINE },
    { "ends the second attempt", { { status = 503, headers = { ["x-ms-retry-after-ms"] = "50" } },
      { delay = 1 } }, "timeout", least = DEADLINE },
    { "leaves no wait that it would cut short", { status = 500 }, "service", least = 0 },
    { "ends attempts without number", { status = 429, headers = {
      ["x-ms-retry-after-ms"] = "20" } }, "throttled", or_else = "timeout", least = DEADLINE / 2 },
  }

  for _, case in ipairs(cases) do
    for _, where in ipairs { "the call", "the client" } do
      it(("%s (of %s)"):format(case[1], where), function()
        core.random = function() return 0.9 end
        OPERATIONS.sync.call(client "ARM") -- the connection is not what is measured
        local rules = case[2][1] and case[2] or { case[2] }
        for i, rule in ipairs(rules) do
          rules[i] = take(rule)
          if #rules == 1 then rules[i].times = 0 end
        end
        support.fault(rules)
        local options = { retries = 1000, deadline = where == "the call" and DEADLINE or nil }
        local adf = client("ARM", { deadline = where == "the client" and DEADLINE or nil })
        local spent, _, err = elapsed(OPERATIONS.get.call, adf, options)
        -- where attempts follow each other closely, either may be what the deadline meets
        assert.equal(err.kind == case.or_else and case.or_else or case[3], err.kind)
        assert.is_true(spent >= case.least - 0.01, "it took only " .. spent .. " s")
        assert.is_true(spent <= DEADLINE + 0.1, "it took " .. spent .. " s")
      end)
    end
  end

  it("that has passed already lets nothing be sent", function()
    local _, err = OPERATIONS.sync.call(client "ARM", { deadline = 0 })
    assert.equal("timeout", err.kind)
    assert.equal("not_sent", err.outcome)
    assert.equal(0, err.attempts)
    assert.is_boolean(err.retryable)
    assert.equal(0, #support.requests())
  end)

  it("and the timeout may be without end", function()
    assert.is_truthy(OPERATIONS.get.call(client "ARM", { deadline = math.huge }))
    assert.is_truthy(OPERATIONS.get.call(client "ARM", { timeout = math.huge }))
  end)

  it("of a call leaves the others alone", function()
    support.fault { match = { name = RUNTIME }, delay = 0.5 }
    local adf = client "ARM"
    local slow = cloudsync.spawn(function() return OPERATIONS.get.call(adf, { deadline = 0.1 }) end)
    local other = cloudsync.spawn(function()
      return adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0002" }
    end)
    local _, err = slow:wait()
    assert.equal("timeout", err.kind)
    assert.equal("ir-0002", other:wait().name)
  end)
end)

describe("a server that closes each connection after ten requests", function()
  -- Prints how many calls failed and how many of 188 runtimes were synchronised other than once.
  local SCRIPT = [[
    local adf = support.datafactory { endpoint = support.env "%s" }
    local names = {}
    for i = 1, 188 do names[i] = ("ir-%%04d"):format(i) end
    local _, failures = require "cloudsync".map(names, function(name)
      return adf.integration_runtimes:sync_credentials { integrationRuntimeName = name }
    end)
    local wrong = #names
    local synced = support.control("GET", "factories/" .. support.env "FACTORY").synced
    for _, runtime in pairs(synced) do wrong = wrong - (runtime.syncs == 1 and 1 or 0) end
    io.write(#failures, " failed, ", wrong, " wrong")
  ]]

  for _, protocol in ipairs(PROTOCOLS) do
    it("makes no unsafe call fail, over " .. protocol.name, function()
      assert.equal("0 failed, 0 wrong",
        (support.run_script(SCRIPT:format(protocol.endpoint), { KEEPALIVE_REQUESTS = 10 })))
    end)
  end
end)

describe("max_response_bytes", function()
  before_each(support.reset)

  for _, protocol in ipairs(PROTOCOLS) do
    it("is the most that an answer may have, over " .. protocol.name, function()
      local body = ('{"name":"%s"}'):format(("x"):rep(489))
      assert.equal(500, #body)
      for limit, fits in pairs { [500] = true, [499] = false } do
        support.fault { status = 200, body = body }
        local adf = client(protocol.endpoint, { max_response_bytes = limit })
        local result, err = OPERATIONS.get.call(adf)
        assert.equal(fits, result ~= nil)
        if not fits then
          assert.equal("limit", err.kind)
          assert.matches("max_response_bytes", err.message)
        end
      end
    end)
  end

  it("ends an answer that tells no length as soon as it is larger", function()
    support.fault { kind = "endless", times = 0 }
    local adf = client("ARM", { max_response_bytes = 4096 })
    local spent, _, err = elapsed(OPERATIONS.get.call, adf)
    assert.equal("limit", err.kind)
    assert.is_true(spent < 1, "it took " .. spent .. " s")
    assert.equal(1, #seen(OPERATIONS.get))
  end)
end)

describe("the status 401", function()
  before_each(support.reset)

  it("ends a call whose token can't be renewed", function()
    support.fault { status = 401, times = 0 }
    local _, err = OPERATIONS.sync.call(client "ARM")
    assert.equal("auth", err.kind)
    assert.equal(1, err.attempts)
    assert.equal(1, #seen(OPERATIONS.sync))
  end)

  it("lets a revoked token be renewed once, whatever the retries", function()
    local adf = client("ARM", { credential = support.credential(), retries = 0 })
    assert.is_true(OPERATIONS.sync.call(adf))
    support.control("POST", "tokens/revoke")
    support.control("DELETE", "requests")
    local result, response = OPERATIONS.sync.call(adf)
    assert.is_true(result)
    assert.equal(2, response.attempts)
    assert.equal(1, #support.requests "service=entra")
    local requests = seen(OPERATIONS.sync)
    assert.equal(2, #requests)
    assert.equal(401, requests[1].status)
    assert.is_not_equal(requests[1].headers.authorization, requests[2].headers.authorization)
  end)

  it("ends a call that a new token does not help", function()
    local adf = client("ARM", { credential = support.credential() })
    support.fault { match = { operation = "syncCredentials" }, status = 401, times = 0 }
    local _, err = OPERATIONS.sync.call(adf)
    assert.equal("auth", err.kind)
    assert.equal("rejected", err.outcome)
    assert.equal(2, err.attempts)
    assert.equal(2, #seen(OPERATIONS.sync))
    assert.equal(2, #support.requests "service=entra")
  end)
end)

describe("an error document of another shape", function()
  before_each(support.reset)

  it("gives an error that can be read", function()
    for _, body in ipairs { [[{"error":{"code":{"a":1},"message":"m"}}]],
      [[{"error":{"code":17,"message":"m"}}]], [[{"error":{"code":null,"message":"m"}}]],
      [[{"error":{"code":"c","message":{}}}]], [[{"error":[]}]], [["text"]], "[1]" } do
      support.fault { status = 400, body = body }
      local _, err = OPERATIONS.sync.call(client "ARM")
      assert.is_string(tostring(err))
      assert.equal("argument", err.kind)
      assert.is_true(err.code == nil or type(err.code) == "string")
    end
  end)
end)
