--- What a client has learned of how a service bears its calls: when it asked to be left alone, how much
-- of a quota remains, and whether it does anything but fail.
local core = require "cloudsync.core"

local throttle = {}

local PATIENCE = 120 -- s; who would have to wait longer is told so at once
local SPREAD = 0.2 -- of a wait, added at random, so that those who waited do not all come at once

-- Below so many remaining calls the pace slows, down to one call in so many seconds where none
-- remains: Azure refills 10 to 25 in a second.
local LOW, SLOWEST = 50, 0.15
local LONGEST_PACE = 30 -- s that one call waits for its turn, however many stand before it

local LONGEST_HOLD = 3600 -- s; a service that asks for more, or whose clock is wrong, is asked again

local FAILURES = 50 -- in a row, after which the service is taken to be down
local REST = 30 -- s for which it is then not asked

local FAILED = { service = true, transport = true, timeout = true }

local Throttle = {}
Throttle.__index = Throttle

--- @tparam {string,...} quotas the headers that tell how many calls remain
function throttle.new(quotas)
  return setmetatable({
    quotas = quotas, held = {}, paces = {}, pace_of = {}, failures = 0, rest_until = 0, last = nil,
  }, Throttle)
end

--- Whether the service may be asked at all. After a rest one call may, to see.
-- @treturn ?table nil, or the fields of an error
function Throttle:refusal()
  if self.failures < FAILURES then return nil end
  local now = core.now()
  if now >= self.rest_until then return nil end
  return { kind = "service", code = "CircuitOpen", outcome = "not_sent", retryable = true,
    retry_after = self.rest_until - now,
    message = ("not sent: the last %d calls failed (%s); the service is asked again in %.0f s")
      :format(self.failures, tostring(self.last), self.rest_until - now) }
end

--- Told before each try: after a rest this is the one that sees whether the service is back.
function Throttle:begin()
  if self.failures >= FAILURES then self.rest_until = core.now() + REST end
end

--- When a call may be sent, by the pace that its quota permits.
-- @treturn number by `core.now()`
function Throttle:slot(operation)
  local now = core.now()
  local pace = self.pace_of[operation]
  if not pace or pace.gap == 0 then return now end
  local at = math.min(math.max(now, pace.next), now + LONGEST_PACE)
  pace.next = at + pace.gap
  return at
end

--- How long a call has to wait.
-- @tparam string scope what the service limits together
-- @tparam number slot of the call
-- @tparam number deadline
-- @treturn ?number seconds, 0 where it may be sent; or nil and the fields of an error
function Throttle:delay(scope, slot, deadline)
  local now = core.now()
  local held = (self.held[scope] or 0) - now
  if held > PATIENCE or held > 0 and now + held >= deadline then
    return nil, { kind = "throttled", outcome = "not_sent", retryable = true, retry_after = held,
      message = ("not sent: the service asked to come back in %.3g s"):format(held) }
  end
  if held > 0 then
    return held + core.random() * math.min(SPREAD * held, 1, (deadline - now - held) / 2)
  end
  return slot > now and slot < deadline and slot - now or 0
end

local function note_quota(self, scope, operation, answer)
  for _, header in ipairs(self.quotas) do
    local remaining = tonumber(answer:header(header))
    if remaining then
      local key = scope .. " " .. header
      local pace = self.paces[key] or { next = 0 }
      pace.gap = SLOWEST * math.max(0, math.min(1, 1 - remaining / LOW))
      self.paces[key], self.pace_of[operation] = pace, pace
      return
    end
  end
end

--- Learns from an answer, or from a try that got none.
-- @tparam string scope
-- @tparam string operation
-- @param answer with a method `header(name)`
-- @tparam ?table failure
-- @tparam ?number after what the service asked for, or what the call itself will wait
function Throttle:observe(scope, operation, answer, failure, after)
  note_quota(self, scope, operation, answer)
  if not failure or not FAILED[failure.kind] then self.failures = 0 end
  if not failure then return end
  if FAILED[failure.kind] then
    self.failures, self.last = self.failures + 1, failure.message
    if self.failures >= FAILURES then self.rest_until = core.now() + REST end
  end
  if after and (failure.status == 429 or failure.status == 503) then
    self.held[scope] = math.max(self.held[scope] or 0, core.now() + math.min(after, LONGEST_HOLD))
  end
end

return throttle
