-- Microsoft Entra ID's token endpoint, for the client credentials grant with a secret.
local json = require "simulator.json"
local new_answer = require("simulator.answer").new
local tokens = require "simulator.tokens"

local entra = {}

local tenant_id = os.getenv "CLOUDSYNC_SIM_TENANT_ID"
local client_id = os.getenv "CLOUDSYNC_SIM_CLIENT_ID"
local client_secret = os.getenv "CLOUDSYNC_SIM_CLIENT_SECRET"

local function answer (status, body)
  local given = new_answer(status, body)
  given.headers["x-ms-request-id"] = ngx.var.request_id
  given.headers["Cache-Control"] = "no-store, no-cache"
  given.headers.Pragma = "no-cache"
  return given
end

local function refuse (status, code, number, message)
  local trace, timestamp = ngx.var.request_id, ngx.utctime() .. "Z"
  return answer(status, {
    error = code,
    error_description = ("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s")
      :format(number, message, trace, trace, timestamp),
    error_codes = json.array { number },
    timestamp = timestamp,
    trace_id = trace,
    correlation_id = trace,
    error_uri = "https://login.microsoftonline.com/error?code=" .. number,
  })
end

function entra.failure (status)
  if status < 400 then return answer(status) end
  return refuse(status, status < 500 and "invalid_request" or "temporarily_unavailable", 90033,
    "A transient error has occurred. Please try again.")
end

local function missing (name)
  return refuse(400, "invalid_request", 900144,
    ("The request body must contain the following parameter: '%s'."):format(name))
end

-- A body of another type is no form to Entra, which then misses the first parameter.
local function form (request)
  local content_type = request.headers["content-type"]
  local is_form = type(content_type) == "string"
    and content_type:lower():find("^application/x%-www%-form%-urlencoded") ~= nil
  return is_form and ngx.decode_args(request.body, 0) or {}
end

-- In Entra's order; each returns an answer if the request fails it.
local checks = {
  function (given)
    if not given.grant_type then return missing "grant_type" end
    if given.grant_type == "client_credentials" then return nil end
    return refuse(400, "unsupported_grant_type", 70003,
      ("The app requested an unsupported grant type '%s'."):format(tostring(given.grant_type)))
  end,
  function (given)
    if not given.client_id then return missing "client_id" end
    if given.client_id == client_id then return nil end
    return refuse(400, "unauthorized_client", 700016,
      ("Application with identifier '%s' was not found in the directory 'Simulator'. This can "
      .. "happen if the application has not been installed by the administrator of the tenant or "
      .. "consented to by any user in the tenant. You may have sent your authentication request to "
      .. "the wrong tenant."):format(tostring(given.client_id)))
  end,
  function (given)
    if not given.scope then return missing "scope" end
    if type(given.scope) == "string" and given.scope:find "^%S+/%.default$" then return nil end
    return refuse(400, "invalid_scope", 70011,
      ("The provided request must include a 'scope' input parameter. The provided value for the "
      .. "input parameter 'scope' is not valid. The scope %s is not valid.")
      :format(tostring(given.scope)))
  end,
  function (given)
    if given.client_secret == client_secret then return nil end
    if not given.client_secret then
      return refuse(401, "invalid_client", 7000218, "The request body must contain the following "
        .. "parameter: 'client_assertion' or 'client_secret'.")
    end
    return refuse(401, "invalid_client", 7000215, "Invalid client secret provided. Ensure the "
      .. "secret being sent in the request is the client secret value, not the client secret ID, "
      .. ("for a secret added to app '%s'."):format(client_id))
  end,
}

local function token (request, tenant)
  if tenant:lower() ~= tenant_id then
    return refuse(400, "invalid_request", 90002, ("Tenant '%s' not found. Check to make sure you "
      .. "have the correct tenant ID and are signing into the correct cloud. Check with your "
      .. "subscription administrator, this may happen if there are no active subscriptions for the "
      .. "tenant."):format(tenant))
  end
  local given = form(request)
  for _, check in ipairs(checks) do
    local refusal = check(given)
    if refusal then return refusal end
  end
  local access_token, lifetime = tokens.issue {
    aud = given.scope:gsub("/%.default$", ""),
    iss = ("https://sts.windows.net/%s/"):format(tenant_id),
    appid = client_id,
    tid = tenant_id,
    idtyp = "app",
    ver = "1.0",
  }
  local expires_in = math.max(0, math.ceil(lifetime) - 1)
  return answer(200, {
    token_type = "Bearer",
    expires_in = expires_in,
    ext_expires_in = expires_in,
    access_token = access_token,
  })
end

function entra.handle (request)
  local tenant = request.path:match "^/([^/]+)/oauth2/v2%.0/token$"
  if not tenant then return answer(404) end
  if request.method ~= "POST" then return answer(405) end
  return token(request, tenant)
end

return entra
