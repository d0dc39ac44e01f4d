import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../dist/index.js";
import { Browser } from "./fake.mjs";

/** Listeners that keep what they hear. */
function widget(more = {}) {
  const heard = [];
  const to = { ...more };
  for (const what of ["event", "subscribed", "recovered", "gap", "refused"]) to[what] = (h) => heard.push([what, h]);
  return { to, heard, take: () => heard.splice(0) };
}

function open(typed = true) {
  const browser = new Browser();
  const client = connect({ environment: browser.environment() });
  const events = [];
  client.on("event", (e) => events.push(e));
  browser.greet(typed);
  browser.answer([]);
  return { browser, client, events, sent: () => browser.socket.sent.at(-1).groups };
}

const subscribed = (group, more = {}) => ({ type: "subscribed", group, position: `head of ${group}`, events: 0, ...more });
const event = (group, n) => ({ type: "event", group, position: `${group} ${n}`, time: n, event: { n } });
const settle = () => new Promise((done) => setImmediate(done));

test("two widgets share a connection; each hears of its groups; the last one to leave a group leaves it", async () => {
  const { browser, client, events, sent } = open();
  const a = widget(), b = widget();
  const ha = client.subscribe({ jobs: ["summary", "status"] }, a.to);
  assert.deepEqual(ha.groups, ["jobs-summary", "jobs-status"]);
  assert.deepEqual(sent(), { jobs: ["summary", "status"] });
  browser.answer(["jobs-summary", "jobs-status"]);
  for (const group of ha.groups) browser.say(subscribed(group));
  const hb = client.subscribe({ jobs: ["status"], job_events: [42] }, b.to);
  assert.deepEqual(sent(), { jobs: ["summary", "status"], job_events: [42] });
  browser.answer(["jobs-summary", "jobs-status", "job_events-42"]);
  browser.say(subscribed("job_events-42"));
  await settle();
  assert.deepEqual(a.take().map(([what, { group }]) => [what, group]), [["subscribed", "jobs-summary"], ["subscribed", "jobs-status"]]);
  assert.deepEqual(b.take(), [
    ["subscribed", { group: "job_events-42", position: "head of job_events-42", events: 0 }],
    ["subscribed", { group: "jobs-status", position: "head of jobs-status", events: 0 }],
  ]);
  browser.say(event("jobs-summary", 1));
  browser.say(event("jobs-status", 2));
  browser.say(event("job_events-42", 3));
  browser.say({ type: "gap", groups: ["jobs-summary"], reason: "mailbox_full" });
  assert.deepEqual(a.take(), [["event", { n: 1 }], ["event", { n: 2 }], ["gap", { group: "jobs-summary", reason: "mailbox_full" }]]);
  assert.deepEqual(b.take(), [["event", { n: 2 }], ["event", { n: 3 }]]);
  assert.deepEqual(events, [{ n: 1 }, { n: 2 }, { n: 3 }]);
  ha.close();
  assert.deepEqual(sent(), { jobs: ["status"], job_events: [42] });
  const messages = browser.socket.sent.length;
  ha.close();
  browser.answer(["jobs-status", "job_events-42"]);
  browser.say(event("jobs-status", 4));
  browser.say(event("jobs-summary", 5)); // was under way
  assert.deepEqual([a.take(), b.take()], [[], [["event", { n: 4 }]]]);
  assert.deepEqual(events.at(-1), { n: 4 });
  hb.close();
  assert.equal(browser.socket.sent.length, messages + 1);
  assert.deepEqual(sent(), {});
});

test("a widget for a group that is there costs no message, and neither does its end", () => {
  const { browser, client } = open();
  client.subscribe({ jobs: ["summary"] }, widget().to);
  browser.answer(["jobs-summary"]);
  browser.say(subscribed("jobs-summary"));
  const before = browser.socket.sent.length;
  client.subscribe({ jobs: ["summary"] }, widget().to).close();
  assert.equal(browser.socket.sent.length, before);
});

test("widgets that come at once: one message, and one more for those that came before the answer", () => {
  const { browser, client, sent } = open();
  for (let n = 1; n <= 50; n++) client.subscribe({ job_events: [n] }, () => {});
  assert.equal(browser.socket.sent.length, 2);
  browser.answer(["job_events-1"]);
  assert.equal(browser.socket.sent.length, 3);
  assert.equal(sent().job_events.length, 50);
});

