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
 * A hook without a definition costs the relay nothing. The module imports only the host functions that the code
 * calls. Functions marked with a grant need that grant in the plugin's block of the Caddyfile. Text is UTF-8 with a
 * length; a const char * ends with a 0. An instance handles one call at a time, so static variables need no locks.
 * Instances share only the key-value store.
 */
#ifndef EDGERELAY_H
#define EDGERELAY_H

#include <stdint.h>

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
#define EV_ALLOW_AS(class) ((ev_result)(0x100 + (class))) /* of audience class 0 to 63 */

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
enum { EV_TOO_MANY = -1, EV_TOO_LONG = -2, EV_HOPS = -3, EV_BAD_NAME = -4 };

#define EV_EVERYBODY ((uint64_t)-1)
#define EV_EXPORT(name) __attribute__((export_name(name)))

/* Hooks: each macro is followed by a body that returns an ev_result. */
#define EV_ON_EVENT(e)                                                     \
  static ev_result ev__on_event(const ev_event *e);                        \
  EV_EXPORT("ev_on_event") uint64_t ev__event(uint32_t gn, uint32_t pn) {  \
    ev_event ev = {ev__input, gn, ev__input + gn, pn};                     \
    return ev__on_event(&ev);                                              \
  }                                                                        \
  static ev_result ev__on_event(const ev_event *e)
#define EV_ON_CLASS(class, e)                                                              \
  static ev_result ev__on_class(uint32_t class, const ev_event *e);                        \
  EV_EXPORT("ev_on_class") uint64_t ev__class(uint32_t c, uint32_t gn, uint32_t pn) {      \
    ev_event ev = {ev__input, gn, ev__input + gn, pn};                                     \
    return ev__on_class(c, &ev);                                                           \
  }                                                                                        \
  static ev_result ev__on_class(uint32_t class, const ev_event *e)
/* on_subscribe: ev_text("group", …) returns the group, and ev_text("user.…", …) the user. */
#define EV_ON_SUBSCRIBE()                                                        \
  static ev_result ev__on_subscribe(void);                                       \
  EV_EXPORT("ev_on_subscribe") uint64_t ev__subscribe(uint32_t n) {              \
    (void)n;                                                                     \
    return ev__on_subscribe();                                                   \
  }                                                                              \
  static ev_result ev__on_subscribe(void)
/* on_init runs before any event. It returns 0, or another value, after ev_fail(why), to reject the plugin. */
#define EV_ON_INIT() EV_EXPORT("ev_init") int32_t ev__init(void)

#define EV_IMPORT(name) __attribute__((import_module("ev1"), import_name(name)))
EV_IMPORT("log") void ev__log(int32_t level, const void *p, uint32_t n);
EV_IMPORT("config") int32_t ev__config(void *p, uint32_t cap);
EV_IMPORT("config_get") int32_t ev__config_get(const void *path, uint32_t n, void *p, uint32_t cap);
EV_IMPORT("json_get") int32_t ev__json_get(const void *path, uint32_t n, void *p, uint32_t cap);
EV_IMPORT("json_find") int64_t ev__json_find(const void *path, uint32_t n);
EV_IMPORT("audience") void ev__audience(uint64_t mask);
EV_IMPORT("emit") int32_t ev__emit(const void *g, uint32_t gn, const void *p, uint32_t n, uint64_t mask);
EV_IMPORT("metric_add") int32_t ev__metric_add(const void *name, uint32_t n, int64_t delta);
EV_IMPORT("kv_get") int32_t ev__kv_get(const void *k, uint32_t kn, void *p, uint32_t cap);
EV_IMPORT("kv_set") int32_t ev__kv_set(const void *k, uint32_t kn, const void *p, uint32_t n, int64_t ttl);
EV_IMPORT("kv_incr") int64_t ev__kv_incr(const void *k, uint32_t kn, int64_t delta, int64_t ttl);
EV_IMPORT("now_ms") int64_t ev__now_ms(void);

#define EV_API static inline __attribute__((unused))

/* Makes *p a buffer of at least need bytes and keeps the first keep bytes of its content. *p and *cap begin as 0.
 * The buffer lies beyond all other memory, at least doubles each time, and is never freed. Without memory,
 * ev_reserve returns false and changes nothing. */
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
EV_EXPORT("ev_abi_version") int32_t ev__abi_version(void) { return 1; }
EV_EXPORT("ev_buffer") uint32_t ev__buffer(uint32_t size) {
  return size <= EV_MAX_EVENT && ev_reserve(&ev__input, &ev__input_cap, 0, size) ? (uint32_t)ev__input : 0;
}

EV_API uint32_t ev_len(const char *s) {
  uint32_t n = 0;
  while (s[n]) n++;
  return n;
}
EV_API void ev_copy(void *to, const void *from, uint32_t n) { __builtin_memcpy(to, from, n); }
EV_API int ev_equal(const void *a, const void *b, uint32_t n) {
  const char *x = (const char *)a, *y = (const char *)b;
  for (uint32_t i = 0; i < n; i++)
    if (x[i] != y[i]) return 0;
  return 1;
}

/* Replaces the payload by n bytes at p, which must not change until the next call. */
EV_API ev_result ev_replace(const void *p, uint32_t n) { return (uint64_t)(uint32_t)p << 32 | n; }
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
  if (n <= i || n > 19) return 0;
  *v = 0;
  for (; i < n; i++) {
    if (s[i] < '0' || s[i] > '9') return 0;
    *v = *v * 10 + (s[i] - '0');
  }
  if (s[0] == '-') *v = -*v;
  return 1;
}
EV_API int ev_int(const char *path, int64_t *v) {
  char s[24];
  return ev__number(s, ev_text(path, s, sizeof s), v);
}

/* The configuration. */
EV_API int32_t ev_config(void *p, uint32_t cap) { return ev__config(p, cap); }
EV_API int32_t ev_config_text(const char *path, void *p, uint32_t cap) { return ev__config_get(path, ev_len(path), p, cap); }
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
/* Adds to a counter. Returns whether the host accepted the name and delta. Grant: metrics. */
EV_API int ev_count(const char *name, int64_t delta) { return ev__metric_add(name, ev_len(name), delta) == 0; }
/* The store. ttl in milliseconds, 0 means forever. An empty value deletes the key. ev_kv_incr returns INT64_MIN if
 * the store is full or the value is not a number. Grant: kv. */
EV_API int32_t ev_kv_get(const char *key, void *p, uint32_t cap) { return ev__kv_get(key, ev_len(key), p, cap); }
EV_API int ev_kv_set(const char *key, const void *p, uint32_t n, int64_t ttl) { return ev__kv_set(key, ev_len(key), p, n, ttl) == 0; }
EV_API int64_t ev_kv_incr(const char *key, int64_t delta, int64_t ttl) { return ev__kv_incr(key, ev_len(key), delta, ttl); }
/* Unix time in milliseconds. Grant: clock. */
EV_API int64_t ev_now(void) { return ev__now_ms(); }

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
  if (!ev_reserve(&out, &cap, 0, e->payload_len + n + 2)) return ev_fail("ev_add: the memory is too small for this event");
  return ev_insert(e, members, n, out, cap);
}

#endif
