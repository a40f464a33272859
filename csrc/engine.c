#include "engine.h"
#include "request.h"
#include "secret.h"
#include "transport.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ENGINE   "cloudsync.engine"
#define TRANSFER "cloudsync.transfer"

#define MAX_HEAD         ((size_t)256 * 1024) /* bytes of headers of one answer */
#define MAX_IDLE_SECONDS 50L /* below servers' usual limits: they seldom close first */

#define MIN_SECONDS 0.0005 /* of the timer: by libcurl's clock it may be too early */
#define MAX_EVENTS  128    /* of one step */

/*
 * One for each Lua state and process. It keeps no transfer alive: one that nobody waits for is
 * collected, and thereby ended.
 */
struct engine {
  CURLM *multi;
  pid_t pid;       /* the process it was made in; in any other it is not touched */
  int poll, timer; /* an epoll of libcurl's sockets and of the timer of its next time-out */
  bool due;        /* libcurl asks for its turn at once */
  double wanted, armed; /* when libcurl asks for it, and when the timer runs out */
  bool failed;          /* it could not do what it was told */
  double number;        /* of the last transfer */
  size_t running;       /* how many are in flight */
  struct transfer *first_running, *finished, **last_finished;
};

/* OpenSSL writes to sockets without MSG_NOSIGNAL: SIGPIPE must not reach the host program. */
static void engine_hold_sigpipe (sigset_t *previous) {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, previous);
}

static void engine_release_sigpipe (const sigset_t *previous) {
  sigset_t pending;
  if (sigismember(previous, SIGPIPE) != 1 && sigpending(&pending) == 0 &&
      sigismember(&pending, SIGPIPE) == 1) {
    int signal;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigwait(&pipe, &signal);
  }
  pthread_sigmask(SIG_SETMASK, previous, NULL);
}

struct transfer *engine_transfer (lua_State *L, int index) {
  return luaL_checkudata(L, index, TRANSFER);
}

static size_t engine_on_body (char *bytes, size_t size, size_t count, void *data) {
  struct transfer *t = data;
  size_t length = size * count;
  if (length > t->limit - t->body.length) t->excess = "it is larger than max_response_bytes";
  return t->excess == NULL && buffer_append(&t->body, bytes, length) ? length : 0;
}

/* Keeps the headers of the last answer alone: others (100 Continue) may come before it. */
static size_t engine_on_header (char *bytes, size_t size, size_t count, void *data) {
  struct transfer *t = data;
  size_t length = size * count;
  if (length > 5 && memcmp(bytes, "HTTP/", 5) == 0) buffer_truncate(&t->head, 0);
  if (length > MAX_HEAD - t->head.length) t->excess = "its headers are larger than 256 KiB";
  return t->excess == NULL && buffer_append(&t->head, bytes, length) ? length : 0;
}

#if LIBCURL_VERSION_NUM >= 0x075000
/*
 * Called before each sending. libcurl sends again, whatever the method, when a connection that
 * it had kept turns out to be dead; the server may have read the first, so only what is safe
 * may be.
 */
static int engine_on_send (void *data, char *remote, char *local, int remote_port,
                           int local_port) {
  struct transfer *t = data;
  (void)remote, (void)local, (void)remote_port, (void)local_port;
  t->sends++;
  return t->sends > 1 && !t->repeatable ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}
#endif

/* The value of the first header of that name in the answer, or NULL. */
const char *engine_header (const struct transfer *t, const char *name, size_t *length) {
  size_t name_length = strlen(name);
  const char *line = t->head.data, *end = line + t->head.length;
  while (line != NULL && line < end) {
    const char *next = memchr(line, '\n', (size_t)(end - line));
    size_t size = (size_t)((next != NULL ? next : end) - line);
    if (size > name_length && line[name_length] == ':' &&
        strncasecmp(line, name, name_length) == 0) {
      const char *value = line + name_length + 1;
      *length = size - name_length - 1;
      while (*length > 0 && isspace((unsigned char)*value)) {
        value++;
        (*length)--;
      }
      while (*length > 0 && isspace((unsigned char)value[*length - 1]))
        (*length)--;
      return value;
    }
    line = next != NULL ? next + 1 : NULL;
  }
  return NULL;
}

