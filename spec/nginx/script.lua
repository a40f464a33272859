-- Runs the script that `run` was given, and ends nginx.
local directory = os.getenv "CLOUDSYNC_SCRIPT"

local function read(name)
  local file = assert(io.open(directory .. "/" .. name, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local status

-- The worker can't be left as a process is.
os.exit = function(code)
  status = code == true and 0 or code == false and 1 or code or 0
  error("os.exit", 0)
end

-- nginx's own writes to its log.
_G.print = function(...)
  local texts = {}
  for i = 1, select("#", ...) do texts[i] = tostring((select(i, ...))) end
  io.stdout:write(table.concat(texts, "\t"), "\n")
end

local arguments, i = {}, -1
for argument in read("arguments"):gmatch "(%Z*)%z" do
  arguments[i] = argument
  i = i + 1
end
_G.arg = arguments
local ok, err = xpcall(function()
  return assert(loadfile(arguments[0]))(unpack(arguments))
end, function(err)
  return (status or err == nil) and err or debug.traceback(tostring(err), 2)
end)
if not ok and not status then
  if err then io.stderr:write(err, "\n") end
  status = 1
end
io.stdout:flush()
local file = assert(io.open(directory .. "/status", "w"))
file:write(tostring(status or 0))
file:close()
os.execute("kill -QUIT " .. read "nginx.pid")
