-- What ArcGIS answers looks like. Its errors come with HTTP 200.
local json = require "simulator.json"
local new_answer = require("simulator.answer").new

local answers = {}

local json_type = "application/json;charset=utf-8"

local function with_type (answer, content_type)
  answer.headers["Content-Type"] = content_type
  return answer
end

function answers.ok (body)
  return with_type(new_answer(200, body), json_type)
end

-- Under the admin root.
function answers.error (code, message)
  return answers.ok { status = "error", messages = json.array { message }, code = code }
end

-- Of the portal; details are a list.
function answers.portal_error (code, message, details)
  return answers.ok { error = { code = code, message = message, details = json.array(details) } }
end

local escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }

-- The same for a person, which is what comes without f=json.
function answers.page (answer)
  local body = answer.body
  local text = type(body) == "table" and json.encode(body) or body or ""
  answer.body = ("<!DOCTYPE html>\n<html><head><title>ArcGIS Server Administrator Directory</title>"
    .. "</head>\n<body><pre>%s</pre></body></html>\n"):format(text:gsub("[&<>]", escapes))
  return with_type(answer, "text/html;charset=utf-8")
end

return answers
