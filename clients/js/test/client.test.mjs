import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../dist/index.js";
import { pause } from "../dist/backoff.js";
import { cookie, read } from "../dist/protocol.js";
import { Browser } from "./fake.mjs";

function start(options = {}) {
  const browser = new Browser();
  const heard = [];
  const client = connect({ groups: { jobs: ["summary"] }, environment: browser.environment(), ...options });
  for (const what of ["state", "accepted", "groups", "event", "refused"]) client.on(what, (h) => heard.push([what, h]));
  const last = (what) => heard.filter(([w]) => w === what).at(-1)?.[1];
  return { browser, client, heard, last };
}

function open(options) {
  const s = start(options);
  s.browser.greet();
  s.browser.answer();
  return s;
}

test("greeting, subscription, events in their order and as they came", () => {
  const { browser, client, heard } = open();
  assert.equal(browser.socket.url, "wss://awx.example.com/websocket/");
  assert.deepEqual(browser.socket.sent, [{ groups: { jobs: ["summary"] }, xrftoken: "t1" }]);
  browser.say({ group_name: "jobs", unified_job_id: 1 });
  browser.say({ error: "from a plugin", id: 3 }); // an event that only looks like the protocol
  browser.say("{not JSON");
  browser.say("[1]");
  assert.deepEqual(heard, [
    ["state", { state: "open" }],
    ["accepted", { user: 7 }],
    ["groups", { current: ["jobs-summary"], joined: ["jobs-summary"], left: [], again: false }],
    ["event", { group_name: "jobs", unified_job_id: 1 }],
    ["event", { error: "from a plugin", id: 3 }],
    ["event", [1]],
  ]);
  client.subscribe({ job_events: [42] });
  assert.deepEqual(browser.socket.sent[1].groups, { job_events: [42] });
});

for (const code of [1001, 1006, 1008, 1011, 1012, 1000]) {
  test(`closed with ${code}: a new socket, subscribed to what was asked for last`, () => {
    const { browser, client, last } = open();
    const old = browser.socket;
    browser.lose(code, "why");
    assert.equal(client.state, "waiting");
    assert.equal(last("state").code, code);
    client.subscribe({ job_events: [42] }); // not on the dead socket: that would throw
    browser.pass(60_000);
    assert.notEqual(browser.socket, old);
    browser.greet();
    assert.deepEqual(browser.socket.sent.at(-1).groups, { job_events: [42] });
    browser.answer(["job_events-42"]);
    assert.equal(last("groups").again, true);
    browser.answer(["job_events-42"]);
    assert.equal(last("groups").again, false);
  });
}

test("logged out: nothing more, until connect()", () => {
  const { browser, client } = start();
  browser.socket.readyState = 1;
  browser.say({ close: true });
  browser.lose(1000);
  assert.equal(client.state, "loggedout");
  browser.pass(3_600_000);
  browser.happen("visibilitychange");
  browser.happen("online");
  assert.equal(browser.sockets.length, 1);
  client.connect();
  browser.greet();
  assert.equal(client.state, "open");
});

test("pauses grow, have a bound, and begin anew only after a connection that stood", () => {
  const { browser, last } = start({ positions: false });
  const waits = [];
  browser.draw = 0.999;
  for (let i = 0; i < 9; i++) {
    browser.lose(1006);
    waits.push(last("state").retryIn);
    browser.pass(last("state").retryIn + 1);
  }
  assert.deepEqual(waits, [500, 999, 1998, 3996, 7992, 15984, 29970, 29970, 29970]);
  browser.greet(); // greeted, and gone at once: still the long pause
  browser.lose(1006);
  assert.equal(last("state").retryIn, 29970);
  browser.pass(30_000);
  browser.greet();
  browser.answer();
  browser.pass(10_001);
  browser.lose(1006);
  assert.equal(last("state").retryIn, 500);
});

test("pauses are drawn from the whole range", () => {
  assert.equal(pause({}, 3, false, 0), 0);
  assert.equal(pause({}, 3, false, 0.5), 2000);
  assert.equal(pause({ max: 1000 }, 30, false, 0.5), 500);
  assert.equal(pause({}, 0, true, 0.5), 1500); // a server that stops: spread over three seconds
  assert.equal(pause({ first: 100, spread: 0 }, 0, true, 0.5), 50);
});

test("a server that neither greets nor answers is given up", () => {
  const { browser, client, last } = start();
  browser.pass(15_001);
  assert.equal(client.state, "waiting");
  assert.equal(last("state").reason, "the server does not greet");
  assert.equal(browser.sockets[0].closed, null);
  browser.pass(500);
  browser.greet();
  browser.pass(15_001);
  assert.equal(last("state").reason, "the server does not answer");
});

test("what a socket says that was given up is not heard", () => {
  const { browser, client, heard } = open();
  const { onmessage, onclose } = browser.socket;
  browser.lose(1001);
  browser.pass(10_000);
  const count = heard.length;
  onmessage({ data: "{}" });
  onclose({ code: 1006, reason: "" });
  assert.equal(heard.length, count);
  assert.equal(client.state, "connecting");
});

test("a page that is seen again, or online again, tries at once", () => {
  const { browser, client } = open();
  browser.lose(1006);
  browser.visibilityState = "hidden";
  browser.happen("online");
  assert.equal(client.state, "waiting");
  browser.visibilityState = "visible";
  browser.happen("visibilitychange");
  assert.equal(client.state, "connecting");
});

