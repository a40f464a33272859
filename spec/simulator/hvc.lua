-- vCenter's hybrid linked mode: links, their synchronisation, administrators.
local clock = require "simulator.clock"
local errors = require "simulator.vcenter_errors"
local json = require "simulator.json"
local state = require "simulator.vcenter_state"
local tables = require "simulator.tables"

local hvc = {}

-- What is done: by method, path and action, * standing for a link's or a provider's id. Each is
-- given { dialect, link, provider, body } (the last three where there are any).
local operations = {}

local function check_strings (call, fields, names)
  for _, name in ipairs(names) do
    if type(fields[name]) ~= "string" then
      return errors.invalid(call.dialect, ("The string '%s' is missing."):format(name))
    end
  end
end

-- The credentials of a body that may be absent; then nil, or nil and an answer.
local function credentials (call)
  local given = call.body and call.body.credentials
  if not call.body or given == json.null then return nil end
  if type(given) ~= "table" then
    return nil, errors.invalid(call.dialect, "The structure 'credentials' is missing.")
  end
  local refusal = check_strings(call, given, { "user_name", "password" })
  if refusal then return nil, refusal end
  local good = call.link.credentials
  if good and (good.user_name ~= given.user_name or good.password ~= given.password) then
    return nil, errors.new(call.dialect, "unauthorized", "com.vmware.vcenter.hvc.unauthorized",
      "The remote system does not accept the credentials.")
  end
  return given
end

operations["GET links"] = function (call)
  local list = json.array()
  for i, link in ipairs(state.links()) do
    list[i] = { link = link.link, display_name = link.display_name or link.link }
  end
  return call.dialect.ok(list)
end

operations["POST links"] = function (call)
  local dialect = call.dialect
  local spec = dialect.spec(call.body or {})
  if type(spec) ~= "table" then
    return errors.invalid(dialect, "The structure 'spec' is missing.")
  end
  local refusal = check_strings(call, spec,
    { "psc_hostname", "domain_name", "username", "password" })
  if refusal then return refusal end
  if spec.port ~= nil and spec.port ~= json.null and type(spec.port) ~= "string" then
    return errors.invalid(dialect, "'port' must be a string.")
  end
  if tables.find(state.links(), "display_name", spec.psc_hostname) then
    return errors.new(dialect, "already_exists", "com.vmware.vcenter.hvc.links.already_exists",
      ("A link to '%s' exists already."):format(spec.psc_hostname), { spec.psc_hostname })
  end
  return dialect.created(state.create_link("link-" .. ngx.var.request_id:sub(1, 12), spec))
end

operations["GET links/*"] = function (call)
  local dialect, health = call.dialect, call.link.health or "HEALTHY"
  return dialect.ok {
    connection_health_status = health,
    health_status_message = health ~= "HEALTHY" and {
      id = "com.vmware.vcenter.hvc.links.unreachable",
      default_message = "The remote side does not answer.",
      args = json.array { call.link.link },
      params = dialect.map { link = { s = call.link.link } },
    } or nil,
  }
end

local function delete_link (call)
  local _, refusal = credentials(call)
  if refusal then return refusal end
  state.delete_link(call.link.link)
  return call.dialect.done()
end

operations["DELETE links/*"] = delete_link
operations["POST links/* delete"] = delete_link

operations["POST links/*/sync reset"] = function (call)
  state.cancel(call.link)
  return call.dialect.done()
end

operations["POST links/*/sync remediate"] = function (call)
  local _, refusal = credentials(call)
  if refusal then return refusal end
  state.cancel(call.link)
  return call.dialect.ok {
    status_message = errors.message("com.vmware.vcenter.hvc.links.sync.remediated",
      "The link has been remediated."),
  }
end

operations["GET links/*/sync/providers"] = function (call)
  local list = json.array()
  for i, provider in ipairs(call.link.providers or {}) do
    list[i] = { provider = provider.provider }
  end
  return call.dialect.ok(list)
end

local function failure_message (call, name)
  local provider = call.provider.provider
  return {
    id = "com.vmware.vcenter.hvc.links.sync.providers." .. name,
    default_message = ("The sync of provider '%s' has failed."):format(provider),
    args = json.array { provider },
    params = call.dialect.map {
      provider = { s = provider },
      link = { s = call.link.link },
    },
  }
