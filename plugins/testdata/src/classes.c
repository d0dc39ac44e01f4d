/* Classes: superusers are of class 1 and see all; others see the member "secret" covered. An event with "only" 1 is for class 1 alone.
   bob may not join the group jobs-secret. */
#include "ev.h"
#define LEN(s) ((int32_t)sizeof(s) - 1)
#define IS(s, n, want) (n == LEN(want) && !__builtin_memcmp(s, want, LEN(want)))
static uint8_t in[1 << 20], out[1 << 20];

int memcmp(const void *a, const void *b, unsigned long n) {
  const uint8_t *x = a, *y = b;
  for (unsigned long i = 0; i < n; i++)
    if (x[i] != y[i]) return x[i] - y[i];
  return 0;
}

EXPORT(ev_abi_version) int32_t version(void) { return 1; }
EXPORT(ev_buffer) int32_t buffer(int32_t min) { return min <= (int32_t)sizeof in ? (int32_t)in : 0; }

EXPORT(ev_on_subscribe) uint64_t on_subscribe(int32_t n) {
  (void)n;
  char name[64], group[128];
  int32_t name_n = ev_json_get("user.username", 13, name, sizeof name);
  int32_t group_n = ev_json_get("group", 5, group, sizeof group);
  if (IS(name, name_n, "bob") && IS(group, group_n, "jobs-secret")) return PACK("bob is not to know", 18);
  char super[8];
  int32_t super_n = ev_json_get("user.is_superuser", 17, super, sizeof super);
  return IS(super, super_n, "true") ? 0x101 : 0x100;
}

EXPORT(ev_on_event) uint64_t on_event(int32_t gn, int32_t pn) {
  (void)gn; (void)pn;
  char only[8];
  int32_t n = ev_json_get("only", 4, only, sizeof only);
  if (IS(only, n, "1")) ev_audience(2);
  return 0;
}

EXPORT(ev_on_class) uint64_t on_class(int32_t class, int32_t gn, int32_t pn) {
  const uint8_t *p = in + gn;
  int64_t found = ev_json_find("secret", 6);
  if (class == 1 || found < 0) return 0;
  int32_t from = found >> 32, to = from + (int32_t)found;
  __builtin_memcpy(out, p, from);
  __builtin_memcpy(out + from, "\"***\"", 5);
  __builtin_memcpy(out + from + 5, p + to, pn - to);
  return PACK(out, pn - (to - from) + 5);
}
