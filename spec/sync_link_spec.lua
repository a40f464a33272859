local cloudsync = require "cloudsync"
local support = require "spec.support"
local sync_link = require "cloudsync.workflows.sync_link"
local vcenter = require "cloudsync.vcenter"

local BASES = { "rest", "api" }
local CREDENTIALS = { user_name = "admin@sim.example", password = "hunter2-not-really" }

local function client(overrides)
  local options = {
    endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
    username = support.env "USERNAME", password = support.env "PASSWORD", retries = 0, api = "api",
  }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return vcenter.new(options)
end

local function with(defaults, overrides)
  for name, value in pairs(overrides or {}) do defaults[name] = value end
  return defaults
end

local function run(vc, options)
  return sync_link(vc, with({ interval = 0.05, timeout = 5 }, options))
end

local function define(links) support.control("POST", "vcenter", { links = links }) end

local function state() return support.control("GET", "vcenter") end

local function set(settings) support.control("POST", "settings", settings) end

local function starts() return #support.requests "uri=action=start" end

local function start_of(provider)
  return { service = "vcenter", uri = "/" .. provider .. "%?action=start" }
end

-- One link with the providers, of which each is a name or a definition.
local function one_link(...)
  local providers = { ... }
  for i, provider in ipairs(providers) do
    if type(provider) == "string" then providers[i] = { provider = provider } end
  end
  define { { link = "link-1", providers = providers } }
end

local function by_name(report)
  local entries = {}
  for _, entry in ipairs(report.providers) do
    entries[entry.link .. "/" .. entry.provider] = entry
  end
  return entries
end

