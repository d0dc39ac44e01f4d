import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../dist/index.js";
import { Browser, settle } from "./fake.mjs";

const KINDS = ["state", "door", "accepted", "groups", "event", "refused", "subscribed", "recovered", "gap"];
const G = "job_events-42";
const H = "jobs-summary";
const event = (n, group = G) =>
  ({ type: "event", group, position: `p${n}`, time: 1000 + n / 10, counter: n, event: { counter: n } });
const subscribed = (more = {}) => ({ type: "subscribed", group: G, position: "head", events: 0, ...more });
const accept = { accept: true, user: 7 };
const current = (...groups) => ({ groups_current: groups, groups_left: [], groups_joined: groups });
const begin = [accept, current(G), subscribed({ position: "p0" })];
/** How a request begins that goes on. */
const goOn = (...events) => [accept, current(G),
  subscribed({ recovered: true, events: events.length, position: events.at(-1)?.position ?? "h" }), ...events];

/** A client in a network, and what its listeners heard. */
async function start(options = {}, prepare = () => {}) {
  const browser = new Browser();
  browser.http = true;
  browser.storage = new Map();
  prepare(browser);
  const heard = [];
  const client = connect({ groups: { job_events: [42] }, environment: browser.environment(), ...options });
  for (const what of KINDS) client.on(what, (h, about) => heard.push([what, h, about]));
  const take = (...kinds) => heard.splice(0).filter(([what]) => kinds.includes(what)).map(([what, h]) => [what, h]);
  await settle();
  return { browser, client, heard, take };
}

/** The same behind a proxy that fails WebSockets, up to the request of the next door. */
async function stripped(options, prepare) {
  const s = await start(options, prepare);
  while (s.browser.requests.length === 0) {
    if (s.browser.socket.readyState === 0) s.browser.lose(1006);
    await s.browser.wait(1);
  }
  return s;
}

async function streaming(options, prepare) {
  const s = await stripped(options, prepare);
  s.browser.request.say(...begin);
  await settle();
  return s;
}

async function polling(options, prepare) {
  const s = await start({ doors: ["poll"], ...options }, prepare);
  await s.browser.wait(1);
  s.browser.request.answer(begin);
  await s.browser.wait(1);
  return s;
}

test("a proxy that fails WebSockets: an event stream, at once", async () => {
  const { browser, client, take } = await stripped();
  assert.equal(browser.sockets.length, 2); // with the subprotocol, and without
  const { request } = browser;
  assert.equal(request.url.href, "https://awx.example.com/websocket/?protocol=edgerelay.events.v1");
  assert.deepEqual(request.sent, { groups: { job_events: [42] }, xrftoken: "t1" });
  request.say(...begin, event(1));
  await settle();
  assert.deepEqual(take(...KINDS), [
    ["door", { door: "stream" }],
    ["state", { state: "open" }],
    ["accepted", { user: 7 }],
    ["groups", { current: [G], joined: [G], left: [], again: false }],
    ["subscribed", { group: G, position: "p0", events: 0 }],
    ["event", { counter: 1 }],
  ]);
  assert.equal(client.door, "stream");
  assert.equal(browser.requests.length, 1);
  assert.ok(browser.time < 100);
});

test("a WebSocket that hangs: the event stream beside it; what greets first is used, and the better one afterwards", async () => {
  const { browser, client, take } = await start();
  await browser.wait(1499);
  assert.equal(browser.requests.length, 0);
  await browser.wait(51);
  browser.request.say(...begin, event(1));
  await settle();
  assert.equal(client.door, "stream");
  take();
  browser.greet(true); // it was slow
  await settle();
  assert.equal(client.door, "websocket");
  assert.equal(browser.requests[0].aborted, true);
  assert.deepEqual(browser.socket.sent, [{ groups: { job_events: [42] }, since: { [G]: ["p1"] }, xrftoken: "t1" }]);
  browser.say(current(G));
  browser.say(subscribed({ recovered: true, events: 1 }));
  browser.say(event(2));
  // The page hears of the door, and goes on.
  assert.deepEqual(take(...KINDS).filter(([what]) => what !== "accepted"), [["door", { door: "websocket" }], ["event", { counter: 2 }]]);
});

