-- Looks at two integration runtimes of a data factory side by side in libuv's loop (luv), while a
-- timer of libuv's ticks.
--
--   AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET   who signs in
--   AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZURE_FACTORY   which factory
--   AZURE_ENDPOINT, CA_FILE   only where it is not the public cloud
--
--   lua5.4 examples/luv.lua RUNTIME RUNTIME
local azure = require "cloudsync.azure"
local core = require "cloudsync.core"
local datafactory = require "cloudsync.datafactory"
local loop = require "cloudsync.driver.loop"
local uv = require "luv"

-- The driver, to be copied: what cloudsync has to know of a loop (see cloudsync/driver/loop.lua).

local ours = setmetatable({}, { __mode = "k" }) -- the coroutines that may wait here
local host = {}

local function resume(routine)
  local ok, err = coroutine.resume(routine)
  if not ok then io.stderr:write(debug.traceback(routine, tostring(err)), "\n") end
end

function host.is_current()
  return ours[coroutine.running()] or false
end

function host.spawn(fn)
  local routine = coroutine.create(fn)
  ours[routine] = true
  resume(routine)
end

-- A signal is set by letting its timer end at once, so that who sets it is not held up.
function host.signal()
  return { timer = uv.new_timer() }
end

function host.wait(signal, seconds)
  local routine, timer = coroutine.running(), signal.timer
  function signal.wake()
    timer:close()
    resume(routine)
  end
  uv.update_time() -- a timer counts from the time that the loop knows
  timer:start(signal.is_set and 0 or math.ceil(seconds * 1000), 0, signal.wake)
  coroutine.yield()
end

function host.set(signal)
  signal.is_set = true
  if signal.wake and not signal.timer:is_closing() then signal.timer:start(0, 0, signal.wake) end
end

function host.sleep(seconds)
  host.wait(host.signal(), math.max(0, seconds))
end

-- One descriptor tells of all transfers. The timer says that the pump is alive.
local poll, timer

local function stop()
  poll:close()
  timer:close()
  poll = nil
end

function host.pump(step)
  if poll then return true end
  local function turn()
    if poll and not step() then stop() end
  end
  poll, timer = uv.new_poll(core.engine():pollfd()), uv.new_timer()
  poll:start("r", turn)
  timer:start(500, 500, turn)
  return true
end

require "cloudsync.driver".add(loop.new(host))

-- The program. In a coroutine of host.spawn's a call, cloudsync.map and the rest suspend it alone.

local adf = datafactory.new {
  credential = azure.environment_credential { ca_file = os.getenv "CA_FILE" },
  endpoint = os.getenv "AZURE_ENDPOINT", ca_file = os.getenv "CA_FILE",
  subscriptionId = os.getenv "AZURE_SUBSCRIPTION_ID",
  resourceGroupName = os.getenv "AZURE_RESOURCE_GROUP", factoryName = os.getenv "AZURE_FACTORY",
}

local ticker, ticks, under_way = uv.new_timer(), 0, #arg
ticker:start(20, 20, function() ticks = ticks + 1 end)

for _, name in ipairs(arg) do
  host.spawn(function()
    local runtime, err = adf.integration_runtimes:get_status { integrationRuntimeName = name }
    print(name, runtime and runtime.properties.state or err)
    under_way = under_way - 1
    if under_way == 0 then ticker:close() end
  end)
end

uv.run()
print(ticks .. " ticks of the timer meanwhile")
