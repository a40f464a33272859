--- What the specs share: the simulator's control, and clients of what it simulates.
local cjson = require "cjson"
local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "socket"

local support = {}

--- Whether the specs run inside of nginx, whose light threads begin at once, whose worker takes no
-- signals, and where nothing can wait below a C function.
support.in_nginx = package.loaded.ngx ~= nil

--- A variable of the simulator's, without its prefix.
function support.env(name)
  return assert(os.getenv("CLOUDSYNC_SIM_" .. name), "run the specs with `make test`")
end

--- Asks the simulator's control, over LuaSocket: not by the library that is under test.
function support.control(method, path, body)
  local text = body ~= nil and cjson.encode(body) or ""
  local answer = {}
  local ok, status = http.request {
    method = method, url = support.env "PLAIN" .. "/_simulator/" .. path,
    headers = { ["Content-Type"] = "application/json", ["Content-Length"] = #text },
    source = ltn12.source.string(text), sink = ltn12.sink.table(answer),
  }
  local said = table.concat(answer)
  if not ok or status >= 300 then error(("%s %s: %s %s"):format(method, path, status, said), 2) end
  return said ~= "" and cjson.decode(said) or nil
end

--- Everything as at the start.
function support.reset()
  support.control("POST", "reset")
end

--- Adds a fault or a list of them; see the simulator's README.
function support.fault(rule)
  support.control("POST", "faults", rule)
end

--- The requests that were received, filtered by the query (`service=arm&operation=getStatus`).
function support.requests(query)
  return support.control("GET", "requests" .. (query and "?" .. query or "")).requests
end

--- How many calls Resource Manager has had at once since the reset.
function support.max_in_flight()
  return support.control("GET", "counts").max_in_flight.arm
end

--- Waits until the simulator is done with what earlier tests have given up, and resets it.
function support.wait_for_quiet()
  local core = require "cloudsync.core"
  local deadline = core.now() + 10
  repeat
    support.reset()
    support.datafactory().integration_runtimes:get_status { integrationRuntimeName = "ir-0001" }
  until support.max_in_flight() == 1 or core.now() > deadline
  support.reset()
end

--- Creates a factory and returns what the simulator tells of it.
function support.factory(definition)
  return support.control("POST", "factories", definition)
end

local function with(defaults, overrides)
  local options = {}
  for name, value in pairs(defaults) do options[name] = value end
  for name, value in pairs(overrides or {}) do options[name] = value end
  return options
end

--- A client secret credential of the simulator's application.
function support.credential(overrides)
  return require "cloudsync.azure".client_secret_credential(with({
    tenant_id = support.env "TENANT_ID", client_id = support.env "CLIENT_ID",
    client_secret = support.env "CLIENT_SECRET", authority = support.env "AUTHORITY",
    ca_file = support.env "CA_FILE",
  }, overrides))
end

--- A Data Factory client with a token that is always good.
function support.datafactory(overrides)
  local azure = require "cloudsync.azure"
  return require "cloudsync.datafactory".new(with({
    credential = azure.static_token_credential(support.env "STATIC_TOKEN"),
    endpoint = support.env "ARM", ca_file = support.env "CA_FILE",
    subscriptionId = support.env "SUBSCRIPTION_ID",
    resourceGroupName = support.env "RESOURCE_GROUP", factoryName = support.env "FACTORY",
  }, overrides))
end

--- What is in a file.
function support.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

--- Runs a command of the shell.
-- @return what it printed, on its standard error too, and its exit status
function support.execute(command)
  local output = os.tmpname()
  local ok, _, code = os.execute(command .. " >" .. output .. " 2>&1")
  local text = support.read(output)
  os.remove(output)
  return text, type(ok) == "number" and ok / 256 or code
end

--- Calls a function until it returns something true, which is returned; nil where it has not in time.
function support.poll(condition, seconds)
  local deadline = socket.gettime() + (seconds or 10)
  repeat
    local value = condition()
    if value then return value end
    socket.sleep(0.01)
  until socket.gettime() > deadline
end

--- Runs a script, in which `support` is this module, under the same interpreter.
-- @tparam string script
-- @tparam ?table simulator variables of a simulator of its own, around the script
-- @tparam ?table variables of the script's environment; false for one that is not to be set
-- @return what it printed, and its exit status
function support.run_script(script, simulator, variables)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('local support = require "spec.support"\n', script)
  file:close()
  local command = {}
  if simulator then
    -- a sanitizer that is loaded before the interpreter is not for the simulator's tools
    command[1] = 'preload=$LD_PRELOAD; unset LD_PRELOAD;'
    for name, value in support.sorted(simulator) do
      command[#command + 1] = ("CLOUDSYNC_SIM_%s=%s"):format(name, value)
    end
    command[#command + 1] = 'spec/simulator/run env LD_PRELOAD="$preload"'
  end
  for name, value in support.sorted(variables or {}) do
    table.insert(command, 1, value and ("export %s='%s';"):format(name, value)
      or ("unset %s;"):format(name))
  end
  command[#command + 1] = ("%s %s"):format(arg[-1], path)
  local text, status = support.execute(table.concat(command, " "))
  os.remove(path)
  return text, status
end

--- Makes time pass at once while nothing is in flight; what moves bytes stays as it is.
-- @treturn function that ends it
function support.hurry()
  local core = require "cloudsync.core"
  local now, engine, ahead = core.now, core.engine, 0
  local hurried, done = {}, {}
  function hurried.submit(_, ...) return engine():submit(...) end
  function hurried.next() return table.remove(done, 1) end
  function hurried.running() return engine():running() end
  function hurried.step(_, seconds)
    local real = engine()
    if real:running() > 0 then real:step(seconds) else real:step(0) end
    for number in real.next, real do done[#done + 1] = number end
    if real:running() == 0 and not done[1] then ahead = ahead + seconds end
  end
  core.now = function() return now() + ahead end
  core.engine = function() return hurried end
  return function() core.now, core.engine = now, engine end
end

--- Each planted secret begins with this, so that a fragment of one, or one in another spelling, is
-- found.
support.MARK = "PLANTED-"

--- Where in a value, however deep and also in its keys, a planted secret is; nil where none is.
function support.leak(value, path, seen)
  path, seen = path or "it", seen or {}
  if type(value) == "string" then
    return value:find(support.MARK, 1, true) and ("%s = %s"):format(path, value) or nil
  elseif type(value) == "userdata" then
    return support.leak(tostring(value), path .. " (as text)", seen)
  elseif type(value) ~= "table" or seen[value] then
    return nil
  end
  seen[value] = true
  for key, field in pairs(value) do
    local found = support.leak(key, path .. " (key)", seen)
      or support.leak(field, path .. "." .. tostring(key), seen)
    if found then return found end
  end
  return support.leak(tostring(value), path .. " (as text)", seen)
end

--- Fails where a planted secret is in the value.
function support.assert_secret(value)
  local found = support.leak(value)
  assert(not found, found)
end

--- Iterates over names and values in the order of the names, so that tests have one order.
function support.sorted(values)
  local names, i = {}, 0
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)
  return function()
    i = i + 1
    return names[i], values[names[i]]
  end
end

--- A text as the name of a test can show it.
function support.printable(text)
  text = text:gsub("[^\32-\126]", function(char) return ("\\%d"):format(char:byte()) end)
  return #text > 60 and ("%s… (%d bytes)"):format(text:sub(1, 30), #text) or text
end

return support
