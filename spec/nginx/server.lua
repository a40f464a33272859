-- For nginx_spec.lua: an nginx of its own, and requests to it over plain sockets. They block the spec
-- alone, so any number of them can be under way.
local cjson = require "cjson"
local process = require "process"
local socket = require "socket"
local support = require "spec.support"
local unix = require "socket.unix"

local server = {}

local SIGNALS = { hangup = 1, quit = 3, kill = 9 }

local Connection = {}
Connection.__index = Connection

--- Sends a request; its body is a chunk that /run is to run.
function Connection:send(path, chunk)
  chunk = chunk or ""
  assert(self.socket:send(("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s")
    :format(path, #chunk, chunk)))
  return self
end

--- Whether an answer, or the end of the connection, can be read.
function Connection:is_answered()
  return #socket.select({ self.socket }, nil, 0) == 1
end

--- The next answer: its status and body, or nil and why there is none.
function Connection:answer()
  local line, err = self.socket:receive()
  if not line then return nil, err end
  local status, length = tonumber(line:match "^HTTP/1%.1 (%d+)"), 0
  repeat
    line, err = self.socket:receive()
    length = line and tonumber(line:lower():match "^content%-length: (%d+)") or length
  until not line or line == ""
  local body = line and (length == 0 and "" or self.socket:receive(length))
  if not body then return nil, err end
  return status, body
end

--- What a chunk has returned; raises what it raised.
function Connection:value()
  local status, body = self:answer()
  if status ~= 200 then error(("no answer: %s %s"):format(status, body), 2) end
  local answer = cjson.decode(body)
  if not answer.ok then error(answer.value, 0) end
  return answer.value
end

--- Runs a chunk by /run, with the arguments `served`, `cloudsync` and `support`.
function Connection:run(chunk)
  return self:send("/run", chunk):value()
end

function Connection:close()
  self.socket:close()
end

local Server = {}
Server.__index = Server

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

--- Starts nginx.
-- @tparam string http what its block `http` is to hold; `@DIR@` stands for a directory, in which the
--   server is to listen on the socket `socket`
-- @tparam ?number workers (1)
function server.start(http, workers)
  local pipe = io.popen "mktemp -d"
  local self = setmetatable({ directory = pipe:read() }, Server)
  pipe:close()
  local file = assert(io.open(self.directory .. "/http", "w"))
  file:write(http)
  file:close()
  self.pipe = assert(io.popen(("LUA_CPATH='%s/luajit/?.so;;' spec/nginx/serve %s %d")
    :format(os.getenv "BUILD" or "build", self.directory, workers or 1), "w"))
  if not support.poll(function() return self:answers() end) then
    local log = self:log()
    self:stop()
    error("nginx did not start: " .. log, 2)
  end
  return self
end

-- Whether it listens, and knows its process id.
function Server:answers()
  local ok, connection = pcall(self.connect, self)
  if ok then connection:close() end
  return ok and self:pid()
end

--- The process id of the master; nil once it has ended.
function Server:pid()
  return tonumber(read(self.directory .. "/nginx.pid"))
end

function Server:log()
  return read(self.directory .. "/error.log")
end

--- Sends a signal: "quit", "hangup" (nginx reads its configuration again) or "kill".
-- @tparam string name
-- @tparam ?number pid whom to (the master)
function Server:signal(name, pid)
  process.kill(pid or self:pid(), SIGNALS[name])
end

function Server:stop()
  self.pipe:close()
end

function Server:connect()
  local connection = setmetatable({ socket = unix.stream() }, Connection)
  connection.socket:settimeout(20)
  assert(connection.socket:connect(self.directory .. "/socket"))
  return connection
end

--- Sends a request over a connection of its own, to read the answer later.
function Server:send(path, chunk)
  return self:connect():send(path, chunk)
end

--- Asks over a connection of its own.
function Server:get(path)
  local connection = self:send(path)
  local status, body = connection:answer()
  connection:close()
  return status, body
end

function Server:run(chunk)
  local connection = self:connect()
  local ok, value = pcall(connection.run, connection, chunk)
  connection:close()
  if not ok then error(value, 0) end
  return value
end

-- A worker takes no other connection while this runs.
local BUSY = "local stop = os.clock() + 0.05 repeat until os.clock() > stop return ngx.worker.pid()"

--- A connection to each worker. Each has its worker's process id as `pid`.
function Server:workers(count)
  local found, known = {}, {}
  assert(support.poll(function()
    local connections = {}
    for i = 1, count do connections[i] = self:send("/run", BUSY) end
    for _, connection in ipairs(connections) do
      connection.pid = connection:value()
      if known[connection.pid] then
        connection:close()
      else
        known[connection.pid] = true
        found[#found + 1] = connection
      end
    end
    return #found == count
  end), "not all of the workers answer")
  return found
end

return server
