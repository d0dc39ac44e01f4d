import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../dist/index.js";
import { origin, read } from "../dist/protocol.js";
import { Browser } from "./fake.mjs";

const KINDS = ["state", "accepted", "groups", "event", "refused", "subscribed", "recovered", "gap", "alive"];

/** A client of a server that speaks the subprotocol, and what its listeners heard. */
function start(options = {}) {
  const browser = new Browser();
  const heard = [];
  const client = connect({ groups: { job_events: [42] }, environment: browser.environment(), ...options });
  for (const what of KINDS) client.on(what, (h, about) => heard.push(about ? [what, h, about] : [what, h]));
  /** What was heard since the last call, of some kinds. */
  const take = (...kinds) => heard.splice(0).filter(([what]) => kinds.includes(what)).map(([what, h]) => [what, h]);
  return { browser, client, heard, take };
}

const G = "job_events-42";
const event = (n, more = {}) =>
  ({ type: "event", group: G, position: `p${n}`, time: 1000 + n / 10, counter: n, event: { counter: n }, ...more });
const subscribed = (more = {}) => ({ type: "subscribed", group: G, position: "head", events: 0, ...more });

function open(options) {
  const s = start(options);
  s.browser.greet(true);
  s.browser.answer([G]);
  s.browser.say(subscribed({ position: "p0" }));
  return s;
}

/** Loses the connection and comes back on another socket, up to the server's answer. */
function again(browser, current = [G]) {
  comeBack(browser);
  browser.greet(true);
  browser.answer(current);
}

/** Loses the connection, and waits for the next attempt. */
function comeBack(browser, code = 1006) {
  const before = browser.sockets.length;
  browser.lose(code);
  while (browser.sockets.length === before) browser.pass(100);
}

test("opts in, and gets events with their place", () => {
  const { browser, heard } = open();
  assert.deepEqual(browser.socket.protocols, ["edgerelay.events.v1"]);
  assert.deepEqual(browser.socket.sent, [{ groups: { job_events: [42] }, xrftoken: "t1" }]);
  heard.length = 0;
  browser.say(event(1));
  browser.say({ type: "event", group: G, text: "NaN" });
  assert.deepEqual(heard, [
    ["event", { counter: 1 }, { group: G, position: "p1", time: 1000.1, replayed: false }],
    ["event", "NaN", { group: G, replayed: false }],
  ]);
});

test("an event cannot pass for a frame of the relay, nor is anything else an event", () => {
  const { browser, client, take } = open();
  const fakes = [{ accept: true, user: 9 }, { close: true }, { groups_current: [], groups_left: [G] }, { error: "no" }, { type: "gap", groups: [G] }];
  fakes.forEach((fake, n) => browser.say(event(n + 1, { event: fake })));
  browser.say({ n: 1 });
  browser.say("[1]");
  browser.say({ type: "of a later version", group: G });
  assert.deepEqual(take(...KINDS.slice(1)).map(([what, h]) => h), [{ user: 7 }, { current: [G], joined: [G], left: [], again: false },
    { group: G, position: "p0", events: 0 }, ...fakes]);
  browser.lose(1006);
  assert.equal(client.state, "waiting");
});

test("comes back with its positions and gets what it missed, once", () => {
  const { browser, take } = open();
  for (const n of [1, 2, 3]) browser.say(event(n));
  take();
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p2", "p3"] });
  browser.say(subscribed({ recovered: true, events: 3 }));
  assert.deepEqual(take("recovered", "gap"), []);
  browser.say(event(3)); // has it
  browser.say(event(4));
  browser.say(event(5));
  browser.say(event(6));
  assert.deepEqual(take("event", "recovered", "gap"), [
    ["event", { counter: 4 }], ["event", { counter: 5 }], ["recovered", { group: G, events: 2 }], ["event", { counter: 6 }],
  ]);
});

