/* The benchmarks' plugin: one with no work, one that asks the host for a field, one that looks for it itself. */
#include "ev.h"
static uint8_t in[1 << 20], out[1 << 20];
EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }

static int scan(const uint8_t *p, int32_t n) {
  static const char want[] = "\"status\":\"failed\"";
  const int32_t m = sizeof want - 1;
  for (int32_t i = 0; i + m <= n; i++) {
    int32_t j = 0;
    while (j < m && p[i + j] == (uint8_t)want[j]) j++;
    if (j == m) return 1;
  }
  return 0;
}

EXPORT(ev_on_event) uint64_t on_event(int32_t gn, int32_t pn) {
  uint8_t *p = in + gn;
  char s[16];
  switch (in[0]) { /* the group's first letter */
  case 'p': return 0;
  case 'j': {
    int32_t n = ev_json_get("status", 6, s, sizeof s);
    return !(n == 6 && s[0] == 'f' && s[1] == 'a' && s[2] == 'i' && s[3] == 'l' && s[4] == 'e' && s[5] == 'd');
  }
  case 's': return !scan(p, pn);
  case 't': {
    static const char head[] = "{\"seen\":true,";
    __builtin_memcpy(out, head, sizeof head - 1);
    __builtin_memcpy(out + sizeof head - 1, p + 1, pn - 1);
    return PACK(out, pn + sizeof head - 2);
  }
  }
  return 0;
}
