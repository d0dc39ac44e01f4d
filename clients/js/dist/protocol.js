/** Reads one frame of the server. Whatever is not the protocol's own is an event. */
export function read(text) {
    let data;
    try {
        data = JSON.parse(text);
    }
    catch {
        return { kind: "broken" };
    }
    if (typeof data !== "object" || data === null || Array.isArray(data))
        return { kind: "event", data };
    const frame = data;
    // An event may have members of these names, too, but never alone and never beside none of an event's own.
    const keys = Object.keys(frame);
    const only = (...names) => keys.every((key) => names.includes(key));
    if (frame.accept === true && only("accept", "user")) {
        return { kind: "accepted", user: frame.user };
    }
    if (frame.close === true && only("close"))
        return { kind: "close" };
    if (Array.isArray(frame.groups_current)) {
        const list = (value) => (Array.isArray(value) ? value.map(String) : []);
        return {
            kind: "groups",
            current: list(frame.groups_current),
            joined: list(frame.groups_joined),
            left: list(frame.groups_left),
        };
    }
    if (typeof frame.error === "string" && only("error"))
        return { kind: "refused", message: frame.error };
    return { kind: "event", data };
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
