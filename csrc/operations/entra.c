/* Microsoft Entra's token endpoint, as far as a client without a user needs it. */
#include "../operation.h"

static const struct pattern pattern_tenant = {
    .documented = "^[0-9a-zA-Z-.]+$",
    .posix = "^[0-9a-zA-Z.-]+$",
};

static const struct parameter p_tenant = {
    .name = "tenant",
    .wire = "tenant",
    .place = IN_PATH,
    .type = STRING,
    .required = true,
    .min_length = 1,
    .pattern = &pattern_tenant,
};

static const struct parameter p_client_id = {
    .name = "client_id",
    .wire = "client_id",
    .place = IN_FORM,
    .type = STRING,
    .required = true,
};

static const struct parameter p_scope = {
    .name = "scope",
    .wire = "scope",
    .place = IN_FORM,
    .type = STRING,
    .required = true,
};

static const struct parameter p_grant_type = {
    .name = "grant_type",
    .wire = "grant_type",
    .place = IN_FORM,
    .type = STRING,
    .required = true,
};

static const struct parameter p_client_secret = {
    .name = "client_secret",
    .wire = "client_secret",
    .place = IN_FORM,
    .type = STRING,
    .secret = true,
};

/* A signed assertion is as good as the secret until it expires. */
static const struct parameter p_client_assertion = {
    .name = "client_assertion",
    .wire = "client_assertion",
    .place = IN_FORM,
    .type = STRING,
    .secret = true,
};

static const struct parameter p_client_assertion_type = {
    .name = "client_assertion_type",
    .wire = "client_assertion_type",
    .place = IN_FORM,
    .type = STRING,
};

static const struct parameter *const parameters_Token_Get[] = {
    &p_tenant,
    &p_client_id,
    &p_scope,
    &p_grant_type,
    &p_client_secret,
    &p_client_assertion,
    &p_client_assertion_type,
    NULL,
};

static const struct operation operations[] = {
    {
        .id = "Token_Get",
        .group = "tokens",
        .name = "get",
        .method = "POST",
        .path = "/{tenant}/oauth2/v2.0/token",
        .parameters = parameters_Token_Get,
        .success = {200},
        /* Asking again only yields another token; earlier ones stay valid. */
        .flags = SAFE | SECRET_RESULT,
        .summary = "Gets an access token for an application.",
    },
};

static const struct error_shape errors[] = {
    {.code = "error", .message = "error_description"},
    {.message = NULL},
};

const struct service entra_service = {
    .name = "entra",
    .operations = operations,
    .noperations = sizeof operations / sizeof *operations,
    .errors = errors,
    .request_id_header = "x-ms-request-id",
    .client_request_id_header = "client-request-id",
};
