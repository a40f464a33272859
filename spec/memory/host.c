/*
 * For the specs alone: a Lua interpreter whose memory the specs rule. It is linked with the
 * core, so that what the core, libcurl and Lua allocate can be counted, refused and wiped one
 * by one.
 *
 *   host refuse lua|core|curl once|on load|run FIRST STEP SCRIPT
 *   host collect EVERY SCRIPT ARGUMENTS...
 *   host scan none|curl|all SCRIPT WORD
 */
#include "compat.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE  10 /* s that one run may take */
#define HEADER    16 /* bytes in front of a block, for its size; keeps the alignment */
#define MAX_MARKS 16
#define CHUNK     12 /* bytes of a mark that are looked for together */
#define CHUNKS    4
#define SPELT     16 /* bytes of a chunk in Base64 */
#define SCREEN    0x2a

/* Whose memory: of Lua, of the core's own buffers, of libcurl, of OpenSSL. */
enum owner { LUA, CORE, CURL_, OPENSSL, OWNERS };

static const char *const owner_names[OWNERS] = {"lua", "core", "curl", "openssl"};

static struct {
  bool counting;
  enum owner refused_owner;
  bool for_good;              /* refuse all from then on, not that one alone */
  unsigned long count, first; /* growing requests so far; the number of the first refused */
  unsigned long refused;
  bool wrong; /* the script saw a success that is none */
} rule;

static long live[OWNERS]; /* blocks, of Lua bytes */
static bool wiped[OWNERS];

/* Whether this request for more memory is to be refused. */
static bool host_refuses (enum owner owner) {
  if (!rule.counting || rule.refused_owner != owner) return false;
  unsigned long number = rule.count++;
  /* Lua 5.4 collects all garbage and asks again: both are refused */
  bool refuses = number == rule.first || (number == rule.first + 1 && owner == LUA) ||
                 (number > rule.first && rule.for_good);
  rule.refused += refuses;
  return refuses;
}

static void host_wipe (void *block, size_t size) {
  static void *(*const volatile set)(void *, int, size_t) = memset;
  if (size > 0) set(block, 0, size);
}

/* What is linked with --wrap: malloc and free as the core calls them. */
void *__real_malloc (size_t size);
void __real_free (void *block);
void *__wrap_malloc (size_t size);
void __wrap_free (void *block);

void *__wrap_malloc (size_t size) {
  if (host_refuses(CORE)) return NULL;
  void *block = __real_malloc(size);
  live[CORE] += block != NULL;
  return block;
}

void __wrap_free (void *block) {
  live[CORE] -= block != NULL;
  __real_free(block);
}

/* Lua's allocator. Each block that changes its size moves. */
static void *host_allocate (void *data, void *block, size_t old, size_t size) {
  void *new = NULL;
  (void)data;
  if (block == NULL) old = 0;
  if (size > old && host_refuses(LUA)) return NULL;
  if (size > 0) {
    new = __real_malloc(size);
    if (new == NULL) return size < old ? block : NULL;
    if (block != NULL) memcpy(new, block, size < old ? size : old);
  }
  if (block != NULL && wiped[LUA]) host_wipe(block, old);
  __real_free(block);
  live[LUA] += (long)size - (long)old;
  return new;
}

static void *host_take (enum owner owner, size_t size) {
  if (host_refuses(owner)) return NULL;
  char *block = __real_malloc(HEADER + size);
  if (block == NULL) return NULL;
  memcpy(block, &size, sizeof size);
  live[owner]++;
  return block + HEADER;
}

static void host_give (enum owner owner, void *block) {
  size_t size;
  if (block == NULL) return;
  memcpy(&size, (char *)block - HEADER, sizeof size);
  if (wiped[owner]) host_wipe(block, size);
  live[owner]--;
  __real_free((char *)block - HEADER);
}

static void *host_resize (enum owner owner, void *block, size_t size) {
  size_t old = 0;
  void *new = host_take(owner, size);
  if (new == NULL || block == NULL) return new;
  memcpy(&old, (char *)block - HEADER, sizeof old);
  memcpy(new, block, old < size ? old : size);
  host_give(owner, block);
  return new;
}

static void *curl_take (size_t size) {
  return host_take(CURL_, size);
}

static void *curl_take_zeros (size_t count, size_t size) {
  void *block = host_take(CURL_, count * size);
  if (block != NULL) memset(block, 0, count * size);
  return block;
}

static char *curl_take_string (const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = host_take(CURL_, size);
  if (copy != NULL) memcpy(copy, text, size);
  return copy;
}

static void *curl_resize (void *block, size_t size) {
  return host_resize(CURL_, block, size);
}

static void curl_give (void *block) {
  host_give(CURL_, block);
}

