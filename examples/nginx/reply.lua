--- Answers in JSON.
local cjson = require "cjson"

local reply = {}

--- Sends a text that is JSON already.
-- @tparam integer status
-- @tparam string text
function reply.text(status, text)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Cache-Control"] = "no-store"
  ngx.say(text)
  return ngx.exit(ngx.HTTP_OK)
end

--- Sends a value.
function reply.json(status, value)
  return reply.text(status, cjson.encode(value))
end

--- Refuses a request.
-- @tparam integer status
-- @tparam string code for programs
-- @tparam string message for people
-- @tparam ?table more fields of the error
function reply.refuse(status, code, message, more)
  local err = { code = code, message = message }
  for name, value in pairs(more or {}) do err[name] = value end
  return reply.json(status, { error = err })
end

return reply