test("a stream that a proxy buffers: polls within five seconds, even if the WebSocket hangs", async () => {
  const { browser, client, take } = await start();
  await browser.wait(3100);
  assert.deepEqual(browser.requests.map(({ door, wait }) => [door, wait]), [["stream", 0], ["poll", 0]]);
  browser.request.answer(begin);
  await browser.wait(1);
  assert.equal(client.door, "poll");
  assert.deepEqual(browser.requests.map(({ aborted }) => aborted), [false, false, false]);
  const { request } = browser; // the next poll
  assert.equal(request.wait, 25);
  assert.deepEqual(request.sent, { groups: { job_events: [42] }, since: { [G]: ["p0"] }, xrftoken: "t1" });
  request.answer(goOn(event(1)));
  await settle();
  assert.deepEqual(take("event", "gap", "recovered", "subscribed", "groups").slice(2), [["event", { counter: 1 }]]);
  await browser.wait(15_000); // the others are given up
  assert.deepEqual(browser.requests.map(({ aborted }) => aborted).slice(0, 2), [true, false]);
});

test("polls: each goes on where the last one ended, and the page hears the events alone", async () => {
  const { browser, client, take, heard } = await polling();
  take();
  for (let n = 1; n < 30; n++) {
    assert.equal(browser.request.wait, 25);
    assert.equal(browser.request.sent.since[G].at(-1), n === 1 ? "p0" : `p${n - 1}`);
    await browser.wait(20_000);
    browser.request.answer(goOn(event(n)));
    await browser.wait(1);
  }
  assert.ok(heard.every(([what, , about]) => what === "event" && !about.replayed));
  assert.deepEqual(take("event").map(([, { counter }]) => counter), Array.from({ length: 29 }, (_, n) => n + 1));
  await browser.wait(25_000);
  browser.request.answer(goOn()); // nothing has happened
  await browser.wait(1);
  assert.equal(browser.requests.length, 32);
  assert.deepEqual(take(...KINDS), []);
  assert.equal(client.state, "open");
});

test("polls that the server answers at once without events are paced", async () => {
  const { browser } = await polling();
  const before = browser.requests.length;
  for (let n = 0; n < 100; n++) {
    if (!browser.request.over) browser.request.answer(goOn());
    await browser.wait(100);
  }
  assert.ok(browser.requests.length - before <= 6, `${browser.requests.length - before} polls in 10 s`);
});

test("a poll that is not answered is given up, and one that fails is tried again later", async () => {
  const { browser, client, take } = await polling();
  await browser.wait(39_999);
  assert.equal(client.state, "open");
  await browser.wait(2);
  assert.deepEqual(take("state").at(-1)[1].reason, "the server does not answer");
  await browser.wait(600);
  browser.request.lose();
  await settle();
  assert.equal(client.state, "waiting");
  await browser.wait(1100);
  browser.request.answer(goOn(event(1)));
  await browser.wait(1);
  assert.deepEqual(take("event", "recovered", "gap"), [["event", { counter: 1 }], ["recovered", { group: G, events: 1 }]]);
});

test("polls of a group without a history: paced, and a gap is told each time", async () => {
  const { browser, take } = await start({ doors: ["poll"] });
  await browser.wait(1);
  const answer = () => browser.request.answer([accept, current(G), { type: "subscribed", group: G }]);
  answer();
  await browser.wait(1400);
  assert.equal(browser.requests.length, 1);
  await browser.wait(1200);
  assert.deepEqual(browser.requests.map(({ wait }) => wait), [0, 0]);
  answer();
  await settle();
  assert.deepEqual(take("gap"), [["gap", { group: G, reason: "no_history" }]]);
});

