-- Where a client may send to: its endpoint, and the links of the service's own origin.
local core = require "cloudsync.core"
local datafactory = require "cloudsync.datafactory"
local support = require "spec.support"

local sorted, printable = support.sorted, support.printable

local CREDENTIAL = {
  get_token = function() error "asked for a token" end,
}

local function make(options)
  options.credential = CREDENTIAL
  options.subscriptionId, options.resourceGroupName, options.factoryName = "s", "g", "fff"
  return datafactory.new(options)
end

-- Checks that no client is made, and that the message names the option and tells no secret.
local function refused(option, options, reason)
  local ok, err = pcall(make, options)
  assert.is_false(ok, "a client was made")
  assert.is_string(err)
  assert.truthy(err:find("datafactory", 1, true), err)
  assert.truthy(err:find(option, 1, true), err)
  assert.is_nil(err:find("hush", 1, true), err)
  if reason then assert.truthy(err:find(reason, 1, true), err) end
end

describe("an endpoint", function()
  local BAD = {
    "", "host", "host.example", "host:443", "//host.example", "/path", "https:", "https:/",
    "https://", "https:///", "https:///path", "https:/host.example", "https:host.example",
    "://host.example", "https//host.example", "https://:443", "https://?", "https://[::1",
    "https://[host]", "https://host:port", "https://host:99999", "https://host:-1",
    "https://host:443:443",
    -- other schemes
    "ftp://host.example", "file:///etc/passwd", "file://host/etc/passwd", "ws://host.example",
    "javascript://host", "httpss://host.example", "gopher://host.example",
    -- credentials
    "https://user@host.example", "https://user:hush@host.example", "https://:hush@host.example",
    "https://user:@host.example", "https://@host.example", "http://localhost@host.example",
    "https://host.example@", "https://a@b@host.example",
    -- what would not be part of the path
    "https://host.example?", "https://host.example/?", "https://host.example?a=b",
    "https://host.example/base?a=b", "https://host.example#", "https://host.example/#",
    "https://host.example#a", "https://host.example/base#a", "https://host.example?a#b",
    -- what can't stand in a URL
    " https://host.example", "https://host.example ", "https://host .example",
    "https://host.example/a b", "https://host.example\n", "https://host.example\r\nX-Evil: 1",
    "https://host.example\t", "https://host.example\0", "https://host.example\0.evil.example",
    "https://host.example\127", "https://host.example\\", "https:\\\\host.example",
    "https://host.example\\@evil.example",
  }
  for _, endpoint in ipairs(BAD) do
    it(("can't be '%s'"):format(printable(endpoint)), function()
      refused("endpoint", { endpoint = endpoint })
    end)
  end

  for _, wrong in ipairs { 1, true, {}, print, core.secret "https://host.example" } do
    it(("can't be a %s"):format(type(wrong)), function()
      refused("endpoint", { endpoint = wrong })
    end)
  end

  for _, endpoint in ipairs {
    "http://host.example", "HTTP://host.example", "http://10.0.0.1",
    "http://127.0.0.1.evil.example", "http://127.evil.example", "http://localhost.evil.example",
    "http://localhost.localdomain",
    "http://xlocalhost", "http://[::2]", "http://[::ffff:10.0.0.1]", "http://128.0.0.1",
    "http://0.0.0.0", "http://1270.0.0.1", "http://[::1].evil.example",
  } do
    it(("can't be plain http to another machine: %s"):format(endpoint), function()
      refused("endpoint", { endpoint = endpoint })
    end)
  end

  it("says why plain http is refused and how to allow it", function()
    refused("allow_plain_http", { endpoint = "http://host.example" }, "plain http")
  end)

  for _, endpoint in ipairs { "http://localhost", "http://localhost:8080", "http://LOCALHOST:1",
    "http://127.0.0.1", "http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]",
    "http://[::1]:8080", "HTTP://localhost" } do
    it(("may be plain http to this machine: %s"):format(endpoint), function()
      assert.is_table(make { endpoint = endpoint })
    end)
  end

  it("may be plain http to another machine where that is allowed", function()
    assert.is_table(make { endpoint = "http://host.example", allow_plain_http = true })
    refused("endpoint", { endpoint = "http://host.example", allow_plain_http = false })
    refused("allow_plain_http", { endpoint = "http://host.example", allow_plain_http = 1 })
    refused("allow_plain_http", { endpoint = "http://host.example", allow_plain_http = "yes" })
  end)

  local PATH = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DataFactory/factories/fff"
    .. "?api-version=2018-06-01"

  for endpoint, origin in sorted {
    ["https://host.example"] = "https://host.example",
    ["https://host.example/"] = "https://host.example",
    ["https://host.example///"] = "https://host.example",
    ["https://host.example:8443"] = "https://host.example:8443",
    ["https://host.example/base"] = "https://host.example/base",
    ["https://host.example/base/"] = "https://host.example/base",
    ["https://host.example/a%20b/c"] = "https://host.example/a%20b/c",
    ["https://[::1]:8443/"] = "https://[::1]:8443",
    ["https://10.1.2.3"] = "https://10.1.2.3",
  } do
    it(("%s is what every path goes behind"):format(endpoint), function()
      local shown = make { endpoint = endpoint }.factories:get(nil, { dry_run = true })
      assert.equal(origin .. PATH, shown.url)
    end)
  end

  for cloud, origin in sorted {
    public = "https://management.azure.com",
    usgovernment = "https://management.usgovcloudapi.net",
    china = "https://management.chinacloudapi.cn",
  } do
    it(("is %s in the cloud '%s'"):format(origin, cloud), function()
      local shown = make { cloud = cloud }.factories:get(nil, { dry_run = true })
      assert.equal(origin .. PATH, shown.url)
    end)
  end
end)

