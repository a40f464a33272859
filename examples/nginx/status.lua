--- GET /jobs/<id>: a job as JSON, or as a page for people, which asks for the JSON and shows it.
local jobs = require "jobs"
local reply = require "reply"

local status = {}

local POLICY = table.concat({
  "default-src 'none'", "script-src 'nonce-%s'", "style-src 'nonce-%s'", "img-src data:",
  "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}, "; ")

local page -- its text, read when nginx starts

--- Reads the page.
-- @tparam string path
function status.load(path)
  local file = assert(io.open(path))
  page = file:read "*a"
  file:close()
end

-- What is named first wins; who names neither gets JSON.
local function wants_page()
  local accept = ngx.var.http_accept or ""
  local html, json = accept:find("text/html", 1, true), accept:find("application/json", 1, true)
  return html and (not json or html < json)
end

-- Nothing of the job is in the page itself, so there is nothing to escape here.
local function send_page(code)
  local nonce = ngx.var.request_id
  ngx.status = code
  ngx.header["Content-Type"] = "text/html; charset=utf-8"
  ngx.header["Cache-Control"] = "no-store"
  ngx.header["Content-Security-Policy"] = POLICY:format(nonce, nonce)
  ngx.header["Referrer-Policy"] = "no-referrer"
  ngx.print((page:gsub("@NONCE@", nonce)))
  return ngx.exit(ngx.HTTP_OK)
end

--- Handles the request, in the content phase.
-- @tparam string id
function status.handle(id)
  local method = ngx.req.get_method()
  if method ~= "GET" and method ~= "HEAD" then
    ngx.header["Allow"] = "GET, HEAD"
    return reply.refuse(405, "method", "the method is GET")
  end
  ngx.header["Vary"] = "Accept"
  ngx.header["X-Content-Type-Options"] = "nosniff"
  local after = tonumber((ngx.var.arg_after or ""):match "^%d+$") or 0
  local job = jobs.describe(id, after)
  if wants_page() then return send_page(job and 200 or 404) end
  if not job then
    return reply.refuse(404, "unknown", "there is no such job; finished ones are kept for a while")
  end
  return reply.text(200, job)
end

return status
