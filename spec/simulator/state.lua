-- The factories and their integration runtimes. A runtime is computed from its number and from the
-- few values stored for it, so that ten thousand cost no more than one.
local json = require "simulator.json"
local merge = require("simulator.tables").merge
local store = require "simulator.store"

local state = {}

local factories = ngx.shared.factories
local runtimes = ngx.shared.runtimes
local gauges = ngx.shared.gauges

local default_subscription = os.getenv "CLOUDSYNC_SIM_SUBSCRIPTION_ID"
local default_group = os.getenv "CLOUDSYNC_SIM_RESOURCE_GROUP"
local default_factory = os.getenv "CLOUDSYNC_SIM_FACTORY"

local defaults = {
  subscriptionId = default_subscription,
  resourceGroupName = default_group,
  runtimes = 200,
  managed = 0,
  linked = 0,
  offline = 0,
  in_sync = 0,
  page_size = 50,
  latency = 0,
  sync_seconds = 0.2,
  nodes = 2,
  resource = {}, -- what a client has put, as Azure keeps it
}

-- Fields of a definition that have no default.
local special = { factoryName = "string", profile = "string", overrides = "table" }

local profiles = {
  plain = {},
  demo = { runtimes = 200, managed = 6, linked = 4, offline = 2, in_sync = 12, latency = 0.02 },
}

local function factory_key (subscription, group, name)
  return (subscription .. "/" .. group .. "/" .. name):lower()
end

local function field_key (factory, name, field)
  return factory.epoch .. ":" .. name:lower() .. ":" .. field
end

local function get (factory, name, field)
  return runtimes:get(field_key(factory, name, field))
end

local function set (factory, name, field, value)
  assert(runtimes:safe_set(field_key(factory, name, field), value))
end

-- Creates or replaces a factory and returns it, or nil and why not. What was stored for the
-- runtimes of the one before goes out of reach with its epoch.
function state.define (spec)
  for name, value in pairs(spec) do
    if type(value) ~= (special[name] or type(defaults[name])) then
      return nil, ("'%s' is unknown or of the wrong type"):format(name)
    end
  end
  local profile = profiles[spec.profile or "plain"]
  if not profile then return nil, ("unknown profile '%s'"):format(spec.profile) end
  if not spec.factoryName then return nil, "'factoryName' is missing" end

  local factory = merge(defaults, profile, spec)
  factory.overrides, factory.profile = nil, nil
  factory.epoch, factory.created = gauges:incr("epoch", 1, 0), ngx.now()
  for name, override in pairs(spec.overrides or {}) do
    set(factory, name, "override", json.encode(override))
  end
  state.save(factory)
  return factory
end

function state.save (factory)
  store.write("factories", factory_key(factory.subscriptionId, factory.resourceGroupName,
    factory.factoryName), factory)
end

function state.reset ()
  factories:flush_all()
  runtimes:flush_all()
  assert(state.define { factoryName = default_factory, profile = "demo" })
end

function state.factory (subscription, group, name)
  return store.read("factories", factory_key(subscription or default_subscription,
    group or default_group, name))
end

function state.remove (factory)
  factories:delete(factory_key(factory.subscriptionId, factory.resourceGroupName,
    factory.factoryName))
end

