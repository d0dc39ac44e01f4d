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
      setTimeout: (run, after) => (this.timers.set(this.nextTimer, { at: this.time + after, run }), this.nextTimer++),
      clearTimeout: (id) => this.timers.delete(id),
      now: () => this.time,
      random: () => this.draw,
      report: (error) => this.errors.push(error),
    };
  }

  get socket() { return this.sockets.at(-1); }

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