static void engine_link (struct transfer *t, struct transfer **list) {
  t->next = *list;
  t->link = list;
  if (t->next != NULL) t->next->link = &t->next;
  *list = t;
}

static void engine_unlink (struct transfer *t) {
  *t->link = t->next;
  if (t->next != NULL)
    t->next->link = t->link;
  else if (t->engine->last_finished == &t->next)
    t->engine->last_finished = t->link;
  t->next = NULL;
  t->link = NULL;
}

/*
 * Takes the transfer out of libcurl. Its handle is not kept for another one: where memory runs
 * out curl_easy_reset leaves a handle that can't receive, and does not tell.
 */
static void engine_detach (struct transfer *t) {
  struct engine *e = t->engine;
  engine_unlink(t);
  e->running--;
  curl_multi_remove_handle(e->multi, t->easy);
  curl_easy_cleanup(t->easy);
  t->easy = NULL;
  buffer_free(&t->authorization);
  buffer_free(&t->form);
}

/* Ends a transfer that another process has begun, without a word to libcurl. */
static void engine_abandon (struct transfer *t) {
  engine_unlink(t);
  t->engine->running--;
  t->engine = NULL;
  t->easy = NULL;
  t->done = true;
  t->code = CURLE_ABORTED_BY_CALLBACK;
  strcpy(t->problem, "the process was forked while the call was in flight");
}

/* Moves a transfer in flight into the queue of those that are done. */
static void engine_finish (struct engine *e, struct transfer *t, CURLcode code) {
  t->code = code;
  t->done = true;
  engine_detach(t);
  t->link = e->last_finished;
  *e->last_finished = t;
  e->last_finished = &t->next;
}

/* Moves what libcurl has finished into the queue. */
static void engine_collect (struct engine *e) {
  CURLMsg *message;
  int left;
  while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
    if (message->msg != CURLMSG_DONE) continue;
    struct transfer *t = NULL;
    CURLcode code = message->data.result; /* the message is gone once the handle is removed */
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
    curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &t->status);
    curl_easy_getinfo(message->easy_handle, CURLINFO_HTTP_CONNECTCODE, &t->proxy_status);
#if LIBCURL_VERSION_NUM < 0x075000
    double connected = 0;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRETRANSFER_TIME, &connected);
    t->sends = connected > 0;
#endif
    engine_finish(e, t, code);
  }
}

/* libcurl's word on which of its sockets to watch for what. */
static int engine_on_socket (CURL *easy, curl_socket_t socket, int what, void *data,
                             void *known) {
  struct engine *e = data;
  struct epoll_event event = {.data.fd = socket};
  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(e->poll, EPOLL_CTL_DEL, socket, NULL);
    return 0;
  }
  if (what & CURL_POLL_IN) event.events |= EPOLLIN;
  if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
  curl_multi_assign(e->multi, socket, e);
  if (epoll_ctl(e->poll, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event) == 0)
    return 0;
  /* libcurl may close a descriptor, whose number comes again, before it tells */
  if (errno == ENOENT) return epoll_ctl(e->poll, EPOLL_CTL_ADD, socket, &event);
  return errno == EEXIST ? epoll_ctl(e->poll, EPOLL_CTL_MOD, socket, &event) : -1;
}

