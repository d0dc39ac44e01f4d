// Edits of a JSON text by path: on its bytes, without decoding the rest. The relay's json_get and json_find read the
// payload as it arrived, so edits have a search of their own, by the same rules.

// A value in a text, and where it stands.
let from: u32 = 0, to: u32 = 0; // the value
let start: u32 = 0; // the member's name, or the element
let open: u32 = 0; // the bracket of the object or array
let comma: u32 = 0; // the comma before the member or element; open if there is none
let last: u32 = 0; // if just the member is missing: the end of the object's last value; otherwise 0
let name: u32 = 0, nameEnd: u32 = 0; // the path's last name

// @ts-ignore: decorator
@inline function at(p: usize, i: u32): u8 { return load<u8>(p + i); }

function isSpace(c: u8): bool { return c == 32 || c == 10 || c == 9 || c == 13; }

function skipSpace(p: usize, n: u32, i: u32): u32 {
  while (i < n && isSpace(at(p, i))) i++;
  return i;
}

// stringEnd returns the end of the string that begins at i; 0 if it has none. It looks at eight bytes at a time, of which
// hits marks the first quotation mark or backslash: a byte of x or y that is 0 borrows from its highest bit.
function stringEnd(p: usize, n: u32, i: u32): u32 {
  i++;
  while (i < n && n - i >= 8) {
    const eight = load<u64>(p + i), x = eight ^ 0x2222222222222222, y = eight ^ 0x5c5c5c5c5c5c5c5c;
    const hits = (((x - 0x0101010101010101) & ~x) | ((y - 0x0101010101010101) & ~y)) & 0x8080808080808080;
    if (hits == 0) {
      i += 8;
      continue;
    }
    i += <u32>ctz(hits) >> 3;
    if (at(p, i) == 34) return i + 1;
    i += 2;
  }
  for (; i < n; i++) {
    const c = at(p, i);
    if (c == 34) return i + 1;
    if (c == 92) i++;
  }
  return 0;
}

// valueEnd returns the end of the value that begins at i; 0 if there is none.
function valueEnd(p: usize, n: u32, i: u32): u32 {
  if (i >= n) return 0;
  let c = at(p, i);
  if (c == 44 || c == 58 || c == 125 || c == 93) return 0; // , : } ]
  if (c == 34) return stringEnd(p, n, i);
  if (c != 123 && c != 91) {
    const begin = i;
    while (i < n) {
      c = at(p, i);
      if (c == 44 || c == 125 || c == 93 || c <= 32) break;
      i++;
    }
    return i > begin ? i : 0;
  }
  let depth: u32 = 0;
  while (i < n) {
    c = at(p, i);
    if (c == 34) {
      i = stringEnd(p, n, i);
      if (i == 0) return 0;
      continue;
    }
    i++;
    if (c == 123 || c == 91) depth++;
    else if ((c == 125 || c == 93) && --depth == 0) return i;
  }
  return 0;
}

