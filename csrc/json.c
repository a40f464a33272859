#include "json.h"
#include "secret.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY  "cloudsync.array"
#define READER "cloudsync.json.reader"
#define BUFFER "cloudsync.json.buffer"

/* The sentinel is lua-cjson's own, so that values of either library can be mixed. */
void json_push_null (lua_State *L) {
  lua_pushlightuserdata(L, NULL);
}

bool json_is_null (lua_State *L, int index) {
  return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == NULL;
}

/* [-0, +1] array(t) -> t, marked so that it is written as [] also when it is empty. */
int json_array (lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, ARRAY);
  return 1;
}

/* Whether the table at index is marked as an array. */
static bool json_is_array (lua_State *L, int index) {
  if (!lua_getmetatable(L, index)) return false;
  luaL_getmetatable(L, ARRAY);
  bool is = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is;
}

/* The length of the well-formed UTF-8 sequence (RFC 3629) at p, or 0. */
static size_t json_utf8_sequence (const unsigned char *p, size_t left) {
  static const struct {
    unsigned char first, last, low, high;
    size_t length;
  } forms[] = {
      {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
      {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
      {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
  };
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    if (p[0] < forms[i].first || p[0] > forms[i].last) continue;
    if (forms[i].length > left) return 0;
    if (forms[i].length > 1 && (p[1] < forms[i].low || p[1] > forms[i].high)) return 0;
    for (size_t k = 2; k < forms[i].length; k++)
      if ((p[k] & 0xc0) != 0x80) return 0;
    return forms[i].length;
  }
  return 0;
}

/* Whether the bytes are UTF-8; if not, `at` is the offset of the first byte that is not. */
bool json_valid_utf8 (const char *bytes, size_t length, size_t *at) {
  size_t i = 0;
  while (i < length) {
    unsigned long long eight;
    if (length - i >= sizeof eight) {
      memcpy(&eight, bytes + i, sizeof eight);
      if ((eight & 0x8080808080808080ULL) == 0) {
        i += sizeof eight;
        continue;
      }
    }
    size_t step = json_utf8_sequence((const unsigned char *)bytes + i, length - i);
    if (step == 0) {
      *at = i;
      return false;
    }
    i += step;
  }
  return true;
}

/* Remembers a secret, so that it can be found, and taken out, in what a server says. */
void json_note_secret (struct buffer *secrets, const char *bytes, size_t length) {
  if (secrets == NULL || length == 0 || memchr(bytes, '\0', length) != NULL) return;
  buffer_append(secrets, bytes, length);
  buffer_append_char(secrets, '\0');
}

/* Notes what is wrong with the value at hand; its path is added as the recursion unwinds. */
static bool json_fail (struct json_writer *w, const char *problem) {
  snprintf(w->problem, sizeof w->problem, "%s", problem);
  return false;
}

/* Puts one step in front of the path of the value at fault. */
static bool json_fail_in (struct json_writer *w, const char *step) {
  size_t length = strlen(step), rest = strlen(w->where);
  if (rest > sizeof w->where - length - 1) rest = sizeof w->where - length - 1;
  memmove(w->where + length, w->where, rest);
  memcpy(w->where, step, length);
  w->where[length + rest] = '\0';
  return false;
}

static bool json_write_string (struct json_writer *w, const char *bytes, size_t length) {
  static const char names[] = "\b\t\n\f\r\"\\";
  static const char letters[] = "btnfr\"\\";
  size_t at;
  if (!json_valid_utf8(bytes, length, &at)) return json_fail(w, "is not valid UTF-8");
  buffer_append_char(w->out, '"');
  size_t from = 0;
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    buffer_append(w->out, bytes + from, i - from);
    from = i + 1;
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    char escape[8];
    if (name != NULL)
      snprintf(escape, sizeof escape, "\\%c", letters[name - names]);
    else
      snprintf(escape, sizeof escape, "\\u%04x", c);
    buffer_append_string(w->out, escape);
  }
  buffer_append(w->out, bytes + from, length - from);
  buffer_append_char(w->out, '"');
  return true;
}

/* A secret is noted both as it is and as JSON spells it. */
static bool json_write_secret (struct json_writer *w, const char *bytes, size_t length) {
  if (w->shown) return json_write_string(w, SECRET_SHOWN, sizeof SECRET_SHOWN - 1);
  size_t start = w->out->length + 1;
  if (!json_write_string(w, bytes, length)) return false;
  json_note_secret(w->secrets, bytes, length);
  if (!w->out->failed && w->out->length - start - 1 != length)
    json_note_secret(w->secrets, w->out->data + start, w->out->length - start - 1);
  return true;
}

/* Integers in full, other numbers in the shortest form that reads back as the same. */
static bool json_write_number (lua_State *L, int index, struct json_writer *w) {
  char text[64];
  if (lua_isinteger(L, index)) {
    snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(L, index));
    buffer_append_string(w->out, text);
    return true;
  }
  double number = (double)lua_tonumber(L, index);
  if (!isfinite(number)) return json_fail(w, "is not a finite number");
  if (number >= -1e18 && number <= 1e18 && floor(number) >= number) {
    snprintf(text, sizeof text, "%.0f", number);
    buffer_append_string(w->out, strcmp(text, "-0") == 0 ? "0" : text);
    return true;
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, number);
    double back = strtod(text, NULL);
    if (back >= number && back <= number) break;
  }
  char *comma = strchr(text, ','); /* the host may have set a locale */
  if (comma != NULL) *comma = '.';
  buffer_append_string(w->out, text);
  return true;
}

