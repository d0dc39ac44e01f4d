import type { Door } from "./doors.js";
import type { About } from "./track.js";

/**
 * - `connecting`: a socket is being opened, or has not been greeted yet
 * - `open`: connected and logged in
 * - `waiting`: not connected; there will be another attempt
 * - `loggedout`: the server knows no user; nothing is tried until `connect()` is called
 * - `closed`: `close()` was called
 */
export type State = "connecting" | "open" | "waiting" | "loggedout" | "closed";

/** What happens in a group: what the listeners of a subscription can be told. */
export interface GroupHappenings<E> {
  /** An event of one of the groups. A payload that is not JSON is a string. */
  event: E;
  /** The group's events come from here on, after `events` earlier ones. */
  subscribed: { group: string; position?: string; events: number };
  /** Every event that was missed while there was no connection has been brought, `events` in all. */
  recovered: { group: string; events: number };
  /**
   * Events of the group may be missing before the next ones: fetch what the page shows. `events` is their number, if
   * the server knows; `counter` the highest `counter` of the events before, such as AWX's output has.
   *
   * `reason` after a lost connection: `no_history` (the server keeps none, or is none of edgerelay's),
   * `unknown_position`, `gap`, `too_much`, `peer_link`, `unavailable`. While the connection stands: `withheld`, or the
   * cause of the loss.
   */
  gap: { group: string; reason: string; events?: number; counter?: number };
  /** The server has refused something: a group that the user may not see, too many groups, … The connection stays. */
  refused: { message: string };
}

/** What can be listened to, and what listeners get. */
export interface Happenings<E> extends GroupHappenings<E> {
  /**
   * The state has changed. `code` is that of the close frame, 1006 without one; `retryIn` milliseconds until the next
   * attempt.
   */
  state: { state: State; code?: number; reason?: string; retryIn?: number };
  /** This way to the server is used from now on. Comes before the state `open`, and while it lasts. */
  door: { door: Door };
  /** Logged in as this user. */
  accepted: { user: number | string };
  /**
   * The server has answered a subscription. `again`: it is the first answer after a lost connection. `recovered` or
   * `gap` follows for each group.
   */
  groups: { current: string[]; joined: string[]; left: string[]; again: boolean };
  /**
   * The heartbeat: at least each 45 s while the page is visible and the connection open. `alive` is false when the
   * server owes an answer for 3 s; it is true again, or the state changes, within 12 s more. `heard` is when the last
   * frame came.
   */
  alive: { alive: boolean; heard: number };
}

/** The functions that are called with what happens; with an event also where it comes from. */
export type Listeners<E, H extends GroupHappenings<E> = Happenings<E>> = {
  [K in keyof H]: (happening: H[K], ...about: K extends "event" ? [About] : []) => void;
};

/** The listeners of a subscription, and how many of the latest events of each group it wants at first. */
export type Subscriber<E> = Partial<Listeners<E, GroupHappenings<E>>> & { latest?: number };

/** A subscription to groups, beside others on the same connection. */
export interface Subscription {
  /** The groups' full names. */
  readonly groups: readonly string[];
  /** Leaves the groups that no other subscription has. */
  close(): void;
}
