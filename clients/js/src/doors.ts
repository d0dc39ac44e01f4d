import type { Environment } from "./environment.js";

/** A way to the server: a WebSocket, an event stream (a response that does not end), or long polls. */
export type Door = "websocket" | "stream" | "poll";

/** All doors, the best first. */
export const DOORS: readonly Door[] = ["websocket", "stream", "poll"];

/** Milliseconds for which a door that worked is remembered, and for which one that does not exist is not tried. */
const MEMORY = 600_000;
/** How many short connections in a row make a door unusable. */
const SHORT = 3;
/** HTTP statuses of a server or proxy in trouble: another door would meet the same. */
const TROUBLE = [429, 502, 503, 504];

/**
 * Chooses among the doors. The one that worked last comes first. A server that is restarting fails every door, so a
 * WebSocket that has worked gets two attempts before the others are tried.
 */
export class Doors {
  readonly #allowed: readonly Door[];
  readonly #env: Environment;
  readonly #key: string;
  readonly #worked = new Set<Door>();
  readonly #unusable = new Map<Door, number>(); // door → until when
  readonly #short = new Map<Door, number>(); // door → how many connections in a row ended early
  #last: Door | undefined;

  constructor(allowed: readonly Door[], env: Environment, url: string) {
    const can = (door: Door) => allowed.includes(door) && (door === "websocket" ? env.WebSocket : env.fetch);
    this.#allowed = DOORS.filter(can);
    this.#env = env;
    this.#key = `edgerelay ${url}`;
    this.#remember();
  }

  /** Whether there is no door at all, as in Node before 22 without `fetch` or positions. */
  get none(): boolean {
    return this.#allowed.length === 0;
  }

  /** The doors of one attempt, in their order. */
  order(failures: number): Door[] {
    const usable = this.#usable();
    const last = this.#last;
    if (!last || !usable.includes(last)) return usable;
    if (last === "websocket" && failures < 2) return [last];
    return [last, ...usable.filter((door) => door !== last)];
  }

  /** The doors that are better than this one and may work. */
  better(door: Door): Door[] {
    return this.#usable().filter((other) => rank(other) < rank(door));
  }

  /** Whether the door has let this page in, or this tab lately. */
  known(door: Door): boolean {
    return this.#worked.has(door) || this.#last === door;
  }

  worked(door: Door): void {
    this.#worked.add(door);
    this.#last = door;
    this.#unusable.delete(door);
    const { storage } = this.#env;
    attempt(() => storage?.setItem(this.#key, `${door} ${this.#env.now() + MEMORY}`));
  }

  /**
   * A door has not let the page in.
   *
   * @returns whether the server is in trouble, so that no other door is worth a try
   */
  failed(door: Door, status: number | undefined): boolean {
    if (status !== undefined && TROUBLE.includes(status)) return true;
    // The server has answered, and does not know the door.
    if (status !== undefined && status !== 401) this.avoid(door);
    return false;
  }

  /** A connection has ended: early, or after it was stable. */
  ended(door: Door, early: boolean): void {
    const count = early ? (this.#short.get(door) ?? 0) + 1 : 0;
    this.#short.set(door, count);
    if (count >= SHORT) this.avoid(door);
  }

  /** Does not try a door for a while, unless there is no other. */
  avoid(door: Door): void {
    this.#unusable.set(door, this.#env.now() + MEMORY);
    this.#short.delete(door);
  }

  #usable(): Door[] {
    const usable = this.#allowed.filter((door) => !(this.#env.now() < (this.#unusable.get(door) ?? 0)));
    return usable.length > 0 ? usable : [...this.#allowed];
  }

  #remember(): void {
    const [door, until] = (attempt(() => this.#env.storage?.getItem(this.#key)) ?? "").split(" ");
    if (this.#env.now() < Number(until)) this.#last = this.#allowed.find((allowed) => allowed === door);
  }
}

/** The smaller, the better. */
export const rank = (door: Door): number => DOORS.indexOf(door);

/** The result, or undefined where the browser forbids it. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
