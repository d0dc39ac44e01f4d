/** The environment of a page. */
export function browser() {
    const here = globalThis;
    return {
        WebSocket: here.WebSocket,
        document: here.document,
        window: here.window,
        location: here.location,
        setTimeout: (run, after) => here.setTimeout(run, after),
        clearTimeout: (timer) => here.clearTimeout(timer),
        now: () => Date.now(),
        random: () => Math.random(),
        report: (error) => reportError(error),
    };
}
