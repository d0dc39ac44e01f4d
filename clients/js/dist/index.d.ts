import { type Backoff } from "./backoff.js";
import { type AWXEvent, type Groups } from "./protocol.js";
export type { Backoff } from "./backoff.js";
export type { AWXEvent, Groups, JobStatus, OtherEvent, OutputEvent } from "./protocol.js";
/**
 * - `connecting`: a socket is being opened, or has not been greeted yet
 * - `open`: connected and logged in
 * - `waiting`: not connected; there will be another attempt
 * - `loggedout`: the server knows no user; nothing is tried until `connect()` is called
 * - `closed`: `close()` was called
 */
export type State = "connecting" | "open" | "waiting" | "loggedout" | "closed";
/** What can be listened to, and what listeners get. */
export interface Happenings<E> {
    /** The state has changed. `code` is that of the close frame, 1006 without one; `retryIn` milliseconds until the next attempt. */
    state: {
        state: State;
        code?: number;
        reason?: string;
        retryIn?: number;
    };
    /** Logged in as this user. */
    accepted: {
        user: number | string;
    };
    /**
     * The server has answered a subscription. `again`: it is the first answer after a lost connection, and events may have been
     * missed meanwhile: fetch what the page shows.
     */
    groups: {
        current: string[];
        joined: string[];
        left: string[];
        again: boolean;
    };
    /** An event of one of the groups. */
    event: E;
    /** The server has refused something: a group that the user may not see, too many groups, … The connection stays. */
    refused: {
        message: string;
    };
}
/** Settings of a client; all may be left out. */
export interface Options {
    /** Address of the websocket. Default: `/websocket/` on the page's own host. */
    url?: string;
    /** What to subscribe to at first. */
    groups?: Groups;
    /** The token to prove with that this page may subscribe. Default: the cookie `csrftoken`. Asked for at each connection. */
    token?: () => string;
    backoff?: Backoff;
    /** Milliseconds within which the server must greet, or answer a subscription. Default: 15 000. */
    patience?: number;
    /** Milliseconds that a connection must stand for earlier failures to be forgotten. Default: 10 000. */
    stable?: number;
    /**
     * Milliseconds without a frame after which a page that is visible, or becomes it, or is online again, asks whether the server
     * is still there; while it is visible, up to half as much later, at random. Default: 30 000.
     */
    quiet?: number;
    /** What the client takes from its surroundings; for tests. */
    environment?: Partial<Environment>;
}
/** The parts of a browser that the client uses. */
export interface Environment {
    WebSocket: new (url: string) => WebSocket;
    document: Pick<Document, "cookie" | "visibilityState" | "addEventListener" | "removeEventListener"> | undefined;
    window: Pick<Window, "addEventListener" | "removeEventListener"> | undefined;
    location: Pick<Location, "href"> | undefined;
    setTimeout(run: () => void, after: number): unknown;
    clearTimeout(timer: unknown): void;
    now(): number;
    random(): number;
    /** Shows the error of a listener. */
    report(error: unknown): void;
}
/**
 * A subscription to groups that outlives connections: it opens a new socket whenever one is lost, and subscribes again on it.
 *
 * `E` is the type of events; nothing checks it at run time.
 */
export declare class Client<E = AWXEvent> {
    #private;
    constructor(options?: Options);
    /** The state now. */
    get state(): State;
    /** Calls a function whenever something happens. Returns a function that ends that. */
    on<K extends keyof Happenings<E>>(what: K, listener: (happening: Happenings<E>[K]) => void): () => void;
    /** Connects, and stays connected until `close()`. Also tries again at once where it waits or was logged out. */
    connect(): this;
    /** Replaces what is subscribed to; now, or once there is a connection. `{}` leaves everything. */
    subscribe(groups: Groups): void;
    /** Disconnects for good. `connect()` begins anew. */
    close(): void;
}
/** Connects a new client: `connect({ groups: { jobs: ["status_changed"] } }).on("event", …)`. */
export declare function connect<E = AWXEvent>(options?: Options): Client<E>;
