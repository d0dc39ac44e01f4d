import { pause, type Backoff } from "./backoff.js";
import type { Environment } from "./environment.js";
import type { Happenings, State } from "./happenings.js";
import { cookie, PROTOCOL, read, type Frame } from "./protocol.js";

/** Settings of a connection; all may be left out. */
export interface ConnectionOptions {
  /** Address of the websocket. Default: `/websocket/` on the page's own host. */
  url?: string;
  /**
   * Whether to offer the subprotocol with positions. Default: true. Without it nothing is recovered, and a server that
   * is known not to speak it is spared an attempt.
   */
  positions?: boolean;
  /**
   * The token to prove with that this page may subscribe. Default: the cookie `csrftoken`. Asked for at each
   * connection.
   */
  token?: () => string;
  backoff?: Backoff;
  /** Milliseconds within which the server must greet, or answer a subscription. Default: 15 000. */
  patience?: number;
  /** Milliseconds that a connection must stand for earlier failures to be forgotten. Default: 10 000. */
  stable?: number;
  /**
   * Milliseconds without a frame after which a page that is visible, or becomes it, or is online again, asks whether
   * the server is still there; while it is visible, up to half as much later, at random. Default: 30 000.
   */
  quiet?: number;
}

/** What a connection tells its client. */
export interface Owner {
  state(happening: Happenings<never>["state"]): void;
  alive(happening: Happenings<never>["alive"]): void;
  /** A frame has come; `accepted` and `close` have taken effect. */
  frame(frame: Frame): void;
  /** The socket is gone: what the server knew of it, too. */
  lost(): void;
  /** Asks the server for an answer, by the same subscription again. */
  probe(): void;
  /** Whether another socket can bring all that this one would have brought. */
  resumable(): boolean;
}

const OPEN = 1; // WebSocket.OPEN, where there may be no such global
/** Milliseconds for which a server that does not know the subprotocol is not offered it again. */
const PLAIN = 600_000;
/** How often in a row a server that knew the subprotocol must seem to know it no more. */
const DOUBTS = 3;

/** A connection that opens a new socket whenever one is lost, and notices that the server has fallen silent. */
export class Connection {
  state: State = "closed";
  /** This socket speaks the subprotocol. */
  typed = false;
  /** When the last frame came. */
  heard = 0;

  #options: ConnectionOptions;
  #env: Environment;
  #owner: Owner;
  #url: string;
  #socket: WebSocket | null = null;
  #greeted = false; // on this socket
  #loggedOut = false; // the server said so on this socket
  #token = ""; // the one that this socket's handshake had
  #failures = 0;
  #retry: unknown; // timer until the next attempt
  #watch: unknown; // timer for an answer that is due
  #settle: unknown; // timer until the connection counts as stable
  #look: unknown; // timer until the next look whether the server has been heard
  #late = false; // the owner was told that an answer is late

  #known = false; // the server has spoken the subprotocol
  #fallback = false; // this attempt is without the subprotocol, since the one before may have failed for it
  #doubts = 0; // how often in a row a server that knew the subprotocol has only greeted attempts without it
  #plainUntil = -Infinity; // when to offer the subprotocol again

