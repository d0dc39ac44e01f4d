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
/** Events that follow the beginning of a subscription and were published before it. */
interface Replay {
    /** How many are still to come. */
    left: number;
    /** How many the page got. */
    given: number;
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
export declare class Track<S, E> {
    #private;
    readonly name: string;
    readonly kind: string;
    readonly item: string | number;
    readonly subscriptions: Set<S>;
    /** The server has the subscription on this socket. */
    joined: boolean;
    /** A subscription has begun before, on any socket: what was published since is missing if nobody brings it. */
    begun: boolean;
    /** Where to resume from. */
    last: string | undefined;
    /** The highest `counter` of an event. */
    counter: number | undefined;
    replay: Replay | undefined;
    /** How many of the latest events to ask for at first. */
    latest: number;
    /** The last events, for subscriptions that come later and ask for the latest; at most `keep`. */
    kept: {
        event: E;
        about: About;
    }[];
    keep: number;
    constructor(kind: string, item: string | number);
    /** Takes an event's place. It reports false if the client has the event. */
    fresh(position: string | undefined, time?: number): boolean;
    /** Keeps an event that the page gets. */
    hold(event: E, about: About): void;
    /** What to ask for when joining: what was missed since the last of the client's positions, or the latest events. */
    since(most: number): string[] | {
        latest: number;
    } | undefined;
    /** The socket is gone. */
    lose(): void;
    /** The connection was closed on purpose: the next one begins without positions. */
    forget(): void;
}
export {};
