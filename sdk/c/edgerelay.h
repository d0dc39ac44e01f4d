/* Plugins of the edgerelay websocket relay in C: plugin ABI 1 in one header, without a C library.
 *
 *     #include "edgerelay.h"
 *
 *     EV_ON_EVENT(e) {
 *       return ev_is("status", "failed") ? EV_PASS : EV_DROP;
 *     }
 *
 * Built with clang and lld (on Debian clang-16 and wasm-ld-16):
 *
 *     clang --target=wasm32 -O2 -nostdlib -mbulk-memory -c plugin.c -o plugin.o
 *     wasm-ld --no-entry -z stack-size=65536 --strip-all -o plugin.wasm plugin.o
 *
 * Functions, which answer clients, have EV_ON_CONNECT, EV_ON_MESSAGE and so on: see the end of this header.
 *
 * A hook without a definition costs the relay nothing. The module imports only the host functions that the code
 * calls. Functions marked with a grant need that grant in the plugin's block of the Caddyfile. Text is UTF-8 with a
 * length; a const char * ends with a 0. An instance handles one call at a time, so static variables need no locks.
 * A plugin runs in several instances, each with its own static variables; they share only the key-value store.
 * edgerelay_test.h runs unit tests of plugins without WebAssembly.
 */
#ifndef EDGERELAY_H
#define EDGERELAY_H

#include <stdint.h>

/* The version of the header, as in the tag sdk/c/v0.3.0. Newer headers of a major version compile the same plugins. */
#define EV_SDK_VERSION "0.3.0"
#define EV_SDK_MAJOR 0
#define EV_SDK_MINOR 3
#define EV_SDK_PATCH 0
/* The version of the plugin ABI. */
#define EV_ABI_VERSION 1

/* The largest event, group name and payload together, that the plugin accepts; on_error decides about larger
 * events. The input buffer grows with the events. An event may take half of the plugin's memory. */
#ifndef EV_MAX_EVENT
#define EV_MAX_EVENT (1u << 30)
#endif

/* Results of hooks. ev_replace and ev_deny_because return results with bytes. */
typedef uint64_t ev_result;
#define EV_PASS ((ev_result)0)  /* unchanged; from on_subscribe: allow */
#define EV_DROP ((ev_result)1)  /* drop, or drop for this class */
#define EV_ERROR ((ev_result)2) /* the plugin failed; see ev_fail */
#define EV_ALLOW ((ev_result)0)
#define EV_DENY ((ev_result)1)
#define EV_OK ((ev_result)0) /* from on_tick */
#define EV_ALLOW_AS(class) ((ev_result)(0x100 + (class))) /* of an audience class: there are 64, 0 to 63 */

/* An event. The plugin may change the bytes in place. They are valid until the hook returns, and do not end with a
 * 0. */
typedef struct {
  char *group;
  uint32_t group_len;
  char *payload;
  uint32_t payload_len;
} ev_event;

/* A range of the payload. */
typedef struct {
  uint32_t from, to;
} ev_range;

enum { EV_DEBUG, EV_INFO, EV_WARN, EV_ERR };

/* Errors of ev_emit. */
enum { EV_TOO_MANY = -1, EV_TOO_LONG = -2, EV_HOPS = -3, EV_BAD_NAME = -4, EV_BAD_POSITION = -5 };

/* The length of the longest position. */
#define EV_MAX_POSITION 24

#define EV_EVERYBODY ((uint64_t)-1)

/* Hooks: each macro is followed by a body that returns an ev_result. The relay calls a hook for one event at a time. */
#define EV_ON_EVENT(e)                                                                   \
  static ev_result ev__on_event(const ev_event *e);                                      \
  EV__HOOK(uint64_t, ev_on_event, (uint32_t gn, uint32_t pn)) {                          \
    ev_event ev = {ev__input, gn, ev__input + gn, pn};                                   \
    ev__begin(&ev);                                                                      \
    return ev__on_event(&ev);                                                            \
  }                                                                                      \
  static ev_result ev__on_event(const ev_event *e)
#define EV_ON_CLASS(class, e)                                                            \
  static ev_result ev__on_class(uint32_t class, const ev_event *e);                      \
  EV__HOOK(uint64_t, ev_on_class, (uint32_t c, uint32_t gn, uint32_t pn)) {              \
    ev_event ev = {ev__input, gn, ev__input + gn, pn};                                   \
    ev__begin(&ev);                                                                      \
    return ev__on_class(c, &ev);                                                         \
  }                                                                                      \
  static ev_result ev__on_class(uint32_t class, const ev_event *e)
/* on_subscribe: ev_text("group", …) returns the group, and ev_text("user.…", …) the user. */
#define EV_ON_SUBSCRIBE()                                                                \
  static ev_result ev__on_subscribe(void);                                               \
  EV__HOOK(uint64_t, ev_on_subscribe, (uint32_t n)) {                                    \
    (void)n;                                                                             \
    ev__begin(0);                                                                        \
    return ev__on_subscribe();                                                           \
  }                                                                                      \
  static ev_result ev__on_subscribe(void)
/* on_tick runs at the interval of the grant tick, in every instance. It returns EV_OK or ev_fail(why). */
#define EV_ON_TICK()                                                                     \
  static ev_result ev__on_tick(void);                                                    \
  EV__HOOK(uint64_t, ev_on_tick, (void)) {                                               \
    ev__begin(0);                                                                        \
    return ev__on_tick();                                                                \
  }                                                                                      \
  static ev_result ev__on_tick(void)
/* on_init runs before any event. It returns 0, or another value, after ev_fail(why), to reject the plugin. */
#define EV_ON_INIT()                                                                     \
  static int32_t ev__on_init(void);                                                      \
  EV__HOOK(int32_t, ev_init, (void)) { return ev__on_init(); }                           \
  static int32_t ev__on_init(void)

/* EV_MANIFEST({"name": "my-plugin", "version": "1.0.0", "grants": ["emit"]}), once and outside functions, embeds the
 * manifest, which the relay shows before the module is deployed. */
#define EV_MANIFEST(...) EV__MANIFEST(#__VA_ARGS__)

/* With EDGERELAY_TEST the plugin is compiled for this machine, and edgerelay_test.h takes the relay's place. */
#ifdef EDGERELAY_TEST
#define EV__HOOK(type, name, params)                                                     \
  static type name params;                                                               \
  __attribute__((constructor)) static void name##_is_here(void) {                        \
    ev__plugin.name = name;                                                              \
    ev__plugin.buffer = ev__test_buffer;                                                 \
    ev__plugin.result = &ev__result;                                                     \
  }                                                                                      \
  static type name params
#define EV_EXPORT(name) static __attribute__((unused))
#define EV_IMPORT(name) extern
#define EV__MANIFEST(json) static const char ev_manifest[] __attribute__((unused)) = json;
/* The plugin's hooks, for the test; 0 if there is none. */
struct ev__plugin {
  uint64_t (*ev_on_event)(uint32_t, uint32_t), (*ev_on_class)(uint32_t, uint32_t, uint32_t),
      (*ev_on_subscribe)(uint32_t);
  uint64_t (*ev_on_tick)(void);
  uint64_t (*ev_on_connect)(uint32_t), (*ev_on_message)(uint32_t, uint32_t), (*ev_on_close)(uint32_t, uint32_t),
      (*ev_on_result)(uint64_t, int32_t, uint32_t), (*ev_on_alarm)(uint32_t, uint32_t);
  int32_t (*ev_init)(void);
  char *(*buffer)(uint32_t);
  const void **result;
};
extern struct ev__plugin ev__plugin;
#else
#define EV__HOOK(type, name, params) EV_EXPORT(#name) type name params
#define EV_EXPORT(name) __attribute__((export_name(name)))
#define EV_IMPORT(name) __attribute__((import_module("ev1"), import_name(name)))
#define EV__QUOTE(s) #s
#define EV__MANIFEST(json) \
  __asm__(".section .custom_section.edgerelay.manifest,\"\",@\n.ascii " EV__QUOTE(json) "\n.text\n");
#endif

EV_IMPORT("log") void ev__log(int32_t level, const void *p, uint32_t n);
EV_IMPORT("config") int32_t ev__config(void *p, uint32_t cap);
EV_IMPORT("config_get") int32_t ev__config_get(const void *path, uint32_t n, void *p, uint32_t cap);
EV_IMPORT("json_get") int32_t ev__json_get(const void *path, uint32_t n, void *p, uint32_t cap);
EV_IMPORT("json_find") int64_t ev__json_find(const void *path, uint32_t n);
EV_IMPORT("audience") void ev__audience(uint64_t mask);
EV_IMPORT("emit") int32_t ev__emit(const void *g, uint32_t gn, const void *p, uint32_t n, uint64_t mask);
EV_IMPORT("emit_at") int32_t ev__emit_at(
    const void *g, uint32_t gn, const void *p, uint32_t n, uint64_t mask, const void *at, uint32_t at_n);
