/**
 * Seconds of a group's events, before the newest, whose positions are kept. A replay begins 2 s before its position.
 */
const SPAN = 5;
/** Positions that are kept of older events, too, and positions that are kept at most. */
const LEAST = 20;
const MOST = 10_000;
/** Positions in one message, well below the server's limit for messages. */
const POSITIONS = 256;
/**
 * What a client knows of one group: who wants it, where it can be resumed, and which events it has.
 *
 * `S` is a subscription, `E` the type of events.
 */
export class Track {
    name;
    kind;
    item;
    subscriptions = new Set();
    /** The server has the subscription on this socket. */
    joined = false;
    /** A subscription has begun before, on any socket: what was published since is missing if nobody brings it. */
    begun = false;
    /** Where to resume from. */
    last;
    /** The highest `counter` of an event. */
    counter;
    replay;
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
    kept = [];
    keep = 0;
    #recent = new Map(); // the positions of events → their time, as they came
    /** The time of the newest event. */
    newest = 0;
    constructor(kind, item) {
        this.kind = kind;
        this.item = item;
        this.name = `${kind}-${item}`;
    }
    /** Another connection can bring all that this one would have brought. */
    get resumable() {
        return this.last !== undefined || !this.begun || this.denied;
    }
    /** Events of a replay, or the beginning of a request, are due. */
    get owed() {
        return this.joined && (this.replay !== undefined || this.awaited);
    }
    /** Takes an event's place. It reports false if the client has the event. */
    fresh(position, time = this.newest) {
        if (!position)
            return true;
        if (this.#recent.has(position))
            return false;
        this.#recent.set(position, time);
        this.newest = Math.max(this.newest, time);
        for (const [oldest, at] of this.#recent) {
            const size = this.#recent.size;
            if (size <= LEAST || (size <= MOST && at >= this.newest - SPAN))
                break;
            this.#recent.delete(oldest);
        }
        this.last = position;
        return true;
    }
    /** Keeps an event that the page gets. */
    hold(event, about) {
        const counter = event?.counter;
        if (typeof counter === "number")
            this.counter = Math.max(counter, this.counter ?? counter);
        if (this.keep > 0)
            this.kept.push({ event, about });
        if (this.kept.length > this.keep)
            this.kept.shift();
    }
    /** What to ask for when joining: what was missed since the last of the client's positions, or the latest events. */
    since(most) {
        const { last } = this;
        if (last)
            return [...[...this.#recent.keys()].filter((p) => p !== last).slice(-most), last];
        return this.latest > 0 ? { latest: this.latest } : undefined;
    }
    /** The connection is gone, or the server has ended or denied the subscription. */
    lose(denied = false) {
        this.joined = this.settled = false;
        this.denied = denied;
        this.replay = undefined;
        this.given = 0;
    }
    /** The connection was closed on purpose: the next one begins without positions. */
    forget() {
        this.lose();
        this.begun = false;
        this.last = this.counter = undefined;
        this.kept = [];
        this.#recent.clear();
        this. /** The time of the newest event. */
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
export function message(tracks, typed, anew, again = false) {
    const groups = {};
    const since = {};
    const wanted = [...tracks].filter(({ subscriptions, denied }) => subscriptions.size > 0 && !(again && denied));
    for (const track of wanted) {
        (groups[track.kind] ??= []).push(track.item);
        const missed = typed && (anew || !track.joined) ? track.since(Math.ceil(POSITIONS / wanted.length)) : undefined;
        if (missed)
            since[track.name] = missed;
    }
    return Object.keys(since).length > 0 ? { groups, since } : { groups };
}
