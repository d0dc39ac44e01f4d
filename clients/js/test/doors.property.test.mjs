import assert from "node:assert/strict";
import { test } from "node:test";

import { settle } from "./fake.mjs";
import { GROUPS, play, Scene } from "./scene.mjs";

const RUNS = Number(process.env.RUNS ?? 40);
const FIRST = Number(process.env.FIRST ?? 0);
const CLIENT = { hurry: 500, patience: 3000, comeback: 1500, stable: 1000, quiet: 3000, backoff: { first: 200, max: 1000 } };

/**
 * Networks: what becomes of WebSockets (`pass`, `fail`, `hang`) and of streams (`pass`, `fail`, or `keep`: a proxy passes
 * bytes on once it has as many as it wants).
 */
const NETWORKS = {
  open: ["pass", "pass"],
  stripping: ["fail", "pass"],
  buffering: ["fail", "keep"],
  swallowing: ["hang", "pass"],
  worst: ["hang", "keep"],
  pollsOnly: ["fail", "fail"],
  none: ["fail", "fail", "fail"],
};

/** A scene in which the page goes from network to network. */
class Journey extends Scene {
  sockets = new Map(); // socket → { session, read }
  streams = new Map(); // request → { session, kept: text that the proxy has }
  polls = new Map(); // request → { session, until }
  doors = new Set(); // those used

  constructor(seed) {
    super(seed, { browser: { http: true, storage: new Map() }, client: CLIENT });
    this.client.on("door", ({ door }) => this.doors.add(door));
  }

  attach() {
    this.network ??= NETWORKS.open;
    if (!this.sockets) return; // in the constructor
    const [websockets, streams, polls] = this.network;
    for (const socket of this.browser.sockets.slice(this.seenSockets ?? 0)) {
      if (socket.closed !== undefined) continue;
      if (websockets === "fail") this.browser.lose(1006, "", socket);
      if (websockets !== "pass") continue;
      socket.readyState = 1;
      socket.protocol = socket.protocols[0] ?? "";
      if (socket.protocol) this.sockets.set(socket, { session: this.relay.session(), read: 0 });
      else this.browser.lose(1006, "", socket); // this relay is not asked without the subprotocol
    }
    this.seenSockets = this.browser.sockets.length;
    for (const request of this.browser.requests.slice(this.seenRequests ?? 0)) {
      if (request.aborted) continue;
      if ((request.door === "stream" ? streams : polls) === "fail") {
        request.lose();
        continue;
      }
      const session = this.relay.session();
      session.receive(request.sent);
      if (request.door === "stream") this.streams.set(request, { session, kept: streams === "keep" ? "" : undefined });
      else this.polls.set(request, { session, until: this.browser.time + request.wait * 1000 });
    }
    this.seenRequests = this.browser.requests.length;
  }

  /** Carries a few frames of everything that stands. */
  carry(count) {
    this.attach();
    for (const [socket, state] of this.sockets) {
      const { session } = state;
      for (; state.read < socket.sent.length; state.read++) session.receive(socket.sent[state.read]);
      for (let n = count; n > 0 && socket.closed === undefined; n--) {
        for (const frame of session.arrive(1)) this.browser.say(frame, socket);
      }
      if (socket.closed !== undefined) this.gone(this.sockets, socket);
    }
    for (const [request, state] of this.streams) {
      const beat = this.browser.time % 1000 < 100 ? ":\n\n" : "";
      let text = beat + state.session.arrive(count).map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("");
      if (state.kept !== undefined) {
        text = state.kept + text;
        const passed = text.length > 600 ? text.length - this.below(600) : 0;
        [state.kept, text] = [text.slice(passed), text.slice(0, passed)];
      }
      if (text && !request.aborted) request.push(text);
      if (request.aborted) this.gone(this.streams, request);
    }
    for (const [request, { session, until }] of this.polls) {
      const ready = session.queue.some(({ type }) => type === "event" || type === "gap");
      if (!request.aborted && (ready || this.browser.time >= until)) {
        // An answer may end within a replay.
        const head = session.queue.findLastIndex(({ type }) => type === "subscribed") + 1;
        request.answer(session.arrive(this.random() < 0.2 ? head + this.below(3) : Infinity));
      }
      if (request.over) this.gone(this.polls, request);
    }
  }

  gone(all, line) {
    all.get(line).session.close();
    all.delete(line);
  }

  /** Cuts everything, or ends streams in good order. */
  cut() {
    for (const socket of [...this.sockets.keys()]) {
      this.gone(this.sockets, socket);
      if (socket.closed === undefined) this.browser.lose(1006, "", socket);
    }
    for (const all of [this.streams, this.polls]) {
      for (const request of [...all.keys()]) {
        this.gone(all, request);
        if (!request.over) request.lose();
      }
    }
  }

  /** Another network, which cuts all connections or leaves those that stand. */
  travel(network) {
    this.network = network;
    const chance = this.random();
    if (chance < 0.6) this.cut();
    if (chance < 0.3) this.browser.happen("online");
  }

  async run() {
    for (let n = 0; n < 250; n++) {
      this.happen();
      await settle();
      const chance = this.random();
      if (chance < 0.04) this.travel(this.pick(Object.values(NETWORKS)));
      else if (chance < 0.05) this.cut();
      else if (chance < 0.07) for (const [request] of this.streams) if (!request.over) request.end();
      this.carry(this.below(6));
      await settle();
    }
    this.travel(this.pick(Object.values(NETWORKS).filter(([, , polls]) => polls !== "fail")));
    await this.settle();
    this.step++;
    for (const name of GROUPS) this.publish(name, false); // whatever is missing is before this
    this.step++;
    await this.settle();
  }

  /** Goes on without new events until the client has had time to find its way. */
  async settle() {
    for (let n = 0; n < 120; n++) {
      this.carry(10);
      await settle();
      this.browser.pass(100);
      await settle();
    }
  }
}

test(`${RUNS} random journeys from network to network: every event once and in order, or a gap`, async (t) => {
  const used = {};
  const counts = await play(RUNS, (seed) => {
    const scene = new Journey(FIRST + seed);
    scene.client.on("door", ({ door }) => (used[door] = (used[door] ?? 0) + 1));
    return scene;
  });
  const { events, recovered, gaps } = counts;
  t.diagnostic(`${events} events, ${recovered} recoveries, ${gaps} gaps; ${JSON.stringify(used)}`);
  assert.ok(events > 100 * RUNS && recovered > RUNS && gaps > RUNS);
  for (const door of ["websocket", "stream", "poll"]) assert.ok(used[door] > RUNS);
});