test("nothing was missed: told at once", () => {
  const { browser, take } = open();
  take();
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p0"] }); // the position of its beginning
  browser.say(subscribed({ recovered: true, events: 0 }));
  assert.deepEqual(take("recovered", "gap"), [["recovered", { group: G, events: 0 }]]);
});

test("a connection that breaks within a replay goes on where the replay ended", () => {
  const { browser, take } = open();
  browser.say(event(1));
  again(browser);
  browser.say(subscribed({ recovered: true, events: 3 }));
  browser.say(event(2));
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p2"] });
  browser.say(subscribed({ position: "head2", recovered: true, events: 0 }));
  assert.deepEqual(take("recovered"), [["recovered", { group: G, events: 0 }]]);
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p2", "head2"] });
});

test("not recovered: the gap has its reason and the last counter", () => {
  const { browser, take } = open();
  browser.say(event(1));
  browser.say(event(7));
  browser.say(event(5)); // emitted by another process
  take();
  again(browser);
  browser.say(subscribed({ recovered: false, reason: "unknown_position" }));
  browser.say(event(9));
  assert.deepEqual(take("event", "recovered", "gap"), [
    ["gap", { group: G, reason: "unknown_position", counter: 7 }], ["event", { counter: 9 }],
  ]);
  comeBack(browser);
  browser.greet(true);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p7", "p5", "p9"] });
});

test("gaps while the connection stands: told, and resumed behind", () => {
  const { browser, client, take } = open();
  client.subscribe({ jobs: ["summary"] }, {});
  browser.answer([G, "jobs-summary"]);
  browser.say({ type: "subscribed", group: "jobs-summary" });
  browser.say(event(1));
  take();
  browser.say({ type: "gap", groups: [G], position: "gap1", reason: "mailbox_full", events: 3 });
  browser.say({ type: "gap", reason: "slow" }); // all groups
  browser.say({ type: "withheld", group: G, position: "w" });
  browser.say({ type: "withheld", group: G, position: "w" });
  assert.deepEqual(take("gap"), [
    ["gap", { group: G, reason: "mailbox_full", events: 3, counter: 1 }],
    ["gap", { group: G, reason: "slow", counter: 1 }],
    ["gap", { group: "jobs-summary", reason: "slow" }],
    ["gap", { group: G, reason: "withheld", events: 1, counter: 1 }],
  ]);
  browser.say({ type: "gap", groups: [G], position: "gap2", reason: "mailbox_full" });
  again(browser, [G, "jobs-summary"]);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "w", "gap2"] });
});

test("a gap within a replay does not skip the rest of it", () => {
  const { browser } = open();
  again(browser);
  browser.say(subscribed({ recovered: true, events: 2 }));
  browser.say(event(1));
  browser.say({ type: "gap", groups: [G], position: "gap", reason: "mailbox_full" });
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1"] });
  browser.say(subscribed({ recovered: true, events: 1 }));
  browser.say({ type: "gap", groups: [G], position: "gap", reason: "mailbox_full" });
  browser.say(event(2));
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p2", "gap"] });
});

test("a group without history: a gap of unknown size after each lost connection", () => {
  const { browser, take } = start();
  browser.greet(true);
  browser.answer([G]);
  browser.say({ type: "subscribed", group: G });
  browser.say({ type: "event", group: G, event: { counter: 3 } });
  assert.deepEqual(take("gap"), []);
  again(browser);
  assert.equal("since" in browser.socket.sent[0], false);
  browser.say({ type: "subscribed", group: G });
  assert.deepEqual(take("gap", "recovered"), [["gap", { group: G, reason: "no_history", counter: 3 }]]);
});

test("a server without the subprotocol: a gap of unknown size after each lost connection", () => {
  const { browser, take } = start();
  browser.greet();
  browser.answer([G]);
  browser.say({ group_name: "job_events", job: 42, counter: 8 });
  browser.say({ type: "event", group: G, event: {} }); // an event there
  assert.equal(take("event", "gap").length, 2);
  comeBack(browser);
  browser.greet();
  browser.answer([G]);
  assert.deepEqual(browser.socket.sent, [{ groups: { job_events: [42] }, xrftoken: "t1" }]);
  assert.deepEqual(take("gap", "groups"), [
    ["groups", { current: [G], joined: [G], left: [], again: true }],
    ["gap", { group: G, reason: "no_history", counter: 8 }],
  ]);
});

