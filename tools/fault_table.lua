-- The rules of what each fault of a service, or of the way to it, comes to. Run as a program, it
-- writes them as a table for people:
--
--   lua5.4 tools/fault_table.lua > docs/faults.md
--
-- spec/fault_matrix_spec.lua holds every service against these rules, and docs/faults.md too.
local rules = {}

--- In place of a message: what the service itself says.
rules.OWN = "the service's own words"
local OWN = rules.OWN

-- What becomes of the request, and how often it is sent where one repeat is allowed.
local FATES = {
  refused = { outcome = "rejected", safe = 1, unsafe = 1 },
  put_off = { outcome = "rejected", safe = 2, unsafe = 2 },
  passing = { outcome = "unknown", safe = 2, unsafe = 1 },
  lasting = { outcome = "unknown", safe = 1, unsafe = 1 },
  unreached = { outcome = "not_sent", safe = 2, unsafe = 2 },
  hopeless = { outcome = "not_sent", safe = 1, unsafe = 1 },
  none = { ok = true, safe = 1, unsafe = 1 },
}

--- Each: `name`; `rule`, the simulator's; `kind`, `fate` and `status` of the error; `says`, how its
-- message begins, where `…` stands for libcurl's words. Beside that `options` of the call, `settings`
-- of the client, `body` where the answer needs one, and `endpoint`, the simulator's that replaces the
-- service's own, of which nothing is ever sent.
rules.faults = {}

