--- The headers of an answer, and the links in them: the input is what a server sends before the
-- body, or, where it has no line break, a link.
local core = require "cloudsync.core"
local retry = require "cloudsync.retry"
local throttle = require "cloudsync.throttle"
local transfer = require "transfer"

local ENDPOINTS = { "https://host.example", "https://host.example:8443/base/admin",
  "http://127.0.0.1:8080", "https://[::1]:444/x" }
local NAMES = { "Location", "azure-asyncoperation", "Retry-After", "retry-after-ms",
  "x-ms-request-id", "Link", "a", "" }
local PROXY_PROBLEMS = {
  ["proxy is not a URL such as http://user:password@host:port"] = true,
  ["proxy has a line break or a NUL in it"] = true,
}
local QUOTA = "x-ms-ratelimit-remaining-subscription-reads"

local targets = {}
for i, endpoint in ipairs(ENDPOINTS) do
  local transport = core.transport { endpoint = endpoint }
  local request = assert(core.operation("arcgis", "providers", "list")(transport))
  targets[i] = { endpoint = endpoint, origin = endpoint:match "^%w+://[^/]+", transport = transport,
    request = request }
end

-- The headers by the text of RFC 9112, in Lua: first values, and all values joined.
local function parse(head)
  local first, joined, line_number = {}, {}, 0
  for line in (head .. (head:find "\n$" and "" or "\n")):gmatch "(.-)\n" do
    line_number = line_number + 1
    local name, value = line:match "^([^:]*):(.*)$"
    if name and line_number > 1 then
      name = name:gsub("%u", string.lower)
      value = value:gsub("^[ \t\n\v\f\r]+", ""):gsub("[ \t\n\v\f\r]+$", "")
      first[name] = first[name] or value
      joined[name] = joined[name] and joined[name] .. ", " .. value or value
    end
  end
  return first, joined
end

local function check_request(request, target, link)
  local url, lines = transfer.look(request)
  local scheme, host, port, user = transfer.identity(url)
  local own_scheme, own_host, own_port = transfer.identity(target.endpoint)
  assert(scheme == own_scheme and host == own_host and port == own_port and not user,
    ("%q leads from %s to %s"):format(link, target.endpoint, url))
  assert(url:find(target.origin, 1, true) == 1, "not the client's spelling of its origin")
  assert(url:find("^[/?]", #target.origin + 1) or url == target.origin, "the origin goes on")
  assert(not url:find "[%c \\\127]", "the URL holds what no URL can")
  for _, line in ipairs(lines) do assert(not line:find "[%c\127]", "a header with a line break") end
end

local function check_link(link)
  for _, target in ipairs(targets) do
    local followed = target.request:follow(target.transport, link)
    local made = core.link("arcgis", "providers", "list", target.transport, link)
    assert((followed == nil) == (made == nil), "follow and link disagree")
    if followed then check_request(followed, target, link) end
    if made then check_request(made, target, link) end
  end
end

-- A text as the endpoint of a client, and as its proxy.
local function check_endpoint(text)
  local made, transport = pcall(core.transport, { endpoint = text, allow_plain_http = true })
  if made then
    local request = assert(core.operation("arcgis", "providers", "list")(transport))
    local url = transfer.look(request)
    local scheme, host, port, user = transfer.identity(url)
    local own_scheme, own_host, own_port = transfer.identity(text)
    assert(scheme == own_scheme and host == own_host and port == own_port and not user,
      ("%q makes %s"):format(text, url))
    assert(not url:find "[%c \\\127#]" and select(2, url:gsub("?", "")) == 1, "no clean URL")
    assert(host == "another.example" or not request:follow(transport, "https://another.example/"),
      "every origin is its own")
  end
  local taken, problem = pcall(core.transport, { endpoint = ENDPOINTS[1], proxy = text })
  assert(taken or PROXY_PROBLEMS[problem], "what is said of a proxy may repeat it")
end

local function check_after(answer)
  local after = retry.after(answer)
  if after == nil then return end
  assert(type(after) == "number" and after >= 0 and after == after, "no time to wait")
  local delay = retry.delay(1, after)
  assert(delay == nil or delay >= 0 and delay <= 120, "a wait without end")
end

-- Nothing that a server says of quotas stops a client for good.
local function check_throttle(answer)
  local paces = throttle.new { QUOTA }
  paces:observe("", "a:b", answer, nil, nil)
  for _ = 1, 2 do
    local slot = paces:slot "a:b"
    local seconds = paces:delay("", slot, math.huge)
    assert(seconds and seconds >= 0 and seconds <= 1, "a pace without end")
  end
end

local request = targets[1].request

return function(text)
  if not text:find "\n" then
    check_endpoint(text)
    return check_link(text)
  end
  local answer = transfer.finish(request, { status = 200, head = text })
  local first, joined = parse(text)
  local headers = answer:headers()
  for name, value in pairs(joined) do
    assert(headers[name] == value, "headers() misses " .. name)
  end
  for name in pairs(headers) do assert(joined[name], "headers() makes up " .. name) end
  for _, name in ipairs(NAMES) do
    local value = answer:header(name)
    -- the status line is not looked at by headers() and begins like no header that is asked for
    if not text:find("^[^\n:]*:") then
      assert(value == first[name:lower()], "header() disagrees about " .. name)
    end
    if value then check_link(value) end
  end
  check_after(answer)
  check_throttle(answer)
end
