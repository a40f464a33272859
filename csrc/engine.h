/* Transfers over libcurl's multi interface: what moves bytes, and never waits unless asked to.
 */
#ifndef CLOUDSYNC_ENGINE_H
#define CLOUDSYNC_ENGINE_H

#include "buffer.h"
#include "compat.h"

#include <curl/curl.h>

#define ENGINE_HEADERS 40 /* lines of one request, the authorization included */

struct engine;

/* One try at a request, which it keeps alive. It is in flight while somebody holds it. */
struct transfer {
  struct engine *engine;         /* NULL unless in one of its lists: in flight, or finished */
  CURL *easy;                    /* NULL unless in flight */
  struct transfer *next, **link; /* of the list it is in */
  double number;                 /* which tells it from the engine's others */
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
