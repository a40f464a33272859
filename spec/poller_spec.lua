--- Long-running operations of Data Factory; the other services' work is in their own specs.
local cloudsync = require "cloudsync"
local support = require "spec.support"

local RUNTIME = "ir-0200" -- a managed one, of the default factory: others can't be started

local function start(adf)
  return adf.integration_runtimes:start { integrationRuntimeName = RUNTIME }
end

describe("a long-running operation", function()
  before_each(function()
    support.reset()
    support.control("POST", "settings", { operation_seconds = 0.3, operation_retry_after = 0 })
  end)

  it("returns a poller that waits for its result", function()
    local adf = support.datafactory()
    local poller, response = start(adf)
    assert.equal(202, response.status)
    local looks = 0
    local result, err = poller:wait { interval = 0.1, on_progress = function()
      looks = looks + 1
    end }
    assert.is_nil(err)
    assert.is_not_nil(result)
    assert.is_true(looks >= 1)
    assert.equal(1, #support.requests "method=POST&operation=start")
  end)

  it("can be looked at once", function()
    local poller = start(support.datafactory())
    assert.is_false((poller:poll()))
    cloudsync.sleep(0.4)
    assert.is_true((poller:poll()))
    assert.is_true((poller:poll()))
  end)

  it("goes on in another process by its token, which holds no secret", function()
    local token = start(support.datafactory()):token()
    assert.is_nil(token:find(support.env "STATIC_TOKEN", 1, true))
    local adf = support.datafactory()
    assert.is_not_nil(adf:poller(token):wait { interval = 0.1 })
    assert.equal(1, #support.requests "method=POST&operation=start")
  end)

  it("raises for a token that is none of its own", function()
    local adf = support.datafactory()
    local foreign = [[{"service":"vcenter","kind":"sync","state":{}}]]
    for _, token in ipairs { "", "{}", "[1]", foreign } do
      local ok, message = pcall(adf.poller, adf, token)
      assert.is_false(ok)
      assert.matches("no token of one of its pollers", message)
    end
  end)

  for _, status in ipairs { "Failed", "Canceled" } do
    it("that ends as " .. status .. " is an error of kind job", function()
      support.control("POST", "settings", { operation_status = status })
      local result, err = start(support.datafactory()):wait { interval = 0.1 }
      assert.is_nil(result)
      assert.equal("job", err.kind)
      assert.matches(status:lower(), err.message)
    end)
  end

  it("keeps to its timeout", function()
    support.control("POST", "settings", { operation_seconds = 30 })
    local started = cloudsync.now()
    local result, err = start(support.datafactory()):wait { timeout = 0.4, interval = 0.1 }
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    assert.is_true(cloudsync.now() - started < 0.6)
  end)

  it("survives a look that fails, and a token that is revoked", function()
    local adf = support.datafactory { credential = support.credential(), retries = 0 }
    local poller = start(adf)
    support.control("POST", "tokens/revoke")
    support.fault { match = { method = "GET" }, skip = 1, status = 500 }
    assert.is_not_nil(poller:wait { interval = 0.05 })
  end)

  it("does not follow a link to another origin with its token", function()
    support.fault { match = { operation = "start" }, status = 202, headers = {
      Location = support.env "OTHER_ORIGIN" .. "/x",
      ["Azure-AsyncOperation"] = support.env "OTHER_ORIGIN" .. "/y" } }
    local result, err = start(support.datafactory()):wait()
    assert.is_nil(result)
    assert.equal("protocol", err.kind)
    assert.same({}, support.requests "service=other")
  end)

  it("that is done at once needs no look", function()
    local poller = support.datafactory().triggers:start { triggerName = "t" }
    support.control("DELETE", "requests")
    local result = poller:wait()
    assert.is_not_nil(result)
  end)

  it("can't start where it is refused", function()
    local poller, err = support.datafactory().integration_runtimes:start {
      integrationRuntimeName = "none",
    }
    assert.is_nil(poller)
    assert.equal("not_found", err.kind)
  end)
end)
