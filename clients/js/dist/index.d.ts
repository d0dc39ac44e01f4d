import type { Door } from "./doors.js";
import type { Happenings, Listeners, State, Subscriber, Subscription } from "./happenings.js";
import type { Options } from "./options.js";
import { type AWXEvent, type Groups } from "./protocol.js";
export type { Backoff } from "./backoff.js";
export type { Door } from "./doors.js";
export type { Environment } from "./environment.js";
export type { GroupHappenings, Happenings, Listeners, State, Subscriber, Subscription } from "./happenings.js";
export type { Options } from "./options.js";
export type { AWXEvent, Groups, JobStatus, OtherEvent, OutputEvent } from "./protocol.js";
export type { About } from "./track.js";
/**
 * Subscriptions to groups that outlive connections: the client opens a new socket whenever one is lost, subscribes
 * again on it, and gets what was missed, or tells that something is missing.
 *
 * `E` is the type of events; nothing checks it at run time.
 */
export declare class Client<E = AWXEvent> {
    #private;
    constructor(options?: Options);
    /** The state now. */
    get state(): State;
    /** The way to the server that is in use; none without a connection. */
    get door(): Door | undefined;
    /** When the server was heard last, in milliseconds since 1970; 0 before the first. */
    get heard(): number;
    /** Calls a function whenever something happens, in any of the groups. Returns a function that ends that. */
    on<K extends keyof Happenings<E>>(what: K, listener: Listeners<E>[K]): () => void;
    /** Connects, and stays connected until `close()`. Also tries again at once where it waits or was logged out. */
    connect(): this;
    /**
     * With listeners: adds a subscription, which hears of its groups only, and ends by its `close()`. All subscriptions
     * share the connection. A function listens to events.
     *
     * Without: replaces the client's own groups, which were those of the option `groups`. `{}` leaves them.
     *
     * Takes effect now, or once there is a connection.
     */
    subscribe(groups: Groups, to?: Subscriber<E> | NonNullable<Subscriber<E>["event"]>): Subscription;
    /** Disconnects for good. `connect()` begins anew. */
    close(): void;
}
/** Connects a new client: `connect({ groups: { jobs: ["status_changed"] } }).on("event", …)`. */
export declare function connect<E = AWXEvent>(options?: Options): Client<E>;
