--- What is known of jobs, in memory that the workers share: any of them can tell of any job.
--
-- `ngx.shared.jobs` has each job and, under a key of its own, what became of each runtime, so that
-- progress costs the same however large the factory. `ngx.shared.locks` has the running job of each
-- factory. A worker that dies gives no more signs of life, and the lock of its job expires.
local cjson = require "cjson"
local settings = require "settings"

local jobs = {}

local DAY = 24 * 3600 -- s, longer than any job runs

local UNFINISHED = { queued = true, running = true }

local Job = {}
Job.__index = Job

local function entry_key(id, i)
  return id .. " " .. i
end

-- Where memory is short the dictionary gives up what was not used for longest.
local function keep(key, value, seconds)
  local ok, err, forced = ngx.shared.jobs:set(key, value, seconds)
  if not ok then ngx.log(ngx.ERR, "a job can't be kept: ", err) end
  if forced then ngx.log(ngx.WARN, "jobs were forgotten: make lua_shared_dict jobs larger") end
end

local function time()
  return os.date("!%Y-%m-%dT%H:%M:%SZ", ngx.time())
end

function Job:save()
  keep(self.facts.id, cjson.encode(self.facts), settings.job_life)
end

--- Begins a job, unless one of its factory is under way.
-- @tparam string id that nobody can guess: who knows it may look at the job
-- @tparam table factory of the settings
-- @return the job; or nil and the id of the other, or nil, nil and why there can be none
function jobs.open(id, factory)
  local job = setmetatable({ lock = "factory " .. factory.key, facts = {
    id = id, state = "queued", createdAt = time(), done = 0, total = cjson.null, counts = {},
    resourceGroupName = factory.resourceGroupName, factoryName = factory.factoryName,
  } }, Job)
  job.facts.lock = job.lock
  job:save() -- first: whoever finds the lock can look at the job
  local added, err = ngx.shared.locks:safe_add(job.lock, id, settings.lock_life)
  if added then return job end
  ngx.shared.jobs:delete(id)
  local other = err == "exists" and ngx.shared.locks:get(job.lock)
  if err == "exists" and not other then return jobs.open(id, factory) end -- it ended just now
  return nil, other or nil, err
end

--- Tells the other workers that this one is at work on the job.
function Job:touch()
  local locks, id = ngx.shared.locks, self.facts.id
  if locks:get(self.lock) == id then
    locks:expire(self.lock, settings.lock_life)
  else
    locks:safe_add(self.lock, id, settings.lock_life) -- the worker had stood still for too long
  end
  ngx.shared.jobs:expire(id, settings.job_life)
end

function Job:start()
  self.facts.state, self.facts.startedAt = "running", time()
  self:touch()
  self:save()
end

--- How many runtimes there are.
function Job:expect(total)
  self.facts.total = total
  self:save()
end

--- Notes what became of a runtime.
-- @tparam table entry
-- @tparam table counts by outcome
function Job:progress(entry, counts)
  local facts = self.facts
  facts.done, facts.counts = facts.done + 1, counts
  keep(entry_key(facts.id, facts.done), cjson.encode(entry), DAY)
  self:touch()
  self:save()
end

--- Ends the job; its factory is free for another.
-- @tparam string state "succeeded", "failed" or "abandoned"
-- @tparam ?table err what was wrong, other than with single runtimes
function Job:finish(state, err)
  local facts, locks = self.facts, ngx.shared.locks
  facts.state, facts.finishedAt, facts.error = state, time(), err
  if state == "succeeded" then facts.total = facts.done end
  self:save() -- before the lock goes: an unfinished job without one is an abandoned job
  for i = 1, facts.done do ngx.shared.jobs:expire(entry_key(facts.id, i), settings.job_life) end
  if locks:get(self.lock) == facts.id then locks:delete(self.lock) end
end

local function look(id)
  local text = ngx.shared.jobs:get(id)
  return text and cjson.decode(text)
end

--- What is known of a job.
-- @tparam string id
-- @tparam integer after how many runtimes, in the order in which they were done, to leave out
-- @treturn ?string JSON, or nil where nothing is known of it
function jobs.describe(id, after)
  local facts = look(id)
  if facts and UNFINISHED[facts.state] and ngx.shared.locks:get(facts.lock) ~= id then
    facts = look(id) -- it may have ended between the two looks
    if facts and UNFINISHED[facts.state] then facts.state = "abandoned" end
  end
  if not facts then return nil end
  facts.lock = nil
  local entries = {}
  for i = after + 1, facts.done do
    entries[#entries + 1] = ngx.shared.jobs:get(entry_key(id, i))
  end
  return (cjson.encode(facts):gsub("}$", function()
    return ',"runtimes":[' .. table.concat(entries, ",") .. "]}"
  end))
end

return jobs
