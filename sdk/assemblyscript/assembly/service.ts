// Requests of plugins, and the responses.

import { Document, input, quote } from "./core";
import { effect, forgiven } from "./function";
import { textAt } from "./edits";
export { textAt };

// @ts-ignore: decorator
@external("ev1", "shared_get") declare function host_shared_get(k: usize, kn: i32, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "shared_set") declare function host_shared_set(
  k: usize, kn: i32, p: usize, n: i32, ttl: i64, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "shared_swap") declare function host_shared_swap(
  k: usize, kn: i32, e: usize, en: i32, p: usize, n: i32, ttl: i64, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "shared_add") declare function host_shared_add(
  k: usize, kn: i32, delta: i64, ttl: i64, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "shared_push") declare function host_shared_push(
  k: usize, kn: i32, p: usize, n: i32, limit: i32, ttl: i64, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "shared_list") declare function host_shared_list(k: usize, kn: i32, limit: i32, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "alarm_set") declare function host_alarm_set(
  k: usize, kn: i32, p: usize, n: i32, at: i64, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "alarm_cancel") declare function host_alarm_cancel(k: usize, kn: i32, c: usize, cn: i32): i64;
// @ts-ignore: decorator
@external("ev1", "fetch") declare function host_fetch(r: usize, rn: i32, p: usize, n: i32, c: usize, cn: i32): i64;

function pointer(b: ArrayBuffer): usize { return changetype<usize>(b); }

// Then names the function that gets the response to a request. Functions have no closures over a request, because another
// instance of the plugin may get the response, even one of a newer version.
export class Then {
  constructor(public name: string, public context: string) {}
}

// then returns a continuation: name is that of onResult, and context is a text that its handler gets back, such as one of
// object. Both together have at most 1,023 bytes. A request without a continuation needs no answer.
export function then(name: string, context: string = ""): Then { return new Then(name, context); }

// wire returns the context of a request as it travels: the name, a zero byte, and the context.
function wire(t: Then | null): ArrayBuffer {
  return t === null ? new ArrayBuffer(0) : String.UTF8.encode(t.name + "\0" + t.context);
}

// requested returns the result of a request. Requests of a replay are not made, which is no failure.
function requested(what: string, token: i64): u64 {
  return forgiven(effect(what, token < 0 ? <i32>token : 0, "malformed"));
}

// shared is the plugin's store that all nodes share. Requests begin after the handler has succeeded. Those of one client,
// and those for events of one group, take effect in order. Times to live are in milliseconds; 0 means forever. Grant: shared.
export namespace shared {
  // get reads a value. Response.missing tells that there is none.
  export function get(key: string, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), c = wire(next);
    return requested("shared get", host_shared_get(pointer(k), k.byteLength, pointer(c), c.byteLength));
  }

  // set stores a value. An empty value deletes the key.
  export function set(key: string, value: string, ttl: i64 = 0, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), p = String.UTF8.encode(value), c = wire(next);
    return requested("shared set", host_shared_set(
      pointer(k), k.byteLength, pointer(p), p.byteLength, ttl, pointer(c), c.byteLength));
  }

  // remove deletes a key.
  export function remove(key: string, next: Then | null = null): u64 { return set(key, "", 0, next); }

  // swap stores a value if the present one is expected; "" means that there is none. Otherwise the response is a conflict
  // and holds the present value.
  export function swap(key: string, expected: string, value: string, ttl: i64 = 0, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), e = String.UTF8.encode(expected), p = String.UTF8.encode(value), c = wire(next);
    return requested("shared swap", host_shared_swap(
      pointer(k), k.byteLength, pointer(e), e.byteLength, pointer(p), p.byteLength, ttl, pointer(c), c.byteLength));
  }

  // add adds to a decimal number, 0 if the key is missing. The response is the sum, see Response.number. ttl counts from the
  // key's first use.
  export function add(key: string, delta: i64, ttl: i64 = 0, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), c = wire(next);
    return requested("shared add", host_shared_add(pointer(k), k.byteLength, delta, ttl, pointer(c), c.byteLength));
  }

  // push appends a value to a list, of which the last limit elements stay.
  export function push(key: string, value: string, limit: i32, ttl: i64 = 0, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), p = String.UTF8.encode(value), c = wire(next);
    return requested("shared push", host_shared_push(
      pointer(k), k.byteLength, pointer(p), p.byteLength, limit, ttl, pointer(c), c.byteLength));
  }

  // list reads the last limit elements of a list, oldest first, see Response.list.
  export function list(key: string, limit: i32, next: Then | null = null): u64 {
    const k = String.UTF8.encode(key), c = wire(next);
    return requested("shared list", host_shared_list(pointer(k), k.byteLength, limit, pointer(c), c.byteLength));
  }
}

// alarms are calls of the plugin at a time, on one of the nodes, also after the client has left or a node has failed. An
// alarm replaces an earlier one of the same name. Grant: alarms.
export namespace alarms {
  // after sets an alarm that is due in some milliseconds.
  export function after(name: string, payload: string, ms: i64, next: Then | null = null): u64 {
    return at(name, payload, ms, next);
  }

