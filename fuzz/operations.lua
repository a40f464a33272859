--- Every operation of every service, with parameters that the core accepts.
local core = require "cloudsync.core"

local SERVICES = { "datafactory", "entra", "vcenter/rest", "vcenter/api", "arcgis" }

local PLACEHOLDERS = { string = "abc1", integer = 2, number = 1.5, boolean = true, any = true }

-- What a refusal asks for, in its own words.
local WANTED = { ["a string"] = "string", ["an integer"] = "integer", ["a number"] = "number",
  ["a boolean"] = "boolean" }

-- For patterns that the placeholder does not match.
local OTHERS = { "00000000-0000-0000-0000-000000000001", "_" }

local function placeholder(kind)
  if kind == "array" then return core.array() end
  return PLACEHOLDERS[kind] or {}
end

local function set(values, path, value)
  local owner, name = path:match "^(.*)%.(.-)$"
  if not owner then
    values[path] = value
    return
  end
  local at = values
  for step in owner:gmatch "[^.]+" do at = at[step] end
  at[name] = value
end

-- Finds parameters by what the core says of those that it refuses.
local function learn(prepare, transport, operation)
  local values, kinds, tries = {}, {}, {}
  for _, parameter in ipairs(operation.parameters) do kinds[parameter.name] = parameter.type end
  for _ = 1, 100 do
    local request, reason, name = prepare(transport, values)
    if request then return values end
    local required = reason:match "^missing required parameter '(.-)'$"
    local missing = reason:match "^(%S+) is missing$"
    local path, wanted = reason:match "^(%S+) must be (.-), got"
    if required then
      values[required] = placeholder(kinds[required])
    elseif missing then
      set(values, missing, true)
    elseif path then
      set(values, path, placeholder(WANTED[wanted] or wanted:match "%S+$"))
    else
      tries[name] = (tries[name] or 0) + 1
      values[name] = assert(OTHERS[tries[name]], reason)
    end
  end
  error("no parameters found for " .. operation.id)
end

--- A list of `{service, operation, prepare, parameters}`: the name of a service, what is documented
-- of an operation, its function in the core, and the least parameters that this accepts.
-- @param transport of a client
return function(transport)
  local list = {}
  for _, service in ipairs(SERVICES) do
    for _, operation in ipairs(core.operations(service)) do
      local prepare = core.operation(service, operation.group, operation.name)
      list[#list + 1] = { service = service, operation = operation, prepare = prepare,
        parameters = learn(prepare, transport, operation) }
    end
  end
  return list
end
