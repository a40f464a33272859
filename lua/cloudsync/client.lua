--- The one road that every call takes: parameters, request, authorisation, transfer, answer, result
-- or error, retry.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"
local options_of = require "cloudsync.options"
local pager = require "cloudsync.pager"
local retry = require "cloudsync.retry"
local suggest = require "cloudsync.suggest"
local throttle = require "cloudsync.throttle"

local client = {}

local check = options_of.check

-- What every client takes, and its type; "any" are the transport's, which checks them itself.
local OPTIONS = {
  endpoint = "any", connect_timeout = "any", ca_file = "any", ca_path = "any", insecure = "any",
  pinned_public_key = "any", client_cert = "any", client_key = "any", proxy = "any",
  max_response_bytes = "any", max_connections = "any", allow_plain_http = "any",
  user_agent = "any", referer = "any",
  timeout = "number", deadline = "number", retries = "number", on_event = "function",
}

local CALL_OPTIONS = {
  timeout = "number", deadline = "number", retries = "number", headers = "table",
  dry_run = "boolean",
}

local NONE = {}

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

-- Tells the observer, if there is one; what it raises is its own affair, and must not end a call
-- that may have had its effect. An event never holds headers or a body.
local function emit(self, kind, request, facts)
  local on_event = self.options.on_event
  if not on_event then return end
  facts.type, facts.service, facts.operation = kind, self.service, request:name()
  facts.method, facts.url = request:target()
  pcall(on_event, facts)
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
local function take_token(self, rejected, deadline, request)
  if not self.authorise then return nil end
  local ok, token, err = pcall(self.authorise, self, rejected, deadline, request)
  if ok and core.is_token(token) then return token end
  local why = ok and (token and NO_TOKEN or err or "the credential gave no token") or token
  return false, errors.is(why) and why or { kind = "auth", message = tostring(why) }
end

-- The error where there is no token. After a 401 the call keeps that fate: it was rejected.
local function without_token(self, err, request, failure)
  if failure then
    failure.code = err.code or failure.code
    failure.message = ("%s; no other token: %s"):format(failure.message, tostring(err.message))
    return failure
  end
  local unsent = complete(self, err, request, 0)
  unsent.outcome = "not_sent"
  return unsent
end

-- Sends the request once. Returns the result, the transfer and, in place of a result, the failure
-- and what the service says of when to come back.
local function try(self, request, timeout, token)
  local waiter = driver.current()
  local transfer = core.engine():submit(request, self.transport, timeout, token)
  waiter.wait(transfer)
  local ok, result = core.interpret(transfer, request)
  if ok then return result, transfer end
  local after = retry.after(transfer)
  if self.classify then self.classify(result) end
  local failure = errors.of_call(result, after)
  if after then
    failure.message = ("%s (it asks to come back in %g s)"):format(failure.message, after)
  end
  return nil, transfer, failure, after
end

-- How long to wait before the next try; nil where there should be none.
local function pause(failure, attempts, retries, safe, after)
  failure.retryable = retry.permits(failure, safe, after)
  if not failure.retryable or attempts > retries then return nil end
  return retry.delay(attempts, after)
end

-- Waits for as long as the service is to be left alone. Returns true, or nil and an error.
local function admit(self, request, scope, deadline, attempts)
  local refusal, slot = self.throttle:refusal(), nil
  while not refusal do
    local seconds, err = self.throttle:delay(scope, slot or 0, deadline)
    if seconds == 0 and slot then return true end
    refusal = err
    if seconds == 0 then
      slot = self.throttle:slot(request:name())
    elseif seconds then
      emit(self, "wait", request, { seconds = seconds })
      driver.current().sleep(seconds)
    end
  end
  return nil, complete(self, refusal, request, attempts)
end

local PASSED = { kind = "timeout", outcome = "not_sent",
  message = "the deadline passed before the call was sent" }