static void *openssl_take (size_t size, const char *file, int line) {
  (void)file, (void)line;
  return host_take(OPENSSL, size);
}

static void *openssl_resize (void *block, size_t size, const char *file, int line) {
  (void)file, (void)line;
  if (size > 0) return host_resize(OPENSSL, block, size);
  host_give(OPENSSL, block);
  return NULL;
}

static void openssl_give (void *block, const char *file, int line) {
  (void)file, (void)line;
  host_give(OPENSSL, block);
}

/* Takes the memory of libcurl over, and, where it can, OpenSSL's. */
static void host_take_over (bool openssl) {
  typedef int set_functions(void *(*)(size_t, const char *, int),
                            void *(*)(void *, size_t, const char *, int),
                            void (*)(void *, const char *, int));
  void *found = openssl ? dlsym(RTLD_DEFAULT, "CRYPTO_set_mem_functions") : NULL;
  set_functions *set = NULL;
  memcpy(&set, &found, sizeof set);
  if (openssl && (set == NULL || !set(openssl_take, openssl_resize, openssl_give))) {
    fprintf(stderr, "host: OpenSSL's memory is not to be had\n");
    exit(77);
  }
  if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_take, curl_give, curl_resize,
                           curl_take_string, curl_take_zeros) != CURLE_OK)
    exit(2);
}

/*
 * Marks: secrets that no page of memory holds but where the library put them. They are kept
 * screened, plainly and in Base64 where it begins at a multiple of three bytes.
 */
static struct mark {
  char name[32];
  char plain[CHUNKS * CHUNK], spelt[CHUNKS * SPELT];
} marks[MAX_MARKS];
static size_t nmarks;

static void host_spell (const char *from, char *to) {
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < CHUNK / 3; i++) {
    unsigned bits = 0;
    for (size_t k = 0; k < 3; k++)
      bits = bits << 8 | (unsigned char)(from[3 * i + k] ^ SCREEN);
    for (size_t k = 0; k < 4; k++)
      to[4 * i + k] = (char)(digits[bits >> (18 - 6 * k) & 63] ^ SCREEN);
  }
}

/* mark(name) -> a secret that is new each time, found(…) knows it by that name */
static int host_mark (lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  luaL_argcheck(L, nmarks < MAX_MARKS, 1, "too many marks");
  struct mark *m = &marks[nmarks++];
  snprintf(m->name, sizeof m->name, "%s", name);
  if (getentropy(m->plain, sizeof m->plain) != 0) return luaL_error(L, "no random bytes");
  for (size_t i = 0; i < sizeof m->plain; i++)
    m->plain[i] = (char)(('a' + (unsigned char)m->plain[i] % 26) ^ SCREEN);
  for (size_t i = 0; i < CHUNKS; i++)
    host_spell(m->plain + i * CHUNK, m->spelt + i * SPELT);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "cloudsync.core");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "secret");
  char text[sizeof m->plain];
  for (size_t i = 0; i < sizeof text; i++)
    text[i] = (char)(m->plain[i] ^ SCREEN);
  lua_pushlstring(L, text, sizeof text);
  host_wipe(text, sizeof text);
  wiped[LUA] = true; /* so that the string does not stay behind */
  lua_call(L, 1, 1);
  lua_gc(L, LUA_GCCOLLECT, 0);
  wiped[LUA] = false;
  return 1;
}

/* How often a screened text stands in the memory. */
static lua_Integer host_count (const char *from, const char *to, const char *text,
                               size_t size) {
  lua_Integer count = 0;
  for (const char *at = from; at + size <= to; at++) {
    size_t i = 0;
    at = memchr(at, text[0] ^ SCREEN, (size_t)(to - at));
    if (at == NULL || at + size > to) break;
    while (i < size && (at[i] ^ text[i]) == SCREEN)
      i++;
    count += i == size;
  }
  return count;
}

/* found() -> {[name] = how many pieces of that mark are in the process' writable memory} */
static int host_found (lua_State *L) {
  lua_Integer count[MAX_MARKS] = {0};
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "r");
  if (maps == NULL) return luaL_error(L, "no /proc/self/maps");
  while (fgets(line, sizeof line, maps) != NULL) {
    uintptr_t from, to;
    char permissions[5];
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, permissions) != 3 ||
        strncmp(permissions, "rw", 2) != 0)
      continue;
    const char *start = (const char *)from, *end = (const char *)to; // NOLINT
    for (size_t i = 0; i < nmarks; i++) {
      lua_Integer before = count[i];
      for (size_t k = 0; k < CHUNKS; k++)
        count[i] += host_count(start, end, marks[i].plain + k * CHUNK, CHUNK) +
                    host_count(start, end, marks[i].spelt + k * SPELT, SPELT);
      if (count[i] > before && getenv("HOST_VERBOSE") != NULL)
        fprintf(stderr, "host: %s %d in %s", marks[i].name, (int)(count[i] - before), line);
    }
  }
  fclose(maps);
  lua_newtable(L);
  for (size_t i = 0; i < nmarks; i++) {
    lua_pushinteger(L, count[i]);
    lua_setfield(L, -2, marks[i].name);
  }
  return 1;
}

