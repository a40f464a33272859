--- Makes a driver of an event loop that runs coroutines.
--
-- The loop is given as a table of functions:
--
--   - `is_current()`: whether the code that runs is a coroutine of the loop's
--   - `signal()`, `wait(signal, seconds)`, `set(signal)`: what one coroutine waits for, until another
--     sets it, which may be before, or the time is over
--   - `sleep(seconds)`
--   - `spawn(fn)`: runs a function in a coroutine of the loop's
--   - `pump(step)`: calls `step()`, which does not wait, whenever the descriptor
--     `cloudsync.core.engine():pollfd()` is readable, or often enough, until `step()` returns false;
--     returns at once, and whether it can
--   - `check()`, which may be left out: raises where the code that runs can't wait
--   - `outlive(fn)`, which may be left out: runs a function where nobody ends it; whether it can
--
-- `cloudsync.driver.add(loop.new(functions))` makes it known.
local core = require "cloudsync.core"

local loop = {}

local unpack = table.unpack or unpack

local function pack(...)
  return { n = select("#", ...), ... }
end

local STALLED = 1 -- s after which a pump is taken for dead
local WITHOUT_PUMP = 0.01 -- s between two steps of who waits where there is no pump

local Event = {}
Event.__index = Event

function Event:set()
  self.happened = true
  for _, signal in ipairs(self.waiters) do self.host.set(signal) end
  self.waiters = {}
end

-- Returns whether it happened before the deadline.
function Event:wait(deadline)
  while not self.happened do
    local left = deadline and deadline - core.now() or math.huge
    if left <= 0 then return false end
    local signal = self.host.signal()
    self.waiters[#self.waiters + 1] = signal
    self.host.wait(signal, math.min(left, 60))
  end
  return true
end

--- Makes the driver.
-- @tparam table host see above
function loop.new(host)
  -- by the number of a transfer; who was ended while waiting is not kept
  local waiting, kept = setmetatable({}, { __mode = "v" }), {} -- luacheck: ignore 241
  local pumped = -math.huge -- when a pump was last seen alive

  -- Steps the engine and wakes those whose transfers are done. Returns whether any is in flight.
  local function step()
    local engine = core.engine()
    engine:step(0)
    for number in engine.next, engine do
      local signal = waiting[number]
      waiting[number], kept[number] = nil, nil
      if signal then host.set(signal) end
    end
    return engine:running() > 0
  end

  local function turn()
    local going = step()
    pumped = going and core.now() or -math.huge
    return going
  end

  -- Steps, and sees to it that it goes on. Returns for how long one may wait for that.
  local function pump()
    if not step() or core.now() - pumped < STALLED then return STALLED end
    pumped = core.now()
    if host.pump(turn) then return STALLED end
    pumped = -math.huge
    return WITHOUT_PUMP
  end

  local driver = { check = host.check, is_current = host.is_current, sleep = host.sleep,
    spawn = host.spawn }

  function driver.wait(transfer)
    local seconds = pump()
    while not transfer:done() do
      local signal = host.signal()
      waiting[transfer:number()] = signal
      host.wait(signal, seconds)
      if not transfer:done() then seconds = pump() end
    end
  end

  function driver.event()
    return setmetatable({ host = host, waiters = {} }, Event)
  end

  function driver.finish(transfer)
    kept[transfer:number()] = transfer
    pump()
  end

  function driver.outlive(fn, ...)
    if not host.outlive then return fn(...) end
    local ended, arguments, results = driver.event(), pack(...), nil
    local started = host.outlive(function()
      results = pack(pcall(fn, unpack(arguments, 1, arguments.n)))
      ended:set()
    end)
    if not started then return fn(...) end
    ended:wait()
    if not results[1] then error(results[2], 0) end
    return unpack(results, 2, results.n)
  end

  return driver
end

return loop
