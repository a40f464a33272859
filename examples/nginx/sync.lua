--- Does the work of a job: syncs a factory, and tells how far it is.
local settings = require "settings"
local sync_factory = require "cloudsync.workflows.sync_factory"

local sync = {}

-- What a program or a person may know of an error. It holds no secrets: the library sees to that.
local function describe(err)
  if type(err) ~= "table" then return { message = "the job broke off; nginx's log says why" } end
  return { kind = err.kind, code = err.code, message = err.message, requestId = err.request_id }
end

-- The workflow takes the list page by page, so how long it is has to be found out beside it. Where it
-- can't be, the total stays unknown.
local function count(job, adf)
  local pager = adf.integration_runtimes:list_by_factory()
  local list = pager and pager:collect()
  if list then job:expect(#list) end
end

local function work(job, adf)
  return sync_factory(adf, {
    verify = true,
    on_progress = function(news)
      local runtime, counts = news.runtime, {}
      for outcome, number in pairs(news.counts) do counts[outcome] = number end
      counts.total = nil
      job:progress({
        name = runtime.name, type = runtime.type, outcome = runtime.outcome,
        verified = runtime.verified, reason = runtime.reason, attempts = runtime.attempts,
        elapsed = runtime.elapsed and math.floor(runtime.elapsed * 1000) / 1000,
        error = runtime.err and describe(runtime.err) or nil,
      }, counts)
    end,
  })
end

-- For `ngx.timer.at`.
local function run(premature, job, factory)
  if premature then return job:finish("abandoned", { message = "nginx ended before it began" }) end
  job:start()
  local alive = ngx.thread.spawn(function()
    while true do
      ngx.sleep(math.min(settings.lock_life, settings.job_life) / 3)
      job:touch()
    end
  end)
  local counting = ngx.thread.spawn(count, job, factory.adf)
  local ok, report, err = pcall(work, job, factory.adf)
  ngx.thread.kill(counting)
  ngx.thread.kill(alive)
  if not ok then ngx.log(ngx.ERR, "sync_factory: ", tostring(report)) end
  if not ok or not report then
    job:finish("failed", describe(ok and err or nil))
  else
    job:finish(report.ok and "succeeded" or "failed", report.err and describe(report.err))
  end
end

--- Begins the work, in the background.
-- @return true, or nil and why it can't
function sync.start(job, factory)
  return ngx.timer.at(0, run, job, factory)
end

return sync
