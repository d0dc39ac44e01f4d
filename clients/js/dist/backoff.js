/**
 * The pause before an attempt: anything between nothing and a bound that doubles with each failure. Drawing from the
 * whole range keeps clients that were cut off together apart, which a fixed pause with a little noise does not.
 *
 * @param failures how many attempts have failed since a connection last stood
 * @param leaving the server has said that it stops
 * @param random a number from 0 up to 1
 */
export function pause(backoff, failures, leaving, random) {
    const { first = 500, max = 30_000, spread = 3000 } = backoff;
    const start = leaving ? Math.max(first, spread) : first;
    return random * Math.min(max, start * 2 ** Math.min(failures, 20));
}
