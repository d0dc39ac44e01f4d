import type { Door } from "./doors.js";
import type { Environment } from "./environment.js";
import { type Frame } from "./protocol.js";
/** A connection through a door, from its opening on. */
export interface Line {
    readonly door: Door;
    /** The server speaks the subprotocol. */
    readonly typed: boolean;
    /**
     * Sends the subscription. On a stream or poll, it ends the request that runs, and begins another.
     *
     * @param wait how many seconds a poll may take
     */
    send(message: string, wait: number): boolean;
    /** Ends the connection. Nothing is heard of it afterwards. */
    close(code?: number): void;
}
/** What a line tells. */
export interface Ear {
    frame(frame: Frame): void;
    /** Bytes of a stream have come, such as a heartbeat. `cut`: they end within a frame. */
    beat(cut: boolean): void;
    /** A poll was answered, or a stream has ended in good order: the line has no request now. */
    idle(retry: number): void;
    end(ending: Ending): void;
}
export interface Ending {
    /** That of the close frame; 1006 without one. */
    code: number;
    reason: string;
    /** The handshake, or the request, had succeeded. */
    opened: boolean;
    /** The HTTP status, if it is known. */
    status?: number;
}
/** A WebSocket. */
export declare class SocketLine implements Line {
    #private;
    readonly door = "websocket";
    /** Throws where the page's policy forbids the connection. */
    constructor(env: Environment, url: string, offer: boolean, ear: Ear);
    get typed(): boolean;
    send(message: string): boolean;
    close(code?: number): void;
}
/** Requests, one at a time: an event stream, or polls. */
export declare class RequestLine implements Line {
    #private;
    readonly typed = true;
    readonly door: Exclude<Door, "websocket">;
    constructor(env: Environment, url: string, door: Exclude<Door, "websocket">, ear: Ear);
    send(message: string, wait: number): boolean;
    close(): void;
}
