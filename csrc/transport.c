#include "transport.h"
#include "secret.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define TRANSPORT     "cloudsync.transport"
#define MAX_IDENTITY  512
#define DEFAULT_BYTES (64.0 * 1024 * 1024)
#define MAX_NUMBER    9007199254740992.0

struct transport *transport_check (lua_State *L, int index) {
  return luaL_checkudata(L, index, TRANSPORT);
}

/* Writes scheme://host:port in one spelling. False where they are not known or do not fit. */
static bool transport_read_identity (CURLU *url, char identity[MAX_IDENTITY]) {
  char *scheme = NULL, *host = NULL, *port = NULL;
  bool known =
      curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
      snprintf(identity, MAX_IDENTITY, "%s://%s:%s", scheme, host, port) < MAX_IDENTITY;
  curl_free(scheme);
  curl_free(host);
  curl_free(port);
  if (known)
    for (char *c = identity; *c != '\0'; c++)
      *c = (char)tolower((unsigned char)*c);
  return known;
}

static bool transport_has_part (CURLU *url, CURLUPart part) {
  char *text = NULL;
  bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
  curl_free(text);
  return has;
}

/* Whether every byte can stand in a URL as it is sent. */
static bool transport_is_clean (const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f || text[i] == '\\') return false;
  return true;
}

/* Tells the origin of an absolute URL. NULL, or why the URL can't be used. */
static const char *transport_identify (const char *text, size_t length,
                                       char identity[MAX_IDENTITY], bool endpoint) {
  const char *problem = NULL;
  if (strlen(text) != length || !transport_is_clean(text, length))
    return "has a space or a control character in it";
  const char *authority = strstr(text, "://");
  if (authority == NULL || authority[3] == '/')
    return "is not a URL such as https://host.example";
  CURLU *url = curl_url();
  if (url == NULL) return "does not fit into memory";
  if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
      !transport_read_identity(url, identity))
    problem = "is not a URL such as https://host.example";
  else if (strncmp(identity, "https:", 6) != 0 && strncmp(identity, "http:", 5) != 0)
    problem = "is neither an https nor an http URL";
  else if (transport_has_part(url, CURLUPART_USER))
    problem = "has a user name in it";
  else if (endpoint && strpbrk(text, "?#") != NULL)
    problem = "has a query or a fragment";
  curl_url_cleanup(url);
  return problem;
}

/* The offset of what follows the authority of an absolute URL. */
static size_t transport_path_offset (const char *url) {
  const char *authority = strstr(url, "://") + 3;
  return (size_t)(authority - url) + strcspn(authority, "/?#");
}

/*
 * [-0, +1] Pushes the URL on the client's own origin that a link of the service leads to, its
 * path and query as they are. NULL, and nothing pushed, if it leads elsewhere or is no URL.
 */
const char *transport_link (lua_State *L, const struct transport *t, const char *link,
                            size_t length) {
  char identity[MAX_IDENTITY];
  size_t from = 0;
  if (link[0] == '/' && link[1] != '/') {
    if (strlen(link) != length || !transport_is_clean(link, length)) return NULL;
  } else {
    if (transport_identify(link, length, identity, false) != NULL) return NULL;
    if (strcmp(identity, t->identity) != 0) return NULL;
    from = transport_path_offset(link);
  }
  lua_pushstring(L, t->origin);
  lua_pushlstring(L, link + from, strcspn(link + from, "#"));
  lua_concat(L, 2);
  return lua_tostring(L, -1);
}

/* [-1, +0] Keeps the string at the top in the table at index; its bytes live as long as that.
 */
static const char *transport_keep (lua_State *L, int index, const char *name) {
  const char *bytes = lua_tostring(L, -1);
  lua_setfield(L, index, name);
  return bytes;
}

/* [-0, +0] Reads the endpoint out of the options at 1 into t, keeping its strings at `kept`. */
static void transport_read_endpoint (lua_State *L, struct transport *t, int kept) {
  char identity[MAX_IDENTITY];
  size_t length;
  lua_getfield(L, 1, "endpoint");
  if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "endpoint must be a URL");
  const char *text = lua_tolstring(L, -1, &length);
  const char *problem = transport_identify(text, length, identity, true);
  if (problem != NULL) luaL_error(L, "endpoint %s", problem);
  size_t origin = transport_path_offset(text);
  while (length > origin && text[length - 1] == '/')
    length--;
  lua_pushlstring(L, text, length);
  t->endpoint = transport_keep(L, kept, "endpoint");
  lua_pushlstring(L, text, origin);
  t->origin = transport_keep(L, kept, "origin");
  lua_pushstring(L, identity);
  t->identity = transport_keep(L, kept, "identity");
  lua_pop(L, 1);
  const char *host = strstr(t->identity, "://") + 3;
  size_t host_length = (size_t)(strrchr(host, ':') - host);
  t->plain = strncmp(t->identity, "http:", 5) == 0;
  t->loopback = (host_length == 9 && strncmp(host, "localhost", 9) == 0) ||
                (host_length == 5 && strncmp(host, "[::1]", 5) == 0) ||
                (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == host_length);
}

/*
 * [-0, +0] Reads the options that are strings, or secrets; none may hold a NUL or a line break.
 */