test("a handshake that fails for the subprotocol is tried without at once, and that is remembered", () => {
  const { browser, client } = start();
  const offers = () => browser.sockets.map(({ protocols }) => protocols.length);
  browser.lose(1006);
  assert.equal(client.state, "connecting");
  assert.deepEqual(offers(), [1, 0]);
  browser.greet();
  browser.answer([G]);
  assert.equal(client.state, "open");
  for (const [after, expected] of [[60_000, [1, 0, 0]], [600_000, [1, 0, 0, 1]]]) {
    browser.visibilityState = "hidden"; // so that it need not be answered
    browser.pass(after);
    comeBack(browser, 1001);
    assert.deepEqual(offers(), expected);
    browser.greet(true);
    browser.answer([G]);
  }
  assert.equal(browser.socket.protocol, "edgerelay.events.v1"); // the site was moved to edgerelay meanwhile
});

test("a server that spoke the subprotocol is not taken for another one because it is away", () => {
  const { browser, take } = open();
  browser.say(event(1));
  take();
  const offers = [];
  for (let n = 0; n < 4; n++) {
    comeBack(browser);
    offers.push(browser.socket.protocols.length);
  }
  assert.deepEqual(offers, [1, 1, 1, 0]);
  browser.greet(); // it was just starting, and now takes any handshake
  assert.equal(browser.socket.protocols.length, 1);
  browser.greet(true);
  browser.answer([G]);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1"] });
  browser.say(subscribed({ recovered: true }));
  assert.deepEqual(take("gap", "recovered"), [["recovered", { group: G, events: 0 }]]);
});

test("a site that was moved back to a server without the subprotocol", () => {
  const { browser, client, take } = open();
  for (let n = 0; n === 0 || client.state !== "open"; n++) {
    assert.ok(n < 20);
    if (browser.socket.protocols.length > 0) comeBack(browser);
    else browser.greet();
  }
  assert.deepEqual(browser.sockets.map(({ protocols }) => protocols.length), [1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0]);
  browser.answer([G]);
  assert.deepEqual(take("gap"), [["gap", { group: G, reason: "no_history" }]]);
});

test("positions that are kept: those of five seconds before the newest, and at least twenty", () => {
  const { browser } = open();
  for (let n = 1; n <= 40; n++) browser.say(event(n, { time: n }));
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since[G], Array.from({ length: 20 }, (_, n) => `p${n + 21}`));
  browser.say(subscribed({ recovered: true }));
  for (let n = 41; n <= 300; n++) browser.say(event(n, { time: 300 + n / 100 }));
  again(browser);
  assert.equal(browser.socket.sent[0].since[G].length, 257);
  assert.equal(browser.socket.sent[0].since[G].at(-1), "p300");
});

test("a clock that stands still does not fill the memory", () => {
  const { browser, take } = open();
  for (let n = 1; n <= 10_002; n++) browser.say(event(n, { time: 1 }));
  take();
  browser.say(event(3, { time: 1 }));
  assert.equal(take("event").length, 0);
  browser.say(event(1, { time: 1 })); // no longer known
  assert.equal(take("event").length, 1);
});

test("the latest events, at first", () => {
  const { browser, take } = start({ latest: 5 });
  browser.greet(true);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: { latest: 5 } });
  browser.answer([G]);
  take();
  browser.say(subscribed({ events: 2 }));
  browser.say(event(1));
  browser.say(event(2));
  assert.deepEqual(take("subscribed", "event", "recovered", "gap"), [
    ["subscribed", { group: G, position: "head", events: 2 }], ["event", { counter: 1 }], ["event", { counter: 2 }],
  ]);
  again(browser);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1", "p2"] });
});

