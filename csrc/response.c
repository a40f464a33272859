#include "response.h"
#include "engine.h"
#include "json.h"
#include "request.h"
#include "secret.h"

#include <ctype.h>
#include <stdlib.h>

#define MAX_KEPT      2048            /* bytes of a body that is kept in an error */
#define MAX_ERROR     (1024UL * 1024) /* bytes of a body that is read as an error document */
#define MAX_CHARACTER 4               /* bytes of UTF-8 */

/* What a failure of libcurl's is to the user. The hint says what to do. */
struct failure {
  CURLcode code;
  bool lasting; /* the next try would fail in the same way */
  const char *kind, *hint;
};

static const struct failure failures[] = {
    {CURLE_OPERATION_TIMEDOUT, false, "timeout",
     "raise timeout or deadline if the service is slow"},
    {CURLE_COULDNT_RESOLVE_HOST, false, "transport", "check the name of the host and the DNS"},
    {CURLE_COULDNT_RESOLVE_PROXY, false, "transport", "check proxy and https_proxy"},
    {CURLE_COULDNT_CONNECT, false, "transport",
     "check endpoint and proxy, and that a firewall permits it"},
    {CURLE_PEER_FAILED_VERIFICATION, true, "transport",
     "the server's certificate is not trusted or is another host's: see ca_file"},
    {CURLE_SSL_CACERT_BADFILE, true, "transport", "ca_file can't be read"},
    {CURLE_SSL_CERTPROBLEM, true, "transport", "check client_cert and client_key"},
    {CURLE_SSL_PINNEDPUBKEYNOTMATCH, true, "transport", "it is not pinned_public_key"},
    {CURLE_SSL_CONNECT_ERROR, false, "transport", "the TLS handshake failed"},
    {CURLE_FILESIZE_EXCEEDED, true, "limit", "raise max_response_bytes if this is expected"},
    {CURLE_BAD_CONTENT_ENCODING, true, "protocol", "the answer is not compressed as it says"},
    {CURLE_WEIRD_SERVER_REPLY, true, "protocol", "the answer is not HTTP"},
    {CURLE_OUT_OF_MEMORY, true, "limit", "not enough memory"},
};

static const struct failure any_failure = {CURLE_OK, false, "transport", NULL};
static const struct failure refused_by_proxy = {CURLE_OK, true, "transport",
                                                "check the user and password in proxy"};
static const struct failure no_connection = {CURLE_OPERATION_TIMEDOUT, false, "timeout",
                                             "raise connect_timeout if the network is slow"};
static const struct failure over_limit = {CURLE_WRITE_ERROR, true, "limit", NULL};

static const struct failure *response_failure (const struct transfer *t) {
  if (t->excess != NULL) return &over_limit;
  if (t->proxy_status == 407) return &refused_by_proxy;
  if (t->code == CURLE_OPERATION_TIMEDOUT && t->sends == 0) return &no_connection;
  for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
    if (failures[i].code == t->code) return &failures[i];
  return &any_failure;
}

/* [-1, +1] Takes the secrets out of every string in the value at the top, names included. */
void response_redact (lua_State *L, const struct buffer *secrets) {
  luaL_checkstack(L, 8, "JSON nested too deeply");
  if (lua_type(L, -1) == LUA_TSTRING) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    secret_push_redacted(L, secrets, text, length, length);
    lua_replace(L, -2);
  }
  if (!lua_istable(L, -1)) return;
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, -3) != 0) {
    lua_pushvalue(L, -2);
    response_redact(L, secrets);
    lua_insert(L, -2);
    response_redact(L, secrets);
    lua_rawset(L, -4);
  }
  lua_replace(L, -2);
}

/* [-0, +1] Pushes what the dotted path leads to in the table at index, or nil. */
static void response_push_path (lua_State *L, int index, const char *path) {
  lua_pushvalue(L, index);
  while (path != NULL && lua_istable(L, -1)) {
    size_t length = strcspn(path, ".");
    if (isdigit((unsigned char)path[0]))
      lua_pushinteger(L, strtol(path, NULL, 10));
    else
      lua_pushlstring(L, path, length);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    path = path[length] == '.' ? path + length + 1 : NULL;
    if (path == NULL) return;
  }
  lua_pop(L, 1);
  lua_pushnil(L);
}

