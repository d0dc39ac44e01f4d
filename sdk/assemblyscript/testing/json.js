// The relay's search in JSON texts: on bytes, without decoding or validating the rest. NaN and Infinity are values.

const QUOTE = 34, COMMA = 44, COLON = 58, BACKSLASH = 92;
const isSpace = (c) => c === 32 || c === 10 || c === 9 || c === 13;
const opens = (c) => c === 123 || c === 91;
const closes = (c) => c === 125 || c === 93;

function skipSpace(doc, i) {
  while (i < doc.length && isSpace(doc[i])) i++;
  return i;
}

/** The end of the string that begins at i, or -1. */
function stringEnd(doc, i) {
  for (i++; i < doc.length; i++) {
    if (doc[i] === QUOTE) return i + 1;
    if (doc[i] === BACKSLASH) i++;
  }
  return -1;
}

/** The end of the value that begins at i, or -1. */
function valueEnd(doc, i) {
  if (i >= doc.length || doc[i] === COMMA || doc[i] === COLON || closes(doc[i])) return -1;
  if (doc[i] === QUOTE) return stringEnd(doc, i);
  const begin = i;
  if (!opens(doc[i])) {
    while (i < doc.length && doc[i] !== COMMA && !closes(doc[i]) && doc[i] > 32) i++;
    return i > begin ? i : -1;
  }
  for (let depth = 0; i < doc.length; ) {
    if (doc[i] === QUOTE) {
      i = stringEnd(doc, i);
      if (i < 0) return -1;
      continue;
    }
    if (opens(doc[i])) depth++;
    else if (closes(doc[i]) && --depth === 0) return i + 1;
    i++;
  }
  return -1;
}

/** Splits a path into names: UTF-8 bytes as Latin-1 strings. */
function names(path) {
  const list = [];
  let name = "";
  for (let i = 0; i < path.length; i++) {
    const c = path[i];
    if (c === BACKSLASH && i + 1 < path.length) name += String.fromCharCode(path[++i]);
    else if (c === 46) {
      list.push(name);
      name = "";
      if (i + 1 === path.length) return list;
    } else name += String.fromCharCode(c);
  }
  if (path.length > 0) list.push(name);
  return list;
}

/** Calls see(name, from) for the members of an object, or with the positions of an array, until it returns true. */
function children(doc, i, see) {
  const object = doc[i] === 123;
  for (let position = 0; ; position++) {
    i = skipSpace(doc, i + 1);
    let name = position;
    if (i >= doc.length || closes(doc[i])) return;
    if (object) {
      const end = doc[i] === QUOTE ? stringEnd(doc, i) : -1;
      if (end < 0) return;
      name = Buffer.from(text(doc.subarray(i, end))).toString("latin1");
      i = skipSpace(doc, end);
      if (doc[i] !== COLON) return;
      i = skipSpace(doc, i + 1);
    }
    if (see(name, i)) return;
    i = valueEnd(doc, i);
    if (i < 0) return;
    i = skipSpace(doc, i);
    if (doc[i] !== COMMA) return;
  }
}

/**
 * Finds the value at a path, as json_find does: its range in the bytes of the text, or null.
 * @param {Uint8Array} doc
 * @param {Uint8Array} path
 * @returns {[from: number, to: number] | null}
 */
export function find(doc, path) {
  let at = skipSpace(doc, 0);
  for (const name of names(path)) {
    if (at >= doc.length || !opens(doc[at])) return null;
    const array = doc[at] === 91;
    if (array && !/^[0-9]{1,9}$/.test(name)) return null;
    const wanted = array ? Number(name) : name;
    let found = -1;
    children(doc, at, (key, from) => {
      if (key !== wanted) return false;
      found = from;
      return true;
    });
    if (found < 0) return null;
    at = found;
  }
  const end = valueEnd(doc, at);
  return end < 0 ? null : [at, end];
}

/**
 * The text of a value, as json_get returns it: a string decoded, any other value unchanged.
 * @param {Uint8Array} value
 * @returns {Uint8Array}
 */
export function text(value) {
  if (value.length < 2 || value[0] !== QUOTE || value[value.length - 1] !== QUOTE) return value;
  const inner = value.subarray(1, value.length - 1);
  if (!inner.includes(BACKSLASH)) return inner;
  try {
    // Bytes that are not UTF-8 become U+FFFD, as in the relay.
    return Buffer.from(JSON.parse(decodeEach(value)), "utf8");
  } catch {
    return inner;
  }
}

/** Decodes UTF-8. Each byte that belongs to no character becomes U+FFFD. */
function decodeEach(bytes) {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  if (!whole.includes("\ufffd")) return whole;
  let out = "";
  for (let i = 0; i < bytes.length; ) {
    const size = bytes[i] < 0x80 ? 1 : bytes[i] < 0xe0 ? 2 : bytes[i] < 0xf0 ? 3 : 4;
    const part = bytes.subarray(i, i + size);
    const valid = isUTF8(part);
    out += valid ? Buffer.from(part).toString("utf8") : "\ufffd";
    i += valid ? size : 1;
  }
  return out;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {Uint8Array} bytes */
export function isUTF8(bytes) {
  try {
    strict.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Whether a text is JSON, for which NaN and Infinity count only if loose. */
export function isJSON(string, loose = false) {
  if (loose) string = string.replace(/"(?:[^"\\]|\\.)*"|\bNaN\b|\bInfinity\b/gs, (t) => (t[0] === '"' ? t : "0"));
  try {
    JSON.parse(string);
    return true;
  } catch {
    return false;
  }
}

/** A JSON text without the white space between tokens. */
function compact(string) {
  return string.replace(/("(?:[^"\\]|\\.)*")|[ \n\r\t]+/gs, (_, quoted) => quoted ?? "");
}

/** Compares JSON texts without the white space between tokens, and other texts exactly. */
export function sameJSON(a, b) {
  return a === b || (isJSON(a, true) && isJSON(b, true) && compact(a) === compact(b));
}

/**
 * The members of an object as JSON texts, or the elements of an array. Null for any other text.
 * @param {string} string
 * @returns {Map<string | number, string> | null}
 */
export function parts(string) {
  if (!isJSON(string, true)) return null;
  const doc = Buffer.from(string, "utf8");
  const at = skipSpace(doc, 0);
  if (!opens(doc[at])) return null;
  const found = new Map();
  children(doc, at, (name, from) => {
    const key = typeof name === "string" ? Buffer.from(name, "latin1").toString("utf8") : name;
    if (found.has(key)) throw new Error(`the member ${JSON.stringify(key)} occurs twice`);
    found.set(key, doc.subarray(from, valueEnd(doc, from)).toString("utf8"));
    return false;
  });
  return found;
}
