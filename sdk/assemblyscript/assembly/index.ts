// SDK for plugins of the edgerelay websocket relay in AssemblyScript.
//
//     import { Event, PASS, DROP } from "edgerelay";
//     export { ev_abi_version, ev_buffer } from "edgerelay";
//
//     export function ev_on_event(group: u32, payload: u32): u64 {
//       const e = Event.read(group, payload);
//       return e.is("status", "failed") ? PASS : DROP;
//     }
//
// A plugin exports the hooks it wants: ev_init(): i32, ev_on_event, ev_on_class(class, group, payload) and ev_on_subscribe(size); one that
// is not exported costs the relay nothing. A host function that is not called is not imported; those marked with a grant need it in the
// plugin's block of the Caddyfile. An instance does one call at a time; instances share no memory, but for the key-value store.

// @ts-ignore: decorator
@external("ev1", "log") declare function host_log(level: i32, p: usize, n: i32): void;
// @ts-ignore: decorator
@external("ev1", "config") declare function host_config(p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "config_get") declare function host_config_get(path: usize, n: i32, p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "json_get") declare function host_json_get(path: usize, n: i32, p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "json_find") declare function host_json_find(path: usize, n: i32): i64;
// @ts-ignore: decorator
@external("ev1", "audience") declare function host_audience(mask: u64): void;
// @ts-ignore: decorator
@external("ev1", "emit") declare function host_emit(g: usize, gn: i32, p: usize, n: i32, mask: u64): i32;
// @ts-ignore: decorator
@external("ev1", "metric_add") declare function host_metric_add(name: usize, n: i32, delta: i64): i32;
// @ts-ignore: decorator
@external("ev1", "kv_get") declare function host_kv_get(k: usize, kn: i32, p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "kv_set") declare function host_kv_set(k: usize, kn: i32, p: usize, n: i32, ttl: i64): i32;
// @ts-ignore: decorator
@external("ev1", "kv_incr") declare function host_kv_incr(k: usize, kn: i32, delta: i64, ttl: i64): i64;
// @ts-ignore: decorator
@external("ev1", "now_ms") declare function host_now_ms(): i64;

// Verdicts of ev_on_event and ev_on_class; replace and fail make others.
export const PASS: u64 = 0; // the event goes on as it came
export const DROP: u64 = 1; // it ends here, or this class does not get it

// Answers of ev_on_subscribe; see also allowAs and denyBecause.
export const ALLOW: u64 = 0;
export const DENY: u64 = 1;

// allowAs allows, and puts the subscriber into an audience class, 0 to 63.
export function allowAs(cls: u32): u64 { return 0x100 + cls; }

// denyBecause denies and tells the user why.
export function denyBecause(reason: string): u64 { return replace(reason); }

// Levels of log lines.
export const DEBUG = 0, INFO = 1, WARN = 2, ERROR = 3;

// EVERYBODY is the audience of all classes.
export const EVERYBODY: u64 = u64.MAX_VALUE;

let input = new ArrayBuffer(4096);
let kept = new ArrayBuffer(1);

export function ev_abi_version(): i32 { return 1; }

export function ev_buffer(size: u32): usize {
  if (size > 1 << 30) return 0;
  if (<u32>input.byteLength < size) input = new ArrayBuffer(size);
  return changetype<usize>(input);
}

// replace makes text the event's new payload.
export function replace(text: string): u64 {
  kept = String.UTF8.encode(text);
  return keep();
}

// replaceBytes is replace for text that is UTF-8 already.
export function replaceBytes(text: ArrayBuffer): u64 {
  kept = text;
  return keep();
}

function keep(): u64 { return (<u64>changetype<usize>(kept)) << 32 | <u64>kept.byteLength; }

// fail logs why the plugin cannot decide; its on_error setting decides then.
export function fail(why: string): u64 {
  log(ERROR, why);
  return 2;
}

// Short text goes to the host through fixed memory, without garbage; longer text through a fresh buffer.
const SMALL = 1024;
const small = memory.data(SMALL), second = memory.data(SMALL), scratch = memory.data(4096);
let long1 = new ArrayBuffer(0), long2 = new ArrayBuffer(0);
let length = 0; // of what utf8 or utf8b wrote last

