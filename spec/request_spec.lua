-- What becomes of parameters: the request that is sent, or the reason why none is.
local cjson = require "cjson"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local array, null, secret = cloudsync.array, cloudsync.null, cloudsync.secret

local examples = assert(loadfile "spec/fixtures/datafactory_requests.lua")(array, null)

local SUBSCRIPTION = "12345678-1234-1234-1234-12345678abcd"
local GROUP, FACTORY = "r(1).g_x-y", "exampleFactory-1"

---------------------------------------------------------------------------------------------------
-- Helpers

local function escape(char)
  local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
  return short[char] or ("\\u%04x"):format(char:byte())
end

-- The one spelling that a body may have: sorted names, nothing between the tokens.
local function json_of(value)
  if value == null then return "null" end
  if type(value) == "number" then return ((value % 1 == 0 and "%.0f" or "%.14g"):format(value)) end
  if type(value) == "string" then return '"' .. value:gsub('[%z\1-\31"\\]', escape) .. '"' end
  if type(value) ~= "table" then return tostring(value) end
  local parts, names = {}, {}
  if getmetatable(value) == getmetatable(array()) then
    for i, item in ipairs(value) do parts[i] = json_of(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name in pairs(value) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = json_of(name) .. ":" .. json_of(value[name]) end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- What a dry run shows of a body: the properties that hold secrets are hidden.
local SECRETS = { connectionString = true, encryptedCredential = true, gitHubAccessCode = true,
  licenseKey = true, password = true, sasUri = true }

local function hidden(value)
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for name, item in pairs(value) do
    local holds = SECRETS[name] or value.type == "SecureString" and name == "value"
    copy[name] = type(item) == "string" and holds and "<secret>" or hidden(item)
  end
  return copy
end

-- The method that stands for an operation, to be called with parameters and options.
local function method(client, group, name)
  return function(parameters, options)
    local owner = client[group]
    local result, err = owner[name](owner, parameters, options)
    return result, err
  end
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- The path of a URL behind the origin, and its query as decoded names and values.
local function split(url)
  local path, query = url:gsub("^%a+://[^/]*", ""):match "^([^?]*)%??(.*)$"
  local values = {}
  for pair in query:gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=(.*)$"
    assert.is_nil(values[decoded(name)], "twice in the query: " .. name)
    values[decoded(name)] = decoded(value)
  end
  return path, values
end

local function with(values, name, value)
  local copy = {}
  for key, item in pairs(values) do copy[key] = item end
  copy[name] = value
  return copy
end

local function printable(text)
  text = text:gsub("[^\32-\126]", function(char) return ("\\%d"):format(char:byte()) end)
  return #text > 40 and ("%s… (%d bytes)"):format(text:sub(1, 20), #text) or text
end

-- The first example whose operation takes that parameter.
local function example_with(parameter)
  for _, example in ipairs(examples) do
    if example.variant == "full" and example.parameters[parameter] ~= nil then return example end
  end
  error("no example has " .. parameter)
end

local function send(example, parameters, options)
  return method(support.datafactory { retries = 0 }, example.group, example.name)(parameters,
    options)
end

local function nothing_was_sent()
  assert.same({}, support.requests "service=any")
end

-- Checks that the data were refused as an error value before anything was sent.
local function refused(names, result, err)
  assert.is_nil(result)
  assert.is_table(err)
  assert.equal("argument", err.kind)
  assert.equal("not_sent", err.outcome)
  assert.equal(0, err.attempts)
  assert.is_false(err.retryable)
  assert.equal("datafactory", err.service)
  assert.truthy(err.message:find(names, 1, true),
    ("%q does not name %s"):format(err.message, names))
  nothing_was_sent()
end

-- Checks that the program's mistake raises text at the place where `mistake` makes the call.
local function raises(mistake, ...)
  local ok, err = pcall(mistake, support.datafactory())
  assert.is_false(ok, "nothing was raised")
  assert.is_string(err)
  for _, text in ipairs { ... } do
    assert.truthy(err:find(text, 1, true), ("%q does not hold %q"):format(err, text))
  end
  nothing_was_sent()
  local line = tonumber(err:match "request_spec%.lua:(%d+): ")
  assert.truthy(line, "no place in: " .. err)
  local place = debug.getinfo(mistake, "S")
  assert.truthy(line >= place.linedefined and line <= place.lastlinedefined,
    ("%s: the mistake is in lines %d to %d"):format(err, place.linedefined, place.lastlinedefined))
end

---------------------------------------------------------------------------------------------------

describe("a dry run", function()
  before_each(support.reset)

  for _, example in ipairs(examples) do
    local sentence = "of %s shows the request as documented (%s)"
    it(sentence:format(example.id, example.variant), function()
      local shown = assert(method(support.datafactory(), example.group, example.name)(
        example.parameters, { dry_run = true }))
      local path, query = split(shown.url)
      assert.equal(example.method, shown.method)
      assert.equal(example.path, path)
      assert.same(example.query, query)
      for name, value in pairs(example.headers) do assert.equal(value, shown.headers[name]) end
      if example.body == nil then
        assert.is_nil(shown.body)
        assert.is_nil(shown.headers["Content-Type"])
      else
        local expected = json_of(hidden(example.body))
        assert.same(cjson.decode(expected), cjson.decode(shown.body))
        assert.equal(expected, shown.body)
        assert.equal("application/json", shown.headers["Content-Type"])
      end
      for _, name in ipairs { "If-Match", "If-None-Match" } do
        assert.equal(example.headers[name], shown.headers[name])
      end
    end)
  end

  it("names the service and the operation and sends nothing", function()
    local shown = support.datafactory().factories:get(nil, { dry_run = true })
    assert.equal("datafactory", shown.service)
    assert.equal("factories:get", shown.operation)
    assert.equal("GET", shown.method)
    assert.matches("^" .. support.env "ARM":gsub("%p", "%%%0") .. "/subscriptions/", shown.url)
    nothing_was_sent()
  end)

  it("needs no token", function()
    local adf = support.datafactory { credential = { get_token = function() error "asked" end } }
    assert.is_table(adf.factories:get(nil, { dry_run = true }))
  end)

  it("of a list shows its first request and makes no pager", function()
    local shown = support.datafactory().pipelines:list_by_factory(nil, { dry_run = true })
    assert.matches("/pipelines%?", shown.url)
  end)

  it("gives each request an identifier of its own, a random UUID", function()
    local adf = support.datafactory()
    local one = adf.factories:get(nil, { dry_run = true }).headers["x-ms-client-request-id"]
    local two = adf.factories:get(nil, { dry_run = true }).headers["x-ms-client-request-id"]
    local function hex(digits) return ("%x"):rep(digits) end
    local uuid = table.concat({ "^" .. hex(8), hex(4), "4" .. hex(3), "[89ab]" .. hex(3),
      hex(12) .. "$" }, "%-")
    assert.matches(uuid, one)
    assert.matches(uuid, two)
    assert.not_equal(one, two)
  end)
end)

---------------------------------------------------------------------------------------------------

describe("a call", function()
  before_each(function()
    support.reset()
    support.factory {
      subscriptionId = SUBSCRIPTION, resourceGroupName = GROUP, factoryName = FACTORY, runtimes = 1,
    }
  end)

  for _, example in ipairs(examples) do
    if example.variant == "full" then
      it(("of %s sends the request as documented"):format(example.id), function()
        local result, err = send(example, example.parameters)
        if type(result) == "table" and result.collect then result, err = result:collect() end
        assert.truthy(result ~= nil or err.status, tostring(err))
        local request = support.requests()[1]
        local path, query = split(request.uri)
        assert.equal(example.method, request.method)
        assert.equal(example.path, path)
        assert.same(example.query, query)
        for _, name in ipairs { "If-Match", "If-None-Match" } do
          assert.equal(example.headers[name], request.headers[name:lower()])
        end
        assert.equal("application/json", request.headers.accept)
        assert.equal("Bearer " .. support.env "STATIC_TOKEN", request.headers.authorization)
        assert.is_nil(request.headers.expect)
        if example.body ~= nil then
          assert.equal("application/json", request.headers["content-type"])
          assert.equal(tostring(#request.body), request.headers["content-length"])
          assert.equal(json_of(example.body), request.body)
        else
          assert.equal("", request.body)
          assert.is_nil(request.headers["content-type"])
          local expected = example.method:find "^P" and "0" or nil
          assert.equal(expected, request.headers["content-length"])
        end
      end)
    end
  end

  it("sends the very bytes that its dry run shows", function()
    for _, id in ipairs { "Pipelines_CreateRun", "CredentialOperations_CreateOrUpdate",
      "Triggers_QueryByFactory", "DataFlows_CreateOrUpdate" } do
      for _, example in ipairs(examples) do
        if example.id == id and example.variant == "full" then
          local shown = send(example, example.parameters, { dry_run = true })
          support.control("DELETE", "requests")
          local result = send(example, example.parameters)
          if type(result) == "table" and result.collect then result:collect() end
          local request = support.requests()[1]
          assert.equal(shown.body, request.body)
          assert.equal(shown.url, support.env "ARM" .. request.uri)
        end
      end
    end
  end)

  local PAGEABLE = {
    ["change_data_capture:list_by_factory"] = true,
    ["credential_operations:list_by_factory"] = true,
    ["data_flow_debug_session:query_by_factory"] = true, ["data_flows:list_by_factory"] = true,
    ["datasets:list_by_factory"] = true, ["factories:list"] = true,
    ["factories:list_by_resource_group"] = true, ["global_parameters:list_by_factory"] = true,
    ["integration_runtimes:list_by_factory"] = true, ["linked_services:list_by_factory"] = true,
    ["managed_private_endpoints:list_by_factory"] = true,
    ["managed_virtual_networks:list_by_factory"] = true, ["operations:list"] = true,
    ["pipelines:list_by_factory"] = true, ["private_end_point_connections:list_by_factory"] = true,
    ["triggers:list_by_factory"] = true,
  }

  for _, example in ipairs(examples) do
    local name = example.group .. ":" .. example.name
    if example.variant == "full" and PAGEABLE[name] then
      it(("of %s gives a pager, which sends nothing until it is read"):format(name), function()
        local pager = send(example, example.parameters)
        nothing_was_sent()
        assert.is_function(pager.collect)
        assert.is_function(pager.pages)
        assert.is_table(pager:collect())
        assert.equal(1, #support.requests())
      end)
    end
  end

  it("of exactly those operations gives a pager", function()
    local pageable = {}
    for _, operation in ipairs(core.operations "datafactory") do
      if operation.pageable then pageable[operation.group .. ":" .. operation.name] = true end
    end
    assert.same(PAGEABLE, pageable)
  end)

  it("leaves out an optional body and says so with Content-Length 0", function()
    local adf = support.datafactory()
    assert(adf.integration_runtime_object_metadata:get { integrationRuntimeName = "ir-0001" })
    local request = support.requests()[1]
    assert.equal("0", request.headers["content-length"])
    assert.is_nil(request.headers["content-type"])
  end)

  it("sends an empty object where the body is an empty table", function()
    local adf = support.datafactory()
    assert(adf.integration_runtime_object_metadata:get {
      integrationRuntimeName = "ir-0001", getMetadataRequest = {},
    })
    local request = support.requests()[1]
    assert.equal("{}", request.body)
    assert.equal("application/json", request.headers["content-type"])
  end)

  for _, value in ipairs { true, false } do
    it(("spells the query's boolean %s"):format(tostring(value)), function()
      local shown = support.datafactory().pipeline_runs:cancel({ runId = "r", isRecursive = value },
        { dry_run = true })
      local _, query = split(shown.url)
      assert.equal(tostring(value), query.isRecursive)
    end)
  end

  it("sends an empty text in the query as a name without a value", function()
    local adf = support.datafactory()
    local shown = adf.pipelines:create_run({ pipelineName = "p", startActivityName = "" },
      { dry_run = true })
    local _, query = split(shown.url)
    assert.equal("", query.startActivityName)
  end)
end)

---------------------------------------------------------------------------------------------------
-- Bad data

local CONTROLS = {
  ["a NUL"] = "\0", ["a tab"] = "\t", ["a line feed"] = "\n", ["a carriage return"] = "\r",
  ["an escape"] = "\27", ["a DEL"] = "\127",
}

local NOT_UTF8 = {
  ["a lone continuation byte"] = "\128", ["an overlong slash"] = "\192\175",
  ["a surrogate"] = "\237\160\128", ["a code point above U+10FFFF"] = "\244\144\128\128",
  ["a truncated sequence"] = "\226\130", ["a byte that UTF-8 never has"] = "\255",
}

local sorted = support.sorted

-- What the vendor documents of each name: its length in characters and what it may hold.
local E_ACUTE, EURO, EMOJI = "\195\169", "\226\130\172", "\240\159\152\128"

local ENTITY = {
  min = 1, max = 260, letter = "a",
  good = { "a", "_", "9", "my linked service", "a-b", "a_b", "a" .. E_ACUTE, "a" .. EURO .. EMOJI,
    "a(b)", "a=b@c,$d;!'~\"^`|{}[]", "a ", ("a"):rep(260), "a" .. E_ACUTE:rep(259),
    "a" .. EMOJI:rep(259) },
  bad = { "-a", " a", E_ACUTE, "(a)", "a<b", "a>b", "a*b", "a#b", "a.b", "a%b", "a&b", "a:b",
    "a+b", "a?b", "a.", "a%2Fb", "a" .. E_ACUTE:rep(260), "a" .. EMOJI:rep(260) },
}

local FACTORY_NAME = {
  min = 3, max = 63, letter = "a",
  good = { "abc", "a-b", "A1-b2-C3", "123", ("a"):rep(63) },
  bad = { "-ab", "ab-", "a--b", "a_b", "a.b", "a b", "ab" .. E_ACUTE, "a+b", "abc%20", "a:b",
    E_ACUTE:rep(3) },
}

local CREDENTIAL_NAME = {
  min = 1, max = 127, letter = "a",
  good = { "a", "_", "a_b", "a-b", "_-_", "9", "a--b", ("a"):rep(127) },
  bad = { "-", "-a", "a-", "a b", "a.b", "a" .. E_ACUTE, "a+b", E_ACUTE },
}

local NAMES = {
  resourceGroupName = {
    min = 1, max = 90, letter = "a",
    good = { "a", "(", "-", "_a", "a.b", "r(1).g_x-y", "...", ("a"):rep(90) },
    bad = { "a b", "a+b", "a%20b", "a:b", "a,b", "a~b", "a'b", "a" .. EURO, "a?b", "a#b", "a;b" },
  },
  factoryName = FACTORY_NAME,
  integrationRuntimeName = FACTORY_NAME,
  nodeName = {
    min = 1, max = 150, letter = "a",
    good = { "a", "9", "Node_1-b", "a_", "a-", ("a"):rep(150) },
    bad = { "_a", "-a", "a.b", "a b", "a" .. E_ACUTE, "a+b", "a:b" },
  },
  credentialName = CREDENTIAL_NAME,
  managedPrivateEndpointName = CREDENTIAL_NAME,
  managedVirtualNetworkName = CREDENTIAL_NAME,
  changeDataCaptureName = ENTITY, dataFlowName = ENTITY, datasetName = ENTITY,
  globalParameterName = ENTITY, linkedServiceName = ENTITY, pipelineName = ENTITY,
  triggerName = ENTITY,
}

-- Path parameters of which nothing is documented but that they are texts.
local FREE = { "subscriptionId", "locationId", "runId", "privateEndpointConnectionName" }

describe("a name in the path", function()
  before_each(support.reset)

  it("is in these tables, whichever operation takes it", function()
    local expected, found = {}, {}
    for name in pairs(NAMES) do expected[name] = true end
    for _, name in ipairs(FREE) do expected[name] = true end
    for _, operation in ipairs(core.operations "datafactory") do
      for _, parameter in ipairs(operation.parameters) do
        if parameter.place == "path" then found[parameter.name] = true end
      end
    end
    assert.same(expected, found)
  end)

  local function check_refused(name, kind, value)
    it(("is refused where %s %s: '%s'"):format(name, kind, printable(value)), function()
      local example = example_with(name)
      local result, err = send(example, with(example.parameters, name, value))
      refused(name, result, err)
      assert.equal(name, err.target)
    end)
  end

  local function check_accepted(name, value)
    it(("is accepted, and encoded, as %s: '%s'"):format(name, printable(value)), function()
      local example = example_with(name)
      local shown, err = send(example, with(example.parameters, name, value), { dry_run = true })
      assert.is_nil(err)
      local expected = example.path:gsub("[^/]+", function(segment)
        if decoded(segment) ~= example.parameters[name] then return nil end
        return (value:gsub("[^%w%-._~!*'()]", function(char)
          return ("%%%02X"):format(char:byte())
        end))
      end)
      assert.equal(expected, (split(shown.url)))
    end)
  end

  for name, rule in sorted(NAMES) do
    if rule.min > 1 then
      check_refused(name, "is too short", rule.letter:rep(rule.min - 1))
      check_accepted(name, rule.letter:rep(rule.min))
    end
    check_refused(name, "is too long", rule.letter:rep(rule.max + 1))
    for _, value in ipairs(rule.bad) do check_refused(name, "breaks its pattern", value) end
    for _, value in ipairs(rule.good) do check_accepted(name, value) end
  end

  local paths = {}
  for name in pairs(NAMES) do paths[name] = true end
  for _, name in ipairs(FREE) do paths[name] = true end

  for name in sorted(paths) do
    for what, text in sorted(CONTROLS) do
      check_refused(name, "has " .. what .. " in it", "abc" .. text .. "def")
      check_refused(name, "ends in " .. what, "abc" .. text)
    end
    for what, text in sorted(NOT_UTF8) do check_refused(name, "has " .. what, "abc" .. text) end
    for _, value in ipairs { "..", ".", "", "/", "a/b", "a\\b", "abc/..", "../abc", "abc/" } do
      check_refused(name, "would change the path", value)
    end
  end

  for _, name in ipairs(FREE) do
    for _, value in ipairs { "a b", "a%2Fb", "%2e%2e", "...", "a?b#c&d=e+f;g:h@i", "a" .. E_ACUTE,
      EMOJI, "<>\"{}|^`[]", " " } do
      check_accepted(name, value)
    end
  end

  it("arrives percent-encoded, with what only looks like a dot segment", function()
    local adf = support.datafactory { retries = 0 }
    for sent, arrived in sorted {
      ["my linked " .. E_ACUTE .. " service"] = "my%20linked%20%C3%A9%20service",
      ["a, b; c=d@e"] = "a%2C%20b%3B%20c%3Dd%40e",
    } do
      support.control("DELETE", "requests")
      adf.linked_services:get { linkedServiceName = sent }
      assert.matches("/linkedservices/" .. arrived:gsub("%%", "%%%%") .. "%?",
        support.requests()[1].uri)
    end
    support.control("DELETE", "requests")
    adf.pipeline_runs:get { runId = "%2e%2e" }
    assert.matches("/pipelineruns/%%252e%%252e%?", support.requests()[1].uri)
  end)
end)

---------------------------------------------------------------------------------------------------

describe("a text in the query", function()
  before_each(support.reset)

  for _, name in ipairs { "referencePipelineRunId", "startActivityName" } do
    local bad = {}
    for what, text in pairs(CONTROLS) do bad[what] = text end
    for what, text in pairs(NOT_UTF8) do bad[what] = text end
    for what, text in sorted(bad) do
      it(("is refused where %s has %s in it"):format(name, what), function()
        local result, err = support.datafactory().pipelines:create_run {
          pipelineName = "p", [name] = "a" .. text .. "b",
        }
        refused(name, result, err)
        assert.equal(name, err.target)
      end)
    end

    for _, value in ipairs { "/", "..", ".", "a b", "a+b", "a&b=c", "a%20b", "a#b?c", E_ACUTE,
      EMOJI, "'\"<>" } do
      it(("arrives as it was given in %s: '%s'"):format(name, printable(value)), function()
        local adf = support.datafactory { retries = 0 }
        adf.pipelines:create_run { pipelineName = "p", [name] = value }
        local _, query = split(support.requests()[1].uri)
        assert.equal(value, query[name])
      end)
    end
  end
end)

---------------------------------------------------------------------------------------------------

describe("a text in a header", function()
  before_each(support.reset)

  local bad = {}
  for what, text in pairs(CONTROLS) do bad[what] = text end
  for what, text in pairs(NOT_UTF8) do bad[what] = text end

  for _, name in ipairs { "ifMatch", "ifNoneMatch" } do
    for what, text in sorted(bad) do
      it(("is refused where %s has %s in it"):format(name, what), function()
        local example = example_with(name)
        local result, err = send(example, with(example.parameters, name, "a" .. text .. "b"))
        refused(name, result, err)
        assert.equal(name, err.target)
      end)
    end

    it(("can't begin another header by way of %s"):format(name), function()
      local example = example_with(name)
      refused(name, send(example, with(example.parameters, name, "*\r\nX-Evil: 1")))
    end)
  end

  for _, value in ipairs { "*", '"15003c4f-0000-0200-0000-5cbe090b0000"', 'W/"a b"', "a: b",
    '"' .. E_ACUTE .. '"' } do
    it(("arrives as it was given: '%s'"):format(printable(value)), function()
      local adf = support.datafactory { retries = 0 }
      adf.pipelines:get { pipelineName = "p", ifNoneMatch = value }
      assert.equal(value, support.requests()[1].headers["if-none-match"])
    end)
  end

  for what, text in sorted(bad) do
    it(("is refused where the caller's own header has %s in it"):format(what), function()
      refused("X-Note", support.datafactory().factories:get(nil,
        { headers = { ["X-Note"] = "a" .. text .. "b" } }))
    end)
  end

  it("can't begin another header by way of the caller's own", function()
    refused("X-Note", support.datafactory().factories:get(nil,
      { headers = { ["X-Note"] = "a\r\nX-Evil: 1" } }))
  end)

  it("is refused where a secret has a line break in it, which is not shown", function()
    local result, err = support.datafactory().factories:get(nil,
      { headers = { ["X-Key"] = secret "hush\r\nX-Evil: 1" } })
    refused("X-Key", result, err)
    assert.is_nil(tostring(err):find("hush", 1, true))
  end)
end)

---------------------------------------------------------------------------------------------------

describe("the caller's own headers", function()
  before_each(support.reset)

  for _, name in ipairs { "Authorization", "authorization", "AUTHORIZATION", "Host",
    "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Expect",
    "Accept-Encoding" } do
    it(("can't be %s, which is the client's business"):format(name), function()
      raises(function(adf) local _ = adf.factories:get(nil, { headers = { [name] = "x" } }) end,
        name, "datafactory factories:get")
    end)
  end

  for _, name in ipairs { "", "X Note", "X-Note:", "X-Note\r\nX-Evil", "X\0Note", "X-N\195\180te",
    "X(Note)", "\tX" } do
    it(("can't have a name that HTTP does not know: '%s'"):format(printable(name)), function()
      raises(function(adf) local _ = adf.factories:get(nil, { headers = { [name] = "x" } }) end,
        "datafactory factories:get")
    end)
  end

  for what, value in sorted { ["a number"] = 1, ["a boolean"] = true, ["a table"] = {} } do
    it(("can't be %s"):format(what), function()
      local headers = { ["X-Note"] = value }
      raises(function(adf) local _ = adf.factories:get(nil, { headers = headers }) end,
        "X-Note", "datafactory factories:get", type(value))
    end)
  end

  it("can't be a list", function()
    raises(function(adf) local _ = adf.factories:get(nil, { headers = { "X-Note: 1" } }) end,
      "datafactory factories:get")
  end)

  it("are sent", function()
    local adf = support.datafactory()
    assert(adf.factories:get(nil, { headers = { ["X-Note"] = "a b", ["x-other"] = E_ACUTE } }))
    local headers = support.requests()[1].headers
    assert.equal("a b", headers["x-note"])
    assert.equal(E_ACUTE, headers["x-other"])
  end)

  it("are sent when they are empty", function()
    local adf = support.datafactory()
    assert(adf.factories:get(nil, { headers = { ["X-Note"] = "" } }))
    assert.equal("", support.requests()[1].headers["x-note"])
  end)

  it("are shown in a dry run when they are empty", function()
    local shown = support.datafactory().factories:get(nil,
      { headers = { ["X-Note"] = "" }, dry_run = true })
    assert.equal("", shown.headers["X-Note"])
  end)

  for _, name in ipairs { "Accept", "accept", "ACCEPT" } do
    it(("replace the default where they hold %s"):format(name), function()
      local adf = support.datafactory()
      assert(adf.factories:get(nil, { headers = { [name] = "application/json;odata=verbose" } }))
      assert.equal("application/json;odata=verbose", support.requests()[1].headers.accept)
    end)
  end

  it("replace the default with nothing where Accept is empty", function()
    local adf = support.datafactory()
    assert(adf.factories:get(nil, { headers = { Accept = "" } }))
    assert.equal("", support.requests()[1].headers.accept)
  end)

  it("replace the identifier that the client would give the request", function()
    local adf = support.datafactory()
    assert(adf.factories:get(nil, { headers = { ["X-Ms-Client-Request-Id"] = "mine" } }))
    assert.equal("mine", support.requests()[1].headers["x-ms-client-request-id"])
  end)

  it("can't repeat the operation's own parameter", function()
    local adf = support.datafactory { retries = 0 }
    local ok, message = pcall(function()
      return adf.pipelines:get({ pipelineName = "p", ifNoneMatch = '"1"' },
        { headers = { ["if-none-match"] = '"2"' } })
    end)
    assert.is_false(ok)
    assert.matches("header 'If%-None%-Match' is given twice", message)
    assert.equal(0, #support.requests())
  end)

  it("are shown as <secret> in a dry run where they are secrets, and sent as they are", function()
    local adf = support.datafactory()
    local headers = { ["X-Key"] = secret "hush", ["X-Note"] = "open" }
    local shown = adf.factories:get(nil, { headers = headers, dry_run = true })
    assert.equal("<secret>", shown.headers["X-Key"])
    assert.equal("open", shown.headers["X-Note"])
    assert(adf.factories:get(nil, { headers = headers }))
    assert.equal("hush", support.requests()[1].headers["x-key"])
  end)

  it("go with every page of a list", function()
    local adf = support.datafactory()
    local options = { headers = { ["X-Note"] = "1" } }
    assert(adf.integration_runtimes:list_by_factory(nil, options):collect())
    local requests = support.requests()
    assert.equal(4, #requests)
    for _, request in ipairs(requests) do assert.equal("1", request.headers["x-note"]) end
  end)

  it("go with every page also where their names only begin like the identifier's", function()
    local adf = support.datafactory()
    local options = { headers = { ["X-Ms-Client-Request-Id-2"] = "1", ["Expect-Ct"] = "2" } }
    assert(adf.integration_runtimes:list_by_factory(nil, options):collect())
    for _, request in ipairs(support.requests()) do
      assert.equal("1", request.headers["x-ms-client-request-id-2"])
      assert.equal("2", request.headers["expect-ct"])
    end
  end)
end)

---------------------------------------------------------------------------------------------------

describe("secrets in parameters", function()
  before_each(support.reset)

  it("are accepted wherever a text is, and hidden in a dry run", function()
    local shown = support.datafactory().pipelines:create_run({
      pipelineName = secret "hush-path", startActivityName = secret "hush-query",
      parameters = { key = secret "hush-body" },
    }, { dry_run = true })
    assert.matches("/pipelines/<secret>/createRun%?", shown.url)
    assert.matches("startActivityName=<secret>", shown.url, 1, true)
    assert.equal('{"key":"<secret>"}', shown.body)
    assert.is_nil((shown.url .. shown.body):find("hush", 1, true))
  end)

  it("are checked as the texts that they hold", function()
    refused("pipelineName", support.datafactory().pipelines:get { pipelineName = secret "a/b" })
  end)

  it("arrive as they are", function()
    local adf = support.datafactory { retries = 0 }
    adf.pipelines:create_run {
      pipelineName = secret "hush path", startActivityName = secret "hush&query",
      parameters = { key = secret "hush\nbody" },
    }
    local request = support.requests()[1]
    assert.matches("/pipelines/hush%%20path/createRun%?", request.uri)
    assert.matches("startActivityName=hush%%26query", request.uri)
    assert.equal('{"key":"hush\\nbody"}', request.body)
  end)

  it("are hidden in a body where the vendor's own types say that they are secrets", function()
    local shown = support.datafactory().linked_services:create_or_update({
      linkedServiceName = "l",
      linkedService = { properties = { type = "AzureStorage", typeProperties = {
        connectionString = "hush-1", encryptedCredential = "hush-2", password = "hush-3",
        sasUri = { type = "SecureString", value = "hush-4" },
        accountKey = { type = "SecureString", value = "hush-5" },
        open = { type = "AzureKeyVaultSecret", value = "seen" },
      } } },
    }, { dry_run = true })
    assert.is_nil(shown.body:find("hush", 1, true))
    assert.truthy(shown.body:find("seen", 1, true))
  end)

  it("are hidden in a body also where they are numbers", function()
    local shown = support.datafactory().linked_services:create_or_update({
      linkedServiceName = "l",
      linkedService = { properties = { type = "FtpServer", typeProperties = {
        password = 31415926, pin = { type = "SecureString", value = 27182818 } } } },
    }, { dry_run = true })
    assert.is_nil(shown.body:find("31415926", 1, true))
    assert.is_nil(shown.body:find("27182818", 1, true))
  end)
end)

---------------------------------------------------------------------------------------------------

describe("defaults of the client", function()
  before_each(support.reset)

  local function path_of(adf, parameters)
    return (split(assert(adf.factories:get(parameters, { dry_run = true })).url))
  end

  it("stand in for parameters that are not given", function()
    local adf = support.datafactory {
      subscriptionId = "s", resourceGroupName = "g", factoryName = "fff",
    }
    assert.equal("/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/fff",
      path_of(adf))
    assert.equal(path_of(adf), path_of(adf, {}))
  end)

  it("are overridden in the call, one by one and for that call alone", function()
    local adf = support.datafactory {
      subscriptionId = "s", resourceGroupName = "g", factoryName = "fff",
    }
    assert.matches("/subscriptions/s/resourceGroups/other/.*/factories/fff$",
      path_of(adf, { resourceGroupName = "other" }))
    assert.matches("/subscriptions/s/resourceGroups/g/.*/factories/ggg$",
      path_of(adf, { factoryName = "ggg" }))
    assert.matches("/subscriptions/s/resourceGroups/g/.*/factories/fff$", path_of(adf))
  end)

  it("are not sent where the operation does not take them", function()
    local shown = support.datafactory().operations:list(nil, { dry_run = true })
    assert.equal("/providers/Microsoft.DataFactory/operations", (split(shown.url)))
  end)

  it("are checked like what is given in the call", function()
    local result, err = support.datafactory { factoryName = "a/b" }.factories:get()
    refused("factoryName", result, err)
  end)

  it("are missed by name where there are none", function()
    local azure, datafactory = require "cloudsync.azure", require "cloudsync.datafactory"
    local adf = datafactory.new { credential = azure.static_token_credential "t" }
    raises(function() local _ = adf.factories:get() end,
      "subscriptionId", "datafactory factories:get")
  end)

  it("don't change with the table that the client was made of", function()
    local azure, datafactory = require "cloudsync.azure", require "cloudsync.datafactory"
    local options = { credential = azure.static_token_credential "t",
      subscriptionId = "s", resourceGroupName = "g", factoryName = "fff" }
    local adf = datafactory.new(options)
    options.factoryName = "changed"
    assert.matches("/factories/fff$", path_of(adf))
  end)
end)

---------------------------------------------------------------------------------------------------

describe("a program's mistake", function()
  before_each(support.reset)

  local MISTAKES = {
    { "a misspelt parameter", function(adf)
      local _ = adf.integration_runtimes:get { integrationRuntimeNmae = "ir1" }
    end, "integrationRuntimeNmae", "did you mean 'integrationRuntimeName'?",
      "integration_runtimes:get" },
    { "a parameter in the wrong case", function(adf)
      local _ = adf.integration_runtimes:get { integrationruntimename = "ir1" }
    end, "integrationruntimename", "did you mean 'integrationRuntimeName'?" },
    { "a parameter of another operation", function(adf)
      local _ = adf.factories:get { pipelineName = "p" }
    end, "pipelineName", "factories:get" },
    { "a wire name in place of the user's", function(adf)
      local _ = adf.pipelines:get { pipelineName = "p", ["If-None-Match"] = "*" }
    end, "If-None-Match", "did you mean 'ifNoneMatch'?" },
    { "api-version, which is no parameter", function(adf)
      local _ = adf.factories:get { ["api-version"] = "2017-09-01" }
    end, "api-version", "factories:get" },
    { "a position in place of a name", function(adf)
      local _ = adf.factories:get { "fff" }
    end, "unknown parameter", "factories:get" },
    { "a missing name", function(adf)
      local _ = adf.integration_runtimes:sync_credentials {}
    end, "integrationRuntimeName", "integration_runtimes:sync_credentials", "missing" },
    { "no parameters at all where one is required", function(adf)
      local _ = adf.integration_runtimes:sync_credentials()
    end, "integrationRuntimeName", "integration_runtimes:sync_credentials", "missing" },
    { "a missing body", function(adf)
      local _ = adf.factories:get_data_plane_access {}
    end, "policy", "factories:get_data_plane_access", "missing" },
    { "a number for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = 1 }
    end, "pipelineName", "pipelines:get", "number", "string" },
    { "a boolean for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = true }
    end, "pipelineName", "pipelines:get", "boolean", "string" },
    { "a table for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = {} }
    end, "pipelineName", "pipelines:get", "table", "string" },
    { "a function for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = print }
    end, "pipelineName", "pipelines:get", "function", "string" },
    { "null for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = cloudsync.null }
    end, "pipelineName", "pipelines:get", "null", "string" },
    { "some userdata for a name", function(adf)
      local _ = adf.pipelines:get { pipelineName = io.stdout }
    end, "pipelineName", "pipelines:get", "userdata", "string" },
    { "a number for a text in the query", function(adf)
      local _ = adf.pipelines:create_run { pipelineName = "p", startActivityName = 1 }
    end, "startActivityName", "pipelines:create_run", "number", "string" },
    { "a text for a boolean", function(adf)
      local _ = adf.pipeline_runs:cancel { runId = "r", isRecursive = "true" }
    end, "isRecursive", "pipeline_runs:cancel", "string", "boolean" },
    { "a number for a boolean", function(adf)
      local _ = adf.pipeline_runs:cancel { runId = "r", isRecursive = 1 }
    end, "isRecursive", "pipeline_runs:cancel", "number", "boolean" },
    { "a number for a header", function(adf)
      local _ = adf.pipelines:get { pipelineName = "p", ifNoneMatch = 1 }
    end, "ifNoneMatch", "pipelines:get", "number", "string" },
    { "a text for a body", function(adf)
      local _ = adf.factories:get_data_plane_access { policy = '{"permissions":"r"}' }
    end, "policy", "factories:get_data_plane_access", "string", "table" },
    { "a number for a body", function(adf)
      local _ = adf.factories:get_data_plane_access { policy = 1 }
    end, "policy", "factories:get_data_plane_access", "number", "table" },
    { "null for a body", function(adf)
      local _ = adf.factories:get_data_plane_access { policy = cloudsync.null }
    end, "policy", "factories:get_data_plane_access", "null", "table" },
    { "a function in a body", function(adf)
      local _ = adf.pipelines:create_run { pipelineName = "p", parameters = { a = { print } } }
    end, "parameters.a[1]", "pipelines:create_run", "function" },
    { "a coroutine in a body", function(adf)
      local _ = adf.pipelines:create_run { pipelineName = "p",
        parameters = { a = coroutine.create(print) } }
    end, "parameters.a", "pipelines:create_run", "thread" },
    { "some userdata in a body", function(adf)
      local _ = adf.pipelines:create_run { pipelineName = "p", parameters = { a = io.stdout } }
    end, "parameters.a", "pipelines:create_run", "userdata" },
    { "parameters that are no table", function(adf)
      local _ = adf.pipelines:get "p"
    end, "parameters must be a table", "pipelines:get", "string" },
    { "options that are no table", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, 1)
    end, "options must be a table", "pipelines:get", "number" },
    { "a misspelt option", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { timout = 1 })
    end, "timout", "did you mean 'timeout'?", "pipelines:get" },
    { "an option of the client in a call", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { insecure = true })
    end, "insecure", "pipelines:get" },
    { "a text for a timeout", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { timeout = "1" })
    end, "timeout", "pipelines:get", "string", "number" },
    { "a negative timeout", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { timeout = -1 })
    end, "timeout", "pipelines:get" },
    { "a timeout that is not a number", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { timeout = 0 / 0 })
    end, "timeout", "pipelines:get" },
    { "a text for dry_run", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { dry_run = "yes" })
    end, "dry_run", "pipelines:get", "string", "boolean" },
    { "headers that are no table", function(adf)
      local _ = adf.pipelines:get({ pipelineName = "p" }, { headers = "X: 1" })
    end, "headers", "pipelines:get", "string", "table" },
    { "a misspelt group", function(adf)
      local _ = adf.integration_runtime_s:get {}
    end, "no group 'integration_runtime_s'", "did you mean 'integration_runtimes'?" },
    { "the vendor's own spelling of a group", function(adf)
      local _ = adf.LinkedServices:get {}
    end, "no group 'LinkedServices'", "did you mean 'linked_services'?" },
    { "a group that is no name", function(adf)
      local _ = adf[1]
    end, "no group '1'" },
    { "a misspelt operation", function(adf)
      local _ = adf.integration_runtimes:sync_credential {}
    end, "no operation 'sync_credential'", "did you mean 'sync_credentials'?" },
    { "an operation of another group", function(adf)
      local _ = adf.pipelines:sync_credentials {}
    end, "no operation 'sync_credentials'", "pipelines" },
    { "an operation that is no name", function(adf)
      local _ = adf.pipelines[1]
    end, "no operation '1'" },
    { "a call with a point", function(adf)
      local _ = adf.pipelines.get { pipelineName = "p" }
    end, "colon", "pipelines:get" },
    { "a call with a point and nothing", function(adf)
      local _ = adf.operations.list()
    end, "colon", "operations:list" },
    { "a call on another group's behalf", function(adf)
      local _ = adf.pipelines.get(adf.triggers, { pipelineName = "p" })
    end, "colon", "pipelines:get" },
  }

  for _, mistake in ipairs(MISTAKES) do
    it(("raises at the place where it is made: %s"):format(mistake[1]), function()
      raises(mistake[2], (table.unpack or unpack)(mistake, 3)) -- luacheck: ignore 143
    end)
  end

  it("raises in a dry run as well", function()
    local options = { dry_run = true }
    raises(function(adf) local _ = adf.pipelines:get({ pipelineNmae = "p" }, options) end,
      "did you mean 'pipelineName'?")
  end)

  it("raises before a list is read", function()
    raises(function(adf) local _ = adf.pipelines:list_by_factory { factoryNmae = "p" } end,
      "did you mean 'factoryName'?")
  end)

  it("raises at the place where a client is made of wrong options", function()
    local datafactory = require "cloudsync.datafactory"
    local credential = require "cloudsync.azure".static_token_credential "t"
    for text, mistake in sorted {
      ["credential is missing"] = function() local _ = datafactory.new {} end,
      ["options must be a table"] = function() local _ = datafactory.new() end,
      ["did you mean 'endpoint'?"] = function()
        local _ = datafactory.new { credential = credential, endpiont = "https://a.example" }
      end,
      ["'timeout'"] = function()
        local _ = datafactory.new { credential = credential, timeout = "1" }
      end,
      ["did you mean 'china'?"] = function()
        local _ = datafactory.new { credential = credential, cloud = "chine" }
      end,
      ["'credential'"] = function() local _ = datafactory.new { credential = "token" } end,
      ["connect_timeout"] = function()
        local _ = datafactory.new { credential = credential, connect_timeout = "1" }
      end,
    } do
      raises(mistake, "datafactory", text)
    end
  end)
