-- /_simulator/: how a test arranges what happens, and learns what has happened.
local answer = require "simulator.answer"
local arcgis_state = require "simulator.arcgis_state"
local arcgis_tokens = require "simulator.arcgis_tokens"
local faults = require "simulator.faults"
local journal = require "simulator.journal"
local json = require "simulator.json"
local merge = require("simulator.tables").merge
local request = require "simulator.request"
local settings = require "simulator.settings"
local state = require "simulator.state"
local tokens = require "simulator.tokens"
local vcenter_sessions = require "simulator.vcenter_sessions"
local vcenter_state = require "simulator.vcenter_state"

local control = {}

local function ok (body)
  return answer.new(200, body or {})
end

local function refuse (status, message)
  return answer.new(status, { error = message })
end

-- Wraps a function of the decoded body, which has to be there.
local function with_body (act)
  return function (r)
    local body = json.decode(r.body)
    if type(body) ~= "table" then return refuse(400, "the body must be JSON") end
    return act(body)
  end
end

function control.reset ()
  for _, name in ipairs { "settings", "limits", "operations" } do ngx.shared[name]:flush_all() end
  faults.clear()
  journal.clear()
  state.reset()
  arcgis_tokens.reset()
  arcgis_state.reset()
  vcenter_sessions.expire()
  vcenter_state.reset()
end

local function names_by_kind (factory)
  local names = { SelfHosted = json.array(), Linked = json.array(), Managed = json.array(),
    Offline = json.array() }
  for position = 1, state.count(factory) do
    local runtime = state.runtime(factory, state.name_at(factory, position))
    if runtime then
      table.insert(names[runtime.kind], runtime.name)
      if runtime.state == "Offline" then table.insert(names.Offline, runtime.name) end
    end
  end
  return { self_hosted = names.SelfHosted, linked = names.Linked, managed = names.Managed,
    offline = names.Offline }
end

local function describe (factory)
  local synced, total = state.syncs(factory)
  local names = names_by_kind(factory)
  return ok(merge(factory, {
    synced = synced,
    syncs = total,
    names = names,
    runtimes = #names.self_hosted + #names.linked + #names.managed,
  }))
end

local routes = {}

routes["POST reset"] = function ()
  control.reset()
  return ok()
end

routes["POST factories"] = with_body(function (spec)
  local factory, err = state.define(spec)
  if not factory then return refuse(400, err) end
  return describe(factory)
end)

routes["GET factories"] = function (r)
  local factory = state.factory(r.query.subscriptionId, r.query.resourceGroupName,
    r.segments[3] or "")
  return factory and describe(factory) or refuse(404, "no such factory")
end

routes["POST faults"] = with_body(function (rules)
  local ids, err = faults.add(rules)
  return ids and ok { ids = json.array(ids) } or refuse(400, err)
end)

routes["GET faults"] = function ()
  return ok { faults = faults.list() }
end

routes["DELETE faults"] = function ()
  faults.clear()
  return ok()
end

routes["GET requests"] = function (r)
  local criteria = r.query
  local since = tonumber(criteria.since) or 0
  criteria.since = nil
  local good, err = request.check_criteria(criteria)
  return good and ok(journal.list(since, criteria)) or refuse(400, err)
end

routes["DELETE requests"] = function ()
  journal.clear()
  return ok()
end

routes["GET counts"] = function ()
  return ok(journal.counts())
end

routes["GET settings"] = function ()
  return ok(settings.current())
end

routes["POST settings"] = with_body(function (changes)
  local changed, wrong = settings.change(changes)
  return changed and ok(changed)
    or refuse(400, "setting '" .. wrong .. "' is unknown or has a wrong value")
end)

routes["POST tokens"] = function (r)
  if r.segments[3] ~= "revoke" then return refuse(404, "only tokens/revoke is there") end
  tokens.revoke()
  arcgis_tokens.revoke()
  return ok()
end

local function describe_vcenter ()
  return ok(merge(vcenter_state.describe(), vcenter_sessions.counts(),
    { sessions = vcenter_sessions.list() }))
end

routes["GET vcenter"] = describe_vcenter

routes["POST vcenter"] = with_body(function (spec)
  local good, err = vcenter_state.define(spec)
  return good and describe_vcenter() or refuse(400, err)
end)

routes["POST sessions"] = function (r)
  if r.segments[3] ~= "expire" then return refuse(404, "only sessions/expire is there") end
  vcenter_sessions.expire()
  return ok()
end

local function describe_arcgis ()
  return ok(merge(arcgis_state.describe(), arcgis_tokens.counts()))
end

routes["GET arcgis"] = describe_arcgis

routes["POST arcgis"] = with_body(function (spec)
  local good, err = arcgis_state.define(spec)
  return good and describe_arcgis() or refuse(400, err)
end)

function control.serve ()
  local r = request.read "control"
  local route = routes[r.method .. " " .. (r.segments[2] or "")]
  return answer.send(route and route(r) or refuse(404, "no such control: see README.md"))
end

return control
