--- Synchronises the credentials of every integration runtime of a data factory.
--
-- A sync overwrites the credentials of a runtime's worker nodes with those of its dispatcher node,
-- so a runtime whose dispatcher is not online is left alone. See
-- [Sync Credentials](https://learn.microsoft.com/rest/api/datafactory/integration-runtimes/sync-credentials).
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local check = require "cloudsync.options".check
local tasks = require "cloudsync.tasks"

local OPTIONS = {
  concurrency = "count", only = "table", stale_only = "boolean", preflight = "boolean",
  force = "boolean", verify = "boolean", timeout = "number", dry_run = "boolean",
  on_progress = "function",
}

local DEFAULTS = { concurrency = 16, preflight = true, timeout = 300 }

local FIRST_LOOK, LONGEST_LOOK = 0.25, 5 -- s between two looks at a runtime's status

-- What may pass while a runtime is being looked at. Throttling is not among it: the call itself has
-- waited as long as it was asked to and could.
local PASSING = { service = true, transport = true, timeout = true, protocol = true,
  not_found = true }

local function settings_of(options)
  local settings = {}
  for name, value in pairs(DEFAULTS) do settings[name] = value end
  for name, value in pairs(options or {}) do settings[name] = value end
  return settings
end

local function field(value, ...)
  for _, name in ipairs { ... } do
    if type(value) ~= "table" then return nil end
    value = value[name]
  end
  return value ~= core.null and value or nil
end

-- Why a runtime can't be synchronised at all, or nil.
local function unsuitable(runtime)
  local kind = field(runtime, "properties", "type")
  if kind ~= "SelfHosted" then
    return ("%s: Azure keeps the credentials of its nodes itself"):format(
      kind == "Managed" and "managed" or "of type " .. tostring(kind))
  end
  if field(runtime, "properties", "typeProperties", "linkedInfo") then
    return "linked: its credentials are synchronised where it is shared from"
  end
end

local function nodes_of(status)
  return field(status, "properties", "typeProperties", "nodes") or {}
end

local function is_true(value)
  return value == true or tostring(value):lower() == "true"
end

-- What is not in sync: a node that does not say that it is, or that there is none; nil where all
-- nodes say so.
local function stale_part(status)
  local nodes = nodes_of(status)
  if #nodes == 0 then return "no node is registered" end
  for _, node in ipairs(nodes) do
    if not is_true(field(node, "capabilities", "credentialInSync")) then
      return ("node %s does not say credentialInSync"):format(tostring(field(node, "nodeName")))
    end
  end
end

-- Why a sync would do harm or nothing, or nil.
local function dispatcher_problem(status)
  local nodes = nodes_of(status)
  if #nodes == 0 then return "no node is registered" end
  for _, node in ipairs(nodes) do
    if is_true(node.isActiveDispatcher) then
      if node.status == "Online" then return nil end
      return ("its dispatcher node %s is %s, not online: a sync could overwrite good credentials "
        .. "(force to do it all the same)"):format(tostring(node.nodeName), tostring(node.status))
    end
  end
  return "it has no active dispatcher node (force to sync it all the same)"
end

local function fail(entry, err)
  entry.outcome, entry.err, entry.reason = "failed", err, err.message
  return entry
end

local function skip(entry, reason)
  entry.outcome, entry.reason = "skipped", reason
  return entry
end

local function status_of(run, entry, deadline)
  local status, response = run.adf.integration_runtimes:get_status(
    { integrationRuntimeName = entry.name }, { deadline = deadline })
  entry.attempts = entry.attempts + (response and response.attempts or 0)
  return status, response
end

local function not_in_sync(entry, seconds, part)
  return errors.new {
    kind = "timeout", service = "datafactory", operation = "integration_runtimes:get_status",
    outcome = "unknown", target = entry.name, retryable = true, attempts = entry.attempts,
    message = ("%s after %g s"):format(part, seconds),
  }
end

-- Looks until every node is in sync. Returns whether it is, or false and an error.
local function verify(run, entry)
  local timeout = run.settings.timeout
  local deadline, pause = core.now() + timeout, FIRST_LOOK
  local failure
  while true do
    local left = deadline - core.now()
    if left <= 0 then return false, failure end
    local status, err = status_of(run, entry, left)
    local part = status ~= nil and stale_part(status)
    if status ~= nil and not part then return true end
    if status == nil and not PASSING[err.kind] then return false, err end
    if part then
      failure = not_in_sync(entry, timeout, part)
    elseif not failure or core.now() < deadline then
      failure = err -- what the deadline cuts short tells less than what was seen before
    end
    left = deadline - core.now()
    tasks.sleep(math.max(0, math.min(left, pause * (0.75 + core.random() / 2))))
    pause = math.min(LONGEST_LOOK, pause * 2)
  end
end

-- Verifies a sync, also one whose fate is unknown: it is not sent again, the nodes tell.
local function settle(run, entry, unknown)
  local verified, err = verify(run, entry)
  entry.verified = verified
  if not verified then return fail(entry, unknown or err) end
  entry.outcome = "synced"
  if unknown and not entry.was_stale then
    entry.outcome = "in_sync"
    entry.reason = "every node says that it is in sync, but not because of this sync: "
      .. tostring(unknown)
  end
  return entry
end

local function synchronise(run, entry)
  local ok, response = run.adf.integration_runtimes:sync_credentials {
    integrationRuntimeName = entry.name,
  }
  entry.attempts = entry.attempts + (response and response.attempts or 0)
  local unknown = ok == nil and response.outcome == "unknown" and response or nil
  if ok == nil and not (run.settings.verify and unknown) then return fail(entry, response) end
  if run.settings.verify then return settle(run, entry, unknown) end
  entry.outcome = "synced"
  return entry
end

-- Looks before the leap, where that is wanted. Returns whether the sync is to go on.
local function look(run, entry)
  local settings = run.settings
  if not settings.preflight and not settings.stale_only then return true end
  local status, err = status_of(run, entry)
  if status == nil then
    fail(entry, err)
    return false
  end
  entry.was_stale = stale_part(status) ~= nil
  if settings.stale_only and not entry.was_stale then
    entry.outcome, entry.verified = "in_sync", true
    return false
  end
  local problem = settings.preflight and not settings.force and dispatcher_problem(status)
  if problem then skip(entry, problem) end
  return not problem
end

local function handle(run, runtime)
  local name = field(runtime, "name")
  local entry = { name = tostring(name), type = field(runtime, "properties", "type"), attempts = 0 }
  if type(name) ~= "string" then
    return fail(entry, errors.new {
      kind = "protocol", service = "datafactory", outcome = "not_sent", attempts = 0,
      retryable = false, operation = "integration_runtimes:list_by_factory",
      message = "the list holds something that is no integration runtime",
    })
  end
  local reason = unsuitable(runtime)
  if reason then return skip(entry, reason) end
  if not look(run, entry) then return entry end
  if run.settings.dry_run then
    entry.outcome = "planned"
    return entry
  end
  return synchronise(run, entry)
end

-- Counts a runtime that is done and tells of it; what the observer raises is its own affair.
local function record(run, entry)
  local report = run.report
  entry.was_stale = nil
  report.runtimes[#report.runtimes + 1] = entry
  report.counts[entry.outcome] = report.counts[entry.outcome] + 1
  report.counts.total = report.counts.total + 1
  if run.settings.on_progress then
    pcall(run.settings.on_progress, { runtime = entry, counts = report.counts,
      elapsed = core.now() - run.started })
  end
end

-- The runtimes that are wanted, as an iterator.
local function wanted(run, runtimes)
  if not run.wanted then return runtimes end
  return function()
    for runtime in runtimes do
      local name = field(runtime, "name")
      if name and run.wanted[name] then
        run.wanted[name] = "seen"
        return runtime
      end
    end
  end
end

local function record_missing(run)
  for _, name in ipairs(run.settings.only or {}) do
    if run.wanted[name] ~= "seen" then
      record(run, fail({ name = name, attempts = 0 }, errors.new {
        kind = "not_found", service = "datafactory", outcome = "not_sent", target = name,
        message = ("the factory has no integration runtime '%s'"):format(name),
      }))
    end
  end
end

local function new_run(adf, settings)
  local run = {
    adf = adf, settings = settings, started = core.now(),
    report = {
      runtimes = {},
      counts = { total = 0, synced = 0, in_sync = 0, planned = 0, skipped = 0, failed = 0 },
    },
  }
  if settings.only then
    run.wanted = {}
    for _, name in ipairs(settings.only) do run.wanted[name] = "unseen" end
  end
  return run
end

--- Runs the workflow. One runtime's failure never stops the others.
-- @param adf a client of `cloudsync.datafactory` with its factory's name
-- @tparam ?table options
--
--   - `concurrency` (16): how many runtimes at a time
--   - `only`: a list of names
--   - `preflight` (true): look at each status first, and skip a runtime whose dispatcher node is
--     not online; `force` syncs it all the same
--   - `stale_only`: leave alone the runtimes that are in sync already
--   - `verify`: look until every node says that it is in sync
--   - `timeout` (300 s): how long that may take for one runtime
--   - `dry_run`: look, but sync nothing
--   - `on_progress`: called with `{runtime, counts, elapsed}` when a runtime is done
-- @treturn table report: `runtimes`, a list of `{name, type, outcome, verified, reason, err,
--   attempts, elapsed}` in the order of their names, `outcome` being `synced`, `in_sync`,
--   `planned`, `skipped` or `failed`; `counts` by outcome and in `total`; `ok`, whether nothing
--   failed; `err`, where the listing broke off; `elapsed` in seconds. Nil and an error where
--   nothing could be listed.
return function(adf, options)
  check(options, OPTIONS, "sync_factory", 2)
  local settings = settings_of(options)
  local list, refusal = adf.integration_runtimes:list_by_factory()
  if not list then return nil, refusal end
  local run = new_run(adf, settings)
  local report = run.report
  local _, failures = tasks.map(wanted(run, list:read_ahead()), function(runtime)
    local started = core.now()
    local entry = handle(run, runtime)
    entry.elapsed = core.now() - started
    record(run, entry)
    return true
  end, { concurrency = settings.concurrency })
  if failures[1] then
    local err = failures[1].err
    if not errors.is(err) then error(err, 0) end
    if report.counts.total == 0 then return nil, err end
    report.err = err
  else
    record_missing(run)
  end
  table.sort(report.runtimes, function(a, b) return a.name < b.name end)
  report.ok = report.counts.failed == 0 and not report.err
  report.elapsed = core.now() - run.started
  return report
end
