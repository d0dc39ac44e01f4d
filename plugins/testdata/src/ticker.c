/* A plugin that emits the last event of each group again at the next tick. The configuration says more: "drop" drops
   the events, "keep" keeps their positions, "to" is the group to emit to, with "both" at each event too, and "tick" is "trap", "loop", "error", "reserved" or "zero" (no group). */
#include "ev.h"
#define LEN(s) (sizeof(s) - 1)
#define GROUPS 64

static uint8_t in[1 << 16], text[64];
static int32_t drop, both, keep, to_n, what_n;
static char to[100], what[16];
static struct { char name[100]; int32_t name_n, n, position_n; uint8_t payload[256], position[24]; } last[GROUPS];
static volatile int32_t sink;

static int same(const uint8_t *a, const char *b, int32_t n) {
  for (int32_t i = 0; i < n; i++) if (a[i] != (uint8_t)b[i]) return 0;
  return 1;
}
static void copy(uint8_t *to, const uint8_t *from, int32_t n) { for (int32_t i = 0; i < n; i++) to[i] = from[i]; }
static int is(const char *s, int32_t n) { return what_n == n && same((const uint8_t *)s, what, n); }

EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }
EXPORT(ev_init) int32_t init(void) {
  drop = ev_config_get("drop", 4, text, sizeof text) == 4;
  both = ev_config_get("both", 4, text, sizeof text) == 4;
  keep = ev_config_get("keep", 4, text, sizeof text) == 4;
  to_n = ev_config_get("to", 2, to, sizeof to);
  what_n = ev_config_get("tick", 4, what, sizeof what);
  return 0;
}
EXPORT(ev_on_event) uint64_t on_event(int32_t gn, int32_t pn) {
  int32_t i = 0;
  for (; i < GROUPS && last[i].name_n && !(last[i].name_n == gn && same(in, last[i].name, gn)); i++) {}
  if (i < GROUPS && gn <= 100 && pn <= 256) {
    if (!last[i].name_n) { copy((uint8_t *)last[i].name, in, gn); last[i].name_n = gn; }
    copy(last[i].payload, in + gn, pn);
    last[i].n = pn;
    last[i].position_n = ev_event_position(last[i].position, sizeof last[i].position);
  }
  if (both) ev_emit(to, to_n, in + gn, pn, -1);
  return drop;
}
EXPORT(ev_on_tick) uint64_t on_tick(void) {
  if (is("trap", 4)) __builtin_trap();
  if (is("loop", 4)) for (;;) sink++;
  if (is("error", 5)) { ev_log(2, "it was asked for", LEN("it was asked for")); return 2; }
  if (is("reserved", 8)) return 1;
  if (is("zero", 4)) return ev_emit(0, 0, "{}", 2, -1) == -4 && ev_event_sent_ms() == -1 &&
    ev_event_source(text, sizeof text) == -1 && ev_json_find("a", 1) == -1 ? 0 : 2;
  for (int32_t i = 0; i < GROUPS && last[i].name_n; i++) {
    if (!last[i].n) continue;
    if (to_n > 0) ev_emit(to, to_n, last[i].payload, last[i].n, -1);
    else if (keep && last[i].position_n > 0) ev_emit_at(last[i].name, last[i].name_n, last[i].payload, last[i].n, -1,
      last[i].position, last[i].position_n);
    else ev_emit(last[i].name, last[i].name_n, last[i].payload, last[i].n, -1);
    last[i].n = 0;
  }
  return 0;
}
