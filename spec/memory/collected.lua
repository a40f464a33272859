-- What is done while all garbage is collected at every turn: calls side by side, a list that reads
-- ahead, long work, errors. It raises where an answer is not the call's own.
local cloudsync = require "cloudsync"
local support = require "spec.support"

local adf = support.datafactory { credential = support.credential() }
local names = {}
for i = 1, 20 do names[i] = ("ir-%04d"):format(i) end

local results, failures = cloudsync.map(names, function(name)
  return adf.integration_runtimes:get_status { integrationRuntimeName = name }
end, { concurrency = 7 })
assert(#failures == 0, failures[1] and tostring(failures[1].err))
for i, name in ipairs(names) do assert(results[i].name == name) end

local count = 0
for runtime in adf.integration_runtimes:list_by_factory() do
  count = count + 1
  assert(runtime.name == ("ir-%04d"):format(count))
end
assert(count == 200)

local result, err = adf.integration_runtimes:get_status { integrationRuntimeName = "none" }
assert(result == nil and err.kind == "not_found")
for i = 1, 5 do
  cloudsync.spawn(function() -- nobody waits for it
    adf.integration_runtimes:get_status { integrationRuntimeName = names[i] }
  end)
end
cloudsync.sleep(0.01)
print "collected"
