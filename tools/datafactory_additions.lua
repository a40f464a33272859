-- What generate_datafactory.lua cannot read in Data Factory's OpenAPI document.
local additions = {}

-- Operations in the document and here together. A changed document must not lose one unnoticed.
additions.operations = 104

-- Operations that Microsoft added to the same API version after the document at hand, in the
-- document's own shape. Once a newer document holds them the generator reports a duplicate id, and
-- they go from here.
local function interactive_query (id, description)
  return {
    post = {
      operationId = id,
      description = description,
      parameters = {
        { ["$ref"] = "#/parameters/subscriptionId" },
        { ["$ref"] = "#/parameters/resourceGroupName" },
        { ["$ref"] = "#/parameters/factoryName" },
        { ["$ref"] = "#/parameters/integrationRuntimeName" },
        { ["$ref"] = "#/parameters/api-version" },
      },
      responses = { ["200"] = {}, ["202"] = {} },
      ["x-ms-long-running-operation"] = true,
    },
  }
end

local runtime = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"
  .. "/providers/Microsoft.DataFactory/factories/{factoryName}"
  .. "/integrationRuntimes/{integrationRuntimeName}"

additions.paths = {
  [runtime .. "/enableInteractiveQuery"] = interactive_query(
    "IntegrationRuntime_EnableInteractiveQuery",
    "Enables interactive query in an integration runtime."),
  [runtime .. "/disableInteractiveQuery"] = interactive_query(
    "IntegrationRuntime_DisableInteractiveQuery",
    "Disables interactive query in an integration runtime."),
}

-- POST operations that may be repeated although an earlier try may have been carried out. GET and
-- HEAD always may; PUT, PATCH and DELETE may not: a repeat could undo what somebody else did in
-- between. Not listed, hence not repeated, is every POST that
--   * changes data: syncCredentials (overwrites the workers' credentials each time),
--     configureFactoryRepo, upgrade, removeLinks, linkedIntegrationRuntime;
--   * spends something: regenerateAuthKey (the key just handed out dies), getGitHubAccessToken (the
--     code in the body is good for one use);
--   * starts, stops or cancels something: createRun, rerun, cancel, start, stop,
--     (un)subscribe…Events, refreshObjectMetadata, enable/disableInteractiveQuery, the debug
--     sessions' create, add, delete and execute.
additions.safe_posts = {
  -- reads the state of a runtime, a node or a trigger
  "IntegrationRuntimes_GetStatus",
  "IntegrationRuntimes_GetMonitoringData",
  "IntegrationRuntimeNodes_GetIpAddress",
  "Triggers_GetEventSubscriptionStatus",

  -- reads what refreshObjectMetadata has collected
  "IntegrationRuntimeObjectMetadata_Get",

  -- reads keys and addresses that exist already; a POST only so that they need a write permission
  "IntegrationRuntimes_GetConnectionInfo",
  "IntegrationRuntimes_ListAuthKeys",

  -- issues one more short-lived token; earlier ones stay valid
  "Factories_GetDataPlaneAccess",

  -- reads feature switches; a POST only because the question is in the body
  "ExposureControl_GetFeatureValue",
  "ExposureControl_GetFeatureValueByFactory",
  "ExposureControl_QueryFeatureValuesByFactory",

  -- queries; a POST only because the filter is in the body
  "ActivityRuns_QueryByPipelineRun",
  "DataFlowDebugSession_QueryByFactory",
  "PipelineRuns_QueryByFactory",
  "TriggerRuns_QueryByFactory",
  "Triggers_QueryByFactory",
}

-- Operations whose answer is a secret or holds one. Answers with linked services, credentials or
-- runtimes are not among them: the service returns their secrets masked or encrypted.
additions.secret_results = {
  "Factories_GetDataPlaneAccess",          -- accessToken
  "Factories_GetGitHubAccessToken",        -- gitHubAccessToken
  "IntegrationRuntimes_GetConnectionInfo", -- serviceToken
  "IntegrationRuntimes_ListAuthKeys",      -- authKey1, authKey2
  "IntegrationRuntimes_RegenerateAuthKey", -- authKey1, authKey2
}

-- Properties of bodies that hold a secret although the document types them as plain values.
additions.secret_properties = {
  "connectionString", "encryptedCredential", "gitHubAccessCode", "licenseKey", "password",
  "sasUri",
}

return additions