test("a changed subscription on a stream: another request, which goes on; several changes at once are one", async () => {
  const { browser, client, take } = await streaming();
  browser.request.say(event(1));
  await settle();
  take();
  const events = [];
  client.subscribe({ jobs: ["summary"] }, (e) => events.push(e));
  const more = client.subscribe({ jobs: ["status_changed"] }, () => {});
  more.close();
  await browser.wait(1);
  assert.equal(browser.requests.length, 2);
  assert.equal(browser.requests[0].aborted, true);
  const { request } = browser;
  assert.deepEqual(request.sent, { groups: { job_events: [42], jobs: ["summary"] }, since: { [G]: ["p1"] }, xrftoken: "t1" });
  request.say(accept, current(G, H), subscribed({ recovered: true, events: 1 }), event(2),
    { type: "subscribed", group: H, position: "q0", events: 0 }, event(3, H));
  await settle();
  assert.deepEqual(take(...KINDS), [
    ["groups", { current: [G, H], joined: [H], left: [], again: false }],
    ["event", { counter: 2 }],
    ["subscribed", { group: H, position: "q0", events: 0 }],
    ["event", { counter: 3 }],
  ]);
  assert.deepEqual(events, [{ counter: 3 }]);
});

test("a changed subscription while a poll waits", async () => {
  const { browser, client, take } = await polling();
  take();
  const widget = client.subscribe({ jobs: ["summary"] }, () => {});
  await browser.wait(1);
  assert.equal(browser.requests.at(-2).aborted, true);
  assert.equal(browser.request.wait, 0);
  browser.request.answer([accept, current(G, H), subscribed({ recovered: true }), { type: "subscribed", group: H, position: "q0", events: 0 }]);
  await browser.wait(1);
  assert.deepEqual(take("groups"), [["groups", { current: [G, H], joined: [H], left: [], again: false }]]);
  widget.close();
  await browser.wait(1);
  browser.request.answer(goOn());
  await browser.wait(1);
  assert.deepEqual(take("groups"), [["groups", { current: [G], joined: [], left: [H], again: false }]]);
});

test("a stream that the server ends in good order goes on at once; one that breaks is a lost connection", async () => {
  const { browser, client, take } = await streaming({ comeback: 1e9 });
  browser.request.push("retry: 0\n\n");
  await browser.wait(12_000);
  take();
  browser.request.end();
  await browser.wait(1);
  assert.equal(browser.requests.length, 2);
  browser.request.say(...goOn(event(1)));
  await settle();
  assert.deepEqual(take(...KINDS), [["event", { counter: 1 }]]);
  browser.request.lose();
  await settle();
  assert.equal(client.state, "waiting");
  await browser.wait(600);
  browser.request.say(...goOn(event(2)));
  await settle();
  assert.deepEqual(take("event", "recovered"), [["event", { counter: 2 }], ["recovered", { group: G, events: 1 }]]);
  browser.request.push('event: close\ndata: {"code":1001,"reason":"node is draining; reconnect"}\n\n');
  browser.request.end();
  await settle();
  const { code, reason } = take("state").at(-1)[1];
  assert.deepEqual([code, reason], [1001, "node is draining; reconnect"]);
});

test("a stream without heartbeats is given up, comments are heard", async () => {
  const { browser, client, take } = await streaming({ comeback: 1e9 });
  for (let n = 0; n < 10; n++) {
    await browser.wait(15_000);
    browser.request.push(": \n\n");
  }
  await settle();
  assert.equal(client.heard, browser.time);
  assert.equal(browser.requests.length, 1);
  await browser.wait(46_000);
  assert.deepEqual(take("state").find(([, { reason }]) => reason)[1].reason, "stream: no heartbeat");
});

test("connections that end early, again and again: another door", async () => {
  const { browser, client } = await streaming();
  for (let n = 0; n < 3; n++) {
    browser.request.end();
    await browser.wait(6000);
    const { request } = browser;
    if (request.door === "stream") request.say(...goOn());
    else if (!request.over) request.answer(goOn());
    while (browser.socket.readyState === 0) browser.lose(1006);
    await browser.wait(1);
  }
  assert.equal(browser.request.door, "poll");
  assert.equal(client.door, "poll");
});

