-- What vCenter says differently under its two bases, /rest and /api.
local json = require "simulator.json"
local new_answer = require("simulator.answer").new

local rest, api = {}, {}

function rest.ok (value)
  return new_answer(200, { value = value })
end

rest.created = rest.ok

-- The answer of an operation that returns nothing.
function rest.done ()
  return new_answer(200)
end

function rest.map (fields)
  local entries = json.array()
  for key, value in pairs(fields) do entries[#entries + 1] = { key = key, value = value } end
  table.sort(entries, function (a, b) return a.key < b.key end)
  return entries
end

-- The argument of a creation: the value of `spec` here, the body itself under /api.
function rest.spec (body)
  return body.spec
end

function rest.error (status, kind, message)
  return new_answer(status, {
    type = "com.vmware.vapi.std.errors." .. kind,
    value = { messages = json.array { message } },
  })
end

-- A string alone is a document too.
local function bare (status, value)
  return new_answer(status, json.raw(json.encode(value)))
end

function api.ok (value)
  return bare(200, value)
end

function api.created (value)
  return bare(201, value)
end

function api.done ()
  return new_answer(204)
end

function api.map (fields)
  return fields
end

function api.spec (body)
  return body
end

function api.error (status, kind, message)
  return new_answer(status, { error_type = kind:upper(), messages = json.array { message } })
end

return { rest = rest, api = api }