  constructor(options: ConnectionOptions, env: Environment, owner: Owner) {
    this.#options = options;
    this.#env = env;
    this.#owner = owner;
    const url = new URL(options.url ?? "/websocket/", env.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#url = url.href;
  }

  connect(): void {
    if (this.state === "connecting" || this.state === "open") return;
    if (this.state === "closed") this.#attend(true);
    this.#open();
  }

  close(): void {
    this.#attend(false);
    this.#drop(1000);
    this.#failures = 0;
    this.#enter({ state: "closed" });
  }

  /** Sends a message with the token, and expects an answer. It reports false without a connection to send it on. */
  send(message: object): boolean {
    const socket = this.#socket;
    if (!socket || !this.#greeted || socket.readyState !== OPEN) return false;
    socket.send(JSON.stringify({ ...message, xrftoken: this.#token }));
    this.#expect("the server does not answer");
    return true;
  }

  /** Nothing is due any more. */
  answered(): void {
    this.#env.clearTimeout(this.#watch);
    this.#watch = undefined;
  }

  /** Opens a new socket if the page's token is no longer that of the handshake. It reports whether it was so. */
  renew(): boolean {
    const token = this.#ownToken();
    if (token === "" || token === this.#token) return false;
    this.#lost(1000, "the token has changed");
    return true;
  }

  #ownToken(): string {
    return this.#options.token?.() ?? cookie(this.#env.document?.cookie ?? "", "csrftoken");
  }

  #open(): void {
    this.#drop();
    this.#enter({ state: "connecting" });
    this.#token = this.#ownToken();
    const offer = this.#options.positions !== false && !this.#fallback && this.#env.now() >= this.#plainUntil;
    let socket: WebSocket;
    try {
      socket = new this.#env.WebSocket(this.#url, offer ? [PROTOCOL] : []);
    } catch (error) {
      this.#lost(1006, String(error)); // blocked by a policy of the page, for instance
      return;
    }
    this.#socket = socket;
    let opened = false;
    // A socket that was given up says nothing any more, whatever comes of it.
    socket.onopen = () => (opened = true);
    socket.onmessage = ({ data }) => {
      opened = true;
      if (socket === this.#socket) this.#take(String(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.#socket) return;
      this.#fallback = offer && !opened && this.#suspect();
      if (this.#fallback) this.#open();
      else this.#lost(code, reason);
    };
    this.#expect("the server does not greet");
  }

  /**
   * Reports whether to try at once without the subprotocol, after an attempt with it has failed: Chromium fails the
   * connection to a server that does not know it, and does not tell why. Most failures have other causes, so not each
   * one counts.
   */
  #suspect(): boolean {
    return this.#known ? this.#failures % 4 === 3 : this.#failures % 2 === 0;
  }

  /** Gives the socket and all timers up. */
  #drop(code?: number): void {
    const socket = this.#socket;
    this.#socket = null;
    for (const timer of [this.#retry, this.#watch, this.#settle, this.#look]) this.#env.clearTimeout(timer);
    this.#retry = this.#watch = this.#settle = this.#look = undefined;
    this.#greeted = this.#loggedOut = this.#late = this.typed = false;
    this.#owner.lost();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
  }

  #lost(code: number, reason: string): void {
    const loggedOut = this.#loggedOut;
    this.#drop();
    this.#fallback = false;
    if (loggedOut) {
      this.#failures = 0;
      this.#enter({ state: "loggedout", code, reason });
      return;
    }
    // 1001 and 1012: the server stops or restarts. 1006: no close frame; the network, a proxy, or a refused handshake.
    const leaving = code === 1001 || code === 1012;
    const after = pause(this.#options.backoff ?? {}, this.#failures, leaving, this.#env.random());
    this.#failures++;
    this.#retry = this.#env.setTimeout(() => this.#open(), after);
    this.#enter({ state: "waiting", code, reason, retryIn: Math.round(after) });
  }

  #take(text: string): void {
    this.heard = this.#env.now();
    if (this.#late) this.pulse(true);
    const typed = this.#socket?.protocol === PROTOCOL;
    const frame = read(text, typed);
    if (frame.kind === "close") this.#loggedOut = true;
    if (frame.kind !== "accepted") return this.#owner.frame(frame);
    if (this.#greeted) return; // only the first frame greets
    if (typed) {
      this.#known = true;
      this.#doubts = 0;
    } else if (this.#fallback) {
      this.#fallback = false;
      // The attempt before may have failed for another cause, such as a server that was just starting.
      if (this.#known && this.#doubts++ < DOUBTS) return this.#open();
      this.#doubts = 0;
      this.#plainUntil = this.#env.now() + (this.#known ? PLAIN / 10 : PLAIN);
    }
    this.typed = typed;
    this.#greeted = true;
    this.answered();
    this.#listen();
    this.#settle = this.#env.setTimeout(() => (this.#failures = 0), this.#options.stable ?? 10_000);
    this.#enter({ state: "open" });
    this.#owner.frame(frame);
  }

  /** Tells whether the server gives signs of life. */
  pulse(alive: boolean): void {
    this.#late = !alive;
    this.#owner.alive({ alive, heard: this.heard });
  }

  /** Gives the socket up unless the server says something soon. */
  #expect(complaint: string): void {
    this.answered();
    const patience = this.#options.patience ?? 15_000;
    const early = patience / 5;
    this.#watch = this.#env.setTimeout(() => {
      this.#watch = this.#env.setTimeout(() => this.#lost(1006, complaint), patience - early);
      if (this.#greeted) this.pulse(false);
    }, early);
  }

  /**
   * Sees to it that the server is heard while the page is visible: a connection that a router has forgotten looks as if
   * it stood.
   */
  #listen(): void {
    const quiet = this.#options.quiet ?? 30_000;
    const since = this.#env.now() - this.heard;
    const after = quiet * (1 + this.#env.random() / 2) - (since < quiet ? since : 0);
    this.#look = this.#env.setTimeout(() => {
      this.#listen();
      this.#probe();
    }, after);
  }

  /**
   * Asks whether the server is still there, unless it is asked already, or has been heard lately and there is no doubt.
   */
  #probe(doubt = false): void {
    if (this.#env.document?.visibilityState === "hidden" || this.#watch !== undefined) return;
    if (doubt || this.#env.now() - this.heard >= (this.#options.quiet ?? 30_000)) this.#owner.probe();
    else this.pulse(true);
  }

  /** The page is seen again, or taken out again. */
  #wake = (): void => this.#check(false);

  /** The network is back. */
  #online = (): void => this.#check(true);

  #check(doubt: boolean): void {
    if (this.#env.document?.visibilityState === "hidden") return;
    if (this.state === "waiting") this.#open();
    // A computer that slept has sockets that only seem to stand. The answer to a subscription tells, or its absence.
    else if (this.state === "open") this.#probe(doubt);
  }

  /** The network is gone, and with it the connection, in general; the browser may notice that minutes later. */
  #offline = (): void => {
    if (this.state === "open" && this.#owner.resumable()) this.#lost(1006, "the browser is offline");
  };

  /** The page is put away for the way back. */
  #leave = (): void => {
    // A page with an open socket is not kept for the way back.
    if (this.state !== "connecting" && this.state !== "open" && this.state !== "waiting") return;
    this.#drop(1000);
    this.#enter({ state: "waiting" });
  };

  #attend(on: boolean): void {
    const { window, document } = this.#env;
    for (const [target, what, run] of [
      [document, "visibilitychange", this.#wake],
      [window, "online", this.#online],
      [window, "offline", this.#offline],
      [window, "pageshow", this.#wake],
      [window, "pagehide", this.#leave],
    ] as const) {
      if (on) target?.addEventListener(what, run);
      else target?.removeEventListener(what, run);
    }
  }

  #enter(happening: Happenings<never>["state"]): void {
    if (happening.state === this.state && happening.state !== "waiting") return;
    this.state = happening.state;
    this.#owner.state(happening);
  }
}
