/** The subprotocol with which a client opts in to positions; docs/client-protocol.md has every frame. */
export const PROTOCOL = "edgerelay.events.v1";

/** What to subscribe to: kind of group → items, such as `{ jobs: ["status_changed"], job_events: [42] }`. */
export type Groups = Record<string, readonly (string | number)[]>;

/** The state of a job, in the group `jobs-status_changed`. */
export interface JobStatus {
  group_name: "jobs";
  unified_job_id: number;
  status: string;
  type?: string;
  finished?: string;
  unified_job_template_id?: number;
  [more: string]: unknown;
}

/** A line of output of a job or the like, in the groups `job_events-<id>`, `ad_hoc_command_events-<id>` and so on. */
export interface OutputEvent {
  group_name:
    | "job_events"
    | "ad_hoc_command_events"
    | "project_update_events"
    | "inventory_update_events"
    | "system_job_events";
  id: number;
  counter: number;
  event: string;
  stdout?: string;
  start_line?: number;
  end_line?: number;
  failed?: boolean;
  changed?: boolean;
  [more: string]: unknown;
}

/** Any other event of AWX, such as those of workflows, schedules and inventories. */
export interface OtherEvent {
  group_name?: string;
  [more: string]: unknown;
}

/** What AWX sends. A site of its own passes its own type to the client. */
export type AWXEvent = JobStatus | OutputEvent | OtherEvent;

/** A frame, understood. Group and position of an event are known with the subprotocol only. */
export type Frame =
  | { kind: "accepted"; user: number | string }
  | { kind: "close" }
  | { kind: "groups"; current: string[]; joined: string[]; left: string[] }
  | { kind: "refused"; message: string }
  | { kind: "event"; data: unknown; group?: string; position?: string; time?: number }
  | { kind: "subscribed"; group: string; position?: string; recovered?: boolean; reason?: string; events?: number }
  | { kind: "gap"; groups?: string[]; position?: string; reason: string; events?: number }
  | { kind: "withheld"; group: string; position?: string }
  | { kind: "broken" };

/**
 * Reads one frame of the server.
 *
 * @param typed the server speaks the subprotocol: events are in frames of their own, so none passes for another frame.
 * Without it, whatever is not the protocol's own is an event.
 */
export function read(text: string, typed = false): Frame {
  try {
    return understand(JSON.parse(text), typed);
  } catch {
    return { kind: "broken" };
  }
}

/** Is `read` for a frame that is parsed already. */
export function understand(data: unknown, typed: boolean): Frame {
  const other: Frame = typed ? { kind: "broken" } : { kind: "event", data };
  if (typeof data !== "object" || data === null || Array.isArray(data)) return other;
  const frame = data as Record<string, unknown>;
  if (typed && frame.type !== undefined) return readTyped(frame);
  // An event may have members of these names, too, but never alone and never beside none of an event's own.
  const keys = Object.keys(frame);
  const only = (...names: string[]) => keys.every((key) => names.includes(key));
  if (frame.accept === true && only("accept", "user")) {
    return { kind: "accepted", user: frame.user as number | string };
  }
  if (frame.close === true && only("close")) return { kind: "close" };
  if (Array.isArray(frame.groups_current)) {
    return {
      kind: "groups",
      current: list(frame.groups_current),
      joined: list(frame.groups_joined),
      left: list(frame.groups_left),
    };
  }
  if (typeof frame.error === "string" && only("error")) return { kind: "refused", message: frame.error };
  return other;
}

const list = (value: unknown) => (Array.isArray(value) ? value.map(String) : []);

/** Reads a frame with a type. A later version may have others, which are ignored. */
function readTyped({ type, event, text, ...rest }: Record<string, unknown>): Frame {
  switch (type) {
    case "event":
      return { ...rest, kind: type, data: event === undefined ? text : event };
    case "subscribed":
    case "withheld":
    case "gap":
      return { ...rest, kind: type } as Frame;
  }
  return { kind: "broken" };
}

/**
 * The group that an event without the subprotocol belongs to, as far as AWX's events tell: its kind, and its item if it
 * is the output of a job or the like.
 */
export function origin(event: unknown): { kind?: string; item?: string } {
  const { group_name: kind, ...members } = (event ?? {}) as Record<string, unknown>;
  if (typeof kind !== "string") return {};
  const id = kind.endsWith("_events") ? members[kind.slice(0, -7)] : undefined;
  return id === undefined ? { kind } : { kind, item: String(id) };
}

/** The value of a cookie; of several with one name the last, as Django reads them. */
export function cookie(cookies: string, name: string): string {
  let value = "";
  for (const part of cookies.split(";")) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === name) value = part.slice(at + 1).trim();
  }
  return value;
}
