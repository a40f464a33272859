--- Calls in the event loops of programs: a cqueues controller, and libuv by examples/luv.lua.
local support = require "spec.support"
if support.in_nginx then return end -- which has a loop of its own

local cloudsync = require "cloudsync"
local condition = require "cqueues.condition"
local cqueues = require "cqueues"
local process = require "process"

local map, now, sleep, spawn = cloudsync.map, cloudsync.now, cloudsync.sleep, cloudsync.spawn

local unpack = table.unpack or unpack

local SLOW = 1.2 -- s, more than the second after which a pump is taken for dead

local function took(fn, ...)
  local started = now()
  fn(...)
  return now() - started
end

local function assert_took(least, most, seconds)
  assert.is_true(seconds >= least and seconds < most, ("it took %.3f s"):format(seconds))
end

local function names(count)
  local list = {}
  for i = 1, count do list[i] = ("ir-%04d"):format(i) end
  return list
end

local adf

local function status(name, options)
  return adf.integration_runtimes:get_status({ integrationRuntimeName = name or "ir-0001" },
    options)
end

-- Makes the calls for a runtime, by default ir-0009, slow.
local function slow(seconds, name)
  support.fault { delay = seconds, times = 0, match = { name = name or "ir-0009" } }
end

local function run(controller)
  local ok, err = controller:loop(10)
  if not ok then error(err, 0) end
  assert.is_true(controller:empty(), "something still waits")
end

local function controller_of(...)
  local controller = cqueues.new()
  for _, fn in ipairs { ... } do controller:wrap(fn) end
  return controller
end

-- Runs functions side by side in a controller of their own.
local function within(...)
  run(controller_of(...))
end

-- Steps a controller until so many requests have been received.
local function step_until_received(controller, count)
  local deadline = now() + 5
  repeat assert(controller:step(0.01)) until #support.requests() >= count or now() > deadline
end

local function fork(child)
  local id = process.fork()
  if id ~= 0 then return id end
  local ok, result = pcall(child)
  if not ok then io.stderr:write(tostring(result), "\n") end
  process.exit(ok and result and 0 or 1)
end

local function before()
  support.reset()
  adf = support.datafactory()
end

