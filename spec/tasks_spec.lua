--- Code that waits side by side: what runs when, what comes back, and what a failure does.
local cloudsync = require "cloudsync"
local support = require "spec.support"

local map, spawn, run, sleep, now =
  cloudsync.map, cloudsync.spawn, cloudsync.run, cloudsync.sleep, cloudsync.now

local function took(fn, ...)
  local started = now()
  fn(...)
  return now() - started
end

local function numbers(count)
  local list = {}
  for i = 1, count do list[i] = i end
  return list
end

local function status(adf, name, options)
  return adf.integration_runtimes:get_status({ integrationRuntimeName = name or "ir-0001" },
    options)
end

describe("cloudsync.map", function()
  before_each(support.reset)

  it("returns the results in the order of the items, whichever ends first", function()
    local results, failures = map(numbers(20), function(item)
      sleep((20 - item) * 0.002)
      return item * 10
    end)
    assert.equal(0, #failures)
    for i = 1, 20 do assert.equal(i * 10, results[i]) end
  end)

  it("calls the function with the item and its index", function()
    local results = map({ "a", "b", "c" }, function(item, index) return item .. index end)
    assert.same({ "a1", "b2", "c3" }, results)
  end)

  it("returns two empty lists for no items", function()
    local results, failures = map({}, function() error "not called" end)
    assert.same({}, results)
    assert.same({}, failures)
  end)

  it("goes on with the others where the function returns nil and an error", function()
    local results, failures = map(numbers(6), function(item)
      sleep(0.001)
      if item % 2 == 0 then return nil, "even " .. item end
      return item
    end, { concurrency = 3 })
    assert.same({ 1, nil, 3, nil, 5 }, results)
    assert.same({ { index = 2, item = 2, err = "even 2" }, { index = 4, item = 4, err = "even 4" },
      { index = 6, item = 6, err = "even 6" } }, failures)
  end)

  it("lists the failures in the order of the items, whichever fails first", function()
    local _, failures = map(numbers(8), function(item)
      sleep((8 - item) * 0.005)
      return nil, item
    end, { concurrency = 8 })
    for i = 1, 8 do assert.equal(i, failures[i].index) end
  end)

  it("goes on with the others where the function raises", function()
    local object = setmetatable({}, { __tostring = function() return "an object" end })
    local results, failures = map(numbers(4), function(item)
      if item == 2 then error("text", 0) end
      if item == 3 then error(object) end
      return item
    end)
    assert.equal(1, results[1])
    assert.equal(4, results[4])
    assert.equal(2, #failures)
    assert.equal("text", failures[1].err)
    assert.is_true(rawequal(object, failures[2].err))
    assert.equal(3, failures[2].item)
  end)

  it("counts an item as failed where the function raises nothing at all", function()
    local _, failures = map({ 1 }, function() error() end)
    assert.equal(1, #failures)
    assert.equal(1, failures[1].index)
  end)

  it("asks an iterator that has ended no more", function()
    local calls = 0
    local function three()
      calls = calls + 1
      assert(calls <= 4, "asked after its end")
      return calls <= 3 and calls or nil
    end
    local results, failures = map(three, function(item) sleep(0.01) return item end)
    assert.same({ 1, 2, 3 }, results)
    assert.same({}, failures)
    assert.equal(4, calls)
  end)

  it("raises for what is no list, no function, no concurrency and no option", function()
    for _, case in ipairs {
      { { nil, print }, "list or iterator expected, got nil" },
      { { {}, print, { concurrency = math.huge } }, "option 'concurrency' must be a whole number" },
      { { {}, print, { concurency = 1 } }, "unknown option 'concurency' %(did you mean" },
    } do
      local ok, message = pcall(map, case[1][1], case[1][2], case[1][3])
      assert.is_false(ok)
      assert.matches(case[2], message)
    end
  end)

  it("does not count an item as failed where the function returns nothing", function()
    local results, failures = map(numbers(3), function() end)
    assert.same({}, results)
    assert.same({}, failures)
  end)

  it("does not count an item as failed where the function returns false", function()
    local results, failures = map(numbers(2), function() return false, "why not" end)
    assert.same({ false, false }, results)
    assert.same({}, failures)
  end)

  for concurrency, expected in pairs { [1] = 1, [2] = 2, [5] = 5, [12] = 12, [100] = 24 } do
    it(("has %d calls in flight with a concurrency of %d"):format(expected, concurrency), function()
      support.wait_for_quiet()
      -- long enough for the last of them to be sent before the first is answered
      support.control("POST", "settings", { latency = 0.02 + 0.06 * expected })
      local adf = support.datafactory()
      local results, failures = map(numbers(24), function(item)
        return status(adf, ("ir-%04d"):format(item))
      end, { concurrency = concurrency })
      assert.equal(0, #failures)
      for i = 1, 24 do assert.equal(("ir-%04d"):format(i), results[i].name) end
      assert.equal(expected, support.max_in_flight())
    end)
  end

  it("has 16 calls in flight where nothing is said", function()
    support.wait_for_quiet()
    support.control("POST", "settings", { latency = 0.2 })
    local adf = support.datafactory()
    map(numbers(40), function() return status(adf) end)
    assert.equal(16, support.max_in_flight())
  end)

  it("starts the next item as soon as one has ended", function()
    local spent = took(map, { 0.2, 0.05, 0.05, 0.05, 0.05 }, sleep, { concurrency = 2 })
    assert.is_true(spent < 0.28, "it took " .. spent .. " s")
  end)

  it("gives a failed call's error object", function()
    local adf = support.datafactory()
    local _, failures = map({ "ir-0001", "none" }, function(name) return status(adf, name) end)
    assert.equal(1, #failures)
    assert.equal("none", failures[1].item)
    assert.equal("not_found", failures[1].err.kind)
  end)

  it("may stand inside another", function()
    local adf = support.datafactory()
    local results, failures = map(numbers(4), function(outer)
      local inner, lost = map(numbers(5), function(item)
        return status(adf, ("ir-%04d"):format(outer * 10 + item)).name
      end, { concurrency = 5 })
      assert(#lost == 0)
      return table.concat(inner, " ")
    end, { concurrency = 4 })
    assert.equal(0, #failures)
    assert.equal("ir-0031 ir-0032 ir-0033 ir-0034 ir-0035", results[3])
    assert.equal(20, #support.requests())
  end)

  it("may stand inside another where all sleep, side by side", function()
    local spent = took(map, numbers(10), function()
      map(numbers(10), function() sleep(0.05) end, { concurrency = 10 })
    end, { concurrency = 10 })
    assert.is_true(spent >= 0.05 and spent < 0.25, "it took " .. spent .. " s")
  end)

  it("raises for a concurrency that is none", function()
    for _, wrong in ipairs { 0, -1, "2", {} } do
      assert.is_false((pcall(map, { 1 }, print, { concurrency = wrong })))
    end
  end)
end)

describe("a task", function()
  before_each(support.reset)

  it("returns what its function returned, nil and false included", function()
    local task = spawn(function(...) return ... end, 1, nil, false, nil)
    assert.equal(4, select("#", task:wait()))
    local a, b, c, d = task:wait()
    assert.same({ 1, nil, false, nil }, { a, b, c, d })
  end)

  it("does not begin before something waits, but in nginx", function()
    local began = false
    local task = spawn(function() began = true end)
    assert.equal(support.in_nginx, began)
    task:wait()
    assert.is_true(began)
  end)

  it("runs while the program sleeps or calls, without being waited for", function()
    local ticks = 0
    local function tick()
      for _ = 1, 3 do
        sleep(0.01)
        ticks = ticks + 1
      end
    end
    spawn(tick)
    sleep(0.1)
    assert.equal(3, ticks)
    spawn(tick)
    support.fault { delay = 0.15 }
    status(support.datafactory())
    assert.equal(6, ticks)
  end)

  it("raises in wait() what its function raised, each time", function()
    local object = {}
    local task = spawn(function() error(object) end)
    for _ = 1, 2 do
      local ok, err = pcall(task.wait, task)
      assert.is_false(ok)
      assert.is_true(rawequal(object, err))
    end
    local ok, err = pcall(run, function() error "why" end)
    assert.is_false(ok)
    assert.matches("tasks_spec.lua:%d+: why$", err)
  end)

  it("harms no other by raising", function()
    local bad = spawn(function() error "bad" end)
    local good = spawn(function()
      sleep(0.01)
      return "good"
    end)
    assert.equal("good", good:wait())
    assert.is_false((pcall(bad.wait, bad)))
  end)

  it("may be waited for by many", function()
    local task = spawn(function()
      sleep(0.02)
      return "done"
    end)
    local results = map(numbers(5), function() return task:wait() end)
    assert.same({ "done", "done", "done", "done", "done" }, results)
    assert.equal("done", task:wait())
  end)

  it("may be waited for no longer than a timeout, and goes on", function()
    local task = spawn(function()
      sleep(0.15)
      return "late"
    end)
    local result, why
    local spent = took(function() result, why = task:wait(0.03) end)
    assert.is_nil(result)
    assert.equal("timeout", why)
    assert.is_true(spent >= 0.03 and spent < 0.1, "it took " .. spent .. " s")
    assert.equal("late", task:wait())
    assert.equal("late", task:wait(0))
  end)

  it("may be waited for with a timeout from another task, which then is not disturbed", function()
    local task = spawn(function() sleep(0.05) end)
    local spent = run(function()
      local _, why = task:wait(0.01)
      assert(why == "timeout")
      return took(sleep, 0.12) -- the first task ends within
    end)
    assert.is_true(spent >= 0.12 and spent < 0.2, "it took " .. spent .. " s")
  end)

  it("may start and wait for others", function()
    local function sum(n)
      if n == 0 then return 0 end
      return n + spawn(sum, n - 1):wait()
    end
    assert.equal(5050, run(sum, 100))
  end)

  it("may yield by itself, and goes on after the others", function()
    local order = {}
    local function work(name)
      for i = 1, 2 do
        order[#order + 1] = name .. i
        coroutine.yield()
      end
    end
    local first, second = spawn(work, "a"), spawn(work, "b")
    first:wait()
    second:wait()
    assert.same({ "a1", "b1", "a2", "b2" }, order)
  end)

  it("runs in the order in which it was started", function()
    local order, list = {}, {}
    for i = 1, 10 do list[i] = spawn(function() order[i] = #order + 1 end) end
    for _, task in ipairs(list) do task:wait() end
    assert.same(numbers(10), order)
  end)

  it("waits for a call without holding up the others", function()
    support.fault { delay = 0.2, times = 0 }
    local adf = support.datafactory()
    local list = {}
    local spent = took(function()
      for i = 1, 10 do list[i] = spawn(status, adf) end
      for i = 1, 10 do assert.equal("ir-0001", (list[i]:wait()).name) end
    end)
    assert.is_true(spent < 0.6, "it took " .. spent .. " s")
    assert.equal(10, support.max_in_flight())
  end)

  it("is forgotten when it has ended", function()
    local alive = setmetatable({}, { __mode = "k" })
    for _ = 1, 50 do
      spawn(function()
        local mine = {}
        alive[mine] = true
        sleep(0)
        return mine
      end):wait()
    end
    for _ = 1, 3 do collectgarbage() end
    local count = 0
    for _ in pairs(alive) do count = count + 1 end
    assert.is_true(count <= 2, count .. " of 50 are still there")
  end)

  it("is one of a thousand that sleep at the same time", function()
    local spent = took(function()
      local results = map(numbers(1000), function(item)
        sleep(0.1)
        return item
      end, { concurrency = 1000 })
      assert.equal(1000, #results)
    end)
    assert.is_true(spent >= 0.1 and spent < 0.5, "it took " .. spent .. " s")
  end)

  it("is one of a thousand that call", function()
    local adf = support.datafactory()
    local results, failures = map(numbers(1000), function() return status(adf).name end,
      { concurrency = 1000 })
    assert.equal(0, #failures)
    assert.equal(1000, #results)
    assert.equal(1000, #support.requests())
  end)
end)

describe("cloudsync.run", function()
  it("returns what the function returned, called with its arguments", function()
    assert.same({ 3, "x" }, { run(function(a, b) return a + b, "x" end, 1, 2) })
  end)

  it("raises what the function raised", function()
    local object = {}
    local ok, err = pcall(run, error, object)
    assert.is_false(ok)
    assert.is_true(rawequal(object, err))
  end)

  it("may stand inside itself", function()
    assert.equal("x", run(function() return run(function() return "x" end) end))
  end)
end)

describe("cloudsync.sleep", function()
  for name, within in pairs { ["a task"] = run, ["no task"] = function(fn) return fn() end } do
    for _, seconds in ipairs { 0.001, 0.02, 0.1 } do
      it(("takes %g s in %s"):format(seconds, name), function()
        local spent = within(function() return took(sleep, seconds) end)
        assert.is_true(spent >= seconds, "it took only " .. spent .. " s")
        assert.is_true(spent < seconds + 0.06, "it took " .. spent .. " s")
      end)
    end

    it("comes back at once for no time and for less, in " .. name, function()
      assert.is_true(within(function() return took(sleep, 0) + took(sleep, -1) end) < 0.05)
    end)
  end

  it("lets those that sleep shorter go first", function()
    local order = {}
    map({ 3, 1, 2 }, function(item)
      sleep(item * 0.02)
      order[#order + 1] = item
    end)
    assert.same({ 1, 2, 3 }, order)
  end)

  it("does not burn the processor", function()
    local before = os.clock()
    sleep(0.3)
    run(sleep, 0.3)
    assert.is_true(os.clock() - before < 0.1)
  end)
end)

describe("cloudsync.now", function()
  it("goes on, in seconds", function()
    local started, wall = now(), os.time()
    sleep(0.05)
    assert.is_true(now() - started >= 0.05)
    assert.is_true(math.abs(os.time() - wall) <= 1)
  end)
end)

describe("a coroutine of the program's own", function()
  before_each(support.reset)

  it("may call outside of any task", function()
    local adf = support.datafactory()
    local name = coroutine.wrap(function() return status(adf).name end)()
    assert.equal("ir-0001", name)
  end)

  it("may give results to its maker between calls", function()
    local adf = support.datafactory()
    local names = {}
    for name in coroutine.wrap(function()
      for i = 1, 3 do coroutine.yield(status(adf, "ir-000" .. i).name) end
    end) do names[#names + 1] = name end
    assert.same({ "ir-0001", "ir-0002", "ir-0003" }, names)
  end)

  local uses = {
    ["may call"] = function(adf) return status(adf).name end,
    ["may sleep"] = function()
      sleep(0.02)
      return "ir-0001"
    end,
    ["may wait for a task"] = function() return spawn(function() return "ir-0001" end):wait() end,
    ["may map"] = function(adf)
      return map({ 1, 2 }, function() return status(adf).name end)[1]
    end,
    ["may read a list"] = function(adf)
      return adf.integration_runtimes:list_by_factory()().name
    end,
  }
  for what, use in pairs(uses) do
    it(what .. " in a task, alone", function()
      local adf = support.datafactory()
      assert.equal("ir-0001", run(function()
        return coroutine.wrap(function() return use(adf) end)()
      end))
    end)

    it(what .. " in a task, while others are ready and others wait", function()
      local adf = support.datafactory()
      local list = {}
      for i = 1, 6 do
        list[i] = spawn(function()
          if i % 2 == 0 then sleep(0.005 * i) end
          return coroutine.wrap(function() return use(adf) end)()
        end)
      end
      for i = 1, 6 do assert.equal("ir-0001", (list[i]:wait(1))) end
    end)

    it(what .. " in a task, and leaves the scheduler as it was", function()
      local adf = support.datafactory()
      local list = {}
      for i = 1, 6 do
        list[i] = spawn(function()
          if i == 2 then return coroutine.wrap(function() return use(adf) end)() end
          return i
        end)
      end
      for i = 1, 6 do assert.equal(i == 2 and "ir-0001" or i, (list[i]:wait(1))) end
      assert.is_true(took(sleep, 0.01) < 0.1)
    end)
  end
end)

describe("a coroutine of a task's own", function()
  it("sleeps in peace, though its task once waited for what happens meanwhile", function()
    local burnt = run(function()
      local other = spawn(sleep, 0.05)
      other:wait(0.01)
      local before = os.clock()
      coroutine.wrap(function() sleep(0.3) end)()
      return os.clock() - before
    end)
    assert.is_true(burnt < 0.1, burnt .. " s of the processor's time")
  end)
end)

describe("events", function()
  before_each(support.reset)

  -- Those that every call has; there may be others between them.
  local COMMON = { request = true, response = true, retry = true }

  local function record()
    local events = {}
    return events, function(event)
      if COMMON[event.type] then events[#events + 1] = event end
    end
  end

  local function types(events)
    local list = {}
    for i, event in ipairs(events) do list[i] = event.type .. " " .. event.attempt end
    return table.concat(list, ", ")
  end

  it("come in the order in which things happen", function()
    local events, on_event = record()
    support.fault { status = 429, headers = { ["x-ms-retry-after-ms"] = "10" }, times = 2 }
    status(support.datafactory { on_event = on_event })
    assert.equal("request 1, response 1, retry 1, request 2, response 2, retry 2, request 3, "
      .. "response 3", types(events))
  end)

  it("say which call, what came and how long is waited", function()
    local events, on_event = record()
    support.fault { status = 429, headers = { ["x-ms-retry-after-ms"] = "10" }, times = 1 }
    status(support.datafactory { on_event = on_event })
    for _, event in ipairs(events) do
      assert.equal("datafactory", event.service)
      assert.equal("integration_runtimes:get_status", event.operation)
      assert.equal("POST", event.method)
      assert.matches("^https://127.0.0.1:%d+/subscriptions/.*/getStatus%?api%-version", event.url)
    end
    assert.equal(429, events[2].status)
    assert.is_string(events[2].request_id)
    assert.is_true(math.abs(events[3].seconds - 0.01) < 1e-6)
    assert.equal("throttled", events[3].err.kind)
    assert.equal(200, events[5].status)
  end)

  it("come of a call that fails, without a retry after the last response", function()
    local events, on_event = record()
    support.fault { status = 429, headers = { ["Retry-After"] = "0" }, times = 0 }
    status(support.datafactory { on_event = on_event }, nil, { retries = 1 })
    assert.equal("request 1, response 1, retry 1, request 2, response 2", types(events))
  end)

  it("are in order for each of many calls", function()
    local by_url = {}
    local adf = support.datafactory { on_event = function(event)
      if not COMMON[event.type] then return end
      by_url[event.url] = (by_url[event.url] or "") .. event.type .. event.attempt .. " "
    end }
    support.fault { status = 503, headers = { ["Retry-After"] = "0" }, times = 5 }
    local _, failures = map(numbers(20), function(item)
      return status(adf, ("ir-%04d"):format(item), { retries = 10 })
    end, { concurrency = 20 })
    assert.equal(0, #failures)
    local count = 0
    for _, text in pairs(by_url) do
      count = count + 1
      local expected, attempt = "", select(2, text:gsub("request", ""))
      for i = 1, attempt do
        expected = expected .. ("request%d response%d "):format(i, i)
          .. (i < attempt and ("retry%d "):format(i) or "")
      end
      assert.equal(expected, text)
    end
    assert.equal(20, count)
  end)

  it("do not come of a dry run or of an argument that is refused", function()
    local events, on_event = record()
    local adf = support.datafactory { on_event = on_event }
    status(adf, nil, { dry_run = true })
    local _, err = status(adf, "not a name")
    assert.equal("argument", err.kind)
    assert.equal(0, #events)
  end)

  it("let the observer call, too", function()
    local adf = support.datafactory()
    local inner
    local observed = support.datafactory { on_event = function(event)
      if event.type == "response" and not inner then inner = status(adf, "ir-0002").name end
    end }
    assert.equal("ir-0001", status(observed).name)
    assert.equal("ir-0002", inner)
  end)

  it("may call from a coroutine of its own, while others wait for the same token", function()
    support.control("POST", "settings", { latency = 0.05 })
    local adf = support.datafactory { credential = support.credential() }
    local function generate()
      return coroutine.wrap(function() coroutine.yield((status(adf))) end)()
    end
    local results, failures = map(numbers(40), generate, { concurrency = 40 })
    assert.same({}, failures)
    assert.equal(40, #results)
  end)

  it("may call from below a C function, but in nginx, once and no more", function()
    local adf = support.datafactory()
    local _, failures = map({ "ir-0001", "ir-0002" }, function(name)
      local answers = {}
      ;(name .. ";"):gsub("[^;]+", function(runtime)
        answers[1] = adf.integration_runtimes:sync_credentials { integrationRuntimeName = runtime }
      end)
      return answers[1]
    end)
    if support.in_nginx then
      assert.equal(2, #failures)
      assert.matches("outside of it", failures[1].err)
    else
      assert.same({}, failures)
    end
    assert.equal(support.in_nginx and 0 or 2, #support.requests "operation=syncCredentials")
  end)
end)