EV_IMPORT("metric_add") int32_t ev__metric_add(const void *name, uint32_t n, int64_t delta);
EV_IMPORT("kv_get") int32_t ev__kv_get(const void *k, uint32_t kn, void *p, uint32_t cap);
EV_IMPORT("kv_set") int32_t ev__kv_set(const void *k, uint32_t kn, const void *p, uint32_t n, int64_t ttl);
EV_IMPORT("kv_incr") int64_t ev__kv_incr(const void *k, uint32_t kn, int64_t delta, int64_t ttl);
EV_IMPORT("now_ms") int64_t ev__now_ms(void);
EV_IMPORT("event_source") int32_t ev__event_source(void *p, uint32_t cap);
EV_IMPORT("event_sent_ms") int64_t ev__event_sent_ms(void);
EV_IMPORT("event_position") int32_t ev__event_position(void *p, uint32_t cap);
EV_IMPORT("connection_id") int32_t ev__connection_id(void *p, uint32_t cap);
EV_IMPORT("attachment_get") int32_t ev__attachment_get(void *p, uint32_t cap);
EV_IMPORT("attachment_set") int32_t ev__attachment_set(const void *p, uint32_t n);
EV_IMPORT("send") int32_t ev__send(int32_t kind, const void *p, uint32_t n);
EV_IMPORT("join") int32_t ev__join(const void *p, uint32_t n);
EV_IMPORT("leave") int32_t ev__leave(const void *p, uint32_t n);
EV_IMPORT("publish") int32_t ev__publish(
    const void *g, uint32_t gn, const void *t, uint32_t tn, const void *p, uint32_t n, int32_t flags);
EV_IMPORT("close") int32_t ev__close(int32_t code, const void *p, uint32_t n);
EV_IMPORT("auto_response") int32_t ev__auto_response(const void *q, uint32_t qn, const void *p, uint32_t n);
EV_IMPORT("result_context") int32_t ev__result_context(void *p, uint32_t cap);
EV_IMPORT("shared_get") int64_t ev__shared_get(const void *k, uint32_t kn, const void *c, uint32_t cn);
EV_IMPORT("shared_set") int64_t ev__shared_set(
    const void *k, uint32_t kn, const void *p, uint32_t n, int64_t ttl, const void *c, uint32_t cn);
EV_IMPORT("shared_swap") int64_t ev__shared_swap(const void *k, uint32_t kn, const void *e, uint32_t en, const void *p,
    uint32_t n, int64_t ttl, const void *c, uint32_t cn);
EV_IMPORT("shared_add") int64_t ev__shared_add(
    const void *k, uint32_t kn, int64_t delta, int64_t ttl, const void *c, uint32_t cn);
EV_IMPORT("shared_push") int64_t ev__shared_push(
    const void *k, uint32_t kn, const void *p, uint32_t n, int32_t limit, int64_t ttl, const void *c, uint32_t cn);
EV_IMPORT("shared_list") int64_t ev__shared_list(
    const void *k, uint32_t kn, int32_t limit, const void *c, uint32_t cn);
EV_IMPORT("alarm_set") int64_t ev__alarm_set(
    const void *k, uint32_t kn, const void *p, uint32_t n, int64_t at, const void *c, uint32_t cn);
EV_IMPORT("alarm_cancel") int64_t ev__alarm_cancel(const void *k, uint32_t kn, const void *c, uint32_t cn);
EV_IMPORT("fetch") int64_t ev__fetch(
    const void *r, uint32_t rn, const void *p, uint32_t n, const void *c, uint32_t cn);

#define EV_API static inline __attribute__((unused))

/* Makes *p a buffer of at least need bytes and keeps the first keep bytes of its content. *p and *cap begin as 0.
 * The buffer lies beyond all other memory, at least doubles each time, and is never freed. Without memory,
 * ev_reserve returns false and changes nothing. */
#ifdef EDGERELAY_TEST
EV_IMPORT("reserve") int ev_reserve(char **p, uint32_t *cap, uint32_t keep, uint32_t need);
static char *ev__input;
static uint32_t ev__input_cap;
#else
EV_API int ev_reserve(char **p, uint32_t *cap, uint32_t keep, uint32_t need) {
  const uint32_t page = 65536;
  if (need <= *cap) return 1;
  if (need > 1u << 30) return 0;
  char *end = (char *)(__builtin_wasm_memory_size(0) * page);
  if (*p && *p + *cap == end) { /* the last buffer, which can grow in place */
    uint32_t more = need - *cap > *cap ? need - *cap : *cap;
    if (__builtin_wasm_memory_grow(0, (more + page - 1) / page) == (uint32_t)-1) {
      more = need - *cap;
      if (__builtin_wasm_memory_grow(0, (more + page - 1) / page) == (uint32_t)-1) return 0;
    }
  } else {
    uint32_t size = need > 2 * *cap ? need : 2 * *cap;
    if (__builtin_wasm_memory_grow(0, (size + page - 1) / page) == (uint32_t)-1 &&
        __builtin_wasm_memory_grow(0, (need + page - 1) / page) == (uint32_t)-1)
      return 0;
    __builtin_memcpy(end, *p, keep);
    *p = end;
  }
  *cap = (uint32_t)((char *)(__builtin_wasm_memory_size(0) * page) - *p);
  return 1;
}
static char ev__first[4096], *ev__input = ev__first;
static uint32_t ev__input_cap = sizeof ev__first;
#endif

EV_EXPORT("ev_abi_version") int32_t ev__abi_version(void) { return EV_ABI_VERSION; }
EV_API char *ev__buffer_of(uint32_t size) {
  return size <= EV_MAX_EVENT && ev_reserve(&ev__input, &ev__input_cap, 0, size) ? ev__input : 0;
}
#ifdef EDGERELAY_TEST
/* Every event has a buffer of its exact size, so that sanitizers see each byte too many. */
EV_API char *ev__test_buffer(uint32_t size) {
  ev__input = 0;
  ev__input_cap = 0;
  return ev__buffer_of(size);
}
#else
EV_EXPORT("ev_buffer") uint32_t ev__buffer(uint32_t size) { return (uint32_t)ev__buffer_of(size); }
#endif

EV_API uint32_t ev_len(const char *s) {
  uint32_t n = 0;
  while (s[n]) n++;
  return n;
}
EV_API void ev_copy(void *to, const void *from, uint32_t n) {
  if (n) __builtin_memcpy(to, from, n);
}
EV_API int ev_equal(const void *a, const void *b, uint32_t n) {
  const char *x = (const char *)a, *y = (const char *)b;
  for (uint32_t i = 0; i < n; i++)
    if (x[i] != y[i]) return 0;
  return 1;
}

/* Replaces the payload by n bytes at p, which must not change until the next call. */
#ifdef EDGERELAY_TEST
static const void *ev__result; /* pointers of this machine do not fit into a result */
EV_API ev_result ev_replace(const void *p, uint32_t n) {
  ev__result = p;
  return (uint64_t)(p != 0) << 32 | n;
}
#else
EV_API ev_result ev_replace(const void *p, uint32_t n) { return (uint64_t)(uint32_t)p << 32 | n; }
#endif
EV_API ev_result ev_deny_because(const char *why) { return ev_replace(why, ev_len(why)); }

EV_API void ev_log(int32_t level, const char *text) { ev__log(level, text, ev_len(text)); }
EV_API ev_result ev_fail(const char *why) { return ev_log(EV_ERR, why), EV_ERROR; }

/* Values of the payload, or of the request. A path consists of names and positions, joined by dots:
 * event_data.res.0.stdout. A backslash escapes a dot. ev_text returns the length of the value, -1 if there is
 * none. It writes a string decoded, any other value as JSON text, if cap bytes are enough. */
