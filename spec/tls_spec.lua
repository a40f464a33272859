--- Whom a client trusts, and what it does with those it doesn't: by real handshakes.
local arcgis = require "cloudsync.arcgis"
local azure = require "cloudsync.azure"
local cloudsync = require "cloudsync"
local datafactory = require "cloudsync.datafactory"
local support = require "spec.support"
local vcenter = require "cloudsync.vcenter"

local function path(name) return support.env "CERTIFICATES" .. "/" .. name end

-- What a shell command prints, without the line's end.
local function output(command)
  local pipe = io.popen(command)
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("\n$", ""))
end

-- The pin of a certificate, as `openssl` tells it: see CURLOPT_PINNEDPUBLICKEY.
local function pin(name)
  return "sha256//" .. output("openssl x509 -in " .. path(name) .. " -pubkey -noout"
    .. " | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64")
end

local function client(server, overrides)
  local options = { endpoint = support.env(server), retries = 3 }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return support.datafactory(options)
end

-- The same client, but for what the simulator's authority is told by.
local function without_ca(overrides)
  local options = {
    credential = azure.static_token_credential(support.env "STATIC_TOKEN"), retries = 0,
    endpoint = support.env "ARM", subscriptionId = support.env "SUBSCRIPTION_ID",
    resourceGroupName = support.env "RESOURCE_GROUP", factoryName = support.env "FACTORY",
  }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return datafactory.new(options)
end

local function sync(adf)
  return adf.integration_runtimes:sync_credentials { integrationRuntimeName = "ir-0001" }
end

