-- What the fuzz targets assert, for each file of their corpus; `make fuzz` goes on from there.
local support = require "spec.support"

for _, target in ipairs { "answer", "header", "json", "request" } do
  describe("what the fuzz target " .. target .. " asserts", function()
    local check = require("fuzz." .. target)
    local list = assert(io.popen("ls fuzz/corpus/" .. target))
    for name in list:lines() do
      it("holds for " .. support.printable(name), function()
        local file = assert(io.open(("fuzz/corpus/%s/%s"):format(target, name), "rb"))
        local input = file:read "*a"
        file:close()
        check(input)
      end)
    end
    list:close()
  end)
end
