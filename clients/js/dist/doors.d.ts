import type { Environment } from "./environment.js";
/** A way to the server: a WebSocket, an event stream (a response that does not end), or long polls. */
export type Door = "websocket" | "stream" | "poll";
/** All doors, the best first. */
export declare const DOORS: readonly Door[];
/**
 * Chooses among the doors. The one that worked last comes first. A server that is restarting fails every door, so a
 * WebSocket that has worked gets two attempts before the others are tried.
 */
export declare class Doors {
    #private;
    constructor(allowed: readonly Door[], env: Environment, url: string);
    /** Whether there is no door at all, as in Node before 22 without `fetch` or positions. */
    get none(): boolean;
    /** The doors of one attempt, in their order. */
    order(failures: number): Door[];
    /** The doors that are better than this one and may work. */
    better(door: Door): Door[];
    /** Whether the door has let this page in, or this tab lately. */
    known(door: Door): boolean;
    worked(door: Door): void;
    /**
     * A door has not let the page in.
     *
     * @returns whether the server is in trouble, so that no other door is worth a try
     */
    failed(door: Door, status: number | undefined): boolean;
    /** A connection has ended: early, or after it was stable. */
    ended(door: Door, early: boolean): void;
    /** Does not try a door for a while, unless there is no other. */
    avoid(door: Door): void;
}
/** The smaller, the better. */
export declare const rank: (door: Door) => number;
