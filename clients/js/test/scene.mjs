import assert from "node:assert/strict";

import { connect } from "../dist/index.js";
import { Browser } from "./fake.mjs";
import { Relay } from "./relay.mjs";

const STEPS = 150;
export const GROUPS = ["jobs-1", "jobs-2", "free-1"]; // free-1 has no history

/** Numbers from 0 up to 1 that depend on the seed alone (mulberry32). */
function dice(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A page with widgets on a client, a relay, and a network between them, driven at random. */
export class Scene {
  constructor(seed, options = {}) {
    this.random = dice(seed);
    this.browser = new Browser();
    Object.assign(this.browser, options.browser);
    this.relay = new Relay();
    this.widgets = [];
    this.published = new Map(GROUPS.map((name) => [name, []])); // every event, lost ones included, in order of emission
    this.step = 0;
    this.told = []; // gaps and recoveries of all groups, as client.on hears them
    this.client = connect({ environment: this.browser.environment(), ...options.client });
    this.client.on("recovered", ({ group, events }) => this.told.push(["recovered", group, events]));
    this.attach();
  }

  below(n) { return Math.floor(this.random() * n); }
  pick(list) { return list[this.below(list.length)]; }

  /** Joins the newest socket with the relay. */
  attach() {
    const { socket } = this.browser;
    if (socket === this.attached) return;
    this.attached = socket;
    this.read = 0;
    this.relay.connect();
    this.browser.accept(true);
  }

  /** Carries what the client has sent, and a number of frames of the relay. */
  carry(count) {
    for (; count > 0; count--) {
      for (; this.read < this.attached.sent.length; this.read++) this.relay.receive(this.attached.sent[this.read]);
      for (const frame of this.relay.arrive(1)) this.browser.say(frame);
    }
  }

  publish(name, lost) {
    const events = this.published.get(name);
    const emitter = this.below(3);
    const event = { n: events.length, emitter };
    events.push({ ...event, at: this.step, lost });
    if (lost) this.relay.lose(name);
    else this.relay.publish(name, event, (emitter - 1) * 0.45); // clocks that differ by up to 0.9 s
  }

  open() {
    const groups = GROUPS.filter(() => this.random() < 0.5);
    const widget = { groups, log: [], open: true, latest: this.below(3) * 2 };
    const to = { latest: widget.latest };
    for (const what of ["event", "gap", "subscribed"]) {
      to[what] = (h, about) => widget.log.push({ what, step: this.step, group: about?.group ?? h.group, ...h, replayed: about?.replayed });
    }
    const kinds = {};
    for (const name of groups) (kinds[name.split("-")[0]] ??= []).push(name.split("-")[1]);
    widget.handle = this.client.subscribe(kinds, to);
    this.widgets.push(widget);
  }

  cut() {
    this.relay.disconnect();
    this.browser.lose(1006);
    while (this.browser.socket === this.attached) this.happen(); // and life goes on meanwhile
    this.attach();
  }

  /** What happens with or without a connection. */
  happen() {
    this.browser.pass(100);
    this.relay.now += 0.1;
    this.step++;
    const name = this.pick(GROUPS);
    const chance = this.random();
    if (chance < 0.7) this.publish(name, false);
    else if (chance < 0.72) this.publish(name, true);
    else if (chance < 0.73) this.relay.trim(name, 1 + this.below(30));
    else if (chance < 0.74) this.relay.honored = this.pick([0, 3, Infinity]);
    else if (chance < 0.77 && this.widgets.length < 8) this.open();
    else if (chance < 0.79 && this.widgets.length > 0) {
      const widget = this.pick(this.widgets);
      widget.open = false;
      widget.handle.close();
    }
  }

  async run() {
    for (let n = 0; n < STEPS; n++) {
      this.happen();
      await null; // a new widget is told what the client has
      if (this.random() < 0.06) this.cut();
      this.attach();
      this.carry(this.below(6));
    }
    this.attach();
    this.settle();
    for (const name of GROUPS) this.publish(name, false); // whatever is missing is before this
    this.settle();
  }

  settle() {
    do this.carry(1);
    while (this.relay.pending > 0 || this.read < this.attached.sent.length);
  }
}

/** Checks what a widget heard of a group: each event once, those of an emitter in order, and gaps where some are missing. */
export function check(scene, widget, name) {
  const log = widget.log.filter(({ group }) => group === name);
  const begin = log.findIndex(({ what }) => what === "subscribed");
  if (begin < 0) {
    assert.equal(log.length, 0);
    return;
  }
  const events = scene.published.get(name);
  const had = new Set();
  const newest = {};
  let floor = log[begin].step;
  for (const { what, step, n, emitter } of log) {
    if (what === "gap") floor = step;
    if (what !== "event") continue;
    assert.ok(!had.has(n), `event ${n} came twice`);
    had.add(n);
    // A replay can bring events of the two seconds before the subscription or the gap.
    if (events[n].at <= floor) continue;
    assert.ok(!(n < newest[emitter]), `event ${n} came after ${newest[emitter]} of the same emitter`);
    newest[emitter] = n;
  }
  if (!widget.open) return;
  const last = events.length - 1;
  const toldAfter = log.some(({ what, step }) => what === "gap" && step > events[last].at);
  // Polls miss events of a group without a history, and say so.
  assert.ok(had.has(last) || (toldAfter && !scene.relay.group(name).kept), "the last event is missing");
  // Whatever came live after the beginning, or later, is there, unless a gap was told afterwards.
  const live = ({ what, replayed, n }) => what === "event" && !replayed && events[n].at >= log[begin].step;
  const first = log.find(live)?.n ?? events.length - 1;
  const gaps = log.filter(({ what }) => what === "gap");
  for (const { n, at } of events.slice(first)) {
    if (!had.has(n)) assert.ok(gaps.some(({ step }) => step >= at), `event ${n} of step ${at} is missing, and no gap told`);
  }
  for (const { step } of gaps) {
    const missing = events.some(({ n, at }) => at <= step && !had.has(n));
    assert.ok(missing || !scene.relay.group(name).kept, `a gap at step ${step}, and nothing is missing`);
  }
}

/**
 * Plays scenes and checks what each widget heard.
 *
 * @returns how many events, gaps, and recoveries with events there were
 */
export async function play(runs, make) {
  let events = 0, recovered = 0, gaps = 0;
  for (let seed = 1; seed <= runs; seed++) {
    const scene = make(seed);
    await scene.run();
    assert.deepEqual(scene.browser.errors, []);
    for (const [number, widget] of scene.widgets.entries()) {
      for (const name of widget.groups) {
        try {
          check(scene, widget, name);
        } catch (error) {
          error.message += ` (seed ${seed}, widget ${number}, ${name})\n${JSON.stringify(widget.log.filter(({ group }) => group === name))}`;
          throw error;
        }
      }
      events += widget.log.filter(({ what }) => what === "event").length;
      gaps += widget.log.filter(({ what }) => what === "gap").length;
    }
    recovered += scene.told.filter(([, , count]) => count > 0).length;
  }
  return { events, recovered, gaps };
}
