--- What no service, link, redirect or parameter can do, of any service: send a secret to another origin,
-- or put a line of its own into a request.
local arcgis = require "cloudsync.arcgis"
local azure = require "cloudsync.azure"
local core = require "cloudsync.core"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

local sorted = support.sorted

local RUNTIME = { integrationRuntimeName = "ir-0200" } -- a managed one: others can't be started

local function vc(overrides)
  local options = { endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE", retries = 0,
    username = support.env "USERNAME", password = support.env "PASSWORD", api = "api" }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return vcenter.new(options)
end

local function gis(overrides)
  local options = { endpoint = support.env "ARCGIS", ca_file = support.env "CA_FILE", retries = 0,
    username = support.env "USERNAME", password = support.env "PASSWORD" }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return arcgis.new(options)
end

local function reset()
  collectgarbage() -- sessions of earlier clients close now, not within the test
  collectgarbage()
  support.reset()
end

---------------------------------------------------------------------------------------------------

describe("a redirect", function()
  before_each(reset)

  -- Each makes the calls that `match` names: those that prove who one is, and those that bring a
  -- token, a session or a secret.
  local CALLS = {
    ["Microsoft Entra's sign-in"] = { match = { service = "entra" }, call = function()
      return support.datafactory { credential = support.credential { retries = 0 }, retries = 0 }
        .factories:get()
    end },
    ["a read of Data Factory"] = { match = { service = "arm" }, call = function()
      return support.datafactory { credential = support.credential(), retries = 0 }.factories:get()
    end },
    ["a body with a secret of Data Factory"] = { match = { service = "arm" }, call = function()
      return support.datafactory().linked_services:create_or_update { linkedServiceName = "l",
        linkedService = { properties = { type = "Ftp", typeProperties = { password = "hush" } } } }
    end },
    ["vCenter's login"] = { match = { service = "vcenter" }, call = function()
      return vc().links:list()
    end },
    ["vCenter's login on /rest"] = { match = { service = "vcenter" }, call = function()
      return vc({ api = "rest" }).links:list()
    end },
    ["a call in a session of vCenter"] = { match = { path = "/hvc/" }, call = function()
      return vc().sync_providers:start { link = "link-1", provider = "tagging",
        credentials = { user_name = "u", password = "hush" } }
    end },
    ["vCenter's logout"] = { match = { service = "vcenter", method = "DELETE" }, call = function()
      local client = vc()
      assert(client.links:list())
      return client:close()
    end },
    ["ArcGIS Server's sign-in"] = { match = { path = "generateToken" }, call = function()
      return gis().providers:list()
    end },
    ["the portal's sign-in"] = { match = { path = "generateToken" }, call = function()
      return gis({ portal = support.env "PORTAL" }).providers:list()
    end },
    ["a call with a token of ArcGIS"] = { match = { path = "/cloud" }, call = function()
      return gis().providers:list()
    end },
    ["a form with a secret of ArcGIS"] = { match = { operation = "add" }, call = function()
      return gis().providers:add_credential { providerID = "azgatvskp6",
        credential = { type = "T", secret = { key = "hush" } } }
    end },
  }
  for name, case in sorted(CALLS) do
    it("of " .. name .. " is an error, and nobody else hears of the call", function()
      for _, status in ipairs { 301, 302, 303, 307, 308 } do
        for _, to in ipairs { "OTHER_ORIGIN", "PLAIN" } do
          reset()
          support.fault { kind = "redirect", status = status, location = support.env(to) .. "/away",
            times = 0, match = case.match }
          local result, err = case.call()
          assert.is_nil(result)
          assert.is_true(err.outcome == "rejected" or err.outcome == "not_sent", tostring(err))
          assert.is_true(err.kind == "protocol" or err.kind == "auth", err.kind)
          assert.equal(0, #support.requests "path=/away&service=any")
          assert.equal(0, #support.requests "service=other")
          for _, request in ipairs(support.requests "service=any") do
            assert.is_not_equal("/away", request.path)
          end
        end
      end
    end)
  end
end)

---------------------------------------------------------------------------------------------------

describe("the link of long work", function()
  before_each(reset)

  local function adf() return support.datafactory { retries = 0 } end

  -- Starts what is answered with these links, and waits for it.
  local function follow(headers)
    support.fault { match = { operation = "start" }, status = 202, headers = headers }
    return assert(adf().integration_runtimes:start(RUNTIME)):wait { interval = 0.01, timeout = 2 }
  end

  local function port(name) return support.env(name):match ":(%d+)$" end

  local ELSEWHERE = {
    ["another port"] = function() return support.env "OTHER_ORIGIN" .. "/x" end,
    ["plain http"] = function() return support.env "PLAIN" .. "/x" end,
    ["another name of the host"] = function() return "https://localhost:" .. port "ARM" .. "/x" end,
    ["another host, behind a user name"] = function()
      return support.env "ARM" .. "@127.0.0.1:" .. port "OTHER_ORIGIN" .. "/x"
    end,
    ["another host, without a scheme"] = function()
      return "//127.0.0.1:" .. port "OTHER_ORIGIN" .. "/x"
    end,
    ["a file"] = function() return "file:///etc/hostname" end,
    ["nowhere"] = function() return "x" end,
  }
  for what, link in sorted(ELSEWHERE) do
    for _, header in ipairs { "Azure-AsyncOperation", "Location" } do
      it(("in %s is not followed to %s"):format(header, what), function()
        local result, err = follow { [header] = link() }
        assert.is_nil(result)
        assert.equal("protocol", err.kind)
        assert.matches("another origin", err.message)
        assert.equal(1, #support.requests "service=any")
      end)
    end
  end

  it("to another origin is not followed for the result of work that has succeeded", function()
    support.fault { match = { path = "^/x$" }, status = 200, body = { status = "Succeeded" } }
    local result, err = follow { ["Azure-AsyncOperation"] = support.env "ARM" .. "/x",
      Location = support.env "OTHER_ORIGIN" .. "/result" }
    assert.is_nil(result)
    assert.equal("protocol", err.kind)
    assert.equal(0, #support.requests "service=other")
  end)

  it("does not lead to another origin by a redirect", function()
    support.fault { match = { path = "^/x$" }, kind = "redirect", times = 0 }
    local result, err = follow { Location = support.env "ARM" .. "/x" }
    assert.is_nil(result)
    assert.equal("protocol", err.kind)
    assert.equal(0, #support.requests "service=other")
  end)

  it("in a poller's token that was tampered with leads to no other origin", function()
    support.fault { match = { operation = "start" }, status = 202,
      headers = { Location = support.env "ARM" .. "/x" } }
    local token = assert(adf().integration_runtimes:start(RUNTIME)):token()
    support.control("DELETE", "requests")
    for _, link in pairs(ELSEWHERE) do
      local forged = token:gsub("https?:[^\"]*", function() return (link()) end)
      local result, err = adf():poller(forged):wait { interval = 0.01, timeout = 2 }
      assert.is_nil(result)
      assert.equal("protocol", err.kind)
    end
    assert.equal(0, #support.requests "service=any")
  end)

  it("of vCenter or ArcGIS is a name, which can be no path elsewhere", function()
    local client, server = vc(), gis()
    for _, name in ipairs { "../../x", "a/b", "..", "a\r\nX-Evil: 1", "a\\b" } do
      local result, err = client:sync_poller({ link = name, provider = "p" }):wait()
      assert.is_nil(result)
      assert.equal("argument", err.kind)
      result, err = server:job_poller(name):wait()
      assert.is_nil(result)
      assert.equal("argument", err.kind)
    end
    assert.equal(0, #support.requests "service=any")
  end)
end)

---------------------------------------------------------------------------------------------------

local CONTROLS = { ["a line break"] = "a\r\nX-Evil: 1", ["a line feed"] = "a\nX-Evil: 1",
  ["a carriage return"] = "a\rX-Evil: 1", ["a NUL"] = "a\0b", ["a DEL"] = "a\127b",
  ["an escape"] = "a\27[31mb" }

local SAMPLES = { string = "abcd", integer = 1, number = 1, boolean = true, array = {}, object = {},
  any = {} }

-- Texts that the vendors' patterns let through.
local NAMES = { subscriptionId = "5b9e6f04-2d1c-4f7a-b3a8-7c6d5e4f3a33" }

local function parameters_with(operation, name, value)
  local parameters = {}
  for _, parameter in ipairs(operation.parameters) do
    if parameter.required then
      parameters[parameter.name] = NAMES[parameter.name] or SAMPLES[parameter.type]
    end
  end
  if name then parameters[name] = value end
  return parameters
end

local IN_LINES = { path = true, query = true, header = true }

describe("a control character", function()
  local transport = core.transport { endpoint = "https://host.example", user_agent = "spec" }

  for _, dialect in ipairs { "datafactory", "entra", "vcenter/api", "vcenter/rest", "arcgis" } do
    for what, text in sorted(CONTROLS) do
      it(("is refused in each path, query and header of %s: %s"):format(dialect, what), function()
        for _, operation in ipairs(core.operations(dialect)) do
          local prepare = core.operation(dialect, operation.group, operation.name)
          for _, parameter in ipairs(operation.parameters) do
            if parameter.type == "string" and IN_LINES[parameter.place] then
              for _, value in ipairs { text, core.secret(text) } do
                local where = operation.group .. ":" .. operation.name .. " " .. parameter.name
                local request, reason, name =
                  prepare(transport, parameters_with(operation, parameter.name, value))
                assert.is_nil(request, where)
                assert.equal(parameter.name, name, where)
                assert.matches("control character", reason)
              end
            end
          end
        end
      end)

      it(("is refused in a header of the caller's to %s: %s"):format(dialect, what), function()
        local operation = core.operations(dialect)[1]
        local prepare = core.operation(dialect, operation.group, operation.name)
        local parameters = parameters_with(operation)
        for _, value in ipairs { text, core.secret(text) } do
          local request, reason = prepare(transport, parameters, nil, { ["X-Note"] = value })
          assert.is_nil(request)
          assert.matches("control character", reason)
        end
        local request = prepare(transport, parameters, nil, { ["X-" .. text] = "1" })
        assert.is_nil(request)
      end)
    end

    it(("is encoded in each form of %s"):format(dialect), function()
      for _, operation in ipairs(core.operations(dialect)) do
        local prepare = core.operation(dialect, operation.group, operation.name)
        for _, parameter in ipairs(operation.parameters) do
          if parameter.type == "string" and parameter.place == "form" and not parameter.secret then
            for _, text in pairs(CONTROLS) do
              local body = assert(prepare(transport,
                parameters_with(operation, parameter.name, text))):describe().body
              assert.is_nil(body:find "%c")
            end
          end
        end
      end
    end)
  end

  for what, text in sorted(CONTROLS) do
    it(("is refused in what a client or a credential is made of: %s"):format(what), function()
      local host = "https://host.example/" .. text
      for _, made in ipairs {
        { pcall(support.datafactory, { endpoint = host }) },
        { pcall(support.credential, { authority = host }) },
        { pcall(vc, { endpoint = host }) }, { pcall(gis, { endpoint = host }) },
        { pcall(gis, { portal = host }) },
        { pcall(azure.static_token_credential, text) },
      } do
        assert.is_false(made[1])
        assert.is_nil(tostring(made[2]):find("X-Evil", 1, true))
      end
      if not what:find "DEL" and not what:find "escape" then
        assert.is_false((pcall(gis, { referer = text })))
      end
    end)

    it(("is in no request where a name or a password has it: %s"):format(what), function()
      reset()
      local tenant = support.datafactory { credential = support.credential { tenant_id = text } }
      local _, err = tenant.factories:get()
      assert.equal("not_sent", err.outcome)
      _, err = gis({ token = text }).providers:list()
      assert.equal("not_sent", err.outcome)
      assert.equal(0, #support.requests "service=any")
      gis({ username = text, password = text }).providers:list()
      vc({ username = text:gsub(":", ""), password = text }).links:list()
      support.datafactory { credential = support.credential { client_id = text,
        client_secret = text } }.factories:get()
      local requests = support.requests "service=any"
      assert.equal(3, #requests)
      for _, request in ipairs(requests) do
        assert.is_nil(request.headers["x-evil"])
        assert.is_nil((request.uri .. request.body):find "%c")
      end
    end)
  end
end)

describe("a user name in a URL", function()
  local MARK = support.MARK

  for _, user in ipairs { "u:" .. MARK .. "@", MARK .. "@", ":" .. MARK .. "@" } do
    it("is refused for each service, without what it is: " .. user:gsub(MARK, "…"), function()
      local url = "https://" .. user .. "host.example/a"
      for name, made in sorted {
        endpoint = { pcall(support.datafactory, { endpoint = url }) },
        authority = { pcall(support.credential, { authority = url }) },
        vcenter = { pcall(vc, { endpoint = url }) }, arcgis = { pcall(gis, { endpoint = url }) },
        portal = { pcall(gis, { portal = url }) },
      } do
        assert.is_false(made[1], name)
        assert.matches("has a user name in it", made[2])
        support.assert_secret(made[2])
      end
    end)
  end
end)