-- Checks that the call was never sent, not tried again where that is in vain, and says why.
local function refused(adf, ...)
  local result, err = sync(adf)
  assert.is_nil(result)
  assert.equal("transport", err.kind)
  assert.equal("not_sent", err.outcome)
  for _, text in ipairs { ... } do assert.matches(text, err.message, 1, true) end
  assert.equal(0, #support.requests "service=any")
  return err
end

local function works(adf)
  local before = #support.requests "operation=syncCredentials"
  local result, err = sync(adf)
  assert.is_true(result, tostring(err))
  assert.equal(before + 1, #support.requests "operation=syncCredentials")
end

describe("a server's certificate", function()
  before_each(support.reset)

  it("that an authority of ca_file has signed is taken", function()
    works(client "ARM")
  end)

  for what, case in support.sorted {
    ["has expired"] = { "EXPIRED", "certificate has expired" },
    ["is its own authority"] = { "SELF_SIGNED", "self-signed certificate" },
    ["is another host's"] = { "WRONG_NAME", "does not match|no alternative|target host" },
  } do
    it(("that %s is refused, once, with what to look at"):format(what), function()
      local err = refused(client(case[1]), "ca_file")
      local found = false
      for words in case[2]:gmatch "[^|]+" do
        found = found or err.message:gsub("self signed", "self-signed"):find(words, 1, true)
      end
      assert.is_truthy(found, err.message)
      assert.equal(1, err.attempts)
      assert.is_false(err.retryable)
    end)
  end

  it("is checked against the system's authorities where there is no ca_file", function()
    refused(without_ca(), "certificate")
  end)

  it("of no authority of ca_file is refused", function()
    refused(client("ARM", { ca_file = path "self-signed.pem" }), "ca_file")
  end)

  it("may be in ca_file itself", function()
    works(client("SELF_SIGNED", { ca_file = path "self-signed.pem" }))
  end)

  it("that an authority in the directory ca_path has signed is taken, another is not", function()
    local directory = output "mktemp -d"
    refused(without_ca { ca_path = directory }, "ca_file")
    os.execute(("cp %s %s && openssl rehash %s"):format(path "ca.pem", directory, directory))
    works(without_ca { ca_path = directory })
    os.execute(("rm -r %s"):format(directory))
  end)

  it("is checked where another client of the process checks none", function()
    works(client("SELF_SIGNED", { insecure = true }))
    support.control("DELETE", "requests")
    refused(client "SELF_SIGNED", "certificate")
  end)

  it("is not checked where the program says so", function()
    for _, server in ipairs { "SELF_SIGNED", "EXPIRED", "WRONG_NAME" } do
      works(client(server, { insecure = true }))
    end
  end)

  local LOGINS = {
    ["Microsoft Entra"] = function(options)
      return client("ARM", { credential = support.credential(options) }).factories:list()
    end,
    vCenter = function(options)
      options.endpoint, options.api = support.env "VCENTER", "rest"
      return vcenter.new(options).links:list()
    end,
    ["ArcGIS Server"] = function(options)
      options.endpoint = support.env "ARCGIS"
      return arcgis.new(options).providers:list()
    end,
    ["its portal"] = function(options)
      options.endpoint, options.portal = support.env "ARCGIS", support.env "PORTAL"
      return arcgis.new(options).providers:list()
    end,
  }
  for name, login in support.sorted(LOGINS) do
    it("is checked before a password goes to " .. name, function()
      local options = { ca_file = path "self-signed.pem", retries = 0 }
      if name ~= "Microsoft Entra" then options.username, options.password = "u", "p" end
      local result, err = login(options)
      if err == nil then result, err = result:collect() end
      assert.is_nil(result)
      assert.equal("not_sent", err.outcome)
      assert.matches("certificate", err.message)
      assert.equal(0, #support.requests "service=any")
    end)
  end
end)

describe("a pinned public key", function()
  before_each(support.reset)

  it("that is the server's lets calls through, also when the handshake is resumed", function()
    for _ = 1, 3 do
      works(client("ARM", { pinned_public_key = pin "server.pem" }))
      support.fault { kind = "reset_before" }
      client("ARM", { pinned_public_key = pin "server.pem", retries = 0 }).factories:get()
    end
  end)

  it("may be one of several", function()
    works(client("ARM", { pinned_public_key = pin "client.pem" .. ";" .. pin "server.pem" }))
  end)

  for what, pinned in support.sorted {
    ["another's"] = function() return pin "other-name.pem" end,
    ["no key at all"] = function() return "nonsense" end,
    ["a file that is not there"] = function() return "/nonexistent/key.pem" end,
  } do
    it(("that is %s lets none through, though the certificate is good"):format(what), function()
      local err = refused(client("ARM", { pinned_public_key = pinned() }), "pinned_public_key")
      assert.equal(1, err.attempts)
    end)
  end

  it("is asked for where another client of the process has a connection without one", function()
    works(client "ARM")
    support.control("DELETE", "requests")
    refused(client("ARM", { pinned_public_key = pin "other-name.pem" }), "pinned_public_key")
  end)

  it("holds where certificates are not checked", function()
    refused(client("SELF_SIGNED", { insecure = true, pinned_public_key = pin "server.pem" }),
      "pinned_public_key")
    works(client("SELF_SIGNED", { insecure = true, pinned_public_key = pin "self-signed.pem" }))
  end)

  it("does not stand in for the check of the certificate", function()
    refused(client("SELF_SIGNED", { pinned_public_key = pin "self-signed.pem" }), "certificate")
  end)
end)

describe("a server that wants a client certificate", function()
  before_each(support.reset)

  local SERVER = "CLIENT_CERTIFICATE"

  local function keys(certificate, key)
    return { client_cert = path(certificate .. ".pem"), client_key = path((key or certificate)
      .. ".key") }
  end

  it("gets it", function()
    works(client(SERVER, keys "client"))
  end)

  it("gets no connection of a client that has another certificate, or none", function()
    works(client(SERVER, keys "client"))
    for _, options in ipairs { {}, keys "stranger" } do
      local _, err = sync(client(SERVER, options))
      assert.equal("denied", err.kind)
    end
    assert.equal(1, #support.requests "service=any")
  end)

  for what, given in support.sorted { ["without one"] = {}, ["with another's"] = "stranger" } do
    it(("refuses a client %s, which says what to check"):format(what), function()
      local _, err = sync(client(SERVER, given == "stranger" and keys "stranger" or nil))
      assert.equal("denied", err.kind)
      assert.equal("rejected", err.outcome)
      assert.equal(1, err.attempts)
      assert.matches("client certificate", err.message)
      assert.matches("client_cert", err.message)
      assert.equal(0, #support.requests "service=any")
    end)
  end

  it("hears nothing where the certificate and its key don't belong together", function()
    refused(client(SERVER, keys("stranger", "client")), "client_cert and client_key")
  end)

  it("hears nothing where the certificate or its key can't be read", function()
    refused(client(SERVER, keys("none", "client")), "client_cert and client_key")
    refused(client(SERVER, keys("stranger", "none")), "client_cert and client_key")
  end)
end)

describe("a server that speaks", function()
  before_each(support.reset)

  it("TLS 1.1 at most hears nothing, also where certificates are not checked", function()
    for _, insecure in ipairs { false, true } do
      refused(client("OLD_TLS", { insecure = insecure, retries = 0 }), "the TLS handshake failed")
    end
  end)

  it("TLS 1.1 at most is there to be spoken to", function()
    local said = output("openssl s_client -connect " .. support.env "OLD_TLS":match "//(.*)"
      .. " -tls1_1 -cipher ALL:@SECLEVEL=0 </dev/null 2>&1")
    if said:find "unsupported" or said:find "no protocols available" then
      return pending "this OpenSSL has no TLS 1.1 of its own"
    end
    assert.matches("Protocol%s*: TLSv1.1", said)
  end)

  it("plain HTTP where https is asked for hears no token", function()
    local endpoint = support.env "PLAIN":gsub("^http:", "https:")
    refused(client("PLAIN", { endpoint = endpoint, retries = 0 }))
  end)
end)

describe("clients side by side", function()
  before_each(support.reset)

  it("each keep to what they trust, however their calls mix", function()
    local trusting, wary = client "ARM", client("ARM", { ca_file = path "self-signed.pem" })
    local clients = {}
    for i = 1, 40 do clients[i] = i % 2 == 0 and trusting or wary end
    local results, failures = cloudsync.map(clients, sync, { concurrency = 10 })
    assert.equal(20, #failures)
    for i in ipairs(clients) do assert.equal(i % 2 == 0 or nil, results[i]) end
    assert.equal(20, #support.requests "service=any")
  end)
end)
