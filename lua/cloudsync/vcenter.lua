--- vCenter hybrid linked mode, on the `/rest` and the newer `/api` base.
--
-- The session opens at the first call, is shared by all, is renewed once when it is refused, and is
-- closed by `client:close()` or when the client is collected. See the
-- [reference](https://developer.broadcom.com/xapis/vsphere-automation-api/v7.0U2/vcenter/hvc/).
local client = require "cloudsync.client"
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"
local poller = require "cloudsync.poller"
local token_cache = require "cloudsync.token_cache"

local vcenter = {}

local GOODBYE = 2 -- s that closing the session of a collected client may take

local DIALECTS = { api = "vcenter/api", rest = "vcenter/rest" }

-- The errors of vSphere by the last part of their type; their statuses differ from base to base.
local KINDS = {
  already_exists = "conflict", already_in_desired_state = "conflict", canceled = "cancelled",
  concurrent_change = "conflict", error = "service", feature_in_use = "conflict",
  internal_server_error = "service", invalid_argument = "argument",
  invalid_element_configuration = "argument", invalid_element_type = "argument",
  invalid_request = "argument", not_allowed_in_current_state = "conflict",
  not_found = "not_found", operation_not_found = "unsupported", resource_busy = "busy",
  resource_in_use = "conflict", resource_inaccessible = "service",
  service_unavailable = "service", timed_out = "timeout", unable_to_allocate_resource = "limit",
  unauthenticated = "auth", unauthorized = "denied", unexpected_input = "argument",
  unsupported = "unsupported", unverified_peer = "argument",
}

local MAY_HAVE_HAPPENED = { service = true, timeout = true, cancelled = true }

local NOT_OFFERED = "this vCenter does not offer the operation on this base: hybrid linked mode's "
  .. "sync is gone since 8.0 U1, all of it since 9.1; before 7.0 U2 there is only /rest"

-- Whether a 404 is about the operation, not about what it was to work on: by the ids of its messages
-- where its type does not tell.
local function is_not_offered(fields, name)
  if fields.status ~= 404 then return false end
  local ids = { tostring(fields.code) }
  for _, message in ipairs(type(fields.details) == "table" and fields.details or {}) do
    ids[#ids + 1] = type(message) == "table" and tostring(message.id) or nil
  end
  local said = table.concat(ids, " ")
  return name ~= "not_found" or said:find("httpNotFound", 1, true) ~= nil
    or said:find("operationsForUrlNotFound", 1, true) ~= nil
end

local function classify(fields)
  if not fields.status then return end
  local name = fields.code and fields.code:lower():match "[%w_]+$"
  if is_not_offered(fields, name) then
    fields.kind, fields.code, fields.outcome = "unsupported", name, "rejected"
    fields.message = NOT_OFFERED
  elseif KINDS[name] then
    fields.kind, fields.code = KINDS[name], name
    fields.outcome = MAY_HAVE_HAPPENED[fields.kind] and "unknown" or "rejected"
  end
end

-- Whether every item is a {key, value}, and there is one.
local function is_map(list)
  if type(list) ~= "table" then return false end
  for _, pair in ipairs(list) do
    if type(pair) ~= "table" or pair.key == nil then return false end
  end
  return list[1] ~= nil
end

-- On /rest a map is a list of {key, value}.
local function restore_maps(value)
  if type(value) ~= "table" then return value end
  for name, item in pairs(value) do
    if name == "params" and is_map(item) then
      local map = {}
      for _, pair in ipairs(item) do map[pair.key] = restore_maps(pair.value) end
      value[name] = map
    else
      restore_maps(item)
    end
  end
  return value
end

local LISTS = { ["links:list"] = true, ["sync_providers:list"] = true,
  ["administrators:get"] = true }

local function adapt(result, request)
  if LISTS[request:name()] and (result == core.null or result == nil or result == true) then
    return core.array {}
  end
  return restore_maps(result)
end

-- A client for what needs no session, with the same transport.
local function without_session(self, authorise)
  local transport = {}
  for name, value in pairs(self.options) do transport[name] = value end
  for _, name in ipairs { "username", "password", "api" } do transport[name] = nil end
  return client.new({ service = "vcenter", dialect = self.dialect, options = {},
    authorise = authorise, classify = classify }, transport)
end

-- One safe request tells which base hybrid linked mode is on, whatever its answer is otherwise.
local function probe(self)
  local ok, result, err = pcall(function() return without_session(self).links:list() end)
  if ok and err and err.status == 404 then self.dialect = DIALECTS.rest end
  self.found = ok and not (err and not err.status)
  self.probing:set()
  self.probing = false
  if not ok then error(result, 0) end
  return not self.found and err or nil
end

-- Probes once for all calls that wait for it.
local function find_dialect(self)
  if self.options.api ~= "auto" then return end
  while not self.found do
    if not self.probing then
      local waiter = driver.current()
      self.probing = waiter.event()
      return waiter.outlive(probe, self)
    end
    self.probing:wait()
  end
end

-- An object that calls `fn` when it is collected.
local function new_guard(fn)
  if not newproxy then return setmetatable({}, { __gc = fn }) end
  local guard = newproxy(true)
  getmetatable(guard).__gc = fn
  return guard
end

-- Closes the session of a client that is collected; nothing in here leads to the client.
local function new_session_guard(self, id)
  local transport, guarded = self.transport, { id = id }
  local request = core.operation(self.dialect, "session", "delete")(transport)
  guarded.guard = new_guard(function()
    if not guarded.id then return end
    pcall(function()
      driver.any().finish(core.engine():submit(request, transport, GOODBYE, id))
    end)
  end)
  return guarded
end

local function open_session(self, deadline)
  local basic = core.basic(self.options.username, self.options.password)
  local login = without_session(self, function(_, _, _, request)
    request:note(self.options.password) -- which a server may repeat as it is
    return basic
  end)
  local allowed = deadline and deadline < math.huge and math.max(0, deadline - core.now()) or nil
  local id, err = login.session:create(nil, { deadline = allowed })
  if type(id) ~= "string" or not core.is_token(id) then
    if not errors.is(err) then
      err = errors.new { kind = "protocol", message = "the answer holds none" }
    end
    err.message = "no session from vCenter: " .. err.message
    return nil, err
  end
  id = core.secret(id)
  if self.guarded then self.guarded.id = nil end
  self.guarded = new_session_guard(self, id)
  return id, math.huge
end

local function authorise(self, rejected, deadline, request)
  if request:name() == "session:create" then
    request:note(self.options.password)
    return core.basic(self.options.username, self.options.password)
  end
  return self.sessions:get("session", rejected, deadline)
end

local methods = {}

--- Closes the session, if one is open. The next call opens another.
-- @treturn boolean true, or nil and an error
function methods.close(self)
  if self.guarded then self.guarded.id = nil end
  local id = self.sessions:drop("session")
  if not id then return true end
  local closing = without_session(self, function() return id end)
  local ok, err = closing.session:delete(nil, { retries = 0 })
  if ok == nil and err.kind ~= "auth" then return nil, err end
  return true
end

--- Goes on with a sync that `sync_providers:start` has begun, in this or in another process.
-- @tparam string token of a poller
function methods.poller(self, token)
  return poller.resume(self, token)
end

--- A poller of a provider's sync.
-- @tparam table state `link`, `provider`; `before`, the time of the last sync before this one;
--   `joined`, whether it was under way already
function methods.sync_poller(self, state)
  return poller.new(self, "sync", state)
end

local STAGES_OVER = { COMPLETED = true, FAILED = true }

-- Whether the sync has ended, and whether well. The status is that of the last sync that has ended,
-- and what is seen may be of a sync before the one that is waited for: its time tells.
local function judge(info, state)
  local session = type(info.current_session_info) == "table" and info.current_session_info or nil
  local time = type(info.last_sync_time) == "string" and info.last_sync_time or ""
  local is_ours = state.joined or state.before == nil or time ~= state.before
  if session then
    return STAGES_OVER[session.stage] and is_ours or false, session.stage ~= "FAILED"
  end
  return is_ours and time ~= "", info.status ~= "FAILED"
end

local function sync_failure(info, state)
  local session = type(info.current_session_info) == "table" and info.current_session_info or {}
  local said = type(session.exception) == "table" and session.exception or info.status_message
  return errors.new {
    kind = "job", service = "vcenter", operation = "sync_providers:get", outcome = "rejected",
    target = state.provider, details = info, retryable = false,
    message = "the sync failed: " .. tostring(type(said) == "table" and said.default_message
      or "vCenter does not say why"),
  }
end

local function look_at_sync(self, state, options)
  local provider = { link = state.link, provider = state.provider }
  local info, err = self.sync_providers:get(provider, options)
  if info == nil then return nil, err end
  if type(info) ~= "table" or type(info.status) ~= "string" then
    return nil, errors.new {
      kind = "protocol", service = "vcenter", operation = "sync_providers:get",
      outcome = "unknown", retryable = false, attempts = 1,
      message = "the answer does not tell the status of the provider",
    }
  end
  local ended, well = judge(info, state)
  if not ended then return { done = false, status = info } end
  if well then return { done = true, status = info, result = info } end
  return { done = true, status = info, err = sync_failure(info, state) }
end

--- Makes a client.
-- @tparam table options `endpoint` ("https://vcenter.example.com"), `username`, `password`, `api`
--   ("auto", "rest" or "api"), and what every client takes
function vcenter.new(options)
  if type(options) ~= "table" then error("vcenter: options must be a table", 2) end
  local api = options.api or "auto"
  if api ~= "auto" and not DIALECTS[api] then
    error("vcenter: option 'api' must be \"auto\", \"rest\" or \"api\"", 2)
  end
  local settings = { api = api }
  for name, value in pairs(options) do settings[name] = value end
  local made = client.new({
    service = "vcenter", dialect = DIALECTS[api] or DIALECTS.api,
    options = { username = "string", password = "text", api = "string" },
    authorise = authorise, find_dialect = find_dialect, classify = classify, adapt = adapt,
    pollers = { sync = look_at_sync }, methods = methods,
  }, settings)
  for _, name in ipairs { "username", "password" } do
    if options[name] == nil then error(("vcenter: %s is missing"):format(name), 2) end
  end
  made.found, made.probing, made.guarded = false, false, false
  made.sessions = token_cache.new(function(_, deadline)
    return open_session(made, deadline)
  end, true)
  return made
end

return vcenter
