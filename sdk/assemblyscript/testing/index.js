// A relay for unit tests: Host runs a plugin's module with all functions of plugin ABI 1, and with the relay's checks.
import { readFileSync } from "node:fs";
import { find, isJSON, isUTF8, parts, sameJSON, text } from "./json.js";
import { FUNCTION_GRANTS, FUNCTION_HOOKS, Functions } from "./function.js";
import { deferStart, runStart } from "./module.js";

const ALL = 0xffffffffffffffffn;
const MIN = -(2n ** 63n);
const GRANT_OF = {
  emit: "emit", emit_at: "emit", metric_add: "metrics", kv_get: "kv", kv_set: "kv", kv_incr: "kv", now_ms: "clock",
  ...FUNCTION_GRANTS,
};
const HOOKS = ["ev_on_event", "ev_on_subscribe", "ev_on_class", "ev_on_tick", ...FUNCTION_HOOKS];
const LEVELS = ["debug", "info", "warning", "error"];
const NAME = /^[A-Za-z0-9._-]{1,99}$/;
const BUFFER = 4096;
// 128 bits in 22 characters, the last of which ends with four bits 0, or 144 bits in 24, of which the last 16 are not 0.
const POSITION = /^(?!A*$|.{21}[AQgw]AA$)[A-Za-z0-9_-]{21}([AQgw]|[A-Za-z0-9_-]{3})$/;

/** A failed call: the plugin's on_error setting would decide. */
class Failure extends Error {
  /** @param {boolean} intact whether the instance keeps running */
  constructor(message, intact = false) {
    super(message);
    this.intact = intact;
  }
}

export class Host {
  #module;
  #instance = null;
  #options;
  #store = new Map();
  #call = null;
  #buffer = 0;
  #capacity = 0;
  #functions;

