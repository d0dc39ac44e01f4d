/* The header's edits: the cases that all SDKs share, and random ones in buffers of exact size, for sanitizers.
 *
 *     cc -DEDGERELAY_TEST -g -fsanitize=address,undefined sdk/c/test/edits_test.c -o edits_test && ./edits_test
 */
#include "../edgerelay_test.h"

/* Edits of the event at hand, for ev_on_event: a list as in edits.ndjson. */
static struct ev__text ops, results;

static struct ev__text item(struct ev__text list, uint32_t i, uint32_t k) {
  char path[32];
  snprintf(path, sizeof path, k == (uint32_t)-1 ? "%u" : "%u.%u", i, k);
  return ev__sample_text(list.p, list.n, path);
}

/* Applies edit i to d, or to the event at hand if d is 0. */
static int apply(ev_doc *d, uint32_t i) {
  struct ev__text op = item(ops, i, 0), path = item(ops, i, 1), value = item(ops, i, 2);
  if (!strcmp(op.p, "set")) return d ? ev_doc_set(d, path.p, value.p, value.n) : ev_set_n(path.p, value.p, value.n);
  if (!strcmp(op.p, "set_string"))
    return d ? ev_doc_set_string(d, path.p, value.p, value.n) : ev_set_string_n(path.p, value.p, value.n);
  if (!strcmp(op.p, "remove")) return d ? ev_doc_remove(d, path.p) : ev_remove(path.p);
  if (!strcmp(op.p, "rename")) return d ? ev_doc_rename(d, path.p, value.p) : ev_rename(path.p, value.p);
  fprintf(stderr, "unknown edit %s\n", op.p);
  exit(2);
}
static int wanted(uint32_t i) { return item(results, i, (uint32_t)-1).p[0] == 't'; }

EV_ON_EVENT(e) {
  (void)e;
  for (uint32_t i = 0; item(ops, i, 0).p; i++) EV_CHECK(apply(0, i) == wanted(i));
  return ev_edited();
}

static void edit_case(const char *file, int line, const char *p, uint32_t n) {
  struct ev__text in = ev__sample_text(p, n, "in"), out = ev__sample_text(p, n, "out"), want = out.p ? out : in;
  const ev_outcome *o;
  uint32_t most = in.n + 2000;
  ops = ev__sample(p, n, "ops");
  results = ev__sample(p, n, "ok");
  o = ev_test_event_n("g", in.p, in.n);
  if (strcmp(o->verdict, out.p ? "replace" : "pass") || !ev__same(want, o->payload, o->len))
    ev__differs(file, line, o->verdict, o->payload, want.p);

  /* In a buffer of the caller, with room for everything and then for less and less. */
  for (uint32_t cap = most; cap >= in.n && cap <= most; cap = cap == most ? in.n + 40 : cap - 1) {
    char *text = (char *)malloc(cap ? cap : 1);
    ev_doc d = {text, in.n, cap, 0};
    memcpy(text, in.p, in.n);
    for (uint32_t i = 0; item(ops, i, 0).p && !d.full; i++) {
      struct ev__text before = ev__text(d.text, d.len);
      int ok = apply(&d, i);
      if (d.full ? ok || !ev__same(before, d.text, d.len) : ok != wanted(i))
        ev__differs(file, line, "an edit", ok ? "true" : "false", before.p);
    }
    if (!d.full && !ev__same(want, d.text, d.len))
      ev__differs(file, line, "in a buffer", ev__text(d.text, d.len).p, want.p);
    EV_CHECK(!d.full || cap < most);
    free(text);
  }
}
EV_TEST(shared_edits) { ev__lines(EDITS, edit_case); }

static void path_case(const char *file, int line, const char *p, uint32_t n) {
  struct ev__text doc = ev__sample_text(p, n, "doc"), path = ev__sample_text(p, n, "path"),
      raw = ev__sample_text(p, n, "raw");
  struct ev__text text = ev__sample_text(p, n, "text"), got;
  char *exact = (char *)malloc(doc.n ? doc.n : 1);
  ev__place l;
  memcpy(exact, doc.p, doc.n);
  if (!ev__find(exact, doc.n, path.p, path.n, &l)) {
    if (raw.p) ev__differs(file, line, path.p, "(none)", raw.p);
  } else {
    got = ev__text(exact + l.from, l.to - l.from);
    if (!raw.p || !ev__same(raw, got.p, got.n)) ev__differs(file, line, path.p, got.p, raw.p ? raw.p : "(none)");
    got = ev__decoded(got.p, got.n);
    if (text.p && !ev__same(text, got.p, got.n)) ev__differs(file, line, path.p, got.p, text.p);
  }
  free(exact);
}
EV_TEST(shared_paths) { ev__lines(PATHS, path_case); }

/* Random texts. */
static uint64_t state;
static uint32_t below(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % n;
}
static const char *const names[] = {"a", "b", "c", "", "0", "1", "a\\.b", "\\\\", "\"", "a\\\\\"", "h\xc3\xa9",
    "\xf0\x9f\x98\x80", "\n", "long name"};
