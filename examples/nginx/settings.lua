--- What nginx.conf and the environment say, read once when nginx starts or reloads: a mistake keeps it
-- from starting.
local azure = require "cloudsync.azure"
local datafactory = require "cloudsync.datafactory"

local settings = {}

local SHORTEST_KEY = 32 -- characters

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function needed(name)
  return variable(name) or error(name .. " is not set in nginx's environment", 0)
end

-- The file wins, so that a key can be replaced by a reload; a line break at its end is not part of it.
local function read_key()
  local path = variable "HOOK_KEY_FILE"
  local key
  if path then
    local file = assert(io.open(path, "rb"))
    key = file:read("*a"):gsub("%s+$", "")
    file:close()
  else
    key = needed "HOOK_KEY"
  end
  if #key < SHORTEST_KEY then
    error(("the webhook's key must have %d characters or more; `openssl rand -hex 32` makes one")
      :format(SHORTEST_KEY), 0)
  end
  return key
end

-- A factory as `group/name`, with a client of its own.
local function factory_of(text, options)
  local group, name = text:match "^([%w%-_.()]+)/([%w-]+)$"
  if not group then error(("'%s' is not GROUP/FACTORY"):format(text), 0) end
  return {
    key = text:lower(), resourceGroupName = group, factoryName = name,
    adf = datafactory.new {
      credential = options.credential, subscriptionId = options.subscriptionId,
      resourceGroupName = group, factoryName = name,
      endpoint = variable "AZURE_ENDPOINT", ca_file = variable "CA_FILE",
    },
  }
end

--- Reads the settings.
-- @tparam table given
--
--   - `factories`: those that the webhook may sync, as `group/factory`, separated by spaces
--   - `data_plane`: the factory whose data-plane access requests are given
--   - `job_life` (3600): seconds for which a finished job can be looked at
--   - `lock_life` (30): seconds after which a job that gives no sign of life is taken for dead
function settings.load(given)
  for _, name in ipairs { "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET" } do
    needed(name)
  end
  local options = {
    subscriptionId = needed "AZURE_SUBSCRIPTION_ID",
    credential = azure.environment_credential {
      cache = ngx.shared.tokens, ca_file = variable "CA_FILE",
    },
  }
  settings.key = read_key()
  settings.factories = {}
  for text in given.factories:gmatch "%S+" do
    local factory = factory_of(text, options)
    settings.factories[factory.key] = factory
  end
  settings.data_plane = factory_of(given.data_plane, options)
  settings.job_life = given.job_life or 3600
  settings.lock_life = given.lock_life or 30
end

--- The factory of these names, of which Azure does not tell capitals from small letters; nil where it
-- is not one that may be synced.
function settings.factory(group, name)
  return settings.factories[(group .. "/" .. name):lower()]
end

return settings
