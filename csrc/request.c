#include "request.h"
#include "json.h"
#include "response.h"
#include "secret.h"
#include "transport.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define REQUEST  "cloudsync.request"
#define PATTERN  "cloudsync.pattern"
#define PATTERNS "cloudsync.patterns"

#define MAX_CALLER_HEADERS 24
#define MAX_FIELDS         16 /* properties of a body that are parameters */

/* The arguments of an operation's function. */
enum { ARG_TRANSPORT = 1, ARG_PARAMETERS, ARG_DEFAULTS, ARG_HEADERS, ARG_SHOWN, ARG_COUNT = 5 };

/* Why a request can't be made. A mistake is the program's, everything else is its data's. */
struct refusal {
  const char *parameter; /* NULL: not one parameter's fault */
  const char *mistake;   /* "misuse", "unknown": no such parameter; NULL: none */
  char text[320];
};

struct request *request_check (lua_State *L, int index) {
  return luaL_checkudata(L, index, REQUEST);
}

/* Whether the request may be sent again although it may have been carried out already. */
bool request_is_safe (const struct request *r) {
  return (r->operation->flags & SAFE) != 0 || strcmp(r->method, "GET") == 0;
}

/* Remembers a secret that goes with the request, so that no error shows it. */
void request_note_secret (struct request *r, const char *bytes, size_t length) {
  for (size_t at = 0; at < r->secrets.length; at += strlen(r->secrets.data + at) + 1)
    if (strcmp(r->secrets.data + at, bytes) == 0) return;
  secret_note(&r->secrets, bytes, length);
}

static bool request_refuse (struct refusal *why, const struct parameter *p, bool misuse,
                            const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  why->parameter = p != NULL ? p->name : NULL;
  why->mistake = misuse ? "misuse" : NULL;
  vsnprintf(why->text, sizeof why->text, format, arguments);
  va_end(arguments);
  return false;
}

/* [-0, +1] Pushes a request, empty but owned by Lua. */
static struct request *request_new (lua_State *L, const struct service *service,
                                    const struct operation *operation) {
  struct request *r = lua_newuserdatauv(L, sizeof *r, 0);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, REQUEST);
  r->service = service;
  r->operation = operation;
  r->method = operation->method;
  return r;
}

/* Gives the request an identifier of its own, a version 4 UUID (RFC 9562). */
static void request_identify (lua_State *L, struct request *r) {
  unsigned char b[16];
  if (r->service->client_request_id_header == NULL) return;
  if (getentropy(b, sizeof b) != 0) luaL_error(L, "the system gives no random bytes");
  b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
  b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
  for (size_t i = 0, at = 0; i < sizeof b; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) r->client_request_id[at++] = '-';
    snprintf(r->client_request_id + at, 3, "%02x", b[i]);
    at += 2;
  }
}

/* A compiled regular expression, kept for as long as the Lua state. */
struct compiled {
  bool ready;
  regex_t regex;
};

static int compiled__gc (lua_State *L) {
  struct compiled *self = luaL_checkudata(L, 1, PATTERN);
  if (self->ready) regfree(&self->regex);
  self->ready = false;
  return 0;
}

/* [-0, +1] Pushes the compiled pattern. */
static const regex_t *request_push_pattern (lua_State *L, const struct pattern *pattern) {
  lua_getfield(L, LUA_REGISTRYINDEX, PATTERNS);
  lua_getfield(L, -1, pattern->posix);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    struct compiled *new = lua_newuserdatauv(L, sizeof *new, 0);
    new->ready = false;
    luaL_setmetatable(L, PATTERN);
    new->ready = regcomp(&new->regex, pattern->posix, REG_EXTENDED | REG_NOSUB) == 0;
    if (!new->ready) luaL_error(L, "can't compile the pattern %s", pattern->posix);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, pattern->posix);
  }
  lua_remove(L, -2);
  return &((struct compiled *)lua_touserdata(L, -1))->regex;
}