test("a proxy that keeps the end of a replay back: polls", async () => {
  const { browser, client, take } = await stripped();
  browser.request.say(accept, current(G), subscribed({ events: 2 }), event(1));
  await browser.wait(5100);
  assert.match(take("state").at(-1)[1].reason ?? "", /keep it back|^$/);
  for (let n = 0; n < 5 && client.door !== "poll"; n++) {
    while (browser.socket.readyState === 0) browser.lose(1006);
    await browser.wait(300);
    if (browser.request.door === "poll" && !browser.request.over) browser.request.answer(goOn(event(2)));
    await settle();
  }
  assert.equal(client.door, "poll");
  assert.deepEqual(take("event"), [["event", { counter: 2 }]]);
});

test("a proxy that passes a part of an event and keeps the rest: polls", async () => {
  const { browser, client, take } = await streaming();
  browser.request.push('data: {"type":"event","group":');
  await browser.wait(2400);
  browser.request.push('"');
  await browser.wait(2400);
  assert.equal(client.door, "stream");
  await browser.wait(2600);
  assert.equal(take("state").find(([, { reason }]) => reason)?.[1].reason, "stream: a proxy seems to keep it back");
  while (browser.socket.readyState === 0) browser.lose(1006);
  await browser.wait(600);
  while (browser.socket.readyState === 0) browser.lose(1006);
  await browser.wait(1);
  assert.equal(browser.request.door, "poll");
});

test("a server without the other doors is not asked for them again soon", async () => {
  const { browser, client } = await stripped();
  browser.request.open(404, "text/plain");
  await browser.wait(1);
  assert.equal(browser.request.door, "poll");
  browser.request.open(405, "text/plain");
  await settle();
  assert.equal(client.state, "waiting");
  while (browser.time < 300_000) {
    while (browser.socket.readyState === 0) browser.lose(1006);
    await browser.wait(1000);
  }
  assert.equal(browser.requests.length, 2);
});

test("a server in trouble is not asked by another door", async () => {
  for (const status of [429, 502, 503, 504]) {
    const { browser, client, take } = await stripped();
    browser.request.open(status, "text/html");
    await settle();
    assert.equal(client.state, "waiting");
    assert.equal(take("state").at(-1)[1].reason, `stream: HTTP ${status}`);
    assert.equal(browser.requests.length, 1);
  }
});

test("nobody is logged in: nothing is tried, by any door, until connect()", async () => {
  for (const refuse of [
    (request) => request.open(401, "text/plain"),
    (request) => (request.say({ close: true }), request.push('event: close\ndata: {"code":1000,"reason":""}\n\n'), request.end()),
  ]) {
    const { browser, client } = await stripped();
    refuse(browser.request);
    await settle();
    assert.equal(client.state, "loggedout");
    browser.happen("online");
    browser.happen("visibilitychange");
    await browser.wait(100_000);
    assert.equal(browser.requests.length, 1);
    client.connect();
    assert.equal(client.state, "connecting");
  }
});

test("the login ends while a stream or a poll stands", async () => {
  const stream = await streaming();
  stream.browser.request.say({ close: true });
  stream.browser.request.push('event: close\ndata: {"code":1000,"reason":""}\n\n');
  stream.browser.request.end();
  await settle();
  assert.equal(stream.client.state, "loggedout");
  for (const refuse of [(r) => r.open(401, "text/plain"), (r) => r.answer([{ close: true }])]) {
    const { browser, client } = await polling();
    refuse(browser.request);
    await browser.wait(10_000);
    assert.equal(client.state, "loggedout");
    assert.ok(browser.requests.length <= 3);
  }
});

test("a WebSocket that has worked gets two attempts before other doors", async () => {
  const { browser, client } = await start();
  browser.greet(true);
  browser.say(current(G));
  browser.say(subscribed());
  for (let n = 0; n < 2; n++) {
    browser.lose(1006);
    await browser.wait(1400);
  }
  assert.equal(browser.requests.length, 0);
  browser.lose(1006);
  await browser.wait(1);
  assert.equal(browser.request?.door, "stream");
  assert.equal(client.state, "connecting");
});

