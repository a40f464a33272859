/* Status, headers and body of an answer become a Lua value, or what is needed for an error. */
#ifndef CLOUDSYNC_RESPONSE_H
#define CLOUDSYNC_RESPONSE_H

#include "compat.h"

int response_interpret (lua_State *L);

#endif
