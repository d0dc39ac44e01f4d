/* A function that does what the member "do" of a message says: the fixture of the tests of functions. */
#include "ev.h"
#define LEN(s) (sizeof(s) - 1)
#define S(s) s, LEN(s)

static uint8_t in[1 << 20], out[1 << 17], a[70000], b[70000], c[2048];
static char doing[32];

static int is(const char *s) {
  int32_t i = 0;
  for (; s[i]; i++)
    if (s[i] != doing[i]) return 0;
  return !doing[i];
}
static int32_t get(const char *name, int32_t n, void *to, int32_t cap) {
  int32_t m = ev_json_get(name, n, to, cap);
  return m < 0 ? 0 : m;
}
static void read_doing(const char *name, int32_t n) {
  int32_t m = get(name, n, doing, sizeof doing - 1);
  doing[m < (int32_t)sizeof doing ? m : 0] = 0;
}
static int64_t number(const char *name, int32_t n) {
  uint8_t d[24];
  int32_t m = get(name, n, d, sizeof d), i = 0, sign = 1;
  int64_t v = 0;
  if (m && d[0] == '-') { sign = -1; i = 1; }
  for (; i < m; i++) v = v * 10 + (d[i] - '0');
  return sign * v;
}
static int32_t digits(uint8_t *at, int64_t v) {
  uint8_t d[24];
  int32_t n = 0, m = 0;
  if (v < 0) { at[m++] = '-'; v = -v; }
  do d[n++] = '0' + v % 10; while (v /= 10);
  while (n) at[m++] = d[--n];
  return m;
}
static void report(int64_t v) { ev_send(0, out, digits(out, v)); }
static int32_t copy(uint8_t *to, const uint8_t *from, int32_t n) {
  for (int32_t i = 0; i < n; i++) to[i] = from[i];
  return n;
}

EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }
EXPORT(ev_init) int32_t init(void) { return ev_auto_response(S("ping"), S("pong")); }

/* The query decides: status=N refuses, greet=text greets, join=group joins. */
EXPORT(ev_on_connect) uint64_t on_connect(int32_t n) {
  (void)n;
  read_doing(S("query"));
  if (is("deny")) return 1;
  if (is("fail")) return 2;
  if (is("trap")) __builtin_trap();
  if (is("teapot")) return 0x10000 + 418;
  if (is("reason")) { copy(out, (const uint8_t *)"no seats", 8); return PACK(out, 8); }
  int32_t m = get(S("params.room"), a, sizeof a);
  ev_attachment_set(a, m);
  if (m && ev_join(a, m) && is("strict")) return 2;
  ev_send(0, S("welcome"));
  return 0;
}

static int64_t request(void) {
  int32_t kn = get(S("key"), a, 1024), n = get(S("value"), b, sizeof b), cn = get(S("context"), c, sizeof c);
  int64_t ttl = number(S("ttl"));
  if (is("get")) return ev_shared_get(a, kn, c, cn);
  if (is("set")) return ev_shared_set(a, kn, b, n, ttl, c, cn);
  if (is("swap")) { int32_t en = get(S("expected"), out, sizeof out); return ev_shared_swap(a, kn, out, en, b, n, ttl, c, cn); }
  if (is("add")) return ev_shared_add(a, kn, number(S("delta")), ttl, c, cn);
  if (is("push")) return ev_shared_push(a, kn, b, n, (int32_t)number(S("limit")), ttl, c, cn);
  if (is("list")) return ev_shared_list(a, kn, (int32_t)number(S("limit")), c, cn);
  if (is("alarm")) return ev_alarm_set(a, kn, b, n, number(S("at")), c, cn);
  if (is("cancel")) return ev_alarm_cancel(a, kn, c, cn);
  if (is("fetch")) return ev_fetch(a, kn, b, n, c, cn);
  return 0;
}

EXPORT(ev_on_message) uint64_t on_message(int32_t kind, int32_t n) {
  if (kind) return PACK(in, n); /* an echo */
  read_doing(S("do"));
  if (is("echo")) { int32_t m = get(S("text"), out, sizeof out); return PACK(out, m); }
  if (is("fail")) return 2;
  if (is("trap")) __builtin_trap();
  if (is("spin")) for (volatile int i = 0;; i++) {}
  if (is("remember")) { report(ev_attachment_set(a, get(S("text"), a, sizeof a))); return 0; }
  if (is("recall")) { int32_t m = ev_attachment_get(out, sizeof out); return PACK(out, m); }
  if (is("id")) { int32_t m = ev_connection_id(out, sizeof out); return PACK(out, m); }
  if (is("join")) { report(ev_join(a, get(S("group"), a, sizeof a))); return 0; }
  if (is("leave")) { report(ev_leave(a, get(S("group"), a, sizeof a))); return 0; }
  if (is("close")) { report(ev_close((int32_t)number(S("code")), S("bye"))); return 0; }
  if (is("sends")) { for (int64_t i = number(S("times")), r = 0; i; i--) if ((r = ev_send(0, S("x")))) { report(r); ev_log(1, out, digits(out, r)); } return 0; }
  if (is("publish")) {
    int32_t g = get(S("group"), a, 1024), t = get(S("type"), c, sizeof c), m = get(S("text"), b, sizeof b);
    report(ev_publish(a, g, c, t, b, m, (int32_t)number(S("flags"))));
    return 0;
  }
  int64_t times = number(S("times")), token = 0;
  do token = request(); while (--times > 0);
  if (token < 0) report(token);
  return 0;
}

EXPORT(ev_on_close) uint64_t on_close(int32_t code, int32_t n) {
  copy(out, in, n);
  ev_publish(S("closed"), S(""), out, n, 0);
  report(code); /* the client has gone: no effect */
  return 0;
}

/* Sends "context status body" to the client, and without one publishes it to the group "results". */
EXPORT(ev_on_result) uint64_t on_result(int64_t token, int32_t status, int32_t n) {
  (void)token;
  int32_t m = ev_result_context(out, 2048);
  if (m == 4 && out[0] == 't' && out[1] == 'r' && out[2] == 'a' && out[3] == 'p') __builtin_trap();
  if (m == 5 && out[0] == 'a' && out[1] == 'g' && out[2] == 'a') { ev_shared_get(S("k"), S("again")); return 0; }
  out[m++] = ' ';
  m += digits(out + m, status);
  out[m++] = ' ';
  m += copy(out + m, in, n);
  if (ev_send(0, out, m) == -5) ev_publish(S("results"), S(""), out, m, 0);
  return 0;
}

EXPORT(ev_on_alarm) uint64_t on_alarm(int32_t name_n, int32_t n) {
  if (n == 4 && in[name_n] == 'f' && in[name_n + 1] == 'a' && in[name_n + 2] == 'i' && in[name_n + 3] == 'l') return 2;
  copy(out, in, name_n + n);
  ev_publish(S("alarms"), S(""), out, name_n + n, 0);
  return 0;
}

/* An event is a request, or a message to publish. */
EXPORT(ev_on_event) uint64_t on_event(int32_t g, int32_t n) {
  (void)g;
  (void)n;
  read_doing(S("do"));
  if (is("publish")) {
    int32_t to = get(S("group"), a, 1024), m = get(S("text"), b, sizeof b);
    return ev_publish(a, to, S(""), b, m, 0) ? 2 : 0;
  }
  if (request() < 0) return 2;
  return 0;
}
