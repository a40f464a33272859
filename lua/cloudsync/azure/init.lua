--- Azure credentials, under the names that Microsoft's SDKs use.
--
-- A credential is any object with `get_token(self, scope)`, which returns a token (a string or a
-- secret) and when it expires, in seconds since 1970, or nil and an error. The ones made here take
-- the transport options of a client too (`ca_file`, `proxy`, `timeout`, ...).
--
-- See [Client credentials](https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
local client = require "cloudsync.client"
local clouds = require "cloudsync.azure.clouds"
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local shared_tokens = require "cloudsync.shared_tokens"
local suggest = require "cloudsync.suggest"
local token_cache = require "cloudsync.token_cache"

local credentials = {}

local DEFAULT_LIFE = 3600 -- s, where the answer does not tell

local REFUSALS = { [400] = true, [401] = true, [403] = true }

local Credential = {}
Credential.__index = Credential

-- The second argument is the client's: {rejected, deadline}.
function Credential:get_token(scope, context)
  if type(scope) ~= "string" then error("get_token: scope must be a string", 2) end
  return self.cache:get(scope, context and context.rejected, context and context.deadline)
end

local function authority_of(options)
  local cloud = options.cloud or "public"
  if clouds[cloud] then return options.authority or clouds[cloud].authority end
  local names = {}
  for name in pairs(clouds) do names[#names + 1] = name end
  error(("credential: unknown cloud '%s'%s"):format(cloud, suggest(cloud, names)), 3)
end

local function describe(err)
  err.message = "no token from Microsoft Entra: " .. tostring(err.message)
  if REFUSALS[err.status] then err.kind = "auth" end
  return err
end

-- Asks the token endpoint; `form` has what proves the identity of the application.
local function fetch(entra, form, scope, deadline)
  form.scope = scope
  local allowed = deadline and deadline < math.huge and deadline - core.now() or nil
  local answer, err = entra.tokens:get(form, { deadline = allowed and math.max(0, allowed) })
  if answer == nil then return nil, describe(err) end
  if type(answer) ~= "table" or type(answer.access_token) ~= "string"
    or not core.is_token(answer.access_token) then
    return nil, describe(errors.new { kind = "protocol", message = "the answer holds no token" })
  end
  return core.secret(answer.access_token), tonumber(answer.expires_in) or DEFAULT_LIFE
end

-- Tells whose tokens those in a shared cache are: another secret gets no token of this one.
local function identity_of(authority, form)
  local whose = ("%s %s %s"):format(authority, form.tenant, form.client_id)
  return whose .. " " .. ngx.encode_base64(ngx.hmac_sha1(form.client_secret:reveal(), whose))
end

--- An application that signs in with a client secret.
-- @tparam table options `tenant_id`, `client_id`, `client_secret`, `cloud` ("public"), `authority`
--   (the cloud's), `cache` (an `ngx.shared.NAME` in which nginx's workers share the tokens: see
--   `cloudsync.shared_tokens`), and transport options
-- @return a credential
function credentials.client_secret_credential(options)
  if type(options) ~= "table" then error("credential: options must be a table", 2) end
  local settings = {}
  for name, value in pairs(options) do settings[name] = value end
  settings.endpoint, settings.authority = authority_of(options), nil
  local entra = client.new({
    service = "entra", subject = "credential",
    options = { tenant_id = "string", client_id = "string", client_secret = "text",
      cloud = "string", cache = "dictionary" },
  }, settings)
  for _, name in ipairs { "tenant_id", "client_id", "client_secret" } do
    if options[name] == nil then error(("credential: %s is missing"):format(name), 2) end
  end
  local form = {
    tenant = options.tenant_id, client_id = options.client_id, grant_type = "client_credentials",
    client_secret = core.secret(options.client_secret),
  }
  local function from_entra(scope, deadline)
    return fetch(entra, form, scope, deadline)
  end
  return setmetatable({
    cache = token_cache.new(options.cache
      and shared_tokens.wrap(options.cache, identity_of(settings.endpoint, form), from_entra)
      or from_entra),
  }, Credential)
end

--- A token that is at hand; nobody refreshes it.
-- @param token a string or a secret
-- @return a credential
function credentials.static_token_credential(token)
  if not core.is_token(token) then
    error("static_token_credential: a token expected, got " .. (type(token) == "string"
      and "text that no header can hold" or type(token)), 2)
  end
  local secret = core.secret(token)
  return { get_token = function() return secret end }
end

local ENVIRONMENT = {
  tenant_id = "AZURE_TENANT_ID", client_id = "AZURE_CLIENT_ID",
  client_secret = "AZURE_CLIENT_SECRET",
}

local function environment(variable)
  local value = os.getenv(variable)
  return value ~= "" and value or nil
end

--- What the environment variables say: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`
-- and `AZURE_AUTHORITY_HOST`. They are read when the credential is made.
-- @tparam ?table options transport options, `cloud`, `authority`
-- @return a credential; where a variable is missing, its `get_token` says which, with the code
--   `CredentialUnavailable`
function credentials.environment_credential(options)
  local settings, missing = {}, {}
  for name, value in pairs(options or {}) do settings[name] = value end
  for name, variable in pairs(ENVIRONMENT) do
    settings[name] = environment(variable)
    if not settings[name] then missing[#missing + 1] = variable end
  end
  settings.authority = settings.authority or environment "AZURE_AUTHORITY_HOST"
  if #missing == 0 then return credentials.client_secret_credential(settings) end
  table.sort(missing)
  local message = "the environment credential is not configured: set "
    .. table.concat(missing, ", ")
  return {
    get_token = function()
      return nil, errors.new { kind = "auth", code = "CredentialUnavailable", message = message }
    end,
  }
end

return credentials