local function fault(name, rule, kind, fate, says, more)
  local row = { name = name, rule = rule, kind = kind, fate = fate, says = says,
    status = rule and rule.status }
  for field, value in pairs(more or {}) do row[field] = value end
  rules.faults[#rules.faults + 1] = row
end

local NOW = { ["Retry-After"] = "0" }
local PAST = { ["Retry-After"] = "Sun, 06 Nov 1994 08:49:37 GMT" }
local MILLISECONDS = { ["x-ms-retry-after-ms"] = "1" }
local FORMS = { { "in seconds", NOW }, { "as a date", PAST }, { "in milliseconds", MILLISECONDS } }

for _, row in ipairs {
  { 400, "argument" }, { 401, "auth" }, { 403, "denied" }, { 404, "not_found" },
  { 405, "unsupported" }, { 409, "conflict" }, { 410, "not_found" }, { 412, "conflict" },
  { 413, "limit" }, { 422, "argument" }, { 423, "busy" }, { 431, "limit" },
} do
  fault("the status " .. row[1], { status = row[1] }, row[2], "refused", OWN)
end

fault("the status 408", { status = 408, headers = NOW }, "timeout", "passing", OWN)
for _, form in ipairs(FORMS) do
  fault("the status 429 with Retry-After " .. form[1], { status = 429, headers = form[2] },
    "throttled", "put_off", OWN)
end
fault("the status 429 without Retry-After", { status = 429 }, "throttled", "put_off", OWN)

for _, status in ipairs { 500, 502, 504 } do
  fault("the status " .. status, { status = status }, "service", "passing", OWN)
  fault(("the status %d with Retry-After"):format(status), { status = status, headers = NOW },
    "service", "passing", OWN)
end
fault("the status 500 though the call was carried out", { status = 500, effect = true }, "service",
  "passing", OWN)
fault("the status 501", { status = 501 }, "unsupported", "lasting", OWN)
fault("the status 503", { status = 503 }, "service", "passing", OWN)
fault("the status 503 with a Retry-After that is no time",
  { status = 503, headers = { ["Retry-After"] = "soon" } }, "service", "passing", OWN)
for _, form in ipairs(FORMS) do
  fault("the status 503 with Retry-After " .. form[1], { status = 503, headers = form[2] },
    "service", "put_off", OWN)
end
fault("the status 505", { status = 505 }, "service", "lasting", OWN)

for _, status in ipairs { 202, 206 } do
  fault(("the status %d, which is not documented"):format(status), { status = status },
    "protocol", "lasting", "the service answered with a status that is not documented")
end
for _, status in ipairs { 302, 307 } do
  fault("a redirect with the status " .. status, { kind = "redirect", status = status },
    "protocol", "refused", "the service redirects to another address, which is not followed")
end

local UNREADABLE = "the answer is not JSON"

fault("a proxy's page with the status 200", { kind = "html" }, "protocol", "lasting", UNREADABLE,
  { status = 200 })
fault("a proxy's page with the status 403", { kind = "html", status = 403 }, "denied", "refused",
  "the service refused the call and did not say why")
fault("a proxy's page with the status 502", { kind = "html", status = 502 }, "service", "passing",
  "the service failed and did not say why")
fault("half of a JSON document", { kind = "bad_json" }, "protocol", "lasting", UNREADABLE,
  { status = 200 })
fault("JSON that is not UTF-8", { kind = "invalid_utf8" }, "protocol", "lasting", UNREADABLE,
  { status = 200 })
fault("JSON nested 2,000 levels deep", { kind = "deep_json" }, "protocol", "lasting", UNREADABLE,
  { status = 200 })
fault("an answer that is empty", { kind = "empty" }, nil, "none")
fault("an answer with 200 KiB of headers", { kind = "many_headers" }, nil, "none")

fault("a connection reset before the request is carried out", { kind = "reset_before" },
  "transport", "passing", "… Connection reset by peer")
fault("a connection reset after the request is carried out", { kind = "reset_after" },
  "transport", "passing", "… Connection reset by peer")
fault("a connection reset in the middle of the answer", { kind = "reset_mid_body" },
  "transport", "passing", "… Connection reset by peer", { body = true })
fault("an answer that is cut short", { kind = "truncated" },
  "transport", "passing", "transfer closed with", { body = true })
fault("an answer later than the timeout", { kind = "delay", delay = 0.4 }, "timeout", "passing",
  "… raise timeout or deadline if the service is slow", { options = { timeout = 0.15 } })
fault("an answer slower than the timeout", { kind = "slow_body", delay = 0.05 }, "timeout",
  "passing", "… raise timeout or deadline if the service is slow",
  { body = true, options = { timeout = 0.2 } })
fault("an answer without an end", { kind = "endless" }, "limit", "lasting",
  "the answer is too large: it is larger than max_response_bytes",
  { settings = { max_response_bytes = 1024 * 1024 } })
fault("an answer of 5 GiB", { kind = "huge" }, "limit", "lasting",
  "… raise max_response_bytes if this is expected")

fault("a connection that is refused", nil, "transport", "unreached",
  "… check endpoint and proxy, and that a firewall permits it", { endpoint = "REFUSED" })
fault("a TLS handshake that is refused", nil, "transport", "unreached",
  "… the TLS handshake failed", { endpoint = "RESET" })
fault("a certificate for another name", nil, "transport", "hopeless",
  "… the server's certificate is not trusted or is another host's", { endpoint = "WRONG_NAME" })
fault("a certificate of an unknown authority", nil, "transport", "hopeless",
  "… the server's certificate is not trusted or is another host's",
  { endpoint = "ARM", settings = { ca_file = false } })

--- Faults of the simulator that are not here, and why.
rules.elsewhere = {
  next_link = "only the pages of a list have links",
}

local function set(...)
  local members = {}
  for _, member in ipairs { ... } do members[member] = true end
  return members
end

local VCENTER = set("vCenter on /api", "vCenter on /rest")
local ARCGIS = set("ArcGIS Server", "ArcGIS Server with errors in 200", "ArcGIS's portal")
local CALLS, SIGN_IN = set("safe", "unsafe"), set "sign-in"
local VSPHERE_TYPE = "vSphere's type of an error tells more than its status"

--- Where a service differs: its `services` and `operations`, and by what the faults are known: their
-- `statuses` or `names`. What an exception has beside that replaces what the rules say.
rules.exceptions = {
  { services = { "vCenter", VCENTER }, operations = CALLS, statuses = set(401),
    tries = 2, because = "vCenter ends sessions: another is opened, once" },
  { services = { "ArcGIS", ARCGIS }, operations = CALLS, statuses = set(401),
    tries = 2, because = "ArcGIS ends tokens: another is fetched, once" },
  { services = { "vCenter", VCENTER }, statuses = set(429, 501), kind = "service",
    because = VSPHERE_TYPE },
  { services = { "vCenter", VCENTER }, statuses = set(504), kind = "timeout",
    because = VSPHERE_TYPE },
  { services = { "vCenter", VCENTER }, statuses = set(405, 410, 412, 413, 422, 431),
    kind = "service", fate = "lasting",
    because = "vSphere has no type for them, and its bare `error` tells nothing" },
  { services = { "Microsoft Entra", set "Microsoft Entra" }, statuses = set(400, 403),
    kind = "auth", because = "an application that Entra does not know gets a 400" },
  { services = { "ArcGIS", ARCGIS }, operations = SIGN_IN,
    statuses = set(400, 403, 404, 405, 409, 410, 412, 413, 422, 423, 431), kind = "auth",
    because = "accounts lock after five refusals: any may be one" },
  { services = { "vCenter", VCENTER }, operations = SIGN_IN,
    names = set "an answer that is empty", kind = "protocol", fate = "lasting",
    says = "the answer holds none", because = "there is no session in it" },
  { services = { "Entra, ArcGIS", set("Microsoft Entra", "ArcGIS Server", "ArcGIS's portal") },
    operations = SIGN_IN, names = set "an answer that is empty", kind = "protocol",
    fate = "lasting", says = "the answer holds no token", because = "there is no token in it" },
}

-- Another session of vCenter's would stay open, and ArcGIS counts sign-ins; Entra just gives tokens.
local SIGN_IN_AS = { ["Microsoft Entra"] = "safe" }

local function among(members, member)
  return not members or members[member] ~= nil
end

--- What a fault comes to.
-- @tparam table row of `rules.faults`
-- @tparam string service
-- @tparam string operation "safe", "unsafe", or "sign-in", which is what fails before the call
-- @treturn table `ok`, or `kind`, `outcome`, `status`, `retryable`, `says`; `tries`, how often the
--   request is sent
function rules.expect(row, service, operation)
  local found = { kind = row.kind, fate = row.fate, says = row.says }
  for _, exception in ipairs(rules.exceptions) do
    if exception.services[2][service] and among(exception.operations, operation)
      and among(exception.statuses, row.status or false) and among(exception.names, row.name) then
      exception.applies = true
      for _, name in ipairs { "kind", "fate", "says", "tries" } do
        found[name] = exception[name] or found[name]
      end
    end
  end
  local fate = FATES[found.fate]
  local tries = fate[operation] or fate[SIGN_IN_AS[service] or "unsafe"]
  return { ok = fate.ok, kind = found.kind, says = found.says, status = row.status,
    outcome = operation == "sign-in" and "not_sent" or fate.outcome,
    tries = found.tries or tries, retryable = tries == 2 }
end

local INTRODUCTION = [[
# What a fault comes to

Generated by `make docs-faults` from `tools/fault_table.lua`. The suite makes each of these faults, with
one repeat allowed, for each service: for an operation that may be carried out twice (safe), for one
that may not, such as a vCenter sync or ArcGIS's `add_credential` (unsafe), and for its sign-in.

A failed sign-in ends the call with the outcome `not_sent`. It is repeated as an unsafe operation, at
Microsoft Entra as a safe one; one that is refused (`auth`) is never repeated, and a client of vCenter
or ArcGIS does not sign in again after it.
]]

local FAULTS_HEAD = [[

| what happens | kind | outcome | safe | unsafe | the message |
|---|---|---|---|---|---|
]]

local EXCEPTIONS_HEAD = [[

`…` stands for libcurl's words. Where services differ:

| service | operation | what happens | what differs | because |
|---|---|---|---|---|
]]

local function quote(says)
  return says == OWN and says or ('"%s"'):format(says)
end

local REPEATED = { "not repeated", "repeated" }

local function fault_line(row)
  local fate = FATES[row.fate]
  if fate.ok then return ("| %s | none | | | | |\n"):format(row.name) end
  return ("| %s | `%s` | `%s` | %s | %s | %s |\n"):format(row.name, row.kind, fate.outcome,
    REPEATED[fate.safe], REPEATED[fate.unsafe], quote(row.says))
end

local function list(members)
  local names = {}
  for name in pairs(members) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return table.concat(names, ", ")
end

local function exception_line(exception)
  local differs = {}
  if exception.kind then differs[1] = ("`%s`"):format(exception.kind) end
  if exception.fate and exception.operations ~= SIGN_IN then
    differs[#differs + 1] = ("`%s`"):format(FATES[exception.fate].outcome)
  end
  if exception.tries then differs[#differs + 1] = REPEATED[exception.tries] end
  if exception.says then differs[#differs + 1] = quote(exception.says) end
  return ("| %s | %s | %s | %s | %s |\n"):format(exception.services[1],
    exception.operations and list(exception.operations) or "all",
    exception.names and list(exception.names) or "the status " .. list(exception.statuses),
    table.concat(differs, ", "), exception.because)
end

--- The rules as Markdown.
function rules.markdown()
  local parts = { INTRODUCTION, FAULTS_HEAD }
  for _, row in ipairs(rules.faults) do parts[#parts + 1] = fault_line(row) end
  parts[#parts + 1] = EXCEPTIONS_HEAD
  for _, exception in ipairs(rules.exceptions) do
    parts[#parts + 1] = exception_line(exception)
  end
  return table.concat(parts)
end

if not ... then io.write(rules.markdown()) end -- it is run, not required

return rules
