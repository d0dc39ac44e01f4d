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
    /** A request that goes on has not got so far as to say how. */
    awaited: boolean;
    /** The page has been told how the subscription goes on after the last lost connection. */
    settled: boolean;
    /** How many events of replays the page got since then. */
    given: number;
    /** The server has not let the client join. */
    denied: boolean;
    /** How many of the latest events to ask for at first. */
    latest: number;
    /** The last events, for subscriptions that come later and ask for the latest; at most `keep`. */
    kept: {
        event: E;
        about: About;
    }[];
    keep: number;
    /** The time of the newest event. */
    newest: number;
    constructor(kind: string, item: string | number);
    /** Another connection can bring all that this one would have brought. */
    get resumable(): boolean;
    /** Events of a replay, or the beginning of a request, are due. */
    get owed(): boolean;
    /** Takes an event's place. It reports false if the client has the event. */
    fresh(position: string | undefined, time?: number): boolean;
    /** Keeps an event that the page gets. */
    hold(event: E, about: About): void;
    /** What to ask for when joining: what was missed since the last of the client's positions, or the latest events. */
    since(most: number): string[] | {
        latest: number;
    } | undefined;
    /** The connection is gone, or the server has ended or denied the subscription. */
    lose(denied?: boolean): void;
    /** The connection was closed on purpose: the next one begins without positions. */
    forget(): void;
}
/**
 * The subscription to groups as a message.
 *
 * @param typed the server speaks the subprotocol
 * @param anew the server knows nothing of the subscription
 * @param again it is the same again, without groups that the server has denied
 */
export declare function message(tracks: Iterable<Track<unknown, unknown>>, typed: boolean, anew: boolean, again?: boolean): object;
export {};
