/* Masks secrets in events like ../redact in Go. Tests compare the output of both for the samples and for random events. */
#include "../../../sdk/c/edgerelay.h"

enum { WORDS = 64, TEXT = 2048 };

static const char *const default_words[] = {
    "password", "passwd", "passphrase", "become_pass", "ssh_pass", "secret", "token", "api_key", "apikey", "private_key", "authorization",
};

static char text[TEXT], mask[256] = "********"; /* all words in lower case */
static uint32_t mask_n = 8, words;
static struct {
  const char *p;
  uint32_t n;
} word[WORDS];
static uint8_t first[256]; /* bytes that words begin with */
static uint8_t stops[256]; /* bytes that need attention inside a string */

static const char *doc;
static char *out;
static uint32_t out_cap, out_n, done; /* doc[0:done] is in out[0:out_n] */
static int full;

static char lower(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }
static char upper(char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; }
static int space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static int name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static int add_word(const char *p, uint32_t n) {
  static uint32_t used;
  if (!n || words == WORDS || n > TEXT - used) return 0;
  word[words].p = text + used;
  word[words++].n = n;
  first[(uint8_t)lower(p[0])] = first[(uint8_t)upper(p[0])] = 1;
  stops[(uint8_t)lower(p[0])] = stops[(uint8_t)upper(p[0])] = 1;
  for (uint32_t i = 0; i < n; i++) text[used++] = lower(p[i]);
  return 1;
}

EV_ON_INIT() {
  char w[256];
  int32_t n = ev_config_text("mask", mask, sizeof mask);
  if (n > (int32_t)sizeof mask) return (int32_t)ev_fail("config: the mask is longer than 256 bytes");
  if (n >= 0) mask_n = n;
  for (uint32_t i = 0; i < mask_n; i++)
    if ((uint8_t)mask[i] < ' ' || mask[i] == '"' || mask[i] == '\\') return (int32_t)ev_fail("config: the mask must need no escapes in JSON");
  for (uint32_t i = 0; (n = ev_config_item("words", i, w, sizeof w)) >= 0; i++)
    if (n > (int32_t)sizeof w || !add_word(w, n)) return (int32_t)ev_fail("config: a word is empty, or there are too many");
  if (!words)
    for (uint32_t i = 0; i < sizeof default_words / sizeof *default_words; i++) add_word(default_words[i], ev_len(default_words[i]));
  stops['\\'] = stops[':'] = stops['-'] = 1;
  return 0;
}

static int at(uint32_t i, uint32_t to, const char *s, uint32_t n) {
  if (i > to || to - i < n) return 0;
  for (uint32_t j = 0; j < n; j++)
    if (lower(doc[i + j]) != s[j]) return 0;
  return 1;
}
#define AT(i, to, s) at(i, to, s, sizeof(s) - 1)

static uint32_t skip(uint32_t i, uint32_t to) {
  while (i < to && space(doc[i])) i++;
  return i;
}

/* The position after the string that begins at i. A string without an end extends to one position after the text, so that
 * the rest of the text is its content. */
static uint32_t string_end(uint32_t i, uint32_t n) {
  for (i++; i < n; i++) {
    if (doc[i] == '\\') i++;
    else if (doc[i] == '"') return i + 1;
  }
  return n + 1;
}

static void put(const char *p, uint32_t n) {
  if (full || (n > out_cap - out_n && !ev_reserve(&out, &out_cap, out_n, out_n + n))) {
    full = 1;
    return;
  }
  ev_copy(out + out_n, p, n);
  out_n += n;
}

/* Replaces doc[from:to] by the mask, with quotes if the mask replaces a number. */
static void cover(uint32_t from, uint32_t to, int quotes) {
  if (from >= to || (to - from == mask_n && ev_equal(doc + from, mask, mask_n))) return;
  put(doc + done, from - done);
  if (quotes) put("\"", 1);
  put(mask, mask_n);
  if (quotes) put("\"", 1);
  done = to;
}

/* The position after a quotation mark at i, escaped or not; i if there is none. */
static uint32_t quote(uint32_t i, uint32_t to) {
  uint32_t p = i;
  while (p < to && doc[p] == '\\') p++;
  return p < to && (doc[p] == '"' || (p == i && doc[p] == '\'')) ? p + 1 : i;
}

/* The position of the quotation mark that matches the one before open, with the same number of backslashes. */
static uint32_t closing(uint32_t open, uint32_t to, uint32_t backslashes) {
  uint32_t run = 0;
  for (uint32_t i = open; i < to; i++) {
    if (doc[i] == '\\') {
      run++;
      continue;
    }
    if (doc[i] == doc[open - 1] && run == backslashes) return i - run;
    run = 0;
  }
  return to;
}

