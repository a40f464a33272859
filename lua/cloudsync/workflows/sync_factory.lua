--- Synchronises the credentials of every integration runtime of a data factory.
--
-- A sync overwrites the credentials of a runtime's worker nodes with those of its dispatcher node,
-- so a runtime whose dispatcher is not online is left alone. See
-- [Sync Credentials](https://learn.microsoft.com/rest/api/datafactory/integration-runtimes/sync-credentials).
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local suggest = require "cloudsync.suggest"
local tasks = require "cloudsync.tasks"

local OPTIONS = {
  concurrency = "number", only = "table", stale_only = "boolean", preflight = "boolean",
  force = "boolean", verify = "boolean", timeout = "number", dry_run = "boolean",
  on_progress = "function",
}

local DEFAULTS = { concurrency = 16, preflight = true, timeout = 300 }

local FIRST_LOOK, LONGEST_LOOK = 0.25, 5 -- s between two looks at a runtime's status

local function check_options(options)
  local settings, names = {}, {}
  for name, value in pairs(DEFAULTS) do settings[name] = value end
  for name in pairs(OPTIONS) do names[#names + 1] = name end
  table.sort(names)
  for name, value in pairs(options or {}) do
    if not OPTIONS[name] then
      error(("sync_factory: unknown option '%s'%s"):format(tostring(name),
        suggest(tostring(name), names)), 3)
    end
    if type(value) ~= OPTIONS[name] then
      error(("sync_factory: option '%s' must be a %s, got %s"):format(name, OPTIONS[name],
        type(value)), 3)
    end
    settings[name] = value
  end
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

-- The first node that does not say that its credentials are in sync; nil where all do.
local function stale_node(status)
  for _, node in ipairs(nodes_of(status)) do
    if not is_true(field(node, "capabilities", "credentialInSync")) then return node end
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

local function status_of(run, entry)
  local status, response = run.adf.integration_runtimes:get_status {
    integrationRuntimeName = entry.name,
  }
  entry.attempts = entry.attempts + (response and response.attempts or 0)
  return status, response
end

local function not_in_sync(entry, seconds, node)
  return errors.new {
    kind = "timeout", service = "datafactory", operation = "integration_runtimes:get_status",
    outcome = "unknown", target = entry.name, retryable = true,
    message = ("node %s did not say credentialInSync within %g s"):format(
      tostring(node.nodeName), seconds),
  }
end

-- Looks until every node is in sync. Returns whether it is, or false and an error.
local function verify(run, entry)
  local deadline = core.now() + run.settings.timeout
  local pause = FIRST_LOOK
  while true do
    local status, err = status_of(run, entry)
    if status == nil then return false, err end
    local node = stale_node(status)
    if not node then return true end
    local left = deadline - core.now()
    if left <= 0 then return false, not_in_sync(entry, run.settings.timeout, node) end
    tasks.sleep(math.min(left, pause * (0.75 + core.random() / 2)))
    pause = math.min(LONGEST_LOOK, pause * 2)
  end
end

-- Sends the sync. One whose fate is unknown is not sent again; a look at the nodes tells.
local function synchronise(run, entry)
  local ok, response = run.adf.integration_runtimes:sync_credentials {
    integrationRuntimeName = entry.name,
  }
  entry.attempts = entry.attempts + (response.attempts or 0)
  if ok == nil and not (run.settings.verify and response.outcome == "unknown") then
    return fail(entry, response)
  end
  if run.settings.verify then
    local verified, err = verify(run, entry)
    entry.verified = verified
    if not verified then return fail(entry, ok == nil and response or err) end
  end
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
  if settings.stale_only and #nodes_of(status) > 0 and not stale_node(status) then
    entry.outcome, entry.verified = "in_sync", true
    return false
  end
  local problem = settings.preflight and not settings.force and dispatcher_problem(status)
  if problem then skip(entry, problem) end
  return not problem
end

local function handle(run, runtime)
  local entry = { name = runtime.name, type = field(runtime, "properties", "type"), attempts = 0 }
  local reason = unsuitable(runtime)
  if reason then return skip(entry, reason) end
  if not look(run, entry) then return entry end
  if run.settings.dry_run then
    entry.outcome = "planned"
    return entry
  end
  return synchronise(run, entry)
end

-- Counts a runtime that is done and tells of it.
local function record(run, entry)
  local report = run.report
  report.runtimes[#report.runtimes + 1] = entry
  report.counts[entry.outcome] = report.counts[entry.outcome] + 1
  report.counts.total = report.counts.total + 1
  if run.settings.on_progress then
    run.settings.on_progress { runtime = entry, counts = report.counts,
      elapsed = core.now() - run.started }
  end
end

-- The runtimes that are wanted, as an iterator.
local function wanted(run, runtimes)
  if not run.wanted then return runtimes end
  return function()
    for runtime in runtimes do
      if run.wanted[runtime.name] then
        run.wanted[runtime.name] = "seen"
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
  local settings = check_options(options)
  local run = new_run(adf, settings)
  local report = run.report
  local runtimes = wanted(run, adf.integration_runtimes:list_by_factory():read_ahead())
  local _, failures = tasks.map(runtimes, function(runtime)
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
