/* A guard: it covers every event, fails on those with "trap", and fails to decide who may subscribe to a group jobs-trap…. */
#include "ev.h"
static uint8_t in[1 << 16];

EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }

EXPORT(ev_on_subscribe) uint64_t on_subscribe(int32_t n) {
  (void)n;
  char group[128];
  int32_t got = ev_json_get("group", 5, group, sizeof group);
  if (got >= 9 && group[5] == 't' && group[6] == 'r' && group[7] == 'a' && group[8] == 'p') __builtin_trap();
  return 0;
}

EXPORT(ev_on_event) uint64_t on_event(int32_t gn, int32_t pn) {
  (void)gn; (void)pn;
  if (ev_json_find("trap", 4) >= 0) __builtin_trap();
  return PACK("{\"guarded\":true}", 16);
}
