/* Where a client's calls go, and how: its endpoint, trust, proxy and limits. */
#ifndef CLOUDSYNC_TRANSPORT_H
#define CLOUDSYNC_TRANSPORT_H

#include "compat.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#define MAX_SECONDS 2e6 /* a longer time is as good as none */

/* The strings belong to Lua, and live as long as the userdata that holds this. */
struct transport {
  const char *endpoint; /* scheme://host[:port][/path], without a slash at the end */
  const char *origin;   /* the same without its path */
  const char *identity; /* scheme://host:port in one spelling, to compare origins */
  bool plain;           /* http, not https */
  bool loopback;
  const char *ca_file, *ca_path, *pinned_public_key, *client_cert, *client_key;
  const char *proxy, *user_agent, *referer;
  bool insecure, allow_plain_http;
  long connect_timeout; /* ms */
  size_t max_response_bytes;
  long max_connections;
};

struct transport *transport_check (lua_State *L, int index);
int transport_new (lua_State *L);
const char *transport_link (lua_State *L, const struct transport *t, const char *link,
                            size_t length);
CURLcode transport_apply (const struct transport *t, CURL *easy);
void transport_register (lua_State *L);

#endif
