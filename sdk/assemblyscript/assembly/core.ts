// The hooks of events, and the functions of all plugins.

import { Edits } from "./edits";

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
@external("ev1", "emit_at") declare function host_emit_at(
  g: usize, gn: i32, p: usize, n: i32, mask: u64, at: usize, atn: i32): i32;
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
// @ts-ignore: decorator
@external("ev1", "event_source") declare function host_event_source(p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "event_sent_ms") declare function host_event_sent_ms(): i64;
// @ts-ignore: decorator
@external("ev1", "event_position") declare function host_event_position(p: usize, cap: i32): i32;

// Verdicts of ev_on_event and ev_on_class; see also replace and fail.
export const PASS: u64 = 0; // the event passes unchanged; also the result of ev_on_tick
export const DROP: u64 = 1; // the event is dropped, or dropped for this class

// Answers of ev_on_subscribe; see also allowAs and denyBecause.
export const ALLOW: u64 = 0;
export const DENY: u64 = 1;

// allowAs allows the subscription and puts the subscriber into an audience class: there are 64, 0 to 63.
export function allowAs(cls: u32): u64 { return 0x100 + cls; }

// denyBecause denies the subscription with a reason for the user.
export function denyBecause(reason: string): u64 { return replace(reason); }

// Levels of log lines.
export const DEBUG = 0, INFO = 1, WARN = 2, ERROR = 3;

// EVERYBODY is the audience of all classes.
export const EVERYBODY: u64 = u64.MAX_VALUE;

export let input = new ArrayBuffer(4096); // which the host writes to
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

// replaceBytes is like replace, for text in UTF-8.
export function replaceBytes(text: ArrayBuffer): u64 {
  kept = text;
  return keep();
}

export function keep(): u64 { return (<u64>changetype<usize>(kept)) << 32 | <u64>kept.byteLength; }

// fail logs the reason of a failure. The plugin's on_error setting then decides.
export function fail(why: string): u64 {
  log(ERROR, why);
  return 2;
}

// Short texts go to the host through fixed memory, without garbage, longer texts through a new buffer.
const SMALL = 1024;
const small = memory.data(SMALL), second = memory.data(SMALL), scratch = memory.data(4096);
let long1 = new ArrayBuffer(0), long2 = new ArrayBuffer(0);
export let length = 0; // of the last text that utf8 or utf8b wrote

export function utf8(s: string): usize {
  if (s.length * 3 <= SMALL) {
    length = <i32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, small);
    return small;
  }
  long1 = String.UTF8.encode(s);
  length = long1.byteLength;
  return changetype<usize>(long1);
}

export function utf8b(s: string): usize {
  if (s.length * 3 <= SMALL) {
    length = <i32>String.UTF8.encodeUnsafe(changetype<usize>(s), s.length, second);
    return second;
  }
  long2 = String.UTF8.encode(s);
  length = long2.byteLength;
  return changetype<usize>(long2);
}

export type Getter = (k: usize, kn: i32, p: usize, cap: i32) => i32;

