/*
 * vCenter's sessions and hybrid linked mode (HVC), under both bases: /rest, which 6.7 has
 * and 9.1 no longer does, and /api, which came with 7.0U2. An operation is the same under both
 * but for how its argument and its answer are wrapped.
 */
#include "../operation.h"

static const struct parameter p_link = {
    .name = "link",
    .wire = "link",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
};

static const struct parameter p_provider = {
    .name = "provider",
    .wire = "provider",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
};

static const struct property properties_credentials[] = {
    {.name = "password", .type = STRING, .required = true},
    {.name = "user_name", .type = STRING, .required = true},
    {.name = NULL},
};

/* Of the remote system. They may be left out, and the body with them. */
static const struct parameter p_credentials = {
    .name = "credentials",
    .wire = "credentials",
    .place = IN_FIELD,
    .type = OBJECT,
    .properties = properties_credentials,
};

static const struct parameter p_psc_hostname = {
    .name = "psc_hostname",
    .wire = "psc_hostname",
    .place = IN_FIELD,
    .type = STRING,
    .required = true,
};

static const struct parameter p_domain_name = {
    .name = "domain_name",
    .wire = "domain_name",
    .place = IN_FIELD,
    .type = STRING,
    .required = true,
};

static const struct parameter p_username = {
    .name = "username",
    .wire = "username",
    .place = IN_FIELD,
    .type = STRING,
    .required = true,
};

static const struct parameter p_password = {
    .name = "password",
    .wire = "password",
    .place = IN_FIELD,
    .type = STRING,
    .required = true,
    .secret = true,
};

/* Really a string, in every version of the specification. */
static const struct parameter p_port = {
    .name = "port",
    .wire = "port",
    .place = IN_FIELD,
    .type = STRING,
};

static const struct parameter p_ssl_thumbprint = {
    .name = "ssl_thumbprint",
    .wire = "ssl_thumbprint",
    .place = IN_FIELD,
    .type = STRING,
};

static const struct parameter p_admin_groups = {
    .name = "admin_groups",
    .wire = "admin_groups",
    .place = IN_FIELD,
    .type = ARRAY,
};

static const struct parameter p_group_name = {
    .name = "group_name",
    .wire = "group_name",
    .place = IN_FIELD,
    .type = STRING,
    .required = true,
};

static const struct parameter p_group_names = {
    .name = "group_names",
    .wire = "group_names",
    .place = IN_FIELD,
    .type = ARRAY,
    .required = true,
};

static const struct parameter *const no_parameters[] = {NULL};

static const struct parameter *const parameters_link[] = {&p_link, NULL};

static const struct parameter *const parameters_link_credentials[] = {
    &p_link,
    &p_credentials,
    NULL,
};

static const struct parameter *const parameters_link_create[] = {
    &p_psc_hostname, &p_domain_name,    &p_username,     &p_password,
    &p_port,         &p_ssl_thumbprint, &p_admin_groups, NULL,
};

static const struct parameter *const parameters_provider[] = {&p_link, &p_provider, NULL};

static const struct parameter *const parameters_provider_credentials[] = {
    &p_link,
    &p_provider,
    &p_credentials,
    NULL,
};

static const struct parameter *const parameters_group_name[] = {&p_group_name, NULL};

static const struct parameter *const parameters_group_names[] = {&p_group_names, NULL};

/*
 * What an operation is under either base. Where nothing comes back, /rest answers with 200 and
 * /api with 204; a creation answers with 200 and 201. Both are taken under both: proxies and
 * versions differ more than the meaning does. A PUT or DELETE is not SAFE, as with the other
 * services: a second try would fail for the first one's success, or undo what somebody else did
 * in between.
 */
#define ADMINISTRATORS_ADD(base)                                                               \
  .id = "com.vmware.vcenter.hvc.management.administrators.add", .group = "administrators",     \
  .name = "add", .method = "POST", .path = base "/hvc/management/administrators",              \
  .query = "action=add", .parameters = parameters_group_name, .success = {200, 204},           \
  .summary = "Adds a group to those that administer hybrid linked mode."

#define ADMINISTRATORS_GET(base)                                                               \
  .id = "com.vmware.vcenter.hvc.management.administrators.get", .group = "administrators",     \
  .name = "get", .method = "GET", .path = base "/hvc/management/administrators",               \
  .parameters = no_parameters, .success = {200}, .flags = SAFE,                                \
  .summary = "Gets the groups that administer hybrid linked mode."

