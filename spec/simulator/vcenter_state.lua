-- The links of a vCenter, their sync providers, and what has become of the syncs.
local json = require "simulator.json"
local settings = require "simulator.settings"
local store = require "simulator.store"
local tables = require "simulator.tables"

local state = {}

local dict = ngx.shared.vcenter

local provider_fields = {
  provider = "string",
  stale = { boolean = true, number = true }, -- the last sync: seconds ago, or true for a day
  status = "string", -- how it ended
  sync_seconds = "number",
  fail = "boolean",
  vanish = "boolean", -- a session is gone once it has ended
  stages = "table", -- in place of the three
}
local link_fields = {
  link = "string", display_name = "string", providers = "table",
  health = "string",
  credentials = "table", -- those that its remote side takes; without, any
}
local definition_fields = { version = "string", links = "table", administrators = "table" }

local default_providers = { { provider = "tagging" }, { provider = "authorization", stale = true } }
local defaults = {
  version = "7.0",
  administrators = { "administrators@sim.example" },
  links = {
    { link = "link-1", display_name = "sddc-1.example", providers = default_providers },
    { link = "link-2", display_name = "sddc-2.example",
      providers = { { provider = "tagging", status = "NO_SYNC_FOUND" },
        { provider = "authorization" } } },
  },
}

-- Which bases a version has, and which parts of the tree under /hvc.
state.versions = {
  ["6.7"] = { rest = true, links = true, sync = true, management = true },
  ["7.0"] = { rest = true, api = true, links = true, sync = true, management = true },
  ["8.0U1"] = { rest = true, api = true, links = true, management = true },
  ["9.1"] = { api = true },
}

local function check_providers (providers)
  for _, provider in ipairs(providers) do
    local good, err = tables.check(provider, provider_fields)
    if not good then return nil, err end
    if not provider.provider then return nil, "'provider' is missing" end
  end
  return true
end

local function check_links (links)
  for _, link in ipairs(links) do
    local good, err = tables.check(link, link_fields)
    if not good then return nil, err end
    if not link.link then return nil, "'link' is missing" end
    good, err = check_providers(link.providers or {})
    if not good then return nil, err end
  end
  return true
end

local function check (spec)
  local good, err = tables.check(spec, definition_fields)
  if not good then return nil, err end
  if spec.version and not state.versions[spec.version] then
    return nil, ("unknown version '%s'"):format(spec.version)
  end
  return check_links(spec.links or {})
end

local function save (definition)
  store.write("vcenter", "definition", definition)
end

-- Replaces everything but the sessions. Returns true, or nil and what is wrong.
function state.define (spec)
  local good, err = check(spec)
  if not good then return nil, err end
  local counts = { logins = dict:get "logins", logouts = dict:get "logouts" }
  dict:flush_all()
  for name, count in pairs(counts) do dict:set(name, count) end
  save(tables.merge(defaults, spec, { defined = ngx.now() }))
  return true
end

function state.reset ()
  dict:flush_all()
  assert(state.define {})
end

local function definition ()
  return store.read("vcenter", "definition")
end

-- change(definition) on a copy of its own, which is then kept.
local function change (act)
  local copy = json.decode(dict:get "definition")
  act(copy)
  save(copy)
end

function state.version ()
  return definition().version
end

function state.links ()
  return definition().links
end

function state.link (id)
  return (tables.find(state.links(), "link", id))
end

-- Adds a link made from a client's specification, and returns its id.
function state.create_link (id, spec)
  local providers = { { provider = "tagging", status = "NO_SYNC_FOUND" },
    { provider = "authorization", status = "NO_SYNC_FOUND" } }
  change(function (copy)
    table.insert(copy.links, { link = id, display_name = spec.psc_hostname, spec = spec,
      providers = providers })
  end)
  return id
end

function state.delete_link (id)
  change(function (copy)
    local _, position = tables.find(copy.links, "link", id)
    table.remove(copy.links, position)
  end)
end

function state.administrators ()
  return definition().administrators
end

