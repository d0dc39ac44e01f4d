// Functions: plugins that answer clients. A chat:
//
//     import { onConnect, onMessage } from "edgerelay";
//     export * from "edgerelay/function";
//
//     onConnect((c) => {
//       c.setAttachment("chat-" + c.param("room"));
//       return c.join("chat-" + c.param("room"));
//     });
//     onMessage((c, m) => c.publish(c.attachment, m.toString()));
//
// Handlers return OK, the result of an effect, or fail(why). Effects happen in order, after the handler has succeeded; those
// of a handler that fails do not happen. An effect that the host refuses is logged, and its result is a failure.

import { Document, ERROR, WARN, fail, input, log, replace } from "./core";
import { Response } from "./service";
import { textAt } from "./edits";

// @ts-ignore: decorator
@external("ev1", "connection_id") declare function host_connection_id(p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "attachment_get") declare function host_attachment_get(p: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("ev1", "attachment_set") declare function host_attachment_set(p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "send") declare function host_send(kind: i32, p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "join") declare function host_join(p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "leave") declare function host_leave(p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "publish") declare function host_publish(
  g: usize, gn: i32, t: usize, tn: i32, p: usize, n: i32, flags: i32): i32;
// @ts-ignore: decorator
@external("ev1", "close") declare function host_close(code: i32, p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "auto_response") declare function host_auto_response(q: usize, qn: i32, p: usize, n: i32): i32;
// @ts-ignore: decorator
@external("ev1", "result_context") declare function host_result_context(p: usize, cap: i32): i32;

// OK is the result of a handler that has succeeded; ACCEPT is the same, of a connection.
export const OK: u64 = 0;
export const ACCEPT: u64 = 0;

// REJECT rejects a connection with the HTTP status 403.
export const REJECT: u64 = 1;

// GONE is the result of an effect on a client that has left. A handler that returns it has not failed.
export const GONE: u64 = 3;

// rejectWith rejects a connection with an HTTP status, 400 to 599.
export function rejectWith(status: i32): u64 { return 0x10000 + <u64>status; }

// rejectBecause rejects a connection with the HTTP status 403, and logs the reason.
export function rejectBecause(reason: string): u64 { return replace(reason); }

const UTF8 = "not UTF-8", GROUP = "not a group name; use 1 to 99 of A-Z a-z 0-9 - _ .";
const CODE = "use the code 1000, 1008, 1011, 1013 or 3000 to 4999, and a reason of at most 123 bytes";

// effect returns the result of an effect, and logs a refusal. malformed is what -4 means.
export function effect(what: string, code: i32, malformed: string): u64 {
  if (code >= 0) return OK;
  if (code == -5) return GONE;
  let why = malformed;
  if (code == -1) why = "too many in one call, or in flight";
  if (code == -2) why = "too large";
  if (code == -3) why = "not granted; add the group to the plugin's join or publish patterns";
  return fail(what + ": " + why);
}

function pointer(b: ArrayBuffer): usize { return changetype<usize>(b); }

function publishTo(group: string, kind: string, text: string, flags: i32): u64 {
  const g = String.UTF8.encode(group), t = String.UTF8.encode(kind), p = String.UTF8.encode(text);
  const code = host_publish(pointer(g), g.byteLength, pointer(t), t.byteLength, pointer(p), p.byteLength, flags);
  return forgiven(effect("publish " + group, code, GROUP)); // of a replay
}

// publish sends a text to all clients of a group on all nodes. The group must be among the patterns of the plugin's setting
// publish. Every hook may publish.
export function publish(group: string, text: string): u64 { return publishTo(group, "", text, 0); }

// publishMessage sends a message to all consumers of a group on all nodes, such as those of Django Channels: kind is the
// message's type, and members is a JSON object with its other members, see object.
export function publishMessage(group: string, kind: string, members: string): u64 {
  return publishTo(group, kind, members, 0);
}

// autoResponse makes the relay answer text messages that equal request, such as a heartbeat, without a call of the plugin.
// It has an effect in onInit only, for at most 10 pairs of 2,048 bytes each.
export function autoResponse(request: string, response: string): u64 {
  const q = String.UTF8.encode(request), p = String.UTF8.encode(response);
  const code = host_auto_response(pointer(q), q.byteLength, pointer(p), p.byteLength);
  return effect("auto response", code, "only in onInit");
}

// Client is the connection that the handler at hand is about. Its id and attachment stay the same from call to call, while
// the plugin's variables may be those of another instance.
export class Client {
  // id is the connection's id; "" without a client. It is known after the client has left, too.
  get id(): string {
    const b = new ArrayBuffer(64), n = host_connection_id(pointer(b), b.byteLength);
    return n > 0 ? String.UTF8.decodeUnsafe(pointer(b), n) : "";
  }

  // present is whether the call is about a client. There is none in a continuation of a request that an event, a tick or an
  // alarm made. The continuation of a client that has left still knows its attachment, and other effects on it return GONE.
  get present(): bool { return host_connection_id(0, 0) >= 0; }

  // attachment is the text that setAttachment stored, "" before.
  get attachment(): string {
    const n = host_attachment_get(0, 0);
    if (n <= 0) return "";
    const b = new ArrayBuffer(n);
    host_attachment_get(pointer(b), n);
    return String.UTF8.decode(b);
  }

  // attachmentText returns the value at path in an attachment that is JSON, such as one of object; "" if there is none.
  attachmentText(path: string): string {
    const s = textAt(this.attachment, path);
    return s === null ? "" : s;
  }

  // setAttachment keeps a text of at most 16 KiB with the connection. The next calls for this client read it.
  setAttachment(text: string): u64 {
    const b = String.UTF8.encode(text);
    return effect("attachment", host_attachment_set(pointer(b), b.byteLength), UTF8);
  }

  // send sends a text frame to the client, at most 64 of them in a call.
  send(text: string): u64 {
    const b = String.UTF8.encode(text);
    return effect("send", host_send(0, pointer(b), b.byteLength), UTF8);
  }

  // sendBinary sends a binary frame to the client.
  sendBinary(data: ArrayBuffer): u64 { return effect("send", host_send(1, pointer(data), data.byteLength), UTF8); }

  // join subscribes the client to a group, which must be among the patterns of the plugin's setting join.
  join(group: string): u64 {
    const b = String.UTF8.encode(group);
    return effect("join " + group, host_join(pointer(b), b.byteLength), GROUP);
  }

  // leave ends a subscription of the client.
  leave(group: string): u64 {
    const b = String.UTF8.encode(group);
    return effect("leave " + group, host_leave(pointer(b), b.byteLength), GROUP);
  }

  // publish is like the function publish.
  publish(group: string, text: string): u64 { return publishTo(group, "", text, 0); }

  // publishOthers is like publish, for all clients of the group but this one.
  publishOthers(group: string, text: string): u64 { return publishTo(group, "", text, 1); }

  // close closes the connection. code is 1000, 1008, 1011, 1013 or 3000 to 4999. reason has at most 123 bytes.
  close(code: i32, reason: string): u64 {
    const b = String.UTF8.encode(reason);
    return effect("close", host_close(code, pointer(b), b.byteLength), CODE);
  }
}

const client = new Client();

// Connect is a request to connect: text reads id, path, query, params, user, user_key, user_name, address, headers and
// subprotocols.
// What is sent, joined or attached here holds if the connection is accepted.
export class Connect extends Document {
  get path(): string { return this.value("path"); }

  // param returns a placeholder of the route's path: "room" of "/ws/game/{room}/".
  param(name: string): string { return this.value("params." + escaped(name)); }

  // user returns a member of the user's profile, such as "username"; "" for anonymous users.
  user(path: string): string { return this.value("user." + path); }

  // userName is the user's name, as the authorizer of the route tells it; "" for anonymous users.
  get userName(): string { return this.value("user_name"); }

  // header returns a header that the route grants. The name is case-insensitive.
  header(name: string): string { return this.value("headers." + escaped(name.toLowerCase())); }

  // query returns the first value of a parameter of the query string, decoded.
  query(name: string): string {
    const pairs = this.value("query").split("&");
    for (let i = 0; i < pairs.length; i++) {
      const pair = pairs[i], equals = pair.indexOf("=");
      const key = equals < 0 ? pair : pair.substring(0, equals);
      if (decodeQuery(key) == name) return equals < 0 ? "" : decodeQuery(pair.substring(equals + 1));
    }
    return "";
  }

  get client(): Client { return client; }
  get id(): string { return client.id; }
  get attachment(): string { return client.attachment; }
  setAttachment(text: string): u64 { return client.setAttachment(text); }
  send(text: string): u64 { return client.send(text); }
  sendBinary(data: ArrayBuffer): u64 { return client.sendBinary(data); }
  join(group: string): u64 { return client.join(group); }
  leave(group: string): u64 { return client.leave(group); }
  publish(group: string, text: string): u64 { return client.publish(group, text); }
  publishOthers(group: string, text: string): u64 { return client.publishOthers(group, text); }
  close(code: i32, reason: string): u64 { return client.close(code, reason); }

  private value(path: string): string {
    const s = this.text(path);
    return s === null ? "" : s;
  }
}

// escaped makes a name an element of a path.
function escaped(name: string): string { return name.replaceAll("\\", "\\\\").replaceAll(".", "\\."); }

// decodeQuery decodes a part of a query string. A percent sign without two hexadecimal digits stands for itself.
function decodeQuery(s: string): string {
  const b = Uint8Array.wrap(String.UTF8.encode(s));
  let n = 0;
  for (let i = 0; i < b.length; i++) {
    let c = b[i];
    if (c == 43) c = 32;
    if (c == 37 && i + 2 < b.length && hex(b[i + 1]) >= 0 && hex(b[i + 2]) >= 0) {
      c = <u8>(hex(b[i + 1]) << 4 | hex(b[i + 2]));
      i += 2;
    }
    b[n++] = c;
  }
  return String.UTF8.decodeUnsafe(b.dataStart, n);
}

function hex(c: u8): i32 {
  const l = c | 32;
  return c >= 48 && c <= 57 ? c - 48 : l >= 97 && l <= 102 ? l - 87 : -1;
}

// Message is a message of a client. It is valid until the handler returns. The methods of Document read JSON.
export class Message extends Document {
  size: usize = 0;

  // binary is whether the message is binary, not text.
  binary: bool = false;

  // toString returns the whole message.
  toString(): string { return String.UTF8.decodeUnsafe(pointer(input), this.size); }

  // bytes is a copy of the whole message.
  get bytes(): ArrayBuffer { return input.slice(0, <i32>this.size); }

  // reply sends a text back to the client, after the frames of send. It is the fastest way to answer, and the result of the
  // handler: return m.reply("pong").
  reply(text: string): u64 { return replace(text); }
}

// Closing is the end of a connection.
export class Closing {
  constructor(
    // code is that of the close frame; 1006 without one.
    public code: i32,
    public reason: string,
  ) {}
}

// Alarm is an alarm that is due. It comes at least once: if the handler fails, or its node, it comes again. The methods of
// Document read a payload that is JSON.
export class Alarm extends Document {
  constructor(public name: string, private size: u32) { super(); }

  // toString returns the payload.
  toString(): string { return String.UTF8.decodeUnsafe(pointer(input) + this.start, this.size); }
}

const setups: (() => u64)[] = [];
let connectHandler: ((c: Connect) => u64) | null = null;
let messageHandler: ((c: Client, m: Message) => u64) | null = null;
let closeHandler: ((c: Client, e: Closing) => u64) | null = null;
let alarmHandler: ((a: Alarm) => u64) | null = null;
const results = new Map<string, (c: Client, r: Response) => u64>();

// onInit registers a setup, which runs before any other handler. fail(why) rejects the plugin.
export function onInit(setup: () => u64): void { setups.push(setup); }

// onConnect registers the handler of new connections. It returns ACCEPT, the result of an effect, REJECT, rejectWith(status),
// rejectBecause(why) or fail(why). Without a handler, the function accepts all that the route lets in.
export function onConnect(handler: (c: Connect) => u64): void { connectHandler = handler; }

// onMessage registers the handler of clients' messages.
export function onMessage(handler: (c: Client, m: Message) => u64): void { messageHandler = handler; }

// onClose registers the handler of clients that are gone.
export function onClose(handler: (c: Client, e: Closing) => u64): void { closeHandler = handler; }

// onResult registers the handler of responses to requests that are made with then(name, context).
export function onResult(name: string, handler: (c: Client, r: Response) => u64): void { results.set(name, handler); }

// onAlarm registers the handler of alarms. After a failure, the alarm comes again.
export function onAlarm(handler: (a: Alarm) => u64): void { alarmHandler = handler; }

// forgiven makes the result of a handler that of a hook: that a client has left is no failure.
export function forgiven(result: u64): u64 { return result == GONE ? OK : result; }

const connect = new Connect();
const message = new Message();

export function ev_init(): i32 {
  for (let i = 0; i < setups.length; i++) {
    const result = setups[i]();
    if (result != OK) return 1;
  }
  return 0;
}

export function ev_on_connect(size: u32): u64 {
  const handler = connectHandler;
  return handler === null ? ACCEPT : handler(connect);
}

export function ev_on_message(kind: u32, size: u32): u64 {
  const handler = messageHandler;
  if (handler === null) return OK;
  message.size = size;
  message.binary = kind == 1;
  return forgiven(handler(client, message));
}

export function ev_on_close(code: u32, size: u32): u64 {
  const handler = closeHandler;
  if (handler === null) return OK;
  return forgiven(handler(client, new Closing(code, String.UTF8.decodeUnsafe(pointer(input), size))));
}

export function ev_on_result(token: u64, status: i32, size: u32): u64 {
  const b = new ArrayBuffer(1024), n = host_result_context(pointer(b), b.byteLength);
  let end = 0;
  while (end < n && load<u8>(pointer(b) + end) != 0) end++;
  if (n > 1024 || end >= n) return OK;
  const name = String.UTF8.decodeUnsafe(pointer(b), end);
  if (!results.has(name)) return fail("a response is for the continuation \"" + name + "\", which is not registered");
  const context = String.UTF8.decodeUnsafe(pointer(b) + end + 1, n - end - 1);
  return forgiven(results.get(name)(client, new Response(status, context, size)));
}

export function ev_on_alarm(name: u32, payload: u32): u64 {
  const handler = alarmHandler;
  if (handler === null) return OK;
  const alarm = new Alarm(String.UTF8.decodeUnsafe(pointer(input), name), payload);
  alarm.start = name;
  return forgiven(handler(alarm));
}