static double engine_now (void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* libcurl's word on when it wants its turn; -1 for never. */
static int engine_on_timer (CURLM *multi, long milliseconds, void *data) {
  struct engine *e = data;
  (void)multi;
  e->due = milliseconds == 0;
  e->wanted = milliseconds < 0 ? HUGE_VAL : engine_now() + (double)milliseconds / 1000;
  return 0;
}

/*
 * Sets the timer where it would be late. Where it is early it stays: most time-outs are put off
 * again and again, and never come.
 */
static void engine_arm (struct engine *e) {
  if (e->wanted >= e->armed) return;
  double seconds = e->wanted - engine_now();
  if (seconds < MIN_SECONDS) seconds = MIN_SECONDS;
  struct itimerspec at = {.it_value.tv_sec = (time_t)seconds};
  at.it_value.tv_nsec = (long)((seconds - (double)at.it_value.tv_sec) * 1e9);
  timerfd_settime(e->timer, 0, &at, NULL);
  e->armed = e->wanted;
}

/* The timer has run out. */
static void engine_ring (struct engine *e) {
  uint64_t times;
  if (read(e->timer, &times, sizeof times) != sizeof times) return;
  e->armed = HUGE_VAL;
  e->due = e->due || e->wanted <= engine_now();
}

/*
 * Ends all transfers: where libcurl fails, which is to say where memory runs out, it forgets
 * their sockets, never to end them, or crashes when it comes upon these again.
 */
static void engine_give_up (struct engine *e) {
  while (e->first_running != NULL)
    engine_finish(e, e->first_running, CURLE_OUT_OF_MEMORY);
  e->failed = false;
  engine_on_timer(e->multi, 0, e); /* whoever watches the engine is to look for them */
}

/* Lets libcurl look at a socket, or at its time-outs, unless it has failed. */
static void engine_look (struct engine *e, curl_socket_t socket, int what) {
  int running;
  if (!e->failed)
    e->failed = curl_multi_socket_action(e->multi, socket, what, &running) != CURLM_OK;
}

/* Lets libcurl have the turns it asks for, and takes what it has finished. */
static void engine_turn (struct engine *e) {
  while (e->due && !e->failed) {
    e->due = false;
    e->wanted = HUGE_VAL; /* libcurl tells again if it wants another */
    engine_look(e, CURL_SOCKET_TIMEOUT, 0);
  }
  engine_collect(e);
  if (e->failed) engine_give_up(e);
  engine_arm(e);
}

/* Moves what can be moved, having waited for it for up to so many milliseconds. */
static void engine_act (struct engine *e, int milliseconds) {
  struct epoll_event events[MAX_EVENTS];
  sigset_t previous;
  int count = epoll_wait(e->poll, events, MAX_EVENTS, milliseconds);
  if (count <= 0 && !e->due) return;
  engine_hold_sigpipe(&previous);
  for (int i = 0; i < count; i++) {
    int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    if (events[i].data.fd == e->timer)
      engine_ring(e);
    else
      engine_look(e, events[i].data.fd, what);
  }
  engine_turn(e);
  engine_release_sigpipe(&previous);
}

static CURLcode engine_set_method (const struct transfer *t, const struct request *r) {
  CURL *easy = t->easy;
  const struct buffer *body = t->form.length > 0 ? &t->form : &r->body;
  CURLcode code;
  if (r->content_type == NULL && strcmp(r->method, "GET") == 0)
    return curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
  if (r->content_type == NULL && strcmp(r->method, "DELETE") == 0)
    return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
  code = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->length);
  if (code == CURLE_OK)
    code = curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body->length > 0 ? body->data : "");
  if (code == CURLE_OK && strcmp(r->method, "POST") != 0)
    code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
  return code;
}

/* Points the list of header lines at the request's own bytes. False if there are too many. */
static bool engine_set_headers (struct transfer *t, const struct request *r) {
  size_t count = 0;
  if (t->authorization.length > 0) t->lines[count++].data = t->authorization.data;
  for (size_t at = 0; at < r->headers.length; at += strlen(r->headers.data + at) + 1) {
    if (count == ENGINE_HEADERS) return false;
    t->lines[count++].data = r->headers.data + at;
  }
  for (size_t i = 0; i + 1 < count; i++)
    t->lines[i].next = &t->lines[i + 1];
  return true;
}

#define SET(option, value)                                                                     \
  code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value)

