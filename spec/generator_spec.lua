-- The descriptors of Data Factory's operations: that the committed files are what the generators
-- write, where CLOUDSYNC_OPENAPI names the document, and that they make sense by themselves.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local document = os.getenv "CLOUDSYNC_OPENAPI"
local operations = core.operations "datafactory"

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- The program that runs this.
local function interpreter()
  local first = 0
  while arg[first - 1] do first = first - 1 end
  return arg[first]
end

-- What a script writes, but for its complaints, and whether it ended well.
local function output(...)
  local words = {}
  for i, word in ipairs { interpreter(), ... } do words[i] = quoted(word) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>/dev/null && echo '-- done'"))
  local text = pipe:read "*a"
  pipe:close()
  local written, done = text:match "^(.*)(%-%- done\n)$"
  return written or text, done ~= nil
end

-- `assert.equal` would print both files in full.
local function assert_same_text(expected, text)
  if expected == text then return end
  local line, at = 1, 1
  while expected:byte(at) == text:byte(at) do
    if expected:byte(at) == 10 then line = line + 1 end
    at = at + 1
  end
  error(("line %d differs from what the generator writes"):format(line), 2)
end

describe("the committed file", function()
  for file, tool in pairs {
    ["csrc/operations/datafactory.c"] = "tools/generate_datafactory.lua",
    ["spec/fixtures/datafactory_requests.lua"] = "tools/expected_requests.lua",
  } do
    it(("%s is byte for byte what %s writes"):format(file, tool), function()
      if not document or document == "" then return pending "CLOUDSYNC_OPENAPI is not set" end
      local text, done = output(tool, document)
      assert.is_true(done, tool .. " failed")
      assert_same_text(text, support.read(file))
    end)

    it(("%s says which tool writes it"):format(file), function()
      local head = support.read(file):sub(1, 400)
      assert.truthy(head:find(tool, 1, true))
      assert.truthy(head:find("Not to be edited", 1, true))
    end)

    it(("%s is not written from what is no such document"):format(tool), function()
      local _, done = output(tool, "/nowhere/datafactory.json")
      assert.is_false(done)
    end)
  end
end)

---------------------------------------------------------------------------------------------------

local function each_parameter(visit)
  for _, operation in ipairs(operations) do
    for _, parameter in ipairs(operation.parameters) do visit(operation, parameter) end
  end
end

