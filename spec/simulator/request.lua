-- What a request says, read once.
local request = {}

local function unescape (text)
  -- ngx.unescape_uri would also turn a plus sign into a space, which is wrong in a path.
  return (text:gsub("%%(%x%x)", function (hex) return string.char(tonumber(hex, 16)) end))
end

local function body ()
  ngx.req.read_body()
  local data, path = ngx.req.get_body_data(), ngx.req.get_body_file()
  if not path then return data or "" end
  local file = assert(io.open(path, "rb"))
  data = file:read("*a")
  file:close()
  return data
end

-- Segments are split before they are decoded: a slash inside a name is no separator.
local function segments (raw_path)
  local list = {}
  for segment in raw_path:gmatch "[^/]+" do list[#list + 1] = unescape(segment) end
  return list
end

function request.read (service)
  local uri = ngx.var.request_uri
  local raw_path = uri:match "^[^?]*"
  return {
    service = service,
    method = ngx.req.get_method(),
    origin = ngx.var.scheme .. "://" .. (ngx.var.http_host or ""),
    uri = uri,
    raw_path = raw_path,
    path = unescape(raw_path),
    segments = segments(raw_path),
    query = ngx.req.get_uri_args(0),
    headers = ngx.req.get_headers(0),
    body = body(),
  }
end

-- The last segment of a decoded path: for an action, its name.
function request.operation (path)
  return path:match "([^/]*)/?$"
end

local function same (a, b)
  return a:lower() == b:lower()
end

local criteria = {
  service = function (want, r) return want == "any" or want == r.service end,
  method = function (want, r) return same(want, r.method) end,
  path = function (want, r) return r.path:find(want) ~= nil end,
  uri = function (want, r) return r.uri:find(want) ~= nil end,
  suffix = function (want, r) return want == "" or r.path:sub(-#want) == want end,
  operation = function (want, r) return same(want, request.operation(r.path)) end,
  name = function (want, r)
    local name = r.path:lower():match "/integrationruntimes/([^/]+)"
    return name == want:lower()
  end,
}

-- Whether `criteria` (all optional) can be used for matching; else nil and what is wrong.
function request.check_criteria (wanted)
  for name, want in pairs(wanted) do
    if not criteria[name] then return nil, "unknown criterion '" .. name .. "'" end
    if type(want) ~= "string" then return nil, "criterion '" .. name .. "' must be a string" end
  end
  for _, name in ipairs { "path", "uri" } do
    local ok, err = pcall(string.find, "", wanted[name] or "")
    if not ok then return nil, ("bad pattern in '%s': %s"):format(name, err) end
  end
  return true
end

-- `subject` is a request, or what the journal keeps of one.
function request.matches (wanted, subject)
  for name, want in pairs(wanted) do
    if not criteria[name](want, subject) then return false end
  end
  return true
end

return request