/* [-0, +1] Pushes the parameter's value, from the call or the client's defaults, or nil. */
static int request_push_value (lua_State *L, const char *name) {
  for (int source = ARG_PARAMETERS; source <= ARG_DEFAULTS; source++) {
    if (!lua_istable(L, source)) continue;
    lua_pushstring(L, name);
    lua_rawget(L, source);
    if (!lua_isnil(L, -1)) return lua_type(L, -1);
    lua_pop(L, 1);
  }
  lua_pushnil(L);
  return LUA_TNIL;
}

static bool request_is_integral (lua_State *L, int index) {
  lua_Number number = lua_tonumber(L, index);
  return lua_isinteger(L, index) || (isfinite(number) && floor(number) >= number);
}

/* Whether the value at index has the documented type. */
static bool request_has_type (lua_State *L, int index, enum type type) {
  size_t length;
  int got = lua_type(L, index);
  switch (type) {
  case STRING:
    return secret_tolstring(L, index, &length) != NULL;
  case INTEGER:
    return got == LUA_TNUMBER && request_is_integral(L, index);
  case NUMBER:
    return got == LUA_TNUMBER;
  case BOOLEAN:
    return got == LUA_TBOOLEAN;
  case OBJECT:
  case ARRAY:
    return got == LUA_TTABLE;
  default:
    return true;
  }
}

static const char *request_type_name (enum type type) {
  static const char *const names[] = {"a value",   "a string", "an integer", "a number",
                                      "a boolean", "a table",  "an array"};
  return names[type];
}

/* [-0, +0] Checks a string, at index, against what is documented and what can be sent. */
static bool request_check_string (lua_State *L, int index, const struct parameter *p,
                                  struct refusal *why) {
  size_t length, at, characters = 0;
  const char *text = secret_tolstring(L, index, &length);
  if (!json_valid_utf8(text, length, &at))
    return request_refuse(why, p, false, "%s is not valid UTF-8", p->name);
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)text[i];
    if (p->place <= IN_HEADER && (c < 0x20 || c == 0x7f))
      return request_refuse(why, p, false, "%s has a control character in it", p->name);
    characters += (c & 0xc0) != 0x80;
  }
  if (p->place == IN_PATH) {
    if (length == 0) return request_refuse(why, p, false, "%s is empty", p->name);
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
      return request_refuse(why, p, false, "%s is a dot segment, which is no name", p->name);
    if (strpbrk(text, "/\\") != NULL)
      return request_refuse(why, p, false, "%s has a slash or backslash in it", p->name);
  }
  if (characters < p->min_length)
    return request_refuse(why, p, false, "%s is shorter than %d characters", p->name,
                          p->min_length);
  if (p->max_length != 0 && characters > p->max_length)
    return request_refuse(why, p, false, "%s is longer than %d characters", p->name,
                          p->max_length);
  if (p->pattern != NULL) {
    bool matches = regexec(request_push_pattern(L, p->pattern), text, 0, NULL, 0) == 0;
    lua_pop(L, 1);
    if (!matches)
      return request_refuse(why, p, false, "%s does not match %s", p->name,
                            p->pattern->documented);
  }
  return true;
}

/* [-0, +1] Pushes the value of a parameter, checked, or nil where it may be left out. */
static bool request_take (lua_State *L, const struct parameter *p, struct refusal *why) {
  int got = request_push_value(L, p->name);
  if (got == LUA_TNIL)
    return !p->required ||
           request_refuse(why, p, true, "missing required parameter '%s'", p->name);
  if (!request_has_type(L, -1, p->type))
    return request_refuse(why, p, true, "parameter '%s' must be %s, got %s", p->name,
                          request_type_name(p->type),
                          json_is_null(L, -1) ? "null" : luaL_typename(L, -1));
  return p->type != STRING || request_check_string(L, -1, p, why);
}