---------------------------------------------------------------------------------------------------

describe("an option of the connection", function()
  before_each(support.reset)

  for _, name in ipairs { "ca_file", "ca_path", "client_cert", "client_key", "proxy", "user_agent",
    "pinned_public_key", "referer" } do
    for _, wrong in ipairs { 1, true, {}, print } do
      it(("is refused where %s is a %s"):format(name, type(wrong)), function()
        refused(name, { [name] = wrong })
      end)
    end
    for what, text in sorted { ["a NUL"] = "a\0b", ["a line feed"] = "a\nX-Evil: 1",
      ["a carriage return"] = "a\rX-Evil: 1" } do
      it(("is refused where %s has %s in it"):format(name, what), function()
        refused(name, { [name] = text })
      end)
    end
  end

  for _, name in ipairs { "connect_timeout", "max_response_bytes", "max_connections", "timeout",
    "deadline", "retries" } do
    for what, wrong in sorted { ["a text"] = "1", ["negative"] = -1, ["NaN"] = 0 / 0,
      ["a boolean"] = true } do
      it(("is refused where %s is %s"):format(name, what), function()
        refused(name, { [name] = wrong })
      end)
    end
  end

  for _, name in ipairs { "insecure", "allow_plain_http" } do
    for _, wrong in ipairs { 1, "false", {} } do
      it(("is refused where %s is a %s"):format(name, type(wrong)), function()
        refused(name, { [name] = wrong })
      end)
    end
  end

  for _, name in ipairs { "connect_timeout", "max_response_bytes", "max_connections", "timeout",
    "deadline", "retries" } do
    for _, large in ipairs { 1e6, 1e12, 1e300, math.huge } do
      it(("may be as large as one likes: %s of %g"):format(name, large), function()
        local adf = support.datafactory { [name] = large }
        assert(adf.factories:get())
      end)
    end
  end
end)

---------------------------------------------------------------------------------------------------