test("close() forgets the positions", () => {
  const { browser, client, take } = open();
  browser.say(event(1));
  client.close();
  client.connect();
  browser.greet(true);
  browser.answer([G]);
  assert.equal("since" in browser.socket.sent[0], false);
  browser.say(subscribed());
  assert.deepEqual(take("gap", "recovered"), []);
});

test("a group that a recheck has ended, and that is allowed again", () => {
  const { browser, client, take } = open();
  browser.say(event(1));
  browser.say({ groups_current: [], groups_left: [G], groups_joined: [] });
  browser.say(event(2)); // too late
  client.subscribe({ job_events: [42] });
  assert.deepEqual(browser.socket.sent.at(-1).since, { [G]: ["p1"] });
  browser.answer([G]);
  browser.say(subscribed({ recovered: true, events: 1 }));
  browser.say(event(2));
  assert.deepEqual(take("event", "recovered", "gap"), [
    ["event", { counter: 1 }], ["event", { counter: 2 }], ["recovered", { group: G, events: 1 }],
  ]);
});

test("the heartbeat", () => {
  const { browser, client, take } = open();
  const beats = () => take("alive", "state").map(([, { alive, state }]) => alive ?? state);
  assert.equal(client.heard, 0);
  browser.pass(20_000);
  browser.say(event(1));
  assert.equal(client.heard, 20_000);
  take();
  browser.pass(17_501);
  assert.deepEqual(take("alive"), [["alive", { alive: true, heard: 20_000 }]]); // heard lately: not asked
  assert.equal(browser.socket.sent.length, 1);
  browser.pass(20_000);
  assert.equal(browser.socket.sent.length, 2); // asked
  browser.answer([G]);
  assert.deepEqual(beats(), [true]);
  browser.pass(37_501);
  browser.pass(3000);
  assert.deepEqual(beats(), [false]);
  browser.say(event(2)); // late, but it lives
  assert.deepEqual(beats(), [true]);
  browser.answer([G]);
  beats();
  browser.pass(37_501);
  browser.pass(15_000);
  assert.deepEqual(beats().slice(0, 3), [false, "waiting", "connecting"]);
});

test("a browser without a network is not connected; with one, it is at once", () => {
  const { browser, client, take } = open();
  browser.say(event(1));
  take();
  browser.happen("offline");
  assert.equal(client.state, "waiting");
  browser.pass(1000);
  browser.lose(1006);
  assert.equal(client.state, "waiting");
  browser.happen("online");
  browser.greet(true);
  assert.deepEqual(browser.socket.sent[0].since, { [G]: ["p1"] });
});

test("a connection that cannot be resumed is not given up for a network that is gone", () => {
  for (const typed of [true, false]) {
    const { browser, client } = start();
    browser.greet(typed);
    browser.answer([G]);
    if (typed) browser.say({ type: "subscribed", group: G });
    browser.happen("offline");
    assert.equal(client.state, "open");
    browser.happen("online");
    assert.equal(browser.socket.sent.length, 2); // the server is asked even if it was heard just before
    browser.answer([G]);
    assert.equal(client.state, "open");
  }
});

test("frames, and the groups of AWX's events", () => {
  assert.deepEqual(read('{"accept": true, "user": null}', true), { kind: "accepted", user: null });
  assert.deepEqual(read('{"type":"event","group":"g","event":null}', true), { kind: "event", group: "g", data: null });
  assert.deepEqual(read('{"type":"gap","reason":"x"}', true), { kind: "gap", reason: "x" });
  assert.deepEqual(read('{"n":1}', true), { kind: "broken" });
  assert.deepEqual(read('null', true), { kind: "broken" });
  assert.deepEqual(origin({ group_name: "project_update_events", project_update: 7 }), { kind: "project_update_events", item: "7" });
  assert.deepEqual(origin({ group_name: "jobs", unified_job_id: 7 }), { kind: "jobs" });
  for (const none of [null, 1, "x", {}, { group_name: 7 }]) assert.deepEqual(origin(none), {});
});
