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
  const char *path;                          /* with {wire} where IN_PATH parameters go */
  const char *query;                         /* always sent, already encoded; NULL: none */
  const struct parameter *const *parameters; /* ended by NULL */
  unsigned short success[5];                 /* statuses, ended by 0 */
  unsigned flags;                            /* of SAFE ... SECRET_RESULT */
  const char *items;                         /* of a page: the property that holds the list */
  const char *next_link; /* of a page: the property that holds the next URL */
  const char *summary;   /* one line */
};

/* Where a service's error document holds what; each is a dotted path, NULL where there is none.
 */
struct error_shape {
  const char *code, *message, *target, *details;
};

struct service {
  const char *name;
  const struct operation *operations; /* sorted by group and name */
  size_t noperations;
  const struct error_shape *errors; /* tried in turn, ended by a NULL message */
  const char *authorization;        /* what goes before the token: "Authorization: Bearer " */
  const char *request_id_header;    /* of the answer: what the vendor's support asks for */
  const char
      *client_request_id_header; /* of the request: an identifier made here; NULL: none */
  const char *const *secret_properties; /* of JSON bodies, ended by NULL; NULL: none */
};

extern const struct service datafactory_service;
extern const struct service entra_service;

const struct service *operation_service (const char *name);
const struct operation *operation_find (const struct service *service, const char *group,
                                        const char *name);

#endif