test("the door that worked is remembered by the tab for ten minutes", async () => {
  const { browser, client } = await streaming();
  const { storage } = browser;
  client.close();
  const next = await start({}, (b) => Object.assign(b, { storage, time: 599_000 }));
  await next.browser.wait(1);
  assert.equal(next.browser.sockets.length, 0);
  assert.equal(next.browser.request.door, "stream");
  const later = await start({}, (b) => Object.assign(b, { storage, time: 601_000 }));
  assert.equal(later.browser.sockets.length, 1);
});

test("comes back to a better door, and loses nothing", async () => {
  const { browser, client, take } = await streaming();
  const sockets = browser.sockets.length;
  for (let n = 0; n < 4; n++) {
    assert.equal(browser.sockets.length, sockets);
    await browser.wait(15_050);
    browser.request.push(":\n\n");
  }
  assert.equal(browser.sockets.length, sockets + 1);
  browser.lose(1006); // still that network
  await settle();
  assert.equal(client.door, "stream");
  browser.happen("online"); // another network
  await settle();
  if (browser.request.over === false && browser.requests.length > 1) browser.request.say(...goOn());
  await settle();
  browser.greet(true);
  take();
  browser.say(current(G));
  browser.say(subscribed({ recovered: true, events: 1 }));
  browser.say(event(1));
  assert.deepEqual(take("event", "gap", "recovered"), [["event", { counter: 1 }]]);
  assert.equal(client.door, "websocket");
  assert.ok(browser.requests.every(({ over }) => over));
  assert.equal(browser.places, 4);
});

test("a stream of a group without a history is not left for a better door", async () => {
  const { browser, client } = await stripped({ comeback: 1000 });
  browser.request.say(accept, current(G), { type: "subscribed", group: G });
  await browser.wait(20_000);
  assert.equal(client.door, "stream");
  assert.equal(browser.sockets.length, 2);
});

test("a stream beside polls that loses nothing else doubles nothing either", async () => {
  const { browser, client, take } = await start({ doors: ["stream", "poll"] });
  const free = { type: "subscribed", group: G };
  const event = (n) => ({ type: "event", group: G, event: { n } });
  await browser.wait(1600);
  const [stream, poll] = browser.requests;
  poll.answer([accept, current(G), free]);
  await browser.wait(2100);
  browser.request.answer([accept, current(G), free, event(1)]);
  await settle();
  stream.say(accept, current(G), free, event(1), event(2)); // it comes late, and has what the poll had
  await browser.wait(1);
  assert.equal(client.door, "stream");
  browser.request.say(accept, current(G), free, event(3));
  await settle();
  assert.deepEqual(take("event", "gap"), [
    ["gap", { group: G, reason: "no_history" }], ["event", { n: 1 }], ["gap", { group: G, reason: "no_history" }], ["event", { n: 3 }],
  ]);
});

test("tabs share few requests that last", async () => {
  const { browser, client } = await stripped({}, (b) => (b.places = 0));
  assert.equal(browser.request.door, "poll"); // a stream has no place
  browser.request.answer(begin);
  await browser.wait(1);
  assert.equal(client.door, "poll");
  assert.equal(browser.request.wait, 0);
  browser.request.answer(goOn());
  const before = browser.requests.length;
  await browser.wait(2600);
  assert.equal(browser.requests.length, before + 1); // at a pace
  browser.places = 1;
  browser.request.answer(goOn(event(1)));
  await browser.wait(1);
  assert.equal(browser.request.wait, 25);
  assert.equal(browser.places, 0);
  client.close();
  assert.equal(browser.places, 1);
  assert.equal(browser.timers.size, 0);
});

test("an option limits the doors; without positions there is the WebSocket alone", async () => {
  const stream = await start({ doors: ["stream"] });
  await stream.browser.wait(1);
  assert.equal(stream.browser.request.door, "stream");
  assert.equal(stream.browser.sockets.length, 0);
  const plain = await start({ positions: false });
  plain.browser.lose(1006);
  await plain.browser.wait(5000);
  assert.equal(plain.browser.requests.length, 0);
});
