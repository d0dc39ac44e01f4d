/* A plugin that does what the event's "do" says: the fixture of the functional tests. */
#include "ev.h"
#define LEN(s) (sizeof(s) - 1)

static uint8_t in[1 << 20], out[1 << 17], scratch[4096];
static char doing[64];
static int32_t doing_n;
static int64_t calls;

static int is(const char *s) {
  int32_t i = 0;
  for (; i < doing_n; i++)
    if (s[i] != doing[i] || !s[i]) return 0;
  return !s[i];
}
static int32_t put(uint8_t *at, const char *s) {
  int32_t n = 0;
  for (; s[n]; n++) at[n] = s[n];
  return n;
}
static int32_t number(uint8_t *at, int64_t v) {
  uint8_t d[24];
  int32_t n = 0, m = 0;
  if (v < 0) { at[m++] = '-'; v = -v; }
  do d[n++] = '0' + v % 10; while (v /= 10);
  while (n) at[m++] = d[--n];
  return m;
}
static int32_t arg(const char *name, int32_t n, uint8_t *to, int32_t cap) { return ev_json_get(name, n, to, cap); }
#define ARG(name, to) arg(name, LEN(name), to, sizeof(to))

EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }
EXPORT(ev_init) int32_t init(void) {
  int32_t n = ev_config(scratch, sizeof scratch);
  if (n >= 8 && scratch[1] == 'r' && scratch[2] == 'e' && scratch[3] == 'f') { /* "refuse" */
    ev_log(3, "the config says so", LEN("the config says so"));
    return 7;
  }
  return 0;
}

static uint64_t answer_number(int64_t v) { return PACK(out, number(out, v)); }

static volatile int32_t sink;
static __attribute__((noinline)) int32_t recurse(int32_t n) { return n ? recurse(n + 1) + sink : 0; }