/* wrong(text) Notes that a call has ended in a success that is none. */
static int host_wrong (lua_State *L) {
  fprintf(stderr, "host: %s\n", lua_tostring(L, 1));
  rule.wrong = true;
  return 0;
}

static const char *argument; /* what the script is told */

static const luaL_Reg host_functions[] = {
    {"mark", host_mark}, {"found", host_found}, {"wrong", host_wrong}, {NULL, NULL}};

int luaopen_cloudsync_core (lua_State *L);

/* Lua's libraries, and the core. */
static int host_open (lua_State *L) {
#if LUA_VERSION_NUM >= 504
  /* Lua 5.4 never makes the class of its buffers anew if memory has run out while it did so */
  bool counting = rule.counting;
  luaL_Buffer b;
  rule.counting = false;
  luaL_buffinitsize(L, &b, (size_t)1 << 16);
  luaL_pushresultsize(&b, 0);
  rule.counting = counting;
#endif
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_cloudsync_core);
  lua_setfield(L, -2, "cloudsync.core");
  return 0;
}

/* Loads the script of that path and runs it; its argument is the table of the functions here.
 */
static int host_load (lua_State *L) {
  if (luaL_loadfile(L, lua_touserdata(L, 1)) != LUA_OK) return lua_error(L);
  lua_newtable(L);
  luaL_setfuncs(L, host_functions, 0);
  lua_pushstring(L, argument);
  lua_setfield(L, -2, "argument");
  lua_call(L, 1, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "host.run");
  return 0;
}

/* Calls what the script has returned. */
static int host_call_run (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "host.run");
  lua_call(L, 0, 0);
  return 0;
}

/* lua_cpcall: calls a function without allocating anything before it is protected. */
static int host_protect (lua_State *L, lua_CFunction function, const char *path) {
  void *data;
  memcpy(&data, &path, sizeof data);
#if LUA_VERSION_NUM < 502
  return lua_cpcall(L, function, data);
#else
  lua_pushcfunction(L, function);
  lua_pushlightuserdata(L, data);
  return lua_pcall(L, 1, 0, 0);
#endif
}

static lua_State *host_new_state (void) {
  lua_State *L = lua_newstate(host_allocate, NULL);
  if (L == NULL) return NULL;
  if (host_protect(L, host_open, NULL) == LUA_OK) return L;
  lua_close(L);
  return NULL;
}

/* Says why a function has failed; the value that it raised is at the top. */
static void host_complain (lua_State *L, const char *what) {
  const char *text = lua_tostring(L, -1);
  if (text == NULL && luaL_callmeta(L, -1, "__tostring")) text = lua_tostring(L, -1);
  fprintf(stderr, "host: %s: %s\n", what, text != NULL ? text : luaL_typename(L, -1));
}

enum { REFUSED = 1, FAILED = 2, BROKEN = 4, LASTING = 8 }; /* how a child ends */

/*
 * One run with the n-th request refused, in a process of its own: of the script, or with
 * `script` NULL of the function that it has returned. Afterwards a second run, with nothing
 * refused, tells whether the failure has lasting effects.
 */
static int host_run (lua_State *L, const char *script, long curl_before) {
  lua_CFunction function = script != NULL ? host_load : host_call_run;
  int result = 0;
  bool verbose = getenv("HOST_VERBOSE") != NULL;
  alarm(PATIENCE);
  rule.counting = true;
  if (L == NULL) L = host_new_state();
  if (L == NULL) {
    result = FAILED;
  } else if (host_protect(L, function, script) != LUA_OK) {
    result = FAILED;
    if (verbose && !rule.for_good) host_complain(L, "the script raised");
    lua_settop(L, 0);
  }
  rule.counting = rule.for_good;
  if (L != NULL && !rule.for_good && host_protect(L, function, script) != LUA_OK) {
    host_complain(L, "the second run");
    result |= LASTING;
  }
  if (L != NULL) lua_close(L);
  if (rule.refused > 0) result |= REFUSED;
  const long expected[OWNERS] = {[CURL_] = curl_before};
  for (enum owner owner = LUA; owner <= CURL_; owner++) {
    /* LuaJIT forgets some bytes of its own where memory runs out */
    if (live[owner] == expected[owner] || (owner == LUA && LUA_VERSION_NUM < 502)) continue;
    fprintf(stderr, "host: %ld of %s's memory is left\n", live[owner] - expected[owner],
            owner_names[owner]);
    result |= BROKEN;
  }
  return rule.wrong ? result | BROKEN : result;
}

