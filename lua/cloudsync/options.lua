--- Checks tables of options, so that each mistake is told by name.
local core = require "cloudsync.core"
local suggest = require "cloudsync.suggest"

-- Types beside Lua's own: how they are called, and whether a value has them.
local TYPES = {
  any = { name = "anything", has = function() return true end },
  text = {
    name = "a string or a secret",
    has = function(value)
      return type(value) == "string" or (type(value) == "userdata" and value ~= core.null)
    end,
  },
  credential = {
    name = "an object with get_token",
    has = function(value)
      return type(value) ~= "string" and value ~= core.null
        and pcall(function() return assert(value.get_token) end)
    end,
  },
  dictionary = {
    name = "one of ngx.shared",
    has = function(value)
      return pcall(function() return assert(value.add and value.get and value.set) end)
    end,
  },
  number = {
    name = "a number that is not negative",
    has = function(value) return type(value) == "number" and value >= 0 end,
  },
  count = {
    name = "a whole number of at least 1",
    has = function(value)
      return type(value) == "number" and value >= 1 and value < math.huge and value % 1 == 0
    end,
  },
}

local options = {}

--- Raises where an option is unknown or of the wrong type.
-- @tparam ?table given
-- @tparam table known the type of each option: one of Lua's, or `text`, `number`, `count`,
--   `credential`, `dictionary`, `any`
-- @tparam string subject whose options they are
-- @tparam integer level of the caller that made the mistake, as for `error`
function options.check(given, known, subject, level)
  if given ~= nil and type(given) ~= "table" then
    error(("%s: options must be a table, got %s"):format(subject, type(given)), level + 1)
  end
  for name, value in pairs(given or {}) do
    local wanted = known[name]
    if not wanted then
      local names = {}
      for candidate in pairs(known) do names[#names + 1] = candidate end
      table.sort(names)
      error(("%s: unknown option '%s'%s"):format(subject, tostring(name),
        suggest(tostring(name), names)), level + 1)
    end
    local kind = TYPES[wanted]
    if kind and not kind.has(value) or not kind and type(value) ~= wanted then
      error(("%s: option '%s' must be %s, got %s"):format(subject, name,
        kind and kind.name or "a " .. wanted, type(value)), level + 1)
    end
  end
end

return options
