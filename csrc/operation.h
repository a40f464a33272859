/*
 * What an operation of a service is, as constant data. request.c turns a descriptor and a Lua
 * table into a request; response.c turns the answer into a result or an error. Services differ
 * here and nowhere else.
 */
#ifndef CLOUDSYNC_OPERATION_H
#define CLOUDSYNC_OPERATION_H

#include <stdbool.h>
#include <stddef.h>

/* Where the value of a parameter goes. */
enum place {
  IN_PATH,   /* a segment of the path */
  IN_QUERY,  /* name=value behind the question mark */
  IN_HEADER, /* a header field */
  IN_BODY,   /* the whole JSON body */
  IN_FIELD,  /* a property of a JSON object that is the body */
  IN_FORM    /* name=value in an application/x-www-form-urlencoded body */
};

/* The JSON types of OpenAPI 2.0. */
enum type { ANY, STRING, INTEGER, NUMBER, BOOLEAN, OBJECT, ARRAY };

/* A regular expression in the dialect of the vendor's document and in POSIX's extended one. */
struct pattern {
  const char *documented; /* for messages */
  const char *posix;      /* for regcomp */
};

/* A documented property of an object in a JSON body. */
struct property {
  const char *name;
  enum type type;
  bool required;
  bool has_minimum;
  long minimum;
  const struct property *properties; /* of an OBJECT, ended by a NULL name; NULL: any */
};

struct parameter {
  const char *name; /* what users type */
  const char *wire; /* what is sent */
  enum place place;
  enum type type;
  bool required;
  bool secret;                       /* shown as <secret>, wiped after use */
  unsigned short min_length;         /* of a STRING, in characters */
  unsigned short max_length;         /* 0: no limit */
  const struct pattern *pattern;     /* NULL: none */
  const struct property *properties; /* of an IN_BODY object, ended by a NULL name; NULL: any */
};

/* What is special about an operation. */
enum {
  SAFE = 1 << 0,         /* may be repeated although an earlier try may have been carried out */
  PAGEABLE = 1 << 1,     /* answers with a page: see items and next_link */
  LONG_RUNNING = 1 << 2, /* may answer before the work is done */
  SECRET_RESULT = 1 << 3 /* the answer holds a secret: its text is never kept in an error */
};

struct operation {
  const char *id;    /* the vendor's: IntegrationRuntimes_SyncCredentials */
  const char *group; /* integration_runtimes */
  const char *name;  /* sync_credentials */
  const char *method;
  const char *path;          /* with {wire} where IN_PATH parameters go */
  const char *query;         /* always sent, already encoded; NULL: none */
  const char *header;        /* always sent: "Name: value"; NULL: none */
  const char *form;          /* the query's twin in a form body */
  const char *wrapper;       /* the property that IN_FIELD parameters go under */
  const char *result;        /* the property of the answer that is the result */
  const char *authorization; /* the service's, where it differs; "": no token is sent */
  const struct parameter *const *parameters; /* ended by NULL */
  unsigned short success[5];                 /* statuses, ended by 0 */
  unsigned flags;                            /* of SAFE ... SECRET_RESULT */
  const char *items;                         /* of a page: the property that holds the list */
  const char *next_link; /* of a page: the property that holds the next URL */
  const char *summary;   /* one line */
};

/* Where a service's error document holds what: dotted paths, NULL where it does not. */
struct error_shape {
  const char *code, *message, *target, *details; /* a number in a path is a position */
  const char *only_if, *is; /* where this leads to that text; `is` NULL: to 400 or more */
};

struct service {
  const char *name; /* behind a slash which of its dialects this is: vcenter/rest */
  const struct operation *operations; /* sorted by group and name */
  size_t noperations;
  const struct error_shape *errors; /* tried in turn, ended by a NULL message */
  bool errors_in_success;           /* an error may come with a status of success */
  const char *authorization;        /* what goes before the token: "Authorization: Bearer " */
  const char *form_token;           /* name of the token in a form body; NULL: in a header */
  const char *request_id_header;    /* of the answer: what the vendor's support asks for */
  const char *client_request_id_header; /* of the request: made here; NULL: none */
  const char *const *secret_properties; /* of JSON bodies, ended by NULL; NULL: none */
  const char *secret_object;            /* a property of JSON bodies in which all is secret */
  const char *mask;                     /* how a secret begins that the service has masked */
};

extern const struct service datafactory_service;
extern const struct service entra_service;
extern const struct service vcenter_rest_service;
extern const struct service vcenter_api_service;
extern const struct service arcgis_service;

const struct service *operation_service (const char *name);
const struct operation *operation_find (const struct service *service, const char *group,
                                        const char *name);

#endif
