-- Measures, from outside, the nginx that bench/nginx has started, and prints a table.
local cjson = require "cjson"
local socket = require "socket"
local support = require "spec.support"

local CALLS, WARM_UP = tonumber(os.getenv "CALLS" or 20000), 10000
local RELOADS = tonumber(os.getenv "RELOADS" or 20)
local DIR = os.getenv "DIR"
local PORT = tonumber(os.getenv "PORT")
local URL = "http://127.0.0.1:" .. PORT
local SECONDS, ROUNDS = 1, 15 -- of wrk, with and without calls
local SAMPLES = 300 -- of the latency of a call
local LATENCY = { slow = 1, quick = 0.05, instant = 0 } -- of factories

local sleep = socket.sleep

local missed = 0

-- Prints a line: `good` says whether the target was met.
local function report(name, measured, target, good, note)
  if not good then missed = missed + 1 end
  print(("%-44s %9s   %-16s %-6s %s"):format(name, measured, target, good and "" or "MISSED",
    note or ""))
end

local function at_most(name, format, value, limit, note)
  report(name, format:format(value), "at most " .. format:format(limit), value <= limit, note)
end

-- Starts a function of bench/nginx_worker.lua, with a query; returns one that waits for its result.
local function start_worker(query, ...)
  local connection = assert(socket.connect("127.0.0.1", PORT))
  assert(connection:send(("GET /%s HTTP/1.0\r\n\r\n"):format(query:format(...))))
  return function()
    local answer = assert(connection:receive "*a")
    local status, body = answer:match "^HTTP/%S+ (%d+).-\r\n\r\n(.*)"
    connection:close()
    if status ~= "200" then error(("%s: %s"):format(query, answer)) end
    return cjson.decode(body).result
  end
end

local function worker(...)
  return start_worker(...)()
end

local function quantile(list, share)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * share))]
end

local function median(list)
  return quantile(list, 0.5)
end

local function mean(list)
  local sum = 0
  for _, value in ipairs(list) do sum = sum + value end
  return sum / #list
end

local function start_wrk(connections, seconds, path, options)
  -- `exec`, so that the number is wrk's
  return assert(io.popen(("echo $$; exec wrk -t 1 -c %d -d %d --latency %s %s/%s 2>&1"):format(
    connections, seconds, options or "", URL, path)))
end

local UNITS = { us = 1e-3, ms = 1, s = 1e3, m = 60e3 }

-- Returns requests per second, p99 in ms, and all that wrk said.
local function read_wrk(pipe)
  local said = pipe:read "a"
  pipe:close()
  local rate = assert(said:match "Requests/sec:%s+([%d.]+)", said)
  local number, unit = said:match "99%%%s+([%d.]+)(%a+)"
  return tonumber(rate), tonumber(number) * UNITS[unit], said
end

-- wrk asks for a small file over 16 connections as fast as it can, which takes the whole worker. So
-- what the calls cost is what the file's throughput loses: by the worker's processor time, as the
-- simulator, wrk and whatever else the machine does take turns on the other processors and, where
-- those are few, on the worker's. wrk's quantiles count the requests that a pause has held back.
local function static_load()
  local before = worker "clock"
  local rate, p99 = read_wrk(start_wrk(16, SECONDS, "static"))
  return { clock = rate, processor = rate * SECONDS / (worker "clock" - before), p99 = p99 }
end

-- The same while 100 calls are in flight, of which the first begin in the course of `spread` seconds.
local function static_load_beside(spread)
  local finish = start_worker("hold?factory=slow&count=100&spread=%g&seconds=%g", spread,
    SECONDS + 1)
  sleep(1)
  local load = static_load()
  load.longest = finish()
  return load
end

local function compare(name, idle, busy)
  local shares, by_clock, rises, longest = {}, {}, {}, 0
  for i = 1, ROUNDS do
    shares[i] = 100 * busy[i].processor / idle[i].processor
    by_clock[i] = 100 * busy[i].clock / idle[i].clock
    rises[i] = busy[i].p99 - idle[i].p99
    longest = math.max(longest, busy[i].longest)
  end
  local share = median(shares)
  report(name .. ": throughput", ("%.1f %%"):format(share), "at least 95 %", share >= 95,
    ("%.1f to %.1f; by the clock %.1f"):format(shares[1], shares[ROUNDS], median(by_clock)))
  at_most("  rise of its p99", "%.2f ms", median(rises), 2,
    ("%.2f to %.2f"):format(rises[1], rises[ROUNDS]))
  at_most("  longest of the calls of 1 s", "%.3f s", longest, 1.1)