describe("a coroutine of a cqueues controller", function()
  before_each(before)

  it("suspends itself alone while it calls", function()
    support.control("POST", "settings", { latency = 0.3 })
    local ticks, done = 0, false
    within(function()
      assert.equal("ir-0001", status().name)
      done = true
    end, function()
      while not done do
        cqueues.sleep(0.02)
        ticks = ticks + 1
      end
    end)
    assert.is_true(ticks > 5, ticks .. " ticks")
  end)

  it("calls beside others in about the time of one", function()
    support.control("POST", "settings", { latency = 0.3 })
    local answers, functions = 0, {}
    for i, name in ipairs(names(64)) do
      functions[i] = function()
        assert.equal(name, status(name).name)
        answers = answers + 1
      end
    end
    assert_took(0.3, 2.4, took(within, unpack(functions)))
    assert.equal(64, answers)
    assert.equal(64, support.control("GET", "counts").max_in_flight.arm)
  end)

  it("maps, spawns, runs, sleeps, and waits no longer than a timeout", function()
    within(function()
      local results, failures = map(names(40), function(name) return status(name).name end)
      assert.same({}, failures)
      assert.same(names(40), results)
      local task = spawn(function(...)
        sleep(0.4)
        return ...
      end, 1, nil, false)
      local result, why
      assert_took(0.02, 0.35, took(function() result, why = task:wait(0.02) end))
      assert.is_nil(result)
      assert.equal("timeout", why)
      assert.same({ 1, nil, false }, { task:wait() })
      assert.equal("ir-0002", cloudsync.run(function() return status("ir-0002").name end))
      local ok, err = pcall(cloudsync.run, error, "why")
      assert.is_false(ok)
      assert.equal("why", err)
    end)
  end)

  for _, seconds in ipairs { -1, 0, 0.001, 0.1 } do
    it(("sleeps for %g s"):format(seconds), function()
      within(function() assert_took(math.max(0, seconds), seconds + 1.3, took(sleep, seconds)) end)
    end)
  end

  it("reads a list, by itself and with others", function()
    within(function()
      local count = 0
      for _ in adf.integration_runtimes:list_by_factory() do count = count + 1 end
      assert.equal(200, count)
      local shared = adf.integration_runtimes:list_by_factory():read_ahead()
      local results = map(shared, function(runtime)
        sleep(0.001)
        return runtime.name
      end)
      assert.same(names(200), results)
    end)
  end)

  it("shares the token that another is fetching", function()
    support.control("POST", "settings", { latency = 0.1 })
    adf = support.datafactory { credential = support.credential() }
    within(function()
      local _, failures = map(names(20), function(name) return status(name) end,
        { concurrency = 20 })
      assert.same({}, failures)
    end)
    assert.equal(1, #support.requests "service=entra")
  end)

  it("gets nil and an error for a call that fails", function()
    slow(SLOW)
    within(function()
      local _, err = status("none")
      assert.equal("not_found", err.kind)
    end, function()
      local result, err
      assert_took(0.1, 1, took(function()
        result, err = status("ir-0009", { timeout = 0.1, retries = 0 })
      end))
      assert.is_nil(result)
      assert.equal("timeout", err.kind)
    end, function()
      local refused = support.datafactory { endpoint = support.env "REFUSED", retries = 1 }
      local result, err = refused.integration_runtimes:get_status {
        integrationRuntimeName = "ir-0001",
      }
      assert.is_nil(result)
      assert.equal("transport", err.kind)
      assert.equal(2, err.attempts)
    end)
  end)

  it("goes on at once, though its call ends while another is begun", function()
    slow(0.1)
    slow(SLOW, "ir-0008")
    local first
    within(function()
      first = took(status, "ir-0009")
    end, function()
      cqueues.sleep(0.05)
      os.execute "sleep 0.3"
      status "ir-0008"
    end)
    assert_took(0.1, 1, first)
  end)

  it("does not burn the processor while it waits", function()
    slow(1)
    within(function()
      status() -- what a first connection costs
      collectgarbage()
      local clock = os.clock()
      status "ir-0009"
      assert.is_true(os.clock() - clock < 0.25, os.clock() - clock .. " s of the processor's time")
    end)
  end)

  it("loses nothing to the garbage collector, however hard it works", function()
    local pause, multiplier = collectgarbage("setpause", 0), collectgarbage("setstepmul", 10000)
    within(function()
      local results, failures = map(names(30), function(name)
        collectgarbage()
        return status(name).name
      end, { concurrency = 10 })
      assert.same({}, failures)
      assert.same(names(30), results)
    end)
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", multiplier)
  end)

  it("lets a session that is lost be closed", function()
    within(function()
      local vc = require "cloudsync.vcenter".new {
        endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
        username = support.env "USERNAME", password = support.env "PASSWORD",
      }
      assert(vc.links:list())
    end)
    within(function()
      collectgarbage()
      collectgarbage()
    end)
    assert.equal(1, support.control("GET", "vcenter").logouts)
  end)

  it("may wait for as long as its pump was held up, again and again", function()
    slow(0.9)
    local finished = 0
    within(function()
      map(names(3), function()
        status "ir-0009"
        finished = finished + 1
      end)
    end, function()
      cqueues.sleep(0.05)
      os.execute "sleep 1.1"
      assert.equal("ir-0001", status().name)
    end)
    assert.equal(3, finished)
  end)
end)

describe("a coroutine that one of a controller's has made", function()
  before_each(before)

  it("calls, while the controller stands still", function()
    within(function()
      local next_name = coroutine.wrap(function()
        for i = 1, 3 do coroutine.yield(status("ir-000" .. i).name) end
      end)
      assert.same({ "ir-0001", "ir-0002", "ir-0003" }, { next_name(), next_name(), next_name() })
    end)
  end)

  it("is told where it waits for what only the controller can bring about", function()
    within(function()
      local task = spawn(function()
        sleep(0.05)
        return "done"
      end)
      local ok, err = coroutine.wrap(function() return pcall(task.wait, task, 1) end)()
      assert.is_false(ok)
      assert.matches("in an event loop, which stands still", err)
      assert.equal("done", task:wait())
    end)
  end)
end)

describe("a C function in a coroutine of a controller", function()
  before_each(before)

  it("may lead to a call, while the controller stands still", function()
    within(function()
      local found = {}
      ;("ir-0001;ir-0002;"):gsub("[^;]+", function(name) found[#found + 1] = status(name).name end)
      assert.same(names(2), found)
    end)
  end)
end)

describe("a program with a cqueues controller", function()
  before_each(before)

  it("blocks outside of it, before, between and after", function()
    assert.equal("ir-0001", status().name)
    for _ = 1, 2 do
      within(function() assert.equal("ir-0002", status("ir-0002").name) end)
      assert.equal("ir-0003", status("ir-0003").name)
      assert.equal(10, #map(names(10), function(name) return status(name) end))
    end
  end)

  it("may block while a call of the controller's is in flight", function()
    slow(0.2)
    local name
    local controller = controller_of(function() name = status("ir-0009").name end)
    step_until_received(controller, 1)
    assert.equal("ir-0001", status().name)
    assert.is_nil(name)
    run(controller)
    assert.equal("ir-0009", name)
  end)

  it("loses no news of a call of the controller's while it blocks", function()
    slow(0.2)
    slow(0.6, "ir-0008")
    local name
    local controller = controller_of(function() name = status("ir-0009").name end)
    step_until_received(controller, 1)
    status "ir-0008"
    assert_took(0, 0.3, took(run, controller))
    assert.equal("ir-0009", name)
  end)

  it("loses no news of a task's call while the controller runs", function()
    slow(0.2)
    slow(0.6, "ir-0008")
    local task = spawn(status, "ir-0009")
    sleep(0.1)
    within(function() status "ir-0008" end)
    local result, why = task:wait(1)
    assert.equal("ir-0009", result and result.name or why)
  end)

  it("is told where it waits for a task of a controller that nobody runs", function()
    local task
    local controller = controller_of(function() task = spawn(sleep, 0.05) end)
    assert(controller:step(0))
    local ok, err = pcall(task.wait, task, 1)
    assert.is_false(ok)
    assert.matches("in an event loop, which stands still", err)
    run(controller)
    task:wait()
  end)

  it("has the controller end with its calls, not with those of tasks outside", function()
    slow(SLOW)
    local task = spawn(status, "ir-0009")
    sleep(0.1)
    assert_took(0, 1, took(within, function() status() end))
    assert.equal("ir-0009", task:wait().name)
  end)

  it("may leave one with a call in flight and run another", function()
    slow(0.3)
    local first = controller_of(function() assert.equal("ir-0009", status("ir-0009").name) end)
    step_until_received(first, 1)
    assert_took(0.3, 1, took(within, function() status "ir-0009" end))
    assert_took(0, 0.5, took(run, first))
  end)

  for how, leave in pairs {
    ["stands still"] = function() end,
    ["was thrown away"] = function(controller)
      controller:close()
      collectgarbage()
      collectgarbage()
    end,
  } do
    it("shares the token that one is fetching that " .. how, function()
      support.control("POST", "settings", { latency = 0.1 })
      for _, use in ipairs {
        function() return status().name end,
        function()
          local name
          within(function() name = status().name end)
          return name
        end,
        function()
          local name
          within(function() within(function() name = status().name end) end)
          return name
        end,
      } do
        support.control("DELETE", "requests")
        adf = support.datafactory { credential = support.credential() }
        local first = controller_of(function() status() end)
        step_until_received(first, 1)
        leave(first)
        assert.equal("ir-0001", use())
        assert.equal(1, #support.requests "service=entra")
        if how == "stands still" then run(first) end
      end
    end)
  end

  it("may run one in a coroutine of another", function()
    slow(SLOW)
    local ticks, inner, outer = 0, nil, nil
    within(function()
      outer = took(status, "ir-0009")
    end, function()
      inner = took(within, function()
        map(names(8), function(name) return status(name) end, { concurrency = 2 })
      end)
    end, function()
      while not outer do
        cqueues.sleep(0.05)
        ticks = ticks + 1
      end
    end)
    assert_took(0, 1, inner)
    assert_took(SLOW, SLOW + 1, outer)
    assert.is_true(ticks > 5, ticks .. " ticks")
  end)

  it("may begin a call in one and have another end it", function()
    slow(0.2)
    local task, finished
    local first = controller_of(function() task = spawn(status, "ir-0009") end)
    step_until_received(first, 1)
    within(function()
      finished = condition.new()
      first:wrap(function()
        task:wait()
        finished:signal()
      end)
      cqueues.running():wrap(function() run(first) end)
      assert.is_truthy(finished:wait(1))
    end)
  end)

  it("may throw one away with calls in flight", function()
    slow(SLOW)
    do
      local lost = controller_of(function() map(names(4), function() status "ir-0009" end) end)
      step_until_received(lost, 4)
      lost:close()
    end
    collectgarbage()
    collectgarbage()
    assert_took(0, 1, took(within, function() assert.equal("ir-0001", status().name) end))
    assert_took(0, 1, took(status))
  end)
end)

describe("a process with a cqueues controller that forks with a call in flight", function()
  before_each(before)

  -- Whether the controller can still wait for descriptors, of which some are reused.
  local function can_poll()
    collectgarbage()
    collectgarbage()
    local others = {}
    for i = 1, 8 do
      others[i] = cqueues.new()
      cqueues.poll({ pollfd = others[i]:pollfd(), events = "r" }, 0.01)
    end
    return true
  end

  it("goes on, and its child in the same controller, once that is reset", function()
    slow(0.4)
    local result
    within(function()
      result = status "ir-0009"
    end, function()
      cqueues.sleep(0.15)
      local child = fork(function()
        cqueues.reset()
        return status().name == "ir-0001" and can_poll()
      end)
      assert.equal(0, (process.wait(child)))
    end)
    assert.equal("ir-0009", result.name)
  end)

  it("wakes who waits in the child for what the parent began, as not known", function()
    slow(0.8)
    adf = support.datafactory { retries = 0 }
    local parent, result, err = process.id(), nil, nil
    local controller = controller_of(function() result, err = status "ir-0009" end)
    step_until_received(controller, 1)
    local child = fork(function()
      cqueues.reset()
      assert_took(0, 0.7, took(run, controller))
      return process.id() ~= parent and result == nil and err.outcome == "unknown"
    end)
    assert.equal(0, (process.wait(child)))
    run(controller)
    assert.equal("ir-0009", result.name)
    assert.equal(1, #support.requests())
  end)

  it("leaves a child that has a controller of its own in peace", function()
    slow(0.4)
    local result
    local controller = controller_of(function() result = status "ir-0009" end)
    step_until_received(controller, 1)
    local child = fork(function()
      within(function() assert.equal(8, #map(names(8), function(name) return status(name) end)) end)
      return true
    end)
    assert.equal(0, (process.wait(child)))
    run(controller)
    assert.equal("ir-0009", result.name)
  end)
end)

describe("a process that ends with calls of a controller's in flight", function()
  before_each(before)

  for how, code in pairs { ["closes its state"] = 0, ["exits"] = 7 } do
    it(how .. " cleanly", function()
      local output, status_code = support.run_script([[
        support.fault { delay = 3, times = 0 }
        local cqueues = require "cqueues"
        local adf = support.datafactory()
        local controller = cqueues.new()
        for _ = 1, 4 do
          controller:wrap(function()
            adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0001" }
          end)
        end
        repeat assert(controller:step(0.01)) until #support.requests() == 4
        print "end"
      ]] .. (code == 0 and "" or "os.exit(7)"))
      assert.equal("end\n", output)
      assert.equal(code, status_code)
    end)
  end
end)

describe("examples/luv.lua", function()
  before_each(before)

  local function example(...)
    local output = os.tmpname()
    local variables = {
      AZURE_TENANT_ID = "TENANT_ID", AZURE_CLIENT_ID = "CLIENT_ID",
      AZURE_CLIENT_SECRET = "CLIENT_SECRET", AZURE_AUTHORITY_HOST = "AUTHORITY",
      AZURE_SUBSCRIPTION_ID = "SUBSCRIPTION_ID", AZURE_RESOURCE_GROUP = "RESOURCE_GROUP",
      AZURE_FACTORY = "FACTORY", AZURE_ENDPOINT = "ARM", CA_FILE = "CA_FILE",
    }
    local command = {}
    for name, variable in support.sorted(variables) do
      command[#command + 1] = ('%s="$CLOUDSYNC_SIM_%s"'):format(name, variable)
    end
    command[#command + 1] = ("%s examples/luv.lua %s >%s 2>&1"):format(arg[-1],
      table.concat({ ... }, " "), output)
    local ok = os.execute(table.concat(command, " "))
    local file = assert(io.open(output))
    local text = file:read "*a"
    file:close()
    os.remove(output)
    assert(ok == true or ok == 0, text)
    return text, tonumber(text:match "(%d+) ticks")
  end

  it("calls side by side, and lets libuv go on", function()
    slow(SLOW, "ir-0001")
    slow(SLOW, "ir-0002")
    local text, ticks
    assert_took(SLOW, 2 * SLOW - 0.1, took(function()
      text, ticks = example("ir-0001", "ir-0002", "ir-0003", "none")
    end))
    for i = 1, 3 do assert.matches(("ir%%-000%d%%s+Online\n"):format(i), text) end
    assert.matches("none%s+[^\n]+IntegrationRuntimeNotFound", text)
    assert.is_true(ticks > 10, ticks .. " ticks")
    assert.equal(1, #support.requests "service=entra")
  end)
end)
