--- For the specs of examples/nginx: the example around the simulator, and signed calls to it.
local cjson = require "cjson"
local http = require "socket.http"
local ltn12 = require "ltn12"
local process = require "process"
local socket = require "socket"
local support = require "spec.support"

local example = {}

example.KEY = support.MARK .. "0123456789abcdef0123456789abcdef"

local SIGNALS = { hangup = 1, kill = 9, terminate = 15 }

--- What a command prints.
function example.output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

--- A port that nothing listens on.
function example.free_port()
  local server = assert(socket.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  server:close()
  return port
end

--- Calls a function until it returns something true, which is returned; fails where it does not.
function example.poll(condition, seconds)
  return support.poll(condition, seconds) or error("it did not happen in time", 2)
end

local Example = {}
Example.__index = Example

--- Starts the example.
-- @tparam ?table variables of its environment, instead of those for the simulator
function example.start(variables)
  local self = setmetatable({ port = example.free_port() }, Example)
  local log = os.tmpname()
  local settings = { PORT = self.port, HOOK_KEY = example.KEY }
  for name, value in pairs(variables or {}) do settings[name] = value end
  local command = { "echo $$; exec env" }
  for name, value in support.sorted(settings) do
    command[#command + 1] = ("%s='%s'"):format(name, value)
  end
  command[#command + 1] = "setpriv --pdeathsig TERM examples/nginx/try 2>" .. log
  self.pipe, self.log = assert(io.popen(table.concat(command, " "))), log
  self.pid = tonumber(self.pipe:read())
  self.url = "http://127.0.0.1:" .. self.port
  repeat local line = self.pipe:read() until not line or line == self.url and self:get "/"
  return self
end

--- What it has written to its log.
function Example:messages()
  local file = assert(io.open(self.log))
  local text = file:read "*a"
  file:close()
  return text
end

--- Ends it, and returns what it has written to its log.
function Example:stop()
  process.kill(self.pid, SIGNALS.terminate)
  self.pipe:close()
  local text = self:messages()
  os.remove(self.log)
  return text
end

local function children(pid)
  local pids = {}
  local file = assert(io.open(("/proc/%d/task/%d/children"):format(pid, pid)))
  for child in file:read("*a"):gmatch "%d+" do pids[#pids + 1] = tonumber(child) end
  file:close()
  return pids
end

--- Sends a signal to nginx's master, or to all workers.
function Example:signal(name, to_workers)
  local master = children(self.pid)[1]
  for _, pid in ipairs(to_workers and children(master) or { master }) do
    process.kill(pid, SIGNALS[name])
  end
end

--- Sends a request.
-- @treturn ?integer status
-- @treturn table its headers, with its body as `body`, and as `json` where it is that
function Example:request(method, path, headers, body)
  local sent, parts = {}, {}
  for name, value in pairs(headers or {}) do sent[name] = value end
  if body and not sent["Transfer-Encoding"] then sent["Content-Length"] = #body end
  local _, status, answer = http.request {
    method = method, url = self.url .. path, headers = sent, redirect = false,
    source = body and ltn12.source.string(body), sink = ltn12.sink.table(parts),
  }
  if type(answer) ~= "table" then return nil, status end
  answer.body = table.concat(parts)
  if (answer["content-type"] or ""):find "^application/json" and answer.body ~= "" then
    answer.json = cjson.decode(answer.body)
  end
  return status, answer
end

function Example:get(path, headers)
  return self:request("GET", path, headers)
end

local last = os.time() - 200

--- The headers of a signed call. Each has a time of its own, as each message is good once.
function example.sign(body, time, key)
  last = last + 1
  time = tostring(time or last)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(time, ".", body)
  file:close()
  local hmac = example.output_of(("openssl dgst -sha256 -hmac '%s' -r <%s")
    :format(key or example.KEY, path)):match "^%x+"
  os.remove(path)
  return { ["X-Timestamp"] = time, ["X-Signature"] = "sha256=" .. hmac }
end

--- The body that asks for a factory.
function example.body(factory, group)
  return cjson.encode { factoryName = factory or support.env "FACTORY",
    resourceGroupName = group or support.env "RESOURCE_GROUP" }
end

--- Makes a signed call for a factory, or with a body.
function Example:call(factory, body)
  body = body or example.body(factory)
  return self:request("POST", "/hooks/credential-rotated", example.sign(body), body)
end

--- Waits until a job has ended, and returns it.
function Example:ended(path)
  return example.poll(function()
    local _, answer = self:get(path)
    local state = answer.json and answer.json.state
    return state ~= "queued" and state ~= "running" and answer.json
  end)
end

return example
