// The clients, the shared store, the alarms and the servers of a test.
import { isUTF8 } from "./json.js";

const LIMIT = -1, TOO_LARGE = -2, NOT_GRANTED = -3, MALFORMED = -4, NO_CLIENT = -5;
const UNAVAILABLE = -1, INVALID = -4;
const MAX_EFFECTS = 64, MAX_REQUESTS = 16, MAX_ATTACHMENT = 16 << 10, MAX_CONTEXT = 1024;
const MAX_AUTO = 10, MAX_AUTO_SIZE = 2048, MAX_REASON = 123;
const GROUP = /^[A-Za-z0-9._-]{1,99}$/;

export const FUNCTION_HOOKS = ["ev_on_connect", "ev_on_message", "ev_on_close", "ev_on_result", "ev_on_alarm"];

export const FUNCTION_GRANTS = {
  shared_get: "shared", shared_set: "shared", shared_swap: "shared", shared_add: "shared", shared_push: "shared",
  shared_list: "shared", alarm_set: "alarms", alarm_cancel: "alarms", fetch: "fetch",
};

/** A client of a Host. */
export class TestClient {
  #functions;
  #taken = 0;

  constructor(functions, id) {
    this.#functions = functions;
    this.id = id;
    this.accepted = false;
    this.status = 503;
    this.reason = "";
    this.frames = [];
    this.attachment = "";
    this.groups = [];
    this.closed = null;
    this.error = null;
    this.left = false;
    this.noGroup = false; // a join was refused
  }

