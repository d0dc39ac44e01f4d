/* The probe, see probe-go. */
#include "../../../sdk/c/edgerelay.h"

static char out[1 << 17], doing[64], a[1 << 16], b[1 << 16];

static int is(const char *s) { return ev_equal(doing, s, ev_len(s) + 1); }
static ev_result say(const char *s) {
  uint32_t n = ev_len(s);
  ev_copy(out, s, n);
  return ev_replace(out, n);
}
static ev_result yes(int v) { return say(v ? "yes" : "no"); }
static ev_result or_none(const char *p, int32_t n) { return n < 0 ? say("none") : ev_replace(p, n); }
static ev_result number(int64_t v) {
  char d[24];
  uint32_t n = 0, m = 0;
  uint64_t u = (uint64_t)v;
  if (v < 0) out[m++] = '-', u = 0 - u;
  do d[n++] = (char)('0' + u % 10);
  while ((u /= 10));
  while (n) out[m++] = d[--n];
  return ev_replace(out, m);
}
static char *arg(const char *name, char *to, uint32_t cap, int32_t *n) {
  *n = ev_text(name, to, cap - 1);
  if (*n < 0 || *n >= (int32_t)cap) *n = 0;
  to[*n] = 0;
  return to;
}

EV_ON_INIT() {
  int32_t n = ev_config_text("refuse", a, sizeof a - 1);
  if (n < 0) return 0;
  a[n] = 0;
  return (int32_t)ev_fail(a);
}

/* Takes the next part of the source from *p on, which ends with \2 or \3. */
static char *part(char **p, char *end, uint32_t *n) {
  char *from = *p;
  while (*p < end && **p != 2 && **p != 3) ++*p;
  *n = (uint32_t)(*p - from);
  if (*p < end) *(*p)++ = 0;
  return from;
}

/* Makes the edits that the event's source names, and emits what each of them returns. */
static ev_result edit(void) {
  char *p = b, *end;
  int32_t n = ev_source(b, sizeof b - 1);
  uint32_t done = 0, size;
  if (n < 0 || n >= (int32_t)sizeof b) return ev_fail("the source is too long");
  end = b + n;
  *end = 0;
  while (p < end) {
    char *what = part(&p, end, &size), *path = part(&p, end, &size), *value = part(&p, end, &size);
    int ok = what[0] == 's' && what[3] ? ev_set_string_n(path, value, size)
             : what[0] == 's'          ? ev_set(path, value)
             : what[2] == 'm'          ? ev_remove(path)
                                       : ev_rename(path, value);
    doing[done++] = ok ? '1' : '0';
  }
  ev_emit("edits-made", doing, done);
  return ev_edited();
}

EV_ON_EVENT(e) {
  int32_t n, m;
  if (e->group_len == 5 && ev_equal(e->group, "edits", 5)) return edit();
  arg("do", doing, sizeof doing, &n);
  if (is("drop")) return EV_DROP;
  if (is("error")) return ev_fail("it was asked for");
  if (is("replace")) return arg("with", out, sizeof out, &n), ev_replace(out, n);
  if (is("insert")) return ev_insert(e, "\"seen\":true", 11, out, sizeof out);
  if (is("group")) return ev_replace(e->group, e->group_len);
  if (is("payload")) return ev_replace(e->payload, e->payload_len);
  arg("path", a, sizeof a, &n);
  if (is("text")) return n = ev_text(a, out, sizeof out), or_none(out, n);
  if (is("is")) return yes(ev_is(a, arg("want", b, sizeof b, &m)));
  if (is("has")) return yes(ev_has(a));
  if (is("int")) {
    int64_t v;
    return number(ev_int(a, &v) ? v : -1);
  }
  if (is("find")) {
    ev_range r;
    return ev_find(a, &r) ? ev_replace(e->payload + r.from, r.to - r.from) : say("none");
  }
  if (is("config")) return ev_replace(out, ev_config(out, sizeof out));
  if (is("config_text")) return n = ev_config_text(a, out, sizeof out), or_none(out, n);
  if (is("config_int")) return number(ev_config_int(a, -1));
  if (is("config_list")) {
    uint32_t at = 0;
    for (uint32_t i = 0; (n = ev_config_item(a, i, out + at + !!i, sizeof out - at - 1)) >= 0; i++) {
      if (i) out[at++] = ',';
      at += n;
    }
    return ev_replace(out, at);
  }
  if (is("emit")) return arg("with", b, sizeof b, &m), arg("to", a, sizeof a, &n), number(ev_emit(a, b, m));
  if (is("emit_at")) {
    int32_t k;
    char at[64];
    return arg("with", b, sizeof b, &m), arg("to", a, sizeof a, &n), arg("at", at, sizeof at, &k), number(ev_emit_at(a, b, m, at, k));
  }
  if (is("emit_for")) ev_emit_for("", "{}", 2, 2);
  if (is("audience")) ev_audience(6), ev_audience(12);
  if (is("count")) return yes(ev_count(arg("name", a, sizeof a, &n), 2));
  if (is("now")) return number(ev_now());
  if (is("source")) return n = ev_source(out, sizeof out), or_none(out, n);
  if (is("position")) return n = ev_position(out, sizeof out), or_none(out, n);
  if (is("replay")) return yes(ev_is_replay());
  if (is("sent")) return number(ev_sent());
  arg("key", a, sizeof a, &n);
  if (is("kv_set")) return arg("value", b, sizeof b, &m), yes(ev_kv_set(a, b, m, 1000));
  if (is("kv_get")) return n = ev_kv_get(a, out, sizeof out), or_none(out, n);
  if (is("kv_incr")) {
    int64_t sum = ev_kv_incr(a, 3, 1000);
    return sum == INT64_MIN ? say("none") : number(sum);
  }
  return EV_PASS;
}

/* Emits what the store holds for ticks to the group ticks, and fails if it is "error". */
EV_ON_TICK() {
  int32_t n = ev_kv_get("tick", a, sizeof a);
  if (n < 0) return EV_OK;
  if (n == 5 && ev_equal(a, "error", 5)) return ev_fail("it was asked for");
  if (ev_source(b, sizeof b) >= 0 || ev_sent() >= 0 || ev_position(b, sizeof b) >= 0) return ev_fail("a tick is no event");
  ev_audience(4);
  if (ev_emit("", a, n) != EV_BAD_NAME) return ev_fail("a tick has no group");
  return ev_emit("ticks", a, n) ? ev_fail("refused") : EV_OK;
}

EV_ON_CLASS(class, e) {
  if (class == 1) return EV_DROP;
  if (class == 2) return ev_replace(e->group, e->group_len);
  return EV_PASS;
}

EV_ON_SUBSCRIBE() {
  int32_t n;
  arg("user.do", doing, sizeof doing, &n);
  if (is("deny")) return EV_DENY;
  if (is("reason")) return ev_deny_because("not yours");
  if (is("class")) return EV_ALLOW_AS(5);
  return EV_ALLOW;
}