#define ADMINISTRATORS_REMOVE(base)                                                            \
  .id = "com.vmware.vcenter.hvc.management.administrators.remove", .group = "administrators",  \
  .name = "remove", .method = "POST", .path = base "/hvc/management/administrators",           \
  .query = "action=remove", .parameters = parameters_group_name, .success = {200, 204},        \
  .summary = "Removes a group from those that administer hybrid linked mode."

#define ADMINISTRATORS_SET(base)                                                               \
  .id = "com.vmware.vcenter.hvc.management.administrators.set", .group = "administrators",     \
  .name = "set", .method = "PUT", .path = base "/hvc/management/administrators",               \
  .parameters = parameters_group_names, .success = {200, 204},                                 \
  .summary = "Sets the groups that administer hybrid linked mode."

#define LINKS_CREATE(base)                                                                     \
  .id = "com.vmware.vcenter.hvc.links.create", .group = "links", .name = "create",             \
  .method = "POST", .path = base "/hvc/links", .parameters = parameters_link_create,           \
  .success = {200, 201}, .summary = "Creates a link to another domain."

#define LINKS_DELETE(base)                                                                     \
  .id = "com.vmware.vcenter.hvc.links.delete", .group = "links", .name = "delete",             \
  .method = "DELETE", .path = base "/hvc/links/{link}", .parameters = parameters_link,         \
  .success = {200, 204}, .summary = "Deletes a link."

#define LINKS_DELETE_WITH_CREDENTIALS(base)                                                    \
  .id = "com.vmware.vcenter.hvc.links.delete_with_credentials", .group = "links",              \
  .name = "delete_with_credentials", .method = "POST", .path = base "/hvc/links/{link}",       \
  .query = "action=delete", .parameters = parameters_link_credentials, .success = {200, 204},  \
  .summary = "Deletes a link with credentials for the remote system."

#define LINKS_GET(base)                                                                        \
  .id = "com.vmware.vcenter.hvc.links.get", .group = "links", .name = "get", .method = "GET",  \
  .path = base "/hvc/links/{link}", .parameters = parameters_link, .success = {200},           \
  .flags = SAFE, .summary = "Gets the health of a link."

#define LINKS_LIST(base)                                                                       \
  .id = "com.vmware.vcenter.hvc.links.list", .group = "links", .name = "list",                 \
  .method = "GET", .path = base "/hvc/links", .parameters = no_parameters, .success = {200},   \
  .flags = SAFE, .summary = "Lists the links."

/*
 * The two that follow cancel a sync that is running. Reset has no body; the specification says
 * that it consumes JSON all the same.
 */
#define SYNC_REMEDIATE(base)                                                                   \
  .id = "com.vmware.vcenter.hvc.links.sync.remediate", .group = "sync", .name = "remediate",   \
  .method = "POST", .path = base "/hvc/links/{link}/sync", .query = "action=remediate",        \
  .parameters = parameters_link_credentials, .success = {200, 204},                            \
  .summary = "Remediates the sync of a link, cancelling one that is running."

#define SYNC_RESET(base)                                                                       \
  .id = "com.vmware.vcenter.hvc.links.sync.reset", .group = "sync", .name = "reset",           \
  .method = "POST", .path = base "/hvc/links/{link}/sync", .query = "action=reset",            \
  .parameters = parameters_link, .success = {200, 204},                                        \
  .summary = "Resets the sync of a link, cancelling one that is running."

#define SYNC_PROVIDERS_GET(base)                                                               \
  .id = "com.vmware.vcenter.hvc.links.sync.providers.get", .group = "sync_providers",          \
  .name = "get", .method = "GET", .path = base "/hvc/links/{link}/sync/providers/{provider}",  \
  .parameters = parameters_provider, .success = {200}, .flags = SAFE,                          \
  .summary = "Gets the last and the current sync of a provider."

#define SYNC_PROVIDERS_LIST(base)                                                              \
  .id = "com.vmware.vcenter.hvc.links.sync.providers.list", .group = "sync_providers",         \
  .name = "list", .method = "GET", .path = base "/hvc/links/{link}/sync/providers",            \
  .parameters = parameters_link, .success = {200}, .flags = SAFE,                              \
  .summary = "Lists the sync providers of a link."

/* The answer only says that the sync has begun. */
#define SYNC_PROVIDERS_START(base)                                                             \
  .id = "com.vmware.vcenter.hvc.links.sync.providers.start", .group = "sync_providers",        \
  .name = "start", .method = "POST",                                                           \
  .path = base "/hvc/links/{link}/sync/providers/{provider}", .query = "action=start",         \
  .parameters = parameters_provider_credentials, .success = {200, 204}, .flags = LONG_RUNNING, \
  .summary = "Starts a sync of a provider."

