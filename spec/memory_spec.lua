-- What becomes of calls when memory runs out, what they hold on to, and which copies of secrets stay.
-- `make memory` sets MEMORY and does all of it; otherwise it is a sample.
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local process = require "process"
local support = require "spec.support"

if support.in_nginx then return end -- the host is a program of its own

local all = os.getenv "MEMORY" ~= nil
local HOST = assert(package.searchpath("process", package.cpath)):gsub("process%.so$", "host")

-- Runs the host. Returns whether it ended well, what it printed, and its status.
local function host(...)
  local pipe = assert(io.popen(("%s %s 2>&1; echo $?"):format(HOST, table.concat({ ... }, " "))))
  local output = pipe:read "*a"
  pipe:close()
  local said, status = output:match "^(.-)(%d+)\n$"
  return tonumber(status) == 0, said, tonumber(status)
end

local function resident()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmRSS:%s*(%d+)"
    if kilobytes then return tonumber(kilobytes) end
  end
end

describe("where memory runs out", function()
  before_each(support.reset)

  -- whose memory, whether one request for it is refused or all from then on, in what, and which
  -- part of them a sample tries
  local cases = {
    ["core once run"] = 9, ["core on run"] = 17, ["curl once run"] = 97, ["curl on run"] = 197,
    ["lua once run"] = 151, ["lua on run"] = 301, ["lua on load"] = 3001,
    -- LuaJIT does not load a module for which memory has run out once
    ["lua once load"] = not rawget(_G, "jit") and 2503 or nil,
  }
  for case, step in support.sorted(cases) do
    it(("(%s) there is a result or an error, no crash, no leak"):format(case), function()
      local well, said = host("refuse", case, 0, all and 1 or step, "spec/memory/all_sorts.lua")
      assert(well, said)
      assert.is_true(tonumber(said:match "(%d+) points") > 0, said)
      if all then io.stderr:write(said) end
    end)
  end
end)

describe("all garbage is collected at every turn", function()
  before_each(support.reset)

  it("while calls are made", function()
    local well, said = host("collect", all and 20 or 100, "spec/memory/collected.lua")
    assert(well, said)
    assert.equal("collected\n", said)
  end)

  for _, name in ipairs(all and { "json", "request", "secret", "pager" } or {}) do
    it("while the specs of " .. name .. " run", function()
      local well, said = host("collect", 5000, "spec/busted.lua", "-o TAP",
        ("spec/%s_spec.lua"):format(name))
      assert(well, said)
    end)
  end
end)

describe("secrets that were used and collected", function()
  before_each(support.reset)

  local uses = { "token", "header", "body", "client_secret", "vcenter_password", "arcgis_password",
    "form", "form_token" }
  for _, use in ipairs(uses) do
    it(("%s: are in no memory but libcurl's"):format(use), function()
      local well, said, status = host("scan", "curl", "spec/memory/secrets.lua", use)
      if status == 77 then return end -- not under a sanitizer
      assert(well, said)
      local used, kept = said:match "^(%d+)\t(%d+)"
      assert.equal("0", used, said)
      assert.is_true(tonumber(kept) > 0) -- the search finds what there is
    end)
  end
end)

describe("very many calls at once", function()
  before_each(support.reset)

  it("end, each with its own answer, in bounded memory", function()
    local KINDS, COUNT = 200, os.getenv "WRAPPER" == "" and 10000 or 1000 -- valgrind is slow
    support.factory { factoryName = support.env "FACTORY", runtimes = KINDS }
    local adf = support.datafactory { endpoint = support.env "PLAIN", max_connections = 64 }
    local tasks, before = {}, resident()
    for i = 1, COUNT do
      tasks[i] = cloudsync.spawn(function()
        return adf.integration_runtimes:get {
          integrationRuntimeName = ("ir-%04d"):format(i % KINDS + 1) }
      end)
    end
    cloudsync.sleep(0)
    assert.is_true(core.engine():running() > COUNT / 2)
    for i = 1, COUNT do
      local runtime, err = tasks[i]:wait()
      assert(runtime, tostring(err))
      assert.equal(("ir-%04d"):format(i % KINDS + 1), runtime.name)
    end
    assert.equal(0, core.engine():running())
    assert.is_true(resident() - before < COUNT * 64)
  end)
end)

