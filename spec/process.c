/* For the specs alone: the system calls that Lua lacks. */
#include "compat.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* fork() -> 0 in the child, its process id in the parent */
static int process_fork (lua_State *L) {
  lua_pushinteger(L, fork());
  return 1;
}

/* wait(pid) -> exit status or nil, the signal that ended it or nil */
static int process_wait (lua_State *L) {
  int status = 0;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  if (WIFEXITED(status))
    lua_pushinteger(L, WEXITSTATUS(status));
  else
    lua_pushnil(L);
  if (WIFSIGNALED(status))
    lua_pushinteger(L, WTERMSIG(status));
  else
    lua_pushnil(L);
  return 2;
}

/* kill(pid, signal) */
static int process_kill (lua_State *L) {
  kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2));
  return 0;
}

/* exit(status): at once, without closing the Lua state */
static int process_exit (lua_State *L) {
  _exit((int)luaL_checkinteger(L, 1));
}

static int process_id (lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static const luaL_Reg process_functions[] = {
    {"fork", process_fork}, {"wait", process_wait}, {"kill", process_kill},
    {"exit", process_exit}, {"id", process_id},     {NULL, NULL},
};

__attribute__((visibility("default"))) int luaopen_process (lua_State *L);

int luaopen_process (lua_State *L) {
  lua_newtable(L);
  luaL_setfuncs(L, process_functions, 0);
  return 1;
}