  // at sets an alarm for a Unix time in milliseconds.
  export function at(name: string, payload: string, unixMS: i64, next: Then | null = null): u64 {
    const k = String.UTF8.encode(name), p = String.UTF8.encode(payload), c = wire(next);
    return requested("alarm", host_alarm_set(
      pointer(k), k.byteLength, pointer(p), p.byteLength, unixMS, pointer(c), c.byteLength));
  }

  // cancel cancels an alarm.
  export function cancel(name: string, next: Then | null = null): u64 {
    const k = String.UTF8.encode(name), c = wire(next);
    return requested("alarm cancel", host_alarm_cancel(pointer(k), k.byteLength, pointer(c), c.byteLength));
  }
}

// HTTPRequest is a request to a server.
export class HTTPRequest {
  method: string = ""; // empty: GET, or POST with a body
  header: string[] = []; // names and values in turn
  body: string = "";
  // once tells what the request is about, such as "job 7 failed": of all nodes on which the plugin makes equal requests, one
  // makes it. For the others, the status is CONFLICT.
  once: string = "";

  constructor(public url: string) {}
}

// fetch makes an HTTP request. The response's status is that of HTTP, or below 0. Grant: fetch.
export function fetch(r: HTTPRequest, next: Then | null = null): u64 {
  const method = r.method.length ? r.method : r.body.length ? "POST" : "GET";
  const json = "{\"method\":" + quote(method) + ",\"url\":" + quote(r.url) + ",\"headers\":" + object(r.header)
    + (r.once.length ? ",\"once\":" + quote(r.once) : "") + "}";
  const q = String.UTF8.encode(json), p = String.UTF8.encode(r.body), c = wire(next);
  return requested("fetch " + r.url, host_fetch(
    pointer(q), q.byteLength, pointer(p), p.byteLength, pointer(c), c.byteLength));
}

// postJSON posts a JSON text. Grant: fetch.
export function postJSON(url: string, body: string, next: Then | null = null): u64 {
  const r = new HTTPRequest(url);
  r.method = "POST";
  r.header = ["Content-Type", "application/json"];
  r.body = body;
  return fetch(r, next);
}

// Statuses of responses. The others are those of HTTP.
export const STATUS_OK = 0;
export const STATUS_NONE = 1; // there is no such key or alarm
export const STATUS_CONFLICT = 2; // of swap: the value is another one, which is the body
export const STATUS_UNAVAILABLE = -1; // the store or the server did not answer in time; the effect is unknown
export const STATUS_TOO_LARGE = -2; // the value, the store or the response is beyond its bound
export const STATUS_DENIED = -3; // the grant does not allow it
export const STATUS_INVALID = -4; // the request, or a value in the store, has the wrong form
export const STATUS_BUSY = -5; // too many requests are in flight, or the rate is exceeded

// Response is the response to a request. The methods of Document read a body that is JSON.
export class Response extends Document {
  constructor(public status: i32, public context: string, private size: u32) { super(); }

  // ok is success: the status 0, or 200 to 299 of HTTP.
  get ok(): bool { return this.status == STATUS_OK || this.status >= 200 && this.status < 300; }

  // missing is whether there is no such key or alarm.
  get missing(): bool { return this.status == STATUS_NONE; }

  // conflict is whether the store holds another value than the expected one, see shared.swap.
  get conflict(): bool { return this.status == STATUS_CONFLICT; }

  // toString returns the body.
  toString(): string { return String.UTF8.decodeUnsafe(pointer(input), this.size); }

  // number is the body as an integer, and 0 if it is none.
  get number(): i64 { return this.int("", 0); }

  // list is the elements of a body that is a JSON array, strings decoded.
  get list(): string[] {
    const list: string[] = [];
    let s = this.text("0");
    while (s !== null) {
      list.push(s);
      s = this.text(list.length.toString());
    }
    return list;
  }

  // error is the reason if the status is below 0, or an error of HTTP; otherwise "".
  get error(): string {
    if (this.status >= 0 && this.status < 400) return "";
    if (this.status == STATUS_UNAVAILABLE) return "unavailable";
    if (this.status == STATUS_TOO_LARGE) return "too large";
    if (this.status == STATUS_DENIED) return "not granted";
    if (this.status == STATUS_INVALID) return "invalid";
    if (this.status == STATUS_BUSY) return "too many requests";
    return "HTTP status " + this.status.toString();
  }
}

// object returns a JSON object of strings: object(["from", name, "text", text]).
export function object(namesAndValues: string[]): string {
  let out = "{";
  for (let i = 0; i + 1 < namesAndValues.length; i += 2) {
    if (i > 0) out += ",";
    out += quote(namesAndValues[i]) + ":" + quote(namesAndValues[i + 1]);
  }
  return out + "}";
}
