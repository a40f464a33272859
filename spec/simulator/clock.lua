-- Times as services that are not Azure write them.
local clock = {}

function clock.iso (seconds)
  local milliseconds = math.floor(seconds * 1000 + 0.5)
  return ("%s.%03dZ"):format(os.date("!%Y-%m-%dT%H:%M:%S", math.floor(milliseconds / 1000)),
    milliseconds % 1000)
end

-- Milliseconds since 1970.
function clock.epoch_ms (seconds)
  return math.floor(seconds * 1000 + 0.5)
end

return clock
