/*
 * libFuzzer's entry into the core: FUZZ_TARGET names the Lua module of this directory that is
 * called with each input. What it raises is a finding, like what a sanitizer says.
 */
#include "compat.h"

#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int luaopen_cloudsync_core (lua_State *L);
int luaopen_transfer (lua_State *L);
int LLVMFuzzerInitialize (int *argc, char ***argv);
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static lua_State *L;

static int fuzz_traceback (lua_State *state) {
  lua_getglobal(state, "debug");
  lua_getfield(state, -1, "traceback");
  lua_pushvalue(state, 1);
  lua_pushinteger(state, 2);
  lua_call(state, 2, 1);
  return 1;
}

/* [-n-1, +results] Calls, or ends the process in the way that libFuzzer takes as a finding. */
static void fuzz_call (int arguments, int results) {
  int handler = lua_gettop(L) - arguments;
  lua_pushcfunction(L, fuzz_traceback);
  lua_insert(L, handler);
  if (lua_pcall(L, arguments, results, handler) != LUA_OK) {
    fprintf(stderr, "FINDING: %s\n", lua_tostring(L, -1));
    abort();
  }
  lua_remove(L, handler);
}

/* [-0, +0] Makes `require` find a module in this program. */
static void fuzz_preload (const char *name, lua_CFunction open) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 2);
}

int LLVMFuzzerInitialize (int *argc, char ***argv) {
  (void)argc, (void)argv;
  const char *target = getenv("FUZZ_TARGET");
  L = luaL_newstate();
  luaL_openlibs(L);
  fuzz_preload("cloudsync.core", luaopen_cloudsync_core);
  fuzz_preload("transfer", luaopen_transfer);
  lua_getglobal(L, "require");
  lua_pushfstring(L, "fuzz.%s", target != NULL ? target : "");
  fuzz_call(1, 1);
  return 0;
}

/* The function of the target is all that is on the stack between two inputs. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
  lua_pushvalue(L, 1);
  lua_pushlstring(L, (const char *)data, size);
  fuzz_call(1, 0);
  return 0;
}
