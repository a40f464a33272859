local cjson = require "cjson"
local support = require "spec.support"

local SETTINGS = table.concat({
  [[AZURE_TENANT_ID="$CLOUDSYNC_SIM_TENANT_ID"]], [[AZURE_CLIENT_ID="$CLOUDSYNC_SIM_CLIENT_ID"]],
  [[AZURE_AUTHORITY_HOST="$CLOUDSYNC_SIM_AUTHORITY"]],
  [[AZURE_SUBSCRIPTION_ID="$CLOUDSYNC_SIM_SUBSCRIPTION_ID"]],
}, " ")
local SECRET = [[AZURE_CLIENT_SECRET="$CLOUDSYNC_SIM_CLIENT_SECRET"]]
local FLAGS = [[--endpoint "$CLOUDSYNC_SIM_ARM" --ca-file "$CLOUDSYNC_SIM_CA_FILE" ]]
  .. [[--resource-group "$CLOUDSYNC_SIM_RESOURCE_GROUP" --factory cli-factory ]]

local function take(path)
  local text = support.read(path)
  os.remove(path)
  return text
end

-- Runs the command; returns what it printed, what it said on standard error, its exit code.
local function run(arguments, secret)
  local out, err = os.tmpname(), os.tmpname()
  local ok, _, code = os.execute(("%s %s %s bin/cloudsync datafactory sync %s %s >%s 2>%s"):format(
    SETTINGS, secret or SECRET, arg[-1], FLAGS, arguments, out, err))
  return take(out), take(err), type(ok) == "number" and ok / 256 or code
end

describe("cloudsync datafactory sync", function()
  before_each(function()
    support.reset()
    support.factory { factoryName = "cli-factory", runtimes = 6, managed = 1, offline = 1,
      sync_seconds = 0.1 }
  end)

  it("prints a table and ends with 0 where nothing failed", function()
    local out, _, code = run "--verify"
    assert.equal(0, code)
    assert.matches("ir%-0001%s+synced%s+%d+%s+[%d.]+%s+verified", out)
    assert.matches("ir%-0005%s+skipped.*dispatcher", out)
    assert.matches("ir%-0006%s+skipped.*managed", out)
    assert.matches("6 runtimes in [%d.]+ s: 4 synced, 2 skipped; every sync is verified\n$", out)
  end)

  it("prints JSON for machines, and progress elsewhere", function()
    local out, err, code = run "--json --only ir-0001 nope"
    local report = cjson.decode(out)
    assert.equal(1, code)
    assert.is_false(report.ok)
    assert.equal("ir-0001", report.runtimes[1].name)
    assert.equal("not_found", report.runtimes[2].err.kind)
    assert.matches("runtimes done", err)
  end)

  it("sends no sync in a dry run", function()
    local out, _, code = run "--dry-run"
    assert.equal(0, code)
    assert.matches("4 planned", out)
    assert.equal(0, #support.requests "operation=syncCredentials")
  end)

  it("says that a secret is wrong, without the secret, and ends with 1", function()
    local out, err, code = run("", "AZURE_CLIENT_SECRET=wrong-secret-4711")
    assert.equal(1, code)
    assert.matches("AADSTS7000215", err)
    assert.is_nil((out .. err):find("4711", 1, true))
  end)

  it("names the variables that are not set", function()
    local _, err, code = run("", "AZURE_CLIENT_SECRET=")
    assert.equal(1, code)
    assert.matches("set AZURE_CLIENT_SECRET", err)
  end)

  it("ends with 2 on wrong usage, and says what is wrong", function()
    local _, err, code = run "--cloud chna"
    assert.equal(2, code)
    assert.matches("unknown cloud 'chna' %(did you mean 'china'%?%)", err)
    _, err, code = run "--concurrencey 3"
    assert.equal(2, code)
    assert.matches("concurrencey", err)
  end)

  it("names the flag that is missing", function()
    local _, err, code = run "--factory ''"
    assert.equal(2, code)
    assert.matches("%-%-factory is missing", err)
  end)

  it("lets no control character of a service's reach the terminal", function()
    support.fault { match = { service = "arm" }, status = 403, times = 0,
      body = [[{"error":{"code":"A","message":"\u001b[31mred\u0007"}}]] }
    local out, err = run ""
    assert.matches("red", out .. err)
    assert.is_nil((out .. err):find "[\27\7]")
  end)
end)