EV_API int32_t ev_text(const char *path, void *p, uint32_t cap) { return ev__json_get(path, ev_len(path), p, cap); }
EV_API int ev_has(const char *path) { return ev__json_find(path, ev_len(path)) >= 0; }
EV_API int ev_is(const char *path, const char *want) {
  char s[256];
  uint32_t n = ev_len(want);
  return ev_text(path, s, sizeof s) == (int32_t)n && n <= sizeof s && ev_equal(s, want, n);
}
/* The position of the value in the payload as JSON text, quotes included; 0 if there is none. */
EV_API int ev_find(const char *path, ev_range *r) {
  int64_t at = ev__json_find(path, ev_len(path));
  if (at < 0) return 0;
  r->from = (uint32_t)(at >> 32);
  r->to = r->from + (uint32_t)at;
  return 1;
}
EV_API int ev__number(const char *s, int32_t n, int64_t *v) {
  int32_t i = n > 0 && s[0] == '-';
  uint64_t u = 0, most = (uint64_t)INT64_MAX + (uint64_t)i, digit;
  if (n <= i || n > 20) return 0;
  for (int32_t k = i; k < n; k++) {
    digit = (uint64_t)(s[k] - '0');
    if (s[k] < '0' || s[k] > '9' || u > (most - digit) / 10) return 0;
    u = u * 10 + digit;
  }
  *v = (int64_t)(i ? 0 - u : u);
  return 1;
}
EV_API int ev_int(const char *path, int64_t *v) {
  char s[24];
  return ev__number(s, ev_text(path, s, sizeof s), v);
}

/* The configuration. */
EV_API int32_t ev_config(void *p, uint32_t cap) { return ev__config(p, cap); }
EV_API int32_t ev_config_text(const char *path, void *p, uint32_t cap) {
  return ev__config_get(path, ev_len(path), p, cap);
}
EV_API int64_t ev_config_int(const char *path, int64_t otherwise) {
  char s[24];
  int64_t v;
  return ev__number(s, ev_config_text(path, s, sizeof s), &v) ? v : otherwise;
}
/* Element i of the array at a path of at most 200 bytes, like ev_config_text. */
EV_API int32_t ev_config_item(const char *path, uint32_t i, void *p, uint32_t cap) {
  char full[216], digits[10];
  uint32_t n = ev_len(path), d = 0;
  if (n > 200) return -1;
  ev_copy(full, path, n);
  if (n) full[n++] = '.';
  do digits[d++] = (char)('0' + i % 10);
  while ((i /= 10));
  while (d) full[n++] = digits[--d];
  return ev__config_get(full, n, p, cap);
}

/* Restricts the event to the classes in mask: bit c stands for class c. */
EV_API void ev_audience(uint64_t mask) { ev__audience(mask); }
/* Sends another event to a group, or to the event's own group if group is "". Returns 0 or an error. Grant: emit. */
EV_API int32_t ev_emit_for(const char *group, const void *p, uint32_t n, uint64_t mask) {
  return ev__emit(group, ev_len(group), p, n, mask);
}
EV_API int32_t ev_emit(const char *group, const void *p, uint32_t n) { return ev_emit_for(group, p, n, EV_EVERYBODY); }
/* Like ev_emit, for an event that the plugin has held back: at is the ev_position of that event, of the same group,
 * or of the last one if the new event stands for several. Clients resume from there. An event of a tick without a
 * position, as with at_n 0, makes a gap in the history of its group. */
EV_API int32_t ev_emit_at(const char *group, const void *p, uint32_t n, const char *at, uint32_t at_n) {
  return ev__emit_at(group, ev_len(group), p, n, EV_EVERYBODY, at, at_n);
}
/* Adds to a counter. Returns whether the host accepted the name and delta. Grant: metrics. */
EV_API int ev_count(const char *name, int64_t delta) { return ev__metric_add(name, ev_len(name), delta) == 0; }
/* The store. ttl in milliseconds, 0 means forever. An empty value deletes the key. ev_kv_incr returns INT64_MIN if
 * the store is full or the value is not a number. Grant: kv. */
EV_API int32_t ev_kv_get(const char *key, void *p, uint32_t cap) { return ev__kv_get(key, ev_len(key), p, cap); }
EV_API int ev_kv_set(const char *key, const void *p, uint32_t n, int64_t ttl) {
  return ev__kv_set(key, ev_len(key), p, n, ttl) == 0;
}
EV_API int64_t ev_kv_incr(const char *key, int64_t delta, int64_t ttl) {
  return ev__kv_incr(key, ev_len(key), delta, ttl);
}
/* Unix time in milliseconds. Grant: clock. */
EV_API int64_t ev_now(void) { return ev__now_ms(); }
/* The way by which the event reached the node: layer, peer, or history for an event that clients have missed and get
 * now, see ev_is_replay. Returns its length, -1 if there is none. */
EV_API int32_t ev_source(void *p, uint32_t cap) { return ev__event_source(p, cap); }
/* Whether the event is of the history, for clients that have missed it. The plugin may have seen the event before,
 * and sees it again for each client: a plugin with state lets it pass, and leaves the state as it is. Events that the
 * plugin emits to other groups are dropped. */
EV_API int ev_is_replay(void) {
  char s[8];
  return ev_source(s, sizeof s) == 7 && ev_equal(s, "history", 7);
}
/* The place of the event in the history of its group, a token of up to EV_MAX_POSITION characters. Returns its
 * length, -1 if there is none. See also ev_emit_at. */
EV_API int32_t ev_position(void *p, uint32_t cap) { return ev__event_position(p, cap); }
/* The Unix time in milliseconds at which the emitter sent the event; -1 if it is not known. */
EV_API int64_t ev_sent(void) { return ev__event_sent_ms(); }

/* Replaces the payload, a JSON object, by a copy in out, of cap bytes, with more members at its end. A payload
 * that is not an object passes unchanged. */
EV_API ev_result ev_insert(const ev_event *e, const char *members, uint32_t n, char *out, uint32_t cap) {
  const char *p = e->payload;
  uint32_t start = 0, end = e->payload_len, last;
#define EV__SPACE(c) ((c) == ' ' || (c) == '\n' || (c) == '\t' || (c) == '\r')
  while (end && EV__SPACE(p[end - 1])) end--;
  while (start < end && EV__SPACE(p[start])) start++;
  if (!n || end < start + 2 || p[start] != '{' || p[--end] != '}') return EV_PASS;
  if (n > cap || end + 2 > cap - n) return ev_fail("ev_insert: the buffer is too small");
  for (last = end - 1; EV__SPACE(p[last]);) last--;
#undef EV__SPACE
  ev_copy(out, p, end);
  if (last > start) out[end++] = ',';
  ev_copy(out + end, members, n);
  out[end + n] = '}';
  return ev_replace(out, end + n + 1);
}

/* Like ev_insert, into a buffer that grows with the events. */
EV_API ev_result ev_add(const ev_event *e, const char *members, uint32_t n) {
  static char *out;
  static uint32_t cap;
  if (n > 1u << 30 || !ev_reserve(&out, &cap, 0, e->payload_len + n + 2))
    return ev_fail("ev_add: the memory is too small for this event");
  return ev_insert(e, members, n, out, cap);
}

/* Edits.
 *
 *     EV_ON_EVENT(e) {
 *       ev_remove("event_data.res.stdout");
 *       ev_set("seen", "true");
 *       return ev_edited();
 *     }
 *
 * ev_set, ev_remove and ev_rename change the event at hand, one after the other, and ev_edited returns the result.
 * Each returns whether there was such an edit; a refused edit changes nothing. Paths are those of ev_text. All bytes
 * that an edit does not name stay as they are. The functions above still read the payload as it arrived.
 *
 * An ev_doc is any other JSON text to edit, in a buffer of the caller: {text, size, capacity of the buffer}. */
typedef struct {
  char *text;
  uint32_t len, cap;
  int full; /* an edit did not fit, and was refused */
} ev_doc;

/* A value in a JSON text, and where it stands. */
typedef struct {
  uint32_t from, to; /* the value */
  uint32_t start;    /* the member's name, or the element */
  uint32_t open;     /* the bracket of the object or array */
  uint32_t comma;    /* the comma before the member or element; open if there is none */
  uint32_t last;     /* if just the member is missing: the end of the object's last value; otherwise 0 */
  uint32_t name, name_end; /* the path's last name */
} ev__place;

EV_API uint32_t ev__space(const char *p, uint32_t n, uint32_t i) {
  while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r')) i++;
  return i;
}
/* The end of the string that begins at i; 0 if it has none. Eight bytes at a time, of which hits marks the first
 * quotation mark or backslash: a byte of x that is 0 borrows from its highest bit. */
