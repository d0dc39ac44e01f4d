/** The settings of a plugin's block in the Caddyfile, for a test. */
export interface Options {
  /** The plugin's configuration: a value, or JSON text. Default: null. */
  config?: unknown;
  /** The grants: emit, metrics, kv, clock, tick. A module that needs another one is rejected. Default: all. */
  grants?: string[];
  /** The time that the plugin sees: Unix milliseconds, or a function. Default: 2026-01-02T03:04:05Z. */
  now?: number | Date | (() => number);
  /** The size of the key-value store in bytes. Each entry counts 64 bytes in addition to its text. Default: 1 MiB. */
  kv?: number;
  /** The largest result in bytes. Default: 1 MiB, or 8 times the input if that is more. */
  maxResult?: number;
  /** Whether results must be JSON. Default: false. */
  json?: boolean;
  /** Patterns of the groups that the plugin may join and publish to. Default: all. */
  join?: string[];
  publish?: string[];
}

/** A request to connect. */
export interface Handshake {
  path?: string;
  query?: string;
  /** Placeholders of the route's path. */
  params?: Record<string, string>;
  /** The user's profile. Default: null, an anonymous user. */
  user?: unknown;
  user_key?: string;
  user_name?: string;
  address?: string;
  /** Headers that the route grants, with names in lower case. */
  headers?: Record<string, string>;
  subprotocols?: string[];
}

/** A message to a client. data is there with binary messages and those of the function itself. */
export interface Frame {
  text: string;
  binary: boolean;
  data?: Uint8Array;
}

/** A client of a Host, which shows what the plugin did. */
export interface TestClient {
  readonly id: string;
  /** Whether the plugin accepted the connection. Otherwise status is that of HTTP, and reason is for the log. */
  readonly accepted: boolean;
  readonly status: number;
  readonly reason: string;
  /** All frames that the client got. */
  readonly frames: Frame[];
  /** What the plugin keeps with the connection. */
  readonly attachment: string;
  readonly groups: string[];
  /** How the connection ended; null while it is open. */
  readonly closed: { code: number; reason: string } | null;
  /** The last failure of a hook or of a continuation for this client. */
  readonly error: Error | null;
  /** Sends a message to the plugin. */
  text(text: string): void;
  json(value: unknown): void;
  binary(data: Uint8Array): void;
  /** Ends the connection from the client's side. */
  disconnect(code?: number, reason?: string): void;
  /** The texts of the frames that the client got since the last call. */
  received(): string[];
}

/** What the relay tells about an event. */
export interface About {
  /** The way by which the event reached the node: "layer", "peer" or "history". */
  source?: string;
  /** The place of the event in the history of its group: a token. */
  position?: string;
  /** When the emitter sent the event: Unix milliseconds. */
  sent?: number | Date;
  /** How often the event was sent from group to group: 4 is the last time. */
  hops?: number;
}

/** An event that a plugin emitted. */
export interface Emission {
  /** Empty: the event's own group. */
  group: string;
  payload: string;
  /** A bit for each of the 64 classes. */
  audience: bigint;
  /** The position that the plugin has given the event; absent if it has given none. */
  position?: string;
}

/** The result of ev_on_event, ev_on_class or ev_on_tick. */
export interface Result {
  verdict: "pass" | "drop" | "replace" | "error";
  /** The event's payload or the replacement; null if nothing is delivered. */
  payload: string | null;
  /** The audience of the event's own output. */
  audience: bigint;
  emits: Emission[];
  /** Why the call failed. The plugin's on_error setting decides about such an event. */
  error: Error | null;
}

/** The result of ev_on_subscribe. */
export interface Decision {
  verdict: "allow" | "deny" | "error";
  allow: boolean;
  /** The subscriber's class, 0 to 63; null if the plugin names none. */
  class: number | null;
  /** The reason of a denial. */
  reason: string;
  error: Error | null;
}

/**
 * Host runs a plugin's module in the relay's place: with all functions of plugin ABI 1, and with the relay's checks of
 * modules and results. It runs modules of any language that import no WASI. As in the relay, a failed call ends the
 * instance, and the next call starts a fresh one; the store and the metrics stay. Host does not count fuel and does
 * not limit memory: for these, `caddy edgerelay plugin test` runs the module in the relay's own sandbox.
 */
export class Host {
  /**
   * @param wasm the module, or the name of its file
   * @throws if the relay would reject the module, or if ev_init does
   */
  constructor(wasm: string | URL | Uint8Array | ArrayBuffer, options?: Options);

  /** Takes an event through ev_on_event. An object is sent as JSON. */
  event(group: string, payload: string | Uint8Array | object, about?: About): Result;
  /** Renders an event for a class, 0 to 63, with ev_on_class. */
  class(cls: number, group: string, payload: string | Uint8Array | object, about?: About): Result;
  /** Asks ev_on_subscribe whether a user may subscribe to a group. user is a value or JSON text. */
  subscribe(user: unknown, group: string): Decision;
  /** Runs ev_on_tick. */
  tick(): Result;
  /**
   * Runs a file of golden samples, in order, and returns their number.
   * @throws with all differences
   */
  samples(file: string | URL): number;
  /** Asks the plugin to accept a connection. */
  connect(handshake?: Handshake): TestClient;
  /** Moves the plugin's clock on. The plugin gets its alarms on the way. */
  advance(ms: number): void;
  /** Gives the responses that holdResponses held back. */
  respond(): void;
  /** Publishes a text to the clients of a group, as another process may. */
  publish(group: string, text: string): void;
  /** A value of the shared store, of a list its JSON; null if there is none. sharedSet stores one, as another node may. */
  sharedGet(key: string): string | null;
  sharedSet(key: string, value: string): void;
  /** Answers HTTP requests; without it, no server is available. A status below 0 is one of the ABI. */
  fetch: (request: { method: string; url: string; headers: Record<string, string>; body: string; once?: string }) =>
    { status?: number; body?: unknown };
  /** Makes the shared store and the alarms fail. */
  unavailable: boolean;
  /** Keeps requests unanswered until respond. */
  holdResponses: boolean;
  /** The alarms that are set, what the plugin published, and its HTTP requests. */
  readonly alarms: { name: string; payload: string; at: number; failures: number }[];
  readonly published: { group: string; type: string; payload: string; others: boolean }[];
  readonly fetched: { method: string; url: string; headers: Record<string, string>; body: string; once?: string }[];
  /** The last failure of an alarm, or of a continuation without a client. */
  readonly error: Error | null;
  /** Starts a fresh instance. The store and the metrics stay. */
  restart(): void;

  /** The time that the plugin sees; may be set. */
  now: number | Date | (() => number);
  /** The plugin's log lines, oldest first. */
  logs: { level: "debug" | "info" | "warning" | "error"; text: string }[];
  /** The plugin's counters. */
  metrics: Record<string, number>;
  /** The manifest in the module; null if it has none. */
  manifest: Record<string, unknown> | null;
  /** The value of a key in the store; null if there is none. */
  kvGet(key: string): string | null;
  /** Stores a value for ttl milliseconds; 0 means forever. Returns whether there was room. */
  kvSet(key: string, value: string, ttl?: number): boolean;
}
