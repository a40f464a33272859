-- A factory of 1,000 runtimes whose calls take 50 ms each, 64 at a time: the wall time against the
-- ideal, calls x 50 ms / 64, and the memory of the process.
local support = require "spec.support"
local core = require "cloudsync.core"
local sync_factory = require "cloudsync.workflows.sync_factory"

local RUNTIMES, LATENCY, CONCURRENCY, ROUNDS = 1000, 0.05, 64, 7

local function peak_memory()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmHWM:%s*(%d+)"
    if kilobytes then return kilobytes / 1024 end
  end
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

local function measure(preflight)
  local ratios, calls = {}, 0
  for round = 1, ROUNDS do
    support.control("DELETE", "requests")
    local adf = support.datafactory()
    local started = core.now()
    local report = assert(sync_factory(adf, { concurrency = CONCURRENCY, preflight = preflight }))
    local elapsed = core.now() - started
    assert(report.counts.synced == RUNTIMES, "not every runtime was synced")
    calls = support.control("GET", "counts").total
    ratios[round] = elapsed / (calls * LATENCY / CONCURRENCY)
  end
  local middle = median(ratios)
  print(("%-34s %5d calls   wall / ideal %.2f (%.2f to %.2f)"):format(
    preflight and "sync_factory" or "sync_factory without preflight", calls, middle, ratios[1],
    ratios[ROUNDS]))
end

support.factory { factoryName = support.env "FACTORY", runtimes = RUNTIMES, latency = LATENCY }
measure(true)
measure(false)
print(("peak memory of the process          %.1f MiB"):format(peak_memory()))
