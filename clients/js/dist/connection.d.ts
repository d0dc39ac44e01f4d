import { type Door } from "./doors.js";
import type { Environment } from "./environment.js";
import type { State } from "./happenings.js";
import type { ConnectionOptions, Owner } from "./options.js";
/** A connection that opens a new line whenever one is lost, and notices that the server has fallen silent. */
export declare class Connection {
    #private;
    state: State;
    /** When the server was heard last. */
    heard: number;
    constructor(options: ConnectionOptions, env: Environment, owner: Owner);
    /** This line speaks the subprotocol. */
    get typed(): boolean;
    /** The door in use. */
    get door(): Door | undefined;
    /** Each subscription on this line is a request of its own, for which the server knows nothing of the one before. */
    get requests(): boolean;
    connect(): void;
    close(): void;
    /**
     * Sends a message with the token, and expects an answer. It reports false without a connection to send it on.
     *
     * @param again the subscription is the same as before: a poll may wait for events
     */
    send(message: object, again?: boolean): boolean;
    /** Nothing is due any more. */
    answered(): void;
    /** Opens a new line if the page's token is no longer that of this one. It reports whether it was so. */
    renew(): boolean;
    /** Tells whether the server gives signs of life. */
    pulse(alive: boolean): void;
}
