-- Synchronises every provider of every link of a vCenter, joining what is under way.
--
--   GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD   the vCenter ("https://vcenter.example.com")
--   CA_FILE                                  where its certificate is the site's own
local sync_link = require "cloudsync.workflows.sync_link"
local vcenter = require "cloudsync.vcenter"

local vc = vcenter.new {
  endpoint = os.getenv "GOVC_URL", ca_file = os.getenv "CA_FILE",
  username = os.getenv "GOVC_USERNAME", password = os.getenv "GOVC_PASSWORD",
}

local report, err = sync_link(vc, { if_busy = "join", timeout = 600 })
vc:close()
assert(report, err)
for _, provider in ipairs(report.providers) do
  print(provider.link, provider.provider, provider.outcome, provider.reason or "")
end
os.exit(report.ok)
