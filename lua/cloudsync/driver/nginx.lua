--- Waits in nginx's light threads, without blocking the worker.
--
-- A pump for each worker runs, in a timer, while calls are in flight: nginx can't wait on a descriptor
-- that is not its own.
local blocking = require "cloudsync.driver.blocking"
local core = require "cloudsync.core"
local loop = require "cloudsync.driver.loop"
local semaphore = require "ngx.semaphore"

local STEP = 0.001 -- s

local CAN_WAIT = { rewrite = true, server_rewrite = true, access = true, content = true,
  timer = true, ssl_cert = true }

local host = {}

function host.check()
  local phase = ngx.get_phase()
  if not CAN_WAIT[phase] then
    error(("cloudsync: nothing can wait in nginx's phase %s; call this in a function that is given "
      .. "to ngx.timer.at(0, ...)"):format(phase), 0)
  end
  if not core.is_yieldable() then
    error("cloudsync: nginx can't wait below a C function such as require, table.sort or "
      .. "string.gsub; call this outside of it", 0)
  end
end

function host.signal()
  return assert(semaphore.new())
end

function host.wait(signal, seconds)
  signal:wait(seconds)
end

function host.set(signal)
  signal:post()
end

-- By nginx's own clock, which may be a little behind.
function host.sleep(seconds)
  local deadline = core.now() + seconds
  repeat ngx.sleep(math.max(0.001, deadline - core.now())) until core.now() >= deadline
end

function host.spawn(fn)
  ngx.thread.spawn(fn)
end

-- A worker that is to end runs pending timers at once, as premature ones: what is in flight is brought
-- to its end all the same. Where there is no light thread, a finalizer may be running with no request.
function host.pump(step)
  return not core.is_main_thread() and ngx.timer.at(0, function()
    while step() do ngx.sleep(STEP) end
  end)
end

function host.outlive(fn)
  return ngx.timer.at(0, fn)
end

local driver = loop.new(host)
local finish = driver.finish

-- A worker that ends closes its Lua state: there is no later. Elsewhere the next call moves this one
-- too.
function driver.finish(transfer)
  if core.is_main_thread() and ngx.worker.exiting() then return blocking.finish(transfer) end
  finish(transfer)
end

return driver
