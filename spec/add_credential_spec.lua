--- The workflow that adds a credential: one POST whatever happens, then the job.
local add_credential = require "cloudsync.workflows.add_credential"
local arcgis = require "cloudsync.arcgis"
local cloudsync = require "cloudsync"
local support = require "spec.support"

local PROVIDER, AWS = "azgatvskp6", "awsk3jv9m2"
local KEY = "PLANTED-a+b/c=d&e%f é=="

local function client(overrides)
  local options = { endpoint = support.env "ARCGIS", ca_file = support.env "CA_FILE",
    username = support.env "USERNAME", password = support.env "PASSWORD" }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return arcgis.new(options)
end

local function credential()
  return arcgis.storage_account_key { storageAccountName = "store", storageAccountKey = KEY }
end

local function add(gis, overrides)
  local options = { providerID = PROVIDER, credential = credential(), interval = 0.03 }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return add_credential(gis, options)
end

local function resume(gis, token, overrides)
  local options = { resume = token, interval = 0.03 }
  for name, value in pairs(overrides or {}) do options[name] = value end
  return add_credential(gis, options)
end

local function site() return support.control("GET", "arcgis") end

local function posts() return #support.requests "service=arcgis&method=POST&operation=add" end

local function define(definition) support.control("POST", "arcgis", definition) end

-- No secret is in what is told of a failure.
local function assert_secret(err)
  for name, value in pairs(err) do
    assert.is_nil(tostring(value):find("PLANTED", 1, true), name)
    assert.is_nil(tostring(value):find(support.env "PASSWORD", 1, true), name)
  end
  assert.is_nil(tostring(err):find("PLANTED", 1, true))
end

