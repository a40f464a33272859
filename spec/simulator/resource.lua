-- What all resources of Data Factory have in common.
local arm = require "simulator.arm"
local json = require "simulator.json"

local resource = {}

function resource.etag (...)
  return arm.guid(ngx.md5(table.concat({ ... }, ":")))
end

-- What the service adds, followed by what it was given as JSON text, which stays as it was, to the
-- digit.
function resource.splice (added, given)
  local inside = given:match "^%s*{(.*)}%s*$"
  local head = json.encode(added):sub(1, -2)
  local spliced = json.raw(head .. (inside:find "%S" and "," .. inside or "") .. "}")
  spliced.etag = added.etag
  return spliced
end

-- The id of a factory, or of what the further segments name in it.
function resource.id (factory, ...)
  return table.concat({ "/subscriptions", factory.subscriptionId, "resourceGroups",
    factory.resourceGroupName, "providers/Microsoft.DataFactory/factories", factory.factoryName,
    ... }, "/")
end

return resource
