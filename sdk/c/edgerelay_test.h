/* Unit tests of plugins in C: the plugin runs on this machine, and this header takes the relay's place.
 *
 *     #include "edgerelay_test.h"
 *
 *     EV_TEST(failures_pass) {
 *       EV_EXPECT("pass", ev_test_event("jobs-42", "{\"status\":\"failed\"}"));
 *       EV_EXPECT("drop", ev_test_event("jobs-42", "{\"status\":\"running\"}"));
 *     }
 *
 * Built with any C compiler for Linux, macOS or the like. Sanitizers find reads and writes outside of buffers:
 *
 *     cc -DEDGERELAY_TEST -g -fsanitize=address,undefined plugin.c plugin_test.c -o plugin_test && ./plugin_test
 *
 * Include this header in one file. It has the main function. Each EV_TEST runs in a process of its own, so the plugin
 * starts afresh, and a crash fails its own test. All functions of the relay are there, with the relay's checks. Fuel,
 * memory limits and grants are not checked: for these, `caddy edgerelay plugin test` runs the module itself.
 */
#ifndef EDGERELAY_TEST_H
#define EDGERELAY_TEST_H

#ifndef EDGERELAY_TEST
#error "compile with -DEDGERELAY_TEST"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "edgerelay.h"

/* The relay's side, to be set before a call. The plugin starts with the first call, or with ev_test_start. */
struct ev_test_relay {
  const char *config;     /* JSON; 0: null */
  const char *source;     /* of the events: layer, peer, history; 0: none */
  int64_t sent_ms;        /* Unix time in milliseconds; -1: not known */
  int64_t now_ms;         /* the plugin's clock */
  uint32_t kv_limit;      /* bytes of the store */
  uint32_t max_result;    /* bytes of a result; 0: 1 MiB, or 8 times the event if that is more */
  uint32_t hops;          /* how often the events were sent from group to group: 4 is the last time */
  int json;               /* results must be JSON */
  const char *position;   /* of the events, a token; 0: none */
  const char *join;       /* patterns of the groups that the plugin may join, with blanks between them; 0: all */
  const char *publish;    /* patterns of the groups that it may publish to; 0: all */
  /* Answers HTTP requests: request is JSON with method, url and headers. It returns a status of HTTP, or one below 0.
   * 0: no server is available. */
  int32_t (*fetch)(const char *request, const char *body, const char **answer);
  int unavailable;        /* the shared store and the alarms do not answer */
  int hold;               /* requests stay unanswered until ev_test_respond */
};
static struct ev_test_relay ev_relay = {0, 0, -1, 1767323045000, 1u << 20, 0, 0, 0, 0, 0, 0, 0, 0, 0};

typedef struct {
  const char *group; /* "": the event's own */
  const char *payload;
  uint32_t len;
  uint64_t audience;
  const char *position; /* that the plugin has given it; "" with ev_emit */
} ev_emission;

/* The result of a call. Texts end with a 0 in addition to their length. */
typedef struct {
  const char *verdict;  /* pass, drop, replace; allow, deny; error */
  const char *payload;  /* the event afterwards; "" if there is none */
  uint32_t len;
  uint64_t audience;    /* of the event's own output */
  int class;            /* of a subscriber; -1 if the plugin names none */
  const char *reason;   /* of a denial or an error; "" without one */
  uint32_t emits;
  ev_emission emit[16]; /* in order */
} ev_outcome;

/* Calls of the hooks. An outcome is valid until the next call. ev_test_start returns ev_init's result. */
EV_API int32_t ev_test_start(const char *config);
EV_API const ev_outcome *ev_test_event_n(const char *group, const void *payload, uint32_t n);
EV_API const ev_outcome *ev_test_event(const char *group, const char *payload);
EV_API const ev_outcome *ev_test_class(uint32_t class, const char *group, const char *payload);
EV_API const ev_outcome *ev_test_subscribe(const char *user_json, const char *group);
EV_API const ev_outcome *ev_test_tick(void);
/* What the plugin did: its log, oldest line first, 0 after the last; counters, 0 if not counted; stored values, 0
 * without one. */
EV_API const char *ev_test_log(uint32_t line);
EV_API int64_t ev_test_metric(const char *name);
EV_API const char *ev_test_kv(const char *key);
/* A client of a function, which shows what the plugin did. Texts are "" if there is nothing. */
typedef struct {
  const char *id;
  int accepted, status;     /* the HTTP status of a rejection */
  const char *reason;       /* of a rejection, for the log */
  const char *attachment;
  int closed;               /* the code with which the connection ended; 0 while it is open */
  const char *close_reason;
  const char *error;        /* the last failure of a hook or of a continuation for this client */
} ev_test_client;
typedef struct {
  const char *group;
  const char *type; /* "": payload is the text that clients get */
  const char *payload;
  int others;       /* whether the client that caused it was left out */
} ev_publication;
/* Asks the plugin to accept a connection. request is JSON with any of path, query, params, user, user_key, address,
 * headers and subprotocols. Clients stay valid. */
EV_API ev_test_client *ev_test_connect(const char *request);
/* Sends a message of a client to the plugin. Returns whether the hook succeeded. */
EV_API int ev_test_text(ev_test_client *c, const char *text);
EV_API int ev_test_binary(ev_test_client *c, const void *p, uint32_t n);
EV_API void ev_test_disconnect(ev_test_client *c, int code, const char *reason);
/* The next frame that the client got; 0 if there is no further one. */
EV_API const char *ev_test_received(ev_test_client *c);
EV_API int ev_test_in_group(ev_test_client *c, const char *group);
/* Publishes a text to the clients of a group, as another process may. */
EV_API void ev_test_publish(const char *group, const char *text);
/* What the plugin published, in order; 0 after the last. */
EV_API const ev_publication *ev_test_published(uint32_t i);
/* Values of the shared store, of a list its JSON; 0 without one. */
EV_API const char *ev_test_shared(const char *key);
EV_API void ev_test_set_shared(const char *key, const char *value);
/* The payload of an alarm that is set; 0 without one. ev_test_advance moves the clock on and calls the plugin for
 * alarms. */
EV_API const char *ev_test_alarm(const char *name);
EV_API void ev_test_advance(int64_t ms);
/* Gives the responses that ev_relay.hold held back. */
EV_API void ev_test_respond(void);
/* The last failure of an alarm, or of a continuation without a client; 0 without one. */
EV_API const char *ev_test_error(void);
/* Runs a file of golden samples, as `caddy edgerelay plugin test` does, and fails the test where they differ. */
EV_API void ev_test_samples(const char *file);

/* Checks. A failed one fails the test, which goes on. */
#define EV_CHECK(ok) ev__check(__FILE__, __LINE__, (ok) != 0, #ok, "is not true")
#define EV_TEXT(want, got) ev__check_text(__FILE__, __LINE__, want, got)
#define EV_EXPECT(verdict, outcome) ev__check_outcome(__FILE__, __LINE__, verdict, 0, outcome)
#define EV_REPLACED(payload, outcome) ev__check_outcome(__FILE__, __LINE__, "replace", payload, outcome)

#define EV_TEST(name)                                                                    \
  static void name(void);                                                                \
  __attribute__((constructor)) static void name##_is_a_test(void) {                      \
    static struct ev__test test = {0, #name, name};                                      \
    *ev__last_test = &test;                                                              \
    ev__last_test = &test.next;                                                          \
  }                                                                                      \
  static void name(void)

/* ---- The rest is no interface. ---- */

struct ev__test {
  struct ev__test *next;
  const char *name;
  void (*run)(void);
};
static struct ev__test *ev__tests, **ev__last_test __attribute__((unused)) = &ev__tests;
static int ev__failed;

struct ev__plugin ev__plugin;

EV_API void ev__check(const char *file, int line, int ok, const char *what, const char *how) {
  if (ok) return;
  ev__failed = 1;
  fprintf(stderr, "%s:%d: %s %s\n", file, line, what, how);
}
EV_API void ev__check_text(const char *file, int line, const char *want, const char *got) {
  if (got && !strcmp(want, got)) return;
  ev__failed = 1;
  fprintf(stderr, "%s:%d: %s\n  instead of %s\n", file, line, got ? got : "(none)", want);
}
EV_API void ev__check_outcome(const char *file, int line, const char *verdict, const char *payload,
    const ev_outcome *o) {
  if (strcmp(o->verdict, verdict)) {
    ev__failed = 1;
    fprintf(stderr, "%s:%d: %s instead of %s\n  %s%s\n", file, line, o->verdict, verdict, o->payload, o->reason);
  } else if (payload) {
    ev__check_text(file, line, payload, o->payload);
  }
}

