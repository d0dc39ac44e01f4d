/** Lets promises settle. */
export async function settle() {
  for (let n = 0; n < 30; n++) await null;
}

/** A request of which the test plays the server: an event stream or a poll. */
class Request {
  #chunks = [];
  #waiting;

  constructor(browser, url, init) {
    this.url = new URL(url);
    this.door = init.headers.Accept === "text/event-stream" ? "stream" : "poll";
    this.wait = Number(this.url.searchParams.get("wait"));
    this.sent = JSON.parse(init.body);
    this.aborted = false;
    this.over = false;
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    init.signal.addEventListener("abort", () => {
      if (this.over) return;
      this.aborted = true;
      this.lose(new Error("aborted"));
    });
    browser.requests.push(this);
  }

  /** Answers with headers alone: an open stream, or a refusal. */
  open(status = 200, type = "text/event-stream; charset=utf-8") {
    this.opened = true;
    const read = () => new Promise((resolve, reject) => ((this.#waiting = { resolve, reject }), this.#flush()));
    const headers = { get: (name) => (name === "Content-Type" ? type : null) };
    this.resolve({ status, headers, body: { getReader: () => ({ read }) }, json: async () => JSON.parse(this.text) });
    if (status !== 200) this.over = true;
  }

  /** Answers a poll. */
  answer(frames) {
    this.text = JSON.stringify({ frames });
    this.over = true;
    this.open(200, "application/json");
  }

  /** Sends bytes of a stream. */
  push(text) {
    if (!this.opened) this.open();
    this.#chunks.push({ done: false, value: new TextEncoder().encode(text) });
    this.#flush();
  }

  say(...frames) { for (const frame of frames) this.push(`data: ${JSON.stringify(frame)}\n\n`); }

  /** Ends a stream in good order. */
  end() {
    this.over = true;
    this.#chunks.push({ done: true });
    this.#flush();
  }

  /** Breaks the connection. */
  lose(error = new TypeError("network error")) {
    this.over = true;
    this.reject(error);
    this.#chunks.push({ error });
    this.#flush();
  }

  #flush() {
    if (!this.#waiting || this.#chunks.length === 0) return;
    const { resolve, reject } = this.#waiting;
    const { error, ...chunk } = this.#chunks.shift();
    this.#waiting = undefined;
    if (error) reject(error);
    else resolve(chunk);
  }
}

// A browser of which the test turns the clock and plays the server.
export class Browser {
  sockets = [];
  cookies = "awx_sessionid=s; csrftoken=old; csrftoken=t1";
  time = 0;
  draw = 0.5; // what random() gives
  timers = new Map();
  nextTimer = 1;
  handlers = new Map();
  visibilityState = "visible";
  errors = [];
  http = false; // whether it has fetch
  requests = [];
  storage = null; // a Map
  places = 4;

  environment() {
    const browser = this;
    const target = {
      addEventListener: (what, run) => this.handlers.set(what, run),
      removeEventListener: (what) => this.handlers.delete(what),
    };
    return {
      WebSocket: class {
        constructor(url, protocols = []) {
          this.url = url;
          this.protocols = protocols;
          this.protocol = "";
          this.readyState = 0;
          this.sent = [];
          browser.sockets.push(this);
        }
        send(text) {
          if (this.readyState !== 1) throw new Error("sent on a socket that is not open");
          this.sent.push(JSON.parse(text));
        }
        close(code) {
          this.closed = code ?? null;
          this.readyState = 3;
        }
      },
      document: {
        get cookie() { return browser.cookies; },
        get visibilityState() { return browser.visibilityState; },
        ...target,
      },
      window: target,
      location: { href: "https://awx.example.com/jobs/" },
      fetch: this.http && ((url, init) => new Request(this, url, init).response),
      storage: this.storage && {
        getItem: (key) => this.storage.get(key) ?? null,
        setItem: (key, value) => this.storage.set(key, value),
      },
      takePlace: async () => {
        if (this.places === 0) return undefined;
        this.places--;
        let taken = 1;
        return () => ((this.places += taken), (taken = 0));
      },
      setTimeout: (run, after) => (this.timers.set(this.nextTimer, { at: this.time + after, run }), this.nextTimer++),
      clearTimeout: (id) => this.timers.delete(id),
      now: () => this.time,
      random: () => this.draw,
      report: (error) => this.errors.push(error),
    };
  }

  get socket() { return this.sockets.at(-1); }

  get request() { return this.requests.at(-1); }

  /** Lets time pass, and whatever follows from it happen. */
  async wait(milliseconds) {
    const end = this.time + milliseconds;
    do {
      this.pass(Math.min(50, end - this.time));
      await settle();
    } while (this.time < end);
    for (let n = 0; n < 4; n++) {
      this.pass(0);
      await settle();
    }
  }

  /** Lets time pass. */
  pass(milliseconds) {
    const end = this.time + milliseconds;
    for (;;) {
      const due = [...this.timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = due[1].at;
      due[1].run();
    }
    this.time = end;
  }

  say(frame, socket = this.socket) { socket.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) }); }

  /** Accepts the socket: with the subprotocol if the server is typed and the client has offered it. */
  accept(typed = false) {
    this.socket.readyState = 1;
    if (typed) this.socket.protocol = this.socket.protocols[0] ?? "";
    this.socket.onopen?.();
  }

  greet(typed) {
    this.accept(typed);
    this.say({ accept: true, user: 7 });
  }

  answer(current = ["jobs-summary"]) { this.say({ groups_current: current, groups_left: [], groups_joined: current }); }

  lose(code, reason = "", socket = this.socket) {
    socket.readyState = 3;
    socket.onclose?.({ code, reason });
  }

  happen(what) { this.handlers.get(what)?.(); }
}
