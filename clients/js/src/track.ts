/** Where an event comes from. Without the subprotocol only `replayed` is known. */
export interface About {
  /** The group's full name, such as `job_events-42`. */
  group?: string;
  /** The event's place in the group's history; opaque. */
  position?: string;
  /** When the event was published, in seconds since 1970. */
  time?: number;
  /** The event is older than its subscription or the connection: it was missed, or asked for by `latest`. */
  replayed: boolean;
}

/**
 * Seconds of a group's events, before the newest, whose positions are kept. A replay begins 2 s before its position.
 */
const SPAN = 5;
/** Positions that are kept of older events, too, and positions that are kept at most. */
const LEAST = 20;
const MOST = 10_000;

/** Positions in one message, well below the server's limit for messages. */
const POSITIONS = 256;

/** Events that follow the beginning of a subscription and were published before it. */
interface Replay {
  /** How many are still to come. */
  left: number;
  /** Where to resume from after the last of them. */
  position: string | undefined;
  /** They complete what was missed; else they are the latest. */
  recovered: boolean;
}

/**
 * What a client knows of one group: who wants it, where it can be resumed, and which events it has.
 *
 * `S` is a subscription, `E` the type of events.
 */
export class Track<S, E> {
  readonly name: string;
  readonly kind: string;
  readonly item: string | number;
  readonly subscriptions = new Set<S>();
  /** The server has the subscription on this socket. */
  joined = false;
  /** A subscription has begun before, on any socket: what was published since is missing if nobody brings it. */
  begun = false;
  /** Where to resume from. */
  last: string | undefined;
  /** The highest `counter` of an event. */
  counter: number | undefined;
  replay: Replay | undefined;
  /** A request that goes on has not got so far as to say how. */
  awaited = false;
  /** The page has been told how the subscription goes on after the last lost connection. */
  settled = false;
  /** How many events of replays the page got since then. */
  given = 0;
  /** The server has not let the client join. */
  denied = false;
  /** How many of the latest events to ask for at first. */
  latest = 0;
  /** The last events, for subscriptions that come later and ask for the latest; at most `keep`. */
  kept: { event: E; about: About }[] = [];
  keep = 0;

  #recent = new Map<string, number>(); // the positions of events → their time, as they came
  /** The time of the newest event. */
  newest = 0;

  constructor(kind: string, item: string | number) {
    this.kind = kind;
    this.item = item;
    this.name = `${kind}-${item}`;
  }

  /** Another connection can bring all that this one would have brought. */
  get resumable(): boolean {
    return this.last !== undefined || !this.begun || this.denied;
  }

  /** Events of a replay, or the beginning of a request, are due. */
  get owed(): boolean {
    return this.joined && (this.replay !== undefined || this.awaited);
  }

  /** Takes an event's place. It reports false if the client has the event. */
  fresh(position: string | undefined, time = this.newest): boolean {
    if (!position) return true;
    if (this.#recent.has(position)) return false;
    this.#recent.set(position, time);
    this.newest = Math.max(this.newest, time);
    for (const [oldest, at] of this.#recent) {
      const size = this.#recent.size;
      if (size <= LEAST || (size <= MOST && at >= this.newest - SPAN)) break;
      this.#recent.delete(oldest);
    }
    this.last = position;
    return true;
  }

  /** Keeps an event that the page gets. */
  hold(event: E, about: About): void {
    const counter = (event as { counter?: unknown } | null)?.counter;
    if (typeof counter === "number") this.counter = Math.max(counter, this.counter ?? counter);
    if (this.keep > 0) this.kept.push({ event, about });
    if (this.kept.length > this.keep) this.kept.shift();
  }

  /** What to ask for when joining: what was missed since the last of the client's positions, or the latest events. */
  since(most: number): string[] | { latest: number } | undefined {
    const { last } = this;
    if (last) return [...[...this.#recent.keys()].filter((p) => p !== last).slice(-most), last];
    return this.latest > 0 ? { latest: this.latest } : undefined;
  }

  /** The connection is gone, or the server has ended or denied the subscription. */
  lose(denied = false): void {
    this.joined = this.settled = false;
    this.denied = denied;
    this.replay = undefined;
    this.given = 0;
  }

  /** The connection was closed on purpose: the next one begins without positions. */
  forget(): void {
    this.lose();
    this.begun = false;
    this.last = this.counter = undefined;
    this.kept = [];
    this.#recent.clear();
    this./** The time of the newest event. */
  newest = 0;
  }
}

/**
 * The subscription to groups as a message.
 *
 * @param typed the server speaks the subprotocol
 * @param anew the server knows nothing of the subscription
 * @param again it is the same again, without groups that the server has denied
 */
export function message(
  tracks: Iterable<Track<unknown, unknown>>,
  typed: boolean,
  anew: boolean,
  again = false,
): object {
  const groups: Record<string, (string | number)[]> = {};
  const since: Record<string, unknown> = {};
  const wanted = [...tracks].filter(({ subscriptions, denied }) => subscriptions.size > 0 && !(again && denied));
  for (const track of wanted) {
    (groups[track.kind] ??= []).push(track.item);
    const missed = typed && (anew || !track.joined) ? track.since(Math.ceil(POSITIONS / wanted.length)) : undefined;
    if (missed) since[track.name] = missed;
  }
  return Object.keys(since).length > 0 ? { groups, since } : { groups };
}