EV_API void *ev__alloc(size_t n) {
  void *p = calloc(1, n);
  if (p) return p;
  fprintf(stderr, "out of memory\n");
  _exit(2);
}
/* A copy that ends with a 0 and is never freed: the process ends with the test. */
EV_API char *ev__keep(const void *p, uint32_t n) {
  char *copy = (char *)ev__alloc((size_t)n + 1);
  if (n) memcpy(copy, p, n);
  return copy;
}
/* A part of a text in memory of its own. */
struct ev__text {
  char *p;
  uint32_t n;
};
EV_API struct ev__text ev__text(const void *p, uint32_t n) {
  struct ev__text t = {ev__keep(p, n), n};
  return t;
}
EV_API int ev__same(struct ev__text a, const void *p, uint32_t n) { return a.n == n && (!n || !memcmp(a.p, p, n)); }

/* Buffers have the requested size, so that sanitizers see each byte beyond it. */
int ev_reserve(char **p, uint32_t *cap, uint32_t keep, uint32_t need) {
  static struct block { /* keeps the buffers reachable: they are not leaks */
    struct block *next;
    char *p;
  } *blocks;
  struct block *b;
  char *fresh;
  if (need <= *cap && *p) return 1;
  if (need > 1u << 30) return 0;
  fresh = (char *)malloc(need ? need : 1);
  if (!fresh) return 0;
  if (keep) memcpy(fresh, *p, keep);
  b = (struct block *)ev__alloc(sizeof *b);
  b->next = blocks;
  b->p = fresh;
  blocks = b;
  *p = fresh;
  *cap = need;
  return 1;
}

/* The call in progress. */
static struct {
  struct ev__text document, group;
  uint32_t input;
  char *buffer; /* of the input; freed before the next call, so that sanitizers see who kept a pointer */
  int effects; /* of emit and audience: 1 in ev_on_event, 2 in ev_on_tick */
  int event, started;
  ev_outcome out;
} ev__call;

static struct ev__line {
  struct ev__line *next;
  char *text;
} *ev__log_lines, *ev__log_end;
static struct ev__entry {
  struct ev__entry *next;
  struct ev__text key, value;
  int64_t expires, count;
} *ev__store, *ev__metrics;