--- Takes a request down the road.
-- @param request made by an operation of the core
-- @tparam table options of the call
-- @tparam ?number deadline by `core.now()`; made of the options where it is not given
-- @return the result and `{status, headers, request_id, attempts, elapsed}`, or nil and an error
function Client:send(request, options, deadline)
  driver.current() -- raises where no call can be made, before anything is done for it
  local started = core.now()
  local allowed = options.deadline or self.options.deadline
  deadline = deadline or (allowed and started + allowed) or math.huge
  local timeout = options.timeout or self.options.timeout
  local retries = options.retries or self.options.retries
  local attempts, renewed, rejected, failure = 0, false, nil, nil
  local scope = self.scope and self.scope(request) or ""
  while true do
    local admitted, refusal = admit(self, request, scope, deadline, attempts)
    if not admitted then return nil, failure or refusal end
    local token, err = take_token(self, rejected, deadline, request)
    if token == false then return nil, without_token(self, err, request, failure) end
    if rejected and token == rejected then return nil, failure end
    local left = deadline - core.now()
    if left <= 0 then return nil, failure or complete(self, PASSED, request, attempts) end
    attempts = attempts + 1
    self.throttle:begin()
    if token then request:note(token) end
    emit(self, "request", request, { attempt = attempts })
    local result, transfer, failed, after = try(self, request, math.min(timeout, left), token)
    local request_id = request:redact(transfer:header(self.request_id_header))
    local delay = failed and pause(failed, attempts, retries, request:is_safe(), after)
    -- what the caller's deadline cut short says nothing of the service
    if not failed or failed.kind ~= "timeout" or failed.status or left >= timeout then
      self.throttle:observe(scope, request:name(), transfer, failed, after or delay)
    end
    if not failed then
      emit(self, "response", request,
        { attempt = attempts, status = transfer:status(), request_id = request_id })
      local response = setmetatable({
        status = transfer:status(), request_id = request_id, attempts = attempts,
        elapsed = core.now() - started, [TRANSFER] = transfer,
      }, Response)
      if self.adapt then result = self.adapt(result, request) end
      if result == nil then result = core.null end
      return result, response
    end
    failed.request_id = request_id
    failure = complete(self, failed, request, attempts)
    emit(self, "response", request,
      { attempt = attempts, status = failure.status, request_id = request_id, err = failure })
    rejected = nil
    if failed.kind == "auth" and token and not renewed then
      renewed, rejected, delay = true, token, 0
    end
    if not delay or core.now() + delay >= deadline then return nil, failure end
    emit(self, "retry", request, { attempt = attempts, seconds = delay, err = failure })
    if delay > 0 then driver.current().sleep(delay) end
  end
end