static void response_set_string (lua_State *L, int fields, const char *name,
                                 const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, fields, name);
}

/* [-0, +0] Whether the path leads to text, and to this one if it is given. */
static bool response_is_text (lua_State *L, int document, const char *path,
                              const char *wanted) {
  response_push_path(L, document, path);
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  bool is = text != NULL && (wanted == NULL || strcmp(text, wanted) == 0);
  lua_pop(L, 1);
  return is;
}

/* [-0, +0] The number that the path leads to, also as text; 0 where it leads to none. */
static double response_number (lua_State *L, int document, const char *path) {
  response_push_path(L, document, path);
  double number = (double)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

/* [-0, +0] Whether what the shape depends on is so. */
static bool response_meets_condition (lua_State *L, int document, const struct error_shape *s) {
  if (s->only_if == NULL) return true;
  if (s->is != NULL) return response_is_text(L, document, s->only_if, s->is);
  return response_number(L, document, s->only_if) >= 400;
}

/*
 * [-0, +0] The shape of the service's errors that the document at index has, or NULL: one with
 * a message, else one with a code.
 */
static const struct error_shape *response_shape (lua_State *L, const struct service *service,
                                                 int document) {
  const struct error_shape *with_code = NULL;
  for (const struct error_shape *s = service->errors; s->message != NULL; s++) {
    if (!response_meets_condition(L, document, s)) continue;
    if (response_is_text(L, document, s->message, NULL)) return s;
    if (with_code == NULL && (response_is_text(L, document, s->code, NULL) ||
                              response_number(L, document, s->code) >= 400))
      with_code = s;
  }
  return with_code;
}

/* [-0, +0] Copies what the service's error document, at index, says into the fields. */
static void response_read_error (lua_State *L, const struct service *service, int document,
                                 int fields) {
  const struct error_shape *s = response_shape(L, service, document);
  if (s == NULL) return;
  const char *const paths[] = {s->code, s->message, s->target, s->details};
  static const char *const names[] = {"code", "message", "target", "details"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    if (paths[i] == NULL) continue;
    response_push_path(L, document, paths[i]);
    /* a service may put anything anywhere; only details can be more than text */
    int type = lua_type(L, -1);
    if (type == LUA_TNUMBER) lua_tostring(L, -1);
    if (type == LUA_TSTRING || type == LUA_TNUMBER ||
        (paths[i] == s->details && type == LUA_TTABLE))
      lua_setfield(L, fields, names[i]);
    else
      lua_pop(L, 1);
  }
}

/* [-0, +0] Keeps the start of a body that could not be read, unless it holds secrets. */
static void response_keep_body (lua_State *L, const struct transfer *t, const struct request *r,
                                int fields) {
  char text[MAX_KEPT];
  size_t at, length;
  if ((r->operation->flags & SECRET_RESULT) != 0) return;
  secret_push_redacted(L, &r->secrets, t->body.data, t->body.length, MAX_KEPT);
  const char *redacted = lua_tolstring(L, -1, &length);
  if (length > MAX_KEPT) length = MAX_KEPT;
  bool cut = length == MAX_KEPT, utf8 = json_valid_utf8(redacted, length, &at);
  if (cut && !utf8 && length - at < MAX_CHARACTER) { /* in the middle of a character */
    length = at;
    utf8 = true;
  }
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)redacted[i];
    bool shown = c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f) || (c >= 0x80 && utf8);
    text[i] = (char)(shown ? redacted[i] : '?');
  }
  lua_pop(L, 1);
  lua_pushlstring(L, text, length);
  lua_setfield(L, fields, "body");
}

/* [-0, +1] Pushes the decoded body, or pushes why it is no JSON and returns false. */
static bool response_read_body (lua_State *L, const struct transfer *t) {
  if (t->body.length > 0) return json_read(L, t->body.data, t->body.length);
  lua_pushliteral(L, "it is empty");
  return false;
}

