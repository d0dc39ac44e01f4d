/* The imports of plugin ABI 1 for the fixtures; plugin authors use the SDK. */
#include <stdint.h>
#define IMPORT(name) __attribute__((import_module("ev1"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))
IMPORT(log) void ev_log(int32_t level, const void *p, int32_t n);
IMPORT(config) int32_t ev_config(void *p, int32_t cap);
IMPORT(config_get) int32_t ev_config_get(const void *path, int32_t n, void *p, int32_t cap);
IMPORT(json_get) int32_t ev_json_get(const void *path, int32_t n, void *p, int32_t cap);
IMPORT(json_find) int64_t ev_json_find(const void *path, int32_t n);
IMPORT(audience) void ev_audience(int64_t mask);
IMPORT(emit) int32_t ev_emit(const void *g, int32_t gn, const void *p, int32_t n, int64_t mask);
IMPORT(emit_at) int32_t ev_emit_at(
  const void *g, int32_t gn, const void *p, int32_t n, int64_t mask, const void *position, int32_t position_n);
IMPORT(metric_add) int32_t ev_metric_add(const void *name, int32_t n, int64_t delta);
IMPORT(kv_get) int32_t ev_kv_get(const void *k, int32_t kn, void *p, int32_t cap);
IMPORT(kv_set) int32_t ev_kv_set(const void *k, int32_t kn, const void *p, int32_t n, int64_t ttl);
IMPORT(kv_incr) int64_t ev_kv_incr(const void *k, int32_t kn, int64_t delta, int64_t ttl);
IMPORT(now_ms) int64_t ev_now_ms(void);
IMPORT(event_source) int32_t ev_event_source(void *p, int32_t cap);
IMPORT(event_sent_ms) int64_t ev_event_sent_ms(void);
IMPORT(event_position) int32_t ev_event_position(void *p, int32_t cap);
#define PACK(p, n) ((uint64_t)(uint32_t)(p) << 32 | (uint32_t)(n))
IMPORT(connection_id) int32_t ev_connection_id(void *p, int32_t cap);
IMPORT(attachment_get) int32_t ev_attachment_get(void *p, int32_t cap);
IMPORT(attachment_set) int32_t ev_attachment_set(const void *p, int32_t n);
IMPORT(send) int32_t ev_send(int32_t kind, const void *p, int32_t n);
IMPORT(join) int32_t ev_join(const void *p, int32_t n);
IMPORT(leave) int32_t ev_leave(const void *p, int32_t n);
IMPORT(publish) int32_t ev_publish(
  const void *g, int32_t gn, const void *t, int32_t tn, const void *p, int32_t n, int32_t flags);
IMPORT(close) int32_t ev_close(int32_t code, const void *p, int32_t n);
IMPORT(auto_response) int32_t ev_auto_response(const void *p, int32_t n, const void *q, int32_t m);
IMPORT(result_context) int32_t ev_result_context(void *p, int32_t cap);
IMPORT(shared_get) int64_t ev_shared_get(const void *k, int32_t kn, const void *c, int32_t cn);
IMPORT(shared_set) int64_t ev_shared_set(
  const void *k, int32_t kn, const void *p, int32_t n, int64_t ttl, const void *c, int32_t cn);
IMPORT(shared_swap) int64_t ev_shared_swap(
  const void *k, int32_t kn, const void *e, int32_t en, const void *p, int32_t n, int64_t ttl, const void *c, int32_t cn);
IMPORT(shared_add) int64_t ev_shared_add(
  const void *k, int32_t kn, int64_t delta, int64_t ttl, const void *c, int32_t cn);
IMPORT(shared_push) int64_t ev_shared_push(
  const void *k, int32_t kn, const void *p, int32_t n, int32_t limit, int64_t ttl, const void *c, int32_t cn);
IMPORT(shared_list) int64_t ev_shared_list(const void *k, int32_t kn, int32_t limit, const void *c, int32_t cn);
IMPORT(alarm_set) int64_t ev_alarm_set(
  const void *k, int32_t kn, const void *p, int32_t n, int64_t at, const void *c, int32_t cn);
IMPORT(alarm_cancel) int64_t ev_alarm_cancel(const void *k, int32_t kn, const void *c, int32_t cn);
IMPORT(fetch) int64_t ev_fetch(const void *r, int32_t rn, const void *p, int32_t n, const void *c, int32_t cn);