/* [-0, +0] Appends the value at the top, percent-encoded; a secret is noted or hidden. */
static void request_encode (lua_State *L, struct request *r, struct buffer *out,
                            const struct parameter *p) {
  size_t length = 0;
  char number[JSON_NUMBER];
  const char *text = number;
  bool secret = p->secret || secret_test(L, -1, &length) != NULL;
  if (lua_type(L, -1) == LUA_TBOOLEAN)
    length = (size_t)snprintf(number, sizeof number, lua_toboolean(L, -1) ? "true" : "false");
  else if (lua_type(L, -1) == LUA_TNUMBER)
    length = json_format_number(L, -1, number) ? strlen(number) : 0;
  else
    text = secret_tolstring(L, -1, &length);
  if (secret && r->shown) {
    buffer_append_string(out, SECRET_SHOWN);
    return;
  }
  size_t start = out->length;
  buffer_append_encoded(out, text, length);
  if (!secret || out->failed) return;
  secret_note(&r->secrets, text, length);
  if (out->length - start != length)
    secret_note(&r->secrets, out->data + start, out->length - start);
}

/* [-0, +0] Expands the path of the operation behind the client's endpoint. */
static bool request_build_path (lua_State *L, struct request *r, struct refusal *why) {
  const char *from = r->operation->path, *brace;
  while ((brace = strchr(from, '{')) != NULL) {
    size_t length = strcspn(brace + 1, "}");
    buffer_append(&r->url, from, (size_t)(brace - from));
    for (const struct parameter *const *p = r->operation->parameters; *p != NULL; p++) {
      if ((*p)->place != IN_PATH || strlen((*p)->wire) != length ||
          strncmp((*p)->wire, brace + 1, length) != 0)
        continue;
      if (!request_take(L, *p, why)) return false;
      request_encode(L, r, &r->url, *p);
      lua_pop(L, 1);
    }
    from = brace + 1 + length + 1;
  }
  buffer_append_string(&r->url, from);
  return true;
}

/* A writer of JSON that knows what is secret in the service's bodies. */
static struct json_writer request_writer (struct request *r, struct buffer *out) {
  return (struct json_writer){.out = out,
                              .secrets = &r->secrets,
                              .secret_names = r->service->secret_properties,
                              .secret_object = r->service->secret_object,
                              .mask = r->service->mask,
                              .shown = r->shown};
}

/* [-1, +1] Replaces an object at the top by its JSON text. */
static bool request_spell_object (lua_State *L, struct request *r, const struct parameter *p,
                                  struct refusal *why) {
  struct buffer *text = json_push_buffer(L);
  struct json_writer w = request_writer(r, text);
  if (!json_write(L, -2, &w))
    return request_refuse(why, p, w.misuse, "%s%s %s", p->name, w.where, w.problem);
  if (text->failed) luaL_error(L, "not enough memory");
  lua_pushlstring(L, text->data, text->length);
  lua_replace(L, -3);
  lua_pop(L, 1);
  return true;
}

/*
 * [-0, +0] Appends the fixed pairs, which may be NULL, and name=value for each parameter in
 * that place; the first of all gets `separator`.
 */
static bool request_build_pairs (lua_State *L, struct request *r, enum place place,
                                 struct buffer *out, char separator, const char *fixed,
                                 struct refusal *why) {
  if (fixed != NULL) {
    if (separator != '\0') buffer_append_char(out, separator);
    buffer_append_string(out, fixed);
    separator = '&';
  }
  for (const struct parameter *const *p = r->operation->parameters; *p != NULL; p++) {
    if ((*p)->place != place) continue;
    if (!request_take(L, *p, why)) return false;
    if (lua_istable(L, -1) && !request_spell_object(L, r, *p, why)) return false;
    if (!lua_isnil(L, -1)) {
      if (separator != '\0') buffer_append_char(out, separator);
      buffer_append_encoded(out, (*p)->wire, strlen((*p)->wire));
      buffer_append_char(out, '=');
      request_encode(L, r, out, *p);
      separator = '&';
    }
    lua_pop(L, 1);
  }
  return true;
}

/* Whether the line is the header of that name. */
static bool request_is_header (const char *line, const char *name) {
  size_t length = strlen(name);
  return strncasecmp(line, name, length) == 0 && strchr(":;", line[length]) != NULL;
}

