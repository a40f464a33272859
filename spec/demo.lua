-- Sets the stage in the simulator, then runs the command as a user would. See `make demo`.
local support = require "spec.support"

support.factory {
  factoryName = support.env "FACTORY", runtimes = 200, managed = 6, linked = 4, offline = 1,
  sync_seconds = 0.2, latency = 0.02,
}
support.fault {
  { match = { operation = "syncCredentials", name = "ir-0017" }, status = 429,
    headers = { ["Retry-After"] = "1" } },
  { match = { operation = "syncCredentials", name = "ir-0093" }, status = 429,
    headers = { ["Retry-After"] = "1" } },
  { match = { operation = "getStatus", name = "ir-0042" }, times = 2, status = 500 },
}

print [[
A factory of 200 integration runtimes: 6 managed, 4 linked, 1 whose dispatcher node is offline,
2 that answer 429 first (ir-0017, ir-0093), 1 that answers 500 twice (ir-0042).
]]

local variables = {
  AZURE_TENANT_ID = "TENANT_ID", AZURE_CLIENT_ID = "CLIENT_ID",
  AZURE_CLIENT_SECRET = "CLIENT_SECRET", AZURE_AUTHORITY_HOST = "AUTHORITY",
  AZURE_SUBSCRIPTION_ID = "SUBSCRIPTION_ID",
}
local command = {}
for name, source in pairs(variables) do
  command[#command + 1] = ('%s="$CLOUDSYNC_SIM_%s"'):format(name, source)
end
command[#command + 1] = ("exec %s bin/cloudsync datafactory sync"):format(arg[-1])
command[#command + 1] = [[--endpoint "$CLOUDSYNC_SIM_ARM" --ca-file "$CLOUDSYNC_SIM_CA_FILE"]]
command[#command + 1] = [[--resource-group "$CLOUDSYNC_SIM_RESOURCE_GROUP"]]
command[#command + 1] = [[--factory "$CLOUDSYNC_SIM_FACTORY" --concurrency 16 --verify]]
local ok, _, code = os.execute(table.concat(command, " "))
os.exit(type(ok) == "number" and ok / 256 or code)