-- The counts are those of the outcomes, whatever happened.
local function check_counts(report)
  local counts = { total = #report.providers, synced = 0, skipped = 0, failed = 0 }
  for _, entry in ipairs(report.providers) do
    assert.is_string(entry.outcome)
    assert.is_number(entry.elapsed)
    counts[entry.outcome] = counts[entry.outcome] + 1
    assert.equal(entry.outcome == "failed", entry.err ~= nil)
  end
  assert.same(counts, report.counts)
  assert.equal(counts.failed == 0, report.ok)
end

local function started_by_hand(provider)
  assert(client():close())
  local vc = client()
  assert(vc.sync_providers:start { link = "link-1", provider = provider })
  assert(vc:close())
end

describe("sync_link", function()
  before_each(function()
    collectgarbage() -- clients of earlier tests close their sessions now, not within this one
    collectgarbage()
    support.reset()
    set { vcenter_sync_seconds = 0.15 }
  end)

  for _, base in ipairs(BASES) do
    it("synchronises every provider of every link once, on /" .. base, function()
      local report = assert(run(client { api = base }))
      check_counts(report)
      assert.is_true(report.ok)
      assert.equal(4, report.counts.synced)
      local entries = by_name(report)
      for _, name in ipairs { "link-1/tagging", "link-1/authorization", "link-2/tagging",
        "link-2/authorization" } do
        local entry = entries[name]
        assert.equal("synced", entry.outcome)
        assert.equal(1, entry.attempts)
        assert.is_nil(entry.joined)
        assert.is_string(entry.token)
        assert.equal("COMPLETED", entry.info.current_session_info.stage)
        assert.is_true(entry.elapsed >= 0.15)
      end
      assert.equal(4, starts())
      assert.equal(4, state().starts)
      assert.equal(1, state().logins)
      assert.is_true(report.elapsed < 1.5)
    end)

    it("synchronises the providers of one link, on /" .. base, function()
      local report = assert(run(client { api = base }, { link = "link-2" }))
      check_counts(report)
      assert.equal(2, report.counts.synced)
      assert.equal(2, starts())
      assert.equal(0, #support.requests "suffix=/hvc/links")
      for _, entry in ipairs(report.providers) do assert.equal("link-2", entry.link) end
    end)

    it("synchronises one provider, on /" .. base, function()
      local report = assert(run(client { api = base }, { link = "link-2", provider = "tagging",
        credentials = CREDENTIALS }))
      check_counts(report)
      assert.same({ total = 1, synced = 1, skipped = 0, failed = 0 }, report.counts)
      assert.equal(1, starts())
      assert.equal(0, #support.requests "suffix=/providers")
      local link = state().links[2]
      assert.same(CREDENTIALS, link.providers[1].credentials)
      assert.equal(0, link.providers[2].starts)
    end)
  end

  it("works on a vCenter that has only /rest", function()
    support.control("POST", "vcenter", { version = "6.7" })
    local report = assert(run(client { api = "auto" }))
    assert.equal(4, report.counts.synced)
  end)

  it("sends the credentials, or no body", function()
    assert(run(client(), { link = "link-1", credentials = CREDENTIALS }))
    assert(run(client(), { link = "link-2" }))
    for _, request in ipairs(support.requests "uri=action=start") do
      if request.path:find "link%-1" then
        assert.same({ credentials = CREDENTIALS }, require "cjson".decode(request.body))
      else
        assert.equal("", request.body)
      end
    end
  end)

  it("reports the empty lists that there may be", function()
    define {}
    support.fault { status = 200, body = "null", times = 0,
      match = { service = "vcenter", suffix = "/providers" } }
    local report = assert(run(client()))
    assert.same({ total = 0, synced = 0, skipped = 0, failed = 0 }, report.counts)
    support.control("DELETE", "faults")
    support.fault { status = 200, body = '{"value":null}',
      match = { service = "vcenter", suffix = "/hvc/links" } }
    report = assert(run(client { api = "rest" }))
    assert.same({}, report.providers)
    assert.is_true(report.ok)
    assert.equal(0, starts())
  end)

  for _, case in ipairs { { "SUCCEEDED" }, { "FAILED" }, { "NO_SYNC_FOUND" },
    { "SUCCEEDED", true }, { "FAILED", true }, { "NO_SYNC_FOUND", true } } do
    it(("waits for this sync, not the last, which was %s%s"):format(case[1],
      case[2] and ", though its session vanishes" or ""), function()
      one_link { provider = "tagging", status = case[1], vanish = case[2], sync_seconds = 0.3 }
      local report = assert(run(client()))
      check_counts(report)
      local entry = report.providers[1]
      assert.equal("synced", entry.outcome)
      assert.is_true(entry.elapsed >= 0.3)
      assert.equal("SUCCEEDED", entry.info.status)
    end)
  end

  it("waits anew each time it is run", function()
    one_link { provider = "tagging", sync_seconds = 0.2 }
    local vc = client()
    for i = 1, 3 do
      local report = assert(run(vc))
      assert.is_true(report.ok)
      assert.is_true(report.providers[1].elapsed >= 0.2)
      assert.equal(i, state().starts)
    end
    assert.equal(1, state().logins)
  end)

  it("fails with the service's words where the sync does", function()
    one_link { provider = "tagging", fail = true }
    local report = assert(run(client()))
    check_counts(report)
    local entry = report.providers[1]
    assert.equal("failed", entry.outcome)
    assert.equal("job", entry.err.kind)
    assert.matches("The sync of provider 'tagging' has failed.", entry.reason, 1, true)
  end)

  it("is not stopped by one provider's failure", function()
    one_link({ provider = "bad", fail = true }, "refused", "good", "denied", "better",
      { provider = "endless", sync_seconds = 60 }, "unreadable")
    support.fault {
      { status = 500, match = start_of "refused",
        body = { error_type = "ERROR", messages = { { default_message = "no", id = "x" } } } },
      { status = 403, match = start_of "denied" },
      { status = 500, match = { service = "vcenter", method = "GET", suffix = "/unreadable" } },
    }
    local report = assert(run(client(), { timeout = 0.6 }))
    check_counts(report)
    local entries = by_name(report)
    for name, kind in pairs { bad = "job", denied = "denied", endless = "timeout",
      unreadable = "service" } do
      assert.equal("failed", entries["link-1/" .. name].outcome)
      assert.equal(kind, entries["link-1/" .. name].err.kind)
    end
    assert.equal("failed", entries["link-1/refused"].outcome)
    for _, name in ipairs { "good", "better" } do
      assert.equal("synced", entries["link-1/" .. name].outcome)
    end
    assert.equal(6, starts())
  end)

  it("is not stopped by one link whose providers can't be listed", function()
    support.fault { status = 403, times = 0,
      match = { service = "vcenter", suffix = "/link-1/sync/providers" } }
    local report, err = run(client())
    assert.is_table(report, tostring(err))
    assert.equal(2, report.counts.synced)
    assert.is_false(report.ok)
    assert.equal(2, starts())
  end)

  it("returns nil and an error where nothing can be listed", function()
    for _, case in ipairs {
      { { link = "none" }, "not_found" },
      { {}, "denied", "/hvc/links" },
      { { link = "link-1" }, "denied", "/sync/providers" },
    } do
      if case[3] then
        support.fault { status = 403, match = { service = "vcenter", suffix = case[3] } }
      end
      local report, err = run(client(), case[1])
      assert.is_nil(report)
      assert.equal(case[2], err.kind)
    end
    assert.equal(0, starts())
  end)

  it("says that a vCenter does not offer it", function()
    support.control("POST", "vcenter", { version = "8.0U1" })
    local report, err = run(client { api = "auto" })
    assert.is_nil(report)
    assert.equal("unsupported", err.kind)
    assert.matches("does not offer", err.message)
  end)

  it("fails a provider that there is not", function()
    local report = assert(run(client(), { link = "link-1", provider = "none" }))
    check_counts(report)
    assert.equal("not_found", report.providers[1].err.kind)
    assert.equal(0, starts())
  end)

  it("fails all, after one login, where the login is refused", function()
    local report, err = run(client { password = "wrong" })
    assert.is_nil(report)
    assert.equal("auth", err.kind)
    report = assert(run(client { password = "wrong" }, { link = "link-1", provider = "tagging" }))
    assert.equal("auth", report.providers[1].err.kind)
    assert.equal(2, #support.requests())
  end)

  for _, status in ipairs { 400, 423, 500 } do
    for _, if_busy in ipairs { "error", "join", "skip", false } do
      it(("finds a sync under way, status %d, if_busy = %s"):format(status, tostring(if_busy)),
        function()
          one_link({ provider = "tagging", sync_seconds = 0.4 }, "free")
          set { vcenter_busy_status = status }
          started_by_hand "tagging"
          local report = assert(run(client(), { if_busy = if_busy or nil }))
          check_counts(report)
          local entries = by_name(report)
          local entry = entries["link-1/tagging"]
          assert.equal("synced", entries["link-1/free"].outcome)
          assert.equal(2, state().starts)
          assert.equal(3, starts())
          assert.equal(1, entry.attempts)
          if if_busy == "join" then
            assert.equal("synced", entry.outcome)
            assert.is_true(entry.joined)
            assert.equal("COMPLETED", entry.info.current_session_info.stage)
          elseif if_busy == "skip" then
            assert.equal("skipped", entry.outcome)
            assert.matches("under way", entry.reason)
            assert.is_nil(entry.info)
          else
            assert.equal("failed", entry.outcome)
            assert.equal("busy", entry.err.kind)
            assert.equal("rejected", entry.err.outcome)
          end
        end)
    end
  end

  it("joins a sync that fails, and fails with it", function()
    one_link { provider = "tagging", sync_seconds = 0.3, fail = true }
    started_by_hand "tagging"
    local entry = assert(run(client(), { if_busy = "join" })).providers[1]
    assert.is_true(entry.joined)
    assert.equal("failed", entry.outcome)
    assert.equal("job", entry.err.kind)
  end)

  it("joins a sync whose session vanishes when it ends", function()
    one_link { provider = "tagging", sync_seconds = 0.3, vanish = true }
    started_by_hand "tagging"
    local entry = assert(run(client(), { if_busy = "join", timeout = 1.5 })).providers[1]
    assert.equal("synced", entry.outcome)
    assert.is_true(entry.joined)
    assert.is_true(entry.elapsed >= 0.1)
  end)

  it("never starts a sync again whose fate is unknown, and finds that it runs", function()
    for _, vanish in ipairs { false, true } do
      support.control("DELETE", "requests")
      one_link { provider = "tagging", sync_seconds = 0.2, vanish = vanish }
      support.fault { kind = "reset_after", match = start_of "tagging" }
      local report = assert(run(client { retries = 3 }))
      check_counts(report)
      local entry = report.providers[1]
      assert.equal("synced", entry.outcome)
      assert.equal(1, starts())
      assert.equal(1, state().starts)
      assert.equal(1, entry.attempts)
      assert.is_string(entry.reason)
    end
  end)

  it("does not start it again either where it never began, and says what is unknown", function()
    one_link { provider = "tagging" }
    support.fault { kind = "reset_before", match = start_of "tagging" }
    local report = assert(run(client { retries = 3 }, { timeout = 0.5 }))
    check_counts(report)
    local entry = report.providers[1]
    assert.equal("failed", entry.outcome)
    assert.equal("unknown", entry.err.outcome)
    assert.equal(1, starts())
    assert.equal(0, state().starts)
  end)

  for _, fail in ipairs { false, true } do
    it(("does not take the session of an earlier sync for this one's, which %s"):format(
      fail and "failed" or "completed"), function()
      one_link { provider = "tagging", sync_seconds = 0, fail = fail }
      started_by_hand "tagging"
      support.fault { kind = "reset_before", match = start_of "tagging" }
      local entry = assert(run(client(), { timeout = 0.5 })).providers[1]
      assert.equal("failed", entry.outcome)
      assert.is_not_equal("job", entry.err.kind)
      assert.equal("unknown", entry.err.outcome)
      assert.equal(1, state().starts)
    end)
  end

  it("repeats neither a start that failed with 500 nor one with 503", function()
    one_link("a", "b", "c")
    support.fault {
      { status = 500, times = 0, match = start_of "a" },
      { status = 503, times = 0, match = start_of "b" },
      { kind = "html", status = 502, times = 0, match = start_of "c" },
    }
    local report = assert(run(client { retries = 3 }, { timeout = 0.3 }))
    check_counts(report)
    assert.equal(3, report.counts.failed)
    assert.equal(3, starts())
    assert.equal(0, state().starts)
  end)

  it("keeps to its timeout, and leaves a token that resumes", function()
    one_link { provider = "tagging", sync_seconds = 0.8 }
    local report = assert(run(client(), { timeout = 0.3 }))
    check_counts(report)
    local entry = report.providers[1]
    assert.equal("timeout", entry.err.kind)
    assert.is_true(report.elapsed < 0.6)
    assert.matches("0.3 s", entry.reason, 1, true)
    local info = assert(client():poller(entry.token):wait { interval = 0.05, timeout = 5 })
    assert.equal("COMPLETED", info.current_session_info.stage)
    assert.equal(1, starts())
  end)

  it("outlives its session", function()
    set { vcenter_sync_seconds = 0.4 }
    local expired = false
    local report = assert(run(client(), { on_progress = function()
      if not expired then support.control("POST", "sessions/expire") end
      expired = true
    end }))
    assert.equal(4, report.counts.synced)
    assert.equal(2, state().logins)
    assert.equal(4, state().starts)
  end)

  it("tells of each look", function()
    set { vcenter_sync_seconds = 0.3 }
    local seen = {}
    assert(run(client(), { on_progress = function(event)
      local name = event.link .. "/" .. event.provider
      seen[name] = (seen[name] or 0) + 1
      assert(event.status.current_session_info.stage)
    end }))
    for _, name in ipairs { "link-1/tagging", "link-1/authorization", "link-2/tagging",
      "link-2/authorization" } do
      assert.is_true((seen[name] or 0) >= 2, name)
    end
  end)

  it("is not ended by an observer that raises", function()
    local report = assert(run(client { on_event = function() error "observer" end },
      { on_progress = function() error "observer" end }))
    check_counts(report)
    assert.equal(4, report.counts.synced)
  end)

  for _, base in ipairs(BASES) do
    for name, body in support.sorted { empty = "", null = base == "api" and "null"
      or '{"value":null}', object = "{}", html = "<html></html>" } do
      it(("reports an outcome whatever a look finds: %s on /%s"):format(name, base), function()
        one_link("odd", "good")
        support.fault { status = 200, body = body, times = 0, skip = 1,
          match = { service = "vcenter", method = "GET", suffix = "/odd" } }
        local report = assert(run(client { api = base }, { timeout = 0.4 }))
        check_counts(report)
        local entries = by_name(report)
        assert.equal("synced", entries["link-1/good"].outcome)
        assert.equal("failed", entries["link-1/odd"].outcome)
        assert.is_string(entries["link-1/odd"].reason)
        assert.equal(2, starts())
      end)
    end
  end

  it("keeps to the concurrency that it is given", function()
    local providers = {}
    for i = 1, 12 do providers[i] = { provider = "p" .. i, sync_seconds = 0.02 } end
    define { { link = "link-1", providers = providers } }
    set { latency = 0.01 }
    local report = assert(run(client(), { concurrency = 3 }))
    assert.equal(12, report.counts.synced)
    assert.equal(12, starts())
    assert.is_true(support.control("GET", "counts").max_in_flight.vcenter <= 3)
  end)

  it("runs inside of a task, beside others", function()
    local vc = client()
    local reports, failures = cloudsync.map({ "link-1", "link-2" }, function(link)
      return run(vc, { link = link })
    end)
    assert.same({}, failures)
    assert.equal(2, reports[1].counts.synced)
    assert.equal(2, reports[2].counts.synced)
    assert.equal(1, state().logins)
  end)

  it("keeps the credentials out of its report", function()
    one_link("good", "bad")
    support.fault { status = 500, match = start_of "bad", body = { error_type = "ERROR",
      messages = { { id = "x", default_message = "got " .. CREDENTIALS.password } } } }
    local report = assert(run(client(), { credentials = CREDENTIALS, timeout = 0.3 }))
    for _, entry in ipairs(report.providers) do
      for _, value in pairs(entry) do
        assert.is_nil(tostring(value):find(CREDENTIALS.password, 1, true))
      end
    end
  end)

  it("raises for options that are wrong", function()
    local vc = client()
    for _, case in ipairs {
      { { if_bussy = "join" }, "did you mean 'if_busy'" }, { { if_busy = "wait" }, "'if_busy'" },
      { { provider = "tagging" }, "needs its link" }, { { timeout = "1" }, "'timeout'" },
      { { concurrency = 0 }, "'concurrency'" }, { { credentials = "x" }, "'credentials'" },
    } do
      local ok, message = pcall(sync_link, vc, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message, 1, true)
    end
    assert.equal(0, #support.requests())
  end)
end)
