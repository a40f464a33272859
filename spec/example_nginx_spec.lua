-- The webhook, the pages and the proxy of examples/nginx, as their callers meet them.
local support = require "spec.support"

-- What is shown here is shown from outside, and once: it is nginx's interpreter that counts.
if support.in_nginx or rawget(_G, "jit") then return end

-- A build for Lua alone has nothing that nginx, whose interpreter is LuaJIT, could load.
local core = io.open((os.getenv "BUILD" or "build") .. "/luajit/cloudsync/core.so")
if not core then return end
core:close()

local example = require "spec.example"
local socket = require "socket"

local GROUP = support.env "RESOURCE_GROUP"
local HOOK = "/hooks/credential-rotated"

local function start(variables)
  local settings = { FACTORIES = GROUP .. "/one " .. GROUP .. "/two", LOCK_LIFE = 2, JOB_LIFE = 60 }
  for name, value in pairs(variables or {}) do settings[name] = value end
  return example.start(settings)
end

-- Ends it, and fails where something was wrong that nobody was told of.
local function stop(server)
  local found = {}
  for line in server:stop():gmatch "[^\n]+" do
    if line:find "%[emerg%]" or line:find "%[crit%]" or line:find "runtime error"
      or line:find "%[error%]" and not line:find "client intended to send too large"
        and not line:find "access forbidden" then
      found[#found + 1] = line
    end
  end
  assert.same({}, found)
end

-- One that is slow enough to be met while it is being synced.
local function slow_factory(name)
  support.factory { factoryName = name, runtimes = 3, sync_seconds = 0.7 }
end

describe("the webhook", function()
  local server

  setup(function() server = start() end)
  teardown(function() stop(server) end)
  before_each(support.reset)

  it("syncs a factory in the background, and tells how far it is", function()
    support.factory { factoryName = "one", runtimes = 8, managed = 1, in_sync = 2 }
    local status, answer = server:call "one"
    assert.equal(202, status, answer.body)
    assert.equal("queued", answer.json.state)
    assert.equal("/jobs/" .. answer.json.id, answer.location)
    assert.equal("no-store", answer["cache-control"])
    local job = server:ended(answer.location)
    assert.equal("succeeded", job.state)
    assert.equal("one", job.factoryName)
    assert.equal(GROUP, job.resourceGroupName)
    assert.equal(8, job.done)
    assert.equal(8, job.total)
    assert.same({ synced = 7, in_sync = 0, planned = 0, skipped = 1, failed = 0 }, job.counts)
    assert.equal(8, #job.runtimes)
    assert.matches("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", job.finishedAt)
    assert.equal(7, support.control("GET", "factories/one").syncs)
  end)

  it("tells what became of each runtime, on demand of those that are new", function()
    support.factory { factoryName = "one", runtimes = 4, managed = 1, offline = 1 }
    local _, answer = server:call "one"
    local job = server:ended(answer.location)
    local outcomes = {}
    for _, runtime in ipairs(job.runtimes) do outcomes[runtime.name] = runtime end
    assert.equal("synced", outcomes["ir-0001"].outcome)
    assert.is_true(outcomes["ir-0001"].verified)
    assert.matches("^managed: ", outcomes["ir-0004"].reason)
    local _, rest = server:get(answer.location .. "?after=3")
    assert.same({ job.runtimes[4] }, rest.json.runtimes)
    assert.equal(4, rest.json.done)
    local _, none = server:get(answer.location .. "?after=4")
    assert.matches('"runtimes":%[%]', none.body)
  end)

  it("shows progress while it is at work, by whichever worker", function()
    support.factory { factoryName = "one", runtimes = 4, sync_seconds = 0.1,
      overrides = { ["ir-0001"] = { sync_seconds = 0.7 } } }
    local _, answer = server:call "one"
    example.poll(function()
      local _, job = server:get(answer.location)
      return job.json.state == "running" and job.json.done == 3 and job.json.total == 4
        and #job.json.runtimes == 3
    end)
    assert.equal("succeeded", server:ended(answer.location).state)
  end)

  it("refuses a second sync of a factory, and says where the first is", function()
    slow_factory "one"
    support.factory { factoryName = "two", runtimes = 1, sync_seconds = 0 }
    local _, first = server:call "one"
    for i = 1, 6 do -- of two workers, any takes each of these
      local status, answer = server:call(i % 2 == 0 and "one" or "ONE")
      assert.equal(409, status, answer.body)
      assert.equal(first.location, answer.location)
      assert.equal(first.json.id, answer.json.error.id)
    end
    local status, other = server:call "two"
    assert.equal(202, status)
    assert.equal("succeeded", server:ended(other.location).state)
    assert.equal("succeeded", server:ended(first.location).state)
    local again, later = server:call "one"
    assert.equal(202, again)
    server:ended(later.location)
  end)

  it("says which runtimes failed, and why", function()
    support.factory { factoryName = "one", runtimes = 3, sync_seconds = 0 }
    support.fault { match = { operation = "syncCredentials", name = "ir-0002" }, status = 403 }
    local _, answer = server:call "one"
    local job = server:ended(answer.location)
    assert.equal("failed", job.state)
    assert.equal(1, job.counts.failed)
    assert.equal(3, job.total)
    for _, runtime in ipairs(job.runtimes) do
      if runtime.name == "ir-0002" then
        assert.equal("failed", runtime.outcome)
        assert.equal("denied", runtime.error.kind)
        assert.is_string(runtime.error.requestId)
      end
    end
  end)

  it("says why nothing could be synced", function()
    local _, answer = server:call "two" -- the simulator has no such factory
    local job = server:ended(answer.location)
    assert.equal("failed", job.state)
    assert.equal("not_found", job.error.kind)
    assert.same({}, job.runtimes)
  end)

  it("tells no secret", function()
    support.factory { factoryName = "one", runtimes = 2, sync_seconds = 0 }
    local _, answer = server:call "one"
    server:ended(answer.location)
    local _, job = server:get(answer.location)
    support.assert_secret(job.body)
    for _, secret in ipairs { support.env "CLIENT_SECRET", "eyJ", "Bearer" } do
      assert.is_nil(job.body:find(secret, 1, true))
    end
  end)

  describe("refuses", function()
    local BODY = example.body "one"

    local function refused(status, headers, body, method)
      local got, answer = server:request(method or "POST", HOOK, headers, body or BODY)
      assert.equal(status, got, answer.body)
      assert.is_string(answer.json.error.message)
      assert.is_nil(answer.location)
      assert.same({}, support.requests())
      return answer
    end

    local function altered(change)
      local headers = example.sign(BODY)
      for name, value in pairs(change) do headers[name] = value or nil end
      return headers
    end

    it("what is not signed", function()
      local answer = refused(401, {})
      assert.is_string(answer["www-authenticate"])
      refused(401, altered { ["X-Signature"] = false })
      refused(401, altered { ["X-Timestamp"] = false })
    end)

    it("what is signed by another key, or is no signature", function()
      refused(401, example.sign(BODY, nil, "another"))
      local headers = example.sign(BODY)
      local signature = headers["X-Signature"]
      local last = signature:sub(-1) == "0" and "1" or "0"
      for _, wrong in ipairs { "", "sha256=", signature:sub(1, -2) .. last,
        signature:sub(1, -3), signature .. "00",
        "sha1=" .. signature:sub(8), signature:sub(8), "sha256=" .. ("0"):rep(64),
        "sha256=" .. ("z"):rep(64) } do
        refused(401, { ["X-Timestamp"] = headers["X-Timestamp"], ["X-Signature"] = wrong })
      end
    end)

    it("a body or a time that was not signed", function()
      refused(401, example.sign(BODY), example.body "two")
      refused(401, altered { ["X-Timestamp"] = tostring(os.time() + 1) })
    end)

    it("a time that is too far from now, or none", function()
      for _, time in ipairs { os.time() - 310, os.time() + 310, "soon", "1e9", "-1", "0x7fffffff",
        ("9"):rep(40) } do
        refused(401, example.sign(BODY, time))
      end
    end)

    it("a message that comes a second time", function()
      local headers = example.sign "{}"
      refused(400, headers, "{}")
      refused(401, headers, "{}")
      headers["X-Signature"] = headers["X-Signature"]:gsub("%x+$", string.upper)
      refused(401, headers, "{}")
    end)

    for what, body in support.sorted {
      ["no JSON"] = "factoryName=one", ["half a document"] = BODY:sub(1, -2), nothing = "",
      ["a list"] = "[]", ["a text"] = '"one"', null = "null", ["no names"] = "{}",
      ["names that are no texts"] = '{"factoryName":1,"resourceGroupName":[]}',
      ["one name"] = '{"factoryName":"one"}', ["deep nesting"] = ("["):rep(2000),
    } do
      it("a body that is " .. what, function() refused(400, example.sign(body), body) end)
    end

    it("a factory that is not on the list", function()
      for _, body in ipairs { example.body "three", example.body("one", "other-group"),
        example.body("one/../two"), example.body("", "") } do
        refused(403, example.sign(body), body)
      end
    end)

    it("a body that is too large, whether or not its length is told", function()
      local body = BODY .. (" "):rep(8192)
      refused(413, example.sign(body), body)
      local headers = example.sign(body)
      headers["Transfer-Encoding"] = "chunked"
      refused(413, headers, body)
    end)

    it("other methods", function()
      for _, method in ipairs { "GET", "PUT", "DELETE", "PATCH" } do
        assert.equal("POST", refused(405, example.sign(BODY), BODY, method).allow)
      end
    end)
  end)

  local function running_job()
    slow_factory "one"
    local _, answer = server:call "one"
    example.poll(function()
      local _, job = server:get(answer.location)
      return job.json.state == "running"
    end)
    return answer
  end

  it("brings its jobs to their end when nginx is reloaded", function()
    local answer = running_job()
    server:signal "hangup"
    socket.sleep(0.3)
    assert.equal(409, (server:call "one"))
    assert.equal("succeeded", server:ended(answer.location).state)
  end)

  it("gives up a job whose worker has died, and then begins another", function()
    local answer = running_job()
    server:signal("kill", true)
    example.poll(function() return server:call "one" == 409 end, 1)
    assert.equal("abandoned", server:ended(answer.location).state)
    local status, again = server:call "one"
    assert.equal(202, status)
    assert.equal("succeeded", server:ended(again.location).state)
    assert.equal("abandoned", server:ended(answer.location).state)
  end)
end)

describe("a job's address", function()
  local server

  setup(function() server = start { JOB_LIFE = 1, LOCK_LIFE = 1 } end)
  teardown(function() stop(server) end)
  before_each(support.reset)

  local HTML = { Accept = "text/html,application/xhtml+xml,*/*;q=0.8" }

  it("gives JSON to programs and a page to browsers", function()
    support.factory { factoryName = "one", runtimes = 1, sync_seconds = 0 }
    local _, answer = server:call "one"
    for _, accept in ipairs { "application/json", "*/*", "application/json, text/html;q=0.5" } do
      local status, job = server:get(answer.location, { Accept = accept })
      assert.equal(200, status)
      assert.equal(answer.json.id, job.json.id)
      assert.equal("Accept", job.vary)
      assert.equal("nosniff", job["x-content-type-options"])
    end
    local status, page = server:get(answer.location, HTML)
    assert.equal(200, status)
    assert.equal("text/html; charset=utf-8", page["content-type"])
  end)

  it("has a page that runs its own script alone, and loads nothing", function()
    local _, page = server:get("/jobs/" .. ("0"):rep(32), HTML)
    local policy = page["content-security-policy"]
    local nonce = policy:match "script%-src 'nonce%-(%x+)'"
    assert.equal(32, #nonce)
    assert.matches("default%-src 'none'", policy)
    assert.is_nil(policy:find "unsafe")
    local _, count = page.body:gsub(('nonce="%s"'):format(nonce), "")
    assert.equal(2, count)
    assert.is_nil(page.body:find "@NONCE@")
    assert.is_nil(page.body:find "https?://")
    assert.is_nil(page.body:find "innerHTML")
    local _, other = server:get("/jobs/" .. ("0"):rep(32), HTML)
    assert.is_nil(other["content-security-policy"]:find(nonce, 1, true))
  end)

  it("is unknown where there is no such job, or it ended long ago", function()
    support.factory { factoryName = "one", runtimes = 1, sync_seconds = 0 }
    for _, path in ipairs { "/jobs/" .. ("0"):rep(32), "/jobs/", "/jobs/x", "/jobs/..%2f" } do
      local status, answer = server:get(path)
      assert.equal(404, status)
      assert.equal("unknown", answer.json.error.code)
    end
    assert.equal(404, (server:get("/jobs/" .. ("0"):rep(32), HTML)))
    local _, answer = server:call "one"
    server:ended(answer.location)
    example.poll(function() return server:get(answer.location) == 404 end, 3)
  end)

  it("is known while the job runs, however long it makes no progress", function()
    support.factory { factoryName = "one", runtimes = 2, managed = 1, sync_seconds = 1.5 }
    local _, answer = server:call "one"
    local job = server:ended(answer.location)
    assert.equal("succeeded", job.state)
    assert.equal(2, #job.runtimes)
  end)

  it("takes GET and HEAD alone", function()
    local path = "/jobs/" .. ("0"):rep(32)
    assert.equal(404, (server:request("HEAD", path)))
    for _, method in ipairs { "POST", "DELETE", "PUT" } do
      local status, answer = server:request(method, path, {}, "")
      assert.equal(405, status)
      assert.equal("GET, HEAD", answer.allow)
    end
  end)
end)

describe("the proxy", function()
  local server

  before_each(function()
    support.reset()
    support.factory { factoryName = "one", runtimes = 0 }
    server = start()
  end)
  after_each(function() stop(server) end)

  local function fetches()
    return #support.requests "operation=getDataPlaneAccess"
  end

  -- Sends so many requests at once; returns what each got.
  local function at_once(count)
    local connections, answers = {}, {}
    for i = 1, count do
      connections[i] = assert(socket.connect("127.0.0.1", server.port))
      connections[i]:send "GET /adf/x HTTP/1.0\r\nHost: localhost\r\n\r\n"
    end
    for i, connection in ipairs(connections) do
      connection:settimeout(15)
      answers[i] = connection:receive "*a" or ""
      connection:close()
    end
    return answers
  end

  -- Has the access expire in so many seconds, as Data Factory writes it.
  local function expire(seconds, times)
    support.fault { kind = "status", status = 200, times = times or 0,
      match = { operation = "getDataPlaneAccess" }, body = {
        accessToken = "short", policy = {
          expireTime = os.date("!%Y-%m-%dT%H:%M:%S.1234567Z", os.time() + seconds),
        },
      } }
  end

  it("adds the access, in place of what the caller sent", function()
    local status, answer = server:get("/adf/x", { Authorization = "Bearer mine", Cookie = "a=b" })
    assert.equal(200, status)
    assert.is_nil(answer.json.cookie)
    assert.matches("^Bearer dataplane%-%x+$", answer.json.authorization)
    local _, again = server:get "/adf/y"
    assert.equal(answer.json.authorization, again.json.authorization)
    assert.equal(1, fetches())
  end)

  it("fetches it once for all who come meanwhile, in any worker, and goes on with other work",
    function()
      support.fault { delay = 0.7, match = { operation = "getDataPlaneAccess" } }
      local first = assert(socket.connect("127.0.0.1", server.port))
      first:send "GET /adf/x HTTP/1.0\r\nHost: localhost\r\n\r\n"
      socket.sleep(0.1)
      local started = socket.gettime()
      for _ = 1, 6 do server:get "/jobs/x" end
      assert.is_true(socket.gettime() - started < 0.3)
      local token
      for _, answer in ipairs(at_once(30)) do
        token = token or answer:match "Bearer [%w-]+"
        assert.equal(token, answer:match "Bearer [%w-]+", answer)
      end
      first:close()
      assert.equal(1, fetches())
    end)

  it("fetches it anew shortly before it expires", function()
    expire(3)
    server:get "/adf/x"
    server:get "/adf/x"
    assert.equal(1, fetches())
    example.poll(function()
      server:get "/adf/x"
      return fetches() == 2
    end, 3)
  end)

  it("says so where it may not have it", function()
    support.fault { status = 403, times = 0, match = { operation = "getDataPlaneAccess" } }
    for _, answer in ipairs(at_once(4)) do
      assert.matches("^HTTP/1.1 502 ", answer)
      assert.matches('"code":"denied"', answer)
    end
    assert.is_true(fetches() <= 2) -- one a worker at most: a failure, too, is for all who wait
  end)

  it("says when to come back where Azure asked for that", function()
    support.fault { status = 429, headers = { ["Retry-After"] = "40" }, times = 0,
      match = { operation = "getDataPlaneAccess" } }
    local status, answer = server:get "/adf/x"
    assert.equal(503, status)
    assert.equal("throttled", answer.json.error.code)
    assert.is_true(math.abs(tonumber(answer["retry-after"]) - 40) <= 1)
  end)

  it("says so where Data Factory answers without an access", function()
    support.fault { status = 200, body = "{}", match = { operation = "getDataPlaneAccess" } }
    local status, answer = server:get "/adf/x"
    assert.equal(502, status)
    assert.equal("protocol", answer.json.error.code)
  end)
end)

describe("the example", function()
  before_each(support.reset)

  -- Tries to start it; returns what it says where it does not.
  local function complaint(variables)
    local server = example.start(variables)
    return server:stop()
  end

  it("does not start without what it needs", function()
    assert.matches("HOOK_KEY is not set", complaint { HOOK_KEY = "" })
    assert.matches("must have 32 characters", complaint { HOOK_KEY = "short" })
    assert.matches("no/such/file", complaint { HOOK_KEY_FILE = "/no/such/file" })
    assert.matches("'one' is not GROUP/FACTORY", complaint { FACTORIES = "one" })
  end)

  it("takes its key from a file", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(example.KEY, "\n")
    file:close()
    local server = example.start { HOOK_KEY = "", HOOK_KEY_FILE = path }
    os.remove(path)
    assert.equal(400, (server:call(nil, "{}")))
    stop(server)
  end)

  it("leaves nothing behind", function()
    local directory = example.output_of "mktemp -d":match "%S+"
    local server = example.start { TMPDIR = directory }
    assert.is_not.equal("", example.output_of("ls " .. directory))
    stop(server)
    assert.equal("", example.output_of("ls " .. directory))
    assert.is_nil(socket.connect("127.0.0.1", server.port))
    os.remove(directory)
  end)
end)