/* Sets on the transfer's handle what this try needs. */
static CURLcode engine_configure (struct transfer *t, const struct request *r,
                                  const struct transport *transport, double timeout) {
  CURL *easy = t->easy;
  CURLcode code = transport_apply(transport, easy);
  SET(CURLOPT_PRIVATE, t);
  SET(CURLOPT_URL, r->url.data);
  SET(CURLOPT_HTTPHEADER, t->lines);
  SET(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
  SET(CURLOPT_TIMEOUT_MS, timeout < MAX_SECONDS ? (long)(timeout * 1000) + 1 : 0L);
  SET(CURLOPT_ERRORBUFFER, t->problem);
  SET(CURLOPT_WRITEFUNCTION, engine_on_body);
  SET(CURLOPT_WRITEDATA, t);
  SET(CURLOPT_HEADERFUNCTION, engine_on_header);
  SET(CURLOPT_HEADERDATA, t);
  SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  SET(CURLOPT_NOSIGNAL, 1L);
  /*
   * Not HTTP/2: of a host with connections of both kinds libcurl shares an HTTP/1.1 one between
   * calls and crosses their answers (curl's issue 4885), and which kind a server takes can
   * change with every connection. Moreover a server may close an HTTP/2 connection and leave it
   * to libcurl to send again what it has not seen, which may not be safe.
   */
  SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
#if LIBCURL_VERSION_NUM >= 0x074100
  SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
#endif
  SET(CURLOPT_TCP_KEEPALIVE, 1L);
#if LIBCURL_VERSION_NUM >= 0x075000
  SET(CURLOPT_PREREQFUNCTION, engine_on_send);
  SET(CURLOPT_PREREQDATA, t);
#else
  if (!t->repeatable) SET(CURLOPT_FRESH_CONNECT, 1L);
#endif
  return code != CURLE_OK ? code : engine_set_method(t, r);
}

/* [-0, +1] Pushes a transfer, empty but owned by Lua; it keeps the request, at that index. */
static struct transfer *engine_new_transfer (lua_State *L, int request) {
  struct transfer *t = lua_newuserdatauv(L, sizeof *t, 1);
  memset(t, 0, sizeof *t);
  luaL_setmetatable(L, TRANSFER);
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, request);
  lua_rawseti(L, -2, 1);
  lua_setiuservalue(L, -2, 1);
  return t;
}

static struct engine *engine_check (lua_State *L) {
  struct engine *e = luaL_checkudata(L, 1, ENGINE);
  if (e->multi == NULL || e->pid != getpid())
    luaL_error(L, "this engine is another process's: ask for it again after a fork");
  return e;
}

/* Gives libcurl the transfer, which is configured, and its first turn. */
static bool engine_attach (struct engine *e, struct transfer *t) {
  sigset_t previous;
  if (curl_multi_add_handle(e->multi, t->easy) != CURLM_OK) return false;
  t->engine = e;
  t->number = ++e->number;
  engine_link(t, &e->first_running);
  e->running++;
  engine_hold_sigpipe(&previous);
  engine_turn(e);
  engine_release_sigpipe(&previous);
  return true;
}

/* Puts the token where the service wants it: behind the fields of a form, or in a header. */
static void engine_authorise (struct transfer *t, struct request *r, const char *token,
                              size_t length) {
  const char *prefix = r->operation->authorization;
  if (prefix == NULL) prefix = r->service->authorization;
  if (prefix == NULL || prefix[0] == '\0') return;
  request_note_secret(r, token, length);
  if (r->service->form_token != NULL && r->body.length > 0) {
    buffer_append(&t->form, r->body.data, r->body.length);
    buffer_append_char(&t->form, '&');
    buffer_append_string(&t->form, r->service->form_token);
    buffer_append_char(&t->form, '=');
    buffer_append_encoded(&t->form, token, length);
    return;
  }
  buffer_append_string(&t->authorization, prefix);
  buffer_append(&t->authorization, token, length);
}

/*
 * engine:submit(request, transport, timeout, token?) -> a transfer in flight. `timeout` is in
 * seconds; `token` is a string or a secret, sent as the service wants it.
 */
static int engine_submit (lua_State *L) {
  size_t length;
  struct engine *e = engine_check(L);
  struct request *r = request_check(L, 2);
  const struct transport *transport = transport_check(L, 3);
  double timeout = luaL_checknumber(L, 4);
  luaL_argcheck(L, timeout >= 0, 4, "negative");
  const char *token = secret_tolstring(L, 5, &length);
  if (r->shown) return luaL_error(L, "a request made by dry_run can't be sent");
  luaL_argcheck(L, token == NULL || secret_is_token(token, length), 5, "not a token");
  struct transfer *t = engine_new_transfer(L, 2);
  t->limit = transport->max_response_bytes;
  t->repeatable = request_is_safe(r);
  if (token != NULL) engine_authorise(t, r, token, length);
  if (t->authorization.failed || t->form.failed || r->secrets.failed)
    return luaL_error(L, "not enough memory");
  if (!engine_set_headers(t, r)) return luaL_error(L, "more than %d headers", ENGINE_HEADERS);
  if (transport->max_connections != 0)
    curl_multi_setopt(e->multi, CURLMOPT_MAX_HOST_CONNECTIONS, transport->max_connections);
  t->easy = curl_easy_init();
  if (t->easy == NULL) return luaL_error(L, "not enough memory");
  CURLcode code = engine_configure(t, r, transport, timeout);
  if (code != CURLE_OK)
    return luaL_error(L, "can't set up the call: %s", curl_easy_strerror(code));
  if (!engine_attach(e, t)) return luaL_error(L, "libcurl does not take the call");
  return 1;
}