static bool request_has_header (const struct request *r, const char *name) {
  for (size_t at = 0; at < r->headers.length; at += strlen(r->headers.data + at) + 1)
    if (request_is_header(r->headers.data + at, name)) return true;
  return false;
}

/* Appends a header; an empty one needs a semicolon, or libcurl would leave it out. */
static void request_add_header (struct request *r, const char *name, const char *value,
                                size_t length) {
  buffer_append_string(&r->headers, name);
  if (length == 0) {
    buffer_append(&r->headers, ";", 2);
    return;
  }
  buffer_append_string(&r->headers, ": ");
  buffer_append(&r->headers, value, length);
  buffer_append_char(&r->headers, '\0');
}

/* Whether a caller may set the header: the others are the client's business, or framing. */
static bool request_may_set (const char *name, size_t length) {
  static const char *const own[] = {"authorization",   "connection",       "content-length",
                                    "content-type",    "expect",           "host",
                                    "accept-encoding", "transfer-encoding"};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    if (strcasecmp(name, own[i]) == 0) return false;
  for (size_t i = 0; i < length; i++)
    if (!isalnum((unsigned char)name[i]) && strchr("!#$%&'*+-.^_`|~", name[i]) == NULL)
      return false;
  return length > 0 && strlen(name) == length;
}

/* [-0, +0] Adds one header of the caller's, the value at the top. */
static bool request_build_header (lua_State *L, struct request *r, const char *name,
                                  struct refusal *why) {
  size_t length, hidden;
  const char *value = secret_tolstring(L, -1, &length);
  if (value == NULL)
    return request_refuse(why, NULL, true, "header '%s' must be a string, got %s", name,
                          luaL_typename(L, -1));
  if (request_has_header(r, name))
    return request_refuse(why, NULL, true, "header '%s' is given twice", name);
  if (!json_valid_utf8(value, length, &hidden))
    return request_refuse(why, NULL, false, "header '%s' is not valid UTF-8", name);
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
      return request_refuse(why, NULL, false, "header '%s' has a control character in it",
                            name);
  bool secret = secret_test(L, -1, &hidden) != NULL;
  if (secret && !r->shown) secret_note(&r->secrets, value, length);
  if (secret && r->shown)
    request_add_header(r, name, SECRET_SHOWN, strlen(SECRET_SHOWN));
  else
    request_add_header(r, name, value, length);
  return true;
}

/* Adds what the request makes necessary; a name with nothing behind it unsets a header. */
static void request_finish_headers (struct request *r) {
  static const char json[] = "application/json";
  if (!request_has_header(r, "Accept")) request_add_header(r, "Accept", json, strlen(json));
  if (r->service->client_request_id_header != NULL &&
      request_has_header(r, r->service->client_request_id_header))
    r->client_request_id[0] = '\0'; /* the caller's own stands, on every page too */
  if (r->client_request_id[0] != '\0')
    request_add_header(r, r->service->client_request_id_header, r->client_request_id,
                       strlen(r->client_request_id));
  if (r->content_type != NULL) {
    request_add_header(r, "Content-Type", r->content_type, strlen(r->content_type));
    buffer_append(&r->headers, "Expect:", 8);
  } else {
    buffer_append(&r->headers, "Content-Type:", 14);
  }
}

/* [-0, +0] The headers of the caller's options, then the operation's own. */
static bool request_build_headers (lua_State *L, struct request *r, struct refusal *why) {
  int count = 0;
  if (lua_istable(L, ARG_HEADERS)) {
    lua_pushnil(L);
    while (lua_next(L, ARG_HEADERS) != 0) {
      size_t length = 0;
      const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &length) : "";
      if (!request_may_set(name, length))
        return request_refuse(why, NULL, true, "header '%s' can't be set", name);
      if (++count > MAX_CALLER_HEADERS)
        return request_refuse(why, NULL, true, "more than %d headers", MAX_CALLER_HEADERS);
      if (!request_build_header(L, r, name, why)) return false;
      lua_pop(L, 1);
    }
  }
  if (r->operation->header != NULL)
    buffer_append(&r->headers, r->operation->header, strlen(r->operation->header) + 1);
  for (const struct parameter *const *p = r->operation->parameters; *p != NULL; p++) {
    if ((*p)->place != IN_HEADER) continue;
    if (!request_take(L, *p, why)) return false;
    if (!lua_isnil(L, -1) && !request_build_header(L, r, (*p)->wire, why)) return false;
    lua_pop(L, 1);
  }
  return true;
}

