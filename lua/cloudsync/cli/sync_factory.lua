--- `cloudsync datafactory sync`
local azure = require "cloudsync.azure"
local core = require "cloudsync.core"
local datafactory = require "cloudsync.datafactory"
local sync_factory = require "cloudsync.workflows.sync_factory"

local command = {}

local OUTCOMES = { "synced", "in_sync", "planned", "skipped", "failed" }
local TRANSPORT = { "ca_file", "proxy", "timeout" }

function command.describe(parser)
  parser:option("--subscription", "Subscription id. Default: AZURE_SUBSCRIPTION_ID.")
  parser:option("--resource-group", "Resource group of the factory.")
  parser:option("--factory", "Name of the factory.")
  parser:option("--only", "Only these runtimes."):args("+"):argname("<runtime>")
  parser:option("--concurrency", "How many runtimes at a time. Default: 16."):convert(tonumber)
  parser:option("--wait", "Seconds until a runtime must be in sync. Default: 300.")
    :convert(tonumber)
  parser:flag("--stale-only", "Leave alone what is in sync already.")
  parser:flag("--verify", "Look until every node says that it is in sync.")
  parser:flag("--no-preflight", "Do not look whether the dispatcher node is online.")
  parser:flag("--force", "Sync although the dispatcher node is not online.")
  parser:flag("--dry-run", "Look, but sync nothing.")
  parser:flag("--json", "Print the report as JSON.")
  parser:option("--cloud", "public, usgovernment or china."):default("public")
  parser:option("--endpoint", "Resource Manager's address, where it is not the cloud's.")
  parser:option("--authority", "Address to sign in at. Default: AZURE_AUTHORITY_HOST, the cloud's.")
  parser:option("--ca-file", "File with the certificates to trust.")
  parser:option("--proxy", "Address of a proxy. With a password better in https_proxy.")
  parser:option("--timeout", "Seconds that one request may take. Default: 60."):convert(tonumber)
  parser:epilog("Signs in with AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET.")
end

-- The settings that must be there, and how a user gives them.
local REQUIRED = {
  { "subscription", "--subscription or AZURE_SUBSCRIPTION_ID" },
  { "resource_group", "--resource-group" }, { "factory", "--factory" },
}

local function new_client(settings)
  local transport = {}
  for _, name in ipairs(TRANSPORT) do transport[name] = settings[name] end
  local sign_in = { cloud = settings.cloud, authority = settings.authority }
  local options = {
    cloud = settings.cloud, endpoint = settings.endpoint,
    subscriptionId = settings.subscription,
    resourceGroupName = settings.resource_group, factoryName = settings.factory,
  }
  for name, value in pairs(transport) do sign_in[name], options[name] = value, value end
  options.credential = azure.environment_credential(sign_in)
  return datafactory.new(options)
end

local function is_terminal()
  local ok = os.execute("test -t 2")
  return ok == true or ok == 0
end

-- One line that is overwritten on a terminal, now and then a line elsewhere.
local function new_progress()
  local terminal, shown_at = is_terminal(), 0
  return function(event)
    local now = core.now()
    if now - shown_at < (terminal and 0.1 or 1) then return end
    shown_at = now
    local counts = event.counts
    local line = ("%d runtimes done: %d synced, %d in sync, %d skipped, %d failed, %.0f s"):format(
      counts.total, counts.synced, counts.in_sync, counts.skipped, counts.failed, event.elapsed)
    io.stderr:write(terminal and "\r\27[K" .. line or line .. "\n")
  end, function()
    if terminal then io.stderr:write("\r\27[K") end
  end
end

-- Control characters of a service's text must not reach a terminal.
local function plain(text)
  return (tostring(text):gsub("%c", " "))
end

local function print_table(report, verified)
  local width = #"runtime"
  for _, entry in ipairs(report.runtimes) do width = math.max(width, #entry.name) end
  local row = "%-" .. width .. "s  %-8s  %6s  %8s  %s"
  print(row:format("runtime", "outcome", "calls", "seconds", "why"))
  for _, entry in ipairs(report.runtimes) do
    local why = entry.err and tostring(entry.err) or entry.reason or entry.verified and "verified"
    print((row:format(plain(entry.name), entry.outcome, entry.attempts,
      ("%.2f"):format(entry.elapsed or 0), why and plain(why) or ""):gsub("%s+$", "")))
  end
  local sums = {}
  for _, outcome in ipairs(OUTCOMES) do
    if report.counts[outcome] > 0 then
      sums[#sums + 1] = report.counts[outcome] .. " " .. outcome:gsub("_", " ")
    end
  end
  print(("%d runtimes in %.1f s: %s%s"):format(report.counts.total, report.elapsed,
    table.concat(sums, ", "), verified and report.ok and "; every sync is verified" or ""))
end

local function print_json(report)
  core.array(report.runtimes)
  print((assert(core.encode(report))))
end

function command.run(settings)
  settings.subscription = settings.subscription or os.getenv "AZURE_SUBSCRIPTION_ID"
  for _, required in ipairs(REQUIRED) do
    if (settings[required[1]] or "") == "" then error(required[2] .. " is missing", 0) end
  end
  if settings.concurrency and settings.concurrency < 1 then
    error("--concurrency must be at least 1", 0)
  end
  local adf = new_client(settings)
  local on_progress, end_progress = new_progress()
  local report, err = sync_factory(adf, {
    concurrency = settings.concurrency, only = settings.only, stale_only = settings.stale_only,
    preflight = not settings.no_preflight, verify = settings.verify, force = settings.force,
    timeout = settings.wait, dry_run = settings.dry_run, on_progress = on_progress,
  })
  end_progress()
  if not report then
    io.stderr:write("cloudsync: ", plain(err), "\n")
    return 1
  end
  if settings.json then print_json(report) else print_table(report, settings.verify) end
  if report.err then
    io.stderr:write("cloudsync: the listing broke off: ", plain(report.err), "\n")
  end
  return report.ok and 0 or 1
end

return command
