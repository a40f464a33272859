local cloudsync = require "cloudsync"
local support = require "spec.support"

describe("a Data Factory client", function()
  before_each(support.reset)

  it("synchronises the credentials of a runtime exactly as documented", function()
    local adf = support.datafactory()
    assert.is_true(adf.integration_runtimes:sync_credentials { integrationRuntimeName = "ir-0001" })
    local requests = support.requests()
    assert.equal(1, #requests)
    local request = requests[1]
    assert.equal("POST", request.method)
    assert.equal("/subscriptions/" .. support.env "SUBSCRIPTION_ID" .. "/resourceGroups/"
      .. support.env "RESOURCE_GROUP" .. "/providers/Microsoft.DataFactory/factories/"
      .. support.env "FACTORY" .. "/integrationRuntimes/ir-0001/syncCredentials"
      .. "?api-version=2018-06-01", request.uri)
    assert.equal("0", request.headers["content-length"])
    assert.is_nil(request.headers["content-type"])
    assert.equal("", request.body)
  end)

  it("gets data-plane access exactly as documented", function()
    local adf = support.datafactory()
    local policy = {
      permissions = "r", accessResourcePath = "", profileName = "DefaultProfile",
      startTime = "2018-11-10T02:46:20.2659347Z", expireTime = "2018-11-10T09:46:20.2659347Z",
    }
    local access, response = adf.factories:get_data_plane_access { policy = policy }
    assert.is_string(access.accessToken)
    assert.same(policy, access.policy)
    assert.equal(200, response.status)
    assert.equal(1, response.attempts)
    local request = support.requests()[1]
    assert.matches("/factories/[^/]+/getDataPlaneAccess%?api%-version=2018%-06%-01$", request.uri)
    assert.equal("application/json", request.headers["content-type"])
    assert.same(policy, require "cjson".decode(request.body))
  end)

  it("names the runtime, the service's code and its request id in an error", function()
    local adf = support.datafactory()
    local _, err = adf.integration_runtimes:get { integrationRuntimeName = "none" }
    assert.equal("not_found", err.kind)
    assert.equal("IntegrationRuntimeNotFound", err.code)
    assert.equal(404, err.status)
    assert.equal("rejected", err.outcome)
    assert.equal("integration_runtimes:get", err.operation)
    assert.is_string(err.request_id)
    assert.is_false(err.retryable)
    assert.is_not_equal(cloudsync.null, err.message)
  end)
end)
