/** The subprotocol with which a client opts in to positions; docs/client-protocol.md has every frame. */
export const PROTOCOL = "edgerelay.events.v1";
/**
 * Reads one frame of the server.
 *
 * @param typed the server speaks the subprotocol: events are in frames of their own, so none passes for another frame.
 * Without it, whatever is not the protocol's own is an event.
 */
export function read(text, typed = false) {
    try {
        return understand(JSON.parse(text), typed);
    }
    catch {
        return { kind: "broken" };
    }
}
/** Is `read` for a frame that is parsed already. */
export function understand(data, typed) {
    const other = typed ? { kind: "broken" } : { kind: "event", data };
    if (typeof data !== "object" || data === null || Array.isArray(data))
        return other;
    const frame = data;
    if (typed && frame.type !== undefined)
        return readTyped(frame);
    // An event may have members of these names, too, but never alone and never beside none of an event's own.
    const keys = Object.keys(frame);
    const only = (...names) => keys.every((key) => names.includes(key));
    if (frame.accept === true && only("accept", "user")) {
        return { kind: "accepted", user: frame.user };
    }
    if (frame.close === true && only("close"))
        return { kind: "close" };
    if (Array.isArray(frame.groups_current)) {
        return {
            kind: "groups",
            current: list(frame.groups_current),
            joined: list(frame.groups_joined),
            left: list(frame.groups_left),
        };
    }
    if (typeof frame.error === "string" && only("error"))
        return { kind: "refused", message: frame.error };
    return other;
}
const list = (value) => (Array.isArray(value) ? value.map(String) : []);
/** Reads a frame with a type. A later version may have others, which are ignored. */
function readTyped({ type, event, text, ...rest }) {
    switch (type) {
        case "event":
            return { ...rest, kind: type, data: event === undefined ? text : event };
        case "subscribed":
        case "withheld":
        case "gap":
            return { ...rest, kind: type };
    }
    return { kind: "broken" };
}
/**
 * The group that an event without the subprotocol belongs to, as far as AWX's events tell: its kind, and its item if it
 * is the output of a job or the like.
 */
export function origin(event) {
    const { group_name: kind, ...members } = (event ?? {});
    if (typeof kind !== "string")
        return {};
    const id = kind.endsWith("_events") ? members[kind.slice(0, -7)] : undefined;
    return id === undefined ? { kind } : { kind, item: String(id) };
}
/** The value of a cookie; of several with one name the last, as Django reads them. */
export function cookie(cookies, name) {
    let value = "";
    for (const part of cookies.split(";")) {
        const at = part.indexOf("=");
        if (at > 0 && part.slice(0, at).trim() === name)
            value = part.slice(at + 1).trim();
    }
    return value;
}