void ev__log(int32_t level, const void *p, uint32_t n) {
  struct ev__line *line = (struct ev__line *)ev__alloc(sizeof *line);
  (void)level;
  line->text = ev__keep(p, n < 4096 ? n : 4096);
  if (ev__log_end) ev__log_end->next = line;
  else ev__log_lines = line;
  ev__log_end = line;
}
EV_API const char *ev__config_text(void) { return ev_relay.config ? ev_relay.config : "null"; }
/* Copies a text to the plugin if there is room for it. */
EV_API int32_t ev__give(const char *text, uint32_t n, void *p, uint32_t cap) {
  if (n && n <= cap) memcpy(p, text, n);
  return (int32_t)n;
}
EV_API struct ev__text ev__decoded(const char *p, uint32_t n) {
  struct ev__text t;
  uint32_t i = 1;
  if (n < 2 || p[0] != '"' || p[n - 1] != '"') return ev__text(p, n);
  if (!ev__escaped(p, 1, n - 1)) return ev__text(p + 1, n - 2);
  t.p = (char *)ev__alloc((size_t)n * 3);
  for (t.n = 0; i < n - 1; t.n += ev__decode(p, n - 1, &i, t.p + t.n)) {
  }
  return t;
}
EV_API int32_t ev__value_of(const char *doc, uint32_t n, const void *path, uint32_t pn, void *p, uint32_t cap) {
  ev__place l;
  struct ev__text path_copy = ev__text(path, pn), t;
  if (!ev__find(doc, n, path_copy.p, pn, &l)) return -1;
  t = ev__decoded(doc + l.from, l.to - l.from);
  return ev__give(t.p, t.n, p, cap);
}
int32_t ev__config(void *p, uint32_t cap) { return ev__give(ev__config_text(), ev_len(ev__config_text()), p, cap); }
int32_t ev__config_get(const void *path, uint32_t n, void *p, uint32_t cap) {
  return ev__value_of(ev__config_text(), ev_len(ev__config_text()), path, n, p, cap);
}
int32_t ev__json_get(const void *path, uint32_t n, void *p, uint32_t cap) {
  return ev__value_of(ev__call.document.p, ev__call.document.n, path, n, p, cap);
}
int64_t ev__json_find(const void *path, uint32_t n) {
  ev__place l;
  struct ev__text path_copy = ev__text(path, n);
  if (!ev__call.document.p || !ev__find(ev__call.document.p, ev__call.document.n, path_copy.p, n, &l)) return -1;
  return (int64_t)((uint64_t)l.from << 32 | (l.to - l.from));
}
void ev__audience(uint64_t mask) {
  if (ev__call.effects == 1) ev__call.out.audience &= mask;
}
EV_API uint32_t ev__limit(void) {
  uint64_t n = (uint64_t)ev__call.input * 8;
  if (ev_relay.max_result) return ev_relay.max_result;
  return n > 1u << 20 ? (n > 1u << 30 ? 1u << 30 : (uint32_t)n) : 1u << 20;
}
EV_API int ev__is_utf8(const char *p, uint32_t n) {
  for (uint32_t i = 0, size; i < n; i += size)
    if (!(size = ev__utf8(p, n, i))) return 0;
  return 1;
}
EV_API int ev__group_name(const char *p, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!p[i] || !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", p[i])) return 0;
  return n > 0 && n < 100;
}
/* Whether a text is a position: 128 bits in 22 characters, or 144 bits in 24 of which the last 16 are not 0. */
EV_API int ev__is_position(const char *p, uint32_t n) {
  int zero = 1, whole;
  if (n != 22 && n != EV_MAX_POSITION) return 0;
  for (uint32_t i = 0; i < n; i++) {
    if (!p[i] || !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", p[i])) return 0;
    zero &= p[i] == 'A';
  }
  whole = strchr("AQgw", p[21]) != 0;
  return n == 22 ? whole && !zero : !(whole && p[22] == 'A' && p[23] == 'A');
}
int32_t ev__emit(const void *g, uint32_t gn, const void *p, uint32_t n, uint64_t mask) {
  return ev__emit_at(g, gn, p, n, mask, 0, 0);
}
int32_t ev__emit_at(
    const void *g, uint32_t gn, const void *p, uint32_t n, uint64_t mask, const void *at, uint32_t at_n) {
  struct ev__text position = ev__text(at, at_n);
  struct ev__text group = ev__text(g, gn), payload = ev__text(p, n);
  int tick = ev__call.effects == 2, other = gn && (tick || !ev__same(ev__call.group, group.p, gn));
  ev_emission *e;
  if (at_n && !ev__is_position(position.p, at_n)) return EV_BAD_POSITION;
  if (!ev__call.effects) return 0;
  if (tick && !gn) return EV_BAD_NAME;
  if (ev__call.out.emits >= 16) return EV_TOO_MANY;
  if (n > ev__limit()) return EV_TOO_LONG;
  if (other && !tick && ev_relay.hops >= 4) return EV_HOPS;
  if ((other && !ev__group_name(group.p, gn)) || !ev__is_utf8(payload.p, n)) return EV_BAD_NAME;
  e = &ev__call.out.emit[ev__call.out.emits++];
  e->group = other ? group.p : "";
  e->payload = payload.p;
  e->len = n;
  e->audience = mask;
  e->position = position.p;
  return 0;
}
EV_API struct ev__entry *ev__entry(struct ev__entry *list, const void *key, uint32_t n) {
  while (list && !ev__same(list->key, key, n)) list = list->next;
  return list;
}
EV_API struct ev__entry *ev__new_entry(struct ev__entry **list, const void *key, uint32_t n) {
  struct ev__entry *e = (struct ev__entry *)ev__alloc(sizeof *e);
  e->key = ev__text(key, n);
  e->next = *list;
  return *list = e;
}
int32_t ev__metric_add(const void *name, uint32_t n, int64_t delta) {
  const char *s = (const char *)name;
  struct ev__entry *e = ev__entry(ev__metrics, name, n);
  uint32_t known = 0;
  if (delta < 0 || !n || n > 64) return -1;
  for (uint32_t i = 0; i < n; i++)
    if (!(s[i] >= 'a' && s[i] <= 'z') && s[i] != '_' && !(i && s[i] >= '0' && s[i] <= '9')) return -1;
  for (struct ev__entry *m = ev__metrics; m; m = m->next) known++;
  if (!e && known >= 32) return -2;
  if (!e) e = ev__new_entry(&ev__metrics, name, n);
  e->count = (int64_t)((uint64_t)e->count + (uint64_t)delta);
  return 0;
}
/* The live entry of a key. The store keeps expired entries until their keys are used again, like the relay. */
EV_API struct ev__entry *ev__live(const void *key, uint32_t n) {
  struct ev__entry *e = ev__entry(ev__store, key, n);
  if (e && e->expires && ev_relay.now_ms >= e->expires) e->value.n = 0;
  return e && e->value.n ? e : 0;
}
EV_API int ev__put(const void *key, uint32_t kn, const void *value, uint32_t n, int64_t expires) {
  uint64_t size = (uint64_t)kn + n + 64;
  struct ev__entry *e;
  for (e = ev__store; e; e = e->next)
    if (!ev__same(e->key, key, kn) && ev__live(e->key.p, e->key.n)) size += (uint64_t)e->key.n + e->value.n + 64;
  if (size > ev_relay.kv_limit) return -1;
  e = ev__entry(ev__store, key, kn);
  if (!e) e = ev__new_entry(&ev__store, key, kn);
  e->value = ev__text(value, n);
  e->expires = expires;
  return 0;
}
EV_API int64_t ev__expiry(int64_t ttl) { return ttl > 0 && ttl <= INT64_MAX / 1000000 ? ev_relay.now_ms + ttl : 0; }
int32_t ev__kv_get(const void *k, uint32_t kn, void *p, uint32_t cap) {
  struct ev__entry *e = ev__live(k, kn);
  return e ? ev__give(e->value.p, e->value.n, p, cap) : -1;
}
int32_t ev__kv_set(const void *k, uint32_t kn, const void *p, uint32_t n, int64_t ttl) {
  struct ev__entry *e = ev__entry(ev__store, k, kn);
  if (n) return ev__put(k, kn, p, n, ev__expiry(ttl));
  if (e) e->value.n = 0;
  return 0;
}
int64_t ev__kv_incr(const void *k, uint32_t kn, int64_t delta, int64_t ttl) {
  struct ev__entry *e = ev__live(k, kn);
  int64_t v = 0, expires = e ? e->expires : ev__expiry(ttl);
  char text[24], *end = 0;
  if (e) {
    char sign = e->value.p[0];
    if (e->value.n > 20 || !((sign >= '0' && sign <= '9') || sign == '-' || sign == '+')) return INT64_MIN;
    v = strtoll(e->value.p, &end, 10);
    if (end != e->value.p + e->value.n || ((sign == '-' || sign == '+') && e->value.n == 1)) return INT64_MIN;
  }
  v = (int64_t)((uint64_t)v + (uint64_t)delta);
  return ev__put(k, kn, text, (uint32_t)snprintf(text, sizeof text, "%lld", (long long)v), expires) ? INT64_MIN : v;
}
int64_t ev__now_ms(void) { return ev_relay.now_ms; }
int32_t ev__event_source(void *p, uint32_t cap) {
  if (!ev__call.event || !ev_relay.source || !ev_relay.source[0]) return -1;
  return ev__give(ev_relay.source, ev_len(ev_relay.source), p, cap);
}
int32_t ev__event_position(void *p, uint32_t cap) {
  if (!ev__call.event || !ev_relay.position || !ev_relay.position[0]) return -1;
  return ev__give(ev_relay.position, ev_len(ev_relay.position), p, cap);
}
int64_t ev__event_sent_ms(void) { return ev__call.event ? ev_relay.sent_ms : -1; }

/* ---- JSON of results and samples ---- */

/* The end of the valid JSON value at i; 0 if there is none. */
EV_API uint32_t ev__valid(const char *p, uint32_t n, uint32_t i, uint32_t depth) {
  uint32_t end;
  char c[4], close;
  i = ev__space(p, n, i);
  if (i >= n || depth > 1000) return 0;
  if (p[i] == '"') {
    if (!(end = ev__string(p, n, i))) return 0;
    for (i++; i < end - 1;)
      if (!ev__decode(p, end - 1, &i, c)) return 0;
    return end;
  }
  if (p[i] == '{' || p[i] == '[') {
    close = p[i] == '{' ? '}' : ']';
    i = ev__space(p, n, i + 1);
    if (i < n && p[i] == close) return i + 1;
    for (;;) {
      if (close == '}') {
        i = ev__space(p, n, i);
        if (i >= n || p[i] != '"' || !(i = ev__valid(p, n, i, depth + 1))) return 0;
        i = ev__space(p, n, i);
        if (i >= n || p[i++] != ':') return 0;
      }
      if (!(i = ev__valid(p, n, i, depth + 1))) return 0;
      i = ev__space(p, n, i);
      if (i < n && p[i] == close) return i + 1;
      if (i >= n || p[i++] != ',') return 0;
    }
  }
  for (uint32_t k = 0; k < 3; k++) {
    const char *word = k == 0 ? "true" : k == 1 ? "false" : "null";
    uint32_t m = ev_len(word);
    if (n - i >= m && !memcmp(p + i, word, m)) return i + m;
  }
#define EV__DIGITS(first) \
  first = i;              \
  while (i < n && p[i] >= '0' && p[i] <= '9') i++
  if (p[i] == '-') i++;
  EV__DIGITS(end);
  if (i == end || (p[end] == '0' && i - end > 1)) return 0;
  if (i < n && p[i] == '.') {
    i++;
    EV__DIGITS(end);
    if (i == end) return 0;
  }
  if (i < n && (p[i] | 32) == 'e') {
    i++;
    if (i < n && (p[i] == '+' || p[i] == '-')) i++;
    EV__DIGITS(end);
    if (i == end) return 0;
  }
#undef EV__DIGITS
  return i;
}
EV_API int ev__is_json(const char *p, uint32_t n) {
  uint32_t end = ev__valid(p, n, 0, 0);
  return end && ev__space(p, n, end) == n;
}
/* JSON without the white space between tokens. */
EV_API struct ev__text ev__compact(const char *p, uint32_t n) {
  struct ev__text t = ev__text(0, 0);
  int in_string = 0;
  t.p = ev__keep(p, n);
  for (uint32_t i = 0; i < n; i++) {
    if (!in_string && ev__space(p, n, i) != i) continue;
    t.p[t.n++] = p[i];
    if (p[i] == '"') in_string = !in_string;
    else if (in_string && p[i] == '\\' && i + 1 < n) t.p[t.n++] = p[++i];
  }
  t.p[t.n] = 0;
  return t;
}
EV_API int ev__same_json(const char *p, uint32_t n, const char *q, uint32_t m) {
  if (ev__is_json(p, n) && ev__is_json(q, m))
    return ev__same(ev__compact(p, n), ev__compact(q, m).p, ev__compact(q, m).n);
  return ev__same(ev__text(p, n), q, m);
}

/* ---- Calls ---- */

struct ev_client;
EV_API void ev__function_begin(struct ev_client *c, int on);
EV_API void ev__function_done(int ok);
EV_API void ev__init_begins(int begins);

EV_API void ev__fail_call(const char *why) {
  ev__call.out.verdict = "error";
  ev__call.out.payload = "";
  ev__call.out.len = ev__call.out.emits = 0;
  ev__call.out.class = -1;
  ev__call.out.reason = why;
}
EV_API const char *ev__last_line(void) { return ev__log_end ? ev__log_end->text : "it logged nothing"; }

EV_API int32_t ev_test_start(const char *config) {
  int32_t result;
  ev_relay.config = config;
  ev__call.started = 1;
  ev__init_begins(1);
  result = ev__plugin.ev_init ? ev__plugin.ev_init() : 0;
  ev__init_begins(0);
  return result;
}
/* Prepares the input of a hook. Returns 0 if the plugin has no such hook or does not start. */
EV_API int ev__prepare(int hook, const char *name, const char *group, const void *p, uint32_t n, int effects) {
  char *input;
  uint32_t gn = ev_len(group);
  memset(&ev__call.out, 0, sizeof ev__call.out);
  ev__call.out.audience = EV_EVERYBODY;
  ev__call.out.class = -1;
  ev__call.out.reason = ev__call.out.payload = "";
  if (!hook) return ev__fail_call(ev__keep(name, ev_len(name))), 0;
  if (!ev__call.started && ev_test_start(ev_relay.config)) return ev__fail_call(ev__last_line()), 0;
  ev__call.document = ev__text(p, n);
  ev__call.group = ev__text(group, gn);
  ev__call.input = gn + n;
  ev__call.effects = effects;
  ev__call.event = 0;
  free(ev__call.buffer);
  ev__call.buffer = 0;
  if (effects == 2) return 1;
  if (!(ev__call.buffer = input = ev__plugin.buffer(gn + n))) return ev__fail_call("the plugin refuses an input buffer"), 0;
  if (gn) memcpy(input, group, gn);
  if (n) memcpy(input + gn, p, n);
  *ev__plugin.result = 0;
  return 1;
}
EV_API const ev_outcome *ev__decide(uint64_t v) {
  uint32_t n = (uint32_t)v;
  const char *p;
  ev__call.effects = 0;
  if (v >> 32) {
    p = (const char *)*ev__plugin.result;
    if (n > ev__limit()) return ev__fail_call("the result is longer than max_result"), &ev__call.out;
    if (!ev__is_utf8(p, n)) return ev__fail_call("the result is not UTF-8"), &ev__call.out;
    if (ev_relay.json && !ev__is_json(p, n)) return ev__fail_call("the result is not JSON"), &ev__call.out;
    ev__call.out.verdict = "replace";
    ev__call.out.payload = ev__keep(p, n);
    ev__call.out.len = n;
  } else if (v == EV_PASS) {
    ev__call.out.verdict = "pass";
    ev__call.out.payload = ev__call.document.p;
    ev__call.out.len = ev__call.document.n;
  } else if (v == EV_DROP) {
    ev__call.out.verdict = "drop";
  } else {
    ev__fail_call(v == EV_ERROR ? ev__last_line() : "unknown result");
  }
  return &ev__call.out;
}
EV_API const ev_outcome *ev_test_event_n(const char *group, const void *payload, uint32_t n) {
  if (!ev__prepare(ev__plugin.ev_on_event != 0, "the plugin has no EV_ON_EVENT", group, payload, n, 1))
    return &ev__call.out;
  ev__call.event = 1;
  ev__function_begin(0, 1);
  ev__decide(ev__plugin.ev_on_event(ev_len(group), n));
  ev__function_done(strcmp(ev__call.out.verdict, "error") != 0);
  return &ev__call.out;
}
EV_API const ev_outcome *ev_test_event(const char *group, const char *payload) {
  return ev_test_event_n(group, payload, ev_len(payload));
}
EV_API const ev_outcome *ev__class_n(uint32_t class, const char *group, const void *payload, uint32_t n) {
  if (!ev__prepare(ev__plugin.ev_on_class != 0, "the plugin has no EV_ON_CLASS", group, payload, n, 0))
    return &ev__call.out;
  ev__call.event = 1;
  return ev__decide(ev__plugin.ev_on_class(class, ev_len(group), n));
}
EV_API const ev_outcome *ev_test_class(uint32_t class, const char *group, const char *payload) {
  return ev__class_n(class, group, payload, ev_len(payload));
}
EV_API const ev_outcome *ev__subscribe_n(const char *user, uint32_t n, const char *group) {
  uint32_t gn = ev_len(group), at = 0;
  char *request = (char *)ev__alloc((size_t)n + gn * 6 + 32);
  uint64_t v;
  memcpy(request, "{\"user\":", at = 8);
  memcpy(request + at, user, n);
  memcpy(request + (at += n), ",\"group\":\"", 10);
  at += 10 + ev__escape(request + at + 10, group, 0, gn, 0);
  memcpy(request + at, "\"}", 2);
  if (!ev__prepare(ev__plugin.ev_on_subscribe != 0, "the plugin has no EV_ON_SUBSCRIBE", "", request, at + 2, 0))
    return &ev__call.out;
  ev__function_begin(0, 1);
  v = ev__plugin.ev_on_subscribe(at + 2);
  if (v >> 32) {
    ev__call.out.verdict = "deny";
    ev__call.out.reason = ev__keep(*ev__plugin.result, (uint32_t)v < 512 ? (uint32_t)v : 512);
  } else if (v == EV_ALLOW || (v >= EV_ALLOW_AS(0) && v <= EV_ALLOW_AS(63))) {
    ev__call.out.verdict = "allow";
    if (v) ev__call.out.class = (int)(v - EV_ALLOW_AS(0));
  } else if (v == EV_DENY) {
    ev__call.out.verdict = "deny";
  } else {
    ev__fail_call(v == EV_ERROR ? ev__last_line() : "unknown result");
  }
  ev__function_done(strcmp(ev__call.out.verdict, "error") != 0);
  return &ev__call.out;
}
EV_API const ev_outcome *ev_test_subscribe(const char *user_json, const char *group) {
  return ev__subscribe_n(user_json, ev_len(user_json), group);
}
EV_API const ev_outcome *ev_test_tick(void) {
  uint64_t v;
  if (!ev__prepare(ev__plugin.ev_on_tick != 0, "the plugin has no EV_ON_TICK", "", "", 0, 2)) return &ev__call.out;
  ev__function_begin(0, 1);
  v = ev__plugin.ev_on_tick();
  ev__call.effects = 0;
  ev__call.out.verdict = "pass";
  if (v != EV_OK) ev__fail_call(v == EV_ERROR ? ev__last_line() : "unknown result");
  ev__function_done(v == EV_OK);
  return &ev__call.out;
}

EV_API const char *ev_test_log(uint32_t line) {
  struct ev__line *l = ev__log_lines;
  while (l && line--) l = l->next;
  return l ? l->text : 0;
}
EV_API int64_t ev_test_metric(const char *name) {
  struct ev__entry *e = ev__entry(ev__metrics, name, ev_len(name));
  return e ? e->count : 0;
}
EV_API const char *ev_test_kv(const char *key) {
  struct ev__entry *e = ev__live(key, ev_len(key));
  return e ? e->value.p : 0;
}

/* ---- Functions ---- */

EV_API struct ev__text ev__text_of(const char *s) { return ev__text(s, ev_len(s)); }
struct ev__frame {
  struct ev__frame *next;
  struct ev__text data;
};
struct ev__group {
  struct ev__group *next;
  char *name;
};
struct ev_client {
  ev_test_client view; /* first: a pointer to it is one to the client */
  struct ev_client *next;
  struct ev__frame *frames, *untaken;
  struct ev__group *groups;
  int left;
};
enum ev__op {
  EV__SEND, EV__JOIN, EV__LEAVE, EV__PUBLISH, EV__CLOSE,
  EV__GET, EV__SET, EV__SWAP, EV__ADD, EV__PUSH, EV__LIST, EV__ALARM_SET, EV__ALARM_CANCEL, EV__FETCH
};
/* An effect of a call, or a request. */
struct ev__act {
  struct ev__act *next;
  enum ev__op op;
  struct ev_client *client;
  struct ev__text key, value, more, context;
  int64_t number, ttl;
  int flags;
};
static struct {
  struct ev__act *first, **last;
} ev__queue = {0, &ev__queue.first}, ev__acts = {0, &ev__acts.first};
static struct {
  struct ev_client *client; /* of the call */
  struct ev__text context, attachment;
  uint32_t sent, grouped, requests;
  int init, on; /* in ev_init; in a call that may have effects */
} ev__fn;
static struct ev_client *ev__clients, **ev__last_client = &ev__clients;
static struct ev__published {
  struct ev__published *next;
  ev_publication p;
} *ev__publications, **ev__last_publication = &ev__publications;
static struct ev__shared {
  struct ev__shared *next;
  struct ev__text key, value;
  struct ev__frame *list;
  int is_list, gone;
  int64_t expires;
} *ev__shared_store;
static struct ev__alarm {
  struct ev__alarm *next;
  struct ev__text name, payload;
  int64_t at;
  int failures, gone;
} *ev__alarms;
static struct ev__auto {
  struct ev__auto *next;
  struct ev__text request, response;
} *ev__autos;
static const char *ev__function_error;

EV_API struct ev__act *ev__act(enum ev__op op) {
  struct ev__act *a = (struct ev__act *)ev__alloc(sizeof *a);
  a->op = op;
  a->client = ev__fn.client;
  *ev__acts.last = a;
  ev__acts.last = &a->next;
  return a;
}
/* Whether a name matches one of the patterns, which blanks separate. "*" stands for any run of characters. */
EV_API int ev__matches(const char *p, const char *end, const char *name) {
  for (; p < end; p++, name++) {
    if (*p == '*') {
      for (;; name++) {
        if (ev__matches(p + 1, end, name)) return 1;
        if (!*name) return 0;
      }
    }
    if (*p != *name) return 0;
  }
  return !*name;
}
EV_API int32_t ev__check_group(const char *patterns, struct ev__text group) {
  if (!ev__group_name(group.p, group.n)) return -4;
  if (!patterns) return 0;
  while (*patterns) {
    const char *end = patterns;
    while (*end && *end != ' ') end++;
    if (ev__matches(patterns, end, group.p)) return 0;
    patterns = *end ? end + 1 : end;
  }
  return -3;
}
EV_API int ev__here(void) { return ev__fn.client && !ev__fn.client->left; }
/* Events of the history neither publish nor make requests. */
EV_API int ev__replaying(void) { return ev__call.event && ev_relay.source && !strcmp(ev_relay.source, "history"); }

int32_t ev__connection_id(void *p, uint32_t cap) {
  const char *id = ev__fn.client ? ev__fn.client->view.id : 0;
  return id ? ev__give(id, ev_len(id), p, cap) : -1;
}
int32_t ev__attachment_get(void *p, uint32_t cap) {
  return ev__fn.client ? ev__give(ev__fn.attachment.p, ev__fn.attachment.n, p, cap) : 0;
}
int32_t ev__attachment_set(const void *p, uint32_t n) {
  if (!ev__here()) return -5;
  if (n > 16384) return -2;
  ev__fn.attachment = ev__text(p, n);
  return 0;
}
int32_t ev__send(int32_t kind, const void *p, uint32_t n) {
  if (!ev__here()) return -5;
  if (ev__fn.sent++ >= 64) return -1;
  if (n > ev__limit()) return -2;
  if (!kind && !ev__is_utf8((const char *)p, n)) return -4;
  ev__act(EV__SEND)->value = ev__text(p, n);
  return 0;
}
static int ev__no_group; /* a join was refused */
EV_API int32_t ev__change_group(enum ev__op op, const void *p, uint32_t n) {
  struct ev__text group = ev__text(p, n);
  int32_t code = ev__check_group(ev_relay.join, group);
  if (!ev__here()) return -5;
  if (code) return ev__no_group |= op == EV__JOIN, code;
  if (ev__fn.grouped++ >= 64) return -1;
  ev__act(op)->key = group;
  return 0;
}
int32_t ev__join(const void *p, uint32_t n) { return ev__change_group(EV__JOIN, p, n); }
int32_t ev__leave(const void *p, uint32_t n) { return ev__change_group(EV__LEAVE, p, n); }
int32_t ev__publish(
    const void *g, uint32_t gn, const void *t, uint32_t tn, const void *p, uint32_t n, int32_t flags) {
  struct ev__text group = ev__text(g, gn), payload = ev__text(p, n);
  int32_t code = ev__check_group(ev_relay.publish, group);
  struct ev__act *a;
  if (code) return code;
  if (!ev__fn.on || ev__replaying()) return -5;
  if (n > ev__limit()) return -2;
  if (!ev__is_utf8(payload.p, n) || (tn && (!n || payload.p[0] != '{' || !ev__is_json(payload.p, n)))) return -4;
  a = ev__act(EV__PUBLISH);
  a->key = group;
  a->more = ev__text(t, tn);
  a->value = payload;
  a->flags = flags;
  return 0;
}
int32_t ev__close(int32_t code, const void *p, uint32_t n) {
  struct ev__act *a;
  if (!ev__here()) return -5;
  if (code != 1000 && code != 1008 && code != 1011 && code != 1013 && (code < 3000 || code > 4999)) return -4;
  if (n > 123) return -4;
  a = ev__act(EV__CLOSE);
  a->number = code;
  a->value = ev__text(p, n);
  return 0;
}
int32_t ev__auto_response(const void *q, uint32_t qn, const void *p, uint32_t n) {
  struct ev__auto *a;
  uint32_t count = 0;
  if (!ev__fn.init) return -4;
  for (a = ev__autos; a; a = a->next) count++;
  if (count >= 10) return -1;
  if (qn > 2048 || n > 2048) return -2;
  a = (struct ev__auto *)ev__alloc(sizeof *a);
  a->request = ev__text(q, qn);
  a->response = ev__text(p, n);
  a->next = ev__autos;
  ev__autos = a;
  return 0;
}
int32_t ev__result_context(void *p, uint32_t cap) { return ev__give(ev__fn.context.p, ev__fn.context.n, p, cap); }

/* Keeps a request until the hook has succeeded. Returns 0 if there is an error, which is in *code. */
EV_API struct ev__act *ev__ask(enum ev__op op, const void *k, uint32_t kn, const void *c, uint32_t cn, int64_t *code) {
  struct ev__act *a;
  static int64_t tokens;
  *code = cn > 1024 ? -2 : ev__replaying() ? -5 : !ev__fn.on ? -4 : ev__fn.requests >= 16 ? -1 : ++tokens;
  if (*code < 0) return 0;
  ev__fn.requests++;
  a = ev__act(op);
  a->key = ev__text(k, kn);
  a->context = ev__text(c, cn);
  return a;
}
int64_t ev__shared_get(const void *k, uint32_t kn, const void *c, uint32_t cn) {
  int64_t code;
  ev__ask(EV__GET, k, kn, c, cn, &code);
  return code;
}
int64_t ev__shared_set(
    const void *k, uint32_t kn, const void *p, uint32_t n, int64_t ttl, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__SET, k, kn, c, cn, &code);
  if (a) a->value = ev__text(p, n), a->ttl = ttl;
  return code;
}
int64_t ev__shared_swap(const void *k, uint32_t kn, const void *e, uint32_t en, const void *p, uint32_t n, int64_t ttl,
    const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__SWAP, k, kn, c, cn, &code);
  if (a) a->more = ev__text(e, en), a->value = ev__text(p, n), a->ttl = ttl;
  return code;
}
int64_t ev__shared_add(const void *k, uint32_t kn, int64_t delta, int64_t ttl, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__ADD, k, kn, c, cn, &code);
  if (a) a->number = delta, a->ttl = ttl;
  return code;
}
int64_t ev__shared_push(
    const void *k, uint32_t kn, const void *p, uint32_t n, int32_t limit, int64_t ttl, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__PUSH, k, kn, c, cn, &code);
  if (a) a->value = ev__text(p, n), a->number = limit, a->ttl = ttl;
  return code;
}
int64_t ev__shared_list(const void *k, uint32_t kn, int32_t limit, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__LIST, k, kn, c, cn, &code);
  if (a) a->number = limit;
  return code;
}
int64_t ev__alarm_set(
    const void *k, uint32_t kn, const void *p, uint32_t n, int64_t at, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__ALARM_SET, k, kn, c, cn, &code);
  if (a) a->value = ev__text(p, n), a->number = at < 1000000000000 ? ev_relay.now_ms + at : at;
  return code;
}
int64_t ev__alarm_cancel(const void *k, uint32_t kn, const void *c, uint32_t cn) {
  int64_t code;
  ev__ask(EV__ALARM_CANCEL, k, kn, c, cn, &code);
  return code;
}
int64_t ev__fetch(const void *r, uint32_t rn, const void *p, uint32_t n, const void *c, uint32_t cn) {
  int64_t code;
  struct ev__act *a = ev__ask(EV__FETCH, r, rn, c, cn, &code);
  if (a) a->value = ev__text(p, n);
  return code;
}

