-- Where every request to a simulated service comes in.
local answer = require "simulator.answer"
local control = require "simulator.control"
local faults = require "simulator.faults"
local journal = require "simulator.journal"
local request = require "simulator.request"
local settings = require "simulator.settings"

local front = {}

-- A service has handle(request) -> answer, and failure(status, request) -> answer, the way it words
-- an error of its own. nginx.conf.in says which port belongs to which.
local services = {
  arcgis = require "simulator.arcgis",
  arm = require "simulator.datafactory",
  entra = require "simulator.entra",
  other = require "simulator.other",
  vcenter = require "simulator.vcenter",
}

function front.serve ()
  local service_name = ngx.var.service
  local service = services[service_name]
  local r = request.read(service_name)
  local ctx = ngx.ctx
  ctx.service, ctx.id = service_name, journal.arrive(r)

  local function proceed ()
    local latency = settings.current().latency
    if latency > 0 then ngx.sleep(latency) end
    return service.handle(r)
  end

  local rule = faults.pick(r)
  if not rule then return answer.send(proceed()) end
  ctx.fault = rule.kind
  local given = faults.apply(rule, r, service, proceed)
  if given then return answer.send(given) end
end

function front.log ()
  local ctx = ngx.ctx
  -- A request that nginx itself refuses never came to serve().
  if ctx.service then journal.leave(ctx.service, ctx.id, ctx.fault) end
end

control.reset()

return front