end)

---------------------------------------------------------------------------------------------------

describe("a body", function()
  before_each(support.reset)

  local T = "2018-06-16T00:36:44Z"
  local NAN, INF = 0 / 0, math.huge

  local function cycle()
    local value = { name = "a" }
    value.again = value
    return value
  end

  -- group, operation, parameters, the path of what is wrong
  local WRONG = {
    ["has no required property"] = {
      { "pipeline_runs", "query_by_factory", { filterParameters = {} },
        "filterParameters.lastUpdatedAfter" },
      { "pipeline_runs", "query_by_factory", { filterParameters = { lastUpdatedAfter = T } },
        "filterParameters.lastUpdatedBefore" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = {} },
        "pipeline.properties" },
      { "change_data_capture", "create_or_update", { changeDataCaptureName = "c",
        changeDataCapture = { properties = { policy = {}, targetConnectionsInfo = array() } } },
        "changeDataCapture.properties.sourceConnectionsInfo" },
      { "data_flow_debug_session", "execute_command", { request = { commandPayload = {} } },
        "request.commandPayload.streamName" },
      { "factories", "create_or_update", { factory = { properties = { encryption = {
        keyName = "k" } } } }, "factory.properties.encryption.vaultBaseUrl" },
      { "factories", "update", { factoryUpdateParameters = { identity = {} } },
        "factoryUpdateParameters.identity.type" },
      { "integration_runtimes", "remove_links", { integrationRuntimeName = "ir1",
        linkedIntegrationRuntimeRequest = {} }, "linkedIntegrationRuntimeRequest.factoryName" },
      { "exposure_control", "query_feature_values_by_factory", { exposureControlBatchRequest = {} },
        "exposureControlBatchRequest.exposureControlRequests" },
    },
    ["has a property of the wrong type"] = {
      { "pipeline_runs", "query_by_factory", { filterParameters = { lastUpdatedAfter = 1,
        lastUpdatedBefore = T } }, "filterParameters.lastUpdatedAfter" },
      { "pipeline_runs", "query_by_factory", { filterParameters = { lastUpdatedAfter = T,
        lastUpdatedBefore = T, filters = "x" } }, "filterParameters.filters" },
      { "pipeline_runs", "query_by_factory", { filterParameters = { lastUpdatedAfter = T,
        lastUpdatedBefore = T, filters = { operand = "PipelineName" } } },
        "filterParameters.filters" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = "x" } },
        "pipeline.properties" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = {
        properties = { "x" } } }, "pipeline.properties" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = {
        properties = array() } }, "pipeline.properties" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = {
        folder = { name = true } } } }, "pipeline.properties.folder.name" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = {
        concurrency = "4" } } }, "pipeline.properties.concurrency" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = {
        concurrency = 1.5 } } }, "pipeline.properties.concurrency" },
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = {
        concurrency = NAN } } }, "pipeline.properties.concurrency" },
      { "change_data_capture", "create_or_update", { changeDataCaptureName = "c",
        changeDataCapture = { properties = { policy = { recurrence = { interval = INF } },
          sourceConnectionsInfo = array(), targetConnectionsInfo = array() } } },
        "changeDataCapture.properties.policy.recurrence.interval" },
      { "change_data_capture", "create_or_update", { changeDataCaptureName = "c",
        changeDataCapture = { properties = { policy = {}, allowVNetOverride = "true",
          sourceConnectionsInfo = array(), targetConnectionsInfo = array() } } },
        "changeDataCapture.properties.allowVNetOverride" },
    },
    ["is an array where an object is documented"] = {
      { "pipelines", "create_run", { pipelineName = "p", parameters = { 1, 2 } }, "parameters" },
      { "pipelines", "create_run", { pipelineName = "p", parameters = array() }, "parameters" },
    },
    ["has a number below the minimum"] = {
      { "pipelines", "create_or_update", { pipelineName = "p", pipeline = { properties = {
        concurrency = 0 } } }, "pipeline.properties.concurrency" },
      { "integration_runtime_nodes", "update", { integrationRuntimeName = "ir1", nodeName = "n",
        updateIntegrationRuntimeNodeRequest = { concurrentJobsLimit = -1 } },
        "updateIntegrationRuntimeNodeRequest.concurrentJobsLimit" },
    },
  }

  -- what no JSON can say, and where in the value that is
  local UNSPEAKABLE = {
    { "NaN", NAN, "" }, { "infinity", INF, "" }, { "-infinity", -INF, "" },
    { "NaN within", { b = { 1, 2, NAN } }, ".b[3]" }, { "a cycle", cycle(), ".again.again" },
    { "names and positions", { 1, x = 2 }, "" }, { "a gap", { [1] = 1, [3] = 3 }, "" },
    { "no first position", { [2] = 1 }, "" }, { "position 0", { [0] = 1 }, "" },
    { "a fraction as a key", { [1.5] = 1 }, "" }, { "a boolean as a key", { [true] = 1 }, "" },
    { "an array with names", array { x = 1 }, "" }, { "a text that is not UTF-8", "\255", "" },
    { "a name that is not UTF-8", { ["\192\175"] = 1 }, "" },
    { "a secret that is not UTF-8", secret "\255", "" },
  }
  WRONG["holds what JSON can't say"] = {}
  for i, case in ipairs(UNSPEAKABLE) do
    WRONG["holds what JSON can't say"][i] = {
      "pipelines", "create_run", { pipelineName = "p", parameters = { a = case[2] } },
      "parameters.a" .. case[3], case[1],
    }
  end

  for kind, cases in sorted(WRONG) do
    for i, case in ipairs(cases) do
      it(("is refused where it %s (%s): %s"):format(kind, case[5] or i, case[4]), function()
        local result, err = method(support.datafactory(), case[1], case[2])(case[3])
        refused(case[4], result, err)
        assert.equal(case[4]:match "^%a+", err.target)
        assert.equal(case[1] .. ":" .. case[2], err.operation)
      end)
    end
  end

  it("is refused without a word of the secret in it", function()
    local _, err = support.datafactory().pipelines:create_run {
      pipelineName = "p", parameters = { a = secret "hush\255" },
    }
    assert.is_nil(tostring(err):find("hush", 1, true))
    for _, value in pairs(err) do assert.is_nil(tostring(value):find("hush", 1, true)) end
  end)

  it("is refused in a dry run too where it holds a secret that is no text", function()
    local shown, err = support.datafactory().pipelines:create_run({
      pipelineName = "p", parameters = { a = secret "hush\255" },
    }, { dry_run = true })
    assert.is_nil(shown)
    assert.equal("argument", err.kind)
    assert.matches("parameters.a is not valid UTF%-8", err.message)
  end)

  local function body_of(parameters)
    local shown = assert(support.datafactory().pipelines:create_run({
      pipelineName = "p", parameters = parameters,
    }, { dry_run = true }))
    return shown.body
  end

  it("may hold what is not documented", function()
    local shown = assert(support.datafactory().factories:get_data_plane_access({
      policy = { permissions = "r", newProperty = { 1, 2 } },
    }, { dry_run = true }))
    assert.equal('{"newProperty":[1,2],"permissions":"r"}', shown.body)
  end)

  it("may hold null for a property", function()
    local shown = assert(support.datafactory().factories:get_data_plane_access({
      policy = { permissions = null, profileName = null },
    }, { dry_run = true }))
    assert.equal('{"permissions":null,"profileName":null}', shown.body)
  end)

  it("may hold a whole number that is a float", function()
    local shown = assert(support.datafactory().integration_runtime_nodes:update({
      integrationRuntimeName = "ir1", nodeName = "n",
      updateIntegrationRuntimeNodeRequest = { concurrentJobsLimit = 2.0 },
    }, { dry_run = true }))
    assert.equal('{"concurrentJobsLimit":2}', shown.body)
  end)

  it("has an array where one is documented, also from a plain empty table", function()
    local shown = assert(support.datafactory().exposure_control:query_feature_values_by_factory({
      exposureControlBatchRequest = { exposureControlRequests = {} },
    }, { dry_run = true }))
    assert.equal('{"exposureControlRequests":[]}', shown.body)
  end)

  it("may hold the same table twice", function()
    local shared = { x = 1 }
    assert.equal('{"a":{"x":1},"b":[{"x":1},{"x":1}]}',
      body_of { a = shared, b = { shared, shared } })
  end)

  it("is taken from the tables themselves, not from what metamethods say", function()
    local strange = setmetatable({ a = 1 }, {
      __index = function() return 1 end, __len = function() return 7 end,
      __pairs = function() error "asked" end, __tostring = function() error "asked" end,
    })
    assert.equal('{"x":{"a":1}}', body_of { x = strange })
  end)

  it("is not changed by what happens to its table after the call was made", function()
    local adf = support.datafactory { retries = 0 }
    local policy = { permissions = "r" }
    local shown = adf.factories:get_data_plane_access({ policy = policy }, { dry_run = true })
    policy.permissions = "w"
    assert.equal('{"permissions":"r"}', shown.body)
  end)
end)
