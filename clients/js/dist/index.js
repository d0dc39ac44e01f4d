import { Connection } from "./connection.js";
import { browser } from "./environment.js";
import { origin } from "./protocol.js";
import { message, Track } from "./track.js";
/**
 * Subscriptions to groups that outlive connections: the client opens a new socket whenever one is lost, subscribes
 * again on it, and gets what was missed, or tells that something is missing.
 *
 * `E` is the type of events; nothing checks it at run time.
 */
export class Client {
    #env;
    #keep;
    #connection;
    #listeners = {};
    #groups = new Map();
    #own; // the client's own groups
    #sockets = 0; // how many sockets were lost
    #answered = -1; // the value of #sockets when a subscription was answered last; -1: never
    #asked = false; // an answer to a subscription is due
    #changed = false; // the subscription has changed since it was sent
    #probing = false; // the subscription that an answer is due to is the same as before
    #current = []; // the groups that the server has on this connection
    constructor(options = {}) {
        this.#env = { ...browser(), ...options.environment };
        this.#keep = options.keep ?? 0;
        this.#own = this.#hold(options.groups ?? {}, options.latest ? { latest: options.latest } : {});
        this.#connection = new Connection(options, this.#env, {
            state: (happening) => this.#tell("state", happening),
            alive: (happening) => this.#tell("alive", happening),
            door: (happening) => this.#tell("door", happening),
            frame: (frame) => this.#take(frame),
            lost: () => this.#lost(),
            moved: (asked) => this.#moved(asked),
            message: () => message(this.#groups.values(), true, true),
            probe: () => this.#ask(true),
            resumable: () => this.#connection.typed && [...this.#groups.values()].every((group) => group.resumable),
            owed: () => [...this.#groups.values()].some((group) => group.owed),
        });
    }
    /** The state now. */
    get state() {
        return this.#connection.state;
    }
    /** The way to the server that is in use; none without a connection. */
    get door() {
        return this.#connection.door;
    }
    /** When the server was heard last, in milliseconds since 1970; 0 before the first. */
    get heard() {
        return this.#connection.heard;
    }
    /** Calls a function whenever something happens, in any of the groups. Returns a function that ends that. */
    on(what, listener) {
        const set = (this.#listeners[what] ??= new Set());
        set.add(listener);
        return () => void set.delete(listener);
    }
    /** Connects, and stays connected until `close()`. Also tries again at once where it waits or was logged out. */
    connect() {
        this.#connection.connect();
        return this;
    }
    /**
     * With listeners: adds a subscription, which hears of its groups only, and ends by its `close()`. All subscriptions
     * share the connection. A function listens to events.
     *
     * Without: replaces the client's own groups, which were those of the option `groups`. `{}` leaves them.
     *
     * Takes effect now, or once there is a connection.
     */
    subscribe(groups, to) {
        const held = this.#hold(groups, typeof to === "function" ? { event: to } : (to ?? {}));
        if (to) {
            this.#change();
        }
        else {
            this.#release(this.#own);
            this.#own = held;
            this.#ask();
        }
        return held;
    }
    /** Disconnects for good. `connect()` begins anew. */
    close() {
        this.#answered = -1;
        for (const group of this.#groups.values())
            group.forget();
        this.#connection.close();
    }
    /** Makes a subscription and adds it to its groups. */
    #hold(wanted, to) {
        const groups = new Map();
        for (const [kind, items] of Object.entries(wanted)) {
            for (const item of items) {
                const name = `${kind}-${item}`;
                let group = this.#groups.get(name);
                if (!group)
                    this.#groups.set(name, (group = new Track(kind, item)));
                groups.set(name, group);
            }
        }
        const close = () => {
            this.#release(held);
            this.#change();
        };
        const held = { groups: [...groups.keys()], to, close };
        const latest = to.latest ?? 0;
        for (const group of groups.values()) {
            group.subscriptions.add(held);
            group.latest = Math.max(group.latest, latest);
            group.keep = Math.max(group.keep, latest, this.#keep);
            group.denied = false;
            // The server says nothing of a group that it has already. The listeners are called after the page has its handle.
            if (group.joined && group.begun)
                void Promise.resolve().then(() => this.#welcome(held, group, latest));
        }
        return held;
    }
    /** Tells a subscription what the client has of a group that is shared. */
    #welcome(held, group, latest) {
        if (!group.subscriptions.has(held))
            return;
        const { to } = held;
        const kept = latest > 0 ? group.kept.slice(-latest) : [];
        this.#call(to.subscribed, { group: group.name, ...place(group.last), events: kept.length });
        for (const { event, about } of kept)
            this.#call(to.event, event, { ...about, replayed: true });
    }
    #release(held) {
        for (const name of held.groups)
            this.#groups.get(name)?.subscriptions.delete(held);
    }
    /** Sends the subscription if a group has come or gone. */
    #change() {
        for (const group of this.#groups.values()) {
            if (group.joined !== group.subscriptions.size > 0)
                return this.#ask();
        }
    }
    /**
     * Sends the subscription: now, after the answer that is due, or once there is a connection.
     *
     * @param probing it is the same as before
     * @param anew the server does not know it, as for each request
     */
    #ask(probing = false, anew = this.#connection.requests) {
        if (this.#asked && !anew) {
            this.#changed ||= !probing;
            return;
        }
        const subscription = message(this.#groups.values(), this.#connection.typed, anew, probing && anew);
        for (const [name, { subscriptions }] of this.#groups)
            if (subscriptions.size === 0)
                this.#groups.delete(name);
        this.#changed = false;
        if (!this.#connection.send(subscription, probing))
            return;
        this.#asked = true;
        this.#probing = probing;
        if (anew)
            this.#rejoin();
    }
    /** Another line is used from now on. What this one brings follows what the last one has brought. */
    #moved(asked) {
        const goesOn = this.#answered === this.#sockets;
        this.#changed = false;
        if (!asked)
            return this.#ask(goesOn, this.#connection.typed);
        this.#asked = true;
        this.#probing = goesOn;
        this.#rejoin();
    }
    /** Another request goes on where the last one was. */
    #rejoin() {
        for (const group of this.#groups.values()) {
            group.replay = undefined;
            group.awaited = true;
        }
    }
    #lost() {
        this.#sockets++;
        this.#asked = this.#changed = this.#probing = false;
        this.#current = [];
        for (const group of this.#groups.values())
            group.lose();
    }
    #answer() {
        this.#asked = false;
        this.#connection.answered();
    }
    #take(frame) {
        switch (frame.kind) {
            case "accepted":
                this.#tell("accepted", { user: frame.user });
                break;
            case "groups":
                this.#answer();
                this.#join(frame);
                break;
            case "refused":
                this.#answer();
                this.#refuse(frame.message);
                break;
            case "subscribed": {
                const group = this.#groups.get(frame.group);
                if (group?.joined)
                    this.#begin(group, frame);
                break;
            }
            case "event":
                this.#event(frame);
                break;
            case "gap":
                for (const name of frame.groups ?? this.#groups.keys())
                    this.#missed(name, frame);
                break;
            case "withheld":
                if (this.#groups.get(frame.group)?.fresh(frame.position)) { // told once
                    this.#missed(frame.group, { reason: "withheld", events: 1 });
                }
                break;
        }
        if (this.#changed)
            this.#ask();
    }
    /** The server has answered a subscription. */
    #join({ current }) {
        const again = this.#answered >= 0 && this.#answered !== this.#sockets;
        this.#answered = this.#sockets;
        const probing = this.#probing;
        this.#probing = false;
        if (probing)
            this.#connection.pulse(true);
        const has = new Set(current);
        // On another line, the server calls groups new that the client has had all the time.
        const joined = current.filter((name) => !this.#current.includes(name));
        const left = this.#current.filter((name) => !has.has(name));
        this.#current = current;
        const begun = [];
        for (const group of this.#groups.values()) {
            const had = group.joined;
            group.joined = has.has(group.name);
            if (!group.joined)
                group.lose(true);
            if (group.joined && !had && !this.#connection.typed)
                begun.push(group);
        }
        if (!probing || joined.length > 0 || left.length > 0)
            this.#tell("groups", { current, joined, left, again });
        for (const group of begun)
            this.#begin(group, {});
    }
    /** A group's events come from here on. */
    #begin(group, from) {
        const { position, recovered, reason = "no_history", events = 0 } = from;
        const before = group.begun;
        const { settled } = group;
        group.begun = true;
        group.awaited = false;
        if (!settled)
            this.#tellGroup(group, "subscribed", { group: group.name, ...place(position), events });
        if (before && !recovered)
            this.#missed(group.name, { reason });
        // The events of a replay bring positions of their own; this one may be before them.
        group.replay = { left: events, position: events > 0 ? undefined : position, recovered: recovered === true };
        this.#complete(group);
    }
    /** Ends a replay after its last event. */
    #complete(group) {
        const { replay, settled } = group;
        if (!replay || replay.left > 0)
            return;
        group.replay = undefined;
        group.last = replay.position ?? group.last;
        group.settled = true;
        if (replay.recovered && !settled)
            this.#tellGroup(group, "recovered", { group: group.name, events: group.given });
    }
    #event({ data, group: name, position, time }) {
        const event = data;
        if (!this.#connection.typed)
            return this.#plain(event);
        const group = this.#groups.get(name ?? "");
        if (!group?.joined)
            return; // left meanwhile
        const { replay, settled, newest } = group;
        if (group.fresh(position, time)) {
            // Between two requests of one connection, events come as a replay that are new.
            const replayed = replay !== undefined && !(settled && (time ?? newest) > newest);
            const about = { group: group.name, ...place(position), ...(time !== undefined && { time }), replayed };
            group.hold(event, about);
            // The latest events are only for subscriptions that asked for as many.
            const latest = replay && !replay.recovered ? replay.left : 0;
            this.#tellGroup(group, "event", event, about, latest);
            if (replay)
                group.given++;
        }
        if (replay) {
            replay.left--;
            this.#complete(group);
        }
    }
    /** An event without the subprotocol: its group is known as far as its text tells. */
    #plain(event) {
        const { kind, item } = origin(event);
        const to = new Set();
        for (const group of this.#groups.values()) {
            if (kind !== undefined && (group.kind !== kind || (item !== undefined && String(group.item) !== item)))
                continue;
            if (item !== undefined)
                group.hold(event, { replayed: false });
            for (const held of group.subscriptions)
                to.add(held);
        }
        this.#tell("event", event, to, { replayed: false });
    }
    /** Events of a group are missing. */
    #missed(name, { position, reason, events }) {
        const group = this.#groups.get(name);
        if (!group?.joined)
            return;
        if (position) {
            if (group.replay)
                group.replay.position = position;
            else
                group.last = position;
        }
        const { counter } = group;
        const known = { ...(events !== undefined && { events }), ...(counter !== undefined && { counter }) };
        this.#tellGroup(group, "gap", { group: name, reason, ...known });
    }
    #refuse(message) {
        // A login since the handshake has changed the cookie: a new handshake brings the new one.
        if (message === "access denied to channel" && this.#connection.renew())
            return;
        if (this.#probing)
            return; // it has been told before
        const to = new Set();
        for (const { kind, item, subscriptions } of this.#groups.values()) {
            if (message !== `access denied to channel ${kind} for resource id ${item}`)
                continue;
            for (const held of subscriptions)
                to.add(held);
        }
        this.#tell("refused", { message }, to);
    }
    /** Tells what happens in a group. With `latest`, it is the event before so many of the latest: not all want it. */
    #tellGroup({ subscriptions }, what, happening, about, latest = 0) {
        if (subscriptions.size === 0)
            return; // the server does not know yet
        const to = latest > 0 ? [...subscriptions].filter(({ to }) => latest <= (to.latest ?? 0)) : subscriptions;
        this.#tell(what, happening, to, about);
    }
    /** Calls the client's listeners, and those of subscriptions. */
    #tell(what, happening, to = [], about) {
        const listeners = [...(this.#listeners[what] ?? [])];
        for (const held of to)
            listeners.push(held.to[what]);
        for (const listener of listeners)
            this.#call(listener, happening, about);
    }
    #call(listener, ...happening) {
        try {
            listener?.(...happening);
        }
        catch (error) {
            // A listener that fails must not cost others their event, and must be seen.
            this.#env.report(error);
        }
    }
}
const place = (position) => (position ? { position } : {});
/** Connects a new client: `connect({ groups: { jobs: ["status_changed"] } }).on("event", …)`. */
export function connect(options = {}) {
    return new Client(options).connect();
}
