-- An origin that nothing should ever be sent to: it takes everything, and the journal tells.
local arm = require "simulator.arm"
local json = require "simulator.json"

local other = { failure = arm.failure }

function other.handle ()
  return arm.ok { value = json.array() }
end

return other