// utf8Size returns the length of the UTF-8 character at i; 0 if it is none.
function utf8Size(p: usize, n: u32, i: u32): u32 {
  const c = at(p, i), d: u8 = i + 1 < n ? at(p, i + 1) : 0;
  const size: u32 = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
  if (size > n - i || (c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
    (c == 0xf4 && d > 0x8f)) return 0;
  for (let k: u32 = 1; k < size; k++) if ((at(p, i + k) & 0xc0) != 0x80) return 0;
  return size;
}

function hex4(p: usize, n: u32, i: u32): i32 {
  if (i > n || n - i < 4) return -1;
  let v = 0;
  for (let k = i; k < i + 4; k++) {
    const c = at(p, k), l = c | 32;
    if (c >= 48 && c <= 57) v = v * 16 + (c - 48);
    else if (l >= 97 && l <= 102) v = v * 16 + (l - 87);
    else return -1;
  }
  return v;
}

// The character that decode has read, and the position behind it.
const char = memory.data(4);
let behind: u32 = 0;

// decode decodes the character at i of a string without its quotes, p[i:n]. It returns its length; 0 if it is no JSON.
function decode(p: usize, n: u32, i: u32): u32 {
  let c = at(p, i);
  if (c < 32 || c == 34) return 0;
  if (c != 92) {
    const size = utf8Size(p, n, i);
    if (size == 0) {
      behind = i + 1;
      return encode(0xfffd);
    }
    behind = i + size;
    memory.copy(char, p + i, size);
    return size;
  }
  if (++i >= n) return 0;
  c = at(p, i);
  behind = i + 1;
  if (c == 34 || c == 92 || c == 47) return encode(c);
  if (c == 98) return encode(8);
  if (c == 102) return encode(12);
  if (c == 110) return encode(10);
  if (c == 114) return encode(13);
  if (c == 116) return encode(9);
  if (c != 117) return 0;
  let v = hex4(p, n, i + 1);
  if (v < 0) return 0;
  behind = i + 5;
  if (v >= 0xd800 && v < 0xe000) { // half of a pair
    const pair = v < 0xdc00 && n - behind >= 6 && at(p, behind) == 92 && at(p, behind + 1) == 117;
    const low = pair ? hex4(p, n, behind + 2) : -1;
    if (low >= 0xdc00 && low < 0xe000) {
      behind += 6;
      v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    } else {
      v = 0xfffd;
    }
  }
  return encode(v);
}

// encode writes a character to char and returns its length.
function encode(v: i32): u32 {
  if (v < 0x80) {
    store<u8>(char, v);
    return 1;
  }
  const size: u32 = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
  for (let k = size - 1; k > 0; k--) {
    store<u8>(char + k, 0x80 | (v & 63));
    v >>= 6;
  }
  store<u8>(char, (0xf00 >> size) & 0xff | v);
  return size;
}

// hasEscapes returns whether p[i:end], the inside of a string, is JSON with escapes.
function hasEscapes(p: usize, i: u32, end: u32): bool {
  let k = i;
  while (k < end && at(p, k) != 92) k++;
  if (k == end) return false;
  while (i < end) {
    if (decode(p, end, i) == 0) return false;
    i = behind;
  }
  return true;
}

// named returns whether the name p[i:end] of a member is q[k:qn]. In a path, backslashes escape.
function named(p: usize, i: u32, end: u32, q: usize, k: u32, qn: u32, path: bool): bool {
  if (i < end && k < qn) { // most names differ in their first character
    const a = at(p, i), b = at(q, k);
    if (a != b && a < 0x80 && a != 92 && b != 92) return false;
  }
  const escaped = hasEscapes(p, i, end);
  while (i < end) {
    let size: u32 = 1;
    if (escaped) {
      size = decode(p, end, i);
      i = behind;
    } else {
      store<u8>(char, at(p, i++));
    }
    for (let j: u32 = 0; j < size; j++) {
      if (path && k + 1 < qn && at(q, k) == 92) k++;
      if (k >= qn || at(q, k++) != load<u8>(char + j)) return false;
    }
  }
  return k == qn;
}

// findMember finds a member of the object whose bracket is at open.
function findMember(p: usize, n: u32, q: usize, k: u32, qn: u32, path: bool): bool {
  let i = open + 1;
  comma = open;
  last = 0;
  while (true) {
    i = skipSpace(p, n, i);
    if (i < n && at(p, i) == 125 && comma == open) last = open + 1;
    if (i >= n || at(p, i) != 34) return false;
    start = i;
    let end = stringEnd(p, n, i);
    if (end == 0) return false;
    i = skipSpace(p, n, end);
    if (i >= n || at(p, i) != 58) return false;
    i = from = skipSpace(p, n, i + 1);
    if (named(p, start + 1, end - 1, q, k, qn, path)) return true;
    end = valueEnd(p, n, i);
    if (end == 0) return false;
    i = skipSpace(p, n, end);
    if (i < n && at(p, i) == 125) last = end;
    if (i >= n || at(p, i) != 44) return false;
    comma = i++;
  }
}

// findElement finds an element of the array whose bracket is at open.
function findElement(p: usize, n: u32, q: usize, k: u32, qn: u32): bool {
  let i = open + 1, left: u32 = 0, digits = 0;
  comma = open;
  last = 0;
  for (; k < qn; k++) {
    if (at(q, k) == 92 && k + 1 < qn) k++;
    const c = at(q, k);
    if (c < 48 || c > 57 || ++digits > 9) return false;
    left = left * 10 + (c - 48);
  }
  if (digits == 0) return false;
  while (true) {
    i = skipSpace(p, n, i);
    if (i >= n || at(p, i) == 93) return false;
    start = from = i;
    if (left-- == 0) return true;
    i = valueEnd(p, n, i);
    if (i == 0) return false;
    i = skipSpace(p, n, i);
    if (i >= n || at(p, i) != 44) return false;
    comma = i++;
  }
}

// find finds the value at a path.
function find(p: usize, n: u32, q: usize, qn: u32): bool {
  let k: u32 = 0;
  start = from = open = comma = skipSpace(p, n, 0);
  last = 0;
  while (k < qn) {
    name = k;
    while (k < qn && at(q, k) != 46) k += at(q, k) == 92 && k + 1 < qn ? 2 : 1;
    nameEnd = k;
    open = from;
    const bracket: u8 = open < n ? at(p, open) : 0;
    if (bracket != 123 && bracket != 91) {
      last = 0;
      return false;
    }
    if (!(bracket == 123 ? findMember(p, n, q, name, k, true) : findElement(p, n, q, name, k))) {
      if (k + 1 < qn) last = 0;
      return false;
    }
    k++; // behind the dot
  }
  to = valueEnd(p, n, from);
  return to != 0;
}

// isValue returns whether a text is one value: brackets in balance, a string with an end, or a word.
function isValue(p: usize, n: u32): bool {
  let i = skipSpace(p, n, 0);
  const end = valueEnd(p, n, i);
  if (end == 0 || skipSpace(p, n, end) != n) return false;
  let c = at(p, i);
  if (c == 34 || c == 123 || c == 91) return true;
  for (; i < end; i++) {
    c = at(p, i);
    const l = c | 32;
    if (!(l >= 97 && l <= 122) && !(c >= 48 && c <= 57) && c != 43 && c != 45 && c != 46) return false;
  }
  return true;
}

// escape writes p[k:n] as the inside of a JSON string to out, unless out is 0, and returns the length. In a path,
// backslashes escape.
function escape(out: usize, p: usize, k: u32, n: u32, path: bool): u32 {
  let size: u32 = 0;
  for (; k < n; k++) {
    if (path && at(p, k) == 92 && k + 1 < n) k++;
    const c = at(p, k);
    if (c >= 32 && c != 34 && c != 92) {
      if (out) store<u8>(out + size, c);
      size++;
      continue;
    }
    let letter: u8 = 117;
    if (c == 34 || c == 92) letter = c;
    else if (c == 8) letter = 98;
    else if (c == 9) letter = 116;
    else if (c == 10) letter = 110;
    else if (c == 12) letter = 102;
    else if (c == 13) letter = 114;
    if (out) {
      store<u8>(out + size, 92);
      store<u8>(out + size + 1, letter);
      if (letter == 117) {
        store<u16>(out + size + 2, 0x3030);
        store<u8>(out + size + 4, 48 + (c >> 4));
        store<u8>(out + size + 5, (c & 15) < 10 ? 48 + (c & 15) : 87 + (c & 15));
      }
    }
    size += letter == 117 ? 6 : 2;
  }
  return size;
}

// Texts in UTF-8 that a call works with.
let pathBytes = new ArrayBuffer(256), valueBytes = new ArrayBuffer(1024);
let pathSize: u32 = 0, valueSize: u32 = 0;

function encodePath(s: string): usize {
  if (pathBytes.byteLength < s.length * 3) pathBytes = new ArrayBuffer(s.length * 3);
  pathSize = <u32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, changetype<usize>(pathBytes));
  return changetype<usize>(pathBytes);
}

