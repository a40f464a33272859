--- Long-running operations of Azure Resource Manager.
--
-- See [Track asynchronous
-- operations](https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local poller = require "cloudsync.poller"
local retry = require "cloudsync.retry"

local arm_operation = {}

local ENDED = { succeeded = true, failed = true, canceled = true }

local function state_of(document)
  if type(document) ~= "table" then return nil end
  local properties = type(document.properties) == "table" and document.properties or {}
  local state = document.status or properties.provisioningState
  return type(state) == "string" and state:lower() or nil
end

local function failure_of(document, name)
  local said = type(document.error) == "table" and document.error or {}
  return errors.new {
    kind = "job", service = "datafactory", operation = name, outcome = "rejected",
    code = type(said.code) == "string" and said.code or nil, details = document,
    retryable = false, message = "the operation ended as " .. tostring(state_of(document)) .. ": "
      .. (type(said.message) == "string" and said.message or "the service does not say why"),
  }
end

-- The retry module reads headers by a method.
local function after_of(response)
  return retry.after { header = function(_, name) return response.headers[name] end }
end

--- Makes the poller of an answer: done already, or to be followed by the links in its headers.
function arm_operation.start(self, request, result, response)
  local headers, name = response.headers, request:name()
  local group, operation = name:match "^(.-):(.+)$"
  local url = headers["azure-asyncoperation"] or headers.location
  local state = { group = group, name = operation, url = url,
    location = headers["azure-asyncoperation"] and headers.location or nil }
  if url then return poller.new(self, "operation", state) end
  local outcome = { done = true, status = result, result = result }
  if response.status == 202 then
    outcome.result, outcome.err = nil, errors.new {
      kind = "protocol", service = "datafactory", operation = name, outcome = "unknown",
      retryable = false, message = "the service accepted the call, but not where to follow it",
    }
  end
  return poller.new(self, "operation", state, outcome)
end

-- Fetches what a link of the operation leads to.
local function follow(self, state, url, options)
  local name = state.group .. ":" .. state.name
  local request = core.link(self.dialect, state.group, state.name, self.transport, url)
  if not request then
    return nil, errors.new {
      kind = "protocol", service = "datafactory", operation = name, outcome = "unknown",
      retryable = false,
      message = "the link to the operation leads to another origin, which gets no credentials",
    }
  end
  return self:send(request, options)
end

--- Looks at the operation once; see `cloudsync.poller`.
function arm_operation.look(self, state, options)
  local document, response = follow(self, state, state.url, options)
  if document == nil then return nil, response end
  local status = state_of(document)
  local running = response.status == 202 or (status ~= nil and not ENDED[status])
  if running then return { done = false, status = document, after = after_of(response) } end
  if status == "failed" or status == "canceled" then
    return { done = true, status = document,
      err = failure_of(document, state.group .. ":" .. state.name) }
  end
  if not state.location then return { done = true, status = document, result = document } end
  local result, err = follow(self, state, state.location, options)
  if result == nil then return nil, err end
  return { done = true, status = document, result = result }
end

return arm_operation
