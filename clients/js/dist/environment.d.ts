/** The parts of a browser that the client uses. */
export interface Environment {
    WebSocket: new (url: string, protocols?: string[]) => WebSocket;
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
/** The environment of a page. */
export declare function browser(): Environment;
