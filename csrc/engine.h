/* Transfers over libcurl's multi interface: what moves bytes, and never waits unless asked to.
 */
#ifndef CLOUDSYNC_ENGINE_H
#define CLOUDSYNC_ENGINE_H

#include "buffer.h"
#include "compat.h"

#include <curl/curl.h>

#define ENGINE_HEADERS 40 /* lines of one request, the authorization included */

struct engine;

/* One try at a request. While it is in flight its engine keeps it and the request alive. */
struct transfer {
  struct engine *engine;         /* NULL unless in flight */
  CURL *easy;                    /* NULL unless in flight */
  struct transfer *next, **link; /* of the list it is in: running or finished */
  int self, request; /* references in the engine's table; LUA_NOREF when not in flight */
  bool done;
  bool
      repeatable; /* libcurl may send again on a new connection if the old one turns out dead */
  unsigned sends; /* how often libcurl had a connection to send on */
  const char *excess; /* in what the answer was larger than allowed, or NULL */
  size_t limit;
  CURLcode code;
  long status, proxy_status;
  struct buffer authorization, form, head, body; /* form: the body, if it holds the token */
  struct curl_slist lines[ENGINE_HEADERS];
  char problem[CURL_ERROR_SIZE];
};

struct transfer *engine_transfer (lua_State *L, int index);
const char *engine_header (const struct transfer *t, const char *name, size_t *length);
int engine_get (lua_State *L);
void engine_register (lua_State *L);

#endif