/*
 * [-0, +0] Checks the table at index against the documented properties of an object. What is
 * not documented is let through: services grow faster than documents.
 */
static bool request_check_object (lua_State *L, int index, const struct property *properties,
                                  const struct parameter *p, const char *path,
                                  struct refusal *why) {
  luaL_checkstack(L, 4, "body nested too deeply");
  for (; properties != NULL && properties->name != NULL; properties++) {
    char where[160];
    snprintf(where, sizeof where, "%s.%s", path, properties->name);
    lua_pushstring(L, properties->name);
    lua_rawget(L, index);
    int got = lua_type(L, -1);
    if (got == LUA_TNIL && properties->required)
      return request_refuse(why, p, false, "%s is missing", where);
    bool given = got != LUA_TNIL && !json_is_null(L, -1);
    if (given && !request_has_type(L, -1, properties->type))
      return request_refuse(why, p, false, "%s must be %s, got %s", where,
                            request_type_name(properties->type), luaL_typename(L, -1));
    if (given && properties->has_minimum &&
        lua_tonumber(L, -1) < (lua_Number)properties->minimum)
      return request_refuse(why, p, false, "%s is less than %ld", where, properties->minimum);
    if (given && properties->type == OBJECT &&
        !request_check_object(L, lua_gettop(L), properties->properties, p, where, why))
      return false;
    lua_pop(L, 1);
  }
  return true;
}

/* What the IN_FIELD parameters are as properties of an object, ended by a NULL name. */
static void request_read_fields (const struct operation *operation,
                                 struct property fields[MAX_FIELDS + 1]) {
  size_t count = 0;
  for (const struct parameter *const *p = operation->parameters; *p != NULL; p++)
    if ((*p)->place == IN_FIELD && count < MAX_FIELDS)
      fields[count++] = (struct property){
          .name = (*p)->wire, .type = (*p)->type, .properties = (*p)->properties};
  fields[count].name = NULL;
}

/*
 * [-0, +0] Writes the JSON body whose properties are parameters, if any is given, under the
 * operation's wrapper.
 */
static bool request_build_fields (lua_State *L, struct request *r, struct refusal *why) {
  struct property fields[MAX_FIELDS + 1];
  struct property schema = {.type = OBJECT, .properties = fields};
  struct json_writer w = request_writer(r, &r->body);
  bool given = false;
  request_read_fields(r->operation, fields);
  w.schema = &schema;
  lua_newtable(L);
  for (const struct parameter *const *p = r->operation->parameters; *p != NULL; p++) {
    if ((*p)->place != IN_FIELD) continue;
    if (!request_take(L, *p, why)) return false;
    if (lua_istable(L, -1) &&
        !request_check_object(L, lua_gettop(L), (*p)->properties, *p, (*p)->name, why))
      return false;
    given = given || !lua_isnil(L, -1);
    lua_setfield(L, -2, (*p)->wire);
  }
  if (!given) {
    lua_pop(L, 1);
    return true;
  }
  const char *wrapper = r->operation->wrapper;
  if (wrapper != NULL) {
    buffer_append_string(&r->body, "{\"");
    buffer_append_string(&r->body, wrapper);
    buffer_append_string(&r->body, "\":");
  }
  if (!json_write(L, -1, &w))
    return request_refuse(why, NULL, w.misuse, "%s %s", w.where + (w.where[0] == '.'),
                          w.problem);
  if (wrapper != NULL) buffer_append_char(&r->body, '}');
  r->content_type = "application/json";
  lua_pop(L, 1);
  return true;
}

