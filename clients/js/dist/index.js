import { pause } from "./backoff.js";
import { cookie, read } from "./protocol.js";
function browser() {
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
const OPEN = 1; // WebSocket.OPEN, where there may be no such global
/**
 * A subscription to groups that outlives connections: it opens a new socket whenever one is lost, and subscribes again on it.
 *
 * `E` is the type of events; nothing checks it at run time.
 */
export class Client {
    #options;
    #env;
    #url;
    #listeners = new Map();
    #state = "closed";
    #groups;
    #socket = null;
    #greeted = false; // on this socket
    #token = ""; // the one that this socket's handshake had
    #answered = null; // the socket on which a subscription was answered last
    #loggedOut = false; // the server said so on this socket
    #failures = 0;
    #heard = 0; // when the last frame came
    #retry; // timer until the next attempt
    #watch; // timer for an answer that is due
    #settle; // timer until the connection counts as stable
    #look; // timer until the next look whether the server has been heard
    #probing = false; // the answer that is due only tells whether the server is there
    constructor(options = {}) {
        this.#options = options;
        this.#env = { ...browser(), ...options.environment };
        this.#groups = options.groups ?? {};
        const url = new URL(options.url ?? "/websocket/", this.#env.location?.href);
        url.protocol = url.protocol.replace("http", "ws");
        this.#url = url.href;
    }
    /** The state now. */
    get state() {
        return this.#state;
    }
    /** Calls a function whenever something happens. Returns a function that ends that. */
    on(what, listener) {
        let set = this.#listeners.get(what);
        if (!set)
            this.#listeners.set(what, (set = new Set()));
        set.add(listener);
        return () => void set.delete(listener);
    }
    /** Connects, and stays connected until `close()`. Also tries again at once where it waits or was logged out. */
    connect() {
        if (this.#state === "connecting" || this.#state === "open")
            return this;
        if (this.#state === "closed")
            this.#attend(true);
        this.#open();
        return this;
    }
    /** Replaces what is subscribed to; now, or once there is a connection. `{}` leaves everything. */
    subscribe(groups) {
        this.#groups = groups;
        this.#ask();
    }
    /** Disconnects for good. `connect()` begins anew. */
    close() {
        this.#attend(false);
        this.#drop(1000);
        this.#failures = 0;
        this.#answered = null;
        this.#enter({ state: "closed" });
    }
    #open() {
        this.#drop();
        this.#enter({ state: "connecting" });
        this.#greeted = this.#loggedOut = false;
        this.#token = this.#options.token?.() ?? cookie(this.#env.document?.cookie ?? "", "csrftoken");
        let socket;
        try {
            socket = new this.#env.WebSocket(this.#url);
        }
        catch (error) {
            this.#lost(1006, String(error)); // blocked by a policy of the page, for instance
            return;
        }
        this.#socket = socket;
        // A socket that was given up says nothing any more, whatever comes of it.
        socket.onmessage = ({ data }) => socket === this.#socket && this.#take(String(data));
        socket.onclose = ({ code, reason }) => socket === this.#socket && this.#lost(code, reason);
        this.#expect("the server does not greet");
    }
    /** Gives the socket and all timers up. */
    #drop(code) {
        const socket = this.#socket;
        this.#socket = null;
        for (const timer of [this.#retry, this.#watch, this.#settle, this.#look])
            this.#env.clearTimeout(timer);
        this.#retry = this.#watch = this.#settle = this.#look = undefined;
        if (socket) {
            socket.onmessage = socket.onclose = null;
            socket.close(code);
        }
    }
    #lost(code, reason) {
        this.#drop();
        if (this.#loggedOut) {
            this.#failures = 0;
            this.#enter({ state: "loggedout", code, reason });
            return;
        }
        // 1001 and 1012: the server stops or restarts. 1006: no close frame; the network, a proxy, or a refused handshake.
        const leaving = code === 1001 || code === 1012;
        const after = pause(this.#options.backoff ?? {}, this.#failures, leaving, this.#env.random());
        this.#failures++;
        this.#retry = this.#env.setTimeout(() => this.#open(), after);
        this.#enter({ state: "waiting", code, reason, retryIn: Math.round(after) });
    }
    #take(text) {
        this.#heard = this.#env.now();
        const frame = read(text);
        switch (frame.kind) {
            case "accepted":
                this.#greeted = true;
                this.#answer();
                this.#listen();
                this.#settle = this.#env.setTimeout(() => (this.#failures = 0), this.#options.stable ?? 10_000);
                this.#enter({ state: "open" });
                this.#tell("accepted", { user: frame.user });
                this.#ask();
                break;
            case "close":
                this.#loggedOut = true;
                break;
            case "groups": {
                this.#answer();
                const { current, joined, left } = frame;
                const again = this.#answered !== null && this.#answered !== this.#socket;
                this.#answered = this.#socket;
                if (!this.#probing || joined.length > 0 || left.length > 0)
                    this.#tell("groups", { current, joined, left, again });
                this.#probing = false;
                break;
            }
            case "refused":
                this.#answer();
                if (frame.message === "access denied to channel" && this.#stale()) {
                    // A login since the handshake has changed the cookie: a new handshake brings the new one.
                    this.#lost(1000, "the token has changed");
                    break;
                }
                if (!this.#probing)
                    this.#tell("refused", { message: frame.message }); // else it has been told before
                break;
            case "event":
                this.#tell("event", frame.data);
                break;
        }
    }
    #stale() {
        const token = this.#options.token?.() ?? cookie(this.#env.document?.cookie ?? "", "csrftoken");
        return token !== "" && token !== this.#token;
    }
    /** Sends the subscription, if there is a connection to send it on. Otherwise it is sent once there is. */
    #ask(probing = false) {
        const socket = this.#socket;
        if (!socket || !this.#greeted || socket.readyState !== OPEN)
            return;
        this.#probing = probing;
        socket.send(JSON.stringify({ groups: this.#groups, xrftoken: this.#token }));
        this.#expect("the server does not answer");
    }
    /** Gives the socket up unless the server says something soon. */
    #expect(complaint) {
        this.#answer();
        this.#watch = this.#env.setTimeout(() => this.#lost(1006, complaint), this.#options.patience ?? 15_000);
    }
    /** Nothing is due any more. */
    #answer() {
        this.#env.clearTimeout(this.#watch);
        this.#watch = undefined;
    }
    /** Sees to it that the server is heard while the page is visible: a connection that a router has forgotten looks as if it stood. */
    #listen() {
        const quiet = this.#options.quiet ?? 30_000;
        const since = this.#env.now() - this.#heard;
        const after = quiet * (1 + this.#env.random() / 2) - (since < quiet ? since : 0);
        this.#look = this.#env.setTimeout(() => {
            this.#listen();
            this.#probe();
        }, after);
    }
    /** Asks whether the server is still there, unless it has been heard lately, or is asked already. */
    #probe() {
        if (this.#env.document?.visibilityState === "hidden" || this.#watch !== undefined)
            return;
        if (this.#env.now() - this.#heard >= (this.#options.quiet ?? 30_000))
            this.#ask(true);
    }
    /** What the page tells: it is seen again, the network is back, it is put away with the "back" button. */
    #wake = () => {
        if (this.#env.document?.visibilityState === "hidden")
            return;
        if (this.#state === "waiting")
            this.#open();
        // A computer that slept has sockets that only seem to stand. The answer to a subscription tells, or its absence.
        else if (this.#state === "open")
            this.#probe();
    };
    #leave = () => {
        // A page with an open socket is not kept for the way back.
        if (this.#state !== "connecting" && this.#state !== "open" && this.#state !== "waiting")
            return;
        this.#drop(1000);
        this.#enter({ state: "waiting" });
    };
    #attend(on) {
        const { window, document } = this.#env;
        for (const [target, what, run] of [
            [document, "visibilitychange", this.#wake],
            [window, "online", this.#wake],
            [window, "pageshow", this.#wake],
            [window, "pagehide", this.#leave],
        ]) {
            if (on)
                target?.addEventListener(what, run);
            else
                target?.removeEventListener(what, run);
        }
    }
    #enter(happening) {
        if (happening.state === this.#state && happening.state !== "waiting")
            return;
        this.#state = happening.state;
        this.#tell("state", happening);
    }
    #tell(what, happening) {
        for (const listener of [...(this.#listeners.get(what) ?? [])]) {
            try {
                listener(happening);
            }
            catch (error) {
                // A listener that fails must not cost others their event, and must be seen.
                this.#env.report(error);
            }
        }
    }
}
/** Connects a new client: `connect({ groups: { jobs: ["status_changed"] } }).on("event", …)`. */
export function connect(options = {}) {
    return new Client(options).connect();
}
