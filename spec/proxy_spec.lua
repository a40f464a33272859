--- What goes by way of a proxy, what the proxy sees of it, and what it is told of the way itself.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

local b64 = require "mime".b64

local MARK = support.MARK
local PASSWORD = MARK .. "p+ss word"
local USER_PASSWORD = "ops:" .. MARK .. "p%2Bss%20word" -- as in a URL
local AUTHORIZATION = "Basic " .. b64("ops:" .. PASSWORD)

-- inside of nginx the interpreter is no program that a shell can start
local LUA = support.in_nginx and "luajit" or arg[-1]

local proxies = {}

-- Starts a proxy. It has `port`, and `seen()`: all that clients have sent it.
local function start(authorization)
  local path = os.tmpname()
  local pipe = io.popen(("exec %s spec/proxy.lua %s '%s'"):format(LUA, path,
    authorization or ""):gsub(" ''$", ""), "w")
  local proxy = { path = path, pipe = pipe }
  function proxy.read()
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
  end
  function proxy.seen() return (proxy.read():gsub("^%d+\n", "")) end
  local deadline = core.now() + 10
  repeat
    cloudsync.sleep(0.01)
    proxy.port = proxy.read():match "^(%d+)\n"
  until proxy.port or core.now() > deadline
  assert(proxy.port, "the proxy did not start")
  function proxy.url(user) return ("http://%s127.0.0.1:%s"):format(user or "", proxy.port) end
  proxies[#proxies + 1] = proxy
  return proxy
end

local function stop()
  for _, proxy in ipairs(proxies) do
    proxy.pipe:close()
    os.remove(proxy.path)
  end
  proxies = {}
end

local function has(text, part) return text:find(part, 1, true) ~= nil end

-- The simulator under a name of its certificate that is not in no_proxy.
local function named(variable)
  return (support.env(variable):gsub("127%.0%.0%.1", "sim.example"))
end

local function client(proxy, overrides)
  local options = { proxy = proxy, endpoint = named "ARM", retries = 0 }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

local function plain(proxy, overrides)
  local options = { endpoint = named "PLAIN", allow_plain_http = true }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return client(proxy, options)
end

local function sync(adf)
  return adf.integration_runtimes:sync_credentials { integrationRuntimeName = "ir-0001" }
end

describe("a call by way of a proxy", function()
  before_each(support.reset)
  after_each(stop)

  it("over https goes through a tunnel, in which the proxy sees no word of it", function()
    local proxy = start()
    assert(sync(client(proxy.url())))
    assert.equal(1, #support.requests "operation=syncCredentials")
    local seen = proxy.seen()
    assert.matches("^CONNECT sim%.example:%d+ HTTP/1%.1\r\n", seen)
    for _, text in ipairs { support.env "STATIC_TOKEN", "Authorization", "ir-0001",
      "subscriptions", "x-ms-client-request-id" } do
      assert.is_false(has(seen, text), text)
    end
  end)

  it("tells the proxy none of the caller's own headers", function()
    local proxy = start()
    local adf = client(proxy.url())
    assert(adf.factories:get(nil, { headers = { ["X-Api-Key"] = cloudsync.secret(MARK .. "k") } }))
    assert.equal(MARK .. "k", support.requests()[1].headers["x-api-key"])
    assert.is_false(has(proxy.seen(), MARK))
  end)

  it("over https checks the service's certificate, not who answers the tunnel", function()
    local proxy = start()
    local adf = client(proxy.url(), { endpoint = named "WRONG_NAME" })
    local _, err = sync(adf)
    assert.equal("not_sent", err.outcome)
    assert.matches("certificate", err.message)
    assert.is_false(has(proxy.seen(), support.env "STATIC_TOKEN"))
    assert.equal(0, #support.requests "service=any")
  end)

  it("is let through with the user and password in the proxy's URL", function()
    local proxy = start(AUTHORIZATION)
    assert(sync(client(proxy.url(USER_PASSWORD .. "@"))))
    assert.is_true(has(proxy.seen(), "Proxy-Authorization: " .. AUTHORIZATION))
  end)

  it("takes the proxy's URL as a secret, and no client that is dumped shows it", function()
    local proxy = start(AUTHORIZATION)
    for _, url in ipairs { proxy.url(USER_PASSWORD .. "@"),
      cloudsync.secret(proxy.url(USER_PASSWORD .. "@")) } do
      local adf = client(url)
      collectgarbage()
      assert(sync(adf))
      support.assert_secret(adf)
    end
  end)

  it("never gives the service what is for the proxy", function()
    local proxy = start(AUTHORIZATION)
    assert(sync(client(proxy.url(USER_PASSWORD .. "@"))))
    assert(plain(proxy.url(USER_PASSWORD .. "@")).factories:get())
    for _, request in ipairs(support.requests "service=any") do
      assert.is_nil(request.headers["proxy-authorization"])
    end
  end)

  for what, user in support.sorted {
    ["a wrong password"] = "ops:" .. MARK .. "wrong@", ["no password"] = "" } do
    for way, make in pairs { https = client, ["plain http"] = plain } do
      it(("with %s over %s says what to check, and shows none"):format(what, way), function()
        local proxy, events = start(AUTHORIZATION), {}
        local _, err = sync(make(proxy.url(user), { retries = 3,
          on_event = function(event) events[#events + 1] = event end }))
        assert.equal("transport", err.kind)
        assert.is_true(err.outcome == "not_sent" or err.outcome == "rejected")
        assert.equal(1, err.attempts)
        assert.matches("check the user and password in proxy", err.message)
        support.assert_secret(err)
        support.assert_secret(events)
        assert.is_false(has(tostring(err.body), b64("ops:" .. MARK .. "wrong")))
        assert.equal(0, #support.requests "service=any")
        if way == "https" then
          assert.is_false(has(proxy.seen(), support.env "STATIC_TOKEN"))
        end
      end)
    end
  end

  it("over plain http, where it is allowed, is readable for the proxy", function()
    local proxy = start()
    assert.is_table((plain(proxy.url()).factories:get()))
    assert.matches("^GET http://sim%.example:%d+/subscriptions/", proxy.seen())
    assert.is_true(has(proxy.seen(), support.env "STATIC_TOKEN")) -- which is why it has to be allowed
  end)

  it("signs in by the same proxy where the credential has it", function()
    local proxy = start()
    local credential = support.credential { proxy = proxy.url(), authority = named "AUTHORITY" }
    assert.is_table((client(proxy.url(), { credential = credential }).factories:get()))
    local _, tunnels = proxy.seen():gsub("CONNECT ", "")
    assert.equal(2, tunnels)
    assert.is_false(has(proxy.seen(), "client_secret"))
  end)

  it("that ends the tunnel fails, and may not have been sent", function()
    local adf = client(start().url(), { endpoint = "https://sim.example:1" })
    local _, err = sync(adf)
    assert.equal("transport", err.kind)
    assert.equal("not_sent", err.outcome)
  end)
end)

describe("the environment's proxy", function()
  before_each(support.reset)
  after_each(stop)

  local CALL = [[
    local function named(name)
      return (support.env(name):gsub("127%%.0%%.0%%.1", "sim.example"))
    end
    local adf = support.datafactory { endpoint = %s, retries = 0, allow_plain_http = true,
      connect_timeout = 3, proxy = %s }
    local result, err = adf.factories:get()
    print(result and "done" or err)
  ]]

  -- What a process with these variables prints of a call.
  local function call(variables, endpoint, proxy)
    return (support.run_script(CALL:format(endpoint or [[named "ARM"]], proxy or "nil"), nil,
      variables))
  end

  it("is used for https, with its user and password", function()
    local proxy = start(AUTHORIZATION)
    for _, name in ipairs { "https_proxy", "HTTPS_PROXY", "ALL_PROXY" } do
      assert.equal("done\n", call { [name] = proxy.url(USER_PASSWORD .. "@") })
    end
    local _, tunnels = proxy.seen():gsub("CONNECT ", "")
    assert.equal(3, tunnels)
    assert.is_false(has(proxy.seen(), support.env "STATIC_TOKEN"))
  end)

  it("whose password is wrong is named, and the password is not", function()
    local proxy = start(AUTHORIZATION)
    local said = call { https_proxy = proxy.url("ops:" .. MARK .. "wrong@") }
    assert.matches("check the user and password in proxy", said)
    assert.is_false(has(said, MARK))
  end)

  it("that is no proxy is named, and its password is not", function()
    for _, url in ipairs { "htps://ops:%s@host:1", "http://ops:%s@host:x" } do
      local said = call { https_proxy = url:format(MARK) }
      assert.matches("proxy", said)
      assert.is_false(has(said, MARK))
    end
  end)

  for _, name in ipairs { "no_proxy", "NO_PROXY" } do
    for _, value in ipairs { "*", "127.0.0.1", "localhost,127.0.0.1" } do
      it(("is not used for what %s=%s names"):format(name, value), function()
        local proxy = start()
        assert.equal("done\n", call({ https_proxy = proxy.url(), no_proxy = false, [name] = value },
          [[support.env "ARM"]]))
        assert.equal("", proxy.seen())
      end)
    end
  end

  it("is used for what no_proxy does not name", function()
    local proxy = start()
    assert.equal("done\n", call({ https_proxy = proxy.url(), no_proxy = "example.com,10.0.0.1" }))
    assert.is_true(has(proxy.seen(), "CONNECT sim.example"))
  end)

  it("gives way to the client's own, and to none where that is empty", function()
    local proxy, other = start(), start()
    assert.equal("done\n", call({ https_proxy = other.url() }, nil, ("%q"):format(proxy.url())))
    assert.is_true(has(proxy.seen(), "CONNECT"))
    assert.equal("done\n", call({ https_proxy = other.url(), no_proxy = "" }, [[support.env "ARM"]],
      '""'))
    assert.equal("", other.seen())
  end)

  it("is not used for plain http to this machine, whatever http_proxy says", function()
    local proxy = start()
    local variables = { http_proxy = proxy.url(), ALL_PROXY = proxy.url(), no_proxy = "" }
    assert.equal("done\n", call(variables, [[support.env "PLAIN"]]))
    assert.equal("", proxy.seen())
  end)

  it("is used for plain http to another machine, where that is allowed", function()
    local proxy = start()
    assert.equal("done\n", call({ http_proxy = proxy.url() }, [[named "PLAIN"]]))
    assert.matches("^GET http://sim%.example", proxy.seen())
  end)
end)
