-- Uses a secret in the way that the host names, lets all of it be collected, and prints how many pieces
-- of the secret are then in the memory of the process, and of one that is still in use.
local host = ...
local arcgis = require "cloudsync.arcgis"
local azure = require "cloudsync.azure"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

-- What the calls say does not matter.
local uses = {}

function uses.token(token)
  local adf = support.datafactory { credential = azure.static_token_credential(token), retries = 0 }
  adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0001" }
  adf.integration_runtimes:list_by_factory():collect()
end

function uses.header(secret)
  support.datafactory().integration_runtimes:get_status(
    { integrationRuntimeName = "ir-0001" }, { headers = { ["X-Api-Key"] = secret } })
end

function uses.body(secret)
  support.fault { status = 400, match = { suffix = "store" } } -- the answer would repeat the body
  support.datafactory({ retries = 0 }).linked_services:create_or_update {
    linkedServiceName = "store", linkedService = { properties = {
      type = "AzureSqlDatabase", typeProperties = { password = secret },
    } },
  }
end

function uses.client_secret(secret)
  local adf = support.datafactory {
    credential = support.credential { client_secret = secret }, retries = 0,
  }
  adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0001" }
end

function uses.vcenter_password(secret)
  local vc = vcenter.new {
    endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE", retries = 0,
    username = "ab", password = secret, -- "ab:" is three bytes: the rest begins a group in Base64
  }
  vc.links:list()
end

local function site(options)
  options.endpoint, options.ca_file = support.env "ARCGIS", support.env "CA_FILE"
  options.retries = 0
  return arcgis.new(options)
end

function uses.arcgis_password(secret)
  site({ username = "ops", password = secret }).providers:list()
end

function uses.form(secret)
  site({ token = "token" }).providers:add_credential {
    providerID = "azgatvskp6",
    credential = arcgis.cosmosdb_account_key { accountName = "a", accountKey = secret },
  }
end

function uses.form_token(secret)
  site({ token = secret }).providers:add_credential {
    providerID = "azgatvskp6", credential = arcgis.iam_role(),
  }
end

uses[host.argument](host.mark "used")
local kept = host.mark "kept"
for _ = 1, 3 do collectgarbage() end
local found = host.found()
print(found.used, found.kept)
assert(kept:reveal() ~= "")