describe("a link", function()
  local function follow(endpoint, link)
    local transport = core.transport { endpoint = endpoint, user_agent = "spec" }
    local prepare = core.operation("datafactory", "factories", "list")
    local request = assert(prepare(transport, { subscriptionId = "s" }))
    local next_request = request:follow(transport, link)
    return next_request and next_request:describe()
  end

  local SAME = {
    { "https://host.example", "https://host.example/a?b=c", "https://host.example/a?b=c" },
    { "https://host.example", "https://host.example:443/a", "https://host.example/a" },
    { "https://host.example:443", "https://host.example/a", "https://host.example:443/a" },
    { "https://host.example", "https://HOST.Example/A?B=C", "https://host.example/A?B=C" },
    { "https://Host.Example", "HTTPS://host.example/a", "https://Host.Example/a" },
    { "http://localhost", "http://localhost:80/a", "http://localhost/a" },
    { "https://host.example:8443", "https://host.example:8443/a", "https://host.example:8443/a" },
    { "https://host.example", "/a?b=c", "https://host.example/a?b=c" },
    { "https://host.example/base", "/a", "https://host.example/a" },
    { "https://host.example/base", "https://host.example/base/a", "https://host.example/base/a" },
    { "https://host.example", "https://host.example/a%2Fb%2fc?%24x=%2b+", nil },
    { "https://host.example", "https://host.example/a#fragment", "https://host.example/a" },
    { "https://host.example", "/a?b#c", "https://host.example/a?b" },
    { "https://host.example", "https://host.example/a?u=https://evil.example/", nil },
    { "https://host.example", "https://host.example?a=b", "https://host.example?a=b" },
    { "https://[::1]:8443", "https://[::1]:8443/a", "https://[::1]:8443/a" },
  }
  for _, case in ipairs(SAME) do
    it(("from %s to %s is followed on the client's own origin"):format(case[1], case[2]), function()
      local request = follow(case[1], case[2])
      assert.is_table(request)
      assert.equal(case[3] or case[2], request.url)
      assert.equal("GET", request.method)
      assert.is_nil(request.body)
    end)
  end

  local OTHER = {
    "https://evil.example/a", "https://host.example.evil.example/a", "https://evil-host.example/a",
    "https://host.example:8443/a", "https://host.example:444/a", "http://host.example/a",
    "http://host.example:443/a", "//evil.example/a", "//host.example/a", "///evil.example/a",
    "https://host.example@evil.example/a", "https://host.example:443@evil.example/a",
    "https://host.example%2f@evil.example/a", "https://user@host.example/a",
    "https://user:hush@host.example/a", "https://:hush@host.example/a", "https://@host.example/a",
    "https://evil.example#@host.example/a", "https://evil.example?@host.example/a",
    "https://evil.example\\@host.example/a", "https://host.example\\@evil.example/a",
    "/\\evil.example/a", "\\\\evil.example\\a", "https:\\\\evil.example",
    "https://host.example\0.evil.example/a", "/a\0b", "/a b", "/a\r\nX-Evil: 1",
    "https://host.example/a\r\nX-Evil: 1", " https://host.example/a", "https://host.example /a",
    "https://host.example./a", "ftp://host.example/a", "file:///etc/passwd", "javascript:alert(1)",
    "https:evil.example", "https:/evil.example/a", "https://", "host.example/a", "?a=b", "a", ".",
    "..", "#a", "https://[::1]/a", "https://host.example:0/a", "https://host.example:4430/a",
    "https://xn--hst-sna.example/a", "",
  }
  for _, link in ipairs(OTHER) do
    it(("to '%s' is not followed"):format(printable(link)), function()
      assert.is_nil(follow("https://host.example", link))
    end)
  end

  it("that is no text is a mistake", function()
    assert.has_error(function() follow("https://host.example", nil) end)
    assert.has_error(function() follow("https://host.example", {}) end)
  end)

  it("gets an identifier of its own and the headers of the first request, once each", function()
    local transport = core.transport { endpoint = "https://host.example", user_agent = "spec" }
    local prepare = core.operation("datafactory", "data_flow_debug_session", "query_by_factory")
    local first = assert(prepare(transport, { subscriptionId = "s", resourceGroupName = "g",
      factoryName = "fff" }, nil, { ["X-Note"] = "1", accept = "text/json" }))
    local one, two = first:describe(), first:follow(transport, "/next"):describe()
    assert.equal("POST", one.method)
    assert.equal("GET", two.method)
    assert.equal("1", two.headers["X-Note"])
    assert.equal("text/json", two.headers.accept)
    assert.is_nil(two.headers.Accept)
    assert.is_string(two.headers["x-ms-client-request-id"])
    assert.not_equal(one.headers["x-ms-client-request-id"], two.headers["x-ms-client-request-id"])
  end)
end)

---------------------------------------------------------------------------------------------------

