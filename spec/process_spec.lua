-- What becomes of calls when the process forks, is interrupted, ends, or collects garbage.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local process = require "process"
local support = require "spec.support"

local INTERRUPT, TERMINATE, ALARM = 2, 15, 14

local function status(adf, name)
  return adf.integration_runtimes:get_status { integrationRuntimeName = name or "ir-0001" }
end

describe("a process that forks", function()
  before_each(support.reset)

  it("uses connections of its own in the child, and leaves the parent's intact", function()
    local adf = support.datafactory()
    assert(status(adf))
    local child = process.fork()
    if child == 0 then
      local ok = status(adf, "ir-0002")
      collectgarbage()
      process.exit(ok and 0 or 1)
    end
    assert.equal(0, (process.wait(child)))
    assert(status(adf, "ir-0003"))
    local connections = {}
    for i, request in ipairs(support.requests "service=arm") do
      connections[i] = request.connection
    end
    assert.equal(connections[1], connections[3])
    assert.is_not_equal(connections[1], connections[2])
  end)

  it("ends a call of the parent's that is in flight in the child as not known", function()
    local adf = support.datafactory { retries = 0 }
    support.fault { kind = "delay", delay = 0.5, match = { operation = "getStatus" } }
    local task = cloudsync.spawn(status, adf)
    cloudsync.sleep(0.1)
    local child = process.fork()
    if child == 0 then
      local ok, err = task:wait()
      process.exit((ok == nil and err.outcome == "unknown") and 0 or 1)
    end
    assert.equal(0, (process.wait(child)))
    assert.is_table(task:wait())
    assert.equal(1, #support.requests "operation=getStatus")
  end)
end)

describe("a process that gets a signal", function()
  before_each(support.reset)

  it("goes on with its call", function()
    local adf = support.datafactory()
    support.fault { kind = "delay", delay = 0.5, match = { operation = "getStatus" } }
    local parent = process.id()
    local child = process.fork()
    if child == 0 then
      os.execute "sleep 0.2"
      process.kill(parent, 28) -- SIGWINCH, which is ignored
      process.exit(0)
    end
    assert.is_table(status(adf))
    process.wait(child)
  end)

  local signals = { SIGINT = INTERRUPT, SIGTERM = TERMINATE, SIGALRM = ALARM }
  for name, signal in pairs(support.in_nginx and {} or signals) do
    it("ends by " .. name .. " while it waits", function()
      support.fault { kind = "delay", delay = 5, match = { operation = "getStatus" } }
      local child = process.fork()
      if child == 0 then
        pcall(status, support.datafactory())
        process.exit(3)
      end
      local deadline = core.now() + 3
      repeat cloudsync.sleep(0.05) until #support.requests() > 0 or core.now() > deadline
      process.kill(child, signal)
      local started = core.now()
      local code, ended_by = process.wait(child)
      assert.is_true(code == 3 or ended_by == signal)
      assert.is_true(core.now() - started < 2)
    end)
  end

  it("is not ended by SIGPIPE when the server closes a kept connection", function()
    local adf = support.datafactory { retries = 0 }
    assert(status(adf))
    support.fault { kind = "reset_after", times = 3 }
    for _ = 1, 3 do
      adf.integration_runtimes:sync_credentials { integrationRuntimeName = "ir-0001" }
    end
    assert(status(adf))
  end)
end)

describe("a process that ends", function()
  before_each(support.reset)

  local in_flight = [[
    support.fault { kind = "delay", delay = 3, times = 0, match = { operation = "getStatus" } }
    local cloudsync = require "cloudsync"
    local adf = support.datafactory()
    for i = 1, 20 do
      cloudsync.spawn(function()
        adf.integration_runtimes:get_status { integrationRuntimeName = "ir-0001" }
      end)
    end
    cloudsync.sleep(0.2)
  ]]

  it("closes cleanly with calls in flight", function()
    local output, code = support.run_script(in_flight .. 'print "end"')
    assert.equal("end\n", output)
    assert.equal(0, code)
  end)

  it("exits cleanly with calls in flight", function()
    local output, code = support.run_script(in_flight .. "os.exit(7)")
    assert.equal("", output)
    assert.equal(7, code)
  end)

  it("exits cleanly with calls in flight when it closes its state", function()
    local output, code = support.run_script(in_flight .. "os.exit(7, true)")
    assert.equal("", output)
    assert.equal(7, code)
  end)

  it("opens no connection and makes no engine for what is only prepared", function()
    local output = support.run_script [[
      local adf = support.datafactory()
      local request = adf.integration_runtimes:sync_credentials(
        { integrationRuntimeName = "ir-0001" }, { dry_run = true })
      print(request.method, #support.requests())
    ]]
    assert.equal("POST\t0\n", output)
  end)
end)

describe("the garbage collector", function()
  before_each(support.reset)

  it("takes nothing that a call in flight needs, however hard it works", function()
    local adf = support.datafactory { credential = support.credential() }
    collectgarbage "setpause"
    local pause, step = collectgarbage("setpause", 0), collectgarbage("setstepmul", 10000)
    local names = {}
    for i = 1, 50 do names[i] = ("ir-%04d"):format(i) end
    local results, failures = cloudsync.map(names, function(name)
      collectgarbage()
      local result = status(adf, name)
      collectgarbage()
      return result
    end, { concurrency = 10 })
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    assert.equal(0, #failures)
    for i, name in ipairs(names) do assert.equal(name, results[i].name) end
  end)

  it("collects a client, its requests and its answers", function()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local adf = support.datafactory()
      local result, response = status(adf)
      weak[adf], weak[result], weak[response] = true, true, true
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  it("lets memory stay flat over thousands of calls", function()
    local adf = support.datafactory { endpoint = support.env "PLAIN" }
    local function many(count)
      for _ = 1, count do
        adf.integration_runtimes:get({ integrationRuntimeName = "ir-0001" })
      end
      collectgarbage()
      collectgarbage()
      return collectgarbage "count"
    end
    many(100)
    local before = many(100)
    assert.is_true(many(1000) - before < 20)
  end)
end)
