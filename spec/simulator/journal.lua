-- Every request received, and how it was answered.
local json = require "simulator.json"
local request = require "simulator.request"
local settings = require "simulator.settings"

local journal = {}

local entries = ngx.shared.journal
local counts = ngx.shared.counts
-- Apart from the counts, so that a reset cannot make a request in flight count below zero.
local gauges = ngx.shared.gauges

local function raise_peak (service)
  local now = gauges:incr(service, 1, 0)
  while (counts:get("peak:" .. service) or 0) < now do counts:set("peak:" .. service, now) end
end

local function keep (r, size)
  local id = counts:incr("last id", 1, 0)
  entries:set(id, json.encode {
    id = id,
    service = r.service,
    method = r.method,
    path = r.path,
    uri = r.uri,
    query = r.query,
    headers = r.headers,
    body = r.body,
    http_version = ngx.req.http_version(),
    connection = tonumber(ngx.var.connection),
    connection_requests = tonumber(ngx.var.connection_requests),
    time = ngx.req.start_time(),
  })
  entries:delete(id - size)
  entries:delete("outcome:" .. id - size)
  counts:incr("target:" .. r.method .. " " .. r.path, 1, 0)
  return id
end

-- On arrival, so that a request whose connection is then cut is kept too. Returns its id, if kept.
function journal.arrive (r)
  raise_peak(r.service)
  counts:incr("total", 1, 0)
  counts:incr("operation:" .. r.method .. " " .. request.operation(r.path), 1, 0)
  local size = settings.current().journal
  return size and keep(r, size)
end

function journal.leave (service, id, fault)
  gauges:incr(service, -1, 0)
  if not id then return end
  -- 444 stands for a connection that was cut before there was a status.
  local status = ngx.status ~= 444 and ngx.status or nil
  entries:set("outcome:" .. id, json.encode { status = status, fault = fault })
end

local function entry (id, criteria)
  local text = entries:get(id)
  if not text then return nil end
  if next(criteria) and not request.matches(criteria, json.decode(text)) then return nil end
  local outcome = entries:get("outcome:" .. id)
  return outcome and outcome ~= "{}" and text:sub(1, -2) .. "," .. outcome:sub(2) or text
end

-- The requests after the one with the id `since`, as JSON.
function journal.list (since, criteria)
  local last = counts:get "last id" or 0
  local found = {}
  for id = math.max(since, last - (settings.current().journal or 0)) + 1, last do
    local text = entry(id, criteria)
    if text then found[#found + 1] = json.raw(text) end
  end
  return { requests = json.array(found), next = last }
end

local function with_prefix (prefix)
  local found = {}
  for _, key in ipairs(counts:get_keys(0)) do
    if key:sub(1, #prefix) == prefix then found[key:sub(#prefix + 1)] = counts:get(key) end
  end
  return found
end

function journal.counts ()
  return {
    total = counts:get "total" or 0,
    by_operation = with_prefix "operation:",
    by_target = with_prefix "target:",
    max_in_flight = with_prefix "peak:",
  }
end

-- Ids go on rising, so that a reader's `since` stays good.
function journal.clear ()
  local last = counts:get "last id"
  entries:flush_all()
  counts:flush_all()
  counts:set("last id", last or 0)
end

return journal