EXPORT(ev_on_event) uint64_t on_event(int32_t gn, int32_t pn) {
  const uint8_t *g = in, *p = in + gn;
  int32_t n;
  calls++;
  doing_n = ev_json_get("do", 2, doing, sizeof doing);
  if (doing_n < 0 || doing_n > (int32_t)sizeof doing || is("pass")) return 0;
  if (is("drop")) return 1;
  if (is("error")) { ev_log(2, "it was asked for", LEN("it was asked for")); return 2; }
  if (is("replace")) { n = ARG("with", out); return PACK(out, n); }
  if (is("empty")) return PACK(out, 0);
  if (is("group")) return PACK(g, gn);
  if (is("payload")) return PACK(p, pn);
  if (is("find")) {
    n = ARG("path", scratch);
    int64_t f = ev_json_find(scratch, n);
    if (f < 0) return answer_number(f);
    return PACK(p + (f >> 32), (int32_t)f);
  }
  if (is("get")) {
    n = ARG("path", scratch);
    int32_t m = ev_json_get(scratch, n, out, sizeof out);
    return m < 0 ? answer_number(m) : PACK(out, m);
  }
  if (is("split")) { /* its own output, then two more */
    ev_emit(0, 0, "{\"part\":2}", 10, -1);
    ev_emit(g, gn, "{\"part\":3}", 10, 6);
    return PACK(out, put(out, "{\"part\":1}"));
  }
  if (is("route")) { /* to the group named, and away from here */
    n = ARG("to", scratch);
    int32_t m = ARG("with", out);
    int32_t r = ev_emit(scratch, n, m < 0 ? p : out, m < 0 ? pn : m, -1);
    return r ? answer_number(r) : 1;
  }
  if (is("emit_then_fail")) { ev_emit(0, 0, "{}", 2, -1); __builtin_trap(); }
  if (is("flood")) {
    int32_t r = 0;
    for (int i = 0; i < 100 && !r; i++) r = ev_emit(0, 0, "{}", 2, -1);
    return answer_number(r);
  }
  if (is("bad_emit")) return answer_number(ev_emit("a b", 3, "{}", 2, -1) * 10 + ev_emit(0, 0, "\xff", 1, -1));
  if (is("audience")) { ev_audience(6); ev_audience(12); return 0; }
  if (is("nobody")) { ev_audience(0); return 0; }
  if (is("log")) { for (int i = 0; i < 300; i++) ev_log(1, "a line", 6); return 0; }
  if (is("metric")) return answer_number(ev_metric_add("seen_total", 10, 2) * 10 + ev_metric_add("Bad", 3, 1));
  if (is("metrics")) {
    int32_t r = 0;
    for (int i = 0; i < 40; i++) { n = put(scratch, "m_"); n += number(scratch + n, i); r = ev_metric_add(scratch, n, 1); }
    return answer_number(r);
  }
  if (is("kv_set")) { n = ARG("with", out); return answer_number(ev_kv_set("k", 1, out, n, 1000)); }
  if (is("kv_get")) { n = ev_kv_get("k", 1, out, sizeof out); return n < 0 ? answer_number(n) : PACK(out, n); }
  if (is("kv_incr")) return answer_number(ev_kv_incr("n", 1, 1, 1000));
  if (is("kv_fill")) {
    int32_t r = 0, i = 0;
    for (; i < 100000 && !r; i++) { n = number(scratch, i); r = ev_kv_set(scratch, n, out, 1000, 0); }
    return answer_number(i);
  }
  if (is("now")) return answer_number(ev_now_ms());
  if (is("source")) { n = ev_event_source(out, sizeof out); return n < 0 ? answer_number(n) : PACK(out, n); }
  if (is("sent")) return answer_number(ev_event_sent_ms());
  if (is("position")) { n = ev_event_position(out, sizeof out); return n < 0 ? answer_number(n) : PACK(out, n); }
  if (is("emit_at")) { /* at the position named, in place of itself */
    n = ARG("at", scratch);
    int32_t r = ev_emit_at(0, 0, p, pn, -1, scratch, n);
    return r ? answer_number(r) : 1;
  }
  if (is("calls")) return answer_number(calls);
  if (is("config")) { n = ev_config(out, sizeof out); return PACK(out, n); }
  if (is("config_get")) {
    n = ARG("path", scratch);
    int32_t m = ev_config_get(scratch, n, out, sizeof out);
    return m < 0 ? answer_number(m) : PACK(out, m);
  }
  if (is("text")) { out[0] = 0xc3; out[1] = 0x28; return PACK(out, 2); }
  if (is("not_json")) return PACK("{", 1);
  if (is("range")) return PACK(0xfffffff0u, 4096);
  if (is("huge")) return PACK(in, sizeof in + 1);
  if (is("reserved")) return 77;
  if (is("trap")) __builtin_trap();
  if (is("loop")) for (;;) sink++;
  if (is("recurse")) return recurse(1);
  if (is("pointer")) { ev_log(1, (void *)0xfffffff0, 100); return 0; }
  return 0;
}

EXPORT(ev_on_subscribe) uint64_t on_subscribe(int32_t n) {
  (void)n;
  doing_n = ev_json_get("user.do", 7, doing, sizeof doing);
  if (is("deny")) return 1;
  if (is("reason")) return PACK("not yours", 9);
  if (is("class")) return 0x105;
  if (is("error")) return 2;
  if (is("trap")) __builtin_trap();
  if (is("reserved")) return 0x140;
  if (is("group")) { int32_t m = ev_json_get("group", 5, out, sizeof out); return PACK(out, m); }
  return 0;
}

EXPORT(ev_on_class) uint64_t on_class(int32_t class, int32_t gn, int32_t pn) {
  (void)gn; (void)pn;
  doing_n = ev_json_get("do", 2, doing, sizeof doing);
  if (class == 9) __builtin_trap();
  if (class == 8) return 1;
  if (class == 0) return 0;
  if (class == 7) return PACK(out, ev_event_source(out, sizeof out));
  if (class == 6) return PACK(out, ev_event_position(out, sizeof out));
  int32_t n = put(out, "{\"for\":");
  n += number(out + n, class);
  out[n++] = '}';
  return PACK(out, n);
}
