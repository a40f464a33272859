--- The one road that every call takes: parameters, request, authorisation, transfer, answer, result
-- or error, retry.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"
local pager = require "cloudsync.pager"
local retry = require "cloudsync.retry"
local suggest = require "cloudsync.suggest"

local client = {}

-- What every client takes, and its type; those with true are the transport's, which checks them.
local OPTIONS = {
  endpoint = true, connect_timeout = true, ca_file = true, ca_path = true, insecure = true,
  pinned_public_key = true, client_cert = true, client_key = true, proxy = true,
  max_response_bytes = true, max_connections = true, allow_plain_http = true, user_agent = true,
  timeout = "number", deadline = "number", retries = "number", on_event = "function",
}

local CALL_OPTIONS = {
  timeout = "number", deadline = "number", retries = "number", headers = "table",
  dry_run = "boolean",
}

local NONE = {}

-- What the type of an option is called, and whether a value has it.
local TYPES = {
  text = { "a string or a secret", function(value)
    return type(value) == "string" or type(value) == "userdata"
  end },
  credential = { "an object with get_token", function(value)
    return (type(value) == "table" or type(value) == "userdata") and value.get_token ~= nil
  end },
  number = { "a number that is not negative", function(value)
    return type(value) == "number" and value >= 0
  end },
}

local function has_type(value, wanted)
  if wanted == true then return true end
  if TYPES[wanted] then return TYPES[wanted][2](value) end
  return type(value) == wanted
end