function utf8(s: string): usize {
  if (s.length * 3 <= SMALL) {
    length = <i32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, small);
    return small;
  }
  long1 = String.UTF8.encode(s);
  length = long1.byteLength;
  return changetype<usize>(long1);
}

function utf8b(s: string): usize {
  if (s.length * 3 <= SMALL) {
    length = <i32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, second);
    return second;
  }
  long2 = String.UTF8.encode(s);
  length = long2.byteLength;
  return changetype<usize>(long2);
}

type Getter = (k: usize, kn: i32, p: usize, cap: i32) => i32;

// read gets a value of any length; null if there is none.
function read(get: Getter, key: string): string | null {
  const k = utf8(key), kn = length;
  const n = get(k, kn, scratch, 4096);
  if (n < 0) return null;
  if (n <= 4096) return String.UTF8.decodeUnsafe(scratch, n);
  const b = new ArrayBuffer(n);
  get(k, kn, changetype<usize>(b), n);
  return String.UTF8.decode(b);
}

function jsonGet(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_json_get(k, kn, p, cap); }
function configGet(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_config_get(k, kn, p, cap); }
function kvGetter(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_kv_get(k, kn, p, cap); }

// whole tells whether s is a decimal integer that parseInt reads whole.
function whole(s: string): bool {
  const sign = s.startsWith("-") ? 1 : 0;
  if (s.length == sign || s.length > 18) return false;
  for (let i = sign; i < s.length; i++) if (s.charCodeAt(i) < 48 || s.charCodeAt(i) > 57) return false;
  return true;
}

// Document is JSON text in the host's hands. A path is member names and array positions joined by dots, a backslash escaping a dot or
// itself: event_data.res.0.stdout. The first of two equal members counts.
export class Document {
  // text gives the value at path: a string decoded, anything else as JSON text; null if there is none.
  text(path: string): string | null { return read(jsonGet, path); }

  // is tells whether the value at path, as text gives it, is want. The fastest way to filter.
  is(path: string, want: string): bool {
    const w = utf8b(want), wn = length;
    if (wn > 4096) return this.text(path) == want;
    const p = utf8(path);
    return host_json_get(p, length, scratch, 4096) == wn && memory.compare(scratch, w, wn) == 0;
  }

  // int gives the value at path as an integer, a string of digits too; otherwise if there is none.
  int(path: string, otherwise: i64): i64 {
    const s = this.text(path);
    return s !== null && whole(s) ? I64.parseInt(s) : otherwise;
  }

  // has tells whether there is a value at path, be it null.
  has(path: string): bool {
    const p = utf8(path);
    return host_json_find(p, length) >= 0;
  }

  // raw gives the value at path as it stands in the payload, quotes included; null if there is none.
  raw(path: string): string | null {
    const p = utf8(path), at = host_json_find(p, length);
    return at < 0 ? null : String.UTF8.decodeUnsafe(changetype<usize>(input) + this.start + <usize>(at >> 32), <usize><u32>at);
  }

  start: usize = 0;
}

// Event is an event on its way to the subscribers of a group. It is valid until the hook returns.
export class Event extends Document {
  size: usize = 0;

  // read gives the event that a hook is called with.
  static read(group: u32, payload: u32): Event {
    event.start = group;
    event.size = payload;
    return event;
  }

  // group is the group's name, such as job_events-42.
  get group(): string { return String.UTF8.decodeUnsafe(changetype<usize>(input), this.start); }

  // payload is the whole text; prefer text and is, which cost much less.
  get payload(): string { return String.UTF8.decodeUnsafe(changetype<usize>(input) + this.start, this.size); }

  // insert gives a replacement of the payload, a JSON object, with more members at its end; members is their JSON text: "seen":true.
  // A payload that is no object passes as it is.
  insert(members: string): u64 {
    const p = changetype<usize>(input) + this.start;
    let start: usize = 0, end = this.size;
    while (end > 0 && space(load<u8>(p + end - 1))) end--;
    while (start < end && space(load<u8>(p + start))) start++;
    if (members.length == 0 || end < start + 2 || load<u8>(p + start) != 123 || load<u8>(p + end - 1) != 125) return PASS;
    end--;
    let last = end - 1;
    while (space(load<u8>(p + last))) last--;
    const comma: usize = last > start ? 1 : 0;
    const n = <usize>String.UTF8.byteLength(members);
    kept = new ArrayBuffer(<i32>(end + comma + n + 1));
    const out = changetype<usize>(kept);
    memory.copy(out, p, end);
    if (comma) store<u8>(out + end, 44);
    String.UTF8.encodeUnsafe(changetype<usize>(members), members.length, out + end + comma);
    store<u8>(out + end + comma + n, 125);
    return keep();
  }
}