/* Refuses each STEP-th request in turn, until a run needs none that is refused. */
static int host_refuse (char **argv) {
  unsigned long points = 0, failed = 0, broken = 0, lasting = 0, crashed = 0;
  const char *script = argv[5];
  bool from_start = strcmp(argv[2], "load") == 0;
  unsigned long step = strtoul(argv[4], NULL, 10);
  lua_State *L = NULL;
  rule.for_good = strcmp(argv[1], "on") == 0;
  rule.first = strtoul(argv[3], NULL, 10);
  for (enum owner owner = LUA; owner <= CURL_; owner++)
    if (strcmp(argv[0], owner_names[owner]) == 0) rule.refused_owner = owner;
  argument = argv[0];
  host_take_over(false);
  if (!from_start) {
    L = host_new_state();
    if (host_protect(L, host_load, script) != LUA_OK) {
      host_complain(L, "the script");
      return 2;
    }
  }
  for (int result = REFUSED; result & REFUSED; rule.first += step) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(host_run(L, from_start ? script : NULL, live[CURL_]));
    waitpid(child, &status, 0);
    result = WIFEXITED(status) ? WEXITSTATUS(status) : REFUSED | BROKEN;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE && rule.refused_owner == CURL_) {
      /* libcurl 7.88 keeps a socket whose list of transfers it could not make: slots are 0 */
      result = REFUSED;
      crashed++;
    } else if (WIFSIGNALED(status)) {
      fprintf(stderr, "host: signal %d\n", WTERMSIG(status));
    }
    if (result & (BROKEN | LASTING))
      fprintf(stderr, "host: that was %s at %lu\n", argv[0], rule.first);
    broken += (result & BROKEN) != 0 || (result & (FAILED | REFUSED)) == FAILED;
    lasting += (result & LASTING) != 0;
    points += (result & REFUSED) != 0;
    failed += (result & FAILED) != 0;
  }
  printf("%s %s %s: %lu points, %lu errors, %lu crashes of libcurl's own, %lu with lasting "
         "effects, %lu broken\n",
         argv[0], argv[1], argv[2], points, failed, crashed, lasting, broken);
  if (L != NULL) lua_close(L);
  return broken + lasting > 0;
}

/* Collects all garbage, finalizers included. */
static void host_on_count (lua_State *L, lua_Debug *event) {
  (void)event;
  lua_gc(L, LUA_GCCOLLECT, 0);
}

/* Runs a script as lua does, collecting all garbage again and again. */
static int host_collect (int argc, char **argv) {
  int every = atoi(argv[0]);
  lua_State *L = host_new_state();
  lua_createtable(L, argc, 1);
  for (int i = 1; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_pushliteral(L, INTERPRETER);
  lua_rawseti(L, -2, -1);
  lua_setglobal(L, "arg");
  if (LUA_VERSION_NUM < 504 && luaL_dostring(L, "require 'jit'.off()") != LUA_OK) return 2;
  lua_sethook(L, host_on_count, LUA_MASKCOUNT, every);
  int status = host_protect(L, host_load, argv[1]);
  if (status != LUA_OK) host_complain(L, "the script");
  lua_close(L);
  if (live[LUA] != 0 || live[CORE] != 0) {
    fprintf(stderr, "host: %ld bytes of Lua's and %ld blocks of the core's are left\n",
            live[LUA], live[CORE]);
    return 1;
  }
  return status != LUA_OK;
}

/* Runs a script that looks for its own secrets. What was libcurl's, or all libraries', is
 * wiped. */
static int host_scan (char **argv) {
#ifdef __SANITIZE_ADDRESS__
  return 77; /* it has terabytes to look through */
#endif
  bool all = strcmp(argv[0], "all") == 0;
  wiped[CURL_] = all || strcmp(argv[0], "curl") == 0;
  wiped[OPENSSL] = all;
  argument = argv[2];
  host_take_over(all);
  lua_State *L = host_new_state();
  int status = host_protect(L, host_load, argv[1]);
  if (status != LUA_OK) host_complain(L, "the script");
  lua_close(L);
  return status != LUA_OK;
}

int main (int argc, char **argv) {
  if (argc == 8 && strcmp(argv[1], "refuse") == 0) return host_refuse(argv + 2);
  if (argc >= 4 && strcmp(argv[1], "collect") == 0) return host_collect(argc - 2, argv + 2);
  if (argc == 5 && strcmp(argv[1], "scan") == 0) return host_scan(argv + 2);
  fprintf(stderr, "usage: see the top of spec/memory/host.c\n");
  return 2;
}