static const char *any_name(void) { return names[below(sizeof names / sizeof *names)]; }
static char doc[1 << 16];
static uint32_t doc_len;
static void put(const char *s) {
  uint32_t n = ev_len(s);
  if (doc_len + n < sizeof doc) memcpy(doc + doc_len, s, n), doc_len += n;
}
static void space(void) {
  static const char *const gaps[] = {"", "", "", " ", "\n\t", "\r\n "};
  put(gaps[below(6)]);
}
static void string(const char *s) {
  char text[80];
  text[0] = '"';
  text[1 + ev__escape(text + 1, s, 0, ev_len(s), 1)] = 0;
  put(text);
  put("\"");
}
static void value(int depth) {
  static const char *const scalars[] = {"0", "-1.5e3", "true", "null", "NaN", "-Infinity", "\"\\ud83d\\ude00\\\\\"",
      "\"},{\""};
  uint32_t n = below(4);
  space();
  switch (depth ? below(4) : 0) {
  case 0: put(scalars[below(8)]); break;
  case 1: string(any_name()); break;
  case 2:
    put("[");
    for (uint32_t i = 0; i < n; i++) {
      if (i) put(",");
      value(depth - 1);
    }
    if (!n) space();
    put("]");
    break;
  default:
    put("{");
    for (uint32_t i = 0; i < n; i++) {
      if (i) put(",");
      space();
      string(any_name());
      space();
      put(":");
      value(depth - 1);
    }
    if (!n) space();
    put("}");
  }
  space();
}
static void any_path(char *path) {
  uint32_t n = 0;
  for (uint32_t left = 1 + below(3); left; left--) {
    const char *name = any_name();
    memcpy(path + n, name, ev_len(name));
    n += ev_len(name);
    if (left > 1 || !*name) path[n++] = '.';
  }
  path[n] = 0;
}
/* Without NaN and Infinity, which ev__is_json does not know. */
static int is_json(const char *p, uint32_t n) {
  char *copy = ev__keep(p, n);
  int ok;
  for (uint32_t i = 0; i < n; i++) {
    if (n - i >= 8 && !memcmp(copy + i, "Infinity", 8)) memcpy(copy + i, "10000000", 8);
    if (n - i >= 3 && !memcmp(copy + i, "NaN", 3)) memcpy(copy + i, "100", 3);
  }
  ok = ev__is_json(copy, n);
  free(copy);
  return ok;
}
static void random_edits(int rounds, int broken) {
  for (int round = 0; round < rounds; round++) {
    char path[64], *text, before[sizeof doc];
    uint32_t cap, found = 0;
    ev_doc d;
    ev__place l;
    doc_len = 0;
    value(4);
    if (broken)
      for (uint32_t i = below(4); i && doc_len; i--) {
        if (below(2)) doc_len = below(doc_len) + 1;
        else doc[below(doc_len)] = "{}[],:\"\\ 0\xc3\x01"[below(12)];
      }
    else
      EV_CHECK(is_json(doc, doc_len));
    cap = doc_len + below(60);
    text = (char *)malloc(cap ? cap : 1);
    memcpy(text, doc, doc_len);
    d = (ev_doc){text, doc_len, cap, 0};
    for (int edit = 0; edit < 5; edit++) {
      uint32_t len = d.len, op = below(4);
      int ok;
      memcpy(before, d.text, len);
      any_path(path);
      found = (uint32_t)ev__find(d.text, d.len, path, ev_len(path), &l);
      switch (op) {
      case 0: ok = ev_doc_set(&d, path, "[1,{\"x\":2}]", 11); break;
      case 1: ok = ev_doc_set_string(&d, path, "q\"\\\n\x01", 5); break;
      case 2: ok = ev_doc_remove(&d, path); break;
      default: ok = ev_doc_rename(&d, path, "new \"name\"");
      }
      EV_CHECK(d.len <= d.cap);
      EV_CHECK(ok || (len == d.len && !memcmp(before, d.text, len)));
      EV_CHECK(!ok || !d.full);
      d.full = 0;
      if (broken) continue;
      EV_CHECK(is_json(d.text, d.len));
      EV_CHECK(!(ok && op >= 2) || found);
      if (ok && op < 2) {
        EV_CHECK(ev__find(d.text, d.len, path, ev_len(path), &l));
        struct ev__text want = op ? ev__text("\"q\\\"\\\\\\n\\u0001\"", 15) : ev__text("[1,{\"x\":2}]", 11);
        EV_CHECK(ev__same(want, d.text + l.from, l.to - l.from));
      }
    }
    free(text);
  }
}
EV_TEST(random_edits_of_json) { state = 1, random_edits(ROUNDS, 0); }
EV_TEST(random_edits_of_anything) { state = 2, random_edits(ROUNDS, 1); }
