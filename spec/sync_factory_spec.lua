local cloudsync = require "cloudsync"
local support = require "spec.support"
local sync_factory = require "cloudsync.workflows.sync_factory"

local FACTORY = "workflow-factory"

-- A factory of the given make, and a client of it.
local function factory(definition, overrides)
  definition.factoryName = FACTORY
  if not definition.sync_seconds then definition.sync_seconds = 0.1 end
  support.factory(definition)
  local options = { factoryName = FACTORY }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

local function by_name(report)
  local entries = {}
  for _, entry in ipairs(report.runtimes) do entries[entry.name] = entry end
  return entries
end

local function syncs()
  return support.control("GET", "factories/" .. FACTORY).syncs
end

describe("sync_factory", function()
  before_each(support.reset)

  it("synchronises every self-hosted runtime once", function()
    local adf = factory { runtimes = 5 }
    local report = assert(sync_factory(adf))
    assert.is_true(report.ok)
    assert.same({ total = 5, synced = 5, in_sync = 0, planned = 0, skipped = 0, failed = 0 },
      report.counts)
    assert.equal(5, syncs())
    assert.equal(5, #support.requests "operation=syncCredentials")
    for i, entry in ipairs(report.runtimes) do
      assert.equal(("ir-%04d"):format(i), entry.name)
      assert.equal("SelfHosted", entry.type)
      assert.equal("synced", entry.outcome)
      assert.equal(2, entry.attempts)
      assert.is_nil(entry.verified)
      assert.is_number(entry.elapsed)
    end
  end)

  it("leaves out managed and linked runtimes, and says why", function()
    local adf = factory { runtimes = 4, managed = 1, linked = 1 }
    local report = assert(sync_factory(adf))
    local entries = by_name(report)
    assert.is_true(report.ok)
    assert.equal("skipped", entries["ir-0004"].outcome)
    assert.matches("^managed", entries["ir-0004"].reason)
    assert.equal("skipped", entries["ir-0003"].outcome)
    assert.matches("^linked", entries["ir-0003"].reason)
    assert.equal(2, #support.requests "operation=syncCredentials")
  end)

  it("refuses a runtime whose dispatcher node is not online", function()
    local adf = factory { runtimes = 2, offline = 1 }
    local entry = by_name(assert(sync_factory(adf)))["ir-0002"]
    assert.equal("skipped", entry.outcome)
    assert.matches("dispatcher node Node_1 is Offline", entry.reason)
    assert.equal(1, #support.requests "operation=syncCredentials")
  end)

  it("refuses one that is limited because its dispatcher is down", function()
    local adf = factory { runtimes = 1, overrides = { ["ir-0001"] = {
      state = "Limited",
      nodes = { { status = "Offline", isActiveDispatcher = true },
        { status = "Online", isActiveDispatcher = false } },
    } } }
    local report = assert(sync_factory(adf))
    assert.equal("skipped", report.runtimes[1].outcome)
    assert.equal(0, syncs())
  end)

  it("syncs it all the same when forced", function()
    local adf = factory { runtimes = 1, overrides = { ["ir-0001"] = {
      state = "Limited",
      nodes = { { status = "Offline", isActiveDispatcher = true },
        { status = "Online", isActiveDispatcher = false } },
    } } }
    assert.equal("synced", assert(sync_factory(adf, { force = true })).runtimes[1].outcome)
    assert.equal(1, syncs())
  end)

  it("asks no status where preflight is off", function()
    local adf = factory { runtimes = 3, offline = 1 }
    local report = assert(sync_factory(adf, { preflight = false }))
    assert.equal(0, #support.requests "operation=getStatus")
    assert.equal(3, #support.requests "operation=syncCredentials")
    assert.equal(1, report.counts.failed)
    assert.is_false(report.ok)
  end)

  it("verifies that every node says that its credentials are in sync", function()
    local adf = factory { runtimes = 3, sync_seconds = 0.4 }
    local report = assert(sync_factory(adf, { verify = true }))
    assert.is_true(report.ok)
    for _, entry in ipairs(report.runtimes) do
      assert.is_true(entry.verified)
      assert.is_true(entry.elapsed >= 0.4)
    end
    assert.equal(3, syncs())
  end)

  it("fails a runtime that does not get in sync in time", function()
    local adf = factory { runtimes = 2, overrides = { ["ir-0002"] = { sync_seconds = 60 } } }
    local report = assert(sync_factory(adf, { verify = true, timeout = 0.6 }))
    local entry = by_name(report)["ir-0002"]
    assert.is_false(report.ok)
    assert.equal("failed", entry.outcome)
    assert.is_false(entry.verified)
    assert.equal("timeout", entry.err.kind)
    assert.equal("ir-0002", entry.err.target)
    assert.matches("node %S+ does not say credentialInSync after 0.6 s", entry.reason)
    assert.equal(1, report.counts.synced)
  end)

  it("leaves alone what is in sync, where only stale ones are wanted", function()
    local adf = factory { runtimes = 5, in_sync = 2 }
    local report = assert(sync_factory(adf, { stale_only = true }))
    assert.equal(2, report.counts.in_sync)
    assert.equal(3, report.counts.synced)
    assert.equal(3, syncs())
  end)

  it("takes only the runtimes that are named, and tells of names that there are not", function()
    local adf = factory { runtimes = 120, page_size = 50 }
    local report = assert(sync_factory(adf, { only = { "ir-0110", "ir-0001", "nope" } }))
    local entries = by_name(report)
    assert.equal(3, report.counts.total)
    assert.equal("synced", entries["ir-0110"].outcome)
    assert.equal("failed", entries["nope"].outcome)
    assert.equal("not_found", entries["nope"].err.kind)
    assert.is_false(report.ok)
    assert.equal(2, syncs())
  end)

  it("plans in a dry run, and sends no sync", function()
    local adf = factory { runtimes = 4, offline = 1, managed = 1 }
    local report = assert(sync_factory(adf, { dry_run = true }))
    assert.equal(2, report.counts.planned)
    assert.equal(2, report.counts.skipped)
    assert.equal(0, #support.requests "operation=syncCredentials")
  end)

  it("goes through every page, and tells of each runtime as it is done", function()
    local adf = factory { runtimes = 130, page_size = 50 }
    local seen, last = {}, nil
    local report = assert(sync_factory(adf, { concurrency = 32, on_progress = function(event)
      seen[event.runtime.name] = true
      last = event.counts.total
    end }))
    assert.equal(130, report.counts.synced)
    assert.equal(130, last)
    for _, entry in ipairs(report.runtimes) do assert.is_true(seen[entry.name]) end
  end)

  it("keeps to the concurrency that it is given", function()
    local adf = factory { runtimes = 40, latency = 0.02 }
    assert(sync_factory(adf, { concurrency = 5 }))
    assert.is_true(support.control("GET", "counts").max_in_flight.arm <= 6) -- the next page is read ahead
  end)

  it("is not stopped by one runtime's failure", function()
    local adf = factory({ runtimes = 10 }, { retries = 0 })
    support.fault {
      { match = { operation = "syncCredentials", name = "ir-0003" }, status = 403,
        body = { error = { code = "AuthorizationFailed", message = "no" } } },
      { match = { operation = "getStatus", name = "ir-0005" }, status = 500 },
    }
    local report = assert(sync_factory(adf))
    local entries = by_name(report)
    assert.equal(8, report.counts.synced)
    assert.equal("denied", entries["ir-0003"].err.kind)
    assert.equal("service", entries["ir-0005"].err.kind)
    assert.is_false(report.ok)
  end)

  it("repeats what was throttled, and reads that failed", function()
    local adf = factory { runtimes = 4 }
    support.fault {
      { match = { operation = "syncCredentials", name = "ir-0001" }, times = 2, status = 429,
        headers = { ["Retry-After"] = "0" } },
      { match = { operation = "getStatus", name = "ir-0002" }, times = 2, status = 500 },
    }
    local report = assert(sync_factory(adf))
    assert.is_true(report.ok)
    assert.equal(4, by_name(report)["ir-0001"].attempts)
    assert.equal(4, by_name(report)["ir-0002"].attempts)
    assert.equal(4, syncs())
  end)

  it("does not repeat a sync whose fate is unknown", function()
    local adf = factory { runtimes = 1 }
    support.fault { kind = "reset_after", match = { operation = "syncCredentials" } }
    local entry = assert(sync_factory(adf)).runtimes[1]
    assert.equal("failed", entry.outcome)
    assert.equal("unknown", entry.err.outcome)
    assert.equal(1, #support.requests "operation=syncCredentials")
  end)

  it("looks at the nodes to learn the fate of such a sync, when it verifies", function()
    local adf = factory { runtimes = 1 }
    support.fault { kind = "reset_after", match = { operation = "syncCredentials" } }
    local entry = assert(sync_factory(adf, { verify = true })).runtimes[1]
    assert.equal("synced", entry.outcome)
    assert.is_true(entry.verified)
    assert.equal(1, #support.requests "operation=syncCredentials")
  end)

  it("reports the sync's own error where the nodes stay out of sync", function()
    local adf = factory { runtimes = 1 }
    support.fault { kind = "reset_before", match = { operation = "syncCredentials" } }
    local entry = assert(sync_factory(adf, { verify = true, timeout = 0.5 })).runtimes[1]
    assert.equal("failed", entry.outcome)
    assert.equal("transport", entry.err.kind)
    assert.equal("unknown", entry.err.outcome)
    assert.equal(1, #support.requests "operation=syncCredentials")
  end)

  it("returns nil and an error where nothing can be listed", function()
    local adf = factory({ runtimes = 3 }, { factoryName = "other-factory" })
    local report, err = sync_factory(adf)
    assert.is_nil(report)
    assert.equal("not_found", err.kind)
    assert.equal("integration_runtimes:list_by_factory", err.operation)
  end)

  it("keeps what was done where the listing breaks off", function()
    local adf = factory({ runtimes = 30, page_size = 10 }, { retries = 0 })
    support.fault { match = { operation = "integrationRuntimes" }, skip = 2, status = 500 }
    local report = assert(sync_factory(adf))
    assert.equal(20, report.counts.synced)
    assert.equal("service", report.err.kind)
    assert.is_false(report.ok)
  end)

  it("renews its token in the middle", function()
    local adf = factory({ runtimes = 30 }, { credential = support.credential() })
    local done = 0
    local report = assert(sync_factory(adf, { concurrency = 4, on_progress = function()
      done = done + 1
      if done == 10 then support.control("POST", "tokens/revoke") end
    end }))
    assert.is_true(report.ok)
    assert.equal(2, #support.requests "service=entra")
  end)

  it("runs inside of a task, beside others", function()
    local adf = factory { runtimes = 10 }
    local reports = cloudsync.map({ 1, 2 }, function() return sync_factory(adf) end)
    assert.equal(10, reports[1].counts.synced)
    assert.equal(10, reports[2].counts.synced)
  end)

  it("raises for options that there are not", function()
    local adf = factory { runtimes = 1 }
    local ok, message = pcall(sync_factory, adf, { concurency = 3 })
    assert.is_false(ok)
    assert.matches("unknown option 'concurency' %(did you mean 'concurrency'%?%)", message)
    ok, message = pcall(sync_factory, adf, { verify = 1 })
    assert.is_false(ok)
    assert.matches("option 'verify' must be a boolean, got number", message)
  end)

  it("passes on a refusal of the factory's name", function()
    local report, err = sync_factory(support.datafactory { factoryName = "not a name" })
    assert.is_nil(report)
    assert.equal("argument", err.kind)
    assert.matches("factoryName", err.message)
  end)

  it("keeps to its timeout, whatever the looks take", function()
    local adf = factory { runtimes = 1 }
    support.fault { match = { operation = "getStatus" }, skip = 1, times = 0, kind = "delay",
      delay = 5 }
    local started = cloudsync.now()
    local entry = assert(sync_factory(adf, { verify = true, timeout = 0.5 })).runtimes[1]
    assert.is_true(cloudsync.now() - started < 1)
    assert.equal("failed", entry.outcome)
  end)

  it("looks again where one look fails", function()
    local adf = factory({ runtimes = 1 }, { retries = 0 })
    support.fault { match = { operation = "getStatus" }, skip = 1, times = 2, status = 404 }
    local entry = assert(sync_factory(adf, { verify = true, timeout = 5 })).runtimes[1]
    assert.equal("synced", entry.outcome)
    assert.is_true(entry.verified)
  end)

  it("does not take a runtime without nodes for verified", function()
    local adf = factory { runtimes = 1 }
    support.fault { match = { operation = "getStatus" }, times = 0, status = 200, body =
      [[{"name":"ir-0001","properties":{"type":"SelfHosted","typeProperties":{"nodes":[]}}}]] }
    local entry = assert(sync_factory(adf,
      { verify = true, force = true, timeout = 0.3 })).runtimes[1]
    assert.equal("failed", entry.outcome)
    assert.is_false(entry.verified)
    assert.matches("no node is registered", entry.reason)
  end)

  it("does not claim a sync that may never have been, where nothing was stale", function()
    local adf = factory { runtimes = 1, in_sync = 1 }
    support.fault { kind = "reset_before", match = { operation = "syncCredentials" } }
    local entry = assert(sync_factory(adf, { verify = true })).runtimes[1]
    assert.equal("in_sync", entry.outcome)
    assert.matches("not because of this sync", entry.reason)
    assert.equal(0, syncs())
  end)

  it("reports what in a list is no runtime, and goes on", function()
    local adf = factory { runtimes = 1 }
    support.fault { match = { operation = "integrationRuntimes" }, status = 200, body =
      [[{"value":[1,{"properties":{}},{"name":"ir-0001","properties":{"type":"SelfHosted"}}]}]] }
    local report = assert(sync_factory(adf))
    assert.equal(2, report.counts.failed)
    assert.equal(1, report.counts.synced)
  end)

  it("is not ended by an observer that raises", function()
    local adf = factory({ runtimes = 8 }, { on_event = function() error "observer" end })
    local report = assert(sync_factory(adf, { concurrency = 4,
      on_progress = function() error "observer" end }))
    assert.equal(8, report.counts.synced)
  end)

  it("raises for a concurrency that is no count", function()
    local adf = factory { runtimes = 1 }
    for _, concurrency in ipairs { 0, -1, 1.5, math.huge, 0 / 0 } do
      local ok, message = pcall(sync_factory, adf, { concurrency = concurrency })
      assert.is_false(ok)
      assert.matches("sync_factory: option 'concurrency' must be a whole number", message)
    end
  end)
end)
