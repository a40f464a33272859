--- Headless Chromium, driven by WebDriver.
local cjson = require "cjson"
local http = require "socket.http"
local ltn12 = require "ltn12"
local mime = require "mime"
local process = require "process"
local example = require "spec.example"

local browser = {}

local Browser = {}
Browser.__index = Browser

local TERMINATE = 15
local TRIES = 3 -- at a browser: on a busy machine it may not be there when chromedriver looks

function Browser:ask(method, path, body)
  local text, parts = body and cjson.encode(body) or "", {}
  local ok, status = http.request {
    method = method, url = self.url .. path, sink = ltn12.sink.table(parts),
    headers = { ["Content-Type"] = "application/json", ["Content-Length"] = #text },
    source = ltn12.source.string(text),
  }
  local answer = table.concat(parts)
  if not ok or status ~= 200 then error(("%s: %s %s"):format(path, status, answer), 2) end
  return cjson.decode(answer).value
end

--- Starts a browser.
function browser.start()
  local port = example.free_port()
  local pipe = assert(io.popen(("echo $$; exec setpriv --pdeathsig TERM timeout 240 "
    .. "chromedriver --port=%d --log-level=SEVERE 2>&1"):format(port)))
  local self = setmetatable({ pipe = pipe, url = "http://127.0.0.1:" .. port }, Browser)
  self.pid = tonumber(pipe:read())
  example.poll(function() return select(2, pcall(self.ask, self, "GET", "/status")).ready end, 20)
  local arguments = { "--headless=new", "--window-size=1000,900", "--disable-dev-shm-usage",
    "--disable-gpu" }
  if example.output_of "id -u":match "^0" then arguments[#arguments + 1] = "--no-sandbox" end
  local wanted = { capabilities = { alwaysMatch = {
    browserName = "chrome", ["goog:chromeOptions"] = { args = arguments },
    ["goog:loggingPrefs"] = { browser = "ALL" },
  } } }
  local ok, session
  for _ = 1, TRIES do
    ok, session = pcall(self.ask, self, "POST", "/session", wanted)
    if ok then
      self.url = self.url .. "/session/" .. session.sessionId
      return self
    end
  end
  self:stop()
  error(session, 0)
end

function Browser:stop()
  pcall(self.ask, self, "DELETE", "")
  process.kill(self.pid, TERMINATE)
  self.pipe:close()
end

function Browser:open(url)
  self:ask("POST", "/url", { url = url })
end

--- What a piece of JavaScript returns. It gets an argument, as cjson's empty table is no list.
function Browser:run(script)
  return self:ask("POST", "/execute/sync", { script = script, args = { "" } })
end

--- A command of the DevTools protocol.
function Browser:devtools(command, parameters)
  return self:ask("POST", "/goog/cdp/execute", { cmd = command, params = parameters })
end

--- What the browser has complained of since it was asked last.
function Browser:complaints()
  local found = {}
  for i, entry in ipairs(self:ask("POST", "/se/log", { type = "browser" })) do
    found[i] = entry.message
  end
  return found
end

--- Saves what the window shows.
function Browser:screenshot(path)
  local file = assert(io.open(path, "wb"))
  file:write((mime.unb64(self:ask("GET", "/screenshot"))))
  file:close()
end

return browser
