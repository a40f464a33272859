--- A proxy for the specs, which listens on loopback until its standard input is closed:
--
--     spec/proxy.lua JOURNAL [AUTHORIZATION]
--
-- The first line of JOURNAL is its port; then comes all that clients have sent it, those in tunnels
-- too. Whatever host a request names, it connects to this machine. Where an AUTHORIZATION is given, it
-- refuses each request that does not bring this one, with a page that repeats what was brought.
local socket = require "socket"

local journal, wanted = assert(io.open(arg[1], "w")), arg[2]
journal:setvbuf "no"

local REFUSAL = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
  .. "Connection: close\r\nContent-Length: %d\r\n\r\n%s"

local readers = {} -- what goes on once a socket can be read, by socket

local function watch(from, fn)
  from:settimeout(0)
  readers[from] = fn
end

local function close(...)
  for _, each in ipairs { ... } do
    readers[each] = nil
    each:close()
  end
end

local function send(to, bytes)
  to:settimeout(5)
  local sent = to:send(bytes)
  to:settimeout(0)
  return sent
end

-- Passes on what comes from one to the other, until one of them ends.
local function pass(from, to, is_client)
  watch(from, function()
    local bytes, err, some = from:receive(65536)
    bytes = bytes or some
    if is_client then journal:write(bytes) end
    if #bytes > 0 and not send(to, bytes) or err == "closed" then close(from, to) end
  end)
end

local function refuse(client, brought)
  send(client, REFUSAL:format(#brought, brought))
  close(client)
end

local function connect(client, head)
  local brought = head:match "Proxy%-Authorization: ([^\r]*)"
  if wanted and brought ~= wanted then return refuse(client, head) end
  local port = head:match "^CONNECT %S+:(%d+) " or head:match "^%u+ http://[^/:]+:(%d+)"
  local server = port and socket.connect("127.0.0.1", tonumber(port))
  if not server then return close(client) end
  if head:find "^CONNECT" then
    send(client, "HTTP/1.1 200 Connection established\r\n\r\n")
  else
    send(server, (head:gsub(" http://[^/]+", " ", 1):gsub("Proxy%-[^\r]*\r\n", "")))
  end
  pass(client, server, true)
  pass(server, client)
end

local function accept(listener)
  local client = listener:accept()
  local head = ""
  watch(client, function()
    local bytes, err, some = client:receive(65536)
    head = head .. (bytes or some)
    journal:write(bytes or some)
    if head:find("\r\n\r\n", 1, true) then
      connect(client, head)
    elseif err == "closed" then
      close(client)
    end
  end)
end

local listener = assert(socket.bind("127.0.0.1", 0))
journal:write((select(2, listener:getsockname())), "\n")
watch(listener, accept)
local input = { getfd = function() return 0 end, dirty = function() return false end }
readers[input] = function() os.exit(0) end
while true do
  local sockets = {}
  for each in pairs(readers) do sockets[#sockets + 1] = each end
  for _, ready in ipairs((socket.select(sockets))) do
    if readers[ready] then readers[ready](ready) end
  end
end
