-- Tables in shared dictionaries, as JSON.
local json = require "simulator.json"

local store = {}

local cache = {}

-- The table under a key, or nil. It is shared with later callers and not to be changed. Decoding is
-- what costs, so a worker decodes again only when the text has changed.
function store.read (dict_name, key)
  local text = ngx.shared[dict_name]:get(key)
  if not text then return nil end
  local name = dict_name .. ":" .. key
  local entry = cache[name]
  if not entry or entry.text ~= text then
    entry = { text = text, value = json.decode(text) }
    cache[name] = entry
  end
  return entry.value
end

function store.write (dict_name, key, value)
  assert(ngx.shared[dict_name]:safe_set(key, json.encode(value)))
end

return store