/* [-0, +0] Writes the JSON body, if the operation has one and it is given. */
static bool request_build_json (lua_State *L, struct request *r, struct refusal *why) {
  for (const struct parameter *const *p = r->operation->parameters; *p != NULL; p++) {
    if ((*p)->place != IN_BODY) continue;
    if (!request_take(L, *p, why)) return false;
    if (!lua_isnil(L, -1)) {
      const struct property schema = {.type = (*p)->type, .properties = (*p)->properties};
      struct json_writer w = request_writer(r, &r->body);
      w.schema = &schema;
      if ((*p)->type == OBJECT &&
          !request_check_object(L, lua_gettop(L), (*p)->properties, *p, (*p)->name, why))
        return false;
      if (!json_write(L, -1, &w))
        return request_refuse(why, *p, w.misuse, "%s%s %s", (*p)->name, w.where, w.problem);
      r->content_type = "application/json";
    }
    lua_pop(L, 1);
  }
  return true;
}

/* [-0, +0] Writes the form body, if the operation has one. */
static bool request_build_form (lua_State *L, struct request *r, struct refusal *why) {
  if (!request_build_pairs(L, r, IN_FORM, &r->body, '\0', r->operation->form, why))
    return false;
  if (r->content_type == NULL && r->body.length > 0)
    r->content_type = "application/x-www-form-urlencoded";
  return true;
}

/* [-0, +0] Refuses a name that is none of the operation's parameters. */
static bool request_check_names (lua_State *L, const struct operation *operation,
                                 struct refusal *why) {
  if (lua_isnil(L, ARG_PARAMETERS)) return true;
  lua_pushnil(L);
  while (lua_next(L, ARG_PARAMETERS) != 0) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    const struct parameter *const *p = operation->parameters;
    while (*p != NULL && (name == NULL || strcmp((*p)->name, name) != 0))
      p++;
    if (*p == NULL) {
      if (name == NULL) name = luaL_typename(L, -2);
      request_refuse(why, NULL, true, "unknown parameter '%.64s'", name);
      why->mistake = "unknown";
      why->parameter = name;
      return false;
    }
    lua_pop(L, 1);
  }
  return true;
}

/* [-0, +4] Returns nil, the reason, the name of the parameter or nil, the mistake or nil. */
static int request_push_refusal (lua_State *L, const struct refusal *why) {
  lua_pushnil(L);
  lua_pushstring(L, why->text);
  lua_pushstring(L, why->parameter);
  lua_pushstring(L, why->mistake);
  return 4;
}

/* [-0, +0] Raises if a part of the request did not fit into memory. */
static int request_check_memory (lua_State *L, const struct request *r) {
  if (r->url.failed || r->headers.failed || r->body.failed || r->secrets.failed)
    return luaL_error(L, "not enough memory");
  return 1;
}

/*
 * What is registered for each operation, over its descriptor:
 *   operation(transport, parameters?, defaults?, headers?, shown?) -> request
 *     | nil, reason, parameter?, mistake?
 * `defaults` stand in for parameters that are not given, and may have others; `headers` are the
 * caller's additional ones; with `shown` secrets are replaced and the request can't be sent.
 */
static int request_prepare (lua_State *L) {
  const struct service *service = operation_service(lua_tostring(L, lua_upvalueindex(1)));
  const struct operation *operation =
      &service->operations[lua_tointeger(L, lua_upvalueindex(2))];
  struct refusal why;
  lua_settop(L, ARG_COUNT);
  const struct transport *t = transport_check(L, ARG_TRANSPORT);
  if (!lua_isnil(L, ARG_PARAMETERS)) luaL_checktype(L, ARG_PARAMETERS, LUA_TTABLE);
  struct request *r = request_new(L, service, operation);
  r->shown = lua_toboolean(L, ARG_SHOWN);
  request_identify(L, r);
  buffer_append_string(&r->url, t->endpoint);
  bool built = request_check_names(L, operation, &why) && request_build_path(L, r, &why) &&
               request_build_pairs(L, r, IN_QUERY, &r->url, '?', operation->query, &why) &&
               request_build_headers(L, r, &why) && request_build_json(L, r, &why) &&
               request_build_fields(L, r, &why) && request_build_form(L, r, &why);
  if (!built) return request_push_refusal(L, &why);
  request_finish_headers(r);
  return request_check_memory(L, r);
}

