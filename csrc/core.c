#include "compat.h"
#include "engine.h"
#include "json.h"
#include "operation.h"
#include "request.h"
#include "response.h"
#include "secret.h"
#include "transport.h"

#include <curl/curl.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLOUDSYNC_VERSION "0.1.0"

static void core_set_string (lua_State *L, const char *name, const char *value) {
  if (value == NULL) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

static void core_set_boolean (lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

/* [-0, +1] Pushes what is documented of a parameter. */
static void core_push_parameter (lua_State *L, const struct parameter *p) {
  static const char *const places[] = {"path", "query", "header", "body", "field", "form"};
  static const char *const types[] = {"any",     "string", "integer", "number",
                                      "boolean", "object", "array"};
  lua_createtable(L, 0, 8);
  core_set_string(L, "name", p->name);
  core_set_string(L, "wire", p->wire);
  core_set_string(L, "place", places[p->place]);
  core_set_string(L, "type", types[p->type]);
  core_set_boolean(L, "required", p->required);
  core_set_boolean(L, "secret", p->secret);
  if (p->pattern != NULL) core_set_string(L, "pattern", p->pattern->documented);
  if (p->min_length > 0) {
    lua_pushinteger(L, p->min_length);
    lua_setfield(L, -2, "min_length");
  }
  if (p->max_length > 0) {
    lua_pushinteger(L, p->max_length);
    lua_setfield(L, -2, "max_length");
  }
}

/* [-0, +1] Pushes what is documented of an operation. */
static void core_push_operation (lua_State *L, const struct operation *o) {
  lua_createtable(L, 0, 14);
  core_set_string(L, "id", o->id);
  core_set_string(L, "group", o->group);
  core_set_string(L, "name", o->name);
  core_set_string(L, "method", o->method);
  core_set_string(L, "path", o->path);
  core_set_string(L, "query", o->query);
  core_set_string(L, "summary", o->summary);
  core_set_string(L, "items", o->items);
  core_set_string(L, "next_link", o->next_link);
  core_set_boolean(L, "safe", (o->flags & SAFE) != 0);
  core_set_boolean(L, "pageable", (o->flags & PAGEABLE) != 0);
  core_set_boolean(L, "long_running", (o->flags & LONG_RUNNING) != 0);
  lua_newtable(L);
  for (int i = 0; o->success[i] != 0; i++) {
    lua_pushinteger(L, o->success[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "success");
  lua_newtable(L);
  for (int i = 0; o->parameters[i] != NULL; i++) {
    core_push_parameter(L, o->parameters[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "parameters");
}

/* operations(service) -> a list that describes each operation of the service */
static int core_operations (lua_State *L) {
  const struct service *service = operation_service(luaL_checkstring(L, 1));
  luaL_argcheck(L, service != NULL, 1, "no such service");
  lua_createtable(L, (int)service->noperations, 0);
  for (size_t i = 0; i < service->noperations; i++) {
    core_push_operation(L, &service->operations[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* request_id_header(service) -> the header that holds the identifier of a request, or nil */
static int core_request_id_header (lua_State *L) {
  const struct service *service = operation_service(luaL_checkstring(L, 1));
  luaL_argcheck(L, service != NULL, 1, "no such service");
  lua_pushstring(L, service->request_id_header);
  return 1;
}

/* has_group(service, group) -> whether the service has operations in that group */
static int core_has_group (lua_State *L) {
  const struct service *service = operation_service(luaL_checkstring(L, 1));
  const char *group = luaL_checkstring(L, 2);
  bool has = false;
  for (size_t i = 0; service != NULL && !has && i < service->noperations; i++)
    has = strcmp(service->operations[i].group, group) == 0;
  lua_pushboolean(L, has);
  return 1;
}

/* now() -> seconds on a clock that is never set */
static int core_now (lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
  return 1;
}

/* random() -> a number in [0, 1) that no other process draws too, unlike Lua's own */
static int core_random (lua_State *L) {
  uint32_t bits;
  if (getentropy(&bits, sizeof bits) != 0)
    return luaL_error(L, "the system gives no random bytes");
  lua_pushnumber(L, bits / 4294967296.0);
  return 1;
}

/* is_token(value) -> whether it is a string or a secret that can be sent as a token */
static int core_is_token (lua_State *L) {
  size_t length;
  const char *bytes = secret_tolstring(L, 1, &length);
  lua_pushboolean(L, bytes != NULL && secret_is_token(bytes, length));
  return 1;
}

/* is_yieldable() -> whether the code that calls can yield; nginx hides coroutine.isyieldable */
static int core_is_yieldable (lua_State *L) {
  lua_pushboolean(L, lua_isyieldable(L));
  return 1;
}

/* is_main_thread() -> whether the code that calls is in no coroutine */
static int core_is_main_thread (lua_State *L) {
  lua_pushboolean(L, lua_pushthread(L));
  return 1;
}

/* parse_date(text) -> seconds since 1970 of an HTTP date (RFC 9110), or nil */
static int core_parse_date (lua_State *L) {
  time_t date = curl_getdate(luaL_checkstring(L, 1), NULL);
  if (date == (time_t)-1)
    lua_pushnil(L);
  else
    lua_pushnumber(L, (lua_Number)date);
  return 1;
}

static const luaL_Reg core_functions[] = {
    {"operation", request_operation},
    {"link", request_link},
    {"operations", core_operations},
    {"request_id_header", core_request_id_header},
    {"has_group", core_has_group},
    {"transport", transport_new},
    {"engine", engine_get},
    {"interpret", response_interpret},
    {"secret", secret_new},
    {"basic", secret_basic},
    {"now", core_now},
    {"random", core_random},
    {"is_token", core_is_token},
    {"is_yieldable", core_is_yieldable},
    {"is_main_thread", core_is_main_thread},
    {"parse_date", core_parse_date},
    {NULL, NULL},
};

__attribute__((visibility("default"))) int luaopen_cloudsync_core (lua_State *L);

/* require "cloudsync.core" */
int luaopen_cloudsync_core (lua_State *L) {
  secret_register(L);
  json_register(L);
  transport_register(L);
  request_register(L);
  engine_register(L);
  lua_newtable(L);
  luaL_setfuncs(L, core_functions, 0);
  luaL_setfuncs(L, json_functions, 0);
  json_push_null(L);
  lua_setfield(L, -2, "null");
  core_set_string(L, "version", CLOUDSYNC_VERSION);
  return 1;
}
