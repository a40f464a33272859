/* A descriptor and a Lua table become a request: method, URL, headers and body. */
#ifndef CLOUDSYNC_REQUEST_H
#define CLOUDSYNC_REQUEST_H

#include "buffer.h"
#include "compat.h"
#include "operation.h"

struct request {
  const struct service *service;
  const struct operation *operation;
  const char *method;
  const char *content_type; /* NULL: no body */
  bool shown; /* made to be looked at: secrets are <secret>, and it can't be sent */
  char client_request_id[37];
  struct buffer url;
  struct buffer headers; /* lines, each ended by a NUL */
  struct buffer body;
  struct buffer secrets; /* what must not show up in an error, each ended by a NUL */
};

struct request *request_check (lua_State *L, int index);
bool request_is_safe (const struct request *r);
void request_note_secret (struct request *r, const char *bytes, size_t length);
int request_operation (lua_State *L);
int request_link (lua_State *L);
void request_register (lua_State *L);

#endif