static void transport_read_strings (lua_State *L, struct transport *t, int kept) {
  const struct {
    const char *name;
    const char **field;
  } options[] = {
      {"ca_file", &t->ca_file},
      {"ca_path", &t->ca_path},
      {"client_cert", &t->client_cert},
      {"client_key", &t->client_key},
      {"proxy", &t->proxy},
      {"user_agent", &t->user_agent},
      {"pinned_public_key", &t->pinned_public_key},
      {"referer", &t->referer},
  };
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    size_t length;
    lua_getfield(L, 1, options[i].name);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    const char *text = secret_tolstring(L, -1, &length);
    if (text == NULL) {
      luaL_error(L, "%s must be a string", options[i].name);
      return;
    }
    if (strcspn(text, "\r\n") != length)
      luaL_error(L, "%s has a line break or a NUL in it", options[i].name);
    *options[i].field = text;
    lua_setfield(L, kept, options[i].name);
  }
}

/* Whether libcurl will take the proxy; what it says of others quotes the password. */
static bool transport_is_proxy (const char *proxy) {
  static const char *const schemes[] = {"http",    "https",  "socks4",
                                        "socks4a", "socks5", "socks5h"};
  char *scheme = NULL;
  bool known = false;
  CURLU *url = curl_url();
  if (url != NULL &&
      curl_url_set(url, CURLUPART_URL, proxy, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME) ==
          CURLUE_OK &&
      curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK)
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
      known = known || curl_strequal(scheme, schemes[i]);
  curl_free(scheme);
  curl_url_cleanup(url);
  return known;
}

/* [-0, +0] The number that the option holds, at least `least`; a very large one is cut. */
static lua_Number transport_read_number (lua_State *L, const char *name, lua_Number otherwise,
                                         lua_Number least) {
  lua_getfield(L, 1, name);
  lua_Number number = otherwise;
  if (!lua_isnil(L, -1)) {
    if (lua_type(L, -1) != LUA_TNUMBER) luaL_error(L, "%s must be a number", name);
    number = lua_tonumber(L, -1);
    if (!(number >= least)) luaL_error(L, "%s is too small", name);
  }
  lua_pop(L, 1);
  return number < MAX_NUMBER ? number : MAX_NUMBER;
}

static bool transport_read_boolean (lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  if (!lua_isnil(L, -1) && !lua_isboolean(L, -1)) luaL_error(L, "%s must be a boolean", name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/*
 * transport(options) -> a transport. Raises, naming the option, if one is wrong, and if the
 * endpoint is plain HTTP on another machine and allow_plain_http is not set.
 */
int transport_new (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct transport *t = lua_newuserdatauv(L, sizeof *t, 1);
  memset(t, 0, sizeof *t);
  luaL_setmetatable(L, TRANSPORT);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 2, 1);
  transport_read_endpoint(L, t, 3);
  transport_read_strings(L, t, 3);
  if (t->proxy != NULL && t->proxy[0] != '\0' && !transport_is_proxy(t->proxy))
    return luaL_error(L, "proxy is not a URL such as http://user:password@host:port");
  t->insecure = transport_read_boolean(L, "insecure");
  t->allow_plain_http = transport_read_boolean(L, "allow_plain_http");
  lua_Number connect_timeout = transport_read_number(L, "connect_timeout", 10, 0.001);
  t->connect_timeout = connect_timeout < MAX_SECONDS ? (long)(1000 * connect_timeout) : 0;
  t->max_response_bytes =
      (size_t)transport_read_number(L, "max_response_bytes", DEFAULT_BYTES, 1);
  t->max_connections = (long)transport_read_number(L, "max_connections", 0, 0);
  if (t->plain && !t->loopback && !t->allow_plain_http)
    return luaL_error(L, "endpoint is plain http, over which credentials could be read: use "
                         "https, or set allow_plain_http");
  lua_settop(L, 2);
  return 1;
}

/* Sets an option if none has failed before: a check left out would leave a call unprotected. */
#define SET(option, value)                                                                     \
  code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value)

static CURLcode transport_apply_trust (const struct transport *t, CURL *easy) {
  CURLcode code = CURLE_OK;
  const char *file = t->ca_file, *path = t->ca_path;
#if LIBCURL_VERSION_NUM >= 0x074600
  /* libcurl caches the system's bundle only where no directory is set beside it */
  if (file == NULL && path == NULL) file = curl_version_info(CURLVERSION_NOW)->cainfo;
#endif
  if (file != NULL || path != NULL) {
    SET(CURLOPT_CAINFO, file);
    SET(CURLOPT_CAPATH, path);
  }
  SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  SET(CURLOPT_SSL_VERIFYPEER, t->insecure ? 0L : 1L);
  SET(CURLOPT_SSL_VERIFYHOST, t->insecure ? 0L : 2L);
  if (t->pinned_public_key != NULL) SET(CURLOPT_PINNEDPUBLICKEY, t->pinned_public_key);
  if (t->client_cert != NULL) SET(CURLOPT_SSLCERT, t->client_cert);
  if (t->client_key != NULL) SET(CURLOPT_SSLKEY, t->client_key);
  return code;
}

/* Sets on a fresh handle what every call of the client has in common. */
CURLcode transport_apply (const struct transport *t, CURL *easy) {
  CURLcode code = transport_apply_trust(t, easy);
#if LIBCURL_VERSION_NUM >= 0x075500
  SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
  SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  SET(CURLOPT_CONNECTTIMEOUT_MS, t->connect_timeout);
  SET(CURLOPT_USERAGENT, t->user_agent);
  SET(CURLOPT_REFERER, t->referer);
  SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->max_response_bytes);
  /* plain http to this machine must not leave it, whatever http_proxy says */
  if (t->plain && t->loopback)
    SET(CURLOPT_PROXY, "");
  else if (t->proxy != NULL)
    SET(CURLOPT_PROXY, t->proxy);
  return code;
}

void transport_register (lua_State *L) {
  static const luaL_Reg none[] = {{NULL, NULL}};
  compat_newclass(L, TRANSPORT, none);
}