function encodeValue(s: string): usize {
  if (valueBytes.byteLength < s.length * 3) valueBytes = new ArrayBuffer(s.length * 3);
  valueSize = <u32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, changetype<usize>(valueBytes));
  return changetype<usize>(valueBytes);
}

// textAt returns the value at path in any JSON text, such as an attachment or a context: a string decoded, any other value
// as JSON text; null if there is none.
export function textAt(json: string, path: string): string | null {
  const q = encodePath(path), p = encodeValue(json);
  if (!find(p, valueSize, q, pathSize)) return null;
  if (at(p, from) != 34) return String.UTF8.decodeUnsafe(p + from, to - from);
  const inside = from + 1, end = to - 1;
  if (!hasEscapes(p, inside, end)) return String.UTF8.decodeUnsafe(p + inside, end - inside);
  const out = new ArrayBuffer(end - inside);
  let size: usize = 0;
  for (let i = inside; i < end; i = behind) {
    const n = decode(p, end, i);
    memory.copy(changetype<usize>(out) + size, char, n);
    size += n;
  }
  return String.UTF8.decodeUnsafe(changetype<usize>(out), size);
}

// Edits is a JSON text that edits change. Each edit works on the result of the edits before it, and returns whether it
// changed the text. All bytes that an edit does not name stay as they are. Paths are those of Document; the empty path
// is refused.
export class Edits {
  private buffer: ArrayBuffer;
  private size: u32 = 0;