static bool json_write_value (lua_State *L, int index, struct json_writer *w, int depth);

static bool json_write_array (lua_State *L, int index, struct json_writer *w, int depth) {
  size_t count = lua_rawlen(L, index);
  buffer_append_char(w->out, '[');
  for (size_t i = 1; i <= count; i++) {
    if (i > 1) buffer_append_char(w->out, ',');
    lua_rawgeti(L, index, (int)i);
    if (!json_write_value(L, lua_gettop(L), w, depth)) {
      char step[32];
      snprintf(step, sizeof step, "[%zu]", i);
      return json_fail_in(w, step);
    }
    lua_pop(L, 1);
  }
  buffer_append_char(w->out, ']');
  return true;
}

struct json_key {
  const char *bytes;
  size_t length;
};

static int json_compare_keys (const void *a, const void *b) {
  const struct json_key *x = a, *y = b;
  int order = memcmp(x->bytes, y->bytes, x->length < y->length ? x->length : y->length);
  return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

/* [-0, +1] Pushes a block with the sorted keys of the table, which keeps the strings alive. */
static struct json_key *json_sorted_keys (lua_State *L, int index, size_t count) {
  struct json_key *keys = lua_newuserdatauv(L, count * sizeof *keys + 1, 0);
  size_t i = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    keys[i].bytes = lua_tolstring(L, -1, &keys[i].length);
    i++;
  }
  qsort(keys, count, sizeof *keys, json_compare_keys);
  return keys;
}

static bool json_is_secret_name (const struct json_writer *w, const char *name) {
  if (w->secret_names != NULL)
    for (const char *const *known = w->secret_names; *known != NULL; known++)
      if (strcmp(*known, name) == 0) return true;
  return false;
}

/* Whether the object at index is a vendor's holder of a secret: {type = "SecureString", value}
 */
static bool json_is_secure_string (lua_State *L, int index) {
  lua_pushliteral(L, "type");
  lua_rawget(L, index);
  const char *type = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool is = strcmp(type, "SecureString") == 0;
  lua_pop(L, 1);
  return is;
}

