--- Waits in the coroutines of a cqueues controller; others of it go on.
--
-- Each controller has a pump of its own, a coroutine in it, while calls of it are in flight. A program
-- that forks and goes on in a controller of its parent's has to call `cqueues.reset()`, as ever.
local core = require "cloudsync.core"
local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local loop = require "cloudsync.driver.loop"

local LONGEST = 0.5 -- s between two turns: a pump that is not heard of for longer is taken for dead

local function by_controller()
  return setmetatable({}, { __mode = "k" })
end

local pumps, hurries, tenders = by_controller(), by_controller(), by_controller()

-- Whose coroutine fetches a token must not be able to take it along: a controller can be thrown away,
-- or not be run while others wait. So that is done in the keeper, which is stepped by all who wait.
local keeper = cqueues.new()
local keeper_engine

local host = { signal = condition.new, sleep = cqueues.sleep }

-- Runs a function in a coroutine of the controller, if none of these is there.
local function run_one(routines, controller, fn)
  local routine = routines[controller]
  if routine and coroutine.status(routine) ~= "dead" then return end
  routines[controller] = coroutine.create(fn)
  controller:attach(routines[controller])
end

local function tend_keeper()
  while not keeper:empty() do assert(keeper:step(LONGEST)) end
end

-- Whether there is something to do in the keeper; after a fork its descriptors are the parent's.
local function is_keeping()
  local engine = core.engine()
  if keeper_engine and engine ~= keeper_engine then keeper:reset() end
  keeper_engine = engine
  return not keeper:empty()
end

-- A coroutine that the program made inside of one of the controller's is none of the controller's.
function host.is_current()
  return select(2, cqueues.running()) or false
end

function host.runner()
  return (cqueues.running())
end

function host.wait(signal, seconds)
  local controller = cqueues.running()
  if controller ~= keeper and is_keeping() then run_one(tenders, controller, tend_keeper) end
  signal:wait(seconds)
end

function host.set(signal)
  signal:signal()
end

function host.spawn(fn)
  cqueues.running():wrap(fn)
end

function host.pump(step)
  local controller = cqueues.running()
  local hurried = hurries[controller] or condition.new()
  hurries[controller] = hurried
  run_one(pumps, controller, function()
    while step() do cqueues.poll(core.engine(), hurried, LONGEST) end
  end)
  return true, function() hurried:signal() end
end

function host.outlive(fn)
  is_keeping()
  keeper:wrap(fn)
  return true
end

-- A coroutine inside of a controller's can't: what steps a controller there would yield.
function host.run(done, deadline)
  if cqueues.running() then return end
  while is_keeping() and not done() and core.now() < deadline do
    assert(keeper:step(math.min(LONGEST, deadline - core.now())))
  end
end

return loop.new(host)
