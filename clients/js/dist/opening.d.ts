import { type Door, type Doors } from "./doors.js";
import type { Environment } from "./environment.js";
import { type Ear, type Ending, type Line } from "./lines.js";
import type { OpeningOptions } from "./options.js";
import type { Frame } from "./protocol.js";
/** What an opening needs of its connection. */
export interface Host {
    /** The line in use, if there is one. */
    line(): Line | undefined;
    failures(): number;
    token(): string;
    /** The whole subscription with the token, for a line that knows nothing of it. */
    message(token: string): string;
    /** Whether a line through this door may take the place of the one in use. */
    welcome(door: Door): boolean;
    /** The server has greeted: the line is in use from now on. */
    greeted(found: Found, frame: Frame): void;
    /** No door is left. `loggedOut`: the server knows no user. */
    exhausted(ending: Ending, loggedOut: boolean): void;
    /** Listens to the line in use. */
    ear: Ear;
}
/** A line that the server has greeted, the token that it began with, and the subscription, if it was sent already. */
export interface Found {
    line: Line;
    token: string;
    body: string;
}
/**
 * Finds a door that works: tries one after another, the next one as soon as one has failed, and beside it if it only
 * hangs. The first line that the server greets wins.
 */
export declare class Opening {
    #private;
    constructor(options: OpeningOptions, env: Environment, url: string, doors: Doors, host: Host);
    /** Tries doors in their order. */
    start(queue: Door[]): void;
    /** Gives all tries up. */
    stop(): void;
}