// Request is a user's wish to subscribe: text("group"), and text("user.…") for what the authorizer knows of the user.
export class Request extends Document {
  // read gives the request that ev_on_subscribe is called with.
  static read(size: u32): Request { return request; }
}

const event = new Event();
const request = new Request();

function space(c: u8): bool { return c == 32 || c == 10 || c == 9 || c == 13; }

// log writes a line to the relay's log, which takes a bounded number of them. Text beyond 4 KiB is cut.
export function log(level: i32, text: string): void {
  const p = utf8(text);
  host_log(level, p, length);
}

// config gives the plugin's configuration, a JSON text; "null" if it has none.
export function config(): string {
  const b = new ArrayBuffer(host_config(scratch, 0));
  host_config(changetype<usize>(b), b.byteLength);
  return String.UTF8.decode(b);
}

// configText gives a value of the configuration by its path, as Document.text does; null if there is none.
export function configText(path: string): string | null { return read(configGet, path); }

// configInt gives an integer of the configuration, or what to use without one.
export function configInt(path: string, otherwise: i64): i64 {
  const s = configText(path);
  return s !== null && whole(s) ? I64.parseInt(s) : otherwise;
}

// configList gives the array at path of the configuration, each element as configText gives it; empty if there is none.
export function configList(path: string): string[] {
  const list: string[] = [], prefix = path.length ? path + "." : "";
  let s = configText(prefix + "0");
  while (s !== null) {
    list.push(s);
    s = configText(prefix + list.length.toString());
  }
  return list;
}

// audience restricts the event at hand to subscribers whose class is in mask: bit c stands for class c.
export function audience(mask: u64): void { host_audience(mask); }

// emit sends another event, to group or, that being "", to the event's own. It leaves after the event itself, and only if the hook
// succeeds. It gives 0, or why not: -1 more than 16 in a call, -2 too long, -3 from group to group too often, -4 no name of a group.
// Grant: emit.
export function emit(group: string, payload: string, mask: u64 = u64.MAX_VALUE): i32 {
  const g = utf8(group), gn = length, p = utf8b(payload);
  return host_emit(g, gn, p, length, mask);
}

// count adds to a counter of the plugin's metrics; names are [a-z_][a-z0-9_]*. It tells whether the host took it. Grant: metrics.
export function count(name: string, delta: i64): bool {
  const p = utf8(name);
  return host_metric_add(p, length, delta) == 0;
}

// kvGet reads from the plugin's store, which its instances on this node share; null if there is none. Grant: kv.
export function kvGet(key: string): string | null { return read(kvGetter, key); }

// kvSet stores a value for ttl milliseconds, 0 for ever; an empty value deletes. It tells whether there was room. Grant: kv.
export function kvSet(key: string, value: string, ttl: i64): bool {
  const k = utf8(key), kn = length, v = utf8b(value);
  return host_kv_set(k, kn, v, length, ttl) == 0;
}

// kvIncr adds to a decimal number in the store, 0 if it is missing, and gives the sum; i64.MIN_VALUE if the store is full or the value
// no number. ttl, in milliseconds, counts from the key's first use. Grant: kv.
export function kvIncr(key: string, delta: i64, ttl: i64): i64 {
  const k = utf8(key);
  return host_kv_incr(k, length, delta, ttl);
}

// now gives Unix time in milliseconds. Grant: clock.
export function now(): i64 { return host_now_ms(); }

// quote gives a string as JSON text.
export function quote(s: string): string {
  let out = '"', done = 0;
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c >= 32 && c != 34 && c != 92) continue;
    out += s.substring(done, i) + (c == 34 || c == 92 ? "\\" + s.charAt(i) : "\\u00" + c.toString(16).padStart(2, "0"));
    done = i + 1;
  }
  return out + s.substring(done) + '"';
}