EV_API void ev__deliver(struct ev_client *c, struct ev__text data) {
  struct ev__frame *f = (struct ev__frame *)ev__alloc(sizeof *f), **last = &c->frames;
  f->data = data;
  while (*last) last = &(*last)->next;
  *last = f;
  if (!c->untaken) c->untaken = f;
}
EV_API int ev__in_group(struct ev_client *c, struct ev__text group) {
  for (struct ev__group *g = c->groups; g; g = g->next)
    if (ev__same(group, g->name, ev_len(g->name))) return 1;
  return 0;
}
EV_API void ev__leave_group(struct ev_client *c, struct ev__text group) {
  for (struct ev__group **g = &c->groups; *g;) {
    if (ev__same(group, (*g)->name, ev_len((*g)->name))) *g = (*g)->next;
    else g = &(*g)->next;
  }
}
EV_API void ev__publish_all(struct ev_client *from, struct ev__text group, struct ev__text text, int others) {
  for (struct ev_client *c = ev__clients; c; c = c->next)
    if (ev__in_group(c, group) && !(others && c == from)) ev__deliver(c, text);
}
EV_API void ev__happen(struct ev__act *a) {
  struct ev_client *c = a->client;
  struct ev__group *g;
  struct ev__published *p;
  switch (a->op) {
  case EV__SEND: ev__deliver(c, a->value); break;
  case EV__JOIN:
    if (ev__in_group(c, a->key)) break;
    g = (struct ev__group *)ev__alloc(sizeof *g);
    g->name = a->key.p;
    g->next = c->groups;
    c->groups = g;
    break;
  case EV__LEAVE: ev__leave_group(c, a->key); break;
  case EV__PUBLISH:
    p = (struct ev__published *)ev__alloc(sizeof *p);
    p->p.group = a->key.p, p->p.type = a->more.p, p->p.payload = a->value.p, p->p.others = a->flags & 1;
    *ev__last_publication = p;
    ev__last_publication = &p->next;
    if (!a->more.n) ev__publish_all(c, a->key, a->value, a->flags & 1);
    break;
  default: /* of the queue */
    if (a->op == EV__CLOSE && c->view.closed) break;
    if (a->op == EV__CLOSE) c->view.closed = (int)a->number, c->view.close_reason = a->value.p;
    a->next = 0;
    *ev__queue.last = a;
    ev__queue.last = &a->next;
  }
}
/* Prepares a call of a function's hook. */
EV_API void ev__function_begin(struct ev_client *c, int on) {
  ev__acts.first = 0;
  ev__acts.last = &ev__acts.first;
  memset(&ev__fn, 0, sizeof ev__fn);
  ev__fn.client = c;
  ev__fn.on = on;
  if (c) ev__fn.attachment = ev__text_of(c->view.attachment);
}
EV_API void ev__init_begins(int begins) { ev__fn.init = begins; }
EV_API void ev__settle(void);
/* Makes the effects of a call happen if it has succeeded. */
EV_API void ev__function_end(int ok) {
  struct ev__act *a = ev__acts.first, *next;
  if (ok && ev__fn.client) ev__fn.client->view.attachment = ev__fn.attachment.p;
  ev__fn.on = 0;
  ev__fn.client = 0;
  for (; ok && a; a = next) {
    next = a->next;
    ev__happen(a);
  }
  ev__acts.first = 0;
  ev__acts.last = &ev__acts.first;
}
/* Ends a call without a client. */
EV_API void ev__function_done(int ok) {
  ev__function_end(ok);
  ev__settle();
}
EV_API void ev__function_fail(struct ev_client *c, const char *why) {
  if (c) c->view.error = why;
  else ev__function_error = why;
}
/* Calls a hook of the client, or of none. Returns whether it succeeded. */
EV_API int ev__run(struct ev_client *c, const char *head, const void *p, uint32_t n, struct ev__text context,
    uint64_t (*hook)(const void *), const void *args, uint64_t *result) {
  uint64_t v;
  if (!ev__prepare(1, "", head, p, n, 0)) return ev__function_fail(c, ev__call.out.reason), 0;
  ev__function_begin(c, 1);
  ev__fn.context = context;
  v = hook(args);
  if (result) return *result = v, 1;
  ev__function_end(v == EV_OK);
  if (v != EV_OK) ev__function_fail(c, v == EV_ERROR ? ev__last_line() : "unknown result");
  return v == EV_OK;
}
struct ev__args {
  uint64_t token;
  uint32_t a, b;
};
EV_API uint64_t ev__call_connect(const void *p) { return ev__plugin.ev_on_connect(((const struct ev__args *)p)->a); }
EV_API uint64_t ev__call_message(const void *p) {
  const struct ev__args *x = (const struct ev__args *)p;
  return ev__plugin.ev_on_message(x->a, x->b);
}
EV_API uint64_t ev__call_close(const void *p) {
  const struct ev__args *x = (const struct ev__args *)p;
  return ev__plugin.ev_on_close(x->a, x->b);
}
EV_API uint64_t ev__call_result(const void *p) {
  const struct ev__args *x = (const struct ev__args *)p;
  return ev__plugin.ev_on_result(x->token, (int32_t)x->a, x->b);
}
EV_API uint64_t ev__call_alarm(const void *p) {
  const struct ev__args *x = (const struct ev__args *)p;
  return ev__plugin.ev_on_alarm(x->a, x->b);
}
static const struct ev__text ev__no_text;

