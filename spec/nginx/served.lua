-- What runs inside of the nginx of nginx_spec.lua, in which this is `served`.
local cjson = require "cjson"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local support = require "spec.support"

-- The client is made in init_by_lua, thus in the master.
local served = { adf = support.datafactory() }

--- A call: the name of the runtime that the answer is about, or nil and an error.
function served.call(name, adf, options)
  local status, err = (adf or served.adf).integration_runtimes:get_status(
    { integrationRuntimeName = name or "ir-0001" }, options)
  if not status then return nil, err end
  return status.name
end

--- A client that signs in; options are the credential's.
function served.client(options)
  return support.datafactory { credential = support.credential(options) }
end

--- How many transfers are in flight, after what nobody holds has been collected.
function served.running()
  collectgarbage()
  collectgarbage()
  return core.engine():running()
end

--- Makes a call wherever this is run, and notes what came of it under the name of the phase.
function served.attempt()
  local ok, name, err = pcall(served.call)
  ngx.shared.outcomes:set(ngx.get_phase(),
    ok and (name or tostring(err)) or "raised: " .. tostring(name))
end

-- Answers as JSON.
local function answer(ok, value, err)
  if not ok or value == nil and err ~= nil then ok, value = false, tostring(ok and err or value) end
  local text = cjson.encode { ok = ok, value = value }
  ngx.header.content_length = #text
  ngx.print(text)
end

--- Runs the body of the request, a chunk of Lua, and answers with what it returns, or raises,
-- as JSON.
function served.run()
  ngx.req.read_body()
  local chunk = assert(loadstring("local served, cloudsync, support = ... "
    .. ngx.req.get_body_data(), "=chunk"))
  answer(pcall(chunk, served, cloudsync, support))
end

return served