/*
 * Not SAFE: sessions are capped, and one whose id got lost stays open until it expires. The
 * header keeps vCenter from setting a cookie, which would win over the session's header from
 * then on.
 */
#define SESSION_CREATE                                                                         \
  .id = "com.vmware.cis.session.create", .group = "session", .name = "create",                 \
  .method = "POST", .header = "vmware-use-header-authn: true",                                 \
  .authorization = "Authorization: Basic ", .parameters = no_parameters,                       \
  .success = {200, 201}, .flags = SECRET_RESULT, .summary = "Opens a session."

#define SESSION_DELETE                                                                         \
  .id = "com.vmware.cis.session.delete", .group = "session", .name = "delete",                 \
  .method = "DELETE", .parameters = no_parameters, .success = {200, 204},                      \
  .summary = "Closes the session."

/* It only reads, also where it is a POST. */
#define SESSION_GET                                                                            \
  .id = "com.vmware.cis.session.get", .group = "session", .name = "get",                       \
  .parameters = no_parameters, .success = {200}, .flags = SAFE,                                \
  .summary = "Gets who has opened the session, and when."

static const struct operation rest_operations[] = {
    {ADMINISTRATORS_ADD("/rest")},
    {ADMINISTRATORS_GET("/rest"), .result = "value"},
    {ADMINISTRATORS_REMOVE("/rest")},
    {ADMINISTRATORS_SET("/rest")},
    {LINKS_CREATE("/rest"), .wrapper = "spec", .result = "value"},
    {LINKS_DELETE("/rest")},
    {LINKS_DELETE_WITH_CREDENTIALS("/rest")},
    {LINKS_GET("/rest"), .result = "value"},
    {LINKS_LIST("/rest"), .result = "value"},
    {SESSION_CREATE, .path = "/rest/com/vmware/cis/session", .result = "value"},
    {SESSION_DELETE, .path = "/rest/com/vmware/cis/session"},
    /* the tilde is part of the name, and of the few that need no encoding (RFC 3986) */
    {SESSION_GET, .method = "POST", .path = "/rest/com/vmware/cis/session",
     .query = "~action=get", .result = "value"},
    {SYNC_REMEDIATE("/rest"), .result = "value"},
    {SYNC_RESET("/rest")},
    {SYNC_PROVIDERS_GET("/rest"), .result = "value"},
    {SYNC_PROVIDERS_LIST("/rest"), .result = "value"},
    {SYNC_PROVIDERS_START("/rest")},
};

static const struct operation api_operations[] = {
    {ADMINISTRATORS_ADD("/api")},
    {ADMINISTRATORS_GET("/api")},
    {ADMINISTRATORS_REMOVE("/api")},
    {ADMINISTRATORS_SET("/api")},
    {LINKS_CREATE("/api")},
    {LINKS_DELETE("/api")},
    {LINKS_DELETE_WITH_CREDENTIALS("/api")},
    {LINKS_GET("/api")},
    {LINKS_LIST("/api")},
    {SESSION_CREATE, .path = "/api/session"},
    {SESSION_DELETE, .path = "/api/session"},
    {SESSION_GET, .path = "/api/session", .method = "GET"},
    {SYNC_REMEDIATE("/api")},
    {SYNC_RESET("/api")},
    {SYNC_PROVIDERS_GET("/api")},
    {SYNC_PROVIDERS_LIST("/api")},
    {SYNC_PROVIDERS_START("/api")},
};

/*
 * One list for both: what stands in front of the bases, and answers for what they do not have,
 * need not keep to the dialect that it was asked in.
 */
static const struct error_shape errors[] = {
    {.code = "error_type", .message = "messages.1.default_message", .details = "messages"},
    {.code = "type",
     .message = "value.messages.1.default_message",
     .details = "value.messages"},
    /* since about 7.0U2 beside those two, or in their place */
    {.code = "type",
     .message = "localizableMessages.1.defaultMessage",
     .details = "localizableMessages"},
    {.code = "name",
     .message = "localizableMessages.1.default_message",
     .details = "localizableMessages"},
    {.message = NULL},
};

static const char *const secret_properties[] = {"password", NULL};

static const char session_header[] = "vmware-api-session-id: ";

const struct service vcenter_rest_service = {
    .name = "vcenter/rest",
    .operations = rest_operations,
    .noperations = sizeof rest_operations / sizeof *rest_operations,
    .errors = errors,
    .authorization = session_header,
    .secret_properties = secret_properties,
};

const struct service vcenter_api_service = {
    .name = "vcenter/api",
    .operations = api_operations,
    .noperations = sizeof api_operations / sizeof *api_operations,
    .errors = errors,
    .authorization = session_header,
    .secret_properties = secret_properties,
};