describe("a list", function()
  before_each(support.reset)

  -- Reads a list whose first page has that link to the next.
  local function collect(link, overrides)
    support.fault { match = { operation = "integrationRuntimes" }, kind = "next_link",
      next_link = link }
    local adf = support.datafactory(overrides)
    return adf.integration_runtimes:list_by_factory():collect()
  end

  local function path(name)
    return ("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.DataFactory/factories/%s/%s"
      .. "?api-version=2018-06-01"):format(support.env "SUBSCRIPTION_ID",
      support.env "RESOURCE_GROUP", support.env "FACTORY", name)
  end

  local function other() return support.env "OTHER_ORIGIN" end
  local function arm() return support.env "ARM" end
  local function port(url) return url:match ":(%d+)$" end

  local ELSEWHERE = {
    ["another port"] = function() return other() .. path "pipelines" end,
    ["another host"] = function()
      return "https://localhost:" .. port(other()) .. path "pipelines"
    end,
    ["another name of the same host"] = function()
      return "https://localhost:" .. port(arm()) .. path "pipelines"
    end,
    ["another host behind what looks like a user"] = function()
      return arm() .. "@" .. other():match "//(.*)" .. path "pipelines"
    end,
    ["its own origin with a user"] = function()
      return arm():gsub("//", "//user@") .. path "pipelines"
    end,
    ["another origin without a scheme"] = function()
      return other():match ":(.*)" .. path "pipelines"
    end,
    ["its own origin without a scheme"] = function()
      return arm():match ":(.*)" .. path "pipelines"
    end,
    ["plain http on its own port"] = function()
      return arm():gsub("^https", "http") .. path "pipelines"
    end,
    ["plain http"] = function() return support.env "PLAIN" .. path "pipelines" end,
    ["another origin behind a backslash"] = function()
      return arm() .. "\\@" .. other():match "//(.*)" .. path "pipelines"
    end,
    ["another origin behind a slash and a backslash"] = function()
      return "/\\" .. other():match "//(.*)" .. path "pipelines"
    end,
    ["another origin behind a line break"] = function()
      return other() .. "\r\nHost: evil.example" .. path "pipelines"
    end,
    ["a file"] = function() return "file:///etc/passwd" end,
    ["a page without a path"] = function() return "?page=2" end,
  }
  for what, link in sorted(ELSEWHERE) do
    it(("is not read on where the link leads to %s"):format(what), function()
      local items, err = collect((link()))
      assert.is_nil(items)
      assert.equal("protocol", err.kind)
      assert.matches("another origin", err.message)
      assert.equal("integration_runtimes:list_by_factory", err.operation)
      assert.same({}, support.requests "service=other")
      assert.equal(1, #support.requests "service=any")
    end)
  end

  it("gives the items of the pages before such a link one by one, then raises", function()
    support.fault { match = { operation = "integrationRuntimes" }, kind = "next_link",
      next_link = other() .. "/" }
    local count = 0
    local ok, err = pcall(function()
      for _ in support.datafactory().integration_runtimes:list_by_factory() do count = count + 1 end
    end)
    assert.is_false(ok)
    assert.equal("protocol", err.kind)
    assert.equal(50, count)
    assert.same({}, support.requests "service=other")
  end)

  for what, link in sorted {
    ["absolute"] = function() return arm() .. path "pipelines" end,
    ["relative to the origin"] = function() return path "pipelines" end,
    ["absolute with a scheme in capitals"] = function()
      return arm():gsub("^https", "HTTPS") .. path "pipelines"
    end,
    ["absolute with a fragment"] = function() return arm() .. path "pipelines" .. "#page" end,
  } do
    it(("is read on where the link is %s"):format(what), function()
      local items, err = collect((link()))
      assert.is_nil(err)
      assert.equal(50, #items)
      local requests = support.requests "service=any"
      assert.equal(2, #requests)
      assert.equal(path "pipelines", requests[2].uri)
      assert.equal("Bearer " .. support.env "STATIC_TOKEN", requests[2].headers.authorization)
    end)
  end

  it("is read on where the link has the host in capitals", function()
    local endpoint = "https://localhost:" .. port(arm())
    local items, err = collect("https://LocalHost:" .. port(arm()) .. path "pipelines",
      { endpoint = endpoint })
    assert.is_nil(err)
    assert.equal(50, #items)
    assert.equal(2, #support.requests "service=any")
  end)

  it("keeps the escapes of a link as they are", function()
    local link = path "pipelines" .. "&%24skip=%2f%2F+%e2%82%ac%7e~"
    assert(collect(link))
    assert.equal(link, support.requests "service=any"[2].uri)
  end)

  it("keeps dot segments of a link on the origin", function()
    collect(arm() .. path "../../../../../../../../../../pipelines")
    assert.equal(2, #support.requests "service=arm")
    assert.same({}, support.requests "service=other")
  end)

  it("ends where the link is empty", function()
    assert.equal(50, #assert(collect ""))
  end)

  it("is not read for ever where a page links to itself", function()
    local items, err = collect(path "integrationRuntimes")
    assert.is_nil(items)
    assert.equal("protocol", err.kind)
    assert.equal(1, #support.requests "service=any")
  end)

  it("does not follow a redirection with its token", function()
    support.fault { match = { operation = "integrationRuntimes" }, kind = "redirect" }
    local items, err = support.datafactory().integration_runtimes:list_by_factory():collect()
    assert.is_nil(items)
    assert.equal("protocol", err.kind)
    assert.same({}, support.requests "service=other")
  end)
end)

describe("a proxy", function()
  before_each(support.reset)

  it("that is none is refused, without its password", function()
    for _, proxy in ipairs { "htps://user:hunter2@host:1", "http://user:hunter2@host:port",
      "http://us er:hunter2@host" } do
      local ok, message = pcall(support.datafactory, { proxy = proxy })
      assert.is_false(ok)
      assert.matches("datafactory: proxy is not a URL", message)
      assert.is_nil(message:find("hunter2", 1, true))
    end
  end)

  it("that can't be reached is named as what to check", function()
    local adf = support.datafactory { proxy = "http://user:hunter2@127.0.0.1:1", retries = 0,
      endpoint = "https://sim.example" } -- a host that no_proxy does not name
    local _, err = adf.factories:get()
    assert.equal("transport", err.kind)
    assert.equal("not_sent", err.outcome)
    assert.matches("proxy", err.message)
    assert.is_nil(tostring(err):find("hunter2", 1, true))
  end)

  it("is not used for plain HTTP on this machine, which a token must not leave", function()
    local adf = support.datafactory { proxy = "http://127.0.0.1:1",
      endpoint = support.env "PLAIN" }
    assert.is_table((adf.factories:get()))
  end)
end)