-- The factories of a subscription, or of one of its groups.
function state.factories (subscription, group)
  local prefix, found = (subscription .. "/" .. (group and group .. "/" or "")):lower(), {}
  for _, key in ipairs(factories:get_keys(0)) do
    if key:sub(1, #prefix) == prefix then found[#found + 1] = store.read("factories", key) end
  end
  table.sort(found, function (a, b) return a.epoch < b.epoch end)
  return found
end

function state.has_subscription (subscription)
  return subscription:lower() == default_subscription or #state.factories(subscription) > 0
end

function state.has_group (subscription, group)
  return (subscription .. "/" .. group):lower() == default_subscription .. "/" .. default_group
    or #state.factories(subscription, group) > 0
end

-- From the last numbers back: managed, linked, offline. From the first on: in sync.
local function nature (factory, number)
  local from_end = factory.runtimes - number
  if from_end < factory.managed then return "Managed", "Stopped" end
  from_end = from_end - factory.managed
  if from_end < factory.linked then return "Linked", "Online" end
  from_end = from_end - factory.linked
  return "SelfHosted", from_end < factory.offline and "Offline" or "Online"
end

local function created_nature (body)
  local properties = json.decode(body).properties
  if properties.type == "Managed" then return "Managed", "Stopped" end
  local linked = type(properties.typeProperties) == "table" and properties.typeProperties.linkedInfo
  if linked then return "Linked", "Online" end
  return "SelfHosted", "NeedRegistration"
end

-- Replacing a runtime's definition by one of the same kind does not unregister its nodes.
local function natures (factory, number, body)
  if not body then return nature(factory, number) end
  local kind, initial = created_nature(body)
  if not number then return kind, initial end
  local numbered_kind, numbered_initial = nature(factory, number)
  return kind, kind == numbered_kind and numbered_initial or initial
end

local function number_of (factory, name)
  local digits = name:match "^[Ii][Rr]%-(%d%d%d%d+)$"
  local number = tonumber(digits)
  return number and number <= factory.runtimes and number > 0
    and ("%04d"):format(number) == digits and number or nil
end

local function current_state (factory, name, initial)
  local transition = get(factory, name, "transition")
  if not transition then return initial end
  local during, after, done = transition:match "^(%a+) (%a+) (%S+)$"
  return ngx.now() < tonumber(done) and during or after
end

-- { name, kind = "SelfHosted" | "Linked" | "Managed", state, in_sync, body, override }, or nil.
-- Names are told apart as Azure does, whatever their case.
function state.runtime (factory, name)
  local number = number_of(factory, name)
  local body = get(factory, name, "body")
  if get(factory, name, "deleted") or not number and not body then return nil end
  local override = json.decode(get(factory, name, "override") or "{}")
  local kind, initial = natures(factory, number, body)
  local synced = get(factory, name, "synced")
  local in_sync = number ~= nil and number <= factory.in_sync
  if override.stale ~= nil then in_sync = not override.stale end
  if synced and ngx.now() >= synced + (override.sync_seconds or factory.sync_seconds) then
    in_sync = true
  end
  return {
    name = number and ("ir-%04d"):format(number) or get(factory, name, "name"),
    kind = kind,
    state = current_state(factory, name, override.state or initial),
    in_sync = in_sync,
    body = body,
    override = override,
  }
end

-- Runtimes have positions, in which a deleted one leaves a gap.
function state.count (factory)
  return factory.runtimes + (get(factory, "", "created") or 0)
end

function state.name_at (factory, position)
  if position <= factory.runtimes then return ("ir-%04d"):format(position) end
  return get(factory, "", "created " .. position - factory.runtimes)
end

-- Creates a runtime or replaces its definition, which is JSON text.
function state.put_runtime (factory, name, body)
  if not number_of(factory, name) and not get(factory, name, "name") then
    local nth = runtimes:incr(field_key(factory, "", "created"), 1, 0)
    set(factory, "", "created " .. nth, name)
    set(factory, name, "name", name)
  end
  set(factory, name, "body", body)
  runtimes:delete(field_key(factory, name, "deleted"))
end

function state.delete_runtime (factory, name)
  for _, field in ipairs { "body", "override", "synced", "syncs", "transition" } do
    runtimes:delete(field_key(factory, name, field))
  end
  set(factory, name, "deleted", true)
end

function state.sync (factory, name)
  runtimes:incr(field_key(factory, name, "syncs"), 1, 0)
  set(factory, name, "synced", ngx.now())
end

-- How often each runtime's credentials were really synchronised, and in all.
function state.syncs (factory)
  local synced, total = {}, 0
  for position = 1, state.count(factory) do
    local name = state.name_at(factory, position)
    local syncs = get(factory, name, "syncs")
    if syncs then
      synced[name] = { syncs = syncs }
      total = total + syncs
    end
  end
  return synced, total
end

-- The runtime is in the state `during` for some seconds, and from then on in `after`.
function state.change (factory, name, during, after, seconds)
  set(factory, name, "transition", ("%s %s %.3f"):format(during, after, ngx.now() + seconds))
end

-- Counts a regeneration of one of the two authentication keys.
function state.renew_key (factory, name, key_name)
  runtimes:incr(field_key(factory, name, key_name), 1, 0)
end

function state.auth_key (factory, name, key_name)
  local version = get(factory, name, key_name) or 0
  return "IR@" .. ngx.encode_base64(ngx.sha1_bin(table.concat({ factory.epoch, name:lower(),
    key_name, version }, ":")))
end

return state