/* The end of a value without quotation marks: a space, line end, quotation mark or control character. */
static uint32_t bare(uint32_t i, uint32_t to) {
  while (i < to) {
    char c = doc[i];
    if ((uint8_t)c <= ' ' || c == '\'') return i;
    if (c != '\\') i++;
    else if (i + 1 >= to) return to;
    else if (doc[i + 1] == '\\' || doc[i + 1] == '/') i += 2;
    else if (doc[i + 1] == 'u' && i + 6 <= to && !(doc[i + 2] == '0' && doc[i + 3] == '0' && (uint8_t)doc[i + 4] < '2')) i += 6;
    else return i;
  }
  return to;
}

/* Masks the value that is assigned to the word doc[w:i], if there is one. The text begins at from. */
static uint32_t assignment(uint32_t from, uint32_t w, uint32_t i, uint32_t to) {
  while (i < to && name_byte(doc[i])) i++;
  while (w > from && name_byte(doc[w - 1])) w--; /* the name around the word */
  uint32_t p = quote(i, to), gap = skip(p, to), end, open;
  if (gap < to && (doc[gap] == '=' || doc[gap] == ':')) p = skip(gap + 1, to);
  else if (gap > i && p == i && doc[w] == '-') p = gap; /* an option */
  else return i;
  if (AT(p, to, "bearer ")) p = skip(p + 7, to);
  else if (AT(p, to, "basic ") || AT(p, to, "token ")) p = skip(p + 6, to);
  open = quote(p, to);
  if (open > p) {
    end = closing(open, to, open - p - 1);
    p = open;
  } else {
    end = bare(p, to);
  }
  cover(p, end, 0);
  return end;
}

/* Masks the password of a URL whose authority begins at i. */
static uint32_t userinfo(uint32_t i, uint32_t to) {
  uint32_t colon = 0;
  for (; i < to; i++) {
    char c = doc[i];
    if (c == ':' && !colon) colon = i;
    else if (c == '@') {
      if (colon) cover(colon + 1, i, 0);
      return i;
    } else if ((uint8_t)c <= ' ' || c == '/' || c == '\\' || c == '\'') return i;
  }
  return i;
}

/* Masks the body of a PEM private key whose first line begins at i. */
static uint32_t private_key(uint32_t i, uint32_t to) {
  uint32_t most = to - i < 64 ? to : i + 64;
  for (uint32_t head = i + 11; head < most; head++) {
    if (!AT(head, to, "private key-----")) continue;
    uint32_t body = head + 16, end = body;
    while (end < to && !AT(end, to, "-----end")) end++;
    cover(body, end, 0);
    return end;
  }
  return i + 11;
}

static uint32_t word_at(uint32_t i, uint32_t to) {
  for (uint32_t w = 0; w < words; w++)
    if (at(i, to, word[w].p, word[w].n)) return word[w].n;
  return 0;
}

/* Masks secrets in doc[from:to], the inside of a string. */
static void inside(uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to;) {
    char c = doc[i];
    uint32_t n;
    if (!stops[(uint8_t)c]) i++;
    else if (c == '\\') i += 2;
    else if (c == ':' && AT(i, to, "://")) i = userinfo(i + 3, to);
    else if (c == '-' && AT(i, to, "-----begin ")) i = private_key(i, to);
    else if (first[(uint8_t)c] && (n = word_at(i, to))) i = assignment(from, i, i + n, to);
    else i++;
  }
}

static int names_secret(uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++)
    if (first[(uint8_t)doc[i]] && word_at(i, to)) return 1;
  return 0;
}

EV_ON_EVENT(e) {
  uint32_t n = e->payload_len;
  int32_t depth = 0, within = 0; /* within: depth of the container with a secret name */
  int named = 0;                 /* the name before this value is secret */
  doc = e->payload;
  out_n = done = 0;
  full = 0;
  for (uint32_t i = 0; i < n;) {
    char c = doc[i];
    if (c == '"') {
      uint32_t end = string_end(i, n), next = skip(end, n);
      if (next < n && doc[next] == ':') {
        named = names_secret(i + 1, end - 1);
        i = next + 1;
        continue;
      }
      if (named || within > 0) cover(i + 1, end - 1, 0);
      else inside(i + 1, end - 1);
      named = 0;
      i = end;
    } else if (c == '{' || c == '[') {
      depth++;
      if (named && !within) within = depth;
      named = 0;
      i++;
    } else if (c == '}' || c == ']') {
      if (depth == within) within = 0;
      depth--;
      named = 0;
      i++;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      uint32_t end = i;
      while (end < n && (name_byte(doc[end]) || doc[end] == '.' || doc[end] == '+')) end++;
      if (named || within > 0) cover(i, end, 1);
      named = 0;
      i = end;
    } else {
      if (c == ',') named = 0;
      i++;
    }
  }
  if (!done) return EV_PASS;
  if (done < n) put(doc + done, n - done);
  return full ? ev_fail("the memory is too small for the redacted event") : ev_replace(out, out_n);
}