EV_API void ev__end_client(struct ev_client *c, int code, const char *reason) {
  struct ev__args args = {0, (uint32_t)code, ev_len(reason)};
  c->view.closed = code;
  c->view.close_reason = reason;
  c->left = 1;
  c->groups = 0;
  if (ev__plugin.ev_on_close) ev__run(c, "", reason, ev_len(reason), ev__no_text, ev__call_close, &args, 0);
}

EV_API struct ev__shared *ev__shared_live(struct ev__text key) {
  for (struct ev__shared *s = ev__shared_store; s; s = s->next) {
    if (!ev__same(key, s->key.p, s->key.n)) continue;
    if (s->expires && ev_relay.now_ms >= s->expires) s->gone = 1;
    return s->gone ? 0 : s;
  }
  return 0;
}
EV_API struct ev__shared *ev__shared_put(struct ev__text key, struct ev__text value, int64_t expires) {
  struct ev__shared *s = ev__shared_store;
  while (s && !ev__same(key, s->key.p, s->key.n)) s = s->next;
  if (!s) {
    s = (struct ev__shared *)ev__alloc(sizeof *s);
    s->key = key;
    s->next = ev__shared_store;
    ev__shared_store = s;
  }
  s->value = value;
  s->expires = expires;
  s->is_list = 0;
  s->list = 0;
  s->gone = !value.n;
  return s;
}
EV_API struct ev__text ev__list_json(const struct ev__shared *s, int64_t limit) {
  struct ev__text out;
  size_t size = 3;
  int64_t skip = -limit;
  const struct ev__frame *f;
  for (f = s ? s->list : 0; f; f = f->next) size += (size_t)f->data.n * 6 + 3, skip++;
  out.p = (char *)ev__alloc(size);
  out.p[0] = '[';
  out.n = 1;
  for (f = s ? s->list : 0; f; f = f->next) {
    if (skip-- > 0) continue;
    if (out.n > 1) out.p[out.n++] = ',';
    out.p[out.n++] = '"';
    out.n += ev__escape(out.p + out.n, f->data.p, 0, f->data.n, 0);
    out.p[out.n++] = '"';
  }
  out.p[out.n++] = ']';
  return out;
}
EV_API int32_t ev__push(struct ev__shared *s, const struct ev__act *a) {
  struct ev__frame *f = (struct ev__frame *)ev__alloc(sizeof *f), **last;
  int64_t count = 0;
  if (!s) s = ev__shared_put(a->key, ev__no_text, 0);
  s->is_list = 1;
  s->gone = 0;
  s->expires = ev__expiry(a->ttl);
  f->data = a->value;
  for (last = &s->list; *last; last = &(*last)->next) count++;
  *last = f;
  for (count++; count > a->number; count--) s->list = s->list->next;
  return EV_STATUS_OK;
}
/* Carries out a request, and returns the status. */
EV_API int32_t ev__serve(const struct ev__act *a, struct ev__text *body) {
  struct ev__shared *s;
  struct ev__alarm *alarm;
  const char *answer = "";
  int64_t v = 0;
  int32_t status = EV_STATUS_NONE;
  char digits[24];
  if (a->op == EV__FETCH) {
    status = ev_relay.fetch ? ev_relay.fetch(a->key.p, a->value.p, &answer) : EV_STATUS_UNAVAILABLE;
    *body = ev__text_of(answer);
    return status;
  }
  if (ev_relay.unavailable) return EV_STATUS_UNAVAILABLE;
  if (a->op == EV__ALARM_SET || a->op == EV__ALARM_CANCEL) {
    for (alarm = ev__alarms; alarm; alarm = alarm->next) {
      if (alarm->gone || !ev__same(a->key, alarm->name.p, alarm->name.n)) continue;
      alarm->gone = 1;
      status = EV_STATUS_OK;
    }
    if (a->op == EV__ALARM_CANCEL) return status;
    alarm = (struct ev__alarm *)ev__alloc(sizeof *alarm);
    alarm->name = a->key, alarm->payload = a->value, alarm->at = a->number;
    alarm->next = ev__alarms;
    ev__alarms = alarm;
    return EV_STATUS_OK;
  }
  s = ev__shared_live(a->key);
  if (s && a->op != EV__SET && s->is_list != (a->op == EV__PUSH || a->op == EV__LIST)) return EV_STATUS_INVALID;
  switch (a->op) {
  case EV__GET:
    if (s) *body = s->value;
    return s ? EV_STATUS_OK : EV_STATUS_NONE;
  case EV__SWAP:
    if (!ev__same(a->more, s ? s->value.p : "", s ? s->value.n : 0)) {
      if (s) *body = s->value;
      return EV_STATUS_CONFLICT;
    }
    /* fall through */
  case EV__SET: ev__shared_put(a->key, a->value, ev__expiry(a->ttl)); return EV_STATUS_OK;
  case EV__ADD:
    if (s && !ev__number(s->value.p, (int32_t)s->value.n, &v)) return EV_STATUS_INVALID;
    v = (int64_t)((uint64_t)v + (uint64_t)a->number);
    snprintf(digits, sizeof digits, "%lld", (long long)v);
    *body = ev__text_of(digits);
    ev__shared_put(a->key, *body, s ? s->expires : ev__expiry(a->ttl));
    return EV_STATUS_OK;
  case EV__PUSH: return ev__push(s, a);
  default: *body = ev__list_json(s, a->number); return EV_STATUS_OK;
  }
}
/* Carries out all requests, ends connections, and so on, until nothing is left to do. */
EV_API void ev__settle(void) {
  struct ev__act **a = &ev__queue.first, *done;
  while (*a) {
    struct ev__text body = ev__text("", 0);
    struct ev__args args;
    if ((*a)->op != EV__CLOSE && ev_relay.hold) { /* only ends of connections now */
      a = &(*a)->next;
      continue;
    }
    done = *a;
    *a = done->next;
    if (!*a && ev__queue.last == &done->next) ev__queue.last = a;
    if (done->op == EV__CLOSE) {
      ev__end_client(done->client, (int)done->number, done->value.p);
    } else {
      args.token = 1;
      args.a = (uint32_t)ev__serve(done, &body);
      args.b = body.n;
      if (done->context.n && ev__plugin.ev_on_result)
        ev__run(done->client, "", body.p, body.n, done->context, ev__call_result, &args, 0);
    }
    a = &ev__queue.first;
  }
}

