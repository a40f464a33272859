--- When a call that failed is tried again, and how long it waits before that.
local core = require "cloudsync.core"

local retry = {}

local FIRST = 1 -- s; the most that is waited before the second try
local MOST = 30 -- s; the most that back-off alone waits
local PATIENCE = 120 -- s; a Retry-After beyond this ends the call, with an error that tells it

-- What a safe request is repeated on; an unsafe one only where it can't have had an effect.
local SAFE_STATUSES =
  { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true }
local PASSING_KINDS = { transport = true, timeout = true }

--- Whether a call that failed may be made again.
-- @tparam table failure an error, with `lasting` where the core knows that a repeat is in vain
-- @tparam boolean safe whether the operation may be carried out twice
-- @tparam ?number retry_after what the service asked for, in seconds
function retry.permits(failure, safe, retry_after)
  local status = failure.status
  if not status then
    if failure.lasting or not PASSING_KINDS[failure.kind] then return false end
    return safe or failure.outcome == "not_sent"
  end
  if failure.kind == "protocol" then return false end
  if safe then return SAFE_STATUSES[status] or false end
  return status == 429 or (status == 503 and retry_after ~= nil)
end

-- The headers that tell, and what their number counts in seconds.
local AFTER = {
  { "x-ms-retry-after-ms", 0.001 }, { "retry-after-ms", 0.001 }, { "retry-after", 1 },
}

--- What a service says of when to come back, in its three forms.
-- @param answer with a method `header(name)`
-- @treturn ?number seconds from now
function retry.after(answer)
  for _, header in ipairs(AFTER) do
    local number = tonumber(answer:header(header[1]))
    if number and number >= 0 then return number * header[2] end
  end
  local date = core.parse_date(answer:header("retry-after") or "")
  return date and math.max(0, date - os.time())
end

--- How long to wait before the next try.
-- @tparam integer attempts how many there have been
-- @tparam ?number retry_after seconds
-- @treturn ?number seconds; nil where the service asks for more patience than there is
function retry.delay(attempts, retry_after)
  if retry_after then return retry_after <= PATIENCE and retry_after or nil end
  return core.random() * math.min(MOST, FIRST * 2 ^ (attempts - 1))
end

return retry
