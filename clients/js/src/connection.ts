import { pause } from "./backoff.js";
import { Doors, DOORS, rank, type Door } from "./doors.js";
import type { Environment } from "./environment.js";
import type { Happenings, State } from "./happenings.js";
import type { Ending, Line } from "./lines.js";
import { Opening, type Found } from "./opening.js";
import type { ConnectionOptions, Owner } from "./options.js";
import { cookie, type Frame } from "./protocol.js";

/** Seconds that a poll may take, below the usual limits of proxies. */
const WAIT = 25;
/** Milliseconds between polls that cannot wait for events. */
const PACE = 2000;
/** Milliseconds without a byte after which a stream that owes the rest of a replay, or of a frame, seems buffered. */
const STALL = 2500;
/** Longest time between attempts to come back to a better door, in milliseconds. */
const COMEBACK_MAX = 900_000;

/** A connection that opens a new line whenever one is lost, and notices that the server has fallen silent. */
export class Connection {
  state: State = "closed";
  /** When the server was heard last. */
  heard = 0;

  #options: ConnectionOptions;
  #env: Environment;
  #owner: Owner;
  #doors: Doors;
  #opening: Opening;
  #line: Line | undefined; // greeted
  #loggedOut = false; // the server said so on this line
  #token = ""; // the one that this line began with
  #failures = 0;
  #retry: unknown; // timer until the next attempt, or the next request on this line
  #watch: unknown; // timer for an answer that is due
  #settle: unknown; // timer until the connection counts as stable
  #look: unknown; // timer until the next look whether the server has been heard
  #stall: unknown; // timer until the next look whether the stream brings what it owes
  #cut = false; // the stream's last bytes end within a frame
  #back: unknown; // timer until better doors are tried again
  #backs = 0; // how often they were
  #late = false; // the owner was told that an answer is late
  #poll = { begun: 0, wait: 0, events: false }; // the last one

