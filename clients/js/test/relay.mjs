// A relay with a history, as docs/client-protocol.md describes it, for one client at a time.
const SLACK = 2; // seconds

export class Relay {
  now = 1000; // seconds
  #groups = new Map(); // name → { kept, log: every entry in order of arrival, held: on the client's connection }
  #queue = []; // frames on their way to the client
  #marks = 0;
  /** How many of a client's positions, the last ones, are not sent again; besides the position to resume from. */
  honored = Infinity;

  group(name) {
    let group = this.#groups.get(name);
    if (!group) this.#groups.set(name, (group = { kept: !name.startsWith("free"), log: [], held: false }));
    return group;
  }

  /** Publishes an event by an emitter whose clock differs. */
  publish(name, event, clock) {
    const group = this.group(name);
    const entry = { position: `${name}:${this.#marks++}`, time: this.now + clock, event };
    group.log.push(entry);
    if (group.held) this.#say(this.#event(name, entry));
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
    if (group.held) this.#say({ type: "gap", groups: [name], ...(group.kept && { position: marker.position }), reason: "mailbox_full" });
  }

  #event(name, { position, time, event }) {
    return { type: "event", group: name, ...(this.group(name).kept && { position, time }), event };
  }

  #say(frame) {
    this.#queue.push(frame);
  }

  connect() {
    this.disconnect();
    this.#say({ accept: true, user: 7 });
  }

  disconnect() {
    this.#queue = [];
    for (const group of this.#groups.values()) group.held = false;
  }

  /** Frames on their way: the next ones arrive. */
  arrive(count) { return this.#queue.splice(0, count); }
  get pending() { return this.#queue.length; }

  receive({ groups, since = {} }) {
    const wanted = new Set(Object.entries(groups).flatMap(([kind, items]) => items.map((item) => `${kind}-${item}`)));
    const joined = [...wanted].filter((name) => !this.group(name).held);
    const left = [...this.#groups].filter(([name, g]) => g.held && !wanted.has(name)).map(([name]) => name);
    for (const name of left) this.group(name).held = false;
    this.#say({ groups_current: [...wanted], groups_left: left, groups_joined: joined });
    for (const name of joined) {
      this.group(name).held = true;
      this.#begin(name, since[name]);
    }
  }

  #begin(name, since) {
    const group = this.group(name);
    if (!group.kept) return this.#say({ type: "subscribed", group: name });
    const { log } = group;
    const list = Array.isArray(since) ? since : [];
    const answer = { type: "subscribed", group: name };
    let replay = [];
    if (list.length > 0) {
      const base = log.find(({ position }) => position === list.at(-1));
      const after = log.slice(log.indexOf(base) + 1);
      const reason = !base ? "unknown_position" : after.some(({ gap }) => gap) ? "gap" : undefined;
      Object.assign(answer, { recovered: !reason, ...(reason && { reason }) });
      const honored = new Set(list.slice(-1 - this.honored));
      if (!reason) {
        replay = this.#sorted(log).filter(({ position, time, gap }) => !gap && time >= base.time - SLACK && !honored.has(position));
      }
    } else if (since?.latest) {
      replay = this.#sorted(log).filter(({ gap }) => !gap).slice(-since.latest);
    }
    if (log.length === 0) log.push({ position: `${name}:${this.#marks++}`, time: this.now, head: true });
    // As in the relay, the head is the last entry, which need not be an event.
    replay = replay.filter(({ head }) => !head);
    this.#say({ ...answer, position: log.at(-1).position, events: replay.length });
    for (const entry of replay) this.#say(this.#event(name, entry));
  }

  #sorted(log) { return [...log].sort((a, b) => a.time - b.time); }
}