end

-- Rounds without calls, with calls that are spread over their second, and with calls that all begin
-- and end at once take turns, and each is compared with its neighbour, as the machine's speed drifts.
local function beside_static_load()
  local idle, spread, at_once = {}, {}, {}
  worker "hold?factory=slow&count=100&spread=0&seconds=0.1" -- has the connections made
  for i = 1, ROUNDS do
    idle[i], spread[i], at_once[i] = static_load(), static_load_beside(1), static_load_beside(0)
  end
  compare("static file beside 100 calls", idle, spread)
  compare("static file beside 100 at once", idle, at_once)
end

local function waiting()
  local used = {}
  for round = 1, ROUNDS do used[round] = worker "wait?factory=slow&count=100" end
  at_most("processor time in a second of 100 calls", "%.3f s", median(used), 0.1)
end

-- Both clients measure from before the call to its answer; the upstream's latency is taken off both.
local function latency(beside)
  local taken = worker("latency?factory=quick&beside=%d&calls=%d", beside, SAMPLES)
  local function added(client, figure, ...)
    return 1e3 * (figure(taken[client], ...) - LATENCY.quick)
  end
  local function line(name, limit, ...)
    at_most(name, "%.2f ms", added("library", ...), limit,
      ("%.2f by a plain client"):format(added("plain", ...)))
  end
  line("added to a call" .. (beside > 0 and " beside " .. beside or "") .. ", mean", 1.2, mean)
  line("  p99", 2.5, quantile, 0.99)
end

local function resident(pid)
  for line in io.lines(("/proc/%d/status"):format(pid)) do
    local kilobytes = line:match "^VmRSS:%s*(%d+)"
    if kilobytes then return kilobytes / 1024 end
  end
end

local function memory(pid)
  local heap = worker "heap"
  return resident(pid), heap
end

-- In many requests, as a request's own memory goes when it ends.
local function make_calls(count)
  for _ = 1, count / 1000 do worker "calls?factory=instant&count=64&calls=1000" end
end

-- The limit is 50 bytes for each of 90,000 calls: what the allocator and the collector keep goes on
-- rising a little for some time.
local function growth()
  local pid = worker "pid"
  make_calls(WARM_UP)
  local before, heap_before = memory(pid)
  make_calls(CALLS - WARM_UP)
  local after, heap_after = memory(pid)
  at_most(("memory from %d to %d calls"):format(WARM_UP, CALLS), "%+.1f MiB", after - before, 4.5,
    ("to %.1f MiB; Lua's heap %+.2f"):format(after, (heap_after - heap_before) / 1024))
end

-- Returns once a new worker runs.
local function reload()
  local before = worker "workers"
  assert(os.execute(("nginx -e /dev/null -p . -c %s/nginx.conf -s reload"):format(DIR)))
  while worker "workers" == before do sleep(0.005) end
end

-- Each request has a connection of its own: one that is kept may be closed by a worker that ends.
local function reloads()
  local wrk = start_wrk(32, 3600, "call?factory=quick", "-H 'Connection: close'")
  local pid = wrk:read "l"
  for _ = 1, RELOADS do reload() end
  assert(os.execute("kill -INT " .. pid))
  local _, _, said = read_wrk(wrk)
  local calls = said:match "(%d+) requests in"
  local connect, read, write, timeout = said:match
    "connect (%d+), read (%d+), write (%d+), timeout (%d+)"
  local failed = said:match "Non%-2xx or 3xx responses: (%d+)" or 0
  local lost = failed + (read or 0) + (write or 0) + (timeout or 0)
  at_most(("of %d calls during %d reloads are lost"):format(calls, RELOADS), "%d", lost, 0)
  if connect and connect ~= "0" then print("  refused connections: " .. connect) end
end

support.control("POST", "settings", { journal = false })
for name, seconds in pairs(LATENCY) do
  support.factory { factoryName = name, runtimes = 1, latency = seconds }
end
print "\ninside of nginx, one worker, TLS on loopback"
beside_static_load()
waiting()
latency(0)
latency(50)
growth()
reloads()
print(missed == 0 and "every target is met" or missed .. " missed")
