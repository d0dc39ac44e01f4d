import type { Backoff } from "./backoff.js";
import type { Door } from "./doors.js";
import type { Environment } from "./environment.js";
import type { Happenings } from "./happenings.js";
import type { Frame, Groups } from "./protocol.js";

/** Settings of the search for a door that works. */
export interface OpeningOptions {
  /**
   * Whether to offer the subprotocol with positions. Default: true. Without it nothing is recovered, and a server that
   * is known not to speak it is spared an attempt. Event streams and polls need it.
   */
  positions?: boolean;
  /** Milliseconds within which the server must greet, or answer a subscription. Default: 15 000. */
  patience?: number;
  /**
   * Milliseconds without a greeting after which the next door is tried, too. Default: 1500. A WebSocket that has worked
   * gets half of `patience`, since the server may be busy.
   */
  hurry?: number;
}

/** Settings of a connection; all may be left out. */
export interface ConnectionOptions extends OpeningOptions {
  /** Address of the relay. Default: `/websocket/` on the page's own host. A program without a page needs it. */
  url?: string;
  /** The ways to the server that may be used. Default: all. The best that works is used. */
  doors?: readonly Door[];
  /**
   * The token to prove with that this page may subscribe. Default: the cookie `csrftoken`. Asked for at each
   * connection.
   */
  token?: () => string;
  backoff?: Backoff;
  /** Milliseconds after which better doors are tried again, doubling up to fifteen minutes. Default: 60 000. */
  comeback?: number;
  /** Milliseconds that a connection must stand for earlier failures to be forgotten. Default: 10 000. */
  stable?: number;
  /**
   * Milliseconds without a frame after which a page that is visible, or becomes it, or is online again, asks whether
   * the server is still there; while it is visible, up to half as much later, at random. Default: 30 000.
   */
  quiet?: number;
}

/** Settings of a client; all may be left out. */
export interface Options extends ConnectionOptions {
  /** What to subscribe to at first. */
  groups?: Groups;
  /** How many of the latest events of each of these groups to get at first. Default: 0. */
  latest?: number;
  /**
   * How many of the last events of each group to keep for subscriptions that come later and ask for the latest.
   * Default: 0.
   */
  keep?: number;
  /**
   * What the client takes from its surroundings, for tests and for Node: `{ WebSocket }` of the package `ws` in Node
   * before 22, or a class of yours that sends a cookie.
   */
  environment?: Partial<Environment>;
}

/** What a connection tells its client. */
export interface Owner {
  state(happening: Happenings<never>["state"]): void;
  alive(happening: Happenings<never>["alive"]): void;
  door(happening: Happenings<never>["door"]): void;
  /** A frame has come; `accepted` and `close` have taken effect. */
  frame(frame: Frame): void;
  /** The line is gone: what the server knew of it, too. */
  lost(): void;
  /** Another line is used from now on. `asked`: it was sent `message()` already. */
  moved(asked: boolean): void;
  /** The whole subscription, for a line that knows nothing of it. */
  message(): object;
  /** Asks the server for an answer, by the same subscription again. */
  probe(): void;
  /** Whether another line can bring all that this one would have brought. */
  resumable(): boolean;
  /** Whether events of a replay are due. */
  owed(): boolean;
}
