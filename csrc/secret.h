/* Strings that do not print themselves and are wiped when they are collected. */
#ifndef CLOUDSYNC_SECRET_H
#define CLOUDSYNC_SECRET_H

#include "buffer.h"
#include "compat.h"

#define SECRET_SHOWN "<secret>"

void secret_register (lua_State *L);
int secret_new (lua_State *L);
int secret_basic (lua_State *L);
void secret_note (struct buffer *secrets, const char *bytes, size_t length);
void secret_push_redacted (lua_State *L, const struct buffer *secrets, const char *text,
                           size_t length, size_t most);
bool secret_is_token (const char *bytes, size_t length);
const char *secret_test (lua_State *L, int index, size_t *length);
const char *secret_tolstring (lua_State *L, int index, size_t *length);

#endif
