--- Azure Data Factory, api-version 2018-06-01: one function for each operation.
--
-- See the [REST reference](https://learn.microsoft.com/rest/api/datafactory/).
local arm_operation = require "cloudsync.azure.arm_operation"
local client = require "cloudsync.client"
local clouds = require "cloudsync.azure.clouds"
local poller = require "cloudsync.poller"
local suggest = require "cloudsync.suggest"

local datafactory = {}

local function authorise(self, rejected, deadline)
  local scope = clouds[self.options.cloud or "public"].scope
  return self.options.credential:get_token(scope, { rejected = rejected, deadline = deadline })
end

-- Resource Manager limits the calls of a subscription.
local function scope_of(request)
  local _, url = request:target()
  return url:match "/subscriptions/([^/?]+)" or ""
end

local QUOTAS = { "x-ms-ratelimit-remaining-subscription-reads",
  "x-ms-ratelimit-remaining-subscription-writes", "x-ms-ratelimit-remaining-subscription-deletes" }

local methods = {}

--- Goes on with long work that another process, or an earlier one, has begun.
-- @tparam string token of a poller
function methods.poller(self, token)
  return poller.resume(self, token)
end

--- Makes a client.
-- @tparam table options `credential` (see `cloudsync.azure`), `cloud` ("public", "usgovernment" or
--   "china"); `subscriptionId`, `resourceGroupName` and `factoryName`, which stand in for the
--   parameters of these names; and what every client takes
-- @return a client: `client.<group>:<operation>(parameters?, options?)`
function datafactory.new(options)
  if type(options) ~= "table" then error("datafactory: options must be a table", 2) end
  local name = options.cloud or "public"
  local cloud = clouds[name]
  if not cloud then
    error(("datafactory: unknown cloud '%s'%s"):format(tostring(name),
      suggest(tostring(name), { "public", "usgovernment", "china" })), 2)
  end
  if options.credential == nil then
    error("datafactory: credential is missing: make one with cloudsync.azure", 2)
  end
  local made = client.new({ -- not a tail call: errors name the line above this frame
    service = "datafactory",
    options = { credential = "credential", cloud = "string", subscriptionId = "string",
      resourceGroupName = "string", factoryName = "string" },
    parameters = { "subscriptionId", "resourceGroupName", "factoryName" },
    endpoint = cloud.endpoint,
    authorise = authorise, pollers = { operation = arm_operation.look },
    start_poller = arm_operation.start, methods = methods, scope = scope_of, quotas = QUOTAS,
  }, options)
  return made
end

return datafactory