/* operation(service, group, name) -> its function | nil */
int request_operation (lua_State *L) {
  const struct service *service = operation_service(luaL_checkstring(L, 1));
  const struct operation *operation =
      service == NULL ? NULL
                      : operation_find(service, luaL_checkstring(L, 2), luaL_checkstring(L, 3));
  if (operation == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushvalue(L, 1);
  lua_pushinteger(L, operation - service->operations);
  lua_pushcclosure(L, request_prepare, 2);
  return 1;
}

/*
 * [-0, +1] Pushes the GET of what a link leads to, without headers yet; pushes nil and returns
 * NULL if it leads to another origin than the client's.
 */
static struct request *request_new_link (lua_State *L, const struct service *service,
                                         const struct operation *operation,
                                         const struct transport *t, const char *link,
                                         size_t length) {
  struct request *r = request_new(L, service, operation);
  const char *url = transport_link(L, t, link, length);
  if (url == NULL) {
    lua_pushnil(L);
    return NULL;
  }
  buffer_append_string(&r->url, url);
  lua_pop(L, 1);
  r->method = "GET";
  request_identify(L, r);
  return r;
}

/*
 * request:follow(transport, link) -> the request for what a link in the answer leads to: a GET
 * with the same headers | nil if it leads to another origin than the client's
 */
static int request_follow (lua_State *L) {
  size_t length;
  const struct request *first = request_check(L, 1);
  const struct transport *t = transport_check(L, 2);
  const char *link = luaL_checklstring(L, 3, &length);
  struct request *r = request_new_link(L, first->service, first->operation, t, link, length);
  if (r == NULL) return 1;
  const char *id =
      first->client_request_id[0] != '\0' ? r->service->client_request_id_header : NULL;
  for (size_t at = 0, next; at < first->headers.length; at = next) {
    const char *line = first->headers.data + at;
    next = at + strlen(line) + 1;
    if (request_is_header(line, "Content-Type") || request_is_header(line, "Expect") ||
        (id != NULL && request_is_header(line, id)))
      continue;
    buffer_append(&r->headers, line, next - at);
  }
  buffer_append(&r->secrets, first->secrets.data, first->secrets.length);
  request_finish_headers(r);
  return request_check_memory(L, r);
}

/* [-0, +0] Sets a field of the description, secrets taken out. */
static void request_show (lua_State *L, const struct request *r, const char *name,
                          const char *text, size_t length) {
  secret_push_redacted(L, &r->secrets, text, length, length);
  lua_setfield(L, -2, name);
}

/*
 * link(service, group, name, transport, url) -> the request for what a link of that operation's
 * answer leads to, in a process that does not have its request | nil if it leads to another
 * origin
 */
int request_link (lua_State *L) {
  size_t length;
  const struct service *service = operation_service(luaL_checkstring(L, 1));
  luaL_argcheck(L, service != NULL, 1, "no such service");
  const struct operation *operation =
      operation_find(service, luaL_checkstring(L, 2), luaL_checkstring(L, 3));
  luaL_argcheck(L, operation != NULL, 3, "no such operation");
  const struct transport *t = transport_check(L, 4);
  const char *link = luaL_checklstring(L, 5, &length);
  struct request *r = request_new_link(L, service, operation, t, link, length);
  if (r == NULL) return 1;
  request_finish_headers(r);
  return request_check_memory(L, r);
}

/* request:describe() -> {service, operation, method, url, headers, body}, without secrets */
static int request_describe (lua_State *L) {
  const struct request *r = request_check(L, 1);
  lua_settop(L, 1);
  lua_createtable(L, 0, 6);
  lua_pushlstring(L, r->service->name, strcspn(r->service->name, "/"));
  lua_setfield(L, 2, "service");
  lua_pushfstring(L, "%s:%s", r->operation->group, r->operation->name);
  lua_setfield(L, 2, "operation");
  lua_pushstring(L, r->method);
  lua_setfield(L, 2, "method");
  request_show(L, r, "url", r->url.data, r->url.length);
  if (r->content_type != NULL) request_show(L, r, "body", r->body.data, r->body.length);
  lua_newtable(L);
  for (size_t at = 0; at < r->headers.length; at += strlen(r->headers.data + at) + 1) {
    const char *line = r->headers.data + at;
    char name[128] = "";
    size_t length = strcspn(line, ":;");
    if (length >= sizeof name || strcmp(line + length, ":") == 0) continue;
    memcpy(name, line, length);
    const char *value = line[length] == ':' ? line + length + 2 : "";
    request_show(L, r, name, value, strlen(value));
  }
  lua_setfield(L, 2, "headers");
  return 1;
}

/* request:is_safe() -> whether it may be sent again in any case */
static int request_lua_is_safe (lua_State *L) {
  lua_pushboolean(L, request_is_safe(request_check(L, 1)));
  return 1;
}

/* request:is_pageable() -> whether the answer is a page of a list */
static int request_is_pageable (lua_State *L) {
  lua_pushboolean(L, (request_check(L, 1)->operation->flags & PAGEABLE) != 0);
  return 1;
}

/* request:is_long_running() -> whether the answer may come before the work is done */
static int request_is_long_running (lua_State *L) {
  lua_pushboolean(L, (request_check(L, 1)->operation->flags & LONG_RUNNING) != 0);
  return 1;
}

/* request:target() -> method, URL without secrets */
static int request_target (lua_State *L) {
  const struct request *r = request_check(L, 1);
  lua_pushstring(L, r->method);
  secret_push_redacted(L, &r->secrets, r->url.data, r->url.length, r->url.length);
  return 2;
}

/* request:note(secret) Remembers a secret that goes with the request in another spelling. */
static int request_note (lua_State *L) {
  size_t length;
  struct request *r = request_check(L, 1);
  const char *bytes = secret_tolstring(L, 2, &length);
  luaL_argcheck(L, bytes != NULL, 2, "a string or a secret expected");
  request_note_secret(r, bytes, length);
  return request_check_memory(L, r) - 1;
}

/* request:redact(value) -> what a service says, in a copy without the request's secrets */
static int request_redact (lua_State *L) {
  const struct request *r = request_check(L, 1);
  lua_settop(L, 2);
  response_redact(L, &r->secrets);
  return 1;
}

/* request:name() -> group:name of its operation */
static int request_name (lua_State *L) {
  const struct request *r = request_check(L, 1);
  lua_pushfstring(L, "%s:%s", r->operation->group, r->operation->name);
  return 1;
}

/* request:paging() -> the names of the properties that hold the items and the next link */
static int request_paging (lua_State *L) {
  const struct request *r = request_check(L, 1);
  lua_pushstring(L, r->operation->items);
  lua_pushstring(L, r->operation->next_link);
  return 2;
}

static int request__gc (lua_State *L) {
  struct request *r = request_check(L, 1);
  buffer_free(&r->url);
  buffer_free(&r->headers);
  buffer_free(&r->body);
  buffer_free(&r->secrets);
  return 0;
}

static const luaL_Reg request_functions[] = {
    {"follow", request_follow},
    {"describe", request_describe},
    {"name", request_name},
    {"note", request_note},
    {"redact", request_redact},
    {"target", request_target},
    {"is_safe", request_lua_is_safe},
    {"is_pageable", request_is_pageable},
    {"is_long_running", request_is_long_running},
    {"paging", request_paging},
    {"__gc", request__gc},
    {NULL, NULL},
};

void request_register (lua_State *L) {
  static const luaL_Reg compiled_events[] = {{"__gc", compiled__gc}, {NULL, NULL}};
  compat_newclass(L, REQUEST, request_functions);
  compat_newclass(L, PATTERN, compiled_events);
  lua_newtable(L);
  lua_setfield(L, LUA_REGISTRYINDEX, PATTERNS);
}