local function names_of(self, field, group)
  local names, seen = {}, {}
  for _, operation in ipairs(core.operations(self.dialect)) do
    local name = operation[field]
    if not seen[name] and (not group or operation.group == group) then
      names[#names + 1], seen[name] = name, true
    end
  end
  return names
end

local function parameters_of(self, subject)
  local names = {}
  for _, operation in ipairs(core.operations(self.dialect)) do
    if subject == ("%s %s:%s"):format(self.service, operation.group, operation.name) then
      for i, parameter in ipairs(operation.parameters) do names[i] = parameter.name end
    end
  end
  return names
end

-- Makes the request of an operation and sends it, or gives what stands for it.
local function call(self, subject, prepare, parameters, options)
  check(options, CALL_OPTIONS, subject, 3)
  options = options or NONE
  if parameters ~= nil and type(parameters) ~= "table" then
    error(("%s: parameters must be a table, got %s"):format(subject, type(parameters)), 3)
  end
  local request, reason, parameter, mistake =
    prepare(self.transport, parameters, self.defaults, options.headers, options.dry_run)
  if mistake then
    local hint = mistake == "unknown" and suggest(parameter, parameters_of(self, subject))
    error(("%s: %s%s"):format(subject, reason, hint or ""), 3)
  end
  if not request then
    return nil, errors.new {
      kind = "argument", outcome = "not_sent", service = self.service, attempts = 0,
      operation = subject:match("%S+$"), message = reason, target = parameter, retryable = false,
    }
  end
  if options.dry_run then return request:describe() end
  if request:is_pageable() then return pager.new(self, request, options) end
  local result, response = self:send(request, options)
  if result ~= nil and self.start_poller and request:is_long_running() then
    return self.start_poller(self, request, result, response), response
  end
  return result, response
end

local OWNER, NAME = {}, {} -- keys of groups that no operation can have

local Group = {}

-- An operation becomes a method when it is first used.
function Group:__index(name)
  local owner, group = rawget(self, OWNER), rawget(self, NAME)
  local dialect = owner.dialect
  local prepare = core.operation(dialect, group, tostring(name))
  if not prepare then
    error(("%s %s has no operation '%s'%s"):format(owner.service, group, tostring(name),
      suggest(tostring(name), names_of(owner, "name", group))), 2)
  end
  local subject = ("%s %s:%s"):format(owner.service, group, name)
  local function method(receiver, parameters, options)
    if receiver ~= self then error(subject .. ": call it with a colon", 2) end
    local unknown = owner.find_dialect and not (type(options) == "table" and options.dry_run)
      and owner:find_dialect()
    if unknown then return nil, unknown end
    if dialect ~= owner.dialect then
      dialect = owner.dialect
      prepare = core.operation(dialect, group, name)
    end
    -- not a tail call: errors name the line above this frame
    local result, response = call(owner, subject, prepare, parameters, options)
    return result, response
  end
  rawset(self, name, method)
  return method
end

function Client:__index(name)
  local method = Client[name] or rawget(self, "methods")[name]
  if method then return method end
  if type(name) ~= "string" or not core.has_group(rawget(self, "dialect"), name) then
    error(("%s has no group '%s'%s"):format(rawget(self, "service"), tostring(name),
      suggest(tostring(name), names_of(self, "group"))), 2)
  end
  local group = setmetatable({ [OWNER] = self, [NAME] = name }, Group)
  rawset(self, name, group)
  return group
end

--- Makes a client of a service.
-- @tparam table spec what is the service's own:
--
--   - `service`, its name; `subject`, how messages call it, if differently
--   - `options`, the names and types of its options; `parameters`, those that are defaults for
--     parameters; `endpoint`, where none is given
--   - `authorise(client, rejected, deadline, request)`, which returns a token or nil and an error
--   - `dialect`, which descriptors it has; `find_dialect(client)`, which may change that before a
--     call, or returns an error
--   - `classify(fields)`, which may set `kind` and `outcome` of a failure
--   - `adapt(result, request)`, which may change a result
--   - `pollers`, what the kinds of long work look at (see `cloudsync.poller`);
--     `start_poller(client, request, result, response)`, which makes one of an operation's answer
--   - `methods`, what the client has beside its groups
--   - `scope(request)`, what the service limits together (all that the client calls); `quotas`, the
--     headers that tell how many calls remain
-- @tparam table options the user's
function client.new(spec, options)
  local known, transport = {}, {}
  for name, wanted in pairs(OPTIONS) do known[name] = wanted end
  for name, wanted in pairs(spec.options) do known[name] = wanted end
  local subject = spec.subject or spec.service
  check(options, known, subject, 3)
  local settings = { timeout = 60, retries = 3, endpoint = spec.endpoint,
    user_agent = "cloudsync/" .. core.version }
  for name, value in pairs(options) do settings[name] = value end
  for name, wanted in pairs(OPTIONS) do
    if wanted == "any" then transport[name] = settings[name] end
  end
  local made, result = pcall(core.transport, transport)
  if not made then error(("%s: %s"):format(subject, result), 3) end
  for _, name in ipairs { "proxy", "password", "token", "client_secret" } do -- no dump shows them
    if settings[name] ~= nil then settings[name] = core.secret(settings[name]) end
  end
  assert(core.decode "0") -- a missing lua-cjson is better found now than after a call
  local defaults = {}
  for _, name in ipairs(spec.parameters or NONE) do defaults[name] = options[name] end
  return setmetatable({
    service = spec.service, options = settings, transport = result, defaults = defaults,
    authorise = spec.authorise or false,
    request_id_header = core.request_id_header(spec.dialect or spec.service) or "",
    dialect = spec.dialect or spec.service, find_dialect = spec.find_dialect or false,
    classify = spec.classify or false, adapt = spec.adapt or false,
    pollers = spec.pollers or NONE, methods = spec.methods or NONE,
    start_poller = spec.start_poller or false,
    scope = spec.scope or false, throttle = throttle.new(spec.quotas or NONE),
  }, Client)
end

return client