  constructor(options: ConnectionOptions, env: Environment, owner: Owner) {
    this.#options = options;
    this.#env = env;
    this.#owner = owner;
    const url = address(options.url, env);
    url.protocol = url.protocol.replace("ws", "http");
    const doors = new Doors(options.positions === false ? ["websocket"] : (options.doors ?? DOORS), env, url.href);
    if (doors.none) throw new Error("connect: no WebSocket here; in Node before 22, set environment: { WebSocket } of the package ws");
    this.#doors = doors;
    this.#opening = new Opening(options, env, url.href, doors, {
      line: () => this.#line,
      failures: () => this.#failures,
      token: () => this.#ownToken(),
      message: (token) => stamp(owner.message(), token),
      welcome: (door) => this.#welcome(door),
      greeted: (found, frame) => this.#greeted(found, frame),
      exhausted: (ending, loggedOut) => this.#exhausted(ending, loggedOut),
      ear: {
        frame: (frame) => this.#take(frame),
        beat: (cut) => {
          this.#hear();
          if (cut && !this.#cut) this.#stalls();
          this.#cut = cut;
        },
        idle: (retry) => this.#idle(retry),
        end: (ending) => this.#ended(ending),
      },
    });
  }

  /** This line speaks the subprotocol. */
  get typed(): boolean {
    return this.#line?.typed === true;
  }

  /** The door in use. */
  get door(): Door | undefined {
    return this.#line?.door;
  }

  /** Each subscription on this line is a request of its own, for which the server knows nothing of the one before. */
  get requests(): boolean {
    return this.#line !== undefined && this.#line.door !== "websocket";
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

  /**
   * Sends a message with the token, and expects an answer. It reports false without a connection to send it on.
   *
   * @param again the subscription is the same as before: a poll may wait for events
   */
  send(message: object, again = false): boolean {
    const line = this.#line;
    if (!line) return false;
    if (this.requests) this.#token = this.#ownToken();
    const wait = again && line.door === "poll" && this.#owner.resumable() ? WAIT : 0;
    if (!line.send(stamp(message, this.#token), wait)) return false;
    this.#began(wait);
    this.#expect("the server does not answer", wait * 1000);
    return true;
  }

  /** Nothing is due any more. */
  answered(): void {
    this.#env.clearTimeout(this.#watch);
    this.#watch = undefined;
  }

  /** Opens a new line if the page's token is no longer that of this one. It reports whether it was so. */
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
    this.#opening.start(this.#doors.order(this.#failures));
  }

  #welcome(door: Door): boolean {
    const old = this.#line?.door;
    // Polls lose events of groups without a history anyway. A line that loses none is not left for one that may.
    return !old || (rank(door) < rank(old) && (old === "poll" || this.#owner.resumable()));
  }

  #greeted({ line, token, body }: Found, frame: Frame): void {
    const { door } = line;
    // What the old line has brought since the request began may come on the new one, too, unless positions tell.
    const fresh = !this.#line || this.#owner.resumable();
    this.#line?.close(1000);
    for (const timer of [this.#retry, this.#settle, this.#look]) this.#env.clearTimeout(timer);
    this.answered();
    this.#line = line;
    this.#token = token;
    this.#doors.worked(door);
    this.#listen();
    this.#settle = this.#env.setTimeout(() => {
      this.#failures = 0;
      this.#settle = undefined;
      this.#doors.ended(door, false);
    }, this.#options.stable ?? 10_000);
    // Without a change since the request began, what it brings is what another one would.
    const asked = fresh && body !== "" && body === stamp(this.#owner.message(), token);
    this.#began(0);
    this.#hear();
    this.#comeBackLater();
    this.#owner.door({ door });
    this.#enter({ state: "open" });
    this.#owner.frame(frame);
    if (this.#line !== line) return; // a listener has closed the client
    if (asked) this.#expect("the server does not answer");
    this.#owner.moved(asked);
  }

  /** A request of this line has begun. */
  #began(wait: number): void {
    this.#env.clearTimeout(this.#retry);
    this.#poll = { begun: this.#env.now(), wait, events: false };
    this.#cut = false;
    if (this.#line?.door === "stream") this.#stalls();
  }

  #exhausted(ending: Ending, loggedOut: boolean): void {
    if (this.#line) return this.#comeBackLater();
    this.#loggedOut = loggedOut;
    this.#lost(ending.code, ending.reason);
  }

  /** Gives the lines and all timers up. */
  #drop(code?: number): void {
    const line = this.#line;
    this.#line = undefined;
    for (const timer of [this.#retry, this.#settle, this.#look, this.#stall, this.#back]) this.#env.clearTimeout(timer);
    this.answered();
    this.#opening.stop();
    this.#loggedOut = this.#late = false;
    this.#owner.lost();
    line?.close(code);
  }

  #lost(code: number, reason: string): void {
    const loggedOut = this.#loggedOut;
    this.#backs = 0; // the network may be another one
    this.#drop();
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

  /** The line has ended. */
  #ended({ code, reason, status }: Ending): void {
    if (status === 401) this.#loggedOut = true;
    if (code === 1006 && !this.#loggedOut) this.#doors.ended(this.#line!.door, this.#settle !== undefined);
    this.#lost(code, reason);
  }

  /** The request of this line has ended in good order. Another one goes on where it ended. */
  #idle(retry: number): void {
    this.answered();
    if (this.#loggedOut) return this.#lost(1000, "");
    const { door } = this.#line!;
    const { begun, wait, events } = this.#poll;
    let after = this.#env.random() * Math.min(retry, 3000);
    if (door === "stream") {
      if (this.#settle !== undefined) return this.#ended({ code: 1006, reason: "stream: ended early", opened: true });
    } else if (!this.#owner.resumable() || (wait > 0 && !events && this.#env.now() - begun < 1000)) {
      after = PACE * (0.75 + this.#env.random() / 2);
    }
    this.#retry = this.#env.setTimeout(() => this.#owner.probe(), after);
  }

  #take(frame: Frame): void {
    this.#hear();
    if (frame.kind === "accepted") return; // only the first frame greets
    if (frame.kind === "close") this.#loggedOut = true;
    if (frame.kind === "event") this.#poll.events = true;
    this.#owner.frame(frame);
  }

  #hear(): void {
    this.heard = this.#env.now();
    if (this.#late) this.pulse(true);
  }

  /** Tells whether the server gives signs of life. */
  pulse(alive: boolean): void {
    this.#late = !alive;
    this.#owner.alive({ alive, heard: this.heard });
  }

  /** Gives the line up unless the server says something soon, `more` milliseconds later for a poll. */
  #expect(complaint: string, more = 0): void {
    this.answered();
    const patience = this.#options.patience ?? 15_000;
    const early = patience / 5;
    this.#watch = this.#env.setTimeout(() => {
      this.#watch = this.#env.setTimeout(() => this.#lost(1006, complaint), patience - early);
      this.pulse(false);
    }, early + more);
  }

  /**
   * Gives a stream up that does not bring the events of a replay, or the rest of a frame: a proxy keeps them until it
   * has more.
   */
  #stalls(): void {
    this.#env.clearTimeout(this.#stall);
    this.#stall = this.#env.setTimeout(() => {
      if (!this.#cut && !this.#owner.owed()) return;
      if (this.#env.now() - this.heard < STALL) return this.#stalls();
      this.#doors.avoid("stream");
      this.#lost(1006, "stream: a proxy seems to keep it back");
    }, STALL);
  }

  /** Tries better doors again after a while. */
  #comeBackLater(): void {
    this.#env.clearTimeout(this.#back);
    if (!this.#line || rank(this.#line.door) === 0) {
      this.#backs = 0;
      return;
    }
    const { comeback = 60_000 } = this.#options;
    const after = Math.min(comeback * 2 ** this.#backs, COMEBACK_MAX) * (0.75 + this.#env.random() / 2);
    this.#back = this.#env.setTimeout(() => {
      this.#backs = Math.min(this.#backs + 1, 20);
      this.#comeBack();
    }, after);
  }

  #comeBack(): void {
    const { door } = this;
    const better = door ? this.#doors.better(door).filter((better) => this.#welcome(better)) : [];
    const hidden = this.#env.document?.visibilityState === "hidden";
    this.#comeBackLater();
    if (better.length > 0 && !hidden) this.#opening.start(better);
  }

  /**
   * Sees to it that the server is heard while the page is visible: a connection that a router has forgotten looks as if
   * it stood.
   */
  #listen(): void {
    const quiet = this.#quiet();
    const since = this.#env.now() - this.heard;
    const after = quiet * (1 + this.#env.random() / 2) - (since < quiet ? since : 0);
    const due = this.#env.now() + after;
    this.#look = this.#env.setTimeout(() => {
      this.#listen();
      // A computer that slept is late.
      this.#probe(false, this.#env.now() < due + 5000);
    }, after);
  }

  /** Milliseconds after which a server that says nothing is in doubt; on a stream, it sends a heartbeat each 15 s. */
  #quiet(): number {
    const { quiet = 30_000 } = this.#options;
    return this.door === "stream" ? (quiet * 2) / 3 : quiet;
  }

  /**
   * Asks whether the server is still there, unless it is asked already, or has been heard lately and there is no doubt.
   * A poll that runs asks anyway, but its request may be gone with the network.
   *
   * @param awake the computer has not slept since the server was heard
   */
  #probe(doubt: boolean, awake = false): void {
    if (this.#env.document?.visibilityState === "hidden") return;
    if (this.#watch !== undefined && !(doubt && this.requests)) return;
    const silent = this.#env.now() - this.heard >= this.#quiet();
    if (silent && awake && this.door === "stream") {
      this.#doors.avoid("stream");
      this.#lost(1006, "stream: no heartbeat");
    } else if (doubt || silent) this.#owner.probe();
    else this.pulse(true);
  }

  /** The page is seen again, or taken out again. */
  #wake = (): void => this.#check(false);

  /** The network is back, and may be another one. */
  #online = (): void => {
    this.#check(true);
    this.#comeBack();
  };

  #check(doubt: boolean): void {
    if (this.#env.document?.visibilityState === "hidden") return;
    if (this.state === "waiting") this.#open();
    // A computer that slept has connections that only seem to stand. The answer to a subscription tells.
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

const stamp = (message: object, token: string): string => JSON.stringify({ ...message, xrftoken: token });

/** The address of the relay; a program without a page must name it. */
function address(url: string | undefined, env: Environment): URL {
  try {
    return new URL(url ?? "/websocket/", env.location?.href);
  } catch {
    throw new Error(`connect: ${url === undefined ? "there is no page whose host to use" : `invalid url ${url}`}; set url: "wss://host/websocket/"`);
  }
}
