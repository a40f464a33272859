-- Whether memory stays flat: CALLS calls (1,000,000), CONCURRENCY at a time (16), and the memory of the
-- process after the first hundredth of them against that at the end.
local support = require "spec.support"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"

local CALLS = tonumber(os.getenv "CALLS") or 1000000
local CONCURRENCY = tonumber(os.getenv "CONCURRENCY") or 16

local function resident()
  collectgarbage()
  collectgarbage()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmRSS:%s*(%d+)"
    if kilobytes then return kilobytes / 1024 end
  end
end

support.control("POST", "settings", { journal = false })
local adf = support.datafactory { endpoint = support.env "PLAIN" }

local function make(calls)
  local left = calls
  local _, failures = cloudsync.map(function()
    left = left - 1
    return left >= 0 or nil
  end, function()
    local runtime, err = adf.integration_runtimes:get { integrationRuntimeName = "ir-0001" }
    if runtime and runtime.name ~= "ir-0001" then error "another call's answer" end
    return runtime ~= nil or nil, err
  end, { concurrency = CONCURRENCY })
  if failures[1] then error(failures[1].err) end
end

local started = core.now()
local portion = math.max(1, math.floor(CALLS / 100))
make(portion)
local first = resident()
print(("%9d calls   %6.2f MiB"):format(portion, first))
for i = 2, 100 do
  make(portion)
  if i % 10 == 0 then print(("%9d calls   %6.2f MiB"):format(i * portion, resident())) end
end
local last, seconds = resident(), core.now() - started
print(("%.2f MiB more than after the first, %.0f calls a second"):format(last - first,
  100 * portion / seconds))
os.exit(last - first < 4)