  text(text) { this.#functions.message(this, Buffer.from(text, "utf8"), false); }
  binary(data) { this.#functions.message(this, Buffer.from(data), true); }
  json(value) { this.text(JSON.stringify(value)); }
  disconnect(code = 1000, reason = "") {
    if (this.accepted && !this.closed) {
      this.#functions.end(this, code, reason);
      this.#functions.settle();
    }
  }

  received() {
    const fresh = this.frames.slice(this.#taken).map((f) => f.text);
    this.#taken = this.frames.length;
    return fresh;
  }
}

function allowed(patterns, group) {
  if (!GROUP.test(group)) return MALFORMED;
  if (patterns && !patterns.some((p) => pattern(p).test(group))) return NOT_GRANTED;
  return 0;
}

function pattern(p) {
  const parts = p.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

const string = (bytes) => Buffer.from(bytes).toString("utf8");

/** What all calls of a function share. io is the host's side: read, give, limit, time, options, call. */
export class Functions {
  #io;
  #call = null;
  #queue = [];
  #ending = [];
  #auto = new Map();
  #shared = new Map();
  #clients = [];
  #tokens = 0n;

  constructor(io) {
    this.#io = io;
    this.alarms = [];
    this.published = [];
    this.fetched = [];
    this.error = null;
    this.fetch = null;
    this.unavailable = false;
    this.holdResponses = false;
  }

  /** Prepares a call. */
  begin(hook, source, client = null, context = new Uint8Array(0)) {
    const attachment = client ? client.attachment : null;
    this.#call = { hook, source, client, context, attachment, effects: [], requests: [], sent: 0, grouped: 0 };
  }

  /** Makes the effects of a call happen, which has succeeded. */
  commit() {
    const call = this.#call;
    this.#call = null;
    if (!call) return;
    if (call.client) call.client.attachment = call.attachment;
    for (const happen of call.effects) happen();
    this.#queue.push(...call.requests);
  }

  connect(handshake) {
    const client = new TestClient(this, `client-${this.#clients.length + 1}`);
    this.#clients.push(client);
    const request = JSON.stringify({
      id: client.id, path: "", query: "", params: {}, user: null, user_key: "", user_name: "",
      address: "", headers: {},
      subprotocols: [], ...handshake,
    });
    this.#try(client, () => {
      const v = this.#io.call("ev_on_connect", client, undefined, "", Buffer.from(request), (n) => [n]);
      const at = Number(v >> 32n), n = Number(v & 0xffffffffn);
      if (v === 0n) {
        client.accepted = true;
        client.status = 0;
        this.commit();
      } else if (at !== 0) {
        client.status = 403;
        client.reason = string(this.#io.read(at, n));
      } else if (v === 1n) {
        client.status = 403;
      } else if (v >= 0x10000n + 400n && v < 0x10000n + 600n) {
        client.status = Number(v) - 0x10000;
      } else {
        throw this.#io.unknown(v);
      }
    });
    if (client.status === 503 && client.noGroup) client.status = 403;
    client.left = !client.accepted;
    this.settle();
    return client;
  }

  message(client, data, binary) {
    if (!client.accepted || client.closed) throw new Error(`${client.id} is not connected`);
    if (!binary && this.#auto.has(string(data))) {
      client.frames.push({ text: this.#auto.get(string(data)), binary });
      return;
    }
    this.#try(client, () => {
      const v = this.#io.call("ev_on_message", client, undefined, "", data, (n) => [binary ? 1 : 0, n]);
      const at = Number(v >> 32n), n = Number(v & 0xffffffffn);
      if (at === 0 && v !== 0n) throw this.#io.unknown(v);
      if (at !== 0 && this.#send(binary ? 1 : 0, this.#io.read(at, n)) !== 0) throw this.#io.failure("the reply was refused");
      this.commit();
    });
    this.settle();
  }

  end(client, code, reason) {
    client.closed = { code, reason };
    client.left = true;
    client.groups = [];
    this.#plain("ev_on_close", client, undefined, "", Buffer.from(reason), (n) => [code, n]);
  }

  /** Calls a hook without a result. It returns whether the call succeeded. */
  #plain(hook, client, context, head, data, args) {
    if (!this.#io.exports(hook)) return true;
    return this.#try(client, () => {
      const v = this.#io.call(hook, client, context, head, data, args);
      if (v !== 0n) throw this.#io.unknown(v);
      this.commit();
    });
  }

  #try(client, f) {
    try {
      f();
      return true;
    } catch (error) {
      const reason = this.#io.failed(error);
      if (client) client.error = reason;
      else this.error = reason;
      return false;
    }
  }

  /** Carries out all requests, ends connections, and so on, until nothing is left to do. */
  settle() {
    while (this.#ending.length > 0 || (this.#queue.length > 0 && !this.holdResponses)) {
      if (this.#ending.length > 0) {
        const [client, code, reason] = this.#ending.shift();
        this.end(client, code, reason);
        continue;
      }
      const r = this.#queue.shift();
      const [status, body] = this.#serve(r);
      if (r.context.length > 0) {
        const args = (n) => [r.token, status, n];
        this.#plain("ev_on_result", r.client, r.context, "", Buffer.from(body, "utf8"), args);
      }
    }
  }

  /** Calls the plugin for the alarms that are due, in the order of their times, and sets the clock to each. */
  advance(ms) {
    const until = this.#io.time() + ms;
    for (;;) {
      const due = this.alarms.filter((a) => a.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.alarms.splice(this.alarms.indexOf(due), 1);
      if (due.at > this.#io.time()) this.#io.setTime(due.at);
      const name = Buffer.byteLength(due.name);
      const args = (n) => [name, n];
      const done = this.#plain("ev_on_alarm", null, undefined, due.name, Buffer.from(due.payload, "utf8"), args);
      if (!done && !this.alarms.some((a) => a.name === due.name)) {
        this.alarms.push({ ...due, at: this.#io.time() + 1000, failures: due.failures + 1 });
      }
      this.settle();
    }
    this.#io.setTime(until);
  }

  publish(group, text) {
    for (const c of this.#clients) if (c.groups.includes(group)) c.frames.push({ text, binary: false });
  }

  sharedGet(key) {
    const entry = this.#live(key);
    return entry ? entry.list ? JSON.stringify(entry.list) : entry.value : null;
  }

  sharedSet(key, value) { this.#shared.set(key, { value, expires: null }); }

  #live(key) {
    const entry = this.#shared.get(key);
    if (entry && entry.expires !== null && this.#io.time() >= entry.expires) this.#shared.delete(key);
    return this.#shared.get(key);
  }

  #serve(r) {
    if (r.op === "fetch") {
      let request;
      try {
        request = { ...JSON.parse(r.key), body: r.value };
      } catch {
        return [INVALID, ""];
      }
      this.fetched.push(request);
      if (!this.fetch) return [UNAVAILABLE, ""];
      const { status = 200, body = "" } = this.fetch(request);
      return [status, typeof body === "string" ? body : JSON.stringify(body)];
    }
    if (this.unavailable) return [UNAVAILABLE, ""];
    if (r.op === "alarm_set" || r.op === "alarm_cancel") {
      const before = this.alarms.length;
      this.alarms = this.alarms.filter((a) => a.name !== r.key);
      if (r.op === "alarm_set") this.alarms.push({ name: r.key, payload: r.value, at: r.at, failures: 0 });
      return [r.op === "alarm_cancel" && this.alarms.length === before ? 1 : 0, ""];
    }
    return this.#serveShared(r);
  }

  #serveShared(r) {
    const entry = this.#live(r.key), ofList = r.op === "shared_push" || r.op === "shared_list";
    if (entry && r.op !== "shared_set" && !!entry.list !== ofList) return [INVALID, ""];
    const expires = r.ttl ? this.#io.time() + r.ttl : null;
    switch (r.op) {
      case "shared_get":
        return entry ? [0, entry.value] : [1, ""];
      case "shared_swap":
        if ((entry?.value ?? "") !== r.expected) return [2, entry?.value ?? ""];
      // falls through
      case "shared_set":
        if (r.value === "") this.#shared.delete(r.key);
        else this.#shared.set(r.key, { value: r.value, expires });
        return [0, ""];
      case "shared_add": {
        const old = entry?.value ?? "0";
        if (!/^[+-]?[0-9]+$/.test(old)) return [INVALID, ""];
        const value = BigInt.asIntN(64, BigInt(old.replace("+", "")) + r.delta).toString();
        this.#shared.set(r.key, { value, expires: entry ? entry.expires : expires });
        return [0, value];
      }
      case "shared_push": {
        const list = [...(entry?.list ?? []), r.value];
        this.#shared.set(r.key, { list: list.slice(Math.max(0, list.length - r.limit)), expires });
        return [0, ""];
      }
      default: {
        const list = entry?.list ?? [];
        return [0, JSON.stringify(list.slice(Math.max(0, list.length - r.limit)))];
      }
    }
  }

  #present() { return this.#call?.client && !this.#call.client.left; }
  #replaying() { return this.#call?.source === "history"; }

  #send(kind, payload) {
    if (!this.#present()) return NO_CLIENT;
    if (this.#call.sent >= MAX_EFFECTS) return LIMIT;
    if (payload.length > this.#io.limit()) return TOO_LARGE;
    if (kind === 0 && !isUTF8(payload)) return MALFORMED;
    this.#call.sent++;
    const { client, effects } = this.#call;
    const frame = { text: string(payload), binary: kind === 1, data: Buffer.from(payload) };
    effects.push(() => client.frames.push(frame));
    return 0;
  }

  #group(name, join) {
    if (!this.#present()) return NO_CLIENT;
    const code = allowed(this.#io.options().join, name);
    if (code !== 0) {
      if (join) this.#call.client.noGroup = true;
      return code;
    }
    if (++this.#call.grouped > MAX_EFFECTS) return LIMIT;
    const { client, effects } = this.#call;
    effects.push(() => {
      client.groups = client.groups.filter((g) => g !== name);
      if (join) client.groups.push(name);
    });
    return 0;
  }

  #publish(group, type, payload, flags) {
    const code = allowed(this.#io.options().publish, group);
    if (code !== 0) return code;
    const { client, effects, hook } = this.#call;
    if (hook === "ev_init" || hook === "ev_on_class" || this.#replaying()) return NO_CLIENT;
    if (payload.length > this.#io.limit()) return TOO_LARGE;
    if (!isUTF8(payload)) return MALFORMED;
    const text = string(payload), others = (flags & 1) !== 0;
    if (type !== "" && !isObject(text)) return MALFORMED;
    effects.push(() => {
      this.published.push({ group, type, payload: text, others });
      for (const c of this.#clients) {
        if (type === "" && c.groups.includes(group) && !(others && c === client)) c.frames.push({ text, binary: false });
      }
    });
    return 0;
  }

  #close(code, reason) {
    if (!this.#present()) return NO_CLIENT;
    const valid = [1000, 1008, 1011, 1013].includes(code) || (code >= 3000 && code <= 4999);
    if (!valid || reason.length > MAX_REASON) return MALFORMED;
    const { client, effects } = this.#call;
    effects.push(() => {
      if (client.closed) return;
      client.closed = { code, reason: string(reason) };
      this.#ending.push([client, code, string(reason)]);
    });
    return 0;
  }

  #ask(op, parts, context) {
    if (context.length > MAX_CONTEXT) return BigInt(TOO_LARGE);
    if (this.#replaying()) return BigInt(NO_CLIENT);
    const { client, hook, requests } = this.#call;
    if (hook === "ev_init" || hook === "ev_on_class") return BigInt(MALFORMED);
    if (requests.length >= MAX_REQUESTS) return BigInt(LIMIT);
    const token = ++this.#tokens;
    requests.push({ op, ...parts, client, context: Buffer.from(context), token });
    return token;
  }

  /** The functions of module ev1. */
  imports() {
    const { read, give } = this.#io;
    const text = (p, n) => string(read(p, n));
    return {
      connection_id: (p, cap) => (this.#call?.client ? give(p, cap, Buffer.from(this.#call.client.id)) : -1),
      attachment_get: (p, cap) => (this.#call?.client ? give(p, cap, Buffer.from(this.#call.attachment)) : 0),
      attachment_set: (p, n) => {
        if (!this.#present()) return NO_CLIENT;
        if (n >>> 0 > MAX_ATTACHMENT) return TOO_LARGE;
        this.#call.attachment = text(p, n);
        return 0;
      },
      send: (kind, p, n) => this.#send(kind, read(p, n)),
      join: (p, n) => this.#group(text(p, n), true),
      leave: (p, n) => this.#group(text(p, n), false),
      publish: (g, gn, t, tn, p, n, flags) => this.#publish(text(g, gn), text(t, tn), read(p, n), flags),
      close: (code, p, n) => this.#close(code, read(p, n)),
      auto_response: (q, qn, p, n) => {
        if (this.#call?.hook !== "ev_init") return MALFORMED;
        if (this.#auto.size >= MAX_AUTO && !this.#auto.has(text(q, qn))) return LIMIT;
        if (qn > MAX_AUTO_SIZE || n > MAX_AUTO_SIZE) return TOO_LARGE;
        this.#auto.set(text(q, qn), text(p, n));
        return 0;
      },
      result_context: (p, cap) => give(p, cap, this.#call?.context ?? new Uint8Array(0)),
      shared_get: (k, kn, c, cn) => this.#ask("shared_get", { key: text(k, kn) }, read(c, cn)),
      shared_set: (k, kn, p, n, ttl, c, cn) =>
        this.#ask("shared_set", { key: text(k, kn), value: text(p, n), ttl: Number(ttl) }, read(c, cn)),
      shared_swap: (k, kn, e, en, p, n, ttl, c, cn) => {
        const parts = { key: text(k, kn), expected: text(e, en), value: text(p, n), ttl: Number(ttl) };
        return this.#ask("shared_swap", parts, read(c, cn));
      },
      shared_add: (k, kn, delta, ttl, c, cn) =>
        this.#ask("shared_add", { key: text(k, kn), delta, ttl: Number(ttl) }, read(c, cn)),
      shared_push: (k, kn, p, n, limit, ttl, c, cn) =>
        this.#ask("shared_push", { key: text(k, kn), value: text(p, n), limit, ttl: Number(ttl) }, read(c, cn)),
      shared_list: (k, kn, limit, c, cn) => this.#ask("shared_list", { key: text(k, kn), limit }, read(c, cn)),
      alarm_set: (k, kn, p, n, at, c, cn) => {
        const time = at < 10n ** 12n ? this.#io.time() + Number(at) : Number(at);
        return this.#ask("alarm_set", { key: text(k, kn), value: text(p, n), at: time }, read(c, cn));
      },
      alarm_cancel: (k, kn, c, cn) => this.#ask("alarm_cancel", { key: text(k, kn) }, read(c, cn)),
      fetch: (r, rn, p, n, c, cn) => this.#ask("fetch", { key: text(r, rn), value: text(p, n) }, read(c, cn)),
    };
  }
}

function isObject(text) {
  try {
    return text.trimStart().startsWith("{") && JSON.parse(text) !== null;
  } catch {
    return false;
  }
}