  constructor(wasm, options = {}) {
    const bytes = typeof wasm === "string" || wasm instanceof URL ? readFileSync(wasm) : wasm;
    this.#module = new WebAssembly.Module(deferStart(bytes));
    this.#options = { kv: 1 << 20, json: false, ...options };
    this.now = options.now ?? Date.UTC(2026, 0, 2, 3, 4, 5);
    this.logs = [];
    this.metrics = {};
    this.#functions = new Functions({
      read: (p, n) => this.#read(p, n),
      give: (p, cap, value) => this.#give(p, cap, value),
      limit: () => this.#limit(),
      time: () => this.#time(),
      setTime: (t) => { this.now = t; },
      options: () => this.#options,
      exports: (hook) => WebAssembly.Module.exports(this.#module).some((e) => e.name === hook),
      failure: (message) => new Failure(message, true),
      failed: (error) => this.#failed(error),
      unknown: (v) => this.#unknown(v),
      call: (hook, client, context, head, data, args) => {
        if (!this.#instance) this.restart();
        if (hook === "ev_on_connect" && !this.#instance.exports[hook]) {
          this.#functions.begin(hook, "", client, context);
          return 0n;
        }
        return this.#hook(hook, head, data, { client, context }, null, args(data.length));
      },
    });
    const [manifest] = WebAssembly.Module.customSections(this.#module, "edgerelay.manifest");
    this.manifest = manifest ? JSON.parse(Buffer.from(manifest).toString("utf8")) : null;
    this.#check();
    this.restart();
  }

  /** Rejects modules that the relay rejects. */
  #check() {
    const exported = WebAssembly.Module.exports(this.#module).map((e) => e.name);
    for (const name of ["memory", "ev_abi_version", "ev_buffer"]) {
      if (!exported.includes(name)) throw new Error(`the module does not export ${name}; export it from the SDK`);
    }
    if (!HOOKS.some((name) => exported.includes(name))) {
      throw new Error(`the module exports no hook; export one of ${HOOKS.join(", ")}`);
    }
    const known = this.#imports();
    const granted = this.#options.grants;
    for (const { module, name } of WebAssembly.Module.imports(this.#module)) {
      if (module !== "ev1" || !(name in known)) {
        let remedy = "";
        if (module === "env") remedy = "; build with --use abort=";
        if (module.startsWith("wasi")) remedy = "; Host runs modules without WASI only";
        throw new Error(`the module imports ${module}.${name}, which the host does not have${remedy}`);
      }
      const grant = GRANT_OF[name];
      if (granted && grant && !granted.includes(grant)) {
        throw new Error(`the module imports ${name} without the grant ${grant}`);
      }
    }
    if (granted && exported.includes("ev_on_tick") && !granted.includes("tick")) {
      throw new Error("the module exports ev_on_tick without the grant tick");
    }
    for (const grant of (granted && this.manifest?.grants) ?? []) {
      if (!granted.includes(grant)) throw new Error(`the module's manifest asks for the grant ${grant}`);
    }
  }

  /** Starts a fresh instance, as the relay does after a failure and for other groups. The store and metrics stay. */
  restart() {
    this.#instance = null;
    const instance = new WebAssembly.Instance(this.#module, { ev1: this.#imports() });
    this.#call = { document: new Uint8Array(0), group: "", effects: null };
    this.memory = instance.exports.memory;
    runStart(instance);
    instance.exports._initialize?.();
    this.#functions.begin("ev_init", "");
    const version = instance.exports.ev_abi_version();
    if (version !== 1) throw new Error(`the module is built for plugin ABI ${version}, this host serves 1`);
    const code = instance.exports.ev_init ? instance.exports.ev_init() : 0;
    if (code !== 0) throw new Error(`ev_init returned ${code}: ${this.#lastLine()}`);
    this.#instance = instance;
    this.#capacity = 0;
    this.#grow(BUFFER);
  }

  #grow(need) {
    let size = BUFFER;
    while (size < need) size *= 2;
    let at = this.#instance.exports.ev_buffer(size) >>> 0;
    if (at === 0 && size > need) at = this.#instance.exports.ev_buffer((size = need)) >>> 0;
    if (at === 0) throw new Failure(`the module refuses an input buffer of ${size} bytes`, true);
    this.#read(at, size);
    this.#buffer = at;
    this.#capacity = size;
  }

  event(group, payload, about = {}) {
    return this.#run("ev_on_event", group, bytes(payload), about, { emits: [], audience: ALL, group, tick: false });
  }

  class(cls, group, payload, about = {}) {
    if (!(cls >= 0 && cls <= 63)) throw new RangeError(`class ${cls}; classes are 0 to 63`);
    return this.#run("ev_on_class", group, bytes(payload), about, null, cls);
  }

  tick() {
    return this.#run("ev_on_tick", "", new Uint8Array(0), {}, { emits: [], audience: ALL, group: "", tick: true });
  }

  #run(hook, group, payload, about, effects, cls) {
    const result = { verdict: "error", payload: null, audience: ALL, emits: [], error: null };
    try {
      const args = hook === "ev_on_tick" ? [] : [Buffer.byteLength(group), payload.length];
      if (cls !== undefined) args.unshift(cls);
      const v = this.#hook(hook, group, payload, about, effects, args);
      this.#decode(v, hook, payload, result);
      if (effects) Object.assign(result, { emits: effects.emits, audience: effects.audience });
      this.#functions.commit();
    } catch (error) {
      result.error = this.#failed(error);
    }
    this.#functions.settle();
    return result;
  }

  #decode(v, hook, payload, result) {
    const at = Number(v >> 32n), n = Number(v & 0xffffffffn);
    if (v === 2n) throw new Failure(`the plugin reported an error: ${this.#lastLine()}`);
    if (hook === "ev_on_tick" ? v !== 0n : v > 2n && at === 0) {
      throw new Failure(`ABI 1 does not define the result 0x${v.toString(16)}`);
    }
    result.verdict = v === 0n ? "pass" : v === 1n ? "drop" : "replace";
    if (v === 0n && hook !== "ev_on_tick") result.payload = decode(payload);
    if (at !== 0) result.payload = this.#payload("the result", at, n);
  }

