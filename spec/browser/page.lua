-- The page of examples/nginx in a real browser: `make test-browser`. Where SCREENSHOTS names a
-- directory, it gets pictures.
local browser = require "spec.browser.browser"
local example = require "spec.example"
local socket = require "socket"
local support = require "spec.support"

-- What the page shows.
local LOOK = [[
  const text = id => document.getElementById(id).textContent;
  const bar = document.getElementById("progress");
  return {
    factory: text("factory"), state: text("state"), amount: text("amount"), title: document.title,
    trouble: text("trouble"), bar: bar.hasAttribute("value") ? bar.value / bar.max : -1,
    rows: [...document.querySelectorAll("tbody tr")].map(
      row => [...row.cells].map(cell => cell.textContent)),
    same: window.opened === true,
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  };
]]

describe("the page of a job", function()
  local page, server

  setup(function() page = browser.start() end)
  teardown(function() page:stop() end)

  before_each(function()
    support.reset()
    server = example.start()
  end)
  after_each(function() server:stop() end)

  local function open(path)
    page:open(server.url .. path)
    page:run "window.opened = true"
  end

  -- Waits until the page is as wanted; returns what it shows.
  local function wait(condition)
    return example.poll(function()
      local shown = page:run(LOOK)
      return condition(shown) and shown
    end, 20)
  end

  local function picture(name)
    local directory = os.getenv "SCREENSHOTS"
    if not directory then return end
    socket.sleep(0.5) -- for what moves
    page:screenshot(("%s/%s.png"):format(directory, name))
    page:devtools("Emulation.setEmulatedMedia",
      { features = { { name = "prefers-color-scheme", value = "dark" } } })
    page:screenshot(("%s/%s-dark.png"):format(directory, name))
    page:devtools("Emulation.setEmulatedMedia", { features = { { name = "prefers-color-scheme",
      value = "" } } })
  end

  it("follows the job from running to succeeded, without being loaded again", function()
    local overrides = {}
    for i = 1, 7 do overrides[("ir-%04d"):format(i)] = { sync_seconds = 0.6 * i } end
    support.factory { factoryName = support.env "FACTORY", runtimes = 12, managed = 2,
      overrides = overrides }
    local _, answer = server:call()
    open(answer.location)
    local running = wait(function(shown) return shown.state == "running" and #shown.rows > 0 end)
    picture "running"
    assert.is_true(#running.rows < 12)
    assert.matches("of 12 runtimes", running.amount)
    assert.is_true(running.bar > 0 and running.bar < 1)
    local later = wait(function(shown) return #shown.rows > #running.rows end)
    assert.is_true(later.bar > running.bar)
    local ended = wait(function(shown) return shown.state == "succeeded" end)
    picture "succeeded"
    assert.is_true(ended.same)
    assert.equal(12, #ended.rows)
    assert.equal(1, ended.bar)
    assert.matches("12 of 12 runtimes.*2 skipped.*10 synced", ended.amount)
    assert.equal(support.env "FACTORY", ended.factory)
    assert.matches("succeeded", ended.title)
    assert.equal("", ended.trouble)
    assert.same({}, page:complaints())
  end)

  it("shows failures first, and what services say as text", function()
    local evil = [[<img src=x onerror="document.title = 'pwned'"><script>alert(1)</script>]]
    support.factory { factoryName = support.env "FACTORY", runtimes = 5, sync_seconds = 0 }
    support.fault { match = { operation = "syncCredentials", name = "ir-0003" }, status = 403,
      body = { error = { code = "Forbidden", message = evil } } }
    local _, answer = server:call()
    server:ended(answer.location)
    open(answer.location)
    local shown = wait(function(shown) return shown.state == "failed" end)
    picture "failed"
    assert.same({ "ir-0003", "failed", evil }, { table.unpack(shown.rows[1] or {}, 1, 3) })
    assert.equal(0, page:run "return document.querySelectorAll('img, main script').length")
    assert.same({}, page:complaints())
  end)

  it("says why nothing could be synced", function()
    support.fault { match = { service = "entra" }, times = 0, status = 401,
      body = { error = "invalid_client", error_description = "no such application" } }
    local _, answer = server:call()
    open(answer.location)
    local shown = wait(function(shown) return shown.state == "failed" end)
    picture "refused"
    assert.matches("no token", shown.trouble)
    assert.same({}, shown.rows)
    assert.equal(0, shown.bar)
  end)

  it("says that a job is unknown", function()
    open("/jobs/" .. ("0"):rep(32))
    local shown = wait(function(shown) return shown.state == "unknown" end)
    picture "unknown"
    assert.matches("no such job", shown.trouble)
    page:complaints() -- of the status 404
  end)

  it("says that the server does not answer", function()
    support.factory { factoryName = support.env "FACTORY", runtimes = 2, sync_seconds = 20 }
    local _, answer = server:call()
    open(answer.location)
    wait(function(shown) return shown.state == "running" end)
    server:signal "terminate"
    local shown = wait(function(shown) return shown.trouble ~= "" end)
    assert.matches("trying again", shown.trouble)
    page:complaints() -- of the lost connection
  end)

  it("fits a narrow window", function()
    support.factory { factoryName = support.env "FACTORY", runtimes = 4, offline = 2,
      sync_seconds = 0 }
    local _, answer = server:call()
    server:ended(answer.location)
    page:devtools("Emulation.setDeviceMetricsOverride",
      { width = 360, height = 700, deviceScaleFactor = 2, mobile = false })
    open(answer.location)
    local shown = wait(function(shown) return shown.state ~= "…" end)
    picture "narrow"
    page:devtools("Emulation.clearDeviceMetricsOverride", { width = 0 })
    assert.is_false(shown.wide)
  end)
end)
