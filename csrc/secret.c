#include "secret.h"

#include <ctype.h>
#include <stdlib.h>
#include "buffer.h"

#define SECRET     "cloudsync.secret"
#define MIN_SECRET 4 /* shorter ones are not looked for: they would hide ordinary text */

struct secret {
  size_t length;
  char bytes[]; /* ended by a NUL that length does not count */
};

/* The bytes of the secret at index and their number, or NULL if it is no secret. */
const char *secret_test (lua_State *L, int index, size_t *length) {
  const struct secret *self = luaL_testudata(L, index, SECRET);
  if (self == NULL) return NULL;
  *length = self->length;
  return self->bytes;
}

/* The bytes of the string or secret at index, or NULL if it is neither; numbers are neither. */
const char *secret_tolstring (lua_State *L, int index, size_t *length) {
  return lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, length)
                                           : secret_test(L, index, length);
}

/* [-0, +1] Pushes a secret of that length, all zeros. */
static struct secret *secret_allocate (lua_State *L, size_t length) {
  struct secret *self = lua_newuserdatauv(L, sizeof *self + length + 1, 0);
  memset(self, 0, sizeof *self + length + 1);
  luaL_setmetatable(L, SECRET);
  self->length = length;
  return self;
}

/* [-0, +1] secret(text) -> a secret; a secret is given back as it is. */
int secret_new (lua_State *L) {
  size_t length;
  if (secret_test(L, 1, &length) != NULL) {
    lua_settop(L, 1);
    return 1;
  }
  luaL_checktype(L, 1, LUA_TSTRING);
  const char *bytes = lua_tolstring(L, 1, &length);
  memcpy(secret_allocate(L, length)->bytes, bytes, length);
  return 1;
}

/* Remembers a secret, so that it can be found, and taken out, in what a server says. */
void secret_note (struct buffer *secrets, const char *bytes, size_t length) {
  if (secrets == NULL || length == 0 || memchr(bytes, '\0', length) != NULL) return;
  buffer_append(secrets, bytes, length);
  buffer_append_char(secrets, '\0');
}

/* Spells the character in UTF-8, ended by a NUL. */
static void secret_encode (unsigned long code, char spelt[5]) {
  size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
  spelt[length] = '\0';
  for (size_t i = length - 1; i > 0; i--, code >>= 6)
    spelt[i] = (char)(0x80 | (code & 0x3f));
  spelt[0] = (char)(first[length] | code);
}

/* Reads up to eight digits. How many there are, or 0. */
static size_t secret_read_digits (const char *text, size_t left, int base,
                                  unsigned long *code) {
  char digits[9] = "";
  size_t length = 0;
  while (length < left && length < sizeof digits - 1 &&
         (base == 16 ? isxdigit((unsigned char)text[length])
                     : isdigit((unsigned char)text[length]))) {
    digits[length] = text[length];
    length++;
  }
  *code = strtoul(digits, NULL, base);
  return length;
}

/* Whether text begins with JSON's escape of a UTF-16 unit: \u00e9 */
static bool secret_read_unit (const char *text, size_t left, unsigned long *unit) {
  return left >= 6 && text[0] == '\\' && text[1] == 'u' &&
         secret_read_digits(text + 2, 4, 16, unit) == 4;
}

/* How many bytes of text are one or two such escapes that spell a character, and which, or 0.
 */
static size_t secret_unescape_unit (const char *text, size_t left, char spelt[5]) {
  unsigned long code, low;
  if (!secret_read_unit(text, left, &code)) return 0;
  if (code < 0xd800 || code > 0xdbff || !secret_read_unit(text + 6, left - 6, &low) ||
      low < 0xdc00 || low > 0xdfff) {
    secret_encode(code, spelt);
    return 6;
  }
  secret_encode(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00), spelt);
  return 12;
}

/* How many bytes of text are HTML's number of a character (&#233; &#xe9;), and which, or 0. */
static size_t secret_unescape_number (const char *text, size_t left, char spelt[5]) {
  unsigned long code;
  if (left < 4 || text[0] != '&' || text[1] != '#') return 0;
  bool hex = text[2] == 'x' || text[2] == 'X';
  size_t end = hex ? 3 : 2,
         length = secret_read_digits(text + end, left - end, hex ? 16 : 10, &code);
  end += length;
  if (length == 0 || end >= left || text[end] != ';' || code > 0x10ffff) return 0;
  secret_encode(code, spelt);
  return end + 1;
}

