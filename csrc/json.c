#include "json.h"
#include "secret.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY_MARK "cloudsync.array"
#define READER     "cloudsync.json.reader"
#define BUFFER     "cloudsync.json.buffer"

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
  luaL_setmetatable(L, ARRAY_MARK);
  return 1;
}

/* Whether the table at index is marked as an array. */
static bool json_is_array (lua_State *L, int index) {
  if (!lua_getmetatable(L, index)) return false;
  luaL_getmetatable(L, ARRAY_MARK);
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
  if (w->in_secret_object && w->mask != NULL && strncmp(bytes, w->mask, strlen(w->mask)) == 0)
    return json_fail(w, "is masked: give the secret itself");
  size_t start = w->out->length + 1, at;
  if (w->shown && json_valid_utf8(bytes, length, &at))
    return json_write_string(w, SECRET_SHOWN, sizeof SECRET_SHOWN - 1);
  if (!json_write_string(w, bytes, length)) return false;
  secret_note(w->secrets, bytes, length);
  if (!w->out->failed && w->out->length - start - 1 != length)
    secret_note(w->secrets, w->out->data + start, w->out->length - start - 1);
  return true;
}

/*
 * Spells the number at index: integers in full, others in the shortest form that reads back as
 * the same. False if it is not finite.
 */
bool json_format_number (lua_State *L, int index, char text[JSON_NUMBER]) {
  double number = (double)lua_tonumber(L, index);
  if (lua_isinteger(L, index)) {
    snprintf(text, JSON_NUMBER, "%lld", (long long)lua_tointeger(L, index));
  } else if (!isfinite(number)) {
    return false;
  } else if (number >= -1e18 && number <= 1e18 && floor(number) >= number) {
    snprintf(text, JSON_NUMBER, "%.0f", number + 0.0); /* no minus zero */
  } else {
    for (int digits = 15; digits <= 17; digits++) {
      snprintf(text, JSON_NUMBER, "%.*g", digits, number);
      double back = strtod(text, NULL);
      if (back >= number && back <= number) break;
    }
    char *sign = strstr(text, localeconv()->decimal_point); /* the host may have set a locale */
    if (sign != NULL) *sign = '.';
  }
  return true;
}

static bool json_write_number (lua_State *L, int index, struct json_writer *w) {
  char text[JSON_NUMBER];
  if (!json_format_number(L, index, text)) return json_fail(w, "is not a finite number");
  buffer_append_string(w->out, text);
  return true;
}

static bool json_write_value (lua_State *L, int index, struct json_writer *w, int depth,
                              const struct property *p);