EV_API uint32_t ev__string(const char *p, uint32_t n, uint32_t i) {
  const uint64_t ones = 0x0101010101010101u;
  i++;
  while (i < n && n - i >= 8) {
    uint64_t x, y, hits;
    __builtin_memcpy(&x, p + i, 8);
    y = x ^ ones * '\\';
    x ^= ones * '"';
    hits = (((x - ones) & ~x) | ((y - ones) & ~y)) & ones * 0x80;
    if (!hits) {
      i += 8;
      continue;
    }
    i += (uint32_t)__builtin_ctzll(hits) / 8;
    if (p[i] == '"') return i + 1;
    i += 2;
  }
  for (; i < n; i++) {
    if (p[i] == '"') return i + 1;
    if (p[i] == '\\') i++;
  }
  return 0;
}
/* The end of the value that begins at i; 0 if there is none. */
EV_API uint32_t ev__skip(const char *p, uint32_t n, uint32_t i) {
  uint32_t depth = 0, begin = i;
  if (i >= n || p[i] == ',' || p[i] == ':' || p[i] == '}' || p[i] == ']') return 0;
  if (p[i] == '"') return ev__string(p, n, i);
  if (p[i] != '{' && p[i] != '[') {
    while (i < n && p[i] != ',' && p[i] != '}' && p[i] != ']' && (uint8_t)p[i] > ' ') i++;
    return i > begin ? i : 0;
  }
  while (i < n) {
    char c = p[i];
    if (c == '"') {
      if (!(i = ev__string(p, n, i))) return 0;
      continue;
    }
    i++;
    if (c == '{' || c == '[') depth++;
    else if ((c == '}' || c == ']') && !--depth) return i;
  }
  return 0;
}
/* The length of the UTF-8 character at i; 0 if it is none. */
EV_API uint32_t ev__utf8(const char *p, uint32_t n, uint32_t i) {
  uint8_t c = (uint8_t)p[i], d = i + 1 < n ? (uint8_t)p[i + 1] : 0;
  uint32_t size = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
  if (size > n - i || (c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
      (c == 0xf4 && d > 0x8f))
    return 0;
  for (uint32_t k = 1; k < size; k++)
    if (((uint8_t)p[i + k] & 0xc0) != 0x80) return 0;
  return size;
}
EV_API int32_t ev__hex(const char *p, uint32_t n, uint32_t i) {
  int32_t v = 0;
  if (i > n || n - i < 4) return -1;
  for (uint32_t k = i; k < i + 4; k++) {
    char c = p[k], l = (char)(c | 32);
    if (c >= '0' && c <= '9') v = v * 16 + (c - '0');
    else if (l >= 'a' && l <= 'f') v = v * 16 + (l - 'a' + 10);
    else return -1;
  }
  return v;
}
/* Decodes the character at *i of a string p[*i:n] without its quotes. Returns its length in c; 0 if it is no JSON. */
EV_API uint32_t ev__decode(const char *p, uint32_t n, uint32_t *i, char c[4]) {
  int32_t v, low;
  uint32_t size;
  c[0] = p[*i];
  if ((uint8_t)c[0] < ' ' || c[0] == '"') return 0;
  if (c[0] != '\\') {
    if (!(size = ev__utf8(p, n, *i))) {
      ++*i;
      return c[0] = '\xef', c[1] = '\xbf', c[2] = '\xbd', 3;
    }
    for (uint32_t k = 0; k < size; k++) c[k] = p[*i + k];
    *i += size;
    return size;
  }
  if (++*i >= n) return 0;
  switch (p[(*i)++]) {
  case '"': return c[0] = '"', 1;
  case '\\': return c[0] = '\\', 1;
  case '/': return c[0] = '/', 1;
  case 'b': return c[0] = '\b', 1;
  case 'f': return c[0] = '\f', 1;
  case 'n': return c[0] = '\n', 1;
  case 'r': return c[0] = '\r', 1;
  case 't': return c[0] = '\t', 1;
  case 'u': break;
  default: return 0;
  }
  if ((v = ev__hex(p, n, *i)) < 0) return 0;
  *i += 4;
  if (v >= 0xd800 && v < 0xe000) { /* half of a pair */
    low = v < 0xdc00 && n - *i >= 6 && p[*i] == '\\' && p[*i + 1] == 'u' ? ev__hex(p, n, *i + 2) : -1;
    if (low >= 0xdc00 && low < 0xe000) {
      *i += 6;
      v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
      c[0] = (char)(0xf0 | v >> 18), c[1] = (char)(0x80 | (v >> 12 & 63)), c[2] = (char)(0x80 | (v >> 6 & 63)),
          c[3] = (char)(0x80 | (v & 63));
      return 4;
    }
    v = 0xfffd;
  }
  if (v < 0x80) return c[0] = (char)v, 1;
  if (v < 0x800) return c[0] = (char)(0xc0 | v >> 6), c[1] = (char)(0x80 | (v & 63)), 2;
  return c[0] = (char)(0xe0 | v >> 12), c[1] = (char)(0x80 | (v >> 6 & 63)), c[2] = (char)(0x80 | (v & 63)), 3;
}
/* Whether p[i:end], the inside of a string, is JSON with escapes. */
EV_API int ev__escaped(const char *p, uint32_t i, uint32_t end) {
  char c[4];
  int any = 0;
  while (i < end) {
    any |= p[i] == '\\';
    if (!ev__decode(p, end, &i, c)) return 0;
  }
  return any;
}
/* Whether the name p[i:end] of a member is q[k:qn]. In a path, backslashes escape. */
EV_API int ev__named(const char *p, uint32_t i, uint32_t end, const char *q, uint32_t k, uint32_t qn, int path) {
  char c[4];
  uint32_t size;
  int escaped = 0;
  if (i < end && k < qn && (uint8_t)p[i] < 0x80 && p[i] != '\\' && q[k] != '\\' && p[i] != q[k]) return 0;
  for (uint32_t j = i; j < end && !escaped; j++) escaped = p[j] == '\\';
  if (escaped) escaped = ev__escaped(p, i, end);
  while (i < end) {
    size = 1;
    c[0] = p[i];
    if (escaped) size = ev__decode(p, end, &i, c);
    else i++;
    for (uint32_t j = 0; j < size; j++) {
      if (path && k + 1 < qn && q[k] == '\\') k++;
      if (k >= qn || q[k++] != c[j]) return 0;
    }
  }
  return k == qn;
}
/* Finds a member of the object whose bracket is at l->open. */
EV_API int ev__member(const char *p, uint32_t n, const char *q, uint32_t k, uint32_t qn, int path, ev__place *l) {
  uint32_t i = l->open + 1, end;
  l->comma = l->open;
  l->last = 0;
  for (;;) {
    i = ev__space(p, n, i);
    if (i < n && p[i] == '}' && l->comma == l->open) l->last = l->open + 1;
    if (i >= n || p[i] != '"' || !(end = ev__string(p, n, i))) return 0;
    l->start = i;
    i = ev__space(p, n, end);
    if (i >= n || p[i] != ':') return 0;
    i = l->from = ev__space(p, n, i + 1);
    if (ev__named(p, l->start + 1, end - 1, q, k, qn, path)) return 1;
    if (!(end = ev__skip(p, n, i))) return 0;
    i = ev__space(p, n, end);
    if (i < n && p[i] == '}') l->last = end;
    if (i >= n || p[i] != ',') return 0;
    l->comma = i++;
  }
}
/* Finds an element of the array whose bracket is at l->open. */
EV_API int ev__element(const char *p, uint32_t n, const char *q, uint32_t k, uint32_t qn, ev__place *l) {
  uint32_t i = l->open + 1, left = 0, digits = 0;
  l->comma = l->open;
  l->last = 0;
  for (; k < qn; k++) {
    if (q[k] == '\\' && k + 1 < qn) k++;
    if (q[k] < '0' || q[k] > '9' || ++digits > 9) return 0;
    left = left * 10 + (uint32_t)(q[k] - '0');
  }
  if (!digits) return 0;
  for (;; left--) {
    i = ev__space(p, n, i);
    if (i >= n || p[i] == ']') return 0;
    l->start = l->from = i;
    if (!left) return 1;
    if (!(i = ev__skip(p, n, i))) return 0;
    i = ev__space(p, n, i);
    if (i >= n || p[i] != ',') return 0;
    l->comma = i++;
  }
}
/* Finds the value at a path. */
EV_API int ev__find(const char *p, uint32_t n, const char *path, uint32_t pn, ev__place *l) {
  uint32_t at = 0;
  l->start = l->from = l->open = l->comma = ev__space(p, n, 0);
  l->last = l->name = l->name_end = 0;
  while (at < pn) {
    l->name = at;
    while (at < pn && path[at] != '.') at += path[at] == '\\' && at + 1 < pn ? 2 : 1;
    l->name_end = at;
    l->open = l->from;
    if (l->open >= n || (p[l->open] != '{' && p[l->open] != '[')) return l->last = 0;
    if (!(p[l->open] == '{' ? ev__member(p, n, path, l->name, at, 1, l) : ev__element(p, n, path, l->name, at, l))) {
      if (at + 1 < pn) l->last = 0;
      return 0;
    }
    at++; /* behind the dot */
  }
  return (l->to = ev__skip(p, n, l->from)) != 0;
}
/* Whether json is one value: brackets in balance, a string with an end, or a word. */
EV_API int ev__value(const char *p, uint32_t n) {
  uint32_t i = ev__space(p, n, 0), end = ev__skip(p, n, i);
  if (!end || ev__space(p, n, end) != n) return 0;
  if (p[i] == '"' || p[i] == '{' || p[i] == '[') return 1;
  for (; i < end; i++) {
    char c = p[i], l = (char)(c | 32);
    if (!(l >= 'a' && l <= 'z') && !(c >= '0' && c <= '9') && c != '+' && c != '-' && c != '.') return 0;
  }
  return 1;
}
/* Writes p[k:n] as the inside of a JSON string to out, unless out is 0, and returns the length. In a path,
 * backslashes escape. */
EV_API uint32_t ev__escape(char *out, const char *p, uint32_t k, uint32_t n, int path) {
  static const char hex[] = "0123456789abcdef", letters[] = "btn\0fr"; /* of 8 to 13 */
  uint32_t size = 0;
  for (; k < n; k++) {
    if (path && p[k] == '\\' && k + 1 < n) k++;
    uint8_t c = (uint8_t)p[k];
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    uint32_t m = 6;
    if (c == '"' || c == '\\') text[1] = (char)c, m = 2;
    else if (c >= 8 && c <= 13 && c != 11) text[1] = letters[c - 8], m = 2;
    else if (c >= ' ') text[0] = (char)c, m = 1;
    for (uint32_t j = 0; j < m; j++, size++)
      if (out) out[size] = text[j];
  }
  return size;
}

/* The bounds of sums of lengths. */
#define EV__MOST (1u << 28)

static ev_doc ev__edits;                  /* the event at hand with its edits */
static const char *ev__payload;           /* as it arrived */
static uint32_t ev__payload_len;
static int ev__edited;                    /* 1: ev__edits has the payload; 2: and an edit */
static uint32_t ev__texts;                /* bytes of the texts of this call */
EV_API void ev__begin(const ev_event *e) {
  ev__texts = 0;
  ev__payload = e ? e->payload : 0;
  ev__payload_len = e ? e->payload_len : 0;
  ev__edited = 0;
}

/* Makes room for size bytes in place of text[from:to], and returns where; 0 if the buffer is too small. */
EV_API char *ev__gap(ev_doc *d, uint32_t from, uint32_t to, uint64_t size) {
  uint64_t len = size + d->len - (to - from);
  if (len > d->cap && !(d == &ev__edits && len <= EV__MOST * 4 &&
      ev_reserve(&d->text, &d->cap, d->len, (uint32_t)len))) {
    d->full = 1;
    return 0;
  }
  __builtin_memmove(d->text + from + size, d->text + to, d->len - to);
  d->len = (uint32_t)len;
  return d->text + from;
}
EV_API int ev__set(ev_doc *d, const char *path, const char *value, uint32_t n, int string) {
  uint32_t pn = ev_len(path), name, comma;
  uint64_t size;
  ev__place l;
  char *to;
  if (n > EV__MOST || pn > EV__MOST) return d->full = 1, 0;
  size = string ? ev__escape(0, value, 0, n, 0) + 2 : n;
  if (!pn || (!string && !ev__value(value, n))) return 0;
  if (ev__find(d->text, d->len, path, pn, &l)) {
    if (!(to = ev__gap(d, l.from, l.to, size))) return 0;
  } else {
    if (!l.last) return 0;
    comma = l.last > l.open + 1;
    name = ev__escape(0, path, l.name, l.name_end, 1);
    if (!(to = ev__gap(d, l.last, l.last, size + name + comma + 3))) return 0;
    if (comma) *to++ = ',';
    *to++ = '"';
    to += ev__escape(to, path, l.name, l.name_end, 1);
    *to++ = '"';
    *to++ = ':';
  }
  if (!string) return ev_copy(to, value, n), 1;
  *to++ = '"';
  to += ev__escape(to, value, 0, n, 0);
  *to = '"';
  return 1;
}

/* Replaces the value at path by a JSON text, or appends a new member to an object. An array gets no new element. The
 * text must be one value, and must not be part of d. */
EV_API int ev_doc_set(ev_doc *d, const char *path, const void *json, uint32_t n) {
  return ev__set(d, path, (const char *)json, n, 0);
}
/* The same with a string in UTF-8, without quotes and escapes. */
EV_API int ev_doc_set_string(ev_doc *d, const char *path, const void *text, uint32_t n) {
  return ev__set(d, path, (const char *)text, n, 1);
}
/* Removes a member or element, and its comma. */
EV_API int ev_doc_remove(ev_doc *d, const char *path) {
  uint32_t pn = ev_len(path), next;
  ev__place l;
  if (!pn || !ev__find(d->text, d->len, path, pn, &l)) return 0;
  next = ev__space(d->text, d->len, l.to);
  if (next >= d->len) return 0;
  if (d->text[next] == ',') {
    l.from = l.start;
    l.to = ev__space(d->text, d->len, next + 1);
  } else if (d->text[next] != (d->text[l.open] == '{' ? '}' : ']')) {
    return 0;
  } else if (l.comma != l.open) {
    l.from = l.comma;
  } else {
    l.from = l.open + 1;
    l.to = next;
  }
  return ev__gap(d, l.from, l.to, 0) != 0;
}
/* Gives a member a new name, unless the object has a member of that name. */
EV_API int ev_doc_rename(ev_doc *d, const char *path, const char *name) {
  uint32_t pn = ev_len(path), n = ev_len(name), size;
  ev__place l, other;
  char *to;
  if (n > EV__MOST) return d->full = 1, 0;
  if (!pn || !ev__find(d->text, d->len, path, pn, &l) || d->text[l.open] != '{') return 0;
  other.open = l.open;
  if (ev__member(d->text, d->len, name, 0, n, 0, &other)) return 0;
  size = ev__escape(0, name, 0, n, 0);
  if (!(to = ev__gap(d, l.start + 1, ev__string(d->text, d->len, l.start) - 1, size))) return 0;
  ev__escape(to, name, 0, n, 0);
  return 1;
}

/* The event at hand, in a buffer that grows. */
EV_API ev_doc *ev__event(void) {
  if (!ev__edited) {
    ev__edits.len = 0;
    ev__edits.full = !ev_reserve(&ev__edits.text, &ev__edits.cap, 0, ev__payload_len);
    if (!ev__edits.full && ev__payload_len) ev_copy(ev__edits.text, ev__payload, ev__edits.len = ev__payload_len);
    ev__edited = 1;
  }
  return &ev__edits;
}
EV_API int ev__done(int edited) {
  if (edited) ev__edited = 2;
  return edited;
}
/* json ends with a 0; ev_set_n takes a length. */
EV_API int ev_set_n(const char *path, const void *json, uint32_t n) {
  return ev__done(ev_doc_set(ev__event(), path, json, n));
}
EV_API int ev_set(const char *path, const char *json) { return ev_set_n(path, json, ev_len(json)); }
EV_API int ev_set_string_n(const char *path, const void *text, uint32_t n) {
  return ev__done(ev_doc_set_string(ev__event(), path, text, n));
}
EV_API int ev_set_string(const char *path, const char *text) { return ev_set_string_n(path, text, ev_len(text)); }
EV_API int ev_set_int(const char *path, int64_t v) {
  char digits[20];
  uint32_t i = sizeof digits;
  uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  do digits[--i] = (char)('0' + u % 10);
  while ((u /= 10));
  if (v < 0) digits[--i] = '-';
  return ev_set_n(path, digits + i, sizeof digits - i);
}
EV_API int ev_remove(const char *path) { return ev__done(ev_doc_remove(ev__event(), path)); }
EV_API int ev_rename(const char *path, const char *name) { return ev__done(ev_doc_rename(ev__event(), path, name)); }
/* The event with its edits, or EV_PASS without an edit. An edit that the memory has no room for fails the event. */
EV_API ev_result ev_edited(void) {
  if (ev__edited && ev__edits.full) return ev_fail("ev_edited: the memory is too small for this event");
  return ev__edited == 2 ? ev_replace(ev__edits.text, ev__edits.len) : EV_PASS;
}

/* Functions: plugins that answer clients. A chat:
 *
 *     EV_ON_CONNECT() {
 *       const char *room = ev_cat("chat-", ev_param("room"));
 *       ev_set_attachment(room);
 *       return ev_join(room);
 *     }
 *     EV_ON_MESSAGE(m) { return ev_publish_n(ev_attachment(), m->data, m->len); }
 *
 * Hooks return EV_OK, the result of an effect, or ev_fail(why). Effects happen in order, after the hook has succeeded;
 * those of a hook that fails do not happen. An effect that the host refuses is logged, and its result is EV_ERROR.
 * Texts that functions return end with a 0 and are valid until the hook returns; all texts of a call share
 * EV_TEXT_MEMORY bytes, and a call that needs more fails. */
#ifndef EV_TEXT_MEMORY
#define EV_TEXT_MEMORY 65536
#endif
EV_API char *ev__room(uint32_t n) {
  static char memory[EV_TEXT_MEMORY];
  char *p = memory + ev__texts;
  if (n >= EV_TEXT_MEMORY - ev__texts) {
    ev_log(EV_ERR, "the texts of this call need more than EV_TEXT_MEMORY");
    __builtin_trap();
  }
  ev__texts += n + 1;
  p[n] = 0;
  return p;
}
/* A text with a 0 at its end. */
EV_API const char *ev_copy_text(const void *p, uint32_t n) {
  char *copy = ev__room(n);
  ev_copy(copy, p, n);
  return copy;
}
/* The texts, one after the other: ev_cat("visit ", ev_number_text(n)). */
#define ev_cat(...) ev__cat((const char *const[]){__VA_ARGS__, 0})
EV_API const char *ev__cat(const char *const *parts) {
  uint32_t n = 0;
  char *out;
  for (uint32_t i = 0; parts[i]; i++) n += ev_len(parts[i]);
  out = ev__room(n);
  n = 0;
  for (uint32_t i = 0; parts[i]; i++) {
    ev_copy(out + n, parts[i], ev_len(parts[i]));
    n += ev_len(parts[i]);
  }
  return out;
}
EV_API const char *ev_number_text(int64_t v) {
  char digits[20];
  uint32_t i = sizeof digits;
  uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  do digits[--i] = (char)('0' + u % 10);
  while ((u /= 10));
  if (v < 0) digits[--i] = '-';
  return ev_copy_text(digits + i, (uint32_t)sizeof digits - i);
}
/* A text as a JSON string. */
EV_API const char *ev_quote(const char *text) {
  uint32_t n = ev_len(text), size = ev__escape(0, text, 0, n, 0);
  char *out = ev__room(size + 2);
  out[0] = out[size + 1] = '"';
  ev__escape(out + 1, text, 0, n, 0);
  return out;
}
/* A JSON object of texts: ev_object("from", name, "text", text). */
#define ev_object(...) ev__object((const char *const[]){__VA_ARGS__, 0})
EV_API const char *ev__object(const char *const *parts) {
  const char *out = "";
  for (uint32_t i = 0; parts[i] && parts[i + 1]; i += 2)
    out = ev_cat(out, i ? "," : "", ev_quote(parts[i]), ":", ev_quote(parts[i + 1]));
  return ev_cat("{", out, "}");
}
/* The value at path in any JSON text, such as an attachment or a context: a string decoded, any other value as JSON
 * text; 0 if there is none. */
EV_API const char *ev_text_at(const char *json, const char *path) {
  ev__place l;
  char *out, c[4];
  uint32_t n = 0, i, end, size;
  if (!ev__find(json, ev_len(json), path, ev_len(path), &l)) return 0;
  if (json[l.from] != '"') return ev_copy_text(json + l.from, l.to - l.from);
  i = l.from + 1, end = l.to - 1;
  if (!ev__escaped(json, i, end)) return ev_copy_text(json + i, end - i);
  out = ev__room(end - i);
  while (i < end) {
    size = ev__decode(json, end, &i, c);
    ev_copy(out + n, c, size);
    n += size;
  }
  out[n] = 0;
  return out;
}
/* The value at path in the message, the request, the response or the alarm at hand, like ev_text; "" if there is
 * none. */
EV_API const char *ev_value(const char *path) {
  int32_t n = ev_text(path, 0, 0);
  char *out;
  if (n <= 0) return "";
  out = ev__room((uint32_t)n);
  ev_text(path, out, (uint32_t)n);
  return out;
}

/* The result of an effect. EV_GONE is that of an effect on a client that has left. A hook that returns it has not
 * failed. */
#define EV_GONE ((ev_result)3)
EV_API ev_result ev__effect(const char *what, int64_t code, const char *malformed) {
  if (code >= 0) return EV_OK;
  if (code == -5) return EV_GONE;
  return ev_fail(ev_cat(what, ": ",
      code == -1   ? "too many in one call, or in flight"
      : code == -2 ? "too large"
      : code == -3 ? "not granted; add the group to the plugin's join or publish patterns"
                   : malformed));
}
EV_API ev_result ev__forgive(ev_result r) { return r == EV_GONE ? EV_OK : r; }
#define EV__GROUP "not a group name; use 1 to 99 of A-Z a-z 0-9 - _ ."

/* The client of the call. Its id and attachment stay the same from call to call, while the plugin's variables may be
 * those of another instance. */
/* Whether the call is about a client. There is none in a continuation of a request that an event, a tick or an alarm
 * made. The continuation of a client that has left still knows its attachment, and other effects on it return
 * EV_GONE. */
EV_API int ev_present(void) { return ev__connection_id(0, 0) >= 0; }
/* The connection's id; "" without a client. */
EV_API const char *ev_id(void) {
  char id[64];
  int32_t n = ev__connection_id(id, sizeof id);
  return n > 0 ? ev_copy_text(id, (uint32_t)n) : "";
}
/* The text that ev_set_attachment stored, "" before. */
EV_API const char *ev_attachment(void) {
  int32_t n = ev__attachment_get(0, 0);
  char *out;
  if (n <= 0) return "";
  out = ev__room((uint32_t)n);
  ev__attachment_get(out, (uint32_t)n);
  return out;
}
/* The value at path in an attachment that is JSON, such as one of ev_object; "" if there is none. */
EV_API const char *ev_attachment_text(const char *path) {
  const char *text = ev_text_at(ev_attachment(), path);
  return text ? text : "";
}
/* Keeps a text of at most 16 KiB with the connection. The next calls for this client read it. */
EV_API ev_result ev_set_attachment(const char *text) {
  return ev__effect("attachment", ev__attachment_set(text, ev_len(text)), "malformed");
}
/* Sends a frame to the client, at most 64 of them in a call. */
EV_API ev_result ev_send_n(const void *p, uint32_t n) { return ev__effect("send", ev__send(0, p, n), "not UTF-8"); }
EV_API ev_result ev_send(const char *text) { return ev_send_n(text, ev_len(text)); }
EV_API ev_result ev_send_binary(const void *p, uint32_t n) {
  return ev__effect("send", ev__send(1, p, n), "malformed");
}
/* Subscribes the client to a group, which must be among the patterns of the plugin's setting join. ev_leave ends a
 * subscription. */
EV_API ev_result ev_join(const char *group) {
  return ev__effect(ev_cat("join ", group), ev__join(group, ev_len(group)), EV__GROUP);
}
EV_API ev_result ev_leave(const char *group) {
  return ev__effect(ev_cat("leave ", group), ev__leave(group, ev_len(group)), EV__GROUP);
}
EV_API ev_result ev__publish_to(const char *group, const char *type, const void *p, uint32_t n, int32_t flags) {
  int32_t code = ev__publish(group, ev_len(group), type, ev_len(type), p, n, flags);
  return ev__forgive(ev__effect(ev_cat("publish ", group), code, EV__GROUP)); /* of a replay */
}
/* Sends a text to all clients of a group on all nodes. The group must be among the patterns of the plugin's setting
 * publish. Every hook may publish. ev_publish_others leaves out the client itself. */
EV_API ev_result ev_publish_n(const char *group, const void *p, uint32_t n) {
  return ev__publish_to(group, "", p, n, 0);
}
EV_API ev_result ev_publish(const char *group, const char *text) { return ev_publish_n(group, text, ev_len(text)); }
EV_API ev_result ev_publish_others_n(const char *group, const void *p, uint32_t n) {
  return ev__publish_to(group, "", p, n, 1);
}
EV_API ev_result ev_publish_others(const char *group, const char *text) {
  return ev_publish_others_n(group, text, ev_len(text));
}
/* Sends a message to all consumers of a group on all nodes, such as those of Django Channels: type is the message's
 * type, and members is a JSON object with its other members, see ev_object. */
EV_API ev_result ev_publish_message(const char *group, const char *type, const char *members) {
  return ev__publish_to(group, type, members, ev_len(members), 0);
}
/* Closes the connection. code is 1000, 1008, 1011, 1013 or 3000 to 4999. reason has at most 123 bytes. */
EV_API ev_result ev_close(int32_t code, const char *reason) {
  return ev__effect("close", ev__close(code, reason, ev_len(reason)),
      "use the code 1000, 1008, 1011, 1013 or 3000 to 4999, and a reason of at most 123 bytes");
}
/* Makes the relay answer text messages that equal request, such as a heartbeat, without a call of the plugin: in
 * EV_ON_INIT only, for at most 10 pairs of 2,048 bytes each. */
EV_API ev_result ev_auto_response(const char *request, const char *response) {
  return ev__effect("auto response", ev__auto_response(request, ev_len(request), response, ev_len(response)),
      "only in EV_ON_INIT");
}

/* The request to connect, in EV_ON_CONNECT. ev_value reads the other members: id, user_key, address, subprotocols. */
EV_API const char *ev__escape_name(const char *name, int lower) {
  char *out = ev__room(2 * ev_len(name));
  uint32_t n = 0;
  for (uint32_t i = 0; name[i]; i++) {
    if (name[i] == '.' || name[i] == '\\') out[n++] = '\\';
    out[n++] = lower && name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
  }
  out[n] = 0;
  return out;
}
EV_API const char *ev_path(void) { return ev_value("path"); }
/* A placeholder of the route's path: "room" of "/ws/game/{room}/". */
EV_API const char *ev_param(const char *name) { return ev_value(ev_cat("params.", ev__escape_name(name, 0))); }
/* A member of the user's profile, such as "username"; "" for anonymous users. */
EV_API const char *ev_user(const char *path) { return ev_value(ev_cat("user.", path)); }
/* The user's name, as the authorizer of the route tells it; "" for anonymous users. */
EV_API const char *ev_user_name(void) { return ev_value("user_name"); }
/* A header that the route grants. The name is case-insensitive. */
EV_API const char *ev_header(const char *name) { return ev_value(ev_cat("headers.", ev__escape_name(name, 1))); }
EV_API int32_t ev__digit(char c) {
  char l = (char)(c | 32);
  return c >= '0' && c <= '9' ? c - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}
/* Decodes a part of a query string. A percent sign without two hexadecimal digits stands for itself. */
EV_API const char *ev__decode_query(const char *p, uint32_t n) {
  char *out = ev__room(n);
  uint32_t size = 0;
  for (uint32_t i = 0; i < n; i++) {
    char c = p[i] == '+' ? ' ' : p[i];
    if (c == '%' && i + 2 < n && ev__digit(p[i + 1]) >= 0 && ev__digit(p[i + 2]) >= 0) {
      c = (char)(ev__digit(p[i + 1]) << 4 | ev__digit(p[i + 2]));
      i += 2;
    }
    out[size++] = c;
  }
  out[size] = 0;
  return out;
}
/* The first value of a parameter of the query string, decoded; "" if there is none. */
EV_API const char *ev_query(const char *name) {
  const char *query = ev_value("query"), *key;
  uint32_t n = ev_len(query), from = 0, to, equals;
  for (; from < n; from = to + 1) {
    for (to = from; to < n && query[to] != '&'; to++) {
    }
    for (equals = from; equals < to && query[equals] != '='; equals++) {
    }
    key = ev__decode_query(query + from, equals - from);
    if (ev_len(key) == ev_len(name) && ev_equal(key, name, ev_len(name)))
      return equals < to ? ev__decode_query(query + equals + 1, to - equals - 1) : "";
  }
  return "";
}
/* Results of EV_ON_CONNECT beside EV_OK: reject with the HTTP status 403, with a status from 400 to 599, or with 403
 * and a reason for the log. */
#define EV_REJECT ((ev_result)1)
#define EV_REJECT_WITH(status) ((ev_result)(0x10000 + (status)))
EV_API ev_result ev_reject_because(const char *why) { return ev_replace(why, ev_len(why)); }

/* A message of a client. Its bytes do not end with a 0, and are valid until the hook returns. ev_is, ev_int, ev_value
 * and so on read JSON. */
typedef struct {
  const char *data;
  uint32_t len;
  int binary;
} ev_message;
EV_API const char *ev_message_text(const ev_message *m) { return ev_copy_text(m->data, m->len); }
EV_API int ev_message_is(const ev_message *m, const char *text) {
  return m->len == ev_len(text) && ev_equal(m->data, text, m->len);
}
/* Sends a message of the same kind back to the client, after the frames of ev_send. It is the fastest way to answer,
 * and the result of the hook: return ev_reply(p, n). */
EV_API ev_result ev_reply(const void *p, uint32_t n) { return ev_replace(p, n); }

/* An alarm that is due. It comes at least once: if the hook fails, or its node, it comes again. */
typedef struct {
  const char *name;
  const char *payload; /* ends with a 0 in addition to its length */
  uint32_t payload_len;
} ev_alarm;

#define EV_ON_CONNECT()                                                                  \
  static ev_result ev__on_connect(void);                                                 \
  EV__HOOK(uint64_t, ev_on_connect, (uint32_t n)) {                                      \
    (void)n;                                                                             \
    ev__begin(0);                                                                        \
    return ev__on_connect();                                                             \
  }                                                                                      \
  static ev_result ev__on_connect(void)
#define EV_ON_MESSAGE(m)                                                                 \
  static ev_result ev__on_message(const ev_message *m);                                  \
  EV__HOOK(uint64_t, ev_on_message, (uint32_t kind, uint32_t n)) {                       \
    ev_message message = {ev__input, n, kind == 1};                                      \
    ev__begin(0);                                                                        \
    return ev__forgive(ev__on_message(&message));                                        \
  }                                                                                      \
  static ev_result ev__on_message(const ev_message *m)
/* The client is gone. code is that of the close frame; 1006 without one. */
#define EV_ON_CLOSE(code, reason)                                                        \
  static ev_result ev__on_close(int32_t code, const char *reason);                       \
  EV__HOOK(uint64_t, ev_on_close, (uint32_t c, uint32_t n)) {                            \
    ev__begin(0);                                                                        \
    return ev__forgive(ev__on_close((int32_t)c, ev_copy_text(ev__input, n)));            \
  }                                                                                      \
  static ev_result ev__on_close(int32_t code, const char *reason)
#define EV_ON_ALARM(a)                                                                   \
  static ev_result ev__on_alarm(const ev_alarm *a);                                      \
  EV__HOOK(uint64_t, ev_on_alarm, (uint32_t nn, uint32_t pn)) {                          \
    ev_alarm alarm;                                                                      \
    ev__begin(0);                                                                        \
    alarm.name = ev_copy_text(ev__input, nn);                                            \
    alarm.payload = ev_copy_text(ev__input + nn, pn);                                    \
    alarm.payload_len = pn;                                                              \
    return ev__forgive(ev__on_alarm(&alarm));                                            \
  }                                                                                      \
  static ev_result ev__on_alarm(const ev_alarm *a)

/* Requests do not wait: the response comes in a later call, perhaps in another instance of the plugin. A request
 * names its continuation, a handler of EV_RESULTS, and takes a context along, such as one of ev_object. Both together
 * have at most 1,023 bytes. A request that needs no answer has EV_NO_ANSWER. */
typedef struct {
  const char *name, *context;
} ev_continuation;
EV_API ev_continuation ev_then(const char *name, const char *context) {
  ev_continuation c = {name, context};
  return c;
}
#define EV_NO_ANSWER ev_then(0, 0)

/* The response to a request. ev_value and so on read a body that is JSON: ev_value("0") is the first element of a
 * list. */
typedef struct {
  int32_t status;      /* 0, one of those below, or that of HTTP */
  const char *context; /* of ev_then */
  const char *body;    /* ends with a 0 in addition to its length */
  uint32_t body_len;
} ev_response;
enum {
  EV_STATUS_OK = 0,
  EV_STATUS_NONE = 1,         /* there is no such key or alarm */
  EV_STATUS_CONFLICT = 2,     /* of ev_shared_swap: the value is another one, which is the body */
  EV_STATUS_UNAVAILABLE = -1, /* the store or the server did not answer in time; the effect is unknown */
  EV_STATUS_TOO_LARGE = -2,   /* the value, the store or the response is beyond its bound */
  EV_STATUS_DENIED = -3,      /* the grant does not allow it */
  EV_STATUS_INVALID = -4,     /* the request, or a value in the store, has the wrong form */
  EV_STATUS_BUSY = -5         /* too many requests are in flight, or the rate is exceeded */
};
/* Success: the status 0, or 200 to 299 of HTTP. */
EV_API int ev_ok(const ev_response *r) { return !r->status || (r->status >= 200 && r->status < 300); }
EV_API int ev_missing(const ev_response *r) { return r->status == EV_STATUS_NONE; }
EV_API int ev_conflict(const ev_response *r) { return r->status == EV_STATUS_CONFLICT; }
/* The body as an integer, and 0 if it is none. */
EV_API int64_t ev_number(const ev_response *r) {
  int64_t v;
  return ev__number(r->body, (int32_t)r->body_len, &v) ? v : 0;
}
/* The reason if the status is below 0, or an error of HTTP; otherwise 0. */
EV_API const char *ev_error(const ev_response *r) {
  switch (r->status) {
  case EV_STATUS_UNAVAILABLE: return "unavailable";
  case EV_STATUS_TOO_LARGE: return "too large";
  case EV_STATUS_DENIED: return "not granted";
  case EV_STATUS_INVALID: return "invalid";
  case EV_STATUS_BUSY: return "too many requests";
  }
  return r->status < 0 || r->status >= 400 ? ev_cat("HTTP status ", ev_number_text(r->status)) : 0;
}

/* The continuations of the plugin, once and after their definitions: EV_RESULTS({"visited", visited}, {"posted",
 * posted}). Each is a function static ev_result visited(const ev_response *r). */
typedef struct {
  const char *name;
  ev_result (*run)(const ev_response *r);
} ev__result_handler;
#define EV_RESULTS(...)                                                                  \
  EV__HOOK(uint64_t, ev_on_result, (uint64_t token, int32_t status, uint32_t n)) {       \
    static const ev__result_handler handlers[] = {__VA_ARGS__};                          \
    (void)token;                                                                         \
    return ev__respond(handlers, sizeof handlers / sizeof *handlers, status, n);         \
  }
EV_API uint64_t ev__respond(const ev__result_handler *handlers, uint32_t count, int32_t status, uint32_t n) {
  char wire[1025];
  ev_response r;
  int32_t size = ev__result_context(wire, 1024);
  ev__begin(0);
  if (size <= 0 || size > 1024) return EV_OK;
  wire[size] = 0;
  if (ev_len(wire) == (uint32_t)size) return EV_OK; /* no context of ev_then */
  r.status = status;
  r.context = ev_copy_text(wire + ev_len(wire) + 1, (uint32_t)size - ev_len(wire) - 1);
  r.body = ev_copy_text(ev__input, n);
  r.body_len = n;
  for (uint32_t i = 0; i < count; i++)
    if (ev_len(handlers[i].name) == ev_len(wire) && ev_equal(handlers[i].name, wire, ev_len(wire)))
      return ev__forgive(handlers[i].run(&r));
  return ev_fail(ev_cat("a response is for the continuation \"", wire, "\", which is not registered"));
}
/* The context of a request as it travels, 1,024 bytes at out: the name, a zero byte, and the context. Returns its
 * length; more than 1,024 if it is too long. */
EV_API uint32_t ev__wire(char *out, ev_continuation then) {
  uint32_t name, context;
  if (!then.name) return 0;
  name = ev_len(then.name), context = then.context ? ev_len(then.context) : 0;
  if (name > 1024 || context > 1024 || name + context + 1 > 1024) return 1025;
  ev_copy(out, then.name, name);
  out[name] = 0;
  ev_copy(out + name + 1, then.context, context);
  return name + context + 1;
}
#define EV__REQUEST(what, call)                                                          \
  char c[1024];                                                                          \
  uint32_t cn = ev__wire(c, then);                                                       \
  int64_t token = cn > 1024 ? -2 : (call);                                               \
  return ev__forgive(ev__effect(what, token < 0 ? token : 0, "malformed"))

/* The plugin's store that all nodes share. Requests begin after the hook has succeeded. Those of one client, and
 * those for events of one group, take effect in order. ttl in milliseconds, 0 means forever. Grant: shared. */
EV_API ev_result ev_shared_get(const char *key, ev_continuation then) {
  EV__REQUEST("shared get", ev__shared_get(key, ev_len(key), c, cn));
}
/* An empty value deletes the key. */
EV_API ev_result ev_shared_set(const char *key, const char *value, int64_t ttl, ev_continuation then) {
  EV__REQUEST("shared set", ev__shared_set(key, ev_len(key), value, ev_len(value), ttl, c, cn));
}
EV_API ev_result ev_shared_delete(const char *key, ev_continuation then) { return ev_shared_set(key, "", 0, then); }
/* Stores a value if the present one is expected; "" means that there is none. Otherwise the response is a conflict
 * and holds the present value. */
EV_API ev_result ev_shared_swap(
    const char *key, const char *expected, const char *value, int64_t ttl, ev_continuation then) {
  EV__REQUEST("shared swap",
      ev__shared_swap(key, ev_len(key), expected, ev_len(expected), value, ev_len(value), ttl, c, cn));
}
/* Adds to a decimal number, 0 if the key is missing. The response is the sum, see ev_number. ttl counts from the
 * key's first use. */
EV_API ev_result ev_shared_add(const char *key, int64_t delta, int64_t ttl, ev_continuation then) {
  EV__REQUEST("shared add", ev__shared_add(key, ev_len(key), delta, ttl, c, cn));
}
/* Appends a value to a list, of which the last limit elements stay. */
EV_API ev_result ev_shared_push(const char *key, const char *value, int32_t limit, int64_t ttl, ev_continuation then) {
  EV__REQUEST("shared push", ev__shared_push(key, ev_len(key), value, ev_len(value), limit, ttl, c, cn));
}
/* Reads the last limit elements of a list, oldest first: a JSON array of strings. */
EV_API ev_result ev_shared_list(const char *key, int32_t limit, ev_continuation then) {
  EV__REQUEST("shared list", ev__shared_list(key, ev_len(key), limit, c, cn));
}

/* Alarms call the plugin at a time, on one of the nodes, also after the client has left or a node has failed. An
 * alarm replaces an earlier one of the same name. ev_alarm_at takes Unix time in milliseconds. Grant: alarms. */
EV_API ev_result ev_alarm_at(const char *name, const char *payload, int64_t unix_ms, ev_continuation then) {
  EV__REQUEST("alarm", ev__alarm_set(name, ev_len(name), payload, ev_len(payload), unix_ms, c, cn));
}
EV_API ev_result ev_alarm_after(const char *name, const char *payload, int64_t ms, ev_continuation then) {
  return ev_alarm_at(name, payload, ms, then);
}
EV_API ev_result ev_alarm_cancel(const char *name, ev_continuation then) {
  EV__REQUEST("alarm cancel", ev__alarm_cancel(name, ev_len(name), c, cn));
}

/* HTTP requests. The response's status is that of HTTP, or below 0. header is a JSON object, such as one of
 * ev_object; 0 is none. Grant: fetch. */
EV_API ev_result ev__fetch_once(
    const char *method, const char *url, const char *header, const char *body, const char *once, ev_continuation then) {
  const char *request = ev_cat("{\"method\":", ev_quote(method), ",\"url\":", ev_quote(url), ",\"headers\":",
      header ? header : "{}", once ? ",\"once\":" : "", once ? ev_quote(once) : "", "}");
  EV__REQUEST(ev_cat("fetch ", url), ev__fetch(request, ev_len(request), body, ev_len(body), c, cn));
}
EV_API ev_result ev_fetch(
    const char *method, const char *url, const char *header, const char *body, ev_continuation then) {
  return ev__fetch_once(method, url, header, body, 0, then);
}
/* Like ev_fetch. once tells what the request is about, such as "job 7 failed": of all nodes on which the plugin makes
 * equal requests, one makes it. For the others, the status is EV_STATUS_CONFLICT. */
EV_API ev_result ev_fetch_once(
    const char *once, const char *method, const char *url, const char *header, const char *body, ev_continuation then) {
  return ev__fetch_once(method, url, header, body, once, then);
}
EV_API ev_result ev_post_json(const char *url, const char *body, ev_continuation then) {
  return ev_fetch("POST", url, "{\"Content-Type\":\"application/json\"}", body, then);
}

#endif
