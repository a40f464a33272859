-- Adds a storage account's key to a cloud provider of an ArcGIS Server and waits for the job.
--
--   ARCGIS_ADMIN_URL, ARCGIS_USERNAME, ARCGIS_PASSWORD   ("https://gis.example.com/server/admin")
--   ARCGIS_PROVIDER_ID, STORAGE_ACCOUNT_NAME, STORAGE_ACCOUNT_KEY
--   CA_FILE                                              where its certificate is the site's own
local add_credential = require "cloudsync.workflows.add_credential"
local arcgis = require "cloudsync.arcgis"

local gis = arcgis.new {
  endpoint = os.getenv "ARCGIS_ADMIN_URL", ca_file = os.getenv "CA_FILE",
  username = os.getenv "ARCGIS_USERNAME", password = os.getenv "ARCGIS_PASSWORD",
}

local job, err, id = add_credential(gis, {
  providerID = os.getenv "ARCGIS_PROVIDER_ID", timeout = 600,
  credential = arcgis.storage_account_key {
    storageAccountName = os.getenv "STORAGE_ACCOUNT_NAME",
    storageAccountKey = os.getenv "STORAGE_ACCOUNT_KEY",
  },
})
if not job then
  io.stderr:write(tostring(err), "\n")
  if id then io.stderr:write("Wait for it again with resume = '", id, "'\n") end
  os.exit(1)
end
print(job.jobid, job.status)