  constructor(text: string = "") {
    this.buffer = String.UTF8.encode(text);
    this.size = this.buffer.byteLength;
  }

  // set replaces the value at path by a JSON text, or appends a new member to an object. An array gets no new element.
  // json must be one JSON value.
  set(path: string, json: string): bool {
    const v = encodeValue(json);
    return isValue(v, valueSize) && this.put(path, v, false);
  }

  // setString is like set, with a text that becomes a JSON string.
  setString(path: string, text: string): bool { return this.put(path, encodeValue(text), true); }

  // remove removes a member or an element, and its comma.
  remove(path: string): bool {
    const q = encodePath(path), p = this.address, n = this.size;
    if (pathSize == 0 || !find(p, n, q, pathSize)) return false;
    const next = skipSpace(p, n, to);
    if (next >= n) return false;
    const c = at(p, next);
    if (c == 44) {
      from = start;
      to = skipSpace(p, n, next + 1);
    } else if (c != (at(p, open) == 123 ? 125 : 93)) {
      return false;
    } else if (comma != open) {
      from = comma;
    } else {
      from = open + 1;
      to = next;
    }
    this.gap(from, to, 0);
    return true;
  }

  // rename gives a member another name and keeps its value. It refuses a name that the object has already.
  rename(path: string, to: string): bool {
    const q = encodePath(path), p = this.address;
    if (pathSize == 0 || !find(p, this.size, q, pathSize) || at(p, open) != 123) return false;
    const begin = start, r = encodeValue(to);
    if (findMember(p, this.size, r, 0, valueSize, false)) return false;
    const out = this.gap(begin + 1, stringEnd(p, this.size, begin) - 1, escape(0, r, 0, valueSize, false));
    escape(out, r, 0, valueSize, false);
    return true;
  }

  // text is the text with its edits.
  get text(): string { return String.UTF8.decodeUnsafe(this.address, this.size); }

  // address and length are the text in memory, until the next edit.
  get address(): usize { return changetype<usize>(this.buffer); }
  get length(): u32 { return this.size; }

  // load makes the n bytes at p the text.
  load(p: usize, n: usize): void {
    if (<usize>this.buffer.byteLength < n) this.buffer = new ArrayBuffer(<i32>(n + n / 8 + 256));
    this.size = <u32>n;
    memory.copy(this.address, p, n);
  }

  // gap makes room for size bytes in place of the bytes begin:end and returns where.
  private gap(begin: u32, end: u32, size: u32): usize {
    const old = this.buffer, p = this.address, n = this.size - (end - begin) + size;
    if (<u32>old.byteLength < n) {
      this.buffer = new ArrayBuffer(n + n / 8 + 256);
      memory.copy(this.address, p, begin);
    }
    memory.copy(this.address + begin + size, p + end, this.size - end);
    this.size = n;
    return this.address + begin;
  }

  private put(path: string, v: usize, quoted: bool): bool {
    const q = encodePath(path), size = quoted ? escape(0, v, 0, valueSize, false) + 2 : valueSize;
    if (pathSize == 0) return false;
    let out: usize;
    if (find(this.address, this.size, q, pathSize)) {
      out = this.gap(from, to, size);
    } else {
      if (last == 0) return false;
      const more: u32 = last > open + 1 ? 1 : 0, nameSize = escape(0, q, name, nameEnd, true);
      out = this.gap(last, last, size + nameSize + more + 3);
      if (more) store<u8>(out++, 44);
      store<u8>(out++, 34);
      out += escape(out, q, name, nameEnd, true);
      store<u8>(out++, 34);
      store<u8>(out++, 58);
    }
    if (!quoted) {
      memory.copy(out, v, size);
      return true;
    }
    store<u8>(out, 34);
    escape(out + 1, v, 0, valueSize, false);
    store<u8>(out + size - 1, 34);
    return true;
  }
}
