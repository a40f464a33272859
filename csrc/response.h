/* Status, headers and body of an answer become a Lua value, or what is needed for an error. */
#ifndef CLOUDSYNC_RESPONSE_H
#define CLOUDSYNC_RESPONSE_H

#include "buffer.h"
#include "compat.h"

void response_redact (lua_State *L, const struct buffer *secrets);
int response_interpret (lua_State *L);

#endif
