/*
 * What stands in for the network, and shows what requests do not tell of themselves. A module
 * of its own, so that the specs can go through the corpus with the core as it is installed.
 */
#include "engine.h"
#include "request.h"

#include <stdlib.h>
#include <string.h>

#define TRANSFER "cloudsync.transfer"
#define REQUEST  "cloudsync.request"

/* [-0, +0] Appends the text in the field of the answer, at index 2, if there is one. */
static void transfer_fill (lua_State *L, struct buffer *b, const char *field) {
  size_t length;
  lua_getfield(L, 2, field);
  const char *bytes = lua_tolstring(L, -1, &length);
  if (bytes != NULL) buffer_append(b, bytes, length);
  lua_pop(L, 1);
}

/* [-0, +0] The number in the field of the answer, at index 2, or 0. */
static long transfer_number (lua_State *L, const char *field) {
  lua_getfield(L, 2, field);
  long number = (long)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

/*
 * finish(request, {status, head, body, code, sends, proxy_status}, token?) -> a transfer that
 * has ended so, the token noted as a secret of the request's
 */
static int transfer_finish (lua_State *L) {
  struct request *r = luaL_checkudata(L, 1, REQUEST);
  luaL_checktype(L, 2, LUA_TTABLE);
  const char *token = luaL_optstring(L, 3, NULL);
  lua_settop(L, 3);
  struct transfer *t = lua_newuserdatauv(L, sizeof *t, 1);
  memset(t, 0, sizeof *t);
  luaL_setmetatable(L, TRANSFER);
  if (token != NULL) buffer_append(&r->secrets, token, strlen(token) + 1);
  t->done = true;
  t->status = transfer_number(L, "status");
  t->proxy_status = transfer_number(L, "proxy_status");
  t->code = (CURLcode)transfer_number(L, "code");
  t->sends = (unsigned)transfer_number(L, "sends");
  transfer_fill(L, &t->head, "head");
  transfer_fill(L, &t->body, "body");
  return 1;
}

/* look(request) -> URL, the list of header lines, body: the bytes themselves */
static int transfer_look (lua_State *L) {
  const struct request *r = luaL_checkudata(L, 1, REQUEST);
  int count = 0;
  lua_pushlstring(L, r->url.data, r->url.length);
  lua_newtable(L);
  for (size_t at = 0; at < r->headers.length; at += strlen(r->headers.data + at) + 1) {
    lua_pushstring(L, r->headers.data + at);
    lua_rawseti(L, -2, ++count);
  }
  lua_pushlstring(L, r->body.data != NULL ? r->body.data : "", r->body.length);
  return 3;
}

/* identity(url) -> scheme, host, port and user as libcurl reads them, or nil */
static int transfer_identity (lua_State *L) {
  static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT,
                                    CURLUPART_USER};
  CURLU *url = curl_url();
  bool read = curl_url_set(url, CURLUPART_URL, luaL_checkstring(L, 1), 0) == CURLUE_OK;
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char *text = NULL;
    if (read) curl_url_get(url, parts[i], &text, CURLU_DEFAULT_PORT);
    lua_pushstring(L, text);
    curl_free(text);
  }
  curl_url_cleanup(url);
  return 4;
}

static const luaL_Reg transfer_functions[] = {
    {"finish", transfer_finish},
    {"look", transfer_look},
    {"identity", transfer_identity},
    {NULL, NULL},
};

__attribute__((visibility("default"))) int luaopen_transfer (lua_State *L);

int luaopen_transfer (lua_State *L) {
  lua_newtable(L);
  luaL_setfuncs(L, transfer_functions, 0);
  return 1;
}