static bool json_write_object (lua_State *L, int index, struct json_writer *w, int depth,
                               size_t count) {
  const struct json_key *keys = json_sorted_keys(L, index, count);
  bool secure = json_is_secure_string(L, index);
  buffer_append_char(w->out, '{');
  for (size_t i = 0; i < count; i++) {
    if (i > 0) buffer_append_char(w->out, ',');
    if (!json_write_string(w, keys[i].bytes, keys[i].length))
      return json_fail(w, "has a name that is not valid UTF-8");
    buffer_append_char(w->out, ':');
    lua_pushlstring(L, keys[i].bytes, keys[i].length);
    lua_rawget(L, index);
    bool secret =
        lua_type(L, -1) == LUA_TSTRING && ((secure && strcmp(keys[i].bytes, "value") == 0) ||
                                           json_is_secret_name(w, keys[i].bytes));
    bool written;
    if (secret) {
      size_t length;
      const char *bytes = lua_tolstring(L, -1, &length);
      written = json_write_secret(w, bytes, length);
    } else {
      written = json_write_value(L, lua_gettop(L), w, depth);
    }
    if (!written) {
      char step[64];
      snprintf(step, sizeof step, ".%.60s", keys[i].bytes);
      return json_fail_in(w, step);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  buffer_append_char(w->out, '}');
  return true;
}

/* Tells an array from an object by its keys alone, never by a metamethod. */
static bool json_write_table (lua_State *L, int index, struct json_writer *w, int depth) {
  size_t names = 0, positions = 0, count = lua_rawlen(L, index);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
      names++;
      continue;
    }
    double key = lua_type(L, -1) == LUA_TNUMBER ? (double)lua_tonumber(L, -1) : 0;
    if (key < 1 || key > (double)count || floor(key) < key) {
      lua_pop(L, 1);
      return json_fail(w, "has a key that is neither a name nor a position without gaps");
    }
    positions++;
  }
  if (names > 0 && positions > 0) return json_fail(w, "has both names and positions as keys");
  if (names > 0 && json_is_array(L, index))
    return json_fail(w, "is an array with names as keys");
  if (positions != count) return json_fail(w, "is an array with gaps");
  if (names == 0 && (positions > 0 || json_is_array(L, index)))
    return json_write_array(L, index, w, depth);
  return json_write_object(L, index, w, depth, names);
}

static bool json_write_value (lua_State *L, int index, struct json_writer *w, int depth) {
  size_t length;
  const char *bytes;
  if (depth > JSON_MAX_DEPTH) return json_fail(w, "is nested too deeply");
  if (!lua_checkstack(L, 8)) return json_fail(w, "is too large for the Lua stack");
  switch (lua_type(L, index)) {
  case LUA_TSTRING:
    bytes = lua_tolstring(L, index, &length);
    return json_write_string(w, bytes, length);
  case LUA_TNUMBER:
    return json_write_number(L, index, w);
  case LUA_TBOOLEAN:
    buffer_append_string(w->out, lua_toboolean(L, index) ? "true" : "false");
    return true;
  case LUA_TTABLE:
    return json_write_table(L, index, w, depth + 1);
  default:
    if (json_is_null(L, index)) {
      buffer_append_string(w->out, "null");
      return true;
    }
    bytes = secret_test(L, index, &length);
    if (bytes != NULL) return json_write_secret(w, bytes, length);
    w->misuse = true;
    snprintf(w->problem, sizeof w->problem, "is a %s, which JSON does not have",
             luaL_typename(L, index));
    return false;
  }
}

/*
 * [-0, +0] Appends the value at index as JSON, names sorted. On failure returns false and says
 * in w what is wrong and where; what was appended is then of no use.
 */
bool json_write (lua_State *L, int index, struct json_writer *w) {
  int top = lua_gettop(L);
  w->where[0] = w->problem[0] = '\0';
  w->misuse = false;
  bool written = json_write_value(L, lua_absindex(L, index), w, 0);
  lua_settop(L, top);
  return written;
}

/* [-0, +0] Calls instance.name(value), the instance at the top; value at the top is taken off.
 */
static void json_configure (lua_State *L, const char *name) {
  lua_getfield(L, -2, name);
  lua_insert(L, -2);
  lua_call(L, 1, 0);
}

/*
 * [-0, +1] Pushes the reader {decode, floats}: a private instance of lua-cjson, whose settings
 * nobody else can change, made at first use. Raises if lua-cjson is not installed.
 */
static void json_push_reader (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, READER);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 2);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "cjson");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "new");
  lua_call(L, 0, 1);
  lua_replace(L, -2); /* reader, instance */
  lua_pushinteger(L, JSON_MAX_DEPTH);
  json_configure(L, "decode_max_depth");
  lua_pushboolean(L, 0);
  json_configure(L, "decode_invalid_numbers");
  lua_getfield(L, -1, "decode");
  lua_replace(L, -2); /* reader, decode */
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "decode");
  lua_pushliteral(L, "1");
  lua_call(L, 1, 1);
  lua_pushboolean(L, LUA_VERSION_NUM >= 503 && !lua_isinteger(L, -1));
  lua_setfield(L, -3, "floats");
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, READER);
}

