import { type Backoff } from "./backoff.js";
import type { Environment } from "./environment.js";
import type { Happenings, State } from "./happenings.js";
import { type Frame } from "./protocol.js";
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
/** A connection that opens a new socket whenever one is lost, and notices that the server has fallen silent. */
export declare class Connection {
    #private;
    state: State;
    /** This socket speaks the subprotocol. */
    typed: boolean;
    /** When the last frame came. */
    heard: number;
    constructor(options: ConnectionOptions, env: Environment, owner: Owner);
    connect(): void;
    close(): void;
    /** Sends a message with the token, and expects an answer. It reports false without a connection to send it on. */
    send(message: object): boolean;
    /** Nothing is due any more. */
    answered(): void;
    /** Opens a new socket if the page's token is no longer that of the handshake. It reports whether it was so. */
    renew(): boolean;
    /** Tells whether the server gives signs of life. */
    pulse(alive: boolean): void;
}