function state.set_administrators (names)
  change(function (copy) copy.administrators = names end)
end

local function key (link, provider)
  return ("sync:%s:%d:%s"):format(link.link, #link.link, provider.provider)
end

local function ended (sync)
  return sync.canceled ~= nil or ngx.now() >= sync.started + sync.seconds
end

local function last_sync (link, provider)
  local text = dict:get(key(link, provider))
  return text and json.decode(text) or nil
end

-- How the last sync that has ended went. It stays so while another one runs.
local function result (provider, sync)
  if not sync then return provider.status or "SUCCEEDED" end
  if not ended(sync) then return sync.before end
  return (sync.fail or sync.canceled) and "FAILED" or "SUCCEEDED"
end

local function last_time (provider, sync)
  if sync then return sync.started end
  if provider.status == "NO_SYNC_FOUND" then return nil end
  local ago = provider.stale == true and 86400 or provider.stale or 300
  return definition().defined - ago
end

-- Starts a sync; returns nothing if one is running. Of two workers that come here at once, only one
-- can add the claim to be the next.
function state.start (link, provider, credentials)
  local before = last_sync(link, provider)
  if before and not ended(before) then return nil end
  local number = (before and before.number or 0) + 1
  if not dict:add(("claim:%s:%d"):format(key(link, provider), number), true) then return nil end
  dict:set(key(link, provider), json.encode {
    number = number,
    started = ngx.now(),
    seconds = provider.sync_seconds or settings.current().vcenter_sync_seconds,
    fail = provider.fail or nil,
    before = result(provider, before),
    credentials = credentials,
  })
  return number
end

-- Cancels what runs on a link, and forgets the sessions that have ended.
function state.cancel (link)
  for _, provider in ipairs(link.providers or {}) do
    local sync = last_sync(link, provider)
    if sync then
      if ended(sync) then sync.forgotten = true else sync.canceled = ngx.now() end
      dict:set(key(link, provider), json.encode(sync))
    end
  end
end

local stages = { "CHANGE_DETECTION", "CHANGE_ENUMERATION", "CHANGE_APPLICATION" }
local total_work = 300

-- The session of the sync, or nil if it is gone.
local function session (provider, sync)
  local done = ended(sync)
  if sync.forgotten or done and provider.vanish then return nil end
  local until_when = sync.canceled or math.min(ngx.now(), sync.started + sync.seconds)
  local progress = sync.seconds > 0 and (until_when - sync.started) / sync.seconds or 1
  local failed = done and (sync.fail or sync.canceled)
  if failed then progress = math.min(progress, 0.5) end
  local names = provider.stages or stages
  return {
    stage = failed and "FAILED" or done and "COMPLETED"
      or names[math.min(math.floor(progress * #names) + 1, #names)],
    completed_work = math.floor(progress * total_work),
    total_work = total_work,
    started = sync.started,
    completed = done and until_when or nil,
  }
end

-- { status, last_time, starts, session, credentials }
function state.sync (link, provider)
  local sync = last_sync(link, provider)
  return {
    status = result(provider, sync),
    last_time = last_time(provider, sync),
    starts = sync and sync.number or 0,
    session = sync and session(provider, sync),
    credentials = sync and sync.credentials,
  }
end

local function describe_link (link)
  local providers = json.array()
  for i, provider in ipairs(link.providers or {}) do
    local sync = state.sync(link, provider)
    providers[i] = { provider = provider.provider, status = sync.status, starts = sync.starts,
      stage = sync.session and sync.session.stage, credentials = sync.credentials }
  end
  return { link = link.link, display_name = link.display_name, spec = link.spec,
    providers = providers }
end

-- All of it, for a test.
function state.describe ()
  local links, starts = json.array(), 0
  for i, link in ipairs(state.links()) do
    links[i] = describe_link(link)
    for _, provider in ipairs(links[i].providers) do starts = starts + provider.starts end
  end
  return { version = state.version(), links = links, starts = starts,
    administrators = json.array(tables.merge(state.administrators())) }
end

return state
