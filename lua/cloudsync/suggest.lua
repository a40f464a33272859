--- "Did you mean": the known name that is nearest to a misspelt one.
local min, max = math.min, math.max

-- Edits (insert, delete, replace, swap of neighbours) that make one text of the other.
local function distance(a, b)
  local before, previous, current = {}, {}, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    current[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      current[j] = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        current[j] = min(current[j], before[j - 2] + 1)
      end
    end
    before, previous, current = previous, current, before
  end
  return previous[#b]
end

--- A clause for an error message.
-- @tparam string name what was written
-- @tparam {string,...} known the names there are
-- @treturn string `" (did you mean 'x'?)"`, or an empty string where no name is near
return function(name, known)
  local best, least
  for _, candidate in ipairs(known) do
    local edits = distance(name:lower(), candidate:lower())
    if not least or edits < least then best, least = candidate, edits end
  end
  if least and least <= max(1, math.floor(#name / 3)) then
    return (" (did you mean '%s'?)"):format(best)
  end
  return ""
end
