-- The scripts under examples/, as a user would run them.
local support = require "spec.support"

local function run(script, variables)
  local command = {}
  for name, value in support.sorted(variables) do
    command[#command + 1] = ('%s="%s"'):format(name, value)
  end
  command[#command + 1] = [[CA_FILE="$CLOUDSYNC_SIM_CA_FILE"]]
  command[#command + 1] = ("%s examples/scripts/%s"):format(arg[-1], script)
  return support.execute(table.concat(command, " "))
end

describe("the example script", function()
  before_each(support.reset)

  it("sync_factory.lua synchronises a factory", function()
    support.factory { factoryName = "example-factory", runtimes = 6, managed = 1, in_sync = 1,
      sync_seconds = 0.1 }
    local text, code = run("sync_factory.lua", {
      AZURE_TENANT_ID = "$CLOUDSYNC_SIM_TENANT_ID", AZURE_CLIENT_ID = "$CLOUDSYNC_SIM_CLIENT_ID",
      AZURE_CLIENT_SECRET = "$CLOUDSYNC_SIM_CLIENT_SECRET",
      AZURE_AUTHORITY_HOST = "$CLOUDSYNC_SIM_AUTHORITY",
      AZURE_SUBSCRIPTION_ID = "$CLOUDSYNC_SIM_SUBSCRIPTION_ID",
      AZURE_RESOURCE_GROUP = "$CLOUDSYNC_SIM_RESOURCE_GROUP", AZURE_FACTORY = "example-factory",
      AZURE_ENDPOINT = "$CLOUDSYNC_SIM_ARM",
    })
    assert.equal(0, code, text)
    assert.matches("ir%-0001%s+in_sync", text)
    assert.matches("ir%-0002%s+synced", text)
    assert.matches("ir%-0006%s+skipped", text)
    assert.equal(4, support.control("GET", "factories/example-factory").syncs)
  end)

  it("sync_link.lua synchronises the links of a vCenter, and logs out", function()
    local text, code = run("sync_link.lua", {
      GOVC_URL = "$CLOUDSYNC_SIM_VCENTER", GOVC_USERNAME = "$CLOUDSYNC_SIM_USERNAME",
      GOVC_PASSWORD = "$CLOUDSYNC_SIM_PASSWORD",
    })
    assert.equal(0, code, text)
    local _, synced = text:gsub("synced", "")
    assert.equal(4, synced)
    assert.equal(1, #support.requests "service=vcenter&method=DELETE")
  end)

  it("add_credential.lua adds a credential, once, and waits for its job", function()
    local text, code = run("add_credential.lua", {
      ARCGIS_ADMIN_URL = "$CLOUDSYNC_SIM_ARCGIS", ARCGIS_USERNAME = "$CLOUDSYNC_SIM_USERNAME",
      ARCGIS_PASSWORD = "$CLOUDSYNC_SIM_PASSWORD", ARCGIS_PROVIDER_ID = "azgatvskp6",
      STORAGE_ACCOUNT_NAME = "account", STORAGE_ACCOUNT_KEY = "k+e/y=&1",
    })
    assert.equal(0, code, text)
    assert.matches("^j%S+%s+COMPLETED", text)
    assert.equal(1, support.control("GET", "arcgis").adds)
  end)
end)
