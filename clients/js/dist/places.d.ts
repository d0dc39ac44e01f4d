/** Ends the use of a place; again, it does nothing. */
export type Release = () => void;
/**
 * Takes one of the places that all tabs of the origin share; undefined if none is free. Over HTTP/2 and HTTP/3 there
 * are enough. Without locks, on plain HTTP, the tabs do not know of each other.
 */
export declare function takePlace(): Promise<Release | undefined>;