/*
 * lua-cjson reads [] as {}, and large integers as inexact doubles. Both are shielded: spelt as
 * strings that begin with a marker, which json_restore turns into what they stand for.
 */
#define MARK_ARRAY   "\\u0000[]"
#define MARK_INTEGER "\\u0000i"
#define EXACT_DIGITS 15 /* that a double holds in any case */

static bool json_is_digit (char c) {
  return c >= '0' && c <= '9';
}

/* The end of the empty array that begins at `from`, or 0 if none does. */
static size_t json_empty_array (const char *bytes, size_t length, size_t from) {
  size_t i = from + 1;
  while (i < length && bytes[i] != '\0' && strchr(" \t\r\n", bytes[i]) != NULL)
    i++;
  return i < length && bytes[i] == ']' ? i + 1 : 0;
}

/* The end of the integer that begins at `from` if a double may not hold it, else 0. */
static size_t json_long_integer (const char *bytes, size_t length, size_t from) {
  size_t i = from + (bytes[from] == '-');
  size_t first = i;
  while (i < length && json_is_digit(bytes[i]))
    i++;
  bool fraction = i < length && (bytes[i] == '.' || bytes[i] == 'e' || bytes[i] == 'E');
  return LUA_VERSION_NUM >= 503 && !fraction && i - first > EXACT_DIGITS && bytes[first] != '0'
             ? i
             : 0;
}

/* Whether there may be something to shield. A run of 16 digits has one at every 16th byte. */
static bool json_needs_shield (const char *bytes, size_t length) {
  if (LUA_VERSION_NUM >= 503)
    for (size_t i = EXACT_DIGITS; i < length; i += EXACT_DIGITS + 1) {
      size_t first = i, last = i;
      while (first > 0 && json_is_digit(bytes[first]))
        first--;
      while (last < length && json_is_digit(bytes[last]))
        last++;
      if (last - first > EXACT_DIGITS) return true;
    }
  for (const char *p = bytes; (p = memchr(p, '[', length - (size_t)(p - bytes))) != NULL; p++)
    if (json_empty_array(bytes, length, (size_t)(p - bytes)) != 0) return true;
  return false;
}

/* [-0, +1] Pushes the text with empty arrays and large integers outside of strings shielded. */
static void json_push_shielded (lua_State *L, const char *bytes, size_t length) {
  luaL_Buffer b;
  bool in_string = false;
  size_t from = 0, i = 0;
  luaL_buffinit(L, &b);
  while (i < length) {
    size_t end = 0;
    bool number = bytes[i] == '-' || json_is_digit(bytes[i]);
    if (in_string) {
      if (bytes[i] == '\\')
        i++;
      else if (bytes[i] == '"')
        in_string = false;
      i++;
      continue;
    }
    if (bytes[i] == '"')
      in_string = true;
    else if (bytes[i] == '[')
      end = json_empty_array(bytes, length, i);
    else if (number)
      end = json_long_integer(bytes, length, i);
    if (end != 0) {
      luaL_addlstring(&b, bytes + from, i - from);
      luaL_addstring(&b, number ? "\"" MARK_INTEGER : "\"" MARK_ARRAY);
      if (number) luaL_addlstring(&b, bytes + i, end - i);
      luaL_addchar(&b, '"');
      from = i = end;
    } else if (number) {
      while (i < length && bytes[i] != '\0' && strchr("+-.eE0123456789", bytes[i]) != NULL)
        i++;
    } else {
      i++;
    }
  }
  if (from < length) luaL_addlstring(&b, bytes + from, length - from);
  luaL_pushresult(&b);
}

static void json_restore (lua_State *L, bool shielded);

/* [-1, +1] Gives every value of the table at the top what json_restore makes of it. */
static void json_restore_table (lua_State *L, bool shielded) {
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    int type = lua_type(L, -1);
    if (type != LUA_TTABLE && type != LUA_TNUMBER && !(shielded && type == LUA_TSTRING)) {
      lua_pop(L, 1);
      continue;
    }
    json_restore(L, shielded);
    if (type == LUA_TTABLE) {
      lua_pop(L, 1);
    } else {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    }
  }
}