describe("a process that ends", function()
  before_each(support.reset)

  local states = {
    ["a warm connection"] = [[
      local adf = support.datafactory()
      assert(adf.integration_runtimes:get { integrationRuntimeName = "ir-0001" })]],
    ["a poller"] = [[
      local adf = support.datafactory()
      local poller = assert(adf.integration_runtimes:start { integrationRuntimeName = "ir-0200" })
      require "cloudsync".spawn(function() poller:wait() end)
      require "cloudsync".sleep(0.05)]],
    ["a page that is read ahead"] = [[
      support.fault { kind = "delay", delay = 2, skip = 1, times = 0, match = { method = "GET" } }
      local pager = support.datafactory().integration_runtimes:list_by_factory()
      assert(pager())
      require "cloudsync".spawn(function() for _ = 1, 60 do pager() end end)
      require "cloudsync".sleep(0.05)]],
    ["a session of vCenter"] = [[
      vc = require "cloudsync.vcenter".new {
        endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
        username = support.env "USERNAME", password = support.env "PASSWORD",
      }
      assert(vc.links:list())]],
    ["a call to vCenter in flight"] = [[
      support.fault { kind = "delay", delay = 1, times = 0, match = { service = "vcenter" } }
      local vc = require "cloudsync.vcenter".new {
        endpoint = support.env "VCENTER", ca_file = support.env "CA_FILE",
        username = support.env "USERNAME", password = support.env "PASSWORD",
      }
      require "cloudsync".spawn(function() vc.links:list() end)
      require "cloudsync".sleep(0.05)]],
  }
  local ends = { ["at its end"] = "", ["by os.exit"] = "os.exit(0)",
    ["by os.exit, closing its state"] = "os.exit(0, true)" }
  for state, script in support.sorted(states) do
    for way, ending in support.sorted(ends) do
      it(("ends cleanly %s with %s"):format(way, state), function()
        local started = core.now()
        local output, code = support.run_script(script .. "\n" .. ending)
        assert.equal("", output)
        assert.equal(0, code)
        assert.is_true(core.now() - started < 5)
      end)
    end
  end
end)

describe("a process that forks with warm connections", function()
  before_each(support.reset)

  it("has answers of its own while the child makes calls of its own", function()
    local adf = support.datafactory { credential = support.credential() }
    local function many(from, to)
      local names = {}
      for i = from, to do names[#names + 1] = ("ir-%04d"):format(i) end
      local results, failures = cloudsync.map(names, function(name)
        return adf.integration_runtimes:get { integrationRuntimeName = name }
      end, { concurrency = 5 })
      for i, name in ipairs(names) do
        if not results[i] or results[i].name ~= name then return false end
      end
      return #failures == 0
    end
    assert.is_true(many(1, 10))
    local children = {}
    for i = 1, 3 do
      children[i] = process.fork()
      if children[i] == 0 then
        local ok, well = pcall(many, 10 * i + 1, 10 * i + 40)
        collectgarbage()
        process.exit(ok and well and 0 or 1)
      end
    end
    assert.is_true(many(51, 100))
    for i = 1, 3 do assert.equal(0, (process.wait(children[i]))) end
    assert.is_true(many(1, 20))
    local owners = {} -- of connections: no request of a child's is on one of the parent's
    for _, request in ipairs(support.requests "service=arm") do
      local number = tonumber(request.path:match "ir%-(%d+)$")
      local parents = number <= 10 or number > 70
      local id = request.connection
      if parents then assert.is_not_equal("child", owners[id]) owners[id] = "parent" end
      if number > 20 and number <= 50 then
        assert.is_not_equal("parent", owners[id])
        owners[id] = "child"
      end
    end
  end)
end)
