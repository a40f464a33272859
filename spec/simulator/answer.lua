-- An answer: { status, headers, body }, its body text, or a table to be sent as JSON, or nil.
local json = require "simulator.json"

local answer = { json_type = "application/json; charset=utf-8" }

function answer.new (status, body)
  return { status = status, headers = {}, body = body }
end

-- The status and headers go out with the first byte of the body, which is returned and is the
-- caller's to send.
function answer.start (given)
  local body = given.body
  if type(body) == "table" then
    body = json.encode(body)
    ngx.header.content_type = answer.json_type
  end
  ngx.status = given.status
  for name, value in pairs(given.headers) do ngx.header[name] = value end
  return body or ""
end

function answer.send (given)
  local body = answer.start(given)
  if given.status ~= 204 and given.status ~= 304 then
    ngx.header.content_length = given.headers["Content-Length"] or #body
  end
  ngx.print(body)
  ngx.eof()
end

return answer