/* [-1, +1] Replaces the value at the top: floats without fraction by integers, markers by what
   they stand for, and the same inside of tables. The reader bounds the depth. */
static void json_restore (lua_State *L, bool shielded) {
  luaL_checkstack(L, 6, "JSON nested too deeply");
  size_t length;
  const char *text;
  switch (lua_type(L, -1)) {
  case LUA_TTABLE:
    json_restore_table(L, shielded);
    break;
  case LUA_TNUMBER: {
    double number = (double)lua_tonumber(L, -1);
    if (LUA_VERSION_NUM >= 503 && !lua_isinteger(L, -1) && number >= -9007199254740992.0 &&
        number <= 9007199254740992.0 && floor(number) >= number) {
      lua_pop(L, 1);
      lua_pushinteger(L, (lua_Integer)number);
    }
    break;
  }
  case LUA_TSTRING:
    text = lua_tolstring(L, -1, &length);
    if (!shielded || length < 2 || text[0] != '\0') break;
    if (text[1] == '[') {
      lua_newtable(L);
      luaL_setmetatable(L, ARRAY);
      lua_replace(L, -2);
    } else if (text[1] == 'i') {
      /* Lua reads what does not fit its integers as a float, as it does in a program */
      lua_pushnumber(L, strtod(text + 2, NULL));
      errno = 0;
      long long exact = strtoll(text + 2, NULL, 10);
      if (errno == 0) {
        lua_pop(L, 1);
        lua_pushinteger(L, (lua_Integer)exact);
      }
      lua_replace(L, -2);
    }
    break;
  default:
    break;
  }
}

/* [-0, +1] Pushes the decoded value and returns true, or pushes what is wrong and returns
 * false. */
bool json_read (lua_State *L, const char *bytes, size_t length) {
  size_t at;
  if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
    bytes += 3;
    length -= 3;
  }
  if (!json_valid_utf8(bytes, length, &at)) {
    lua_pushfstring(L, "invalid UTF-8 at byte %d", (int)at + 1);
    return false;
  }
  json_push_reader(L);
  lua_getfield(L, -1, "floats");
  bool floats = lua_toboolean(L, -1);
  lua_pop(L, 1);
  lua_getfield(L, -1, "decode");
  lua_replace(L, -2);
  /* a text that spells the markers itself is left as lua-cjson reads it */
  bool shielded = json_needs_shield(bytes, length) && strstr(bytes, "\\u0000") == NULL;
  if (shielded)
    json_push_shielded(L, bytes, length);
  else
    lua_pushlstring(L, bytes, length);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return false;
  if (floats || shielded) json_restore(L, shielded);
  return true;
}

static int json_buffer__gc (lua_State *L) {
  buffer_free(luaL_checkudata(L, 1, BUFFER));
  return 0;
}

/* encode(value) -> text | nil, what is wrong with which part of it */
static int json_encode (lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  struct buffer *out = lua_newuserdatauv(L, sizeof *out, 0);
  memset(out, 0, sizeof *out);
  luaL_setmetatable(L, BUFFER);
  struct json_writer w = {.out = out};
  if (!json_write(L, 1, &w)) {
    lua_pushnil(L);
    lua_pushfstring(L, "value%s %s", w.where, w.problem);
    return 2;
  }
  if (out->failed) return luaL_error(L, "not enough memory");
  lua_pushlstring(L, out->data, out->length);
  return 1;
}

/* decode(text) -> value | nil, what is wrong */
static int json_decode (lua_State *L) {
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  if (json_read(L, bytes, length)) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

const luaL_Reg json_functions[] = {
    {"array", json_array},
    {"encode", json_encode},
    {"decode", json_decode},
    {NULL, NULL},
};

void json_register (lua_State *L) {
  static const luaL_Reg buffer_events[] = {{"__gc", json_buffer__gc}, {NULL, NULL}};
  compat_newclass(L, BUFFER, buffer_events);
  luaL_newmetatable(L, ARRAY);
  lua_pushliteral(L, ARRAY);
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
}
