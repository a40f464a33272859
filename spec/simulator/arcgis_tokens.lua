-- Tokens of ArcGIS Server and of its portal, and the accounts that they are given to.
local answers = require "simulator.arcgis_answers"
local clock = require "simulator.clock"
local json = require "simulator.json"
local settings = require "simulator.settings"

local tokens = {}

local dict = ngx.shared.arcgis_tokens
local user = os.getenv "CLOUDSYNC_SIM_USERNAME"
local password = os.getenv "CLOUDSYNC_SIM_PASSWORD"

local default_minutes = 60
local most_failures = 5

local function random_text (bytes)
  local file = assert(io.open("/dev/urandom", "rb"))
  local data = file:read(bytes)
  file:close()
  return (ngx.encode_base64(data):gsub("[+/]", { ["+"] = "-", ["/"] = "_" }))
end

-- An account is a site's name and a user's. Attempts while it is locked do not lengthen that.
local function is_locked (account)
  local since = dict:get("locked " .. account)
  return since and ngx.now() < since + settings.current().arcgis_lockout_seconds
end

-- The fifth failure within the time that an account is then locked for locks it.
local function add_failure (account)
  local recent, since = { ngx.now() }, ngx.now() - settings.current().arcgis_lockout_seconds
  for _, at in ipairs(json.decode(dict:get("failures " .. account) or "[]")) do
    if at > since then recent[#recent + 1] = at end
  end
  dict:incr("failed logins", 1, 0)
  dict:set("failures " .. account, json.encode(json.array(recent)))
  if #recent < most_failures then return end
  dict:set("locked " .. account, ngx.now())
  dict:delete("failures " .. account)
end

-- The two sites and how they word their answers.
local sites = { admin = {}, portal = {} }

function sites.admin.refuse (code, message)
  return answers.error(code, message)
end

sites.admin.bad_login_code = 401
sites.admin.bad_login = "Invalid username or password."

function sites.admin.reply (token, expires)
  local text = settings.current().arcgis_expires_type == "string"
  return answers.ok { token = token, expires = text and ("%d"):format(expires) or expires }
end

function sites.portal.refuse (code, message)
  return answers.portal_error(code, "Unable to generate token.", { message })
end

sites.portal.bad_login_code = 400
sites.portal.bad_login = "Invalid username or password."

function sites.portal.reply (token, expires)
  return answers.ok { token = token, expires = expires, ssl = true }
end

local clients = {}

function clients.referer (form)
  if not form.referer then return nil, "'referer' must be specified." end
  return { referer = form.referer }
end

function clients.ip (form)
  if not form.ip then return nil, "'ip' must be specified." end
  return { ip = form.ip }
end

function clients.requestip ()
  return { ip = ngx.var.remote_addr }
end

-- What the token is to be bound to, or nil and why none is given.
local function binding (form, minutes)
  if form.client then
    local client = clients[form.client]
    if not client then return nil, "'client' must be one of referer, ip, requestip." end
    return client(form)
  elseif minutes > default_minutes then
    return nil, "Client ID is required for long expiration tokens."
  end
  return {}
end

-- A longer life than the longest is shortened without a word.
local function issue (site, form)
  local minutes = tonumber(form.expiration or default_minutes)
  if not minutes then return site.refuse(400, "'expiration' must be a number.") end
  local token, err = binding(form, minutes)
  if not token then return site.refuse(400, err) end
  minutes = math.min(minutes, settings.current().arcgis_max_expiration_minutes)
  local text = random_text(90) .. ".."
  token.expires = ngx.now() + minutes * 60
  dict:set("token " .. text, json.encode(token))
  dict:incr("issued", 1, 0)
  return site.reply(text, clock.epoch_ms(token.expires))
end

local function log_in (name, form)
  local site, account = sites[name], ("%s %s"):format(name, form.username or "")
  if is_locked(account) then
    return site.refuse(site.bad_login_code, "The account is locked because of too many failed "
      .. "login attempts. Please try again in 15 minutes.")
  elseif form.username ~= user or form.password ~= password then
    add_failure(account)
    return site.refuse(site.bad_login_code, site.bad_login)
  end
  dict:delete("failures " .. account)
  return issue(site, form)
end

-- Whether the token may be used for this request; else nil and what is said then.
function tokens.check (text, request)
  local stored = dict:get("token " .. text)
  if not stored then return nil, "Invalid Token." end
  local token = json.decode(stored)
  if token.expires <= ngx.now() then return nil, "Token Expired." end
  if token.referer and token.referer ~= request.headers.referer
    or token.ip and token.ip ~= ngx.var.remote_addr then
    return nil, "Invalid token, ClientID does not match."
  end
  return true
end

function tokens.generate_admin (call)
  return log_in("admin", call.form)
end

-- The portal also gives a token for another, to be used at the server that is named.
function tokens.generate_portal (call)
  local form = call.form
  if form.token and form.serverUrl then
    local good, err = tokens.check(form.token, call.request)
    return good and issue(sites.portal, form) or answers.portal_error(498, err, {})
  end
  local missing = {}
  for _, name in ipairs { "username", "password" } do
    if not form[name] then missing[#missing + 1] = ("'%s' must be specified."):format(name) end
  end
  if #missing > 0 then return answers.portal_error(400, "Unable to generate token.", missing) end
  return log_in("portal", form)
end

-- Makes every token issued so far invalid.
function tokens.revoke ()
  for _, key in ipairs(dict:get_keys(0)) do
    if key:find "^token " then dict:delete(key) end
  end
end

function tokens.counts ()
  return { tokens_issued = dict:get "issued" or 0, failed_logins = dict:get "failed logins" or 0 }
end

function tokens.reset ()
  dict:flush_all()
end

return tokens
