--- Long work that goes on at a service: one handle, whatever the service.
--
-- `wait` returns its result, or `nil, err`; `poll` looks once; `token` is a string from which
-- `client:poller(token)` goes on, in another process too.
local core = require "cloudsync.core"
local check = require "cloudsync.options".check
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"

local FIRST, LONGEST = 0.5, 10 -- s between two looks, where nothing is said

local OPTIONS = { timeout = "number", interval = "number", on_progress = "function" }

-- What may pass while work goes on: a look that fails so is followed by another.
local PASSING = { service = true, transport = true, timeout = true, throttled = true, busy = true }

local Poller = {}
Poller.__index = Poller

local poller = {}

--- Makes a poller.
-- @param client whose `pollers[kind]` looks: called with the client, the state and the options of
--   a call, it returns `{done, result, err, status, after}` or nil and an error
-- @tparam string kind
-- @tparam table state what tells the work from others, of strings, numbers and booleans
-- @tparam ?table outcome of work that has ended already: `result` or `err`, and `status`
function poller.new(client, kind, state, outcome)
  return setmetatable({ client = client, kind = kind, state = state, outcome = outcome }, Poller)
end

--- Goes on with work that another process, or an earlier one, has begun.
-- @tparam string token of the other poller
function poller.resume(client, token)
  local saved = type(token) == "string" and core.decode(token)
  if type(saved) ~= "table" or saved.service ~= client.service or not client.pollers[saved.kind]
    or type(saved.state) ~= "table" then
    error(("%s: this is no token of one of its pollers"):format(client.service), 3)
  end
  return poller.new(client, saved.kind, saved.state)
end

--- What to keep for another process. It holds no secret.
function Poller:token()
  return (assert(core.encode {
    service = self.client.service, kind = self.kind, state = self.state,
  }))
end

--- Looks once.
-- @return whether the work has ended, and what the service says of it; nil and an error where the
--   look failed
function Poller:poll(options)
  if self.outcome then return true, self.outcome.status end
  local seen, err = self.client.pollers[self.kind](self.client, self.state, options or {})
  if not seen then return nil, err end
  if seen.done then self.outcome = seen end
  self.after = seen.after
  return seen.done, seen.status
end

local function out_of_time(self, timeout, last)
  return errors.new {
    kind = "timeout", service = self.client.service, outcome = "unknown", retryable = true,
    message = ("the work has not ended after %g s%s; its token resumes the waiting"):format(timeout,
      last and " (the last look failed: " .. tostring(last) .. ")" or ""),
  }
end

-- The pause before the next look: what the service asks for, else growing, with jitter.
local function pause_of(self, looks, interval)
  if self.after then return self.after end
  local most = interval or math.min(LONGEST, FIRST * 1.5 ^ looks)
  return most * (0.75 + core.random() / 2)
end

--- Waits for the end.
-- @tparam ?table options `timeout`, in seconds (none); `interval`, seconds between two looks (from
--   0.5 growing to 10, or as the service asks); `on_progress`, called with what each look saw
-- @return the result, or nil and an error
function Poller:wait(options)
  check(options, OPTIONS, "wait", 2)
  options = options or {}
  local timeout = options.timeout or math.huge
  local deadline, looks, failure = core.now() + timeout, 0, nil
  while true do
    local left = deadline - core.now()
    if left <= 0 then return nil, out_of_time(self, timeout, failure) end
    local done, status = self:poll { deadline = left < math.huge and left or nil }
    if done then
      if self.outcome.err then return nil, self.outcome.err end
      return self.outcome.result
    end
    failure = done == nil and status or nil
    if failure and not PASSING[failure.kind] then return nil, failure end
    if not failure and options.on_progress then pcall(options.on_progress, status) end
    local pause = pause_of(self, looks, options.interval)
    looks = looks + 1
    driver.current().sleep(math.max(0, math.min(pause, deadline - core.now())))
  end
end

return poller
