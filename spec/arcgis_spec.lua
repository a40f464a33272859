--- ArcGIS Server: what is sent, tokens, errors that come with status 200, credentials and jobs.
local arcgis = require "cloudsync.arcgis"
local cjson = require "cjson"
local cloudsync = require "cloudsync"
local support = require "spec.support"

local unpack = table.unpack or unpack -- luacheck: globals unpack

local ROOT = "/server/admin"
local REFERER = "https://app.sim.example/admin?a=b&c"
local PROVIDER, AWS = "azgatvskp6", "awsk3jv9m2"
local CREDENTIAL = { type = "STORAGE-ACCOUNT-KEY",
  secret = { storageAccountName = "store", storageAccountKey = "a+b/c==" } }

local MARK = support.MARK

local function merge(...)
  local merged = {}
  for _, fields in ipairs { ... } do
    for name, value in pairs(fields) do merged[name] = value end
  end
  return merged
end

-- A client that signs in, whose own requests are not repeated.
local function client(overrides)
  return arcgis.new(merge({
    endpoint = support.env "ARCGIS", ca_file = support.env "CA_FILE", retries = 0,
    username = support.env "USERNAME", password = support.env "PASSWORD",
  }, overrides or {}))
end

-- A client that has a token and never signs in.
local function client_with(token, overrides)
  return arcgis.new(merge({ endpoint = support.env "ARCGIS", ca_file = support.env "CA_FILE",
    retries = 0, token = token }, overrides or {}))
end

local function new_token()
  local answer = assert(client().tokens:generate {
    username = support.env "USERNAME", password = support.env "PASSWORD",
  })
  return answer.token
end

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- The fields of a form or a query. A name that is there twice is an error.
local function pairs_of(text)
  local fields = {}
  for name, value in (text or ""):gmatch "([^&=]+)=([^&]*)" do
    name = unescape(name)
    assert(fields[name] == nil, name .. " is there twice")
    fields[name] = unescape(value)
  end
  return fields
end

local function query_of(request)
  return pairs_of(request.uri:match "%?(.*)$")
end

local function site() return support.control("GET", "arcgis") end

local function define(definition) support.control("POST", "arcgis", definition) end

local function settings(values) support.control("POST", "settings", values) end

local function revoke() support.control("POST", "tokens/revoke") end

local function requests(query)
  return support.requests("service=arcgis" .. (query and "&" .. query or ""))
end

local function logins() return #requests "operation=generateToken" end

local function add(gis, id)
  local answer = assert(gis.providers:add_credential {
    providerID = id or PROVIDER, credential = CREDENTIAL,
  })
  return answer.cloudCredentialRotationJobId
end

