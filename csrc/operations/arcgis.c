/*
 * ArcGIS Server's administration, as far as credentials of cloud providers and services, the
 * jobs that apply them, and tokens go. Paths begin at the admin root; those of portal_tokens at
 * the portal's own. Every request asks for JSON, as the default is a page for people.
 */
#include "../operation.h"

static const struct parameter p_username = {
    .name = "username",
    .wire = "username",
    .place = IN_FORM,
    .type = STRING,
    .required = true,
};

static const struct parameter p_password = {
    .name = "password",
    .wire = "password",
    .place = IN_FORM,
    .type = STRING,
    .required = true,
    .secret = true,
};

/* What the token is bound to: referer, ip (which then have to be given) or requestip. */
static const struct parameter p_client = {
    .name = "client",
    .wire = "client",
    .place = IN_FORM,
    .type = STRING,
};

static const struct parameter p_referer = {
    .name = "referer",
    .wire = "referer",
    .place = IN_FORM,
    .type = STRING,
};

static const struct parameter p_ip = {
    .name = "ip",
    .wire = "ip",
    .place = IN_FORM,
    .type = STRING,
};

/* In minutes. One that is too long is shortened without a word. */
static const struct parameter p_expiration = {
    .name = "expiration",
    .wire = "expiration",
    .place = IN_FORM,
    .type = INTEGER,
};

/* The secrets with all but their last four characters masked, instead of encrypted. */
static const struct parameter p_maskedSecret = {
    .name = "maskedSecret",
    .wire = "maskedSecret",
    .place = IN_QUERY,
    .type = BOOLEAN,
};

static const struct parameter p_providerID = {
    .name = "providerID",
    .wire = "providerID",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
};

static const struct parameter p_serviceID = {
    .name = "serviceID",
    .wire = "serviceID",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
};

static const struct parameter p_jobID = {
    .name = "jobID",
    .wire = "jobID",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
};

/* Sent as JSON text. Its types, and the names under `secret`, differ by provider. */
static const struct parameter p_credential = {
    .name = "credential",
    .wire = "credential",
    .place = IN_FORM,
    .type = OBJECT,
    .required = true,
};

static const struct parameter *const no_parameters[] = {NULL};

static const struct parameter *const parameters_token[] = {
    &p_username, &p_password, &p_client, &p_referer, &p_ip, &p_expiration, NULL,
};

static const struct parameter *const parameters_list[] = {&p_maskedSecret, NULL};

static const struct parameter *const parameters_provider[] = {&p_providerID, NULL};

static const struct parameter *const parameters_provider_credential[] = {
    &p_providerID,
    &p_credential,
    NULL,
};

static const struct parameter *const parameters_service[] = {&p_serviceID, NULL};

static const struct parameter *const parameters_service_credential[] = {
    &p_serviceID,
    &p_credential,
    NULL,
};

static const struct parameter *const parameters_job[] = {&p_jobID, NULL};

/*
 * No POST is SAFE: a credential that is applied twice starts a second job, and a failed login
 * that is repeated locks the account. Providers and services are SECRET_RESULTs because their
 * credentials come with secrets that are encrypted, but that the server takes back as they are.
 */
