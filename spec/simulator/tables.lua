local tables = {}

-- A new table with the fields of all, later ones winning.
function tables.merge (...)
  local merged = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...))) do merged[name] = value end
  end
  return merged
end

return tables