describe("add_credential", function()
  before_each(function()
    support.reset()
    define { job = { seconds = 0.1 } }
  end)

  it("adds the credential, once, and waits for the job", function()
    local seen = 0
    local job, id = add(client(), { on_progress = function() seen = seen + 1 end })
    assert.is_table(job, tostring(id))
    assert.equal("COMPLETED", job.status)
    assert.equal(job.jobid, id)
    assert.is_true(seen >= 1)
    assert.equal(1, posts())
    local now = site()
    assert.equal(1, now.adds)
    assert.equal(id, now.jobs[1].jobid)
    assert.same({ type = "STORAGE-ACCOUNT-KEY", secret = {
      storageAccountName = "store", storageAccountKey = KEY } }, now.providers[1].credential)
    assert.equal(1, now.tokens_issued)
  end)

  it("adds it where jobs are under /system", function()
    support.control("POST", "settings", { arcgis_jobs_path = "system/jobs" })
    assert.equal("COMPLETED", assert(add(client())).status)
    assert.equal(1, posts())
  end)

  it("adds many where jobs are under /system", function()
    local providers = {}
    for i = 1, 6 do
      providers[i] = { id = "p" .. i, name = "Azure" }
      support.fault { match = { path = "^/server/admin/jobs/" }, delay = i > 3 and 0.2 or 0.01 }
    end
    define { job = { seconds = 0.1 }, providers = providers }
    support.control("POST", "settings", { arcgis_jobs_path = "system/jobs" })
    local gis = client()
    local _, failures = cloudsync.map(providers, function(provider)
      return add(gis, { providerID = provider.id })
    end, { concurrency = 6 })
    assert(not failures[1], failures[1] and tostring(failures[1].err))
    assert.equal(6, posts())
  end)

  it("adds it with a token of a portal", function()
    assert(add(client({ portal = support.env "PORTAL" })))
    assert.equal(1, posts())
  end)

  it("renews a token that is refused, and then adds it", function()
    local gis = client()
    assert(gis.providers:list())
    support.control("POST", "tokens/revoke")
    assert(add(gis))
    assert.equal(1, site().adds)
    assert.equal(2, posts())
    assert.equal(2, site().tokens_issued)
  end)

  it("goes on with the job while tokens are revoked", function()
    define { job = { seconds = 0.2 } }
    assert(add(client(), { on_progress = function()
      support.control("POST", "tokens/revoke")
    end }))
    assert.equal(1, posts())
    assert.equal(1, site().adds)
  end)

  -- name, rule, kind, outcome, how many credentials have been added
  local FAULTS = {
    { "reset_before", { kind = "reset_before" }, "transport", "unknown", 0 },
    { "reset_after", { kind = "reset_after" }, "transport", "unknown", 1 },
    { "reset_mid_body", { kind = "reset_mid_body" }, "transport", "unknown", 1 },
    { "truncated", { kind = "truncated" }, "transport", "unknown", 1 },
    { "500", { status = 500 }, "service", "unknown", 0 },
    { "500 after the effect", { status = 500, effect = true }, "service", "unknown", 1 },
    { "500 with status 200", { status = 200, effect = true,
      body = [[{"status":"error","messages":["m"],"code":500}]] }, "service", "unknown", 1 },
    { "502 of a proxy", { kind = "html", status = 502, effect = true }, "service", "unknown", 1 },
    { "503", { status = 503, effect = true }, "service", "unknown", 1 },
    { "503 with Retry-After", { status = 503, headers = { ["Retry-After"] = "0" } },
      "service", "rejected", 0 },
    { "504", { status = 504, effect = true }, "service", "unknown", 1 },
    { "408", { status = 408, effect = true }, "timeout", "unknown", 1 },
    { "429", { status = 429, headers = { ["Retry-After"] = "0" } }, "throttled", "rejected", 0 },
    { "409 with status 200", { status = 200,
      body = [[{"status":"error","messages":["m"],"code":409}]] }, "conflict", "rejected", 0 },
    { "an error without a code", { status = 200, effect = true,
      body = [[{"status":"error","messages":["m"]}]] }, nil, "unknown", 1 },
    { "a page", { kind = "html", effect = true }, "protocol", "unknown", 1 },
    { "half of a document", { kind = "bad_json", effect = true }, "protocol", "unknown", 1 },
    { "nothing", { kind = "empty", effect = true }, "protocol", "unknown", 1 },
    { "no job", { status = 200, effect = true, body = { message = "m" } },
      "protocol", "unknown", 1 },
    { "a number for a job", { status = 200, effect = true,
      body = [[{"cloudCredentialRotationJobId":7}]] }, "protocol", "unknown", 1 },
    { "an empty name of a job", { status = 200, effect = true,
      body = [[{"cloudCredentialRotationJobId":""}]] }, "protocol", "unknown", 1 },
    { "a name that no path can hold", { status = 200, effect = true,
      body = [[{"cloudCredentialRotationJobId":"a/b"}]] }, "protocol", "unknown", 1 },
    { "a name that looks like a token", { status = 200, effect = true,
      body = [[{"cloudCredentialRotationJobId":"{876ae6e7}"}]] }, "protocol", "unknown", 1 },
    { "null for a job", { status = 200, effect = true,
      body = [[{"cloudCredentialRotationJobId":null}]] }, "protocol", "unknown", 1 },
    { "a list", { status = 200, effect = true, body = [==[["j1"]]==] }, "protocol", "unknown", 1 },
    { "a redirect", { kind = "redirect" }, "protocol", "rejected", 0 },
  }
  for _, row in ipairs(FAULTS) do
    local name, rule, kind, outcome, added = row[1], row[2], row[3], row[4], row[5]
    it("posts once where the answer is " .. name, function()
      local fault = { match = { method = "POST", operation = "add" }, times = 0 }
      for field, value in pairs(rule) do fault[field] = value end
      support.fault(fault)
      local job, err, id = add(client({ retries = 5 }))
      assert.is_nil(job)
      assert.is_nil(id)
      assert.equal(1, posts())
      assert.equal(added, site().adds)
      if kind then assert.equal(kind, err.kind) end
      assert.equal(outcome, err.outcome)
      assert.equal("arcgis", err.service)
      assert.equal("providers:add_credential", err.operation)
      assert.equal(1, err.attempts)
      local looks = err.message:find("providers:get", 1, true) ~= nil
        and err.message:find("jobs:list", 1, true) ~= nil
      assert.equal(outcome == "unknown", looks, err.message)
      assert_secret(err)
    end)
  end

  it("posts once where no answer comes in time", function()
    support.fault { match = { operation = "add" }, delay = 0.5 }
    local job, err = add(client({ timeout = 0.2 }))
    assert.is_nil(job)
    assert.equal("timeout", err.kind)
    assert.equal("unknown", err.outcome)
    assert.matches("providers:get", err.message)
    assert.equal(1, posts())
  end)

  it("keeps the text of the published answer, which is no JSON", function()
    support.control("POST", "settings", { arcgis_malformed_job_id = true })
    local job, err, id = add(client({ retries = 5 }))
    assert.is_nil(job)
    assert.is_nil(id)
    assert.equal("protocol", err.kind)
    assert.equal("unknown", err.outcome)
    assert.equal(200, err.status)
    assert.equal(1, posts())
    local now = site()
    assert.equal(1, now.adds)
    assert.is_not_nil(err.body:find(
      ('"cloudCredentialRotationJobId": %s",'):format(now.jobs[1].jobid), 1, true), err.body)
    assert.matches("not JSON", err.message)
    assert.matches("providers:get", err.message)
    assert.matches("jobs:list", err.message)
    assert_secret(err)
    -- what a user can do then
    local gis = client()
    local found = assert(gis.jobs:list()).jobs[1]
    assert(resume(gis, found))
    assert.equal(1, posts())
  end)

  it("fails for a provider that has credentials, or one of whose services has", function()
    define { providers = {
      { id = "one", name = "AWS", credential = { type = "ACCESS-KEY", secret = { a = "b" } } },
      { id = "two", name = "AWS", services = { { id = "s", name = "S3",
        credential = { type = "ACCESS-KEY", secret = { a = "b" } } } } },
    } }
    for i, id in ipairs { "one", "two" } do
      local job, err = add(client(), { providerID = id })
      assert.is_nil(job)
      assert.equal("argument", err.kind)
      assert.equal("rejected", err.outcome)
      assert.equal("400", err.code)
      assert.matches("already has credentials", err.message)
      assert.is_nil(err.message:find("providers:get", 1, true))
      assert.equal(i, posts())
      assert.equal(0, site().adds)
    end
  end)

  it("fails for a provider that there is not", function()
    local job, err = add(client(), { providerID = "none" })
    assert.is_nil(job)
    assert.equal("not_found", err.kind)
    assert.equal(1, posts())
  end)

  it("fails while another job of the provider goes on", function()
    define { job = { seconds = 30 } }
    local gis = client()
    assert(gis.providers:add_credential { providerID = PROVIDER, credential = credential() })
    local job, err = add(gis)
    assert.is_nil(job)
    assert.equal("conflict", err.kind)
    assert.equal("rejected", err.outcome)
    assert.equal(1, site().adds)
  end)

  it("posts nothing where the sign-in is refused", function()
    local gis = client({ password = "wrong" })
    for _ = 1, 2 do
      local job, err = add(gis)
      assert.is_nil(job)
      assert.equal("auth", err.kind)
      assert.equal("not_sent", err.outcome)
      assert.is_nil(err.message:find("providers:get", 1, true))
    end
    assert.equal(0, posts())
    assert.equal(1, site().failed_logins)
  end)

  it("posts nothing where a value is masked", function()
    local job, err = add(client(), { credential = arcgis.access_key {
      accessKey = "AKIA", secretKey = "xxxxxxxxxxxxxxxxVC5M" } })
    assert.is_nil(job)
    assert.equal("argument", err.kind)
    assert.equal("not_sent", err.outcome)
    assert.matches("credential%.secret%.secretKey is masked", err.message)
    assert.equal(0, #support.requests "service=arcgis")
  end)

  for _, result in ipairs { "failed", "completed_with_error", "completed_with_result_error",
    "cancelled", "timed_out" } do
    it("fails with the job that ends as " .. result, function()
      define { job = { seconds = 0.05, result = result } }
      local job, err, id = add(client())
      assert.is_nil(job)
      assert.equal("job", err.kind)
      assert.equal(site().jobs[1].jobid, id)
      assert.equal(id, err.target)
      assert.equal(1, posts())
      assert_secret(err)
    end)
  end

  it("waits while the job is unavailable", function()
    define { job = { seconds = 0.15, result = "unavailable_first" } }
    local seen = {}
    assert(add(client(), { on_progress = function(job) seen[job.status] = true end }))
    assert.is_true(seen.UNAVAILABLE)
    assert.equal(1, posts())
  end)

  for _, by in ipairs { "id", "token" } do
    it("returns the job at its timeout, and resumes by its " .. by, function()
      define { job = { seconds = 0.5 } }
      local gis, started = client(), cloudsync.now()
      local job, err, id = add(gis, { timeout = 0.2 })
      assert.is_nil(job)
      assert.equal("timeout", err.kind)
      assert.is_true(cloudsync.now() - started < 0.45)
      assert.equal(site().jobs[1].jobid, id)
      local again = by == "id" and id or gis:job_poller(id):token()
      local seen = 0
      local done, same = resume(client(), again, { on_progress = function() seen = seen + 1 end })
      assert.equal("COMPLETED", assert(done, tostring(same)).status)
      assert.equal(id, same)
      assert.is_true(seen >= 1)
      assert.equal(1, posts())
    end)
  end

  it("adds nothing where it resumes, whatever else is given", function()
    local _, id = add(client())
    assert(add(client(), { resume = id, providerID = AWS }))
    assert.equal(1, posts())
    local job, err, same = resume(client(), "jnone")
    assert.is_nil(job)
    assert.equal("not_found", err.kind)
    assert.equal("jnone", same)
    assert.equal(1, posts())
  end)

  it("goes on though looks at the job fail", function()
    define { job = { seconds = 0.2 } }
    local match = { path = "/jobs/" }
    support.fault { { match = match, kind = "reset_after" }, { match = match, status = 500 },
      { match = match, kind = "html", status = 502 } }
    assert(add(client({ retries = 0 })))
    assert.equal(1, posts())
  end)

  it("adds credentials to many providers at once, one POST to each", function()
    local providers = {}
    for i = 1, 12 do providers[i] = { id = "p" .. i, name = "Azure" } end
    define { job = { seconds = 0.1 }, providers = providers }
    local gis = client()
    local jobs, failures = cloudsync.map(providers, function(provider)
      return add(gis, { providerID = provider.id })
    end, { concurrency = 12 })
    assert.same({}, failures)
    assert.equal(12, #jobs)
    assert.equal(12, posts())
    assert.equal(12, site().adds)
    assert.equal(1, site().tokens_issued)
  end)

  for message, options in support.sorted {
    ["providerID and credential are missing, or resume"] = {},
    ["credential are missing"] = { providerID = PROVIDER },
    ["providerID and credential"] = { credential = {} },
    ["unknown option 'providerId'"] = { providerId = PROVIDER, credential = {} },
    ["option 'credential' must be a table"] = { providerID = PROVIDER, credential = "text" },
    ["option 'timeout' must be a number"] = { resume = "j1", timeout = "1" },
    ["option 'resume' must be a string"] = { resume = 1 },
    ["option 'on_progress' must be a function"] = { resume = "j1", on_progress = {} },
    ["no token of one of its pollers"] = { resume = "{}" },
  } do
    it("raises: " .. message, function()
      local gis = client()
      local ok, raised = pcall(function() return (add_credential(gis, options)) end)
      assert.is_false(ok)
      assert.is_not_nil(raised:find(message, 1, true), raised)
      assert.equal(0, #support.requests "service=arcgis")
    end)
  end

  it("raises without options", function()
    local ok, raised = pcall(add_credential, client())
    assert.is_false(ok)
    assert.matches("providerID and credential are missing", raised)
  end)
end)
