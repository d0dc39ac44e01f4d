/**
 * How many requests of all tabs may be held at a time. Over HTTP/1.1, browsers open six connections to a host; two are
 * left for the pages themselves.
 */
const PLACES = 4;
let multiplexed = false;
/**
 * Takes one of the places that all tabs of the origin share; undefined if none is free. Over HTTP/2 and HTTP/3 there
 * are enough. Without locks, on plain HTTP, the tabs do not know of each other.
 */
export async function takePlace() {
    const locks = globalThis.navigator?.locks;
    if (!locks || (multiplexed ||= isMultiplexed()))
        return () => { };
    for (let n = 0; n < PLACES; n++) {
        const release = await new Promise((taken) => {
            const hold = (lock) => (lock ? new Promise((release) => taken(release)) : taken(undefined));
            locks.request(`edgerelay ${n}`, { ifAvailable: true }, hold).catch(() => taken(undefined));
        });
        if (release)
            return release;
    }
    return undefined;
}
/** Whether the browser has talked to the page's host over HTTP/2 or HTTP/3. */
function isMultiplexed() {
    const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    return entries.some(({ name, nextHopProtocol }) => /^h[23]/.test(nextHopProtocol) && name.startsWith(location.origin + "/"));
}