static const struct operation operations[] = {
    /* As the page of credential/add says; that of Server's jobs says /system/jobs. */
    {
        .id = "enterprise/job",
        .group = "jobs",
        .name = "get",
        .method = "GET",
        .path = "/jobs/{jobID}",
        .query = "f=json",
        .parameters = parameters_job,
        .success = {200},
        .flags = SAFE,
        .summary = "Gets how far a job is.",
    },
    {
        .id = "enterprise/jobs",
        .group = "jobs",
        .name = "list",
        .method = "GET",
        .path = "/jobs",
        .query = "f=json",
        .parameters = no_parameters,
        .success = {200},
        .flags = SAFE,
        .summary = "Lists the jobs.",
    },
    {
        .id = "portal/generateToken",
        .group = "portal_tokens",
        .name = "generate",
        .method = "POST",
        .path = "/sharing/rest/generateToken",
        .form = "f=json",
        .authorization = "",
        .parameters = parameters_token,
        .success = {200},
        .flags = SECRET_RESULT,
        .summary = "Gets a token from a portal.",
    },
    {
        .id = "server/cloud-provider-add-credential",
        .group = "providers",
        .name = "add_credential",
        .method = "POST",
        .path = "/cloud/providers/{providerID}/credential/add",
        .form = "f=json",
        .parameters = parameters_provider_credential,
        .success = {200},
        .flags = LONG_RUNNING,
        .summary = "Gives a cloud provider that has none a credential.",
    },
    {
        .id = "server/cloud-provider",
        .group = "providers",
        .name = "get",
        .method = "GET",
        .path = "/cloud/providers/{providerID}",
        .query = "f=json",
        .parameters = parameters_provider,
        .success = {200},
        .flags = SAFE | SECRET_RESULT,
        .summary = "Gets a cloud provider.",
    },
    {
        .id = "server/cloud-providers",
        .group = "providers",
        .name = "list",
        .method = "GET",
        .path = "/cloud/providers",
        .query = "f=json",
        .parameters = parameters_list,
        .success = {200},
        .flags = SAFE | SECRET_RESULT,
        .summary = "Lists the cloud providers.",
    },
    /* Documented for Kubernetes, and for the services of both. */
    {
        .id = "server/cloud-provider-update-credential",
        .group = "providers",
        .name = "update_credential",
        .method = "POST",
        .path = "/cloud/providers/{providerID}/credential/update",
        .form = "f=json",
        .parameters = parameters_provider_credential,
        .success = {200},
        .flags = LONG_RUNNING,
        .summary = "Replaces the credential of a cloud provider.",
    },
    {
        .id = "server/cloud-service-add-credential",
        .group = "services",
        .name = "add_credential",
        .method = "POST",
        .path = "/cloud/services/{serviceID}/credential/add",
        .form = "f=json",
        .parameters = parameters_service_credential,
        .success = {200},
        .flags = LONG_RUNNING,
        .summary = "Gives a cloud service that has none a credential.",
    },
    {
        .id = "server/cloud-service",
        .group = "services",
        .name = "get",
        .method = "GET",
        .path = "/cloud/services/{serviceID}",
        .query = "f=json",
        .parameters = parameters_service,
        .success = {200},
        .flags = SAFE | SECRET_RESULT,
        .summary = "Gets a cloud service.",
    },
    {
        .id = "server/cloud-services",
        .group = "services",
        .name = "list",
        .method = "GET",
        .path = "/cloud/services",
        .query = "f=json",
        .parameters = parameters_list,
        .success = {200},
        .flags = SAFE | SECRET_RESULT,
        .summary = "Lists the cloud services.",
    },
    {
        .id = "server/cloud-service-update-credential",
        .group = "services",
        .name = "update_credential",
        .method = "POST",
        .path = "/cloud/services/{serviceID}/credential/update",
        .form = "f=json",
        .parameters = parameters_service_credential,
        .success = {200},
        .flags = LONG_RUNNING,
        .summary = "Replaces the credential of a cloud service.",
    },
    {
        .id = "server/job",
        .group = "system_jobs",
        .name = "get",
        .method = "GET",
        .path = "/system/jobs/{jobID}",
        .query = "f=json",
        .parameters = parameters_job,
        .success = {200},
        .flags = SAFE,
        .summary = "Gets how far a job is, where the server has its jobs under /system.",
    },
    {
        .id = "server/jobs",
        .group = "system_jobs",
        .name = "list",
        .method = "GET",
        .path = "/system/jobs",
        .query = "f=json",
        .parameters = no_parameters,
        .success = {200},
        .flags = SAFE,
        .summary = "Lists the jobs, where the server has them under /system.",
    },
    {
        .id = "server/generateToken",
        .group = "tokens",
        .name = "generate",
        .method = "POST",
        .path = "/generateToken",
        .form = "f=json",
        .authorization = "",
        .parameters = parameters_token,
        .success = {200},
        .flags = SECRET_RESULT,
        .summary = "Gets a token for the administration of the server.",
    },
};

/* The shape of a document whose property `status` is not one of success. */
#define WITH_STATUS(text, where)                                                               \
  {                                                                                            \
    .code = "code", .message = (where), .details = "messages", .only_if = "status",            \
    .is = (text)                                                                               \
  }

/*
 * "failed" is documented and "error" shown beside it; "failure" and statusMessage are what
 * Esri's clients are prepared for. The last shape of each makes sure that a document without a
 * message is an error too. Jobs are not mistaken for errors: their statuses are in capitals.
 */
static const struct error_shape errors[] = {
    /* the portal's */
    {.code = "error.code", .message = "error.message", .details = "error.details"},
    {.code = "error.code", .message = "error.details.1", .details = "error.details"},
    WITH_STATUS("error", "messages.1"),
    WITH_STATUS("error", "statusMessage"),
    WITH_STATUS("error", "message"),
    WITH_STATUS("error", "status"),
    WITH_STATUS("failed", "messages.1"),
    WITH_STATUS("failed", "statusMessage"),
    WITH_STATUS("failed", "message"),
    WITH_STATUS("failed", "status"),
    WITH_STATUS("failure", "messages.1"),
    WITH_STATUS("failure", "statusMessage"),
    WITH_STATUS("failure", "message"),
    WITH_STATUS("failure", "status"),
    /* A message alone is no error: the answer that a job has been started holds one. */
    {.code = "code", .message = "message", .only_if = "code"},
    {.message = NULL},
};

static const char *const secret_properties[] = {"password", NULL};

const struct service arcgis_service = {
    .name = "arcgis",
    .operations = operations,
    .noperations = sizeof operations / sizeof *operations,
    .errors = errors,
    .errors_in_success = true,
    .authorization = "Authorization: Bearer ",
    .form_token = "token",
    .secret_properties = secret_properties,
    .secret_object = "secret",
    .mask = "xxxx",
};