test("the client's own groups are replaced; widgets stay", () => {
  const { browser, client, sent } = open();
  client.subscribe({ jobs: ["summary"] }, widget().to);
  browser.answer(["jobs-summary"]);
  client.subscribe({ job_events: [1] });
  browser.answer(["jobs-summary", "job_events-1"]);
  client.subscribe({ job_events: [2] });
  assert.deepEqual(sent(), { jobs: ["summary"], job_events: [2] });
  browser.answer(["jobs-summary", "job_events-2"]);
  client.subscribe({}).close();
  assert.deepEqual(sent(), { jobs: ["summary"] });
});

test("the latest events: each widget gets as many as it asked for, a later one those that are kept", async () => {
  const { browser, client } = open();
  const a = widget({ latest: 3 }), b = widget(), c = widget({ latest: 2 }), late = widget({ latest: 10 }), later = widget();
  client.subscribe({ jobs: ["x"] }, a.to);
  client.subscribe({ jobs: ["x"] }, b.to);
  client.subscribe({ jobs: ["x"] }, c.to);
  browser.answer([]); // of the first message; the group is denied, say
  assert.deepEqual(browser.socket.sent.at(-1).since, { "jobs-x": { latest: 3 } });
  browser.answer(["jobs-x"]);
  browser.say(subscribed("jobs-x", { events: 3 }));
  for (const n of [1, 2, 3]) browser.say(event("jobs-x", n));
  const numbers = ({ heard }) => heard.filter(([what]) => what === "event").map(([, { n }]) => n);
  assert.deepEqual([a, b, c].map(numbers), [[1, 2, 3], [], [2, 3]]);
  browser.say(event("jobs-x", 4));
  client.subscribe({ jobs: ["x"] }, late.to);
  client.subscribe({ jobs: ["x"] }, later.to);
  client.subscribe({ jobs: ["x"] }, late.to).close(); // before it was told
  assert.deepEqual(late.heard, []); // not within subscribe
  await settle();
  browser.say(event("jobs-x", 5));
  assert.deepEqual([a, b, c, late, later].map(numbers), [[1, 2, 3, 4, 5], [4, 5], [2, 3, 4, 5], [2, 3, 4, 5], [5]]);
  assert.deepEqual(late.heard[0], ["subscribed", { group: "jobs-x", position: "jobs-x 4", events: 3 }]);
});

test("a group that is left and wanted again at once keeps no event of before", () => {
  const { browser, client } = open();
  const a = widget(), b = widget();
  const ha = client.subscribe({ jobs: ["x"] }, a.to);
  browser.answer(["jobs-x"]);
  browser.say(subscribed("jobs-x"));
  ha.close();
  client.subscribe({ jobs: ["x"] }, b.to);
  browser.say(event("jobs-x", 1)); // sent before the server knew
  browser.answer([]);
  assert.deepEqual(browser.socket.sent.at(-1).groups, { jobs: ["x"] });
  browser.answer(["jobs-x"]);
  browser.say(subscribed("jobs-x"));
  browser.say(event("jobs-x", 2));
  assert.deepEqual(b.heard.map(([what]) => what), ["subscribed", "event"]);
  assert.deepEqual(b.heard[1], ["event", { n: 2 }]);
});

test("refusals reach the widgets of the group", () => {
  const { browser, client } = open();
  const a = widget(), b = widget();
  client.subscribe({ job_events: [1] }, a.to);
  browser.answer(["job_events-1"]);
  client.subscribe({ job_events: [2] }, b.to);
  browser.say({ error: "access denied to channel job_events for resource id 2" });
  assert.deepEqual([a.heard, b.heard], [[], [["refused", { message: "access denied to channel job_events for resource id 2" }]]]);
});

test("without the subprotocol: a widget hears what its text names, or what no text names", () => {
  const { browser, client } = open(false);
  const jobs = widget(), one = widget(), two = widget();
  client.subscribe({ jobs: ["status_changed", "summary"] }, jobs.to);
  client.subscribe({ job_events: [1] }, one.to);
  client.subscribe({ job_events: [2] }, two.to);
  browser.answer(["jobs-status_changed", "jobs-summary", "job_events-1"]);
  browser.answer(["jobs-status_changed", "jobs-summary", "job_events-1", "job_events-2"]);
  [jobs, one, two].forEach(({ take }) => take());
  const events = [{ group_name: "jobs" }, { group_name: "job_events", job: 1 }, { group_name: "job_events", job: 2 }, { n: 1 }, { group_name: "x" }];
  events.forEach((e) => browser.say(e));
  assert.deepEqual([jobs, one, two].map(({ heard }) => heard.map(([, e]) => events.indexOf(events.find((x) => JSON.stringify(x) === JSON.stringify(e))))),
    [[0, 3], [1, 3], [2, 3]]);
});
