-- Keeps the credentials of every integration runtime of a data factory in step, and verifies it.
--
--   AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET   who signs in
--   AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZURE_FACTORY   which factory
--   AZURE_ENDPOINT, CA_FILE   only where it is not the public cloud
local azure = require "cloudsync.azure"
local datafactory = require "cloudsync.datafactory"
local sync_factory = require "cloudsync.workflows.sync_factory"

local adf = datafactory.new {
  credential = azure.environment_credential { ca_file = os.getenv "CA_FILE" },
  endpoint = os.getenv "AZURE_ENDPOINT", ca_file = os.getenv "CA_FILE",
  subscriptionId = os.getenv "AZURE_SUBSCRIPTION_ID",
  resourceGroupName = os.getenv "AZURE_RESOURCE_GROUP", factoryName = os.getenv "AZURE_FACTORY",
}

local report = assert(sync_factory(adf, { concurrency = 16, stale_only = true, verify = true }))
for _, runtime in ipairs(report.runtimes) do
  print(runtime.name, runtime.outcome, runtime.reason or "")
end
os.exit(report.ok)
