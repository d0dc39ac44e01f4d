import { rank, type Door, type Doors } from "./doors.js";
import type { Environment } from "./environment.js";
import { RequestLine, SocketLine, type Ear, type Ending, type Line } from "./lines.js";
import type { OpeningOptions } from "./options.js";
import type { Frame } from "./protocol.js";

/** What an opening needs of its connection. */
export interface Host {
  /** The line in use, if there is one. */
  line(): Line | undefined;
  failures(): number;
  token(): string;
  /** The whole subscription with the token, for a line that knows nothing of it. */
  message(token: string): string;
  /** Whether a line through this door may take the place of the one in use. */
  welcome(door: Door): boolean;
  /** The server has greeted: the line is in use from now on. */
  greeted(found: Found, frame: Frame): void;
  /** No door is left. `loggedOut`: the server knows no user. */
  exhausted(ending: Ending, loggedOut: boolean): void;
  /** Listens to the line in use. */
  ear: Ear;
}

/** A line that the server has greeted, the token that it began with, and the subscription, if it was sent already. */
export interface Found {
  line: Line;
  token: string;
  body: string;
}

/** A line that the server has not greeted yet. */
interface Try extends Omit<Found, "line"> {
  door: Door;
  line?: Line;
  offer: boolean; // of the subprotocol
  plain: boolean; // without the subprotocol, since the try before may have failed for it
  loggedOut: boolean; // the server said so
  timer: unknown;
}

/** Milliseconds for which a server that does not know the subprotocol is not offered it again. */
const PLAIN = 600_000;
/** How often in a row a server that knew the subprotocol must seem to know it no more. */
const DOUBTS = 3;

/**
 * Finds a door that works: tries one after another, the next one as soon as one has failed, and beside it if it only
 * hangs. The first line that the server greets wins.
 */
export class Opening {
  #options: OpeningOptions;
  #env: Environment;
  #url: string;
  #doors: Doors;
  #host: Host;
  #tries = new Set<Try>();
  #queue: Door[] = []; // the doors that are tried next
  #hurry: unknown; // timer until the next door is tried beside others
  #why: Ending | undefined; // the first failure, or the last one with an HTTP status

  #known = false; // the server has spoken the subprotocol on a WebSocket
  #doubts = 0; // how often in a row a server that knew the subprotocol has only greeted tries without it
  #plainUntil = -Infinity; // when to offer the subprotocol again

  constructor(options: OpeningOptions, env: Environment, url: string, doors: Doors, host: Host) {
    this.#options = options;
    this.#env = env;
    this.#url = url;
    this.#doors = doors;
    this.#host = host;
  }

  /** Tries doors in their order. */
  start(queue: Door[]): void {
    this.stop();
    this.#why = undefined;
    this.#queue = queue;
    this.#next();
  }