/*
 * engine:step(seconds) Moves what can be moved; waits up to `seconds` for something to happen
 * if nothing has.
 */
static int engine_step (lua_State *L) {
  struct engine *e = engine_check(L);
  double seconds = luaL_optnumber(L, 2, 0);
  if (e->finished != NULL || e->due || seconds < 0) seconds = 0;
  engine_act(e, seconds > 3600 ? 3600000 : (int)(seconds * 1000 + 0.999));
  return 0;
}

/* engine:next() -> the number of a transfer that is done, each of them once, or nil */
static int engine_next (lua_State *L) {
  struct engine *e = engine_check(L);
  struct transfer *t = e->finished;
  if (t == NULL) {
    lua_pushnil(L);
    return 1;
  }
  engine_unlink(t);
  t->engine = NULL;
  lua_pushnumber(L, (lua_Number)t->number);
  return 1;
}

/* engine:running() -> how many transfers are in flight */
static int engine_running (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)engine_check(L)->running);
  return 1;
}

/*
 * engine:pollfd() -> the descriptor that becomes readable when engine:step(0) has something to
 * do, for the time-outs too. With engine:events() and engine:timeout() it makes the engine an
 * object that cqueues can poll.
 */
static int engine_pollfd (lua_State *L) {
  lua_pushinteger(L, engine_check(L)->poll);
  return 1;
}

static int engine_events (lua_State *L) {
  engine_check(L);
  lua_pushliteral(L, "r");
  return 1;
}

static int engine_timeout (lua_State *L) {
  engine_check(L);
  lua_pushnil(L);
  return 1;
}

/*
 * Ends all there is. In a child process nothing is touched: closing would speak on the
 * connections that it shares with its parent.
 */
static int engine__gc (lua_State *L) {
  struct engine *e = luaL_checkudata(L, 1, ENGINE);
  bool own = e->pid == getpid();
  sigset_t previous;
  engine_hold_sigpipe(&previous);
  for (struct transfer *t = e->first_running, *next; t != NULL; t = next) {
    next = t->next;
    if (own)
      engine_detach(t);
    else
      engine_abandon(t);
    t->engine = NULL;
  }
  for (struct transfer *t = e->finished; t != NULL; t = t->next)
    t->engine = NULL;
  if (own && e->multi != NULL) curl_multi_cleanup(e->multi);
  e->multi = NULL;
  if (e->poll > 0) close(e->poll);
  if (e->timer > 0) close(e->timer);
  e->poll = e->timer = 0;
  engine_release_sigpipe(&previous);
  return 0;
}

/* engine() -> the engine of this Lua state in this process, made at first use */
int engine_get (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, ENGINE ".current");
  struct engine *e = luaL_testudata(L, -1, ENGINE);
  if (e != NULL && e->pid == getpid()) return 1;
  e = lua_newuserdatauv(L, sizeof *e, 0);
  memset(e, 0, sizeof *e);
  e->last_finished = &e->finished;
  e->wanted = e->armed = HUGE_VAL;
  e->pid = getpid();
  luaL_setmetatable(L, ENGINE);
  e->poll = epoll_create1(EPOLL_CLOEXEC);
  e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = e->timer};
  if (e->poll < 0 || e->timer < 0 || epoll_ctl(e->poll, EPOLL_CTL_ADD, e->timer, &event) != 0)
    return luaL_error(L, "no descriptor for the transfers: %s", strerror(errno));
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
      (e->multi = curl_multi_init()) == NULL)
    return luaL_error(L, "libcurl can't be initialised");
  curl_multi_setopt(e->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
  curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, engine_on_socket);
  curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e);
  curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, engine_on_timer);
  curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, ENGINE ".current");
  return 1;
}

/* transfer:done() -> whether it has ended; one that a fork left behind has */
static int transfer_done (lua_State *L) {
  struct transfer *t = engine_transfer(L, 1);
  if (!t->done && t->engine != NULL && t->engine->pid != getpid()) engine_abandon(t);
  lua_pushboolean(L, t->done);
  return 1;
}