local function check_options(options, known, subject, level)
  if type(options) ~= "table" then
    error(("%s: options must be a table, got %s"):format(subject, type(options)), level + 1)
  end
  for name, value in pairs(options) do
    local wanted = known[name]
    if not wanted then
      local names = {}
      for candidate in pairs(known) do names[#names + 1] = candidate end
      table.sort(names)
      error(("%s: unknown option '%s'%s"):format(subject, tostring(name),
        suggest(tostring(name), names)), level + 1)
    end
    if not has_type(value, wanted) then
      error(("%s: option '%s' must be %s, got %s"):format(subject, name,
        TYPES[wanted] and TYPES[wanted][1] or "a " .. wanted, type(value)), level + 1)
    end
  end
end

local TRANSFER = {} -- a key of responses that only this file knows

local Response = {}

-- The headers are parsed only for those who ask.
function Response:__index(name)
  if name ~= "headers" then return nil end
  local headers = self[TRANSFER]:headers()
  rawset(self, "headers", headers)
  return headers
end

local Client = {}

-- Tells the observer, if there is one. An event never holds headers or a body.
local function emit(self, kind, request, facts)
  local on_event = self.options.on_event
  if not on_event then return end
  local description = request:describe()
  facts.type, facts.service = kind, description.service
  facts.operation, facts.method, facts.url =
    description.operation, description.method, description.url
  on_event(facts)
end

-- What a failure says of the call that it ended, in a copy: a credential's own error may be
-- given to many callers.
local function complete(self, failure, request, attempts)
  local err = {}
  for name, value in pairs(failure) do err[name] = value end
  err.service, err.operation = self.service, request:name()
  err.attempts, err.retryable = attempts, err.retryable or false
  err.sent, err.lasting = nil, nil
  return errors.new(err)
end

local NO_TOKEN = "the credential gave something that is no token: a line break or another "
  .. "character that no header can hold, nothing, or no text"

-- The token for a try: nil where the service needs none, false and an error where there is none.
local function authorise(self, rejected, deadline)
  if not self.authorise then return nil end
  local ok, token, err = pcall(self.authorise, self, rejected, deadline)
  if ok and core.is_token(token) then return token end
  local why = ok and (token and NO_TOKEN or err or "the credential gave no token") or token
  return false, errors.is(why) and why or { kind = "auth", message = tostring(why) }
end

-- Sends the request once. Returns the result, the transfer and, in place of a result, the failure
-- and what the service says of when to come back.
local function try(self, request, timeout, token)
  local transfer = core.engine():submit(request, self.transport, timeout, token)
  driver.current().wait(transfer)
  local ok, result = core.interpret(transfer, request)
  if ok then return result, transfer end
  local after = retry.after(transfer)
  return nil, transfer, errors.of_call(result, after), after
end

-- How long to wait before the next try; nil where there should be none.
local function pause(failure, attempts, retries, safe, after)
  failure.retryable = retry.permits(failure, safe, after)
  if not failure.retryable or attempts > retries then return nil end
  return retry.delay(attempts, after)
end

local PASSED = { kind = "timeout", outcome = "not_sent",
  message = "the deadline passed before the call was sent" }

--- Takes a request down the road.
-- @param request made by an operation of the core
-- @tparam table options of the call
-- @tparam ?number deadline by `core.now()`; made of the options where it is not given
-- @return the result and `{status, headers, request_id, attempts, elapsed}`, or nil and an error
function Client:send(request, options, deadline)
  local started = core.now()
  local allowed = options.deadline or self.options.deadline
  deadline = deadline or (allowed and started + allowed) or math.huge
  local timeout = options.timeout or self.options.timeout
  local retries = options.retries or self.options.retries
  local attempts, renewed, rejected, failure = 0, false, nil, nil
  while true do
    local token, err = authorise(self, rejected, deadline)
    if token == false then
      local unsent = complete(self, err, request, attempts)
      unsent.outcome = "not_sent"
      return nil, unsent
    end
    if rejected and token == rejected then return nil, failure end
    local left = deadline - core.now()
    if left <= 0 then return nil, failure or complete(self, PASSED, request, attempts) end
    attempts = attempts + 1
    emit(self, "request", request, { attempt = attempts })
    local result, transfer, failed, after = try(self, request, math.min(timeout, left), token)
    local request_id = transfer:header(self.request_id_header)
    emit(self, "response", request,
      { attempt = attempts, status = transfer:status(), request_id = request_id })
    if not failed then
      return result, setmetatable({
        status = transfer:status(), request_id = request_id, attempts = attempts,
        elapsed = core.now() - started, [TRANSFER] = transfer,
      }, Response)
    end
    failed.request_id = request_id
    local delay = pause(failed, attempts, retries, request:traits(), after)
    failure = complete(self, failed, request, attempts)
    rejected = nil
    if failed.status == 401 and token and not renewed then
      renewed, rejected, delay = true, token, 0
    end
    if not delay or core.now() + delay >= deadline then return nil, failure end
    emit(self, "retry", request, { attempt = attempts, seconds = delay, err = failure })
    if delay > 0 then driver.current().sleep(delay) end
  end
end

local function names_of(service, field, group)
  local names, seen = {}, {}
  for _, operation in ipairs(core.operations(service)) do
    local name = operation[field]
    if not seen[name] and (not group or operation.group == group) then
      names[#names + 1], seen[name] = name, true
    end
  end
  return names
end

local function parameters_of(service, subject)
  local names = {}
  for _, operation in ipairs(core.operations(service)) do
    if subject == ("%s %s:%s"):format(service, operation.group, operation.name) then
      for i, parameter in ipairs(operation.parameters) do names[i] = parameter.name end
    end
  end
  return names
end

-- Makes the request of an operation and sends it, or gives what stands for it.
local function call(self, subject, prepare, parameters, options)
  if options == nil then options = NONE end
  check_options(options, CALL_OPTIONS, subject, 3)
  if parameters ~= nil and type(parameters) ~= "table" then
    error(("%s: parameters must be a table, got %s"):format(subject, type(parameters)), 3)
  end
  local request, reason, parameter, mistake =
    prepare(self.transport, parameters, self.defaults, options.headers, options.dry_run)
  if mistake then
    local hint = mistake == "unknown" and suggest(parameter, parameters_of(self.service, subject))
    error(("%s: %s%s"):format(subject, reason, hint or ""), 3)
  end
  if not request then
    return nil, errors.new {
      kind = "argument", outcome = "not_sent", service = self.service, attempts = 0,
      operation = subject:match("%S+$"), message = reason, target = parameter, retryable = false,
    }
  end
  if options.dry_run then return request:describe() end
  local _, pageable = request:traits()
  if pageable then return pager.new(self, request, options) end
  return self:send(request, options)
end

local OWNER, NAME = {}, {} -- keys of groups that no operation can have

local Group = {}

-- An operation becomes a method when it is first used.
function Group:__index(name)
  local owner, group = rawget(self, OWNER), rawget(self, NAME)
  local prepare = core.operation(owner.service, group, tostring(name))
  if not prepare then
    error(("%s %s has no operation '%s'%s"):format(owner.service, group, tostring(name),
      suggest(tostring(name), names_of(owner.service, "name", group))), 2)
  end
  local subject = ("%s %s:%s"):format(owner.service, group, name)
  local function method(receiver, parameters, options)
    if receiver ~= self then error(subject .. ": call it with a colon", 2) end
    -- not a tail call: errors name the line above this frame
    local result, response = call(owner, subject, prepare, parameters, options)
    return result, response
  end
  rawset(self, name, method)
  return method
end

function Client:__index(name)
  if Client[name] then return Client[name] end
  local service = rawget(self, "service")
  if type(name) ~= "string" or not core.has_group(service, name) then
    error(("%s has no group '%s'%s"):format(service, tostring(name),
      suggest(tostring(name), names_of(service, "group"))), 2)
  end
  local group = setmetatable({ [OWNER] = self, [NAME] = name }, Group)
  rawset(self, name, group)
  return group
end

--- Makes a client of a service.
-- @tparam table spec `service`, its name; `options`, the names and types of its own options;
--   `parameters`, the names of options that are defaults for parameters; `endpoint`, where none is
--   given; `authorise(client, rejected, deadline)`, which returns a token or nil and an error
-- @tparam table options the user's
function client.new(spec, options)
  local known, transport = {}, {}
  for name, wanted in pairs(OPTIONS) do known[name] = wanted end
  for name, wanted in pairs(spec.options) do known[name] = wanted end
  check_options(options, known, spec.service, 3)
  local settings = { timeout = 60, retries = 3, endpoint = spec.endpoint,
    user_agent = "cloudsync/" .. core.version }
  for name, value in pairs(options) do settings[name] = value end
  for name, wanted in pairs(OPTIONS) do
    if wanted == true then transport[name] = settings[name] end
  end
  local made, result = pcall(core.transport, transport)
  if not made then error(("%s: %s"):format(spec.service, result), 3) end
  local defaults = {}
  for _, name in ipairs(spec.parameters or NONE) do defaults[name] = options[name] end
  return setmetatable({
    service = spec.service, options = settings, transport = result, defaults = defaults,
    authorise = spec.authorise or false,
    request_id_header = core.service(spec.service).request_id_header,
  }, Client)
end

return client