describe("Data Factory's operations", function()
  it("are the 104 of api-version 2018-06-01", function()
    assert.equal(104, #operations)
    for _, operation in ipairs(operations) do
      assert.equal("api-version=2018-06-01", operation.query)
    end
  end)

  it("have an id and a name of their own", function()
    local ids, names = {}, {}
    for _, operation in ipairs(operations) do
      local name = operation.group .. ":" .. operation.name
      assert.is_nil(ids[operation.id], operation.id .. " is there twice")
      assert.is_nil(names[name], name .. " is there twice")
      ids[operation.id], names[name] = true, true
    end
  end)

  it("are called as their ids say, in snake case", function()
    local function snake(text)
      return (text:gsub("%u", function(c) return "_" .. c:lower() end):gsub("^_", ""))
    end
    for _, operation in ipairs(operations) do
      local group, name = operation.id:match "^(%a+)_(%a+)$"
      assert.equal(snake(group), operation.group)
      assert.equal(snake(name), operation.name)
    end
  end)

  for id, name in pairs {
    IntegrationRuntimes_SyncCredentials = "integration_runtimes:sync_credentials",
    privateEndPointConnections_ListByFactory = "private_end_point_connections:list_by_factory",
    Factories_GetGitHubAccessToken = "factories:get_git_hub_access_token",
    Factories_GetDataPlaneAccess = "factories:get_data_plane_access",
    IntegrationRuntime_EnableInteractiveQuery = "integration_runtime:enable_interactive_query",
    IntegrationRuntime_DisableInteractiveQuery = "integration_runtime:disable_interactive_query",
  } do
    it(("call %s %s"):format(id, name), function()
      for _, operation in ipairs(operations) do
        if operation.id == id then
          assert.equal(name, operation.group .. ":" .. operation.name)
          return
        end
      end
      error(id .. " is not there")
    end)
  end

  it("can all be found by group and name", function()
    for _, operation in ipairs(operations) do
      assert.is_true(core.has_group("datafactory", operation.group))
      assert.is_function(core.operation("datafactory", operation.group, operation.name))
    end
    assert.is_false(core.has_group("datafactory", "no_group"))
    assert.is_nil(core.operation("datafactory", "factories", "no_operation"))
    assert.is_nil(core.operation("no_service", "factories", "get"))
  end)

  it("have a method, a path and a summary", function()
    local methods = { GET = true, PUT = true, POST = true, PATCH = true, DELETE = true }
    for _, operation in ipairs(operations) do
      assert.is_true(methods[operation.method], operation.id)
      assert.matches("^/", operation.path)
      assert.is_nil(operation.path:find("[?#%s]"), operation.path)
      assert.is_nil(operation.path:find("//", 1, true), operation.path)
      assert.truthy(operation.summary and #operation.summary > 0, operation.id)
      assert.is_nil(operation.summary:find "\n", operation.id)
    end
  end)

  it("have a required parameter for each place in the path, and a place for each", function()
    for _, operation in ipairs(operations) do
      local places, found = {}, {}
      for place in operation.path:gmatch "{([^}]*)}" do
        assert.is_nil(places[place], operation.id .. ": twice in the path: " .. place)
        places[place] = true
      end
      for _, parameter in ipairs(operation.parameters) do
        if parameter.place == "path" then
          found[parameter.wire] = true
          assert.is_true(parameter.required, operation.id .. ": " .. parameter.name)
        end
      end
      assert.same(places, found, operation.id)
    end
  end)

  it("have each parameter once, and one body at most", function()
    for _, operation in ipairs(operations) do
      local names, bodies = {}, 0
      for _, parameter in ipairs(operation.parameters) do
        assert.is_nil(names[parameter.name], operation.id .. ": " .. parameter.name)
        names[parameter.name] = true
        if parameter.place == "body" then bodies = bodies + 1 end
      end
      assert.is_true(bodies <= 1, operation.id)
      if operation.method == "GET" or operation.method == "DELETE" then
        assert.equal(0, bodies, operation.id)
      end
    end
  end)

  it("name parameters as the wire does, but headers in lower camel case", function()
    local headers = {}
    each_parameter(function(operation, parameter)
      assert.not_equal("api-version", parameter.wire)
      assert.not_equal("form", parameter.place)
      if parameter.place == "header" then
        headers[parameter.wire] = parameter.name
      else
        assert.equal(parameter.wire, parameter.name, operation.id)
      end
    end)
    assert.same({ ["If-Match"] = "ifMatch", ["If-None-Match"] = "ifNoneMatch" }, headers)
  end)

  it("know the documented lengths of names", function()
    local lengths = {}
    each_parameter(function(_, parameter)
      if parameter.max_length then
        lengths[parameter.name] = ("%d-%d"):format(parameter.min_length, parameter.max_length)
        assert.is_string(parameter.pattern)
      end
    end)
    assert.same({
      resourceGroupName = "1-90", factoryName = "3-63", integrationRuntimeName = "3-63",
      nodeName = "1-150", credentialName = "1-127", managedPrivateEndpointName = "1-127",
      managedVirtualNetworkName = "1-127", changeDataCaptureName = "1-260", dataFlowName = "1-260",
      datasetName = "1-260", globalParameterName = "1-260", linkedServiceName = "1-260",
      pipelineName = "1-260", triggerName = "1-260",
    }, lengths)
  end)

  it("list the statuses of success, ascending, 304 only where a condition can be given", function()
    for _, operation in ipairs(operations) do
      assert.is_true(#operation.success > 0, operation.id)
      local conditional = false
      for _, parameter in ipairs(operation.parameters) do
        conditional = conditional or parameter.wire == "If-None-Match"
      end
      for i, status in ipairs(operation.success) do
        assert.is_true(status >= 200 and status < 300 or status == 304 and conditional,
          operation.id)
        assert.is_true(i == 1 or operation.success[i - 1] < status, operation.id)
      end
    end
  end)

  it("accept that long work goes on after the answer", function()
    local found = {}
    for _, operation in ipairs(operations) do
      if operation.long_running then
        found[operation.id] = true
        local accepted = {}
        for _, status in ipairs(operation.success) do accepted[status] = true end
        assert.is_true(accepted[202], operation.id)
      end
    end
    assert.same({
      DataFlowDebugSession_Create = true, DataFlowDebugSession_ExecuteCommand = true,
      IntegrationRuntimeObjectMetadata_Refresh = true, IntegrationRuntimes_Start = true,
      IntegrationRuntimes_Stop = true, IntegrationRuntime_DisableInteractiveQuery = true,
      IntegrationRuntime_EnableInteractiveQuery = true, Triggers_Start = true, Triggers_Stop = true,
      Triggers_SubscribeToEvents = true, Triggers_UnsubscribeFromEvents = true,
    }, found)
  end)

  it("know where a page holds its items and the link to the next", function()
    local count = 0
    for _, operation in ipairs(operations) do
      if operation.pageable then
        count = count + 1
        assert.equal("value", operation.items)
        assert.equal("nextLink", operation.next_link)
      end
    end
    assert.equal(16, count)
  end)

  -- The opposite of the generator's list: what must never be repeated blindly.
  local UNSAFE = {
    "DataFlowDebugSession_AddDataFlow", "DataFlowDebugSession_Create",
    "DataFlowDebugSession_Delete", "DataFlowDebugSession_ExecuteCommand",
    "ChangeDataCapture_Start", "ChangeDataCapture_Stop", "Factories_ConfigureFactoryRepo",
    "Factories_GetGitHubAccessToken", "IntegrationRuntimeObjectMetadata_Refresh",
    "IntegrationRuntime_DisableInteractiveQuery", "IntegrationRuntime_EnableInteractiveQuery",
    "IntegrationRuntimes_CreateLinkedIntegrationRuntime", "IntegrationRuntimes_RegenerateAuthKey",
    "IntegrationRuntimes_RemoveLinks", "IntegrationRuntimes_Start", "IntegrationRuntimes_Stop",
    "IntegrationRuntimes_SyncCredentials", "IntegrationRuntimes_Upgrade", "PipelineRuns_Cancel",
    "Pipelines_CreateRun", "TriggerRuns_Cancel", "TriggerRuns_Rerun", "Triggers_Start",
    "Triggers_Stop", "Triggers_SubscribeToEvents", "Triggers_UnsubscribeFromEvents",
  }

  it("are never repeated blindly where they change, spend, start or stop something", function()
    local unsafe, found = {}, {}
    for _, id in ipairs(UNSAFE) do unsafe[id] = true end
    for _, operation in ipairs(operations) do
      if operation.method == "POST" and not operation.safe then found[operation.id] = true end
    end
    assert.same(unsafe, found)
  end)

  it("may be repeated where they only read, and not where they put, patch or delete", function()
    for _, operation in ipairs(operations) do
      if operation.method == "GET" then
        assert.is_true(operation.safe, operation.id)
      elseif operation.method ~= "POST" then
        assert.is_false(operation.safe, operation.id)
      end
    end
  end)

  it("have an example each, which agrees with them", function()
    local chunk = assert(loadfile "spec/fixtures/datafactory_requests.lua")
    local examples = chunk(cloudsync.array, cloudsync.null)
    local known, full = {}, {}
    for _, operation in ipairs(operations) do known[operation.id] = operation end
    for _, example in ipairs(examples) do
      local operation = known[example.id]
      assert.is_table(operation, example.id)
      assert.equal(operation.group, example.group)
      assert.equal(operation.name, example.name)
      assert.equal(operation.method, example.method)
      assert.same(operation.success, example.success, example.id)
      if example.variant == "full" then
        full[example.id] = true
        local names, given = {}, {}
        for _, parameter in ipairs(operation.parameters) do names[parameter.name] = true end
        for name in pairs(example.parameters) do given[name] = true end
        assert.same(names, given, example.id)
      end
    end
    for id in pairs(known) do assert.is_true(full[id], id .. " has no full example") end
  end)

  it("raise where a service is asked for that there is not", function()
    assert.has_error(function() core.operations "no_service" end)
    assert.has_error(function() core.request_id_header "no_service" end)
  end)
end)
