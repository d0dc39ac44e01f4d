// A relay with a history, as docs/client-protocol.md describes it.
const SLACK = 2; // seconds

/** What the relay has of a connection. */
class Session {
  held = new Set();
  queue = [{ accept: true, user: 7 }]; // frames on their way to the client

  constructor(relay) {
    this.relay = relay;
    relay.sessions.add(this);
  }

  close() {
    this.relay.sessions.delete(this);
    this.queue = [];
  }

  /** Frames on their way: the next ones arrive. */
  arrive(count) { return this.queue.splice(0, count); }

  receive(message) { this.relay.receive(message, this); }
}

export class Relay {
  now = 1000; // seconds
  #groups = new Map(); // name → { kept, log: every entry in order of arrival }
  sessions = new Set();
  #only; // the session of a client with one connection at a time
  #marks = 0;
  /** How many of a client's positions, the last ones, are not sent again; besides the position to resume from. */
  honored = Infinity;

  group(name) {
    let group = this.#groups.get(name);
    if (!group) this.#groups.set(name, (group = { kept: !name.startsWith("free"), log: [] }));
    return group;
  }

  /** Publishes an event by an emitter whose clock differs. */
  publish(name, event, clock) {
    const group = this.group(name);
    const entry = { position: `${name}:${this.#marks++}`, time: this.now + clock, event };
    group.log.push(entry);
    this.#tell(name, this.#event(name, entry));
  }

  /** Trims the history to its last entries. */
  trim(name, count) {
    const group = this.group(name);
    group.log = group.log.slice(-count || group.log.length);
  }

  /** Loses an event, and says so. */
  lose(name) {
    const group = this.group(name);
    const marker = { position: `${name}:${this.#marks++}`, time: this.now, gap: true };
    group.log.push(marker);
    this.#tell(name, { type: "gap", groups: [name], ...(group.kept && { position: marker.position }), reason: "mailbox_full" });
  }

  #event(name, { position, time, event }) {
    return { type: "event", group: name, ...(this.group(name).kept && { position, time }), event };
  }

  #tell(name, frame) {
    for (const { held, queue } of this.sessions) if (held.has(name)) queue.push(frame);
  }

  session() { return new Session(this); }

  connect() {
    this.disconnect();
    this.#only = this.session();
  }

  disconnect() { this.#only?.close(); }
  arrive(count) { return this.#only.arrive(count); }
  get pending() { return this.#only.queue.length; }

  receive({ groups, since = {} }, session = this.#only) {
    const { held, queue } = session;
    const wanted = new Set(Object.entries(groups).flatMap(([kind, items]) => items.map((item) => `${kind}-${item}`)));
    const joined = [...wanted].filter((name) => !held.has(name));
    const left = [...held].filter((name) => !wanted.has(name));
    for (const name of left) held.delete(name);
    queue.push({ groups_current: [...wanted], groups_left: left, groups_joined: joined });
    for (const name of joined) {
      held.add(name);
      queue.push(...this.#begin(name, since[name]));
    }
  }

  #begin(name, since) {
    const group = this.group(name);
    if (!group.kept) return [{ type: "subscribed", group: name }];
    const { log } = group;
    const list = Array.isArray(since) ? since : [];
    const answer = { type: "subscribed", group: name };
    let replay = [];
    let place; // before the replay
    if (list.length > 0) {
      const base = log.find(({ position }) => position === list.at(-1));
      const after = log.slice(log.indexOf(base) + 1);
      const reason = !base ? "unknown_position" : after.some(({ gap }) => gap) ? "gap" : undefined;
      Object.assign(answer, { recovered: !reason, ...(reason && { reason }) });
      const honored = new Set(list.slice(-1 - this.honored));
      if (!reason) {
        place = base.position;
        replay = this.#sorted(log).filter(({ position, time, gap }) => !gap && time >= base.time - SLACK && !honored.has(position));
      }
    } else if (since?.latest) {
      replay = this.#sorted(log).filter(({ gap }) => !gap).slice(-since.latest);
    }
    if (log.length === 0) log.push({ position: `${name}:${this.#marks++}`, time: this.now, head: true });
    // As in the relay, the head is the last entry, which need not be an event.
    replay = replay.filter(({ head }) => !head);
    const position = replay.length > 0 && place ? place : log.at(-1).position;
    const begin = { ...answer, position, events: replay.length };
    return [begin, ...replay.map((entry) => this.#event(name, entry))];
  }

  #sorted(log) { return [...log].sort((a, b) => a.time - b.time); }
}