static bool json_write_array (lua_State *L, int index, struct json_writer *w, int depth) {
  size_t count = lua_rawlen(L, index);
  buffer_append_char(w->out, '[');
  for (size_t i = 1; i <= count; i++) {
    if (i > 1) buffer_append_char(w->out, ',');
    lua_rawgeti(L, index, (int)i);
    if (!json_write_value(L, lua_gettop(L), w, depth, NULL)) {
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

/*
 * [-0, +2] Pushes the keys of the table and a block with them sorted; `count` is their number,
 * and becomes smaller if a finalizer that ran meanwhile took some out.
 */
static struct json_key *json_sorted_keys (lua_State *L, int index, size_t *count) {
  lua_createtable(L, (int)*count, 0);
  struct json_key *keys = lua_newuserdatauv(L, *count * sizeof *keys + 1, 0);
  size_t i = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (i == *count || lua_type(L, -1) != LUA_TSTRING) {
      lua_pop(L, 1);
      break;
    }
    keys[i].bytes = lua_tolstring(L, -1, &keys[i].length);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -4, (int)++i);
  }
  *count = i;
  qsort(keys, i, sizeof *keys, json_compare_keys);
  return keys;
}

static bool json_is_secret_name (const struct json_writer *w, const char *name) {
  if (w->secret_names != NULL)
    for (const char *const *known = w->secret_names; *known != NULL; known++)
      if (strcmp(*known, name) == 0) return true;
  return false;
}

/* Whether the object at index holds a secret as Azure's do: {type = "SecureString", value} */
static bool json_is_secure_string (lua_State *L, int index) {
  lua_pushliteral(L, "type");
  lua_rawget(L, index);
  const char *type = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool is = strcmp(type, "SecureString") == 0;
  lua_pop(L, 1);
  return is;
}

/* What is documented of a property of the object that p describes, or NULL. */
static const struct property *json_property (const struct property *p, const char *name) {
  if (p == NULL || p->properties == NULL) return NULL;
  for (p = p->properties; p->name != NULL; p++)
    if (strcmp(p->name, name) == 0) return p;
  return NULL;
}

/* [-0, +0] Writes the string or number at the index as a secret. */
static bool json_write_hidden (lua_State *L, int index, struct json_writer *w) {
  char number[JSON_NUMBER];
  size_t length;
  if (lua_type(L, index) == LUA_TSTRING) {
    const char *bytes = lua_tolstring(L, index, &length);
    return json_write_secret(w, bytes, length);
  }
  if (!json_format_number(L, index, number)) return json_fail(w, "is not a finite number");
  if (w->shown) return json_write_string(w, SECRET_SHOWN, sizeof SECRET_SHOWN - 1);
  secret_note(w->secrets, number, strlen(number));
  buffer_append_string(w->out, number);
  return true;
}

/* [-0, +0] Writes the value at the top, that of the property `name`. */
static bool json_write_property (lua_State *L, struct json_writer *w, int depth,
                                 const struct property *p, const char *name, bool secure) {
  int type = lua_type(L, -1), index = lua_gettop(L);
  bool outside = w->in_secret_object;
  if (w->secret_object != NULL && strcmp(name, w->secret_object) == 0)
    w->in_secret_object = true;
  bool hidden = (secure && strcmp(name, "value") == 0) || json_is_secret_name(w, name);
  bool written = hidden && (type == LUA_TSTRING || type == LUA_TNUMBER)
                     ? json_write_hidden(L, index, w)
                     : json_write_value(L, index, w, depth, json_property(p, name));
  w->in_secret_object = outside;
  return written;
}

static bool json_write_object (lua_State *L, int index, struct json_writer *w, int depth,
                               const struct property *p, size_t count) {
  const struct json_key *keys = json_sorted_keys(L, index, &count);
  bool secure = json_is_secure_string(L, index);
  buffer_append_char(w->out, '{');
  for (size_t i = 0; i < count; i++) {
    if (i > 0) buffer_append_char(w->out, ',');
    if (!json_write_string(w, keys[i].bytes, keys[i].length))
      return json_fail(w, "has a name that is not valid UTF-8");
    buffer_append_char(w->out, ':');
    lua_pushlstring(L, keys[i].bytes, keys[i].length);
    lua_rawget(L, index);
    if (!json_write_property(L, w, depth, p, keys[i].bytes, secure)) {
      char step[64];
      snprintf(step, sizeof step, ".%.60s", keys[i].bytes);
      return json_fail_in(w, step);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  buffer_append_char(w->out, '}');
  return true;
}

/*
 * Tells an array from an object by its keys and its mark, never by a metamethod; what is
 * documented decides for an empty table.
 */
static bool json_write_table (lua_State *L, int index, struct json_writer *w, int depth,
                              const struct property *p) {
  if (depth > JSON_MAX_DEPTH) return json_fail(w, "is nested too deeply");
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
  bool wants_array = p != NULL && p->type == ARRAY;
  bool array = names == 0 && (positions > 0 || wants_array || json_is_array(L, index));
  if (array && p != NULL && p->type == OBJECT)
    return json_fail(w, "must be an object, got an array");
  if (!array && wants_array) return json_fail(w, "must be an array, got an object");
  return array ? json_write_array(L, index, w, depth)
               : json_write_object(L, index, w, depth, p, names);
}

static bool json_write_value (lua_State *L, int index, struct json_writer *w, int depth,
                              const struct property *p) {
  size_t length;
  const char *bytes;
  if (!lua_checkstack(L, 8)) return json_fail(w, "is too large for the Lua stack");
  switch (lua_type(L, index)) {
  case LUA_TSTRING:
    if (w->in_secret_object) return json_write_hidden(L, index, w);
    bytes = lua_tolstring(L, index, &length);
    return json_write_string(w, bytes, length);
  case LUA_TNUMBER:
    return w->in_secret_object ? json_write_hidden(L, index, w)
                               : json_write_number(L, index, w);
  case LUA_TBOOLEAN:
    buffer_append_string(w->out, lua_toboolean(L, index) ? "true" : "false");
    return true;
  case LUA_TTABLE:
    return json_write_table(L, index, w, depth + 1, p);
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
  bool written = json_write_value(L, lua_absindex(L, index), w, 0, w->schema);
  lua_settop(L, top);
  return written;
}

/* [-1, +0] Calls instance.name(value), the instance below the value at the top. */
static void json_configure (lua_State *L, const char *name) {
  lua_getfield(L, -2, name);
  lua_insert(L, -2);
  lua_call(L, 1, 0);
}

/*
 * [-0, +1] Pushes the reader {decode, floats, decimal_point}: a private instance of lua-cjson,
 * whose settings nobody else can change, made at first use and again where the host has changed
 * its locale, which lua-cjson takes notice of only then. Raises if lua-cjson is not installed.
 */
static void json_push_reader (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, READER);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "decimal_point");
    bool current = strcmp(lua_tostring(L, -1), localeconv()->decimal_point) == 0;
    lua_pop(L, 1);
    if (current) return;
  }
  lua_pop(L, 1);
  lua_createtable(L, 0, 3);
  lua_pushstring(L, localeconv()->decimal_point);
  lua_setfield(L, -2, "decimal_point");
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
 * strings that begin with a NUL and a letter, which json_restore turns into what they stand
 * for. A string that begins with a NUL by itself gets a mark too, so that it is not taken for
 * one.
 */
#define NUL          "\\u0000"
#define MARK_ARRAY   'a'
#define MARK_INTEGER 'i'
#define MARK_STRING  's'
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

/* The end of the string that begins with the quote at `from`. */
static size_t json_string_end (const char *bytes, size_t length, size_t from) {
  size_t i = from + 1;
  while (i < length && bytes[i] != '"')
    i += bytes[i] == '\\' ? 2 : 1;
  return i < length ? i + 1 : length;
}

static bool json_is_name (const char *bytes, size_t length, size_t end) {
  while (end < length && bytes[end] != '\0' && strchr(" \t\r\n", bytes[end]) != NULL)
    end++;
  return end < length && bytes[end] == ':';
}

/*
 * The end of the token at `from`. `mark` is what to shield it with, or NUL where it stays as it
 * is: what stands for a name, too, so that lua-cjson judges it.
 */
static size_t json_token (const char *bytes, size_t length, size_t from, int depth,
                          char *mark) {
  size_t end = 0;
  *mark = '\0';
  if (bytes[from] == '"') {
    end = json_string_end(bytes, length, from);
    if (strncmp(bytes + from + 1, NUL, sizeof NUL - 1) == 0) *mark = MARK_STRING;
  } else if (bytes[from] == '[') {
    end = json_empty_array(bytes, length, from);
    if (end != 0 && depth < JSON_MAX_DEPTH) *mark = MARK_ARRAY;
  } else if (bytes[from] == '-' || json_is_digit(bytes[from])) {
    end = json_long_integer(bytes, length, from);
    if (end != 0) *mark = MARK_INTEGER;
    for (size_t i = from; end == 0; i++)
      if (i >= length || bytes[i] == '\0' || strchr("+-.eE0123456789", bytes[i]) == NULL)
        end = i;
  }
  if (*mark != '\0' && json_is_name(bytes, length, end)) *mark = '\0';
  return *mark == '\0' && bytes[from] == '[' ? from + 1 : end > from ? end : from + 1;
}

/* [-0, +1] Pushes the text with what lua-cjson would not keep shielded. */
static void json_push_shielded (lua_State *L, const char *bytes, size_t length) {
  luaL_Buffer b;
  int depth = 0;
  luaL_buffinit(L, &b);
  for (size_t i = 0, end; i < length; i = end) {
    char mark;
    end = json_token(bytes, length, i, depth, &mark);
    if (mark == '\0') {
      depth += (bytes[i] == '[' || bytes[i] == '{') - (bytes[i] == ']' || bytes[i] == '}');
      luaL_addlstring(&b, bytes + i, end - i);
      continue;
    }
    luaL_addstring(&b, "\"" NUL);
    luaL_addchar(&b, mark);
    if (mark == MARK_STRING) luaL_addlstring(&b, bytes + i + 1, end - i - 1);
    if (mark == MARK_INTEGER) luaL_addlstring(&b, bytes + i, end - i);
    if (mark != MARK_STRING) luaL_addchar(&b, '"');
  }
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

/* [-1, +1] Replaces the shielded string at the top by what it stands for. */
static void json_restore_string (lua_State *L) {
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  if (length < 2 || text[0] != '\0') return;
  if (text[1] == MARK_ARRAY) {
    lua_newtable(L);
    luaL_setmetatable(L, ARRAY_MARK);
  } else if (text[1] == MARK_STRING) {
    lua_pushlstring(L, text + 2, length - 2);
  } else {
    errno = 0;
    long long exact = strtoll(text + 2, NULL, 10);
    /* Lua reads what does not fit its integers as a float, in a program too */
    if (errno == 0)
      lua_pushinteger(L, (lua_Integer)exact);
    else
      lua_pushnumber(L, strtod(text + 2, NULL));
  }
  lua_replace(L, -2);
}

/*
 * [-1, +1] Replaces the value at the top: floats without a fraction by integers, shielded
 * strings, and the same inside of tables. The reader bounds the depth.
 */
static void json_restore (lua_State *L, bool shielded) {
  luaL_checkstack(L, 6, "JSON nested too deeply");
  double number;
  switch (lua_type(L, -1)) {
  case LUA_TTABLE:
    json_restore_table(L, shielded);
    break;
  case LUA_TNUMBER:
    number = (double)lua_tonumber(L, -1);
    if (LUA_VERSION_NUM >= 503 && !lua_isinteger(L, -1) && number >= -9007199254740992.0 &&
        number <= 9007199254740992.0 && floor(number) >= number) {
      lua_pop(L, 1);
      lua_pushinteger(L, (lua_Integer)number);
    }
    break;
  case LUA_TSTRING:
    if (shielded) json_restore_string(L);
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
  const char *nul = memchr(bytes, '\0', length); /* lua-cjson would take it for the end */
  if (nul != NULL || !json_valid_utf8(bytes, length, &at)) {
    lua_pushfstring(L, "invalid UTF-8 or a NUL at byte %d",
                    (int)(nul != NULL ? (size_t)(nul - bytes) : at) + 1);
    return false;
  }
  json_push_reader(L);
  lua_getfield(L, -1, "floats");
  bool floats = lua_toboolean(L, -1);
  lua_pop(L, 1);
  lua_getfield(L, -1, "decode");
  lua_replace(L, -2);
  bool shielded = json_needs_shield(bytes, length);
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

/* [-0, +1] Pushes an empty buffer that Lua owns. */
struct buffer *json_push_buffer (lua_State *L) {
  struct buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
  memset(b, 0, sizeof *b);
  luaL_setmetatable(L, BUFFER);
  return b;
}

/* encode(value) -> text | nil, what is wrong with which part of it */
static int json_encode (lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  struct buffer *out = json_push_buffer(L);
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
  luaL_newmetatable(L, ARRAY_MARK);
  lua_pushliteral(L, ARRAY_MARK);
  lua_setfield(L, -2, "__name");
  lua_pop(L, 1);
}