/* How many bytes of text spell one character, in JSON, HTML, a URL or plainly, and which. */
static size_t secret_unescape (const char *text, size_t left, char spelt[5]) {
  static const struct {
    const char *escape, *character;
  } names[] = {{"\\/", "/"},  {"\\\"", "\""},   {"\\\\", "\\"}, {"\\n", "\n"},  {"\\r", "\r"},
               {"\\t", "\t"}, {"\\b", "\b"},    {"\\f", "\f"},  {"&amp;", "&"}, {"&lt;", "<"},
               {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
  unsigned long code;
  size_t used = 0;
  spelt[0] = text[0];
  spelt[1] = '\0';
  if (strchr("\\&%", text[0]) == NULL) return 1;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    size_t length = strlen(names[i].escape);
    if (length > left || memcmp(text, names[i].escape, length) != 0) continue;
    spelt[0] = names[i].character[0];
    return length;
  }
  if (left >= 3 && text[0] == '%' && secret_read_digits(text + 1, 2, 16, &code) == 2) {
    spelt[0] = (char)code;
    return 3;
  }
  used = secret_unescape_unit(text, left, spelt);
  if (used == 0) used = secret_unescape_number(text, left, spelt);
  return used > 0 ? used : 1;
}

/*
 * How many bytes of text spell the secret, or 0. What looks like an escape may be plain: a
 * secret can hold percent signs and the like itself.
 */
static size_t secret_spelt (const char *text, size_t left, const char *secret, size_t size) {
  size_t i = 0, at = 0;
  if (size <= left && memcmp(text, secret, size) == 0) return size;
  while (i < size && at < left) {
    char spelt[5];
    size_t used = secret_unescape(text + at, left - at, spelt), length = strlen(spelt);
    if (length == 0 || length > size - i || memcmp(secret + i, spelt, length) != 0) {
      if (text[at] != secret[i]) return 0;
      used = length = 1;
    }
    i += length;
    at += used;
  }
  return i == size ? at : 0;
}

/*
 * The length of the longest noted secret that stands at `text`, however it is spelt, or 0: one
 * may begin like another.
 */
static size_t secret_at (const char *text, size_t left, const char *secrets, size_t length) {
  size_t longest = 0;
  for (size_t at = 0; at < length; at += strlen(secrets + at) + 1) {
    size_t size = strlen(secrets + at);
    size_t found = size >= MIN_SECRET ? secret_spelt(text, left, secrets + at, size) : 0;
    if (found > longest) longest = found;
  }
  return longest;
}

/* [-0, +1] Pushes the text, at most `most` characters of it, without the noted secrets. */
void secret_push_redacted (lua_State *L, const struct buffer *secrets, const char *text,
                           size_t length, size_t most) {
  size_t kept = 0;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < length && kept < most; kept++) {
    size_t size = secret_at(text + i, length - i, secrets->data, secrets->length);
    if (size == 0) {
      luaL_addchar(&b, text[i++]);
      continue;
    }
    luaL_addstring(&b, SECRET_SHOWN);
    i += size;
  }
  luaL_pushresult(&b);
}

/* Whether the bytes can stand in a header as a token: visible ASCII characters. */
bool secret_is_token (const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (bytes[i] <= 0x20 || bytes[i] >= 0x7f) return false;
  return length > 0;
}

/* [-0, +1] basic(user, password) -> user:password in Base64 (RFC 7617), a secret */
int secret_basic (lua_State *L) {
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t user_length = 0, length = 0;
  const char *user = secret_tolstring(L, 1, &user_length);
  const char *password = secret_tolstring(L, 2, &length);
  luaL_argcheck(L, user != NULL && memchr(user, ':', user_length) == NULL, 1,
                "a user name without a colon expected");
  luaL_argcheck(L, password != NULL, 2, "a password expected");
  size_t total = user_length + 1 + length;
  struct secret *self = secret_allocate(L, (total + 2) / 3 * 4);
  for (size_t i = 0, at = 0; i < total; i += 3) {
    unsigned bits = 0;
    for (size_t k = i; k < i + 3; k++) {
      unsigned char c = k < user_length    ? (unsigned char)user[k]
                        : k == user_length ? ':'
                        : k < total        ? (unsigned char)password[k - user_length - 1]
                                           : 0;
      bits = bits << 8 | c;
    }
    for (size_t k = 0; k < 4; k++)
      self->bytes[at++] = (char)(i + k > total ? '=' : digits[bits >> (18 - 6 * k) & 63]);
  }
  return 1;
}

/* secret:reveal() -> the text, as a Lua string that is no longer protected */
static int secret_reveal (lua_State *L) {
  const struct secret *self = luaL_checkudata(L, 1, SECRET);
  lua_pushlstring(L, self->bytes, self->length);
  return 1;
}

static int secret__tostring (lua_State *L) {
  lua_pushliteral(L, SECRET_SHOWN);
  return 1;
}

/* Equal by content, in a time that does not tell where two secrets differ. */
static int secret__eq (lua_State *L) {
  const struct secret *a = luaL_checkudata(L, 1, SECRET);
  const struct secret *b = luaL_checkudata(L, 2, SECRET);
  unsigned char difference = a->length != b->length;
  for (size_t i = 0; i < a->length && i < b->length; i++)
    difference |= (unsigned char)(a->bytes[i] ^ b->bytes[i]);
  lua_pushboolean(L, difference == 0);
  return 1;
}

static int secret__gc (lua_State *L) {
  struct secret *self = luaL_checkudata(L, 1, SECRET);
  buffer_wipe(self->bytes, self->length);
  self->length = 0;
  return 0;
}

static const luaL_Reg secret_functions[] = {
    {"reveal", secret_reveal},
    {"__tostring", secret__tostring},
    {"__eq", secret__eq},
    {"__gc", secret__gc},
    {NULL, NULL},
};

void secret_register (lua_State *L) {
  compat_newclass(L, SECRET, secret_functions);
}
