-- What a client learns from one call for the others: when to leave a service alone, and how long.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

-- nginx's clock is its own.
if support.in_nginx then return end

local events, restore

local function record(event)
  event.at = core.now()
  events[#events + 1] = event
end

local function client(overrides)
  local options = { on_event = record }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

local function status(adf, name, options)
  local parameters = { integrationRuntimeName = name or "ir-0001" }
  return adf.integration_runtimes:get_status(parameters, options)
end

local function sync(adf, name, options)
  return adf.integration_runtimes:sync_credentials({ integrationRuntimeName = name }, options)
end

local function names(count)
  local list = {}
  for i = 1, count do list[i] = ("ir-%04d"):format(i) end
  return list
end

local function setup()
  support.reset()
  events = {}
  restore = support.hurry()
end

local function all_sent(kind)
  local found = {}
  for _, event in ipairs(events) do
    if event.type == (kind or "request") then found[#found + 1] = event end
  end
  return found
end

describe("a 429", function()
  before_each(setup)
  after_each(function() restore() end)

  it("holds back every call of the subscription for as long as the service asks", function()
    support.fault { status = 429, headers = { ["Retry-After"] = "7" } }
    local adf = client()
    local _, failures = cloudsync.map(names(40), function(name) return status(adf, name) end,
      { concurrency = 4 })
    assert.equal(0, #failures)
    local refused
    for _, event in ipairs(events) do
      if event.type == "response" and event.status == 429 then refused = event.at end
      local early = refused and event.type == "request" and event.at - refused < 7
      assert(not early, "a call was sent before the time was over")
    end
    assert.is_number(refused)
    assert.equal(41, #support.requests "service=arm")
    assert.is_true(#all_sent "wait" >= 3)
  end)

  it("does not hold back another subscription, nor another client", function()
    support.fault { status = 429, headers = { ["Retry-After"] = "60" } }
    local adf, started = client { retries = 0 }, core.now()
    assert.equal("throttled", select(2, status(adf)).kind)
    local _, err = adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0001",
      subscriptionId = "0f0e0d0c-0000-4000-8000-000000000001" }
    assert.equal(404, err.status)
    assert.is_table((status(client())))
    assert.is_true(core.now() - started < 7)
  end)

  it("fails at once those whose deadline it passes, and nothing is sent", function()
    support.fault { status = 429, headers = { ["Retry-After"] = "30" } }
    local adf = client { retries = 0 }
    status(adf)
    local started = core.now()
    local _, err = status(adf, "ir-0002", { deadline = 10 })
    assert.same({ "throttled", "not_sent", 0 }, { err.kind, err.outcome, err.attempts })
    assert.matches("come back in", err.message)
    assert.is_true(err.retry_after > 28 and err.retry_after <= 30)
    assert.is_true(core.now() - started < 1)
    assert.equal(1, #support.requests "service=arm")
    assert.is_table((status(adf, "ir-0002", { deadline = 60 })))
  end)

  it("fails at once where the service asks for more patience than there is", function()
    support.fault { status = 429, headers = { ["Retry-After"] = "3600" } }
    local adf = client()
    local _, err = status(adf)
    assert.same({ "throttled", 3600 }, { err.kind, err.retry_after })
    assert.equal("not_sent", select(2, status(adf)).outcome)
    assert.equal(1, #support.requests "service=arm")
  end)
end)

describe("a quota", function()
  before_each(setup)
  after_each(function() restore() end)

  -- How long 60 calls one by one take where so many calls remain.
  local function spent(remaining)
    support.reset()
    support.fault { headers = { ["x-ms-ratelimit-remaining-subscription-reads"] = remaining },
      status = 200, body = { name = "x", properties = {} }, times = 0 }
    local adf, started = client(), core.now()
    for _ = 1, 60 do assert(status(adf)) end
    return core.now() - started
  end

  it("that comes to its end slows the pace, the more the less remains", function()
    local plenty, some, none = spent "200", spent "25", spent "0"
    assert.is_true(plenty < 3, "it took " .. plenty)
    assert.is_true(some >= 58 * 0.07, "it took " .. some)
    assert.is_true(none >= 58 * 0.15 - 0.01 and none > some, "it took " .. none)
  end)

  it("slows the pace no further where less than none remains", function()
    local nonsense = spent "-100000"
    assert.is_true(nonsense < 60 * 0.15 + 3, "it took " .. nonsense)
  end)
end)

describe("a service that only fails", function()
  before_each(setup)
  after_each(function() restore() end)

  local function fail(adf, count)
    for _ = 1, count do status(adf, nil, { retries = 0 }) end
  end

  it("is not asked again for a while, and the error says why", function()
    support.fault { status = 500, times = 0 }
    local adf = client()
    fail(adf, 60)
    assert.equal(50, #support.requests "service=arm")
    local _, err = status(adf)
    assert.same({ "service", "CircuitOpen", "not_sent", true },
      { err.kind, err.code, err.outcome, err.retryable })
    assert.matches("the last 50 calls failed", err.message)
    assert.equal(50, #support.requests "service=arm")
  end)

  it("is asked once after the rest, and then by all if it answers", function()
    support.fault { status = 500, times = 51 }
    local adf = client()
    fail(adf, 50)
    cloudsync.sleep(31)
    fail(adf, 5)
    assert.equal(51, #support.requests "service=arm")
    cloudsync.sleep(31)
    assert.is_table((status(adf)))
    assert.is_table((status(adf)))
    assert.equal(53, #support.requests "service=arm")
  end)

  it("is not one that callers leave no time to answer", function()
    support.fault { delay = 0.1, times = 60 }
    local adf, items = client(), names(60)
    local _, failures = cloudsync.map(items, function(name)
      return status(adf, name, { deadline = 0.05, retries = 0 })
    end, { concurrency = 60 })
    assert.equal(60, #failures)
    assert.is_table((status(adf)))
  end)

  it("is asked on while one call in fifty succeeds, or is refused", function()
    support.fault { { status = 500, times = 49 }, { status = 404 }, { status = 500, times = 49 } }
    local adf = client()
    fail(adf, 100)
    assert.equal(100, #support.requests "service=arm")
  end)
end)

-- Any faults, in any order, at any time.
describe("random faults", function()
  before_each(setup)
  after_each(function() restore() end)

  local KINDS = {
    function(random)
      return { status = random(2) == 1 and 429 or 503,
        headers = { ["Retry-After"] = tostring(random(1, 9)) } }
    end,
    function() return { status = 429 } end,
    function() return { status = 500 } end,
    function() return { status = 503 } end,
    function() return { kind = "reset_before" } end,
    function() return { kind = "reset_after" } end,
    function() return { kind = "truncated" } end,
    function() return { kind = "bad_json" } end,
    function() return { status = 404 } end,
    function() return { status = 401 } end,
  }

  local function schedule(random)
    local rules = {}
    for i = 1, random(5, 40) do
      rules[i] = KINDS[random(#KINDS)](random)
      rules[i].times, rules[i].skip = random(1, 3), random(0, 2)
    end
    return rules
  end

  -- No request after a refusal that named a time, before that time.
  local function check_patience()
    local until_at = 0
    for _, event in ipairs(events) do
      if event.type == "request" then
        assert(event.at >= until_at - 0.001, ("sent %g s too early"):format(until_at - event.at))
      end
      local after = event.type == "response" and event.err
        and event.err.message:match "come back in ([%d.]+) s"
      if after then until_at = math.max(until_at, event.at + tonumber(after)) end
    end
  end

  for seed = 1, 12 do
    it(("break no promise (%d)"):format(seed), function()
      math.randomseed(seed)
      support.fault(schedule(math.random))
      local adf, deadlines = client(), {}
      for i = 1, 24 do deadlines[i] = math.random(1, 90) end
      local calls = {}
      cloudsync.map(names(24), function(name, i)
        local started = core.now()
        local call = i % 2 == 0 and status or sync
        local result, err = call(adf, name, { deadline = deadlines[i] })
        calls[i] = { name = name, took = core.now() - started, err = err, ok = result ~= nil }
      end, { concurrency = math.random(1, 8) })
      local synced = support.control("GET", "factories/" .. support.env "FACTORY").synced
      for i, call in ipairs(calls) do
        assert(call.took <= deadlines[i] + 0.1, ("%s outlived its deadline of %d s: %g s"):format(
          call.name, deadlines[i], call.took))
        local effects = synced[call.name] and synced[call.name].syncs or 0
        assert(effects <= 1, call.name .. " was synchronised more than once")
        if i % 2 == 1 and call.ok then assert.equal(1, effects) end
        if not call.ok and call.err.outcome ~= "unknown" then assert.equal(0, effects) end
        assert(call.ok or call.err.message ~= "", "an error without a reason")
      end
      check_patience()
    end)
  end
end)