test("after a sleep the socket is asked whether it still stands", () => {
  const { browser, client } = open();
  browser.happen("visibilitychange");
  assert.equal(browser.socket.sent.length, 1); // just heard of
  browser.time += 3_600_000; // no timer runs meanwhile
  browser.happen("visibilitychange");
  browser.happen("online");
  assert.equal(browser.socket.sent.length, 2); // once
  browser.pass(14_999);
  assert.equal(client.state, "open");
  browser.pass(2);
  assert.equal(client.state, "waiting");
});

test("a dead connection is noticed while the page is visible", () => {
  const { browser, client, last } = open();
  browser.pass(37_499);
  assert.equal(browser.socket.sent.length, 1);
  browser.pass(2); // 30 s of silence, and half of the 15 s more that chance may add
  assert.deepEqual(browser.socket.sent[1], browser.socket.sent[0]);
  browser.pass(15_001);
  assert.equal(client.state, "waiting");
  assert.equal(last("state").reason, "the server does not answer");
  browser.pass(500);
  assert.equal(browser.sockets.length, 2);
});

test("a server that is heard is not asked; one that answers is asked again after as long; listeners hear nothing of it", () => {
  const { browser, client, heard } = open();
  for (let n = 0; n < 10; n++) {
    browser.pass(20_000);
    browser.say({ n });
  }
  assert.equal(browser.socket.sent.length, 1);
  const before = heard.length;
  for (let n = 1; n <= 10; n++) {
    browser.pass(45_001);
    assert.equal(browser.socket.sent.length, 1 + n);
    browser.say({ error: "access denied to channel job_events for resource id 43" }); // as it was at first
    browser.say({ groups_current: ["jobs-summary"], groups_left: [], groups_joined: [] });
  }
  assert.equal(client.state, "open");
  assert.equal(heard.length, before);
  browser.pass(45_001);
  browser.say({ groups_current: [], groups_left: ["jobs-summary"], groups_joined: [] }); // a right that was withdrawn
  assert.equal(heard.length, before + 1);
});

test("a page that is not visible does not ask", () => {
  const { browser, client } = open();
  browser.visibilityState = "hidden";
  browser.pass(3_600_000);
  assert.equal(browser.socket.sent.length, 1);
  browser.visibilityState = "visible";
  browser.happen("visibilitychange");
  assert.equal(browser.socket.sent.length, 2);
  browser.answer();
  browser.pass(45_001);
  assert.equal(browser.socket.sent.length, 3);
  assert.equal(client.state, "open");
});

test("pages that fell silent together do not ask together", () => {
  for (const [draw, after] of [[0, 30_000], [0.999, 44_985]]) {
    const { browser } = start();
    browser.draw = draw;
    browser.greet();
    browser.answer();
    browser.pass(after - 1);
    assert.equal(browser.socket.sent.length, 1);
    browser.pass(2);
    assert.equal(browser.socket.sent.length, 2);
  }
});

test("put away and taken out again", () => {
  const { browser, client } = open();
  browser.happen("pagehide");
  assert.equal(browser.sockets[0].closed, 1000);
  browser.pass(3_600_000);
  assert.equal(browser.sockets.length, 1);
  browser.happen("pageshow");
  browser.greet();
  assert.equal(client.state, "open");
});

test("refusals: told; another token since the handshake: a new handshake", () => {
  const { browser, client, last } = open();
  browser.say({ error: "access denied to channel job_events for resource id 43" });
  assert.deepEqual(last("refused"), { message: "access denied to channel job_events for resource id 43" });
  browser.say({ error: "access denied to channel" });
  assert.deepEqual(last("refused"), { message: "access denied to channel" });
  browser.cookies = "csrftoken=t2";
  client.subscribe({ jobs: ["status_changed"] });
  assert.equal(browser.socket.sent.at(-1).xrftoken, "t1"); // that of the handshake
  browser.say({ error: "access denied to channel" });
  assert.equal(client.state, "waiting");
  browser.pass(500);
  browser.greet();
  assert.equal(browser.socket.sent.at(-1).xrftoken, "t2");
});

test("close() ends it, connect() begins anew", () => {
  const { browser, client } = open();
  client.close();
  assert.equal(browser.sockets[0].closed, 1000);
  assert.equal(browser.handlers.size, 0);
  assert.equal(browser.timers.size, 0);
  browser.pass(3_600_000);
  assert.equal(browser.sockets.length, 1);
  client.connect();
  browser.greet();
  assert.equal(client.state, "open");
});

test("a listener that is gone is not called; one that fails costs the others nothing", () => {
  const { browser, client } = open();
  const got = [];
  client.on("event", () => { throw new Error("mine"); });
  const off = client.on("event", (e) => got.push(e));
  browser.say({ n: 1 });
  off();
  browser.say({ n: 2 });
  assert.deepEqual(got, [{ n: 1 }]);
  assert.deepEqual(browser.errors.map((e) => e.message), ["mine", "mine"]);
});

test("a socket that cannot be made", () => {
  const browser = new Browser();
  const client = connect({
    url: "ws://other.example.com/api/websocket/",
    environment: { ...browser.environment(), WebSocket: class { constructor() { throw new Error("blocked"); } } },
  });
  assert.equal(client.state, "waiting");
});

test("cookies and frames", () => {
  assert.equal(cookie("a=1; csrftoken = x=y ;b=2", "csrftoken"), "x=y");
  assert.equal(cookie("xcsrftoken=1", "csrftoken"), "");
  assert.deepEqual(read('{"accept": true, "user": "alice"}'), { kind: "accepted", user: "alice" });
  assert.equal(read('{"accept": true, "user": 1, "job": 2}').kind, "event");
  assert.equal(read('{"groups_current": [1]}').current[0], "1");
  assert.equal(read("null").kind, "event");
});