-- The requests for jobs at that path, in which others may begin.
local function looks(path)
  local count = 0
  for _, request in ipairs(requests "method=GET") do
    local at = ROOT .. "/" .. path .. "/"
    if request.path:sub(1, #at) == at then count = count + 1 end
  end
  return count
end

-- An error of the site's, with status 200.
local function trouble(code, message)
  return cjson.encode { status = "error", messages = { message or "no" }, code = code }
end

local SITE = { job = { seconds = 0 }, providers = {
  { id = "full", name = "AWS", credential = CREDENTIAL,
    services = { { id = "fulls", name = "S3", credential = CREDENTIAL } } },
  { id = "none", name = "Azure", services = { { id = "nones", name = "Blob" } } },
  { id = "other", name = "Azure", services = { { id = "others", name = "Bus" } } },
} }

local OPERATIONS = {
  { "providers", "list", nil, "GET", "/cloud/providers", {} },
  { "providers", "list", { maskedSecret = true }, "GET", "/cloud/providers",
    { maskedSecret = "true" } },
  { "providers", "list", { maskedSecret = false }, "GET", "/cloud/providers",
    { maskedSecret = "false" } },
  { "providers", "get", { providerID = "none" }, "GET", "/cloud/providers/none", {} },
  { "providers", "add_credential", { providerID = "none", credential = CREDENTIAL }, "POST",
    "/cloud/providers/none/credential/add" },
  { "providers", "update_credential", { providerID = "full", credential = CREDENTIAL }, "POST",
    "/cloud/providers/full/credential/update" },
  { "services", "list", nil, "GET", "/cloud/services", {} },
  { "services", "list", { maskedSecret = true }, "GET", "/cloud/services",
    { maskedSecret = "true" } },
  { "services", "get", { serviceID = "others" }, "GET", "/cloud/services/others", {} },
  { "services", "add_credential", { serviceID = "nones", credential = CREDENTIAL }, "POST",
    "/cloud/services/nones/credential/add" },
  { "services", "update_credential", { serviceID = "fulls", credential = CREDENTIAL }, "POST",
    "/cloud/services/fulls/credential/update" },
  { "jobs", "list", nil, "GET", "/jobs", {} },
  { "jobs", "get", { jobID = "JOB" }, "GET", "/jobs/JOB", {} },
  { "system_jobs", "list", nil, "GET", "/system/jobs", {} },
  { "system_jobs", "get", { jobID = "JOB" }, "GET", "/system/jobs/JOB", {} },
}

describe("an ArcGIS operation", function()
  local token

  before_each(function()
    support.reset()
    define(SITE)
    settings { arcgis_jobs_path = "both" }
    token = new_token()
  end)

  for _, row in ipairs(OPERATIONS) do
    local group, name, parameters, method, path, query = unpack(row, 1, 6)
    local subject = ("%s:%s of %s"):format(group, name, cjson.encode(parameters or {}))
    it("is sent as documented: " .. support.printable(subject), function()
      local gis, job = client_with(token), nil
      if parameters and parameters.jobID then
        job = add(gis, "other")
        parameters = { jobID = job }
      end
      support.control("DELETE", "requests")
      assert.is_table(assert(gis[group][name](gis[group], parameters)))
      local sent = requests()
      assert.equal(1, #sent)
      local request = sent[1]
      local place = request.uri:match "^[^?]*"
      assert.equal(method, request.method)
      assert.equal(ROOT .. path:gsub("JOB", job or ""), place)
      assert.is_nil(request.uri:find(token, 1, true))
      if method == "GET" then
        assert.same(merge(query, { f = "json" }), query_of(request))
        assert.equal("Bearer " .. token, request.headers.authorization)
        assert.is_nil(request.headers["content-type"])
        assert.equal("", request.body)
      else
        assert.equal(place, request.uri)
        local form = pairs_of(request.body)
        assert.equal("application/x-www-form-urlencoded", request.headers["content-type"])
        assert.same(CREDENTIAL, cjson.decode(form.credential))
        form.credential = nil
        assert.same({ f = "json", token = token }, form)
        assert.is_nil(request.headers.authorization)
      end
      assert.is_nil(request.headers.referer)
      assert.is_nil(request.headers.cookie)
    end)
  end

  it("has no other groups or operations than are checked here", function()
    local seen = {}
    for _, row in ipairs(OPERATIONS) do seen[row[1] .. ":" .. row[2]] = true end
    seen["tokens:generate"], seen["portal_tokens:generate"] = true, true
    for _, operation in ipairs(require "cloudsync.core".operations "arcgis") do
      local name = operation.group .. ":" .. operation.name
      assert(seen[name], name .. " is not tested")
      seen[name] = nil
    end
    assert.same({}, seen)
  end)

  for _, row in ipairs {
    { "tokens", "ARCGIS", ROOT .. "/generateToken" },
    { "portal_tokens", "PORTAL", "/portal/sharing/rest/generateToken" },
  } do
    it("for a token takes no token: " .. row[1], function()
      support.control("DELETE", "requests")
      local form = { username = support.env "USERNAME", password = support.env "PASSWORD",
        client = "referer", referer = REFERER, ip = "127.0.0.1", expiration = 30 }
      local group = client_with(token, { endpoint = support.env(row[2]) })[row[1]]
      assert.is_string(assert(group:generate(form)).token)
      local request = requests()[1]
      assert.equal("POST", request.method)
      assert.equal(row[3], request.uri)
      assert.equal("application/x-www-form-urlencoded", request.headers["content-type"])
      assert.is_nil(request.headers.authorization)
      assert.same(merge(form, { expiration = "30", f = "json" }), pairs_of(request.body))
    end)
  end

  for _, id in ipairs { "", ".", "..", "a/b", "a\\b", "a\nb" } do
    it("refuses the id " .. support.printable(cjson.encode(id)) .. " before sending", function()
      support.control("DELETE", "requests")
      local gis = client_with(token)
      for _, call in ipairs {
        { gis.providers, "get", "providerID" }, { gis.services, "get", "serviceID" },
        { gis.jobs, "get", "jobID" }, { gis.system_jobs, "get", "jobID" },
      } do
        local result, err = call[1][call[2]](call[1], { [call[3]] = id })
        assert.is_nil(result)
        assert.equal("argument", err.kind)
        assert.equal(call[3], err.target)
      end
      assert.equal(0, #requests())
    end)
  end
end)

local TEXTS = {
  "a+b/c=d&e%f", "%2B%26%3D", "é€😀", "with space ", [[q"u'o\te]], "line\nbreak\ttab",
  "v2Crypt_R68p/cvTUo1LmRcgXJ5U07WKv936mnCe+==", "a=b;c?d#e", "<b>&amp;</b>", "xxx4", "+",
}

describe("a secret survives the form", function()
  before_each(support.reset)

  for _, text in ipairs(TEXTS) do
    it("where it is " .. support.printable(text), function()
      local plain = { type = "T/+&=", secret = { storageAccountName = text .. "1",
        storageAccountKey = text, nested = { list = { text } } }, ["na+me"] = text }
      local wrapped = { type = "T/+&=", secret = { storageAccountName = text .. "1",
        storageAccountKey = cloudsync.secret(text), nested = { list = { text } } },
        ["na+me"] = text }
      local gis = client()
      assert(gis.providers:add_credential { providerID = PROVIDER, credential = plain })
      assert(gis.providers:update_credential { providerID = AWS, credential = wrapped })
      local jobs = site().jobs
      assert.same(plain, jobs[1].credential)
      assert.same(plain, jobs[2].credential)
    end)

    it("of a sign-in where it is " .. support.printable(text), function()
      local password = text .. "-" .. support.env "PASSWORD"
      client({ password = password, username = text }).providers:list()
      local form = pairs_of(requests()[1].body)
      assert.equal(password, form.password)
      assert.equal(text, form.username)
    end)
  end
end)

describe("an ArcGIS token", function()
  before_each(support.reset)

  local KINDS = {
    { "requestip", {}, { client = "requestip" } },
    { "ip", { ip = "127.0.0.1" }, { client = "ip", ip = "127.0.0.1" } },
    { "referer", { referer = REFERER }, { client = "referer", referer = REFERER } },
    { "referer of a portal", { portal = "PORTAL", referer = REFERER },
      { client = "referer", referer = REFERER } },
    { "referer of a portal, where none is given", { portal = "PORTAL" },
      { client = "referer", referer = "ENDPOINT" } },
    { "requestip, of a life in minutes", { expiration = 30 },
      { client = "requestip", expiration = "30" } },
  }
  for _, row in ipairs(KINDS) do
    it("is asked for once, bound by " .. row[1], function()
      local options, form = merge(row[2]), merge(row[3])
      if options.portal then options.portal = support.env "PORTAL" end
      if form.referer == "ENDPOINT" then form.referer = support.env "ARCGIS" end
      local gis = client(options)
      assert(gis.providers:list())
      add(gis)
      assert(gis.jobs:list())
      local sent = requests()
      assert.equal(4, #sent)
      assert.equal(options.portal and "/portal/sharing/rest/generateToken"
        or ROOT .. "/generateToken", sent[1].uri)
      assert.same(merge(form, { f = "json", username = support.env "USERNAME",
        password = support.env "PASSWORD" }), pairs_of(sent[1].body))
      local token = pairs_of(sent[3].body).token
      assert.equal("Bearer " .. token, sent[2].headers.authorization)
      assert.equal("Bearer " .. token, sent[4].headers.authorization)
      for _, request in ipairs(sent) do
        assert.equal(form.referer, request.headers.referer)
        assert.is_nil(request.uri:find(token, 1, true))
        assert.is_nil(request.uri:find("token=", 1, true))
        assert.is_nil(request.uri:find(support.env "PASSWORD", 1, true))
      end
      assert.equal(1, site().tokens_issued)
    end)
  end

  it("that is bound to another address is renewed once, then the call fails", function()
    local result, err = client({ ip = "192.0.2.1" }).providers:list()
    assert.is_nil(result)
    assert.equal("auth", err.kind)
    assert.equal("498", err.code)
    assert.matches("ClientID does not match", err.message)
    assert.equal(2, logins())
    assert.equal(2, #requests "operation=providers")
  end)

  for _, type_name in ipairs { "string", "number" } do
    it("whose end is a " .. type_name .. " is renewed before it comes", function()
      settings { arcgis_max_expiration_minutes = 2.1 / 60, arcgis_expires_type = type_name }
      local gis = client()
      assert(gis.providers:list())
      assert(gis.providers:list())
      assert.equal(1, logins())
      cloudsync.sleep(1.6)
      assert(gis.providers:list())
      assert.equal(2, logins())
      assert.equal(3, #requests "operation=providers")
      assert.equal(2, site().tokens_issued)
    end)
  end

  it("of a portal, whose end is a number, is kept", function()
    local gis = client({ portal = support.env "PORTAL" })
    for _ = 1, 3 do assert(gis.providers:list()) end
    assert.equal(1, logins())
  end)

  for _, expires in ipairs { "null", '"soon"', "[]" } do
    it("whose end is " .. expires .. " is kept", function()
      local body = ('{"token":"%s","expires":%s}'):format(new_token(), expires)
      support.control("DELETE", "requests")
      support.fault { match = { operation = "generateToken" }, status = 200, body = body }
      local gis = client()
      assert(gis.providers:list())
      assert(gis.providers:list())
      assert.equal(1, logins())
    end)
  end

  it("is asked for once by 64 concurrent first calls, and by 64 that are refused", function()
    support.fault { match = { operation = "generateToken" }, delay = 0.2 }
    local gis, items = client(), {}
    for i = 1, 64 do items[i] = i end
    local function all()
      local _, failures = cloudsync.map(items, function()
        return gis.providers:list()
      end, { concurrency = 64 })
      assert.same({}, failures)
    end
    all()
    assert.equal(1, site().tokens_issued)
    assert.equal(1, logins())
    revoke()
    all()
    assert.equal(2, site().tokens_issued)
    assert.equal(2, logins())
  end)

  local REFUSALS = {
    { "498", trouble(498, "Token Expired.") },
    { "499", trouble(499, "Token not found.") },
    { "498 as text", trouble("498", "Token Expired.") },
    { "498 of a portal", [[{"error":{"code":498,"message":"Invalid Token.","details":[]}}]] },
    { "499 of a portal", [[{"error":{"code":499,"message":"Token Required","details":null}}]] },
    { "401", nil, 401 },
  }
  for _, row in ipairs(REFUSALS) do
    local name, body, status = unpack(row, 1, 3)
    for _, method in ipairs { "GET", "POST" } do
      local function call(gis)
        if method == "GET" then return gis.providers:get { providerID = PROVIDER } end
        return gis.providers:add_credential { providerID = PROVIDER, credential = CREDENTIAL }
      end
      local match = { method = method, path = "/cloud/" }
      local query = "method=" .. method .. "&operation="
        .. (method == "GET" and PROVIDER or "add")

      it(("refused with %s is renewed, and the %s repeated, once"):format(name, method),
        function()
          support.fault { match = match, status = status or 200, body = body }
          local gis = client()
          local result, response = call(gis)
          assert.is_nil(result == nil and response or nil)
          assert.equal(2, response.attempts)
          assert.equal(2, logins())
          assert.equal(2, #requests(query))
          assert.equal(method == "POST" and 1 or 0, site().adds)
        end)

      it(("refused with %s again and again fails the %s"):format(name, method), function()
        support.fault { match = match, status = status or 200, body = body, times = 0 }
        local result, err = call(client())
        assert.is_nil(result)
        assert.equal("auth", err.kind)
        assert.equal("rejected", err.outcome)
        assert.equal(tonumber(name:match "%d+"), err.status)
        assert.equal(2, err.attempts)
        assert.equal(2, logins())
        assert.equal(2, #requests(query))
      end)
    end
  end

  it("that is given is used, and never asked for", function()
    local token = new_token()
    support.control("DELETE", "requests")
    for _, given in ipairs { token, cloudsync.secret(token) } do
      assert(client_with(given).providers:list())
    end
    assert.equal(2, #requests())
    revoke()
    local result, err = client_with(token).providers:list()
    assert.is_nil(result)
    assert.equal("auth", err.kind)
    assert.equal("498", err.code)
    assert.equal(3, #requests())
    assert.equal(0, logins())
  end)

  it("that is given goes before a user name and password", function()
    local token = new_token()
    support.control("DELETE", "requests")
    assert(client({ token = token }).providers:list())
    assert.equal(0, logins())
  end)
end)

describe("a sign-in that is refused", function()
  before_each(support.reset)

  local SITES = { { "the server", nil, "401" }, { "the portal", "PORTAL", "400" } }
  for _, row in ipairs(SITES) do
    it("is not repeated, by " .. row[1], function()
      local gis = client({ password = "wrong", retries = 3,
        portal = row[2] and support.env(row[2]) })
      for _ = 1, 4 do
        local result, err = gis.providers:list()
        assert.is_nil(result)
        assert.equal("auth", err.kind)
        assert.equal(row[3], err.code)
        assert.equal("not_sent", err.outcome)
        assert.equal("providers:list", err.operation)
        assert.is_false(err.retryable)
      end
      local result = gis.providers:add_credential {
        providerID = PROVIDER, credential = CREDENTIAL,
      }
      assert.is_nil(result)
      assert.equal(1, site().failed_logins)
      assert.equal(1, #requests())
    end)
  end

  it("is not repeated by 64 concurrent calls", function()
    local gis, items = client({ password = "wrong" }), {}
    for i = 1, 64 do items[i] = i end
    local _, failures = cloudsync.map(items, function() return gis.providers:list() end,
      { concurrency = 64 })
    assert.equal(64, #failures)
    for _, failure in ipairs(failures) do assert.equal("auth", failure.err.kind) end
    assert.equal(1, site().failed_logins)
  end)

  -- An error of kind auth is for ever; any other sign-in is tried again after a while.
  local WORDS = {
    { "a code", trouble(401, "Invalid username or password.") },
    { "no code", [[{"status":"error","messages":["Invalid username or password."]}]] },
    { "status failed", [[{"status":"failed","messages":["Invalid username or password."]}]] },
    { "a portal's code", [[{"error":{"code":400,"message":"Unable to generate token.",
      "details":["Invalid username or password."]}}]] },
    { "a portal's words only", [[{"error":{"message":"Unable to generate token.",
      "details":["Invalid username or password."]}}]] },
    { "a code and nothing else", [[{"error":{"code":401}}]] },
    { "HTTP 401", trouble(401), 401 },
    { "HTTP 403", trouble(403), 403 },
    { "HTTP 400", trouble(400), 400 },
  }
  for _, row in ipairs(WORDS) do
    it("is final where it is told by " .. row[1], function()
      support.fault { match = { operation = "generateToken" }, status = row[3] or 200,
        body = row[2], times = 0 }
      local gis = client({ retries = 3 })
      for _ = 1, 2 do
        local result, err = gis.providers:list()
        assert.is_nil(result)
        assert.equal("auth", err.kind)
      end
      assert.equal(1, #requests())
    end)
  end

  it("in place of a renewal ends the call, and the client's later ones", function()
    local gis = client()
    assert(gis.providers:list())
    revoke()
    support.fault { match = { operation = "generateToken" }, status = 200, times = 0,
      body = trouble(401, "The password has been changed.") }
    local result, err = gis.providers:list()
    assert.is_nil(result)
    assert.equal("auth", err.kind)
    assert.equal("rejected", err.outcome)
    assert.matches("The password has been changed", err.message)
    for _ = 1, 3 do assert.is_nil((gis.providers:list())) end
    assert.equal(2, logins())
    assert.equal(2, #requests "operation=providers")
  end)

  it("tells that the account is locked, after five of other clients", function()
    for _ = 1, 5 do client({ password = "wrong" }).providers:list() end
    local gis = client()
    local _, err = gis.providers:list()
    assert.equal("auth", err.kind)
    assert.matches("locked", err.message)
    gis.providers:list()
    assert.equal(6, logins())
  end)

  local FAILURES = {
    { "a reset", { kind = "reset_before" }, "transport" },
    { "a page", { kind = "html" }, "protocol" },
    { "a page of a proxy", { kind = "html", status = 502 }, "service" },
    { "half of a document", { kind = "bad_json" }, "protocol" },
    { "no token", { status = 200, body = { expires = 1 } }, "protocol" },
    { "a token with a line break", { status = 200, body = { token = "a\nb" } }, "protocol" },
    { "a number for a token", { status = 200, body = { token = 7 } }, "protocol" },
    { "an error 500", { status = 200, body = trouble(500) }, "service" },
  }
  for _, row in ipairs(FAILURES) do
    it("is not what " .. row[1] .. " is, but sends nothing either", function()
      support.fault(merge(row[2], { match = { operation = "generateToken" } }))
      local result, err = client().providers:list()
      assert.is_nil(result)
      assert.equal(row[3], err.kind)
      assert.equal("not_sent", err.outcome)
      assert.equal(1, #requests())
    end)
  end

  it("is not waited for beyond the deadline of the call", function()
    support.fault { match = { operation = "generateToken" }, delay = 2 }
    local started = cloudsync.now()
    local gis = client()
    local result, err = gis.providers:list(nil, { deadline = 0.2 })
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    assert.is_true(cloudsync.now() - started < 1)
    assert(gis.providers:list())
  end)
end)

describe("an error that comes with status 200", function()
  local token

  before_each(function()
    support.reset()
    token = new_token()
  end)

  local SHAPES = {
    { [[{"status":"error","messages":["m","more"],"code":404}]], "not_found", "404", 404, "m" },
    { [[{"status":"error","messages":["m"],"code":"404"}]], "not_found", "404", 404, "m" },
    { [[{"status":"failed","messages":["m"],"code":403}]], "denied", "403", 403, "m" },
    { [[{"status":"error","messages":["m"],"code":500}]], "service", "500", 500, "m" },
    { [[{"status":"error","messages":["m"],"code":400}]], "argument", "400", 400, "m" },
    { [[{"status":"error","messages":["m"],"code":409}]], "conflict", "409", 409, "m" },
    { [[{"status":"error","messages":["m"],"code":429}]], "throttled", "429", 429, "m" },
    { [[{"status":"error","messages":["m"]}]], nil, nil, 200, "m" },
    { [[{"status":"error","messages":[],"code":404}]], "not_found", "404", 404, "error" },
    { [[{"status":"error"}]], nil, nil, 200, "error" },
    { [[{"status":"error","message":"m","code":403}]], "denied", "403", 403, "m" },
    { [[{"status":"failed","statusMessage":"m"}]], nil, nil, 200, "m" },
    { [[{"status":"failure","statusMessage":"m"}]], nil, nil, 200, "m" },
    { [[{"error":{"code":400,"message":"m","details":["d"]}}]], "argument", "400", 400, "m" },
    { [[{"error":{"code":404,"message":"m","details":null}}]], "not_found", "404", 404, "m" },
    { [[{"error":{"code":403,"messageCode":"GWM_0003","message":"m","details":[]}}]],
      "denied", "403", 403, "m" },
    { [[{"error":{"code":"500","message":"m"}}]], "service", "500", 500, "m" },
    { [[{"error":{"message":"m","details":[]}}]], nil, nil, 200, "m" },
    { [[{"error":{"code":500,"message":null,"details":["d"]}}]], "service", "500", 500, "d" },
    { [[{"error":{"code":404}}]], "not_found", "404", 404 },
    { [[{"error":{"code":404,"message":null,"details":[]}}]], "not_found", "404", 404 },
    { [[{"code":404,"message":"m"}]], "not_found", "404", 404, "m" },
    { [[{"code":"404","message":"m"}]], "not_found", "404", 404, "m" },
    { [[{"code":500,"message":"m"}]], "service", "500", 500, "m" },
    { [[{ "status" : "error", "messages" : [ "m" ], "code" : 404.0 }]],
      "not_found", "404", 404, "m" },
  }
  for _, row in ipairs(SHAPES) do
    local body, kind, code, status, message = unpack(row, 1, 5)
    it("is one: " .. body, function()
      support.fault { match = { method = "GET" }, status = 200, body = body }
      local result, err = client_with(token).providers:get { providerID = PROVIDER }
      assert.is_nil(result)
      assert.equal(code, err.code)
      assert.equal(status, err.status)
      assert.is_string(err.message)
      if message then assert.equal(message, err.message) end
      if kind then
        assert.equal(kind, err.kind)
      else
        assert.is_true(err.kind == "service" or err.kind == "protocol", err.kind)
      end
      assert.equal(kind and status < 500 and "rejected" or "unknown", err.outcome)
      assert.equal("arcgis", err.service)
      assert.equal("providers:get", err.operation)
      assert.equal(1, err.attempts)
    end)
  end

  for _, body in ipairs {
    [[{"status":"success"}]], [[{"message":"A job is in-progress"}]], [[{"code":200}]],
    [[{"code":200,"message":"fine"}]], [[{"code":"200","message":"fine"}]],
    [[{"status":"COMPLETED"}]], [[{"status":"FAILED"}]], [[{"error":null}]], [[{}]],
    [[{"status":"success","messages":["all is well"],"code":200}]],
  } do
    it("is none: " .. body, function()
      support.fault { match = { method = "GET" }, status = 200, body = body }
      local result, err = client_with(token).providers:get { providerID = PROVIDER }
      assert(result ~= nil, tostring(err))
      assert.is_table(result)
    end)
  end

  it("keeps its details", function()
    support.fault { match = { method = "GET" }, status = 200,
      body = [[{"error":{"code":400,"message":"m","details":["one","two"]}}]] }
    local _, err = client_with(token).providers:list()
    assert.same({ "one", "two" }, err.details)
    support.fault { match = { method = "GET" }, status = 200, body =
      [[{"status":"error","code":400,"messages":["one","two"]}]] }
    _, err = client_with(token).providers:list()
    assert.same({ "one", "two" }, err.details)
  end)

  it("is repeated where the call is safe, and where it is not, is not", function()
    support.fault { status = 200, body = trouble(503), headers = { ["Retry-After"] = "0" },
      match = { path = "/jobs" } }
    assert(client_with(token, { retries = 1 }).jobs:list())
    assert.equal(2, #requests "operation=jobs")
    support.fault { status = 200, body = trouble(500), match = { operation = "add" } }
    local result, err = client_with(token, { retries = 3 }).providers:add_credential {
      providerID = PROVIDER, credential = CREDENTIAL,
    }
    assert.is_nil(result)
    assert.equal("unknown", err.outcome)
    assert.equal(1, #requests "operation=add")
  end)

  it("is a page of a proxy that is kept, unless the answer would hold secrets", function()
    support.fault { match = { method = "GET" }, kind = "html", times = 2 }
    local result, err = client_with(token).jobs:list()
    assert.is_nil(result)
    assert.equal("protocol", err.kind)
    assert.equal(200, err.status)
    assert.matches("not JSON", err.message)
    assert.matches("proxy%.example could not connect", err.body)
    result, err = client_with(token).providers:list()
    assert.is_nil(result)
    assert.equal("protocol", err.kind)
    assert.is_nil(err.body)
    support.fault { match = { method = "GET" }, kind = "html", status = 502 }
    result, err = client_with(token).jobs:list()
    assert.is_nil(result)
    assert.equal("service", err.kind)
    assert.equal(502, err.status)
  end)

  for _, content_type in ipairs { "text/plain", "text/plain;charset=utf-8", "text/html", "" } do
    it(("is read whatever its type is, as '%s'"):format(content_type), function()
      local headers, match = { ["Content-Type"] = content_type }, { method = "GET" }
      support.fault {
        { match = match, status = 200, headers = headers, body = [[{"jobs":["j1"]}]] },
        { match = match, status = 200, headers = headers, body = trouble(404, "m") },
      }
      assert.same({ jobs = { "j1" } }, (client_with(token).jobs:list()))
      local _, err = client_with(token).jobs:list()
      assert.equal("not_found", err.kind)
    end)
  end
end)

local MASKED = {
  { "storageAccountKey", { storageAccountKey = "xxxxxxxxxxxxxxxxVC5M" }, "storageAccountKey" },
  { "a short one", { secretKey = "xxxx" }, "secretKey" },
  { "a nested one", { deep = { secretKey = "xxxxxxxxxxxxxxxxAZXL" } }, "deep.secretKey" },
  { "one beside a good one", { accessKey = "AKIA", secretKey = "xxxxxxxx1234" }, "secretKey" },
  { "one in a wrapper", { secretKey = cloudsync.secret "xxxxxxxxxxxxxxxx1234" }, "secretKey" },
}

describe("a masked value", function()
  before_each(support.reset)

  for _, row in ipairs(MASKED) do
    for _, call in ipairs {
      { "providers", "add_credential", "providerID" },
      { "providers", "update_credential", "providerID" },
      { "services", "add_credential", "serviceID" },
      { "services", "update_credential", "serviceID" },
    } do
      it(("is refused by %s:%s before it is sent: %s"):format(call[1], call[2], row[1]),
        function()
          local gis = client()
          local result, err = gis[call[1]][call[2]](gis[call[1]], {
            [call[3]] = PROVIDER, credential = { type = "T", secret = row[2] },
          })
          assert.is_nil(result)
          assert.equal("argument", err.kind)
          assert.equal("not_sent", err.outcome)
          assert.equal("credential", err.target)
          assert.matches("credential%.secret%." .. row[3]:gsub("%.", "%%.") .. " is masked",
            err.message)
          assert.equal(0, #requests())
        end)
    end
  end

  it("is what the server shows, and can't come back", function()
    local gis = client()
    local provider = assert(gis.providers:list { maskedSecret = true }).cloudProviders[2]
    assert.matches("^xxxx", provider.credential.secret.secretKey)
    local result, err = gis.providers:update_credential {
      providerID = provider.id, credential = provider.credential,
    }
    assert.is_nil(result)
    assert.equal("argument", err.kind)
    assert.equal(0, #requests "method=POST&operation=update")
  end)

  it("is not what the server encrypts, which can", function()
    local gis = client()
    local provider = assert(gis.providers:get { providerID = AWS })
    assert.matches("^v2Crypt_", provider.credential.secret.secretKey)
    assert(gis.providers:update_credential {
      providerID = AWS, credential = provider.credential,
    })
    assert.same(provider.credential, site().jobs[1].credential)
  end)

  it("may be a name outside of the secret", function()
    assert(client().providers:add_credential { providerID = PROVIDER,
      credential = { type = "xxxx-kind", label = "xxxx", secret = { key = "axxxx" } } })
  end)
end)

-- By name: the type, the fields of the secret; `beside`, a field that is not in the secret.
local CONSTRUCTORS = {
  access_key = { "ACCESS-KEY", { "accessKey", "secretKey" } },
  iam_role = { "IAM-ROLE", {} },
  storage_account_key = { "STORAGE-ACCOUNT-KEY", { "storageAccountName", "storageAccountKey" } },
  user_assigned_identity = { "USER-ASSIGNED-IDENTITY", { "managedIdentityClientId" } },
  service_principal = { "SERVICE-PRINCIPAL", { "tenantId", "clientId", "clientSecret" },
    beside = "authorityHost" },
  cosmosdb_account_key = { "COSMOSDB-ACCOUNT-KEY", { "accountName", "accountKey" } },
  servicebus_access_key =
    { "SERVICEBUS-ACCESS-KEY", { "sharedAccessKeyName", "sharedAccessKey" } },
  hmac_keys = { "HMAC-KEYS", { "accessKey", "secretKey" } },
}

describe("the constructor of a credential", function()
  before_each(support.reset)

  local function raises(name, fields, wanted)
    local ok, message = pcall(function() return (arcgis[name](fields)) end)
    assert.is_false(ok)
    assert.is_not_nil(message:find(wanted, 1, true), message)
    assert.matches("arcgis_spec%.lua:%d", message)
  end

  for name, row in support.sorted(CONSTRUCTORS) do
    local kind, names = row[1], row[2]

    local function fields()
      local values = {}
      for i, field in ipairs(names) do values[field] = "value/+ " .. i end
      return values
    end

    it(name .. " makes what is documented, of text or secrets", function()
      local values, expected = fields(), { type = kind, secret = names[1] and fields() }
      assert.same(expected, arcgis[name](values))
      for i, field in ipairs(names) do
        if i == #names then values[field] = cloudsync.secret(values[field]) end
      end
      if row.beside then
        values[row.beside] = "https://login.sim.example"
        expected[row.beside] = values[row.beside]
      end
      assert(client().providers:add_credential { providerID = PROVIDER,
        credential = arcgis[name](values) })
      assert.same(expected, site().jobs[1].credential)
    end)

    it(name .. " tells what is missing, unknown, or of the wrong type", function()
      for _, field in ipairs(names) do
        local values = fields()
        values[field] = nil
        raises(name, values, field .. " is missing")
        raises(name, merge(fields(), { [field] = 7 }), "'" .. field .. "' must be a string")
      end
      if names[1] then raises(name, nil, "is missing") end
      raises(name, merge(fields(), { secretkey = "a" }), "'secretkey'")
      raises(name, "text", "must be a table")
    end)
  end
end)

describe("an ArcGIS client", function()
  local OPTIONS = { endpoint = "https://gis.example.com/server/admin", username = "u",
    password = "p" }

  for message, overrides in support.sorted {
    ["unknown option 'refererr'"] = { refererr = "x" },
    ["unknown option 'maskedSecret'"] = { maskedSecret = true },
    ["option 'jobs_path' must be \"jobs\" or \"system/jobs\""] = { jobs_path = "admin/jobs" },
    ["option 'password' must be a string or a secret"] = { password = 1 },
    ["option 'token' must be a string or a secret"] = { token = {} },
    ["option 'portal' must be a string"] = { portal = 1 },
    ["option 'expiration' must be a number"] = { expiration = "60" },
    ["option 'ip' must be a string"] = { ip = 1 },
    ["portal"] = { portal = "gis.example.com/portal" },
    ["username and password are missing"] = { password = false },
    ["or a token"] = { username = false },
  } do
    it("raises: " .. message, function()
      local options = merge(OPTIONS, overrides)
      for name, value in pairs(options) do if value == false then options[name] = nil end end
      local ok, raised = pcall(function() arcgis.new(options) end)
      assert.is_false(ok)
      assert.is_not_nil(raised:find(message, 1, true), raised)
      assert.matches("arcgis_spec%.lua", raised)
    end)
  end

  it("raises for options that are none", function()
    assert.is_false((pcall(arcgis.new)))
    assert.is_false((pcall(arcgis.new, "https://gis.example.com")))
  end)
end)

describe("an ArcGIS job", function()
  before_each(support.reset)

  local ENDS = {
    { "success" }, { "unavailable_first" },
    { "failed", "FAILED", "not accepted by the cloud provider" },
    { "completed_with_error", "COMPLETED", "not accepted by the cloud provider" },
    { "completed_with_result_error", "COMPLETED", "not accepted by the cloud provider" },
    { "cancelled", "CANCELLED" }, { "timed_out", "TIMED OUT" },
  }
  for _, path in ipairs { "jobs", "system/jobs" } do
    for _, row in ipairs(ENDS) do
      local result, status, message = unpack(row, 1, 3)
      it(("at %s ends as %s"):format(path, result), function()
        define { job = { seconds = 0.12, result = result } }
        settings { arcgis_jobs_path = path }
        local gis, seen = client({ jobs_path = path }), {}
        local id = add(gis)
        local job, err = gis:job_poller(id):wait { interval = 0.03, on_progress = function(at)
          seen[at.status] = true
        end }
        if not status then
          assert.is_nil(err)
          assert.equal("COMPLETED", job.status)
          assert.equal(id, job.jobid)
          assert.equal(result == "unavailable_first" or nil, seen.UNAVAILABLE)
        else
          assert.is_nil(job)
          assert.equal("job", err.kind)
          assert.equal(status, err.code)
          assert.equal(id, err.target)
          assert.equal("rejected", err.outcome)
          assert.is_false(err.retryable)
          assert.equal(id, err.details.jobid)
          assert.matches(message or "does not say why", err.message)
        end
        assert.is_true(seen.SUBMITTED or seen.EXECUTING or false)
        assert.equal(0, looks(path == "jobs" and "system/jobs" or "jobs"))
      end)
    end
  end

  -- What a look may bring: the status that the poller makes of it, and what it says.
  local LOOKS = {
    { [[{"status":"SUBMITTED"}]], "running" }, { [[{"status":"EXECUTING"}]], "running" },
    { [[{"status":"CANCELLING"}]], "running" }, { [[{"status":"UNAVAILABLE"}]], "running" },
    { [[{"status":"SOMETHING NEW"}]], "running" },
    { [[{"jobStatus":"esriJobExecuting"}]], "running" },
    { [[{"status":"COMPLETED"}]], "done" }, { [[{"status":"Completed"}]], "done" },
    { [[{"status":"SUCCEEDED"}]], "done" }, { [[{"jobStatus":"esriJobSucceeded"}]], "done" },
    { [[{"status":"COMPLETED","operationResponse":{"status":"success"}}]], "done" },
    { [[{"status":"COMPLETED","operationResponse":null,"result":null}]], "done" },
    { [[{"status":"COMPLETED","result":"all is well"}]], "done" },
    { [[{"status":"COMPLETED","operationResponse":{"status":"error","messages":["m"]}}]], "m" },
    { [[{"status":"COMPLETED","operationResponse":{"status":"failed","messages":["m"]}}]], "m" },
    { [[{"status":"COMPLETED","operationResponse":{"status":"failure","messages":["m"]}}]], "m" },
    { [[{"status":"COMPLETED","operationResponse":{"error":{"code":500,"message":"m"}}}]], "m" },
    { [[{"status":"COMPLETED","result":{"status":"error","messages":["m"]}}]], "m" },
    { [[{"status":"COMPLETED","result":{"error":{"message":"m"}}}]], "m" },
    { [[{"status":"FAILED","result":"m"}]], "m" },
    { [[{"status":"FAILED","result":{"messages":["m"]}}]], "m" },
    { [[{"status":"FAILED","messages":["m"]}]], "m" },
    { [[{"status":"FAILED"}]], "does not say why" },
    { [[{"status":"FAILED","messages":[]}]], "does not say why" },
    { [[{"status":"TIMED_OUT"}]], "does not say why" },
    { [[{"status":"Timed Out"}]], "does not say why" },
    { [[{"jobStatus":"esriJobFailed","messages":["m"]}]], "m" },
    { [[{"jobStatus":"esriJobTimedOut"}]], "does not say why" },
    { [[{"jobStatus":"esriJobCancelled"}]], "does not say why" },
  }
  for _, row in ipairs(LOOKS) do
    it(("that is %s is %s"):format(row[1], row[2]), function()
      support.fault { match = { path = "/jobs/" }, status = 200, body = row[1] }
      local handle = client():job_poller "j1"
      local done, status = handle:poll()
      assert.equal(row[2] ~= "running", done, tostring(status))
      assert.is_table(status)
      if not done then return end
      local result, err = handle:wait()
      if row[2] == "done" then
        assert.is_nil(err)
        assert.is_table(result)
      else
        assert.is_nil(result)
        assert.equal("job", err.kind)
        assert.matches("the job failed: .*" .. row[2], err.message)
      end
      assert.equal(1, looks "jobs")
    end)
  end

  for _, row in ipairs { { "jobs", "system/jobs" }, { "system/jobs", "jobs" } } do
    local preferred, served = unpack(row, 1, 2)
    it(("is found at %s after one look at %s, which is then remembered"):format(served, preferred),
      function()
        define { job = { seconds = 0.1 } }
        settings { arcgis_jobs_path = served }
        local gis = client({ jobs_path = preferred })
        local one = add(gis)
        assert(gis:job_poller(one):wait { interval = 0.03 })
        assert.equal(1, looks(preferred))
        assert.is_true(looks(served) >= 2)
        local two = assert(gis.providers:update_credential {
          providerID = AWS, credential = CREDENTIAL,
        }).cloudCredentialRotationJobId
        assert(gis:job_poller(two):wait { interval = 0.03 })
        assert.equal(1, looks(preferred))
        local result, err = gis:job_poller("jnone"):wait()
        assert.is_nil(result)
        assert.equal("not_found", err.kind)
        assert.equal(1, looks(preferred))
      end)
  end

  for _, served in ipairs { "jobs", "system/jobs" } do
    it(("is found at %s by many that look at once"):format(served), function()
      define { job = { seconds = 0 } }
      settings { arcgis_jobs_path = served }
      local gis = client()
      local id, items = add(gis), {}
      for i = 1, 8 do
        items[i] = i
        -- the later half is told of the miss when the first have found the job elsewhere
        support.fault { match = { path = "^/server/admin/jobs/" }, delay = i > 4 and 0.2 or 0.01 }
      end
      local jobs, failures = cloudsync.map(items, function()
        return gis:job_poller(id):wait { interval = 0.03 }
      end, { concurrency = 8 })
      assert(not failures[1], failures[1] and tostring(failures[1].err))
      assert.equal(8, #jobs)
    end)
  end

  it("is not waited for longer because it is looked for at two places", function()
    settings { arcgis_jobs_path = "system/jobs" }
    define { job = { seconds = 30 } }
    local gis = client()
    local handle = gis:job_poller(add(gis))
    support.fault {
      { match = { path = "^/server/admin/jobs/" }, delay = 0.35 },
      { match = { path = "^/server/admin/system/jobs/" }, delay = 2 },
    }
    local started = cloudsync.now()
    local result, err = handle:wait { timeout = 0.4, interval = 0.05 }
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    local took = cloudsync.now() - started
    assert.is_true(took < 0.6, took)
  end)

  it("that is nowhere is looked for at each place once", function()
    local handle = client():job_poller "jnone"
    local result, err = handle:wait()
    assert.is_nil(result)
    assert.equal("not_found", err.kind)
    assert.equal(1, looks "jobs")
    assert.equal(1, looks "system/jobs")
  end)

  it("is found at the other place where a web server answers for the first", function()
    settings { arcgis_jobs_path = "system/jobs" }
    define { job = { seconds = 0 } }
    support.fault { match = { path = "^/server/admin/jobs/" }, kind = "html", status = 404 }
    local gis = client()
    assert(gis:job_poller(add(gis)):wait { interval = 0.03 })
    assert.equal(1, looks "jobs")
  end)

  it("is waited for no longer than the timeout", function()
    define { job = { seconds = 30 } }
    local gis = client()
    local handle, started = gis:job_poller(add(gis)), cloudsync.now()
    local result, err = handle:wait { timeout = 0.3, interval = 0.05 }
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    assert.equal("unknown", err.outcome)
    assert.is_true(err.retryable)
    assert.matches("token", err.message)
    local took = cloudsync.now() - started
    assert.is_true(took >= 0.29 and took < 0.6, took)
    support.fault { match = { path = "/jobs/" }, delay = 3 }
    started = cloudsync.now()
    err = select(2, handle:wait { timeout = 0.3, interval = 0.05 })
    assert.equal("timeout", err.kind)
    assert.is_true(cloudsync.now() - started < 0.6)
  end)

  it("is waited for at the interval", function()
    define { job = { seconds = 30 } }
    local gis = client()
    gis:job_poller(add(gis)):wait { timeout = 0.5, interval = 0.1 }
    local count = looks "jobs"
    assert.is_true(count >= 4 and count <= 7, count)
  end)

  it("tells of each look, whatever the listener does", function()
    define { job = { seconds = 0.2 } }
    local gis, calls = client(), 0
    local id = add(gis)
    assert(gis:job_poller(id):wait { interval = 0.03, on_progress = function(at)
      calls = calls + 1
      assert.equal(id, at.jobid)
      error "the listener's own affair"
    end })
    assert.is_true(calls >= 2)
    assert.equal(calls + 1, looks "jobs")
  end)

  it("can be looked at once, and not again when it has ended", function()
    define { job = { seconds = 0.15 } }
    local gis = client()
    local handle = gis:job_poller(add(gis))
    local done, status = handle:poll()
    assert.is_false(done)
    assert.is_string(status.status)
    cloudsync.sleep(0.2)
    done, status = handle:poll()
    assert.is_true(done)
    assert.equal("COMPLETED", status.status)
    assert.is_true((handle:poll()))
    assert.equal("COMPLETED", assert(handle:wait()).status)
    assert.equal(2, looks "jobs")
  end)

  it("returns the error of a look that fails", function()
    support.fault { match = { path = "/jobs/" }, status = 200, body = trouble(500, "m") }
    local done, err = client():job_poller("j1"):poll()
    assert.is_nil(done)
    assert.equal("service", err.kind)
    assert.equal("jobs:get", err.operation)
  end)

  it("goes on in another client by its token, which holds no secret", function()
    define { job = { seconds = 0.1 } }
    local gis = client()
    local token = gis:job_poller(add(gis)):token()
    local signed = pairs_of(requests "operation=add"[1].body).token
    for _, secret in ipairs { signed, support.env "PASSWORD", "a+b/c==" } do
      assert.is_nil(token:find(secret, 1, true))
    end
    local job = assert(client():poller(token):wait { interval = 0.03 })
    assert.equal("COMPLETED", job.status)
    assert.equal(1, #requests "operation=add")
  end)

  it("is not gone on with by what is no token of one", function()
    local gis = client()
    for _, token in ipairs { "", "j1", "{}", "[]", [[{"service":"arcgis","kind":"job"}]],
      [[{"service":"vcenter","kind":"job","state":{"job":"j1"}}]],
      [[{"service":"arcgis","kind":"sync","state":{"job":"j1"}}]] } do
      local ok, raised = pcall(gis.poller, gis, token)
      assert.is_false(ok)
      assert.matches("no token of one of its pollers", raised)
    end
    assert.is_false((pcall(gis.poller, gis)))
  end)

  it("survives tokens that are revoked while it goes on", function()
    define { job = { seconds = 0.3 } }
    local gis, revoked = client(), 0
    local id = add(gis)
    assert(gis:job_poller(id):wait { interval = 0.05, on_progress = function()
      if revoked < 3 then
        revoked = revoked + 1
        revoke()
      end
    end })
    assert.equal(3, revoked)
    assert.equal(4, site().tokens_issued)
    assert.equal(0, site().failed_logins)
    assert.equal(1, #requests "operation=add")
  end)

  it("is given up where a token that was given is revoked", function()
    define { job = { seconds = 30 } }
    local gis = client_with(new_token())
    local handle = gis:job_poller(add(gis))
    revoke()
    local result, err = handle:wait { interval = 0.03, timeout = 5 }
    assert.is_nil(result)
    assert.equal("auth", err.kind)
    assert.equal(1, looks "jobs")
  end)

  it("is given up where a renewal is refused, which is not repeated", function()
    define { job = { seconds = 30 } }
    local gis = client()
    local handle = gis:job_poller(add(gis))
    revoke()
    support.fault { match = { operation = "generateToken" }, status = 200, times = 0,
      body = trouble(401, "Invalid username or password.") }
    for _ = 1, 2 do
      local result, err = handle:wait { interval = 0.03, timeout = 5 }
      assert.is_nil(result)
      assert.equal("auth", err.kind)
    end
    assert.equal(2, logins())
  end)

  it("survives looks that fail", function()
    define { job = { seconds = 0.3 } }
    local match = { path = "/jobs/" }
    support.fault {
      { match = match, kind = "reset_before" }, { match = match, kind = "reset_after" },
      { match = match, status = 500 }, { match = match, kind = "html", status = 502 },
      { match = match, status = 503 }, { match = match, kind = "truncated" },
      { match = match, status = 200, body = trouble(500) },
      { match = match, status = 200, body = trouble(429) },
    }
    local gis = client()
    assert(gis:job_poller(add(gis)):wait { interval = 0.03, timeout = 10 })
    assert.is_true(looks "jobs" >= 9)
  end)
end)

local assert_secret = support.assert_secret

local PLANTED = {
  password = MARK .. "pass+w/o=r&d é", token = MARK .. "to+k/en.-_~==",
  key = MARK .. [[key+/==&%"\ é]], plain = MARK .. "name",
}

local function planted()
  return { type = "STORAGE-ACCOUNT-KEY", secret = {
    storageAccountName = PLANTED.plain, storageAccountKey = PLANTED.key,
    wrapped = cloudsync.secret(PLANTED.key .. "2"),
  } }
end

local function all_planted()
  local list = {}
  for _, text in support.sorted(PLANTED) do list[#list + 1] = text end
  return table.concat(list, " | ")
end

describe("no secret of ArcGIS is shown", function()
  local events

  before_each(function()
    support.reset()
    events = {}
  end)

  local function record(event) events[#events + 1] = event end

  it("by the search finding nothing", function()
    for name, text in pairs(PLANTED) do
      assert.is_string(support.leak { { [name] = text } })
      assert.is_string(support.leak { [text] = 1 })
    end
  end)

  local ECHOES = {
    { "its messages", function(texts) return trouble(400, "got " .. texts) end },
    { "a portal's error", function(texts)
      return cjson.encode { error = { code = 400, message = texts, details = { texts } } }
    end },
    { "a code", function(texts) return cjson.encode { status = "error", code = texts } end },
    { "a key", function(texts)
      return cjson.encode { error = { code = 400, message = "m", details = { [texts] = 1 } } }
    end },
    { "a page", function(texts, sent) return "<pre>" .. texts .. sent .. "</pre>" end },
    { "half a document", function(texts, sent) return '{"a":"' .. texts .. '","b":' .. sent end },
    { "JSON text", function(texts) return "<pre>" .. cjson.encode(texts) end },
    { "the decoded form", function(_, sent) return "<pre>" .. unescape(sent) end },
  }
  for _, echo in ipairs(ECHOES) do
    for _, status in ipairs { 200, 400, 500 } do
      it(("by an answer %d that repeats the secrets in %s"):format(status, echo[1]), function()
        local gis = client_with(PLANTED.token, { on_event = record })
        local function call()
          return gis.providers:add_credential { providerID = PROVIDER, credential = planted() }
        end
        support.fault { status = 418 }
        call()
        local sent = requests()[1].body
        assert.is_not_nil(unescape(sent):find(PLANTED.token, 1, true))
        local texts = table.concat({ PLANTED.key, PLANTED.token, PLANTED.plain }, " | ")
        support.fault { status = status, body = echo[2](texts, sent), times = 0 }
        local result, err = call()
        assert.is_nil(result)
        assert_secret(err)
        assert_secret(events)
        assert.is_true(#events >= 4)
      end)

      it(("by a sign-in's answer %d that repeats them in %s"):format(status, echo[1]), function()
        local gis = client({ password = PLANTED.password, on_event = record })
        support.fault { status = status, times = 0,
          body = echo[2](PLANTED.password, "password=" .. PLANTED.password) }
        local result, err = gis.providers:list()
        assert.is_nil(result)
        assert_secret(err)
        assert_secret(events)
      end)
    end
  end

  it("by a dry run", function()
    local gis = client_with(PLANTED.token, { referer = REFERER })
    for _, call in ipairs {
      { gis.providers, "add_credential", { providerID = "p", credential = planted() } },
      { gis.providers, "update_credential", { providerID = "p", credential = planted() } },
      { gis.services, "add_credential", { serviceID = "s", credential = planted() } },
      { gis.services, "update_credential", { serviceID = "s", credential = planted() } },
    } do
      local shown = call[1][call[2]](call[1], call[3], { dry_run = true })
      assert_secret(shown)
      assert.equal("POST", shown.method)
      local form = pairs_of(shown.body)
      local credential = cjson.decode(form.credential)
      assert.equal("STORAGE-ACCOUNT-KEY", credential.type)
      assert.same({ storageAccountName = "<secret>", storageAccountKey = "<secret>",
        wrapped = "<secret>" }, credential.secret)
    end
    for _, group in ipairs { gis.tokens, gis.portal_tokens } do
      local shown = group:generate({ username = "u", password = PLANTED.password },
        { dry_run = true })
      assert_secret(shown)
      assert.equal("u", pairs_of(shown.body).username)
      assert.equal("<secret>", unescape(shown.body:match "password=([^&]*)"))
    end
    assert.equal(0, #requests())
  end)

  it("by an error of a value that can't be sent", function()
    local credential = planted()
    credential.secret.storageAccountKey = PLANTED.key .. "\255"
    local result, err = client_with(PLANTED.token).providers:add_credential {
      providerID = PROVIDER, credential = credential,
    }
    assert.is_nil(result)
    assert.equal("argument", err.kind)
    assert_secret(err)
    credential.secret.storageAccountKey = "xxxx" .. PLANTED.key
    result, err = client_with(PLANTED.token).providers:add_credential {
      providerID = PROVIDER, credential = credential,
    }
    assert.is_nil(result)
    assert_secret(err)
  end)

  it("by a call that no answer came to, or a poller's token", function()
    local gis = client_with(PLANTED.token, { on_event = record })
    for _, rule in ipairs { { kind = "reset_after" }, { kind = "redirect" },
      { kind = "redirect", location = "https://127.0.0.1:1/?" .. PLANTED.token } } do
      support.fault(rule)
      local result, err = gis.providers:add_credential {
        providerID = PROVIDER, credential = planted(),
      }
      assert.is_nil(result)
      assert_secret(err)
    end
    assert_secret(gis:job_poller("j1"):token())
    assert_secret(events)
  end)

  it("by the events of calls that succeed", function()
    local gis = client({ on_event = record })
    assert(gis.providers:list())
    assert(gis.providers:add_credential { providerID = PROVIDER, credential = planted() })
    assert_secret(events)
    local token = pairs_of(requests "operation=add"[1].body).token
    for _, event in ipairs(events) do
      for _, value in pairs(event) do
        assert.is_nil(tostring(value):find(support.env "PASSWORD", 1, true))
        assert.is_nil(tostring(value):find(token, 1, true))
      end
    end
    local operations = {}
    for _, event in ipairs(events) do operations[event.operation] = true end
    assert.is_true(operations["tokens:generate"])
    assert.is_true(operations["providers:add_credential"])
  end)

  it("though all are sent", function()
    client_with(PLANTED.token).providers:add_credential { providerID = PROVIDER,
      credential = planted() }
    client({ password = PLANTED.password }).providers:list()
    local bodies = ""
    for _, request in ipairs(requests()) do bodies = bodies .. unescape(request.body) end
    local in_json = cjson.encode(PLANTED.key):sub(2, -2):gsub("\\/", "/")
    for text in (all_planted() .. " | "):gmatch "(.-) | " do
      local wanted = text == PLANTED.key and in_json or text
      assert.is_not_nil(bodies:find(wanted, 1, true), wanted)
    end
  end)
end)