  #payload(what, at, n) {
    const limit = this.#limit();
    if (n > limit) throw new Failure(`${what} has ${n} bytes, more than max_result (${limit})`, true);
    const out = this.#read(at, n);
    if (!isUTF8(out)) throw new Failure(`${what} is not UTF-8`);
    const string = decode(out);
    if (this.#options.json && !isJSON(string)) {
      throw new Failure(`${what} is not JSON, which the plugin's settings require`);
    }
    return string;
  }

  subscribe(user, group) {
    const text = typeof user === "string" ? user : JSON.stringify(user ?? null);
    const request = bytes(`{"user":${text},"group":${JSON.stringify(group)}}`);
    const decision = { verdict: "error", allow: false, class: null, reason: "", error: null };
    try {
      const v = this.#hook("ev_on_subscribe", "", request, {}, null, [request.length]);
      const at = Number(v >> 32n), n = Number(v & 0xffffffffn);
      if (v === 2n) throw new Failure(`the plugin reported an error: ${this.#lastLine()}`);
      if (at !== 0) decision.reason = decode(this.#read(at, n).subarray(0, 512));
      else if (v === 0n) decision.allow = true;
      else if (v >= 0x100n && v <= 0x13fn) Object.assign(decision, { allow: true, class: Number(v) - 0x100 });
      else if (v !== 1n) throw new Failure(`ABI 1 does not define the result 0x${v.toString(16)}`);
      decision.verdict = decision.allow ? "allow" : "deny";
      this.#functions.commit();
    } catch (error) {
      decision.error = this.#failed(error);
    }
    this.#functions.settle();
    return decision;
  }

  #hook(name, group, document, about, effects, args) {
    if (!this.#instance) this.restart();
    const hook = this.#instance.exports[name];
    if (!hook) throw new Failure(`the plugin does not export ${name}`, true);
    const prefix = bytes(group);
    const need = prefix.length + document.length;
    if (need > this.#capacity) this.#grow(need);
    const buffer = this.#read(this.#buffer, need);
    buffer.set(prefix);
    buffer.set(document, prefix.length);
    const { hops = 0, source = "", sent = null, position = "", client = null, context } = about;
    this.#functions.begin(name, source, client, context);
    this.#call = { document: document.slice(), group, effects, hops, input: need, source, sent, position };
    try {
      return BigInt.asUintN(64, hook(...args));
    } finally {
      this.#call.effects = null;
    }
  }

  /** The failure that a result stands for. */
  #unknown(v) {
    if (v === 2n) return new Failure(`the plugin reported an error: ${this.#lastLine()}`, true);
    return new Failure(`ABI 1 does not define the result 0x${v.toString(16)}`);
  }

  connect(handshake = {}) { return this.#functions.connect(handshake); }
  advance(ms) { this.#functions.advance(ms); }
  respond() {
    const held = this.#functions.holdResponses;
    this.#functions.holdResponses = false;
    this.#functions.settle();
    this.#functions.holdResponses = held;
  }
  publish(group, text) { this.#functions.publish(group, text); }
  sharedGet(name) { return this.#functions.sharedGet(name); }
  sharedSet(name, value) { this.#functions.sharedSet(name, value); }
  get alarms() { return this.#functions.alarms; }
  get published() { return this.#functions.published; }
  get fetched() { return this.#functions.fetched; }
  get error() { return this.#functions.error; }
  set fetch(f) { this.#functions.fetch = f; }
  set unavailable(yes) { this.#functions.unavailable = yes; }
  set holdResponses(yes) { this.#functions.holdResponses = yes; }

  /** Discards the instance after a failure, like the relay, and returns the reason. */
  #failed(error) {
    const engine = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
    if (!(error instanceof Failure) && !engine) throw error; // a fault of the test
    if (!error.intact) this.#instance = null;
    return error;
  }

  #lastLine() { return this.logs.at(-1)?.text ?? "it logged nothing"; }
  #limit() { return this.#options.maxResult ?? Math.max(1 << 20, 8 * this.#call.input); }

  /** A view of the plugin's memory. */
  #read(p, n) {
    p >>>= 0;
    n >>>= 0;
    const memory = this.memory.buffer;
    if (p + n > memory.byteLength) {
      throw new Failure(`the plugin passed ${p} + ${n}, which lies outside its memory of ${memory.byteLength} bytes`);
    }
    return new Uint8Array(memory, p, n);
  }

  /** Copies a text to the plugin if there is room for it, and returns its length. */
  #give(p, cap, value) {
    if (value.length <= cap >>> 0) this.#read(p, value.length).set(value);
    return value.length;
  }

  #value(document, path, n, p, cap) {
    const range = find(document, this.#read(path, n));
    return range ? this.#give(p, cap, text(document.subarray(...range))) : -1;
  }

  #config() {
    const { config } = this.#options;
    return bytes(typeof config === "string" ? config : JSON.stringify(config ?? null));
  }

  #imports() {
    return {
      ...this.#functions.imports(),
      log: (level, p, n) => {
        const line = this.#read(p, n).subarray(0, 4096);
        this.logs.push({ level: LEVELS[Math.min(level >>> 0, 3)], text: decode(line) });
      },
      config: (p, cap) => this.#give(p, cap, this.#config()),
      config_get: (path, n, p, cap) => this.#value(this.#config(), path, n, p, cap),
      json_get: (path, n, p, cap) => this.#value(this.#call.document, path, n, p, cap),
      json_find: (path, n) => {
        const range = find(this.#call.document, this.#read(path, n));
        return range ? (BigInt(range[0]) << 32n) | BigInt(range[1] - range[0]) : -1n;
      },
      audience: (mask) => {
        const { effects } = this.#call;
        if (effects && !effects.tick) effects.audience &= BigInt.asUintN(64, mask);
      },
      emit: (g, gn, p, n, mask) => this.#emit(this.#read(g, gn), this.#read(p, n), BigInt.asUintN(64, mask), ""),
      emit_at: (g, gn, p, n, mask, at, atn) => {
        const position = decode(this.#read(at, atn));
        if (position !== "" && !POSITION.test(position)) return -5;
        return this.#emit(this.#read(g, gn), this.#read(p, n), BigInt.asUintN(64, mask), position);
      },
      metric_add: (p, n, delta) => {
        const name = decode(this.#read(p, n));
        if (delta < 0n || !/^[a-z_][a-z0-9_]{0,63}$/.test(name)) return -1;
        if (!(name in this.metrics) && Object.keys(this.metrics).length >= 32) return -2;
        this.metrics[name] = (this.metrics[name] ?? 0) + Number(delta);
        return 0;
      },
      kv_get: (k, kn, p, cap) => {
        const entry = this.#entry(key(this.#read(k, kn)));
        return entry ? this.#give(p, cap, entry.value) : -1;
      },
      kv_set: (k, kn, p, n, ttl) => {
        const value = this.#read(p, n).slice();
        return this.#put(key(this.#read(k, kn)), value, this.#expiry(ttl)) ? 0 : -1;
      },
      kv_incr: (k, kn, delta, ttl) => {
        const name = key(this.#read(k, kn));
        const old = this.#entry(name);
        const digits = old ? decode(old.value) : "0";
        if (!/^[+-]?[0-9]+$/.test(digits)) return MIN;
        const number = BigInt(digits.replace("+", ""));
        if (number !== BigInt.asIntN(64, number)) return MIN;
        const sum = BigInt.asIntN(64, number + delta);
        return this.#put(name, bytes(sum.toString()), old ? old.expires : this.#expiry(ttl)) ? sum : MIN;
      },
      now_ms: () => BigInt(this.#time()),
      event_source: (p, cap) => (this.#call.source ? this.#give(p, cap, bytes(this.#call.source)) : -1),
      event_sent_ms: () => (this.#call.sent === null ? -1n : BigInt(Number(this.#call.sent))),
      event_position: (p, cap) => (this.#call.position ? this.#give(p, cap, bytes(this.#call.position)) : -1),
    };
  }

  #emit(groupBytes, payload, audience, position) {
    const { effects, hops } = this.#call;
    if (!effects) return 0;
    const group = decode(groupBytes);
    const other = groupBytes.length > 0 && (effects.tick || group !== effects.group);
    if (effects.tick && groupBytes.length === 0) return -4;
    if (effects.emits.length >= 16) return -1;
    if (payload.length > this.#limit()) return -2;
    if (other && hops >= 4) return -3;
    if ((other && !NAME.test(group)) || !isUTF8(payload)) return -4;
    effects.emits.push({ group: other ? group : "", payload: decode(payload), audience, ...(position && { position }) });
    return 0;
  }

  #time() { return Math.trunc(Number(typeof this.now === "function" ? this.now() : this.now)); }

  #expiry(ttl) {
    const ms = BigInt.asUintN(64, ttl);
    return ms === 0n || ms > (2n ** 63n - 1n) / 1000000n ? null : this.#time() + Number(ms);
  }

  #entry(name) {
    const entry = this.#store.get(name);
    if (entry && entry.expires !== null && this.#time() >= entry.expires) {
      this.#store.delete(name);
      return undefined;
    }
    return entry;
  }

  #put(name, value, expires) {
    if (value.length === 0) {
      this.#store.delete(name);
      return true;
    }
    let size = name.length + value.length + 64;
    for (const other of [...this.#store.keys()]) {
      const entry = other === name ? undefined : this.#entry(other);
      if (entry) size += other.length + entry.value.length + 64;
    }
    if (size > this.#options.kv) return false;
    this.#store.set(name, { value, expires });
    return true;
  }

  kvGet(name) {
    const entry = this.#entry(key(bytes(name)));
    return entry ? decode(entry.value) : null;
  }

  kvSet(name, value, ttl = 0) { return this.#put(key(bytes(name)), bytes(value), this.#expiry(BigInt(ttl))); }

  samples(file) {
    const faults = [];
    let line = 0, tried = 0;
    for (const row of readFileSync(file, "utf8").replace(/^\ufeff/, "").split("\n")) {
      line++;
      if (row.trim() === "") continue;
      tried++;
      try {
        this.#sample(row);
      } catch (error) {
        if (!(error instanceof SampleError)) throw error;
        faults.push(`${file}:${line}: ${error.message}`);
      }
    }
    if (tried === 0) faults.push(`${file} contains no sample`);
    if (faults.length > 0) throw new Error(faults.join("\n"));
    return tried;
  }

  #sample(row) {
    const s = sampleOf(row);
    if (s.clock !== undefined) this.now = s.clock;
    const about = { source: s.source ?? "", sent: s.sent ?? null, position: s.position ?? "" };
    switch (s.hook) {
      case "on_event":
        return compare(s, this.event(s.group, s.payload, about));
      case "on_class":
        return compare(s, this.class(s.class, s.group, s.payload, about));
      case "on_tick":
        return compare(s, this.tick());
      case "on_subscribe":
        return compare(s, this.subscribe(s.user ?? "null", s.group));
      default:
        throw new SampleError(`unknown hook ${s.hook}; use one of on_event, on_subscribe, on_class, on_tick`);
    }
  }
}

function bytes(value) {
  if (value instanceof Uint8Array) return value;
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value), "utf8");
}

function decode(value) { return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("utf8"); }
function key(value) { return Buffer.from(value).toString("latin1"); }

class SampleError extends Error {}

const MEMBERS = {
  hook: JSON.parse, group: JSON.parse, text: JSON.parse, class: JSON.parse, source: JSON.parse, verdict: JSON.parse,
  position: JSON.parse,
  output_text: JSON.parse, want_class: JSON.parse, reason: JSON.parse,
  payload: String, data: String, user: String, output: String,
  sent: time, clock: time, at: time, audience: mask, emits,
};

/** Reads a line of a file of samples. A line without the members of a sample is a payload itself. */
function sampleOf(row) {
  let members;
  try {
    members = parts(row);
  } catch (error) {
    throw new SampleError(error.message);
  }
  if (!members || !["payload", "text", "data", "hook", "user"].some((name) => members.has(name))) {
    if (members?.has("verdict")) throw new SampleError("a sample without input; add payload, text, user or hook");
    return { hook: "on_event", group: "", payload: row };
  }
  const s = { group: "" };
  for (const [name, value] of members) {
    if (!(name in MEMBERS)) {
      throw new SampleError(`unknown member "${name}" of a sample; use some of ${Object.keys(MEMBERS).join(", ")}`);
    }
    try {
      s[name] = MEMBERS[name](value);
    } catch (error) {
      throw new SampleError(`${name}: ${error.message}`);
    }
  }
  s.payload = s.text ?? s.payload ?? s.data;
  s.clock ??= s.at;
  if (s.class !== undefined) s.hook ??= "on_class";
  if (s.user !== undefined && s.payload === undefined) s.hook ??= "on_subscribe";
  s.hook ??= "on_event";
  return s;
}

function emits(value) {
  const list = parts(value);
  if (!list || !value.startsWith("[")) throw new Error("use a list of objects");
  return [...list.values()].map((element) => {
    const m = parts(element);
    if (!m) throw new Error("use a list of objects");
    const unknown = [...m.keys()].find((name) => !["group", "payload", "text", "audience", "position"].includes(name));
    if (unknown !== undefined) throw new Error(`unknown member "${unknown}"`);
    return {
      group: JSON.parse(m.get("group") ?? '""'),
      payload: m.get("payload"),
      text: m.has("text") ? JSON.parse(m.get("text")) : undefined,
      audience: m.has("audience") ? mask(m.get("audience")) : undefined,
      position: m.has("position") ? JSON.parse(m.get("position")) : undefined,
    };
  });
}

function time(value) {
  const t = value.startsWith('"') ? Date.parse(JSON.parse(value)) : Number(value);
  if (Number.isNaN(t)) {
    throw new Error(`invalid time ${value}; use RFC 3339, such as "2026-01-02T15:04:05Z", or Unix milliseconds`);
  }
  return Math.trunc(t);
}

function mask(value) {
  const digits = value.replaceAll('"', "");
  return digits === "-1" ? ALL : BigInt(digits);
}

/** Compares the result of a call with a sample. */
function compare(s, got) {
  const fault = (what, have, want) => {
    throw new SampleError(`${what} ${have}, want ${want}`);
  };
  if (s.verdict !== undefined ? s.verdict !== got.verdict : got.error) {
    fault("verdict", `${got.verdict}${got.error ? ` (${got.error.message})` : ""}`, s.verdict ?? "no error");
  }
  if (s.output !== undefined && !sameJSON(s.output, got.payload ?? "")) fault("output", got.payload, s.output);
  if (s.output_text !== undefined && s.output_text !== got.payload) fault("output", got.payload, s.output_text);
  if (s.audience !== undefined && s.audience !== got.audience) fault("audience", got.audience, s.audience);
  if (s.want_class !== undefined && s.want_class !== (got.class ?? 0)) fault("class", got.class, s.want_class);
  if (s.reason !== undefined && !(got.error ? got.error.message.includes(s.reason) : got.reason === s.reason)) {
    fault("reason", got.error?.message ?? got.reason, s.reason);
  }
  if (s.emits === undefined) return;
  if (s.emits.length !== got.emits.length) fault("number of emitted events", got.emits.length, s.emits.length);
  s.emits.forEach((want, i) => {
    const e = got.emits[i];
    if (e.group !== (want.group === s.group ? "" : want.group)) {
      fault(`emitted event ${i + 1} goes to`, e.group, want.group);
    }
    if (want.payload !== undefined && !sameJSON(want.payload, e.payload)) {
      fault(`emitted event ${i + 1}`, e.payload, want.payload);
    }
    if (want.text !== undefined && want.text !== e.payload) fault(`emitted event ${i + 1}`, e.payload, want.text);
    if (want.audience !== undefined && want.audience !== e.audience) {
      fault(`audience of emitted event ${i + 1}`, e.audience, want.audience);
    }
    if (want.position !== undefined && want.position !== (e.position ?? "")) {
      fault(`position of emitted event ${i + 1}`, e.position, want.position);
    }
  });
}
