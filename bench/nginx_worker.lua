-- What runs inside of the worker: each path is a function, which is given the query and returns what
-- is answered as JSON.
local cjson = require "cjson"
local core = require "cloudsync.core"
local support = require "spec.support"

local worker = {}

local client = support.datafactory()

-- Factories of the simulator, each with its latency, have the names that are given here.
local function call(factory)
  local started = core.now()
  assert(client.integration_runtimes:sync_credentials {
    factoryName = factory, integrationRuntimeName = "ir-0001" })
  return core.now() - started
end

local HOST, PORT = support.env("ARM"):match "//(.-):(%d+)"

local function request(factory)
  return table.concat({
    ("POST /subscriptions/%s/resourceGroups/%s/providers/Microsoft.DataFactory/factories/%s"
      .. "/integrationRuntimes/ir-0001/syncCredentials?api-version=2018-06-01 HTTP/1.1"):format(
      support.env "SUBSCRIPTION_ID", support.env "RESOURCE_GROUP", factory),
    "Host: " .. HOST .. ":" .. PORT, "Authorization: Bearer " .. support.env "STATIC_TOKEN",
    "Accept: application/json", "Content-Length: 0", "", "",
  }, "\r\n")
end

-- The same call by a client that does nothing but what it must, over nginx's own sockets.
local function plain_call(factory)
  local started = core.now()
  local socket = ngx.socket.tcp()
  assert(socket:connect(HOST, tonumber(PORT)))
  assert(socket:sslhandshake(nil, "localhost", true)) -- it does not look for addresses
  assert(socket:send(request(factory)))
  local line = assert(socket:receive())
  assert(line:find "^HTTP/1.1 200", line)
  local length = 0
  while line ~= "" do
    length = line:lower():match "^content%-length: (%d+)" or length
    line = assert(socket:receive())
  end
  assert(socket:receive(tonumber(length)))
  assert(socket:setkeepalive())
  return core.now() - started
end

-- Runs `count` light threads and returns what they returned, once all have ended.
local function together(count, fn)
  local threads, results = {}, {}
  for i = 1, count do threads[i] = ngx.thread.spawn(fn, i) end
  for i = 1, count do
    local ok, result = ngx.thread.wait(threads[i])
    if not ok then error(result, 0) end
    results[i] = result
  end
  return results
end

-- Calls one after another until `done()`, and returns the time of the longest.
local function call_until(done, factory)
  local longest = 0
  while not done() do longest = math.max(longest, call(factory)) end
  return longest
end

--- Has `count` calls in flight for so many seconds; the first of them begin in the course of `spread`
-- seconds. Returns the time of the longest.
function worker.hold(query)
  local ends = core.now() + query.seconds
  return math.max(unpack(together(tonumber(query.count), function(i)
    ngx.sleep(query.spread * i / query.count)
    return call_until(function() return core.now() > ends end, query.factory)
  end)))
end

--- The processor time that a worker uses in a second in which `count` calls wait.
function worker.wait(query)
  local used
  together(query.count + 1, function(i)
    if i <= tonumber(query.count) then return call(query.factory) end
    ngx.sleep(0.1)
    local before, began = os.clock(), core.now()
    ngx.sleep(0.8)
    used = (os.clock() - before) / (core.now() - began)
  end)
  return used
end

--- How long calls take, by the library and by the plain client in turn, while `beside` others are in
-- flight, which are spread over the time that they take.
function worker.latency(query)
  local library, plain, over = {}, {}, false
  together(query.beside + 1, function(i)
    if i <= tonumber(query.beside) then
      ngx.sleep(i / query.beside)
      return call_until(function() return over end, "slow")
    end
    for n = 1, query.calls do
      library[n], plain[n] = call(query.factory), plain_call(query.factory)
    end
    over = true
  end)
  return { library = library, plain = plain }
end

--- Makes so many calls, `count` of them at a time.
function worker.calls(query)
  local left = tonumber(query.calls)
  together(tonumber(query.count), function()
    while left > 0 do
      left = left - 1
      call(query.factory)
    end
  end)
  return true
end

function worker.call(query)
  return call(query.factory)
end

--- The processor time that the worker has used.
function worker.clock()
  return os.clock()
end

function worker.pid()
  return ngx.worker.pid()
end

--- What Lua's heap holds, in KiB.
function worker.heap()
  collectgarbage()
  collectgarbage()
  return collectgarbage "count"
end

--- How many workers there have been.
function worker.workers()
  return ngx.shared.bench:get "workers"
end

function worker.serve()
  local name = ngx.var.uri:sub(2)
  local ok, result = pcall(worker[name], ngx.req.get_uri_args())
  if not ok then ngx.status = 500 end
  ngx.print(ok and cjson.encode { result = result } or tostring(result))
end

return worker