end

local function session_info (call, session)
  return {
    stage = session.stage,
    completed_work = session.completed_work,
    total_work = session.total_work,
    start_time = clock.iso(session.started),
    completion_time = session.completed and clock.iso(session.completed) or nil,
    exception = session.stage == "FAILED" and failure_message(call, "sync_failed") or nil,
  }
end

operations["GET links/*/sync/providers/*"] = function (call)
  local sync = state.sync(call.link, call.provider)
  return call.dialect.ok {
    status = sync.status,
    status_message = sync.status == "FAILED" and failure_message(call, "last_sync_failed") or nil,
    last_sync_time = sync.last_time and clock.iso(sync.last_time) or nil,
    polling_interval_in_seconds = 300,
    current_session_info = sync.session and session_info(call, sync.session) or nil,
  }
end

operations["POST links/*/sync/providers/* start"] = function (call)
  local given, refusal = credentials(call)
  if refusal then return refusal end
  return state.start(call.link, call.provider, given) and call.dialect.done()
    or errors.busy(call.dialect)
end

operations["GET management/administrators"] = function (call)
  return call.dialect.ok(json.array(tables.merge(state.administrators())))
end

local function without (names, name)
  local left = {}
  for _, other in ipairs(names) do
    if other ~= name then left[#left + 1] = other end
  end
  return left
end

operations["PUT management/administrators"] = function (call)
  local names = call.body and call.body.group_names
  if type(names) ~= "table" then
    return errors.invalid(call.dialect, "The list 'group_names' is missing.")
  end
  state.set_administrators(names)
  return call.dialect.done()
end

-- Wraps change(others, name, was_there), others being the groups without the one named.
local function with_group (change)
  return function (call)
    local refusal = check_strings(call, call.body or {}, { "group_name" })
    if refusal then return refusal end
    local name, names = call.body.group_name, state.administrators()
    local others = without(names, name)
    local changed = change(others, name, #others < #names)
    if not changed then
      return errors.new(call.dialect, "invalid_argument",
        "com.vmware.vcenter.hvc.management.administrators.invalid_group",
        ("The group '%s' is not one that can be meant."):format(name), { name })
    end
    state.set_administrators(changed)
    return call.dialect.done()
  end
end

operations["POST management/administrators add"] = with_group(function (others, name)
  if not name:find ".@." then return nil end
  others[#others + 1] = name
  return others
end)

operations["POST management/administrators remove"] = with_group(function (others, _, was_there)
  return was_there and others or nil
end)

-- "links/*/sync/providers/*", and the ids.
local function shape (segments)
  local parts = { unpack(segments, 3) }
  local link, provider
  if parts[1] == "links" then
    link, provider = parts[2], parts[5]
    parts[2], parts[5] = link and "*", provider and "*"
  end
  return table.concat(parts, "/"), link, provider
end

-- Finds the body, if there is one; else an answer.
local function read_body (call, request)
  if request.body == "" then return nil end
  local content_type = request.headers["content-type"]
  if type(content_type) == "string" and content_type:lower():find "^application/json"
    and request.body:find "^%s*{" then
    call.body = json.decode(request.body)
  end
  return not call.body and errors.new(call.dialect, "invalid_request",
    "com.vmware.vapi.rest.invalidRequestBody", "The request body is not a JSON object.") or nil
end

local function find_targets (call, link, provider)
  call.link = link and state.link(link)
  if link and not call.link then return errors.not_found(call.dialect, "link", link) end
  call.provider = provider and tables.find(call.link.providers or {}, "provider", provider)
  if provider and not call.provider then
    return errors.not_found(call.dialect, "provider", provider)
  end
end

-- Which part of the tree an operation belongs to, as versions have them.
local function part (path)
  return path:find "^links/%*/sync" and "sync" or path:match "^%a+"
end

-- Returns run(), which answers the request, or nil if there is no such operation.
function hvc.find (request, dialect, version)
  local path, link, provider = shape(request.segments)
  local action = request.query.action
  local operation = operations[("%s %s%s"):format(request.method, path,
    action and " " .. tostring(action) or "")]
  if not operation or not version[part(path)] then return nil end
  return function ()
    local call = { dialect = dialect }
    return read_body(call, request) or find_targets(call, link, provider) or operation(call)
  end
end

return hvc