// read returns a value of any length; null if there is none.
export function read(get: Getter, key: string): string | null {
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
function sourceGetter(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_event_source(p, cap); }
function positionGetter(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_event_position(p, cap); }
function kvGetter(k: usize, kn: i32, p: usize, cap: i32): i32 { return host_kv_get(k, kn, p, cap); }

// number returns the value of a decimal integer; otherwise for any other text.
function number(s: string | null, otherwise: i64): i64 {
  if (s === null) return otherwise;
  const negative = s.startsWith("-"), sign = negative ? 1 : 0;
  const most = <u64>i64.MAX_VALUE + sign;
  if (s.length == sign || s.length > 20) return otherwise;
  let u: u64 = 0;
  for (let i = sign; i < s.length; i++) {
    const digit = <u64>s.charCodeAt(i) - 48;
    if (digit > 9 || u > (most - digit) / 10) return otherwise;
    u = u * 10 + digit;
  }
  return negative ? -<i64>u : <i64>u;
}

// Document is a JSON text that the host searches. A path consists of member names and array positions, joined by
// dots: event_data.res.0.stdout. A backslash escapes a dot or a backslash. If a member occurs twice, the first
// occurrence counts.
export class Document {
  // text returns the value at path: a string decoded, any other value as JSON text; null if there is none.
  text(path: string): string | null { return read(jsonGet, path); }

  // is returns whether text(path) equals want. This is the fastest way to filter.
  is(path: string, want: string): bool {
    const w = utf8b(want), wn = length;
    if (wn > 4096) return this.text(path) == want;
    const p = utf8(path);
    return host_json_get(p, length, scratch, 4096) == wn && memory.compare(scratch, w, wn) == 0;
  }

  // int returns the integer at path, which may also be a string of digits; otherwise if there is none.
  int(path: string, otherwise: i64): i64 { return number(this.text(path), otherwise); }

  // has returns whether there is a value at path, including null.
  has(path: string): bool {
    const p = utf8(path);
    return host_json_find(p, length) >= 0;
  }

  // raw returns the JSON text of the value at path, quotes included; null if there is none.
  raw(path: string): string | null {
    const p = utf8(path), at = host_json_find(p, length);
    const begin = changetype<usize>(input) + this.start + <usize>(at >> 32);
    return at < 0 ? null : String.UTF8.decodeUnsafe(begin, <usize><u32>at);
  }

  start: usize = 0;
}

// Event is an event on its way to the subscribers of a group, valid until the hook returns.
//
// Edits change the payload by path: set, setString, remove and rename work one after the other, each on the result of
// the edits before it, and edited returns the verdict. All bytes that they do not name stay as they are. The methods
// that read the event still read the payload as it arrived.
//
//     e.remove("event_data.res.stdout");
//     e.set("seen", "true");
//     return e.edited();
export class Event extends Document {
  size: usize = 0;
  private editing: bool = false;
  private changed: bool = false;

  // read returns the event of a hook's call.
  static read(group: u32, payload: u32): Event {
    event.start = group;
    event.size = payload;
    event.editing = event.changed = false;
    return event;
  }

  // set replaces the value at path by a JSON text, or appends a new member to an object that lacks just this member.
  // An array gets no new element. set returns false, and changes nothing, if there is no such place or if json is not
  // one JSON value.
  set(path: string, json: string): bool { return this.done(this.edits().set(path, json)); }

  // setString is like set, with a text that becomes a JSON string.
  setString(path: string, text: string): bool { return this.done(this.edits().setString(path, text)); }

  // remove removes the member or array element at path, and its comma. It returns whether there was one.
  remove(path: string): bool { return this.done(this.edits().remove(path)); }

  // rename gives the member at path another name and keeps its value. It returns false if there is no such member, or
  // if the object has a member of that name already.
  rename(path: string, name: string): bool { return this.done(this.edits().rename(path, name)); }

  // edited returns the verdict after edits: the edited payload, or PASS if no edit changed anything.
  edited(): u64 { return this.changed ? (<u64>edits.address) << 32 | <u64>edits.length : PASS; }

  // editedPayload is the payload after the edits so far.
  get editedPayload(): string { return this.editing ? edits.text : this.payload; }

  private edits(): Edits {
    if (!this.editing) edits.load(changetype<usize>(input) + this.start, this.size);
    this.editing = true;
    return edits;
  }

  private done(edited: bool): bool {
    if (edited) this.changed = true;
    return edited;
  }

  // source is the way by which the event reached the node: layer, peer, or history for an event that clients have
  // missed and get now, see isReplay; null if there is none.
  get source(): string | null { return read(sourceGetter, ""); }

  // isReplay tells that the event is of the history, for clients that have missed it. The plugin may have seen the event
  // before, and sees it again for each client: a plugin with state lets it pass, and leaves the state as it is. Events
  // that the plugin emits to other groups are dropped.
  get isReplay(): bool {
    const n = host_event_source(scratch, 4096);
    return n == 7 && load<u32>(scratch) == 0x74736968 && load<u32>(scratch, 3) == 0x79726f74; // "history"
  }

  // position is the place of the event in the history of its group, a token; null if the group has none. See also
  // emitAt.
  get position(): string | null { return read(positionGetter, ""); }

  // sent is the Unix time in milliseconds at which the emitter sent the event; -1 if it is not known.
  get sent(): i64 { return host_event_sent_ms(); }

  // group is the group's name, such as job_events-42.
  get group(): string { return String.UTF8.decodeUnsafe(changetype<usize>(input), this.start); }

  // payload is the whole text. The methods text and is cost much less.
  get payload(): string { return String.UTF8.decodeUnsafe(changetype<usize>(input) + this.start, this.size); }

  // insert returns a replacement of the payload, a JSON object, with more members at its end. members is the JSON
  // text of these members, such as "seen":true. A payload that is not an object passes unchanged.
  insert(members: string): u64 {
    const p = changetype<usize>(input) + this.start;
    let start: usize = 0, end = this.size;
    while (end > 0 && space(load<u8>(p + end - 1))) end--;
    while (start < end && space(load<u8>(p + start))) start++;
    if (members.length == 0 || end < start + 2 || load<u8>(p + start) != 123 || load<u8>(p + end - 1) != 125)
      return PASS;
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

// Request is a user's request to subscribe: text("group") returns the group, and text("user.…") the authorizer's
// information about the user.
export class Request extends Document {
  // read returns the request of a call of ev_on_subscribe.
  static read(size: u32): Request { return request; }
}

const edits = new Edits();
const event = new Event();
const request = new Request();

function space(c: u8): bool { return c == 32 || c == 10 || c == 9 || c == 13; }

// log writes a line to the relay's log, at a bounded rate. Text beyond 4 KiB is cut.
export function log(level: i32, text: string): void {
  const p = utf8(text);
  host_log(level, p, length);
}

// config returns the plugin's configuration as JSON text, "null" without a configuration.
export function config(): string {
  const b = new ArrayBuffer(host_config(scratch, 0));
  host_config(changetype<usize>(b), b.byteLength);
  return String.UTF8.decode(b);
}

// configText returns the value at path in the configuration, like Document.text; null if there is none.
export function configText(path: string): string | null { return read(configGet, path); }

// configInt returns the integer at path in the configuration, or otherwise if there is none.
export function configInt(path: string, otherwise: i64): i64 {
  return number(configText(path), otherwise);
}

// configList returns the array at path in the configuration, each element like configText; empty if there is none.
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

// emit sends another event to group, or to the event's own group if group is "". The new event follows the event at
// hand, and only if the hook succeeds. emit returns 0 or an error: -1 more than 16 events in a call, -2 too long, -3
// sent from group to group too often, -4 invalid group name. Grant: emit.
export function emit(group: string, payload: string, mask: u64 = u64.MAX_VALUE): i32 {
  const g = utf8(group), gn = length, p = utf8b(payload);
  return host_emit(g, gn, p, length, mask);
}

// emitAt is like emit, for an event that the plugin has held back: position is the position of that event, of the same
// group, or of the last one if the new event stands for several. Clients resume from there. An event of a tick without
// a position makes a gap in the history of its group. A further error is -5, not a position.
export function emitAt(group: string, payload: string, position: string, mask: u64 = u64.MAX_VALUE): i32 {
  const at = String.UTF8.encode(position);
  const g = utf8(group), gn = length, p = utf8b(payload);
  return host_emit_at(g, gn, p, length, mask, changetype<usize>(at), at.byteLength);
}

// count adds to a counter of the plugin's metrics, and returns whether the host accepted the name and delta. Names are
// [a-z_][a-z0-9_]*. Grant: metrics.
export function count(name: string, delta: i64): bool {
  const p = utf8(name);
  return host_metric_add(p, length, delta) == 0;
}

// kvGet reads from the plugin's store, which all instances on this node share; null if there is no value. Grant: kv.
export function kvGet(key: string): string | null { return read(kvGetter, key); }

// kvSet stores a value for ttl milliseconds; 0 means forever. An empty value deletes the key. kvSet returns whether
// there was room. Grant: kv.
export function kvSet(key: string, value: string, ttl: i64): bool {
  const k = utf8(key), kn = length, v = utf8b(value);
  return host_kv_set(k, kn, v, length, ttl) == 0;
}

// kvIncr adds to a decimal number in the store, 0 if the key is missing, and returns the sum. ttl, in milliseconds,
// counts from the key's first use. kvIncr returns i64.MIN_VALUE if the store is full or the value is not a number.
// Grant: kv.
export function kvIncr(key: string, delta: i64, ttl: i64): i64 {
  const k = utf8(key);
  return host_kv_incr(k, length, delta, ttl);
}

// now returns Unix time in milliseconds. Grant: clock.
export function now(): i64 { return host_now_ms(); }

// quote returns a string as JSON text.
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
