local tables = {}

-- A new table with the fields of all, later ones winning.
function tables.merge (...)
  local merged = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...))) do merged[name] = value end
  end
  return merged
end

-- Whether all of these fields are known and of the right type; else nil and what is wrong. `types`
-- by name: a type's name, or a set of them.
function tables.check (fields, types)
  for name, value in pairs(fields) do
    local want = types[name] or {}
    if type(value) ~= want and not (type(want) == "table" and want[type(value)]) then
      return nil, ("'%s' is unknown or of the wrong type"):format(tostring(name))
    end
  end
  return true
end

-- The first item of a list with this value in a field, and where it is.
function tables.find (list, field, value)
  for i, item in ipairs(list) do
    if item[field] == value then return item, i end
  end
end

return tables
