/** How long to wait before attempts to connect. */
export interface Backoff {
  /** Longest pause before the first attempt after a connection that stood, in milliseconds. Default: 500. */
  first?: number;
  /** Longest pause of all. Default: 30 000. */
  max?: number;
  /**
   * Longest pause after a server has said that it stops (1001, 1012), so that not all its clients come at once.
   * Default: 3000.
   */
  spread?: number;
}

/**
 * The pause before an attempt: anything between nothing and a bound that doubles with each failure. Drawing from the
 * whole range keeps clients that were cut off together apart, which a fixed pause with a little noise does not.
 *
 * @param failures how many attempts have failed since a connection last stood
 * @param leaving the server has said that it stops
 * @param random a number from 0 up to 1
 */
export function pause(backoff: Backoff, failures: number, leaving: boolean, random: number): number {
  const { first = 500, max = 30_000, spread = 3000 } = backoff;
  const start = leaving ? Math.max(first, spread) : first;
  return random * Math.min(max, start * 2 ** Math.min(failures, 20));
}
