/* JSON: a native writer, and a reader that stands on lua-cjson. */
#ifndef CLOUDSYNC_JSON_H
#define CLOUDSYNC_JSON_H

#include "buffer.h"
#include "compat.h"
#include "operation.h"

#define JSON_MAX_DEPTH 1000
#define JSON_NUMBER    64 /* bytes that a number needs at the most */

/* How json_write writes, and after a failure what was wrong, and where. */
struct json_writer {
  struct buffer *out;
  struct buffer *secrets;          /* gets each secret that was written, ended by a NUL */
  const char *const *secret_names; /* properties whose strings are secrets, ended by NULL */
  const struct property *schema;   /* what is documented of the value; NULL: nothing */
  const char *secret_object;       /* a property in which all is secret, or NULL */
  const char *mask;                /* how a secret begins that is no longer one, or NULL */
  bool in_secret_object;
  bool shown;      /* write <secret> in place of each secret */
  bool misuse;     /* failed on a type that JSON does not have */
  char where[160]; /* path of the value at fault: .policy.tags[3] */
  char problem[80];
};

bool json_write (lua_State *L, int index, struct json_writer *w);
bool json_read (lua_State *L, const char *bytes, size_t length);
bool json_format_number (lua_State *L, int index, char text[JSON_NUMBER]);
bool json_valid_utf8 (const char *bytes, size_t length, size_t *at);

struct buffer *json_push_buffer (lua_State *L);
int json_array (lua_State *L);
void json_push_null (lua_State *L);
bool json_is_null (lua_State *L, int index);
void json_register (lua_State *L);

extern const luaL_Reg json_functions[];

#endif