/* [-0, +0] What libcurl says of a call that got no answer. */
static void response_read_failure (lua_State *L, const struct transfer *t, int fields) {
  const struct failure *failure = response_failure(t);
  const char *said = t->problem[0] != '\0' ? t->problem : curl_easy_strerror(t->code);
  if (strstr(said, "roxy") != NULL)
    said = curl_easy_strerror(t->code); /* may quote a password */
  if (t->sends > 1 && !t->repeatable)
    said = "the connection was closed before an answer came, and sending again may not be safe";
  response_set_string(L, fields, "kind", failure->kind);
  if (t->excess != NULL)
    lua_pushfstring(L, "the answer is too large: %s", t->excess);
  else if (failure->hint != NULL)
    lua_pushfstring(L, "%s (%s)", said, failure->hint);
  else
    lua_pushstring(L, said);
  lua_setfield(L, fields, "message");
  lua_pushboolean(L, t->sends > 0);
  lua_setfield(L, fields, "sent");
  lua_pushboolean(L, failure->lasting);
  lua_setfield(L, fields, "lasting");
}

/* [-0, +0] What the service says of a call that it did not carry out. */
static void response_read_refusal (lua_State *L, const struct transfer *t,
                                   const struct request *r, int fields) {
  bool small = t->body.length <= MAX_ERROR;
  bool read = small && response_read_body(L, t) && lua_istable(L, -1);
  if (read) {
    response_redact(L, &r->secrets);
    response_read_error(L, r->service, lua_gettop(L), fields);
  } else if (t->body.length > 0) {
    response_keep_body(L, t, r, fields);
  }
  lua_settop(L, fields);
}

static bool response_succeeded (const struct transfer *t, const struct request *r) {
  for (const unsigned short *status = r->operation->success; *status != 0; status++)
    if (*status == t->status) return true;
  return false;
}

/* [-0, +1] Pushes the result of a success, or fills the fields and returns false. */
static bool response_read_result (lua_State *L, const struct transfer *t,
                                  const struct request *r, int fields) {
  if (t->body.length == 0) {
    lua_pushboolean(L, true);
    return true;
  }
  if (response_read_body(L, t)) {
    bool table = lua_istable(L, -1);
    if (r->service->errors_in_success && table &&
        response_shape(L, r->service, lua_gettop(L)) != NULL) {
      response_redact(L, &r->secrets);
      response_read_error(L, r->service, lua_gettop(L), fields);
      return false;
    }
    if (r->operation->result != NULL && table) {
      response_push_path(L, lua_gettop(L), r->operation->result);
      lua_replace(L, -2);
    }
    return true;
  }
  response_set_string(L, fields, "kind", "protocol");
  lua_pushfstring(L, "the answer is not JSON: %s", lua_tostring(L, -1));
  lua_setfield(L, fields, "message");
  lua_pop(L, 1);
  response_keep_body(L, t, r, fields);
  return false;
}

/*
 * interpret(transfer, request) -> true, result | false, fields: what a transfer that is done
 * came to. The body is given back to the allocator: a transfer is interpreted once.
 */
int response_interpret (lua_State *L) {
  struct transfer *t = engine_transfer(L, 1);
  struct request *r = request_check(L, 2);
  if (!t->done) return luaL_error(L, "the transfer is not done");
  lua_settop(L, 2);
  lua_newtable(L);
  bool answered = t->code == CURLE_OK;
  bool succeeded = answered && response_succeeded(t, r) && response_read_result(L, t, r, 3);
  if (!succeeded) {
    if (!answered)
      response_read_failure(L, t, 3);
    else if (!response_succeeded(t, r))
      response_read_refusal(L, t, r, 3);
    if (answered) {
      lua_pushinteger(L, t->status);
      lua_setfield(L, 3, "status");
    }
    lua_settop(L, 3);
  }
  buffer_free(&t->body);
  lua_pushboolean(L, succeeded);
  lua_insert(L, -2);
  return 2;
}
