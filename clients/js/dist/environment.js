import { takePlace } from "./places.js";
/** The environment of a page, or of a program in Node. */
export function browser() {
    const here = globalThis;
    return {
        WebSocket: here.WebSocket,
        fetch: here.ReadableStream && ((...request) => here.fetch(...request)),
        storage: {
            getItem: (key) => here.sessionStorage.getItem(key),
            setItem: (key, value) => here.sessionStorage.setItem(key, value),
        },
        takePlace,
        document: here.document,
        window: here.window,
        location: here.location,
        setTimeout: (run, after) => here.setTimeout(run, after),
        clearTimeout: (timer) => here.clearTimeout(timer),
        now: () => Date.now(),
        random: () => Math.random(),
        // Node has none.
        report: (error) => (here.reportError ? here.reportError(error) : console.error(error)),
    };
}
