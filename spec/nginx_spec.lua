--- Inside of nginx: in which phases a call can wait, that it blocks no worker, and what becomes of it
-- when its request, its worker or nginx ends.
local support = require "spec.support"

-- What is shown here is shown from outside, and once: it is nginx's interpreter that counts.
if support.in_nginx or not rawget(_G, "jit") then return end

-- A build for Lua alone has nothing that nginx, whose interpreter is LuaJIT, could load.
local core = io.open((os.getenv "BUILD" or "build") .. "/luajit/cloudsync/core.so")
if not core then return end
core:close()

local cjson = require "cjson"
local nginx = require "spec.nginx.server"
local socket = require "socket"

local poll = support.poll

local function received(service)
  return support.requests("service=" .. service)
end

-- Waits until the simulator has received so many requests of a service.
local function wait_for(count, service)
  assert(poll(function() return #received(service) >= count end), "the requests do not come")
end

local function delay(service, seconds, times)
  support.fault { delay = seconds, times = times or 0, match = { service = service } }
end

local function name_of(i)
  return ("ir-%04d"):format(i)
end

-- Sends a chunk many times, a connection for each; NAME in it is a name of each.
local function send_many(server, count, chunk, path)
  local connections = {}
  for i = 1, count do
    connections[i] = server:send(path or "/run", (chunk:gsub("NAME", name_of(i))))
  end
  return connections
end

-- Fails unless each connection gives its own name.
local function assert_answers(connections)
  for i, connection in ipairs(connections) do
    assert.equal(name_of(i), connection:value())
    connection:close()
  end
end

-- Ends the server, and fails where a worker has crashed, something else was wrong with nginx, or a
-- function of the library's has raised where nobody could catch it.
local function stop(server)
  local found = {}
  for line in server:log():gmatch "[^\n]+" do
    local wrong = line:find "%[emerg%]" or line:find "%[alert%]" or line:find "%[crit%]"
      or line:find "runtime error"
    if wrong and not line:find "lua_code_cache is off" then found[#found + 1] = line end
  end
  server:stop()
  assert.same({}, found)
end

-- Runs chunks.
local SERVER = [[
  lua_check_client_abort on;
  lua_shared_dict tokens 1m;
  init_by_lua_block {
    served = require "spec.nginx.served"
    require "cloudsync.core".engine() -- which the workers are not to use
  }
  server {
    listen unix:@DIR@/socket;
    location = /run { content_by_lua_block { served.run() } }
    location = /static { return 200 "static"; }
    location = /fresh {
      lua_code_cache off;
      content_by_lua_block { served.run() }
    }
  }
]]

-- For each phase a location of its name, in which, or behind which, a call is made in that phase.
local PHASES = [[
  lua_shared_dict outcomes 1m;
  init_by_lua_block { served = require "spec.nginx.served" served.attempt() }
  init_worker_by_lua_block { served.attempt() }
  exit_worker_by_lua_block { served.attempt() }
  ssl_certificate @CERTIFICATE@/server.pem;
  ssl_certificate_key @CERTIFICATE@/server.key;
  upstream balanced {
    server 0.0.0.1;
    balancer_by_lua_block { served.attempt() ngx.exit(502) }
  }
  server {
    listen unix:@DIR@/ssl_cert ssl;
    ssl_certificate_by_lua_block { served.attempt() }
    location / { return 204; }
  }
  server {
    listen unix:@DIR@/server_rewrite;
    server_rewrite_by_lua_block { served.attempt() }
    location / { return 204; }
  }
  server {
    listen unix:@DIR@/socket;
    location / { return 204; }
    location = /run { content_by_lua_block { served.run() } }
    location = /rewrite { rewrite_by_lua_block { served.attempt() ngx.exit(204) } }
    location = /access { access_by_lua_block { served.attempt() ngx.exit(204) } }
    location = /content { content_by_lua_block { served.attempt() ngx.exit(204) } }
    location = /timer {
      content_by_lua_block { ngx.timer.at(0, served.attempt) ngx.exit(204) }
    }
    location = /ssl_cert { proxy_pass https://unix:@DIR@/ssl_cert:/; }
    location = /server_rewrite { proxy_pass http://unix:@DIR@/server_rewrite:/; }
    location = /set { set_by_lua_block $unused { served.attempt() } return 204; }
    location = /balancer { proxy_pass http://balanced; }
    location = /header_filter { header_filter_by_lua_block { served.attempt() } return 204; }
    location = /body_filter { body_filter_by_lua_block { served.attempt() } return 200 "text"; }
    location = /log { log_by_lua_block { served.attempt() } return 204; }
  }
]]

describe("a call in nginx", function()
  local server

  setup(function()
    support.reset()
    local directory = support.env "CA_FILE":match "^(.*)/"
    server = nginx.start((PHASES:gsub("@CERTIFICATE@", directory)))
  end)

  teardown(function() stop(server) end)

  before_each(support.reset)

  local function outcome(phase)
    if phase == "exit_worker" then server:signal "hangup" else server:get("/" .. phase) end
    return poll(function()
      local found = server:run(("return ngx.shared.outcomes:get %q"):format(phase))
      return found ~= cjson.null and found
    end)
  end

  for _, phase in ipairs { "server_rewrite", "rewrite", "access", "content", "timer",
    "ssl_cert" } do
    it(("is made in the phase %s"):format(phase), function()
      assert.equal("ir-0001", outcome(phase))
      assert.equal(1, #received "arm")
    end)
  end

  for _, phase in ipairs { "init", "init_worker", "set", "balancer", "header_filter",
    "body_filter", "log", "exit_worker" } do
    it(("raises in the phase %s, and nothing is sent"):format(phase), function()
      local said = outcome(phase)
      assert.matches("raised: ", said, 1, true)
      assert.matches(("phase %s;"):format(phase), said, 1, true)
      assert.matches("ngx.timer.at", said, 1, true)
      assert.equal(0, #support.requests())
    end)
  end
end)

describe("a worker of nginx", function()
  local server, pid

  setup(function()
    support.reset()
    server = nginx.start(SERVER)
    pid = server:run "return ngx.worker.pid()"
  end)

  teardown(function()
    local same = pid == server:run "return ngx.worker.pid()"
    stop(server)
    assert.is_true(same)
  end)

  before_each(support.reset)

  -- How often the worker has slept, and thus was woken.
  local function sleeps()
    local file = assert(io.open(("/proc/%d/status"):format(pid)))
    local text = file:read "*a"
    file:close()
    return tonumber(text:match "\nvoluntary_ctxt_switches:%s*(%d+)")
  end

  local function descriptors()
    local pipe = io.popen(("ls /proc/%d/fd | wc -l"):format(pid))
    local count = tonumber(pipe:read "*a")
    pipe:close()
    return count
  end

  local function is_idle()
    return server:run "return served.running() + ngx.timer.running_count()" == 0
  end

  it("goes on with other requests while many calls are under way, all at once", function()
    local count = 40
    support.wait_for_quiet()
    support.control("POST", "settings", { latency = 1 })
    local connections = send_many(server, count, "return served.call 'NAME'")
    wait_for(1, "arm")
    for _ = 1, 5 do assert.equal(200, (server:get "/static")) end
    assert.is_false(connections[1]:is_answered())
    assert_answers(connections)
    assert.equal(count, support.max_in_flight())
  end)

  it("sleeps when nothing is in flight, and runs no timer", function()
    delay("arm", 0.3)
    local connection = server:send("/run", "return served.call()")
    wait_for(1, "arm")
    assert.is_false(is_idle())
    connection:value()
    connection:close()
    assert(poll(is_idle))
    local before = sleeps()
    socket.sleep(0.3)
    assert.is_true(sleeps() - before < 5)
  end)

  it("waits in a map, in tasks and in a sleep", function()
    assert.same({ "ir-0001", "ir-0002", "ir-0003" }, server:run [[
      return (cloudsync.map({ "ir-0001", "ir-0002", "ir-0003" }, function(name)
        return served.call(name)
      end))
    ]])
    assert.same({ "ir-0001", "ir-0002", "raised" }, server:run [[
      local first, second = cloudsync.spawn(served.call), cloudsync.spawn(served.call, "ir-0002")
      local third = cloudsync.spawn(function() cloudsync.sleep(0.01) error("raised", 0) end)
      return { first:wait(), second:wait(), select(2, pcall(third.wait, third)) }
    ]])
    assert.is_true(server:run [[
      local started = cloudsync.now()
      cloudsync.sleep(0.05)
      return cloudsync.now() - started >= 0.05
    ]])
  end)

  it("waits in coroutines of the program's own", function()
    assert.same({ "ir-0001", "ir-0002" }, server:run [[
      local both = coroutine.wrap(function()
        coroutine.yield(served.call())
        return served.call "ir-0002"
      end)
      return { both(), both() }
    ]])
  end)

  it("waits for a task no longer than it is told", function()
    delay("arm", 0.5)
    assert.same({ "timeout", "ir-0001" }, server:run [[
      local task = cloudsync.spawn(served.call)
      return { select(2, task:wait(0.05)), task:wait() }
    ]])
  end)

  it("raises below a C function, and nothing is sent", function()
    local ok, err = pcall(server.run, server, [[
      return (("x"):gsub("x", function() return served.call() end))
    ]])
    assert.is_false(ok)
    assert.matches("below a C function", err, 1, true)
    assert.equal(0, #support.requests())
  end)

  it("takes calls of many Lua states, one for each request, without the code cache", function()
    server:run "return served.call()"
    local before = descriptors()
    for _ = 1, 3 do
      assert_answers(send_many(server, 20, "return served.call 'NAME'", "/fresh"))
    end
    assert.equal(61, #received "arm")
    -- their connections go with them
    assert(poll(function() return descriptors() <= before end))
  end)

  it("closes Lua states whose requests are gone with their calls in flight", function()
    local before = descriptors()
    delay("arm", 0.5)
    local connections = send_many(server, 5,
      "ngx.on_abort(function() ngx.exit(499) end) return served.call()", "/fresh")
    wait_for(5, "arm")
    for _, connection in ipairs(connections) do connection:close() end
    assert(poll(function() return descriptors() <= before end))
  end)

  describe("ends a call", function()
    local late = 4 -- s that the simulator takes

    before_each(function()
      assert(poll(is_idle))
      delay("arm", late, 1)
    end)

    -- Whether the call has ended before its answer came, and another can be made.
    after_each(function()
      local started = socket.gettime()
      assert(poll(function() return server:run "return served.running()" == 0 end))
      assert.is_true(socket.gettime() - started < late / 2)
      assert.equal("ir-0002", server:run "return served.call 'ir-0002'")
      assert.equal(2, #received "arm")
      assert(poll(is_idle))
    end)

    it("whose client has gone", function()
      local connection = server:send("/run", [[
        ngx.on_abort(function() ngx.exit(499) end)
        return served.call()
      ]])
      wait_for(1, "arm")
      connection:close()
    end)

    it("whose light thread is killed", function()
      assert.is_true(server:run [[
        local thread = ngx.thread.spawn(served.call)
        ngx.sleep(0.2)
        return ngx.thread.kill(thread) == 1
      ]])
      assert.equal(1, #received "arm")
    end)

    it("whose request is left by another light thread", function()
      local connection = server:send("/run", [[
        ngx.thread.spawn(served.call)
        ngx.sleep(0.2)
        ngx.exit(204)
      ]])
      assert.equal(204, (connection:answer()))
      connection:close()
      assert.equal(1, #received "arm")
    end)

    it("whose deadline passes", function()
      assert.equal("timeout", server:run [[
        local _, err = served.call("ir-0001", served.adf, { deadline = 0.3 })
        return err.kind
      ]])
    end)
  end)

  describe("gives a token to all who wait for it, though", function()
    before_each(function()
      delay("entra", 0.5)
      server:run "served.signing_in = served.client() return true"
    end)

    it("the client of who asked first has gone", function()
      local first = server:send("/run", [[
        ngx.on_abort(function() ngx.exit(499) end)
        return served.call("ir-0001", served.signing_in)
      ]])
      wait_for(1, "entra")
      local others = send_many(server, 5, "return served.call('NAME', served.signing_in)")
      server:get "/static" -- when it is answered, the others wait
      first:close()
      assert_answers(others)
      assert.equal(1, #received "entra")
      assert.equal(5, #received "arm")
    end)

    it("the light thread that asked first is killed", function()
      assert.equal("ir-0002", server:run [[
        local first = ngx.thread.spawn(served.call, "ir-0001", served.signing_in)
        local second = ngx.thread.spawn(served.call, "ir-0002", served.signing_in)
        ngx.sleep(0.1)
        ngx.thread.kill(first)
        return select(2, ngx.thread.wait(second))
      ]])
      assert.equal(1, #received "entra")
      assert.equal(1, #received "arm")
    end)

    it("the request that asked first ends before it has sent anything", function()
      local first = server:send("/run", [[
        ngx.thread.spawn(function() ngx.sleep(0) ngx.exit(204) end)
        return served.call("ir-0001", served.signing_in)
      ]])
      assert.equal(204, (first:answer()))
      first:close()
      assert.equal("ir-0002", server:run [[
        return served.call("ir-0002", served.signing_in, { deadline = 5 })
      ]])
      assert.equal(1, #received "entra")
    end)
  end)
end)

describe("a worker of nginx whose timers are all in use", function()
  it("makes calls and gets tokens all the same", function()
    support.reset()
    local server = nginx.start("lua_max_running_timers 1;" .. SERVER)
    server:run "return ngx.timer.at(0, function() ngx.sleep(20) end)"
    local ok, name = pcall(server.run, server, "return served.call('ir-0001', served.client())")
    server:stop()
    assert.is_true(ok, name)
    assert.equal("ir-0001", name)
  end)
end)

describe("two workers of nginx", function()
  it("have connections and answers of their own, by a client that was made before them", function()
    support.reset()
    local server = nginx.start(SERVER, 2)
    local workers = server:workers(2)
    for first, worker in ipairs(workers) do
      worker:send("/run", ([[
        local names = {}
        for i = %d, 40, 2 do names[#names + 1] = ("ir-%%04d"):format(i) end
        local results, failures = cloudsync.map(names, function(name)
          return served.call(name)
        end, { concurrency = 5 })
        assert(#failures == 0)
        for i, name in ipairs(names) do assert(results[i] == name) end
        return #names
      ]]):format(first))
    end
    for _, worker in ipairs(workers) do assert.equal(20, worker:value()) end
    local kind_of, count = {}, 0 -- of a connection: whether it is of odd or of even names
    for _, request in ipairs(received "arm") do
      local kind = tonumber(request.path:match "ir%-(%d+)") % 2
      assert.equal(kind, kind_of[request.connection] or kind)
      kind_of[request.connection], count = kind, count + 1
    end
    assert.equal(40, count)
    stop(server)
  end)
end)

describe("the workers of nginx", function()
  local server, workers
  local count = 4

  setup(function()
    support.reset()
    server = nginx.start(SERVER, count)
  end)

  teardown(function() server:stop() end)

  before_each(function()
    support.reset()
    workers = server:workers(count)
    workers[1]:run "ngx.shared.tokens:flush_all() return true"
    delay("entra", 0.2)
  end)

  after_each(function()
    for _, worker in ipairs(workers) do worker:close() end
  end)

  local function on_all(chunk)
    local values = {}
    for _, worker in ipairs(workers) do worker:send("/run", chunk) end
    for i, worker in ipairs(workers) do values[i] = worker:value() end
    return values
  end

  local MANY = [[
    local _, failures = cloudsync.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(i)
      return served.call("ir-000" .. i, served.signing_in)
    end)
    return failures[1] and tostring(failures[1].err) or "all"
  ]]
  local ALL = { "all", "all", "all", "all" }

  local SHARING = "served.signing_in = served.client { cache = ngx.shared.tokens } return true"

  -- A worker that has asked for a token, but not had it yet, is killed.
  local function kill_first()
    support.reset()
    delay("entra", 2, 1)
    workers[1]:send("/run", "return served.call('ir-0001', served.signing_in)")
    wait_for(1, "entra")
    server:signal("kill", workers[1].pid)
    table.remove(workers, 1):close()
  end

  it("ask for a token each where they share none", function()
    on_all "served.signing_in = served.client() return true"
    assert.same(ALL, on_all(MANY))
    assert.equal(count, #received "entra")
  end)

  it("ask for a token once where they share it", function()
    on_all(SHARING)
    assert.same(ALL, on_all(MANY))
    assert.equal(1, #received "entra")
    assert.equal(count * 8, #received "arm")
  end)

  it("replace a token once that is no longer good", function()
    on_all(SHARING)
    on_all(MANY)
    support.control("POST", "tokens/revoke")
    assert.same(ALL, on_all(MANY))
    assert.equal(2, #received "entra")
    assert.same(ALL, on_all(MANY))
    assert.equal(2, #received "entra")
  end)

  it("give no token to who does not have the secret", function()
    on_all(SHARING)
    on_all(MANY)
    assert.equal("auth", workers[1]:run [[
      local other = served.client { client_secret = "wrong", cache = ngx.shared.tokens }
      local _, err = served.call("ir-0001", other)
      return err.kind
    ]])
    assert.equal(2, #received "entra")
    assert.equal(count * 8, #received "arm")
  end)

  it("do not put the secret into what they share", function()
    on_all(SHARING)
    on_all(MANY)
    local kept = workers[1]:run [[
      local found = {}
      for _, key in ipairs(ngx.shared.tokens:get_keys()) do
        found[#found + 1] = key .. tostring(ngx.shared.tokens:get(key))
      end
      return table.concat(found)
    ]]
    assert.matches(support.env "CLIENT_ID", kept, 1, true)
    assert.is_nil(kept:find(support.env "CLIENT_SECRET", 1, true))
  end)

  it("wait for one that was killed while it asked no longer than their deadline", function()
    on_all(SHARING)
    kill_first()
    local said = workers[1]:run [[
      local _, err = served.call("ir-0001", served.signing_in, { deadline = 0.3 })
      return { err.kind, err.outcome, err.message }
    ]]
    assert.same({ "timeout", "not_sent" }, { said[1], said[2] })
    assert.matches("another worker", said[3], 1, true)
    assert.equal(1, #received "entra")
  end)

  it("ask in place of one that was killed while it asked", function()
    on_all(SHARING)
    kill_first()
    -- what remains of its minute is cut short
    assert.equal(1, workers[1]:run [[
      local cut = 0
      for _, key in ipairs(ngx.shared.tokens:get_keys()) do
        assert(key:find "^lock ")
        if ngx.shared.tokens:expire(key, 0.3) then cut = cut + 1 end
      end
      return cut
    ]])
    assert.same({ "all", "all", "all" }, on_all(MANY))
    assert.equal(2, #received "entra")
  end)
end)

describe("nginx", function()
  local server

  before_each(function()
    support.reset()
    server = nginx.start(SERVER)
  end)

  after_each(function() stop(server) end)

  -- Fails where the shutdown had to be enforced, which nginx.conf.in allows after 10 s.
  local function assert_ends()
    local started = socket.gettime()
    assert(poll(function() return not server:pid() end))
    assert.is_true(socket.gettime() - started < 7)
  end

  it("quits at once when nothing is in flight", function()
    assert.equal("ir-0001", server:run "return served.call()")
    server:signal "quit"
    assert_ends()
  end)

  it("quits when the calls in flight have ended", function()
    delay("arm", 0.5)
    local connections = send_many(server, 10, "return served.call 'NAME'")
    wait_for(10, "arm")
    server:signal "quit"
    assert_answers(connections)
    assert_ends()
  end)

  it("makes the calls that begin while it quits, those of timers too, with their tokens", function()
    delay("arm", 0.3)
    local connection = server:send("/run", [[
      local adf = served.client()
      served.call()
      assert(ngx.worker.exiting())
      assert(ngx.timer.at(0, function()
        served.call("ir-0003", adf)
        served.call("ir-0004", adf)
      end))
      return served.call("ir-0002", adf)
    ]])
    wait_for(1, "arm")
    server:signal "quit"
    assert.equal("ir-0002", connection:value())
    connection:close()
    assert_ends()
    assert.equal(1, #received "entra")
    local statuses = {}
    for i, request in ipairs(received "arm") do statuses[i] = request.status end
    assert.same({ 200, 200, 200, 200 }, statuses)
  end)

  it("loses no call when it is reloaded again and again, and keeps its shared tokens", function()
    delay("arm", 0.1)
    local chunk = [[
      served.signing_in = served.signing_in or served.client { cache = ngx.shared.tokens }
      return served.call("NAME", served.signing_in)
    ]]
    local pids, workers = {}, 0
    for _ = 1, 10 do
      local before = send_many(server, 8, chunk)
      server:signal "hangup"
      local after = send_many(server, 8, chunk)
      assert_answers(before)
      assert_answers(after)
      local pid = server:run "return ngx.worker.pid()"
      if not pids[pid] then pids[pid], workers = true, workers + 1 end
    end
    assert.is_true(workers > 2)
    assert.equal(1, #received "entra")
    assert.equal(160, #received "arm")
    server:signal "quit"
    assert_ends()
  end)
end)