EV_API ev_test_client *ev_test_connect(const char *request) {
  static uint32_t count;
  struct ev_client *c = (struct ev_client *)ev__alloc(sizeof *c);
  struct ev__args args = {0, 0, 0};
  char id[24], *full = (char *)ev__alloc(ev_len(request) + 64);
  uint64_t v = EV_OK;
  const char *rest = request + ev__space(request, ev_len(request), 0);
  snprintf(id, sizeof id, "client-%u", ++count);
  if (*rest == '{') rest++;
  rest += ev__space(rest, ev_len(rest), 0);
  snprintf(full, ev_len(request) + 64, "{\"id\":\"%s\"%s%s", id, *rest == '}' || !*rest ? "" : ",", *rest ? rest : "}");
  c->view.id = ev__keep(id, ev_len(id));
  c->view.attachment = c->view.reason = c->view.close_reason = c->view.error = "";
  c->view.status = 503;
  ev__no_group = 0;
  *ev__last_client = c;
  ev__last_client = &c->next;
  args.a = ev_len(full);
  if (!ev__plugin.ev_on_connect) {
    if (!ev__call.started && ev_test_start(ev_relay.config)) return c->view.error = ev__last_line(), &c->view;
  } else if (!ev__run(c, "", full, ev_len(full), ev__no_text, ev__call_connect, &args, &v)) {
    return &c->view;
  }
  if (v == EV_OK) c->view.accepted = 1, c->view.status = 0;
  else if (v >> 32) c->view.status = 403, c->view.reason = ev__keep(*ev__plugin.result, (uint32_t)v);
  else if (v == EV_REJECT) c->view.status = 403;
  else if (v >= EV_REJECT_WITH(400) && v < EV_REJECT_WITH(600)) c->view.status = (int)(v - EV_REJECT_WITH(0));
  else {
    if (v == EV_ERROR && ev__no_group) c->view.status = 403;
    c->view.error = v == EV_ERROR ? ev__last_line() : "unknown result";
  }
  c->left = !c->view.accepted;
  ev__function_end(v == EV_OK);
  ev__settle();
  return &c->view;
}
EV_API int ev__message_of(ev_test_client *client, const void *p, uint32_t n, uint32_t kind) {
  struct ev_client *c = (struct ev_client *)client;
  struct ev__args args = {0, kind, n};
  uint64_t v = EV_OK;
  uint32_t rn;
  if (!c->view.accepted || c->view.closed) return c->view.error = "not connected", 0;
  for (struct ev__auto *a = ev__autos; a && !kind; a = a->next)
    if (ev__same(a->request, p, n)) return ev__deliver(c, a->response), 1;
  if (!ev__plugin.ev_on_message) return 1;
  if (!ev__run(c, "", p, n, ev__no_text, ev__call_message, &args, &v)) return 0;
  rn = (uint32_t)v;
  if (v >> 32) v = ev__send((int32_t)kind, *ev__plugin.result, rn) ? EV_ERROR : EV_OK;
  ev__function_end(v == EV_OK);
  if (v != EV_OK) c->view.error = v == EV_ERROR ? ev__last_line() : "unknown result";
  ev__settle();
  return v == EV_OK;
}
EV_API int ev_test_text(ev_test_client *c, const char *text) { return ev__message_of(c, text, ev_len(text), 0); }
EV_API int ev_test_binary(ev_test_client *c, const void *p, uint32_t n) { return ev__message_of(c, p, n, 1); }
EV_API void ev_test_disconnect(ev_test_client *c, int code, const char *reason) {
  if (!c->accepted || c->closed) return;
  ev__end_client((struct ev_client *)c, code, reason);
  ev__settle();
}
EV_API const char *ev_test_received(ev_test_client *client) {
  struct ev_client *c = (struct ev_client *)client;
  struct ev__frame *f = c->untaken;
  if (!f) return 0;
  c->untaken = f->next;
  return f->data.p;
}
EV_API int ev_test_in_group(ev_test_client *c, const char *group) {
  return ev__in_group((struct ev_client *)c, ev__text_of(group));
}
EV_API void ev_test_publish(const char *group, const char *text) {
  ev__publish_all(0, ev__text_of(group), ev__text_of(text), 0);
}
EV_API const ev_publication *ev_test_published(uint32_t i) {
  struct ev__published *p = ev__publications;
  while (p && i--) p = p->next;
  return p ? &p->p : 0;
}
EV_API const char *ev_test_shared(const char *key) {
  struct ev__shared *s = ev__shared_live(ev__text_of(key));
  return s ? s->is_list ? ev__list_json(s, INT32_MAX).p : s->value.p : 0;
}
EV_API void ev_test_set_shared(const char *key, const char *value) {
  ev__shared_put(ev__text_of(key), ev__text_of(value), 0);
}
EV_API const char *ev_test_alarm(const char *name) {
  for (struct ev__alarm *a = ev__alarms; a; a = a->next)
    if (!a->gone && ev__same(ev__text_of(name), a->name.p, a->name.n)) return a->payload.p;
  return 0;
}
EV_API const char *ev_test_error(void) { return ev__function_error; }
EV_API void ev_test_respond(void) {
  int held = ev_relay.hold;
  ev_relay.hold = 0;
  ev__settle();
  ev_relay.hold = held;
}
EV_API void ev_test_advance(int64_t ms) {
  int64_t until = ev_relay.now_ms + ms;
  for (;;) {
    struct ev__alarm *due = 0, *same;
    struct ev__args args = {0, 0, 0};
    for (struct ev__alarm *a = ev__alarms; a; a = a->next)
      if (!a->gone && a->at <= until && (!due || a->at < due->at)) due = a;
    if (!due) break;
    due->gone = 1;
    if (due->at > ev_relay.now_ms) ev_relay.now_ms = due->at;
    args.a = due->name.n, args.b = due->payload.n;
    if (ev__plugin.ev_on_alarm &&
        !ev__run(0, due->name.p, due->payload.p, due->payload.n, ev__no_text, ev__call_alarm, &args, 0)) {
      for (same = ev__alarms; same; same = same->next)
        if (!same->gone && ev__same(due->name, same->name.p, same->name.n)) break;
      if (!same) due->gone = 0, due->at = ev_relay.now_ms + 1000, due->failures++;
    }
    ev__settle();
  }
  ev_relay.now_ms = until;
}

