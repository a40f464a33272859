--- Starts the synchronisation of a link's providers and waits for its end.
--
-- See [Sync Providers](https://developer.broadcom.com/xapis/vsphere-automation-api/v7.0U2/vcenter/hvc/links-sync).
local check = require "cloudsync.options".check
local core = require "cloudsync.core"
local tasks = require "cloudsync.tasks"

local OPTIONS = {
  link = "string", provider = "string", credentials = "table", if_busy = "string",
  timeout = "number", interval = "number", on_progress = "function", concurrency = "count",
}

local IF_BUSY = { error = true, join = true, skip = true }

local function fail(entry, err)
  entry.outcome, entry.err, entry.reason = "failed", err, err.message
  return entry
end

-- The time of the last sync: it moves when the one that is started here begins.
local function last_sync_time(vc, entry)
  local info, err = vc.sync_providers:get { link = entry.link, provider = entry.provider }
  if info == nil then return nil, err end
  local time = type(info) == "table" and info.last_sync_time
  return type(time) == "string" and time or ""
end

-- Starts the sync. Returns whether there is one to wait for; the entry says why not.
local function start(vc, entry, options)
  local ok, response = vc.sync_providers:start {
    link = entry.link, provider = entry.provider, credentials = options.credentials,
  }
  entry.attempts = response.attempts
  if ok ~= nil then return true end
  local if_busy = response.kind == "busy" and options.if_busy or "error"
  if if_busy == "join" then
    entry.joined = true
    return true
  end
  if if_busy == "skip" then
    entry.outcome, entry.reason = "skipped", "a sync of this provider is under way already"
    return false
  end
  -- one whose fate is unknown is not started again: the provider tells whether it runs
  if response.outcome == "unknown" then
    entry.unknown = response
    return true
  end
  fail(entry, response)
  return false
end

local function sync(vc, entry, options)
  local before, err = last_sync_time(vc, entry)
  if not before then return fail(entry, err) end
  if not start(vc, entry, options) then return entry end
  local handle = vc:sync_poller {
    link = entry.link, provider = entry.provider, before = before, joined = entry.joined,
  }
  entry.token = handle:token()
  local info, failure = handle:wait {
    timeout = options.timeout or 3600, interval = options.interval,
    on_progress = options.on_progress and function(status)
      options.on_progress { link = entry.link, provider = entry.provider, status = status }
    end,
  }
  if info == nil then return fail(entry, entry.unknown or failure) end
  entry.outcome, entry.info = "synced", info
  entry.reason = entry.unknown and tostring(entry.unknown) or nil
  return entry
end

-- The providers that are wanted, as entries of the report; or nil and an error.
local function entries_of(vc, options)
  local links, entries = { { link = options.link } }, {}
  if not options.link then
    local found, err = vc.links:list()
    if found == nil then return nil, err end
    links = found
  end
  for _, link in ipairs(links) do
    local providers, err = { { provider = options.provider } }, nil
    if not options.provider then providers, err = vc.sync_providers:list { link = link.link } end
    if providers == nil and (options.link or err.kind == "unsupported") then return nil, err end
    if providers == nil then
      entries[#entries + 1] = fail({ link = link.link, attempts = err.attempts }, err)
    end
    for _, provider in ipairs(providers or {}) do
      entries[#entries + 1] = { link = link.link, provider = provider.provider, attempts = 0 }
    end
  end
  return entries
end

--- Runs the workflow. One provider's failure never stops the others.
-- @param vc a client of `cloudsync.vcenter`
-- @tparam ?table options
--
--   - `link`, `provider`: which one; all providers of the link, or of all links, without them
--   - `credentials`: `{user_name, password}` of the link's other side
--   - `if_busy`: "error" (the default), "join" waits for the sync that is under way, "skip"
--   - `timeout` (3600 s), `interval` (growing): of the waiting for one provider
--   - `on_progress`: called with `{link, provider, status}` at each look
--   - `concurrency` (16)
-- @treturn table report: `providers`, a list of `{link, provider, outcome, joined, reason, err, info,
--   token, attempts, elapsed}`, `outcome` being `synced`, `skipped` or `failed`; `counts`, `ok`,
--   `elapsed`. Nil and an error where nothing could be listed.
return function(vc, options)
  check(options, OPTIONS, "sync_link", 2)
  options = options or {}
  if options.if_busy and not IF_BUSY[options.if_busy] then
    error('sync_link: option \'if_busy\' must be "error", "join" or "skip"', 2)
  end
  if options.provider and not options.link then
    error("sync_link: a provider needs its link", 2)
  end
  local started = core.now()
  local entries, err = entries_of(vc, options)
  if not entries then return nil, err end
  local counts = { total = #entries, synced = 0, skipped = 0, failed = 0 }
  tasks.map(entries, function(entry)
    local began = core.now()
    if not entry.outcome then sync(vc, entry, options) end
    entry.elapsed, entry.unknown = core.now() - began, nil
    counts[entry.outcome] = counts[entry.outcome] + 1
  end, { concurrency = options.concurrency })
  return { providers = entries, counts = counts, ok = counts.failed == 0,
    elapsed = core.now() - started }
end
