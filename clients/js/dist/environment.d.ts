import { type Release } from "./places.js";
/** The parts of a browser that the client uses. */
export interface Environment {
    /** Absent in Node before 22: there it can be that of the package `ws`. */
    WebSocket: (new (url: string, protocols?: string[]) => WebSocket) | undefined;
    /** Absent where responses cannot be read while they come. */
    fetch: typeof fetch | undefined;
    /** Remembers the door that worked, for this tab. */
    storage: Pick<Storage, "getItem" | "setItem"> | undefined;
    /** Takes one of few places for requests that last. */
    takePlace(): Promise<Release | undefined>;
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
/** The environment of a page, or of a program in Node. */
export declare function browser(): Environment;