  /** Gives all tries up. */
  stop(): void {
    this.#queue = [];
    this.#env.clearTimeout(this.#hurry);
    for (const attempt of [...this.#tries]) this.#abandon(attempt);
  }

  /** Tries the next door, beside those that have not greeted yet. It reports false if there is none. */
  #next(): boolean {
    this.#env.clearTimeout(this.#hurry);
    const door = this.#queue.shift();
    if (!door) return false;
    if (this.#queue.length > 0) {
      const { hurry = 1500, patience = 15_000 } = this.#options;
      const known = door === "websocket" && this.#doors.known(door) && !this.#host.line();
      const after = known ? Math.max(hurry, patience / 2) : hurry;
      this.#hurry = this.#env.setTimeout(() => this.#next(), after);
    }
    this.#try(door);
    return true;
  }

  #try(door: Door, plain = false): void {
    const offer = this.#options.positions !== false && !plain && this.#env.now() >= this.#plainUntil;
    const token = this.#host.token();
    const attempt: Try = { door, offer, plain, token, body: "", loggedOut: false, timer: undefined };
    this.#tries.add(attempt);
    const silent: Ending = { code: 1006, reason: "the server does not greet", opened: true };
    attempt.timer = this.#env.setTimeout(() => this.#failed(attempt, silent), this.#options.patience ?? 15_000);
    const { ear } = this.#host;
    const used = () => attempt.line !== undefined && attempt.line === this.#host.line();
    const listen: Ear = {
      frame: (frame) => (used() ? ear.frame(frame) : this.#greet(attempt, frame)),
      beat: (cut) => used() && ear.beat(cut),
      idle: (retry) => {
        if (used()) ear.idle(retry);
        else this.#failed(attempt, { code: 1006, reason: `${door}: ended without a greeting`, opened: true });
      },
      end: (ending) => (used() ? ear.end(ending) : this.#failed(attempt, ending)),
    };
    try {
      attempt.line =
        door === "websocket"
          ? new SocketLine(this.#env, this.#url, offer, listen)
          : new RequestLine(this.#env, this.#url, door, listen);
    } catch (error) {
      // Blocked by a policy of the page, for instance.
      return this.#failed(attempt, { code: 1006, reason: String(error), opened: true });
    }
    if (door === "websocket") return;
    attempt.body = this.#host.message(token);
    attempt.line.send(attempt.body, 0);
  }

  /** Gives a try up. It reports false if that has happened before, or the line is in use. */
  #abandon(attempt: Try): boolean {
    this.#env.clearTimeout(attempt.timer);
    if (!this.#tries.delete(attempt)) return false;
    attempt.line?.close();
    return true;
  }

  #failed(attempt: Try, ending: Ending): void {
    if (!this.#abandon(attempt)) return;
    const { door, offer, loggedOut } = attempt;
    const { status, opened } = ending;
    const first = !this.#host.line();
    if (door === "websocket" && offer && !opened && first && this.#suspect()) return this.#try(door, true);
    if (first && (loggedOut || status === 401)) return this.#host.exhausted(ending, true);
    if (!this.#why || status !== undefined) this.#why = ending;
    if (this.#doors.failed(door, status)) this.#queue = [];
    if (!this.#next() && this.#tries.size === 0) this.#host.exhausted(this.#why, false);
  }

  /**
   * Reports whether to try at once without the subprotocol, after an attempt with it has failed: Chromium fails the
   * connection to a server that does not know it, and does not tell why. Most failures have other causes, so not each
   * one counts.
   */
  #suspect(): boolean {
    const failures = this.#host.failures();
    return this.#known ? failures % 4 === 3 : failures % 2 === 0;
  }

  /** Takes the first frames of a line. */
  #greet(attempt: Try, frame: Frame): void {
    const { door, line, plain, token, body } = attempt;
    if (!line || !this.#tries.has(attempt)) return;
    if (frame.kind === "close") attempt.loggedOut = true;
    if (frame.kind !== "accepted") return;
    if (line.typed) {
      if (door === "websocket") this.#known = true;
      this.#doubts = 0;
    } else if (plain) {
      // The try before may have failed for another cause, such as a server that was just starting.
      if (this.#known && this.#doubts++ < DOUBTS) {
        this.#abandon(attempt);
        return this.#try(door);
      }
      this.#doubts = 0;
      this.#plainUntil = this.#env.now() + (this.#known ? PLAIN / 10 : PLAIN);
    }
    if (!this.#host.welcome(door)) {
      this.#abandon(attempt);
      if (this.#tries.size === 0) this.#host.exhausted({ code: 1000, reason: "not needed", opened: true }, false);
      return;
    }
    this.#tries.delete(attempt);
    this.#env.clearTimeout(attempt.timer);
    this.#env.clearTimeout(this.#hurry);
    // A better door that is slow may still open; those that are worse need not.
    this.#queue = [];
    for (const other of [...this.#tries]) if (rank(other.door) >= rank(door)) this.#abandon(other);
    this.#host.greeted({ line, token, body }, frame);
  }
}