/* ---- Samples ---- */

/* The member of a sample as JSON text; n is 0 without one. */
EV_API struct ev__text ev__sample(const char *p, uint32_t n, const char *name) {
  ev__place l;
  struct ev__text none = {0, 0};
  return ev__find(p, n, name, ev_len(name), &l) ? ev__text(p + l.from, l.to - l.from) : none;
}
EV_API struct ev__text ev__sample_text(const char *p, uint32_t n, const char *name) {
  struct ev__text t = ev__sample(p, n, name);
  return t.p ? ev__decoded(t.p, t.n) : t;
}
/* The payload of a sample or an emission: payload as it stands, or text. */
EV_API struct ev__text ev__sample_payload(const char *p, uint32_t n) {
  struct ev__text t = ev__sample_text(p, n, "text");
  if (!t.p) t = ev__sample(p, n, "payload");
  return t.p ? t : ev__sample(p, n, "data");
}
/* RFC 3339, or Unix milliseconds. */
EV_API int64_t ev__sample_time(struct ev__text t) {
  int y, mo, d, h, mi, s, at = 0, zone = 0, oh, om;
  int64_t ms = 0, unit = 100, day;
  if (t.p[0] != '"') return (int64_t)strtod(t.p, 0);
  t = ev__decoded(t.p, t.n);
  if (sscanf(t.p, "%4d-%2d-%2dT%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &s, &at) != 6) return INT64_MIN;
  if (t.p[at] == '.')
    for (at++; t.p[at] >= '0' && t.p[at] <= '9'; at++, unit /= 10) ms += (t.p[at] - '0') * unit;
  if ((t.p[at] == '+' || t.p[at] == '-') && sscanf(t.p + at + 1, "%2d:%2d", &oh, &om) == 2)
    zone = (t.p[at] == '-' ? -1 : 1) * (oh * 60 + om);
  else if (t.p[at] != 'Z')
    return INT64_MIN;
  y -= mo <= 2; /* days since 1970 by the civil calendar that begins in March */
  day = y / 400 * 146097LL + (y % 400) * 365 + y % 400 / 4 - y % 400 / 100 +
      (153 * (mo + (mo > 2 ? -3 : 9)) + 2) / 5 + d - 719469;
  return (((day * 24 + h) * 60 + mi - zone) * 60 + s) * 1000 + ms;
}
EV_API uint64_t ev__sample_mask(struct ev__text t) {
  t = ev__decoded(t.p, t.n);
  return t.p[0] == '-' ? EV_EVERYBODY : strtoull(t.p, 0, 0);
}
EV_API void ev__differs(const char *file, int line, const char *what, const char *got, const char *want) {
  ev__failed = 1;
  fprintf(stderr, "%s:%d: %s\n  %s\n  instead of\n  %s\n", file, line, what, got, want);
}
EV_API void ev__run_sample(const char *file, int line, const char *p, uint32_t n) {
  struct ev__text t, hook = ev__sample_text(p, n, "hook"), payload = ev__sample_payload(p, n),
      user = ev__sample(p, n, "user");
  struct ev__text class = ev__sample(p, n, "class"), group = ev__sample_text(p, n, "group");
  const ev_outcome *o;
  char path[32];
  if (!group.p) group = ev__text("", 0);
  if (!hook.p) hook = ev__text("on_event", 8);
  if (!strcmp(hook.p, "on_event") && class.p) hook = ev__text("on_class", 8);
  else if (!strcmp(hook.p, "on_event") && user.p && !payload.p) hook = ev__text("on_subscribe", 12);
  t = ev__sample_text(p, n, "source");
  ev_relay.source = t.p;
  t = ev__sample_text(p, n, "position");
  ev_relay.position = t.p;
  t = ev__sample(p, n, "sent");
  ev_relay.sent_ms = t.p ? ev__sample_time(t) : -1;
  t = ev__sample(p, n, "clock");
  if (!t.p) t = ev__sample(p, n, "at");
  if (t.p) ev_relay.now_ms = ev__sample_time(t);
  if (ev_relay.now_ms == INT64_MIN || ev_relay.sent_ms == INT64_MIN) {
    ev__differs(file, line, "invalid time", p, "RFC 3339 or Unix milliseconds");
    return;
  }
  if (!strcmp(hook.p, "on_subscribe")) {
    if (!user.p) user = ev__text("null", 4);
    o = ev__subscribe_n(user.p, user.n, group.p);
  } else if (!strcmp(hook.p, "on_tick")) {
    o = ev_test_tick();
  } else if (!strcmp(hook.p, "on_class")) {
    o = ev__class_n(class.p ? (uint32_t)atoi(class.p) : 0, group.p, payload.p, payload.n);
  } else if (!strcmp(hook.p, "on_event")) {
    o = ev_test_event_n(group.p, payload.p, payload.n);
  } else {
    ev__differs(file, line, "unknown hook", hook.p, "on_event, on_class, on_subscribe or on_tick");
    return;
  }
  t = ev__sample_text(p, n, "verdict");
  if (strcmp(o->verdict, t.p ? t.p : strcmp(o->verdict, "error") ? o->verdict : "no error")) {
    ev__differs(file, line, o->reason, o->verdict, t.p ? t.p : "no error");
    return;
  }
  t = ev__sample(p, n, "output");
  if (t.p && !ev__same_json(t.p, t.n, o->payload, o->len)) ev__differs(file, line, "output", o->payload, t.p);
  t = ev__sample_text(p, n, "output_text");
  if (t.p && !ev__same(t, o->payload, o->len)) ev__differs(file, line, "output", o->payload, t.p);
  t = ev__sample(p, n, "audience");
  if (t.p && ev__sample_mask(t) != o->audience) ev__differs(file, line, "the audience differs", "", t.p);
  t = ev__sample(p, n, "want_class");
  if (t.p && atoi(t.p) != (o->class < 0 ? 0 : o->class)) ev__differs(file, line, "the class differs", "", t.p);
  t = ev__sample_text(p, n, "reason");
  if (t.p && !(strcmp(o->verdict, "error") ? !strcmp(o->reason, t.p) : strstr(o->reason, t.p) != 0))
    ev__differs(file, line, "reason", o->reason, t.p);
  if (!ev__sample(p, n, "emits").p) return;
  for (uint32_t i = 0;; i++) {
    snprintf(path, sizeof path, "emits.%u", i);
    t = ev__sample(p, n, path);
    if (!t.p || i >= o->emits) {
      if (t.p || i < o->emits)
        ev__differs(file, line, "the number of emitted events differs", i < o->emits ? o->emit[i].payload : "(none)",
            t.p ? t.p : "(none)");
      return;
    }
    const ev_emission *e = &o->emit[i];
    struct ev__text to = ev__sample_text(t.p, t.n, "group"), want = ev__sample_payload(t.p, t.n),
        mask = ev__sample(t.p, t.n, "audience");
    if (strcmp(e->group, !to.p || !strcmp(to.p, group.p) ? "" : to.p))
      ev__differs(file, line, "emitted to", e->group, to.p ? to.p : "");
    if (want.p && !ev__same_json(want.p, want.n, e->payload, e->len))
      ev__differs(file, line, "emitted", e->payload, want.p);
    if (mask.p && ev__sample_mask(mask) != e->audience)
      ev__differs(file, line, "the audience of an emitted event differs", "", mask.p);
    struct ev__text at = ev__sample_text(t.p, t.n, "position");
    if (at.p && !ev__same(at, e->position, ev_len(e->position)))
      ev__differs(file, line, "the position of an emitted event differs", e->position, at.p);
  }
}
/* Calls f with every line of a file that is not empty. */
EV_API void ev__lines(const char *file, void (*f)(const char *file, int line, const char *p, uint32_t n)) {
  FILE *in = fopen(file, "rb");
  char *text = 0;
  size_t n = 0, cap = 0, got;
  int line = 0, tried = 0;
  if (!in) {
    ev__differs(file, 0, "the file cannot be read", "", "");
    return;
  }
  do {
    if (cap - n < 1 << 16) text = (char *)realloc(text, cap = cap * 2 + (1 << 17));
    if (!text) _exit(2);
    n += got = fread(text + n, 1, cap - n, in);
  } while (got);
  fclose(in);
  for (size_t from = 0, to; from < n; from = to + 1) {
    for (to = from; to < n && text[to] != '\n'; to++) {
    }
    line++;
    if (ev__space(text + from, (uint32_t)(to - from), 0) == to - from) continue;
    f(file, line, text + from, (uint32_t)(to - from));
    tried++;
  }
  free(text);
  if (!tried) ev__differs(file, 0, "the file has no sample", "", "");
}
EV_API void ev_test_samples(const char *file) { ev__lines(file, ev__run_sample); }

#ifndef EV_NO_MAIN
int main(int argc, char **argv) {
  int failed = 0, ran = 0;
  for (struct ev__test *t = ev__tests; t; t = t->next) {
    int status = 0, chosen = argc < 2;
    pid_t pid;
    for (int i = 1; i < argc; i++) chosen |= strstr(t->name, argv[i]) != 0;
    if (!chosen) continue;
    ran++;
    fflush(0);
    if (!(pid = fork())) {
      t->run();
      fflush(0);
      _exit(ev__failed);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) return 2;
    if (status) failed++;
    printf("%s %s%s\n", status ? "FAIL" : "ok  ", t->name, WIFSIGNALED(status) ? " (crashed)" : "");
  }
  printf("%d of %d tests failed\n", failed, ran);
  return failed || !ran;
}
#endif
#endif
