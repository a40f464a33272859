/*
 * Every difference between Lua 5.1 (LuaJIT) and Lua 5.3 and 5.4: the code elsewhere is written
 * for 5.4, and this file gives the older ones what they lack.
 */
#ifndef CLOUDSYNC_COMPAT_H
#define CLOUDSYNC_COMPAT_H

#include <lua.h>
#include <lauxlib.h>

#if LUA_VERSION_NUM < 504
/* Before 5.4 a userdata has exactly one user value; in 5.1 it is the environment, a table. */
#define lua_newuserdatauv(L, size, nvalues) lua_newuserdata(L, size)
#if LUA_VERSION_NUM >= 502
#define lua_setiuservalue(L, index, n) lua_setuservalue(L, index)
#define lua_getiuservalue(L, index, n) lua_getuservalue(L, index)
#else
#define lua_setiuservalue(L, index, n) lua_setfenv(L, index)
#define lua_getiuservalue(L, index, n) lua_getfenv(L, index)
#endif
#endif

#if LUA_VERSION_NUM < 503
/* All numbers are doubles: none is an integer by type. */
#define lua_isinteger(L, index) 0
#endif

#if LUA_VERSION_NUM < 502
#define lua_rawlen(L, index) lua_objlen(L, index)
#define LUA_OK               0

/* [-0, +0] An index that stays valid when the stack grows. */
static inline int compat_absindex (lua_State *L, int index) {
  return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}
#define lua_absindex compat_absindex

/* [-nup, +0] Registers functions, sharing nup upvalues, in the table below the upvalues. */
static inline void compat_setfuncs (lua_State *L, const luaL_Reg *functions, int nup) {
  for (; functions->name != NULL; functions++) {
    for (int i = 0; i < nup; i++)
      lua_pushvalue(L, -nup);
    lua_pushcclosure(L, functions->func, nup);
    lua_setfield(L, -(nup + 2), functions->name);
  }
  lua_pop(L, nup);
}
#define luaL_setfuncs compat_setfuncs

/* [-0, +0] The userdata at index if it is of the class, else NULL. */
static inline void *compat_testudata (lua_State *L, int index, const char *class) {
  void *self = lua_touserdata(L, index);
  if (self == NULL || !lua_getmetatable(L, index)) return NULL;
  luaL_getmetatable(L, class);
  if (!lua_rawequal(L, -1, -2)) self = NULL;
  lua_pop(L, 2);
  return self;
}
#define luaL_testudata compat_testudata

/* [-0, +0] Sets the metatable of the class on the value at the top. */
static inline void compat_setmetatable (lua_State *L, const char *class) {
  luaL_getmetatable(L, class);
  lua_setmetatable(L, -2);
}
#define luaL_setmetatable compat_setmetatable
#endif

/*
 * [-0, +0] Makes the metatable of a class. Names that begin with two underscores are its
 * events, the others its methods.
 */
static inline void compat_newclass (lua_State *L, const char *class,
                                    const luaL_Reg *functions) {
  luaL_newmetatable(L, class);
  lua_newtable(L);
  for (; functions->name != NULL; functions++) {
    lua_pushcfunction(L, functions->func);
    lua_setfield(L, functions->name[0] == '_' && functions->name[1] == '_' ? -3 : -2,
                 functions->name);
  }
  lua_setfield(L, -2, "__index");
  lua_pushstring(L, class);
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "the metatable of a cloudsync class");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

#endif