/* transfer:number() -> what engine:next() calls it */
static int transfer_number (lua_State *L) {
  lua_pushnumber(L, (lua_Number)engine_transfer(L, 1)->number);
  return 1;
}

/* transfer:status() -> the HTTP status of the answer, 0 where there is none */
static int transfer_status (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)engine_transfer(L, 1)->status);
  return 1;
}

/* transfer:header(name) -> the value of the first such header of the answer, or nil */
static int transfer_header (lua_State *L) {
  size_t length;
  const struct transfer *t = engine_transfer(L, 1);
  const char *value = engine_header(t, luaL_checkstring(L, 2), &length);
  if (value != NULL)
    lua_pushlstring(L, value, length);
  else
    lua_pushnil(L);
  return 1;
}

/* transfer:headers() -> {[name in lower case] = value}, repeated ones joined by ", " */
static int transfer_headers (lua_State *L) {
  const struct transfer *t = engine_transfer(L, 1);
  lua_settop(L, 1);
  lua_newtable(L);
  const char *line = t->head.data, *end = line + t->head.length;
  while (line != NULL && line < end) {
    /* the status line has no name, whatever is in it */
    const char *next = memchr(line, '\n', (size_t)(end - line));
    const char *stop = next != NULL ? next : end,
               *colon = memchr(line, ':', (size_t)(stop - line));
    if (colon != NULL && line != t->head.data) {
      const char *value = colon + 1;
      while (value < stop && isspace((unsigned char)*value))
        value++;
      while (stop > value && isspace((unsigned char)stop[-1]))
        stop--;
      luaL_Buffer name;
      luaL_buffinit(L, &name);
      for (const char *c = line; c < colon; c++)
        luaL_addchar(&name, (char)tolower((unsigned char)*c));
      luaL_pushresult(&name);
      lua_pushvalue(L, -1);
      lua_rawget(L, 2);
      bool again = !lua_isnil(L, -1);
      if (again)
        lua_pushliteral(L, ", ");
      else
        lua_pop(L, 1);
      lua_pushlstring(L, value, (size_t)(stop - value));
      if (again) lua_concat(L, 3);
      lua_rawset(L, 2);
    }
    line = next != NULL ? next + 1 : NULL;
  }
  return 1;
}

/*
 * transfer:cancel() Ends it, if it is in flight, and wipes what it holds. What was sent has
 * been sent. Lua does not collect what a finalizer makes while the state is closed: there, this
 * is what frees it.
 */
static int transfer_cancel (lua_State *L) {
  struct transfer *t = engine_transfer(L, 1);
  struct engine *e = t->engine;
  sigset_t previous;
  engine_hold_sigpipe(&previous);
  if (t->easy != NULL && e == NULL) {
    curl_easy_cleanup(t->easy);
  } else if (t->easy != NULL && e->pid == getpid()) {
    engine_detach(t);
    engine_arm(e); /* others may have waited for its connection */
  } else if (t->easy != NULL) {
    engine_abandon(t);
  } else if (e != NULL) {
    engine_unlink(t);
  }
  engine_release_sigpipe(&previous);
  if (!t->done) {
    t->code = CURLE_ABORTED_BY_CALLBACK;
    strcpy(t->problem, "the call was cancelled");
  }
  t->easy = NULL;
  t->engine = NULL;
  t->done = true;
  buffer_free(&t->authorization);
  buffer_free(&t->form);
  buffer_free(&t->head);
  buffer_free(&t->body);
  return 0;
}

static const luaL_Reg transfer_functions[] = {
    {"done", transfer_done},       {"number", transfer_number},
    {"status", transfer_status},   {"header", transfer_header},
    {"headers", transfer_headers}, {"cancel", transfer_cancel},
    {"__gc", transfer_cancel},     {NULL, NULL},
};

static const luaL_Reg engine_functions[] = {
    {"submit", engine_submit}, {"step", engine_step},       {"next", engine_next},
    {"pollfd", engine_pollfd}, {"events", engine_events},   {"timeout", engine_timeout},
    {"__gc", engine__gc},      {"running", engine_running}, {NULL, NULL},
};

void engine_register (lua_State *L) {
  compat_newclass(L, ENGINE, engine_functions);
  compat_newclass(L, TRANSFER, transfer_functions);
}
