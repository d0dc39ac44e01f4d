// Run by `node --test`, on plugin.wasm.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../../sdk/assemblyscript/testing/index.js";

const wasm = new URL("plugin.wasm", import.meta.url);
const host = (config) => new Host(wasm, { config, grants: ["emit"] });

test("a failed task is reported, and passes", () => {
  const event = { event: "runner_on_failed", job: 42,
    event_data: { host: "web1", task: "ping", res: { msg: "a \"b\"" } } };
  const result = host().event("job_events-42", event);
  assert.equal(result.verdict, "pass");
  assert.equal(result.emits.length, 1);
  assert.equal(result.emits[0].group, "alerts-failed");
  assert.deepEqual(JSON.parse(result.emits[0].payload), {
    from: "job_events-42", job: 42, event: "runner_on_failed", host: "web1", task: "ping", message: "a \"b\"",
  });
});

test("ignored errors and successes are not reported", () => {
  for (const event of [
    { event: "runner_on_failed", event_data: { ignore_errors: true } },
    { event: "runner_on_ok" },
    { status: "successful" },
  ]) {
    assert.deepEqual(host().event("job_events-42", event).emits, []);
  }
});

test("there are no alerts about alerts", () => {
  assert.deepEqual(host().event("alerts-failed", { status: "failed" }).emits, []);
  assert.deepEqual(host({ group: "alerts-all" }).event("alerts-all", { status: "failed" }).emits, []);
});

test("an alert that cannot be sent fails the event", () => {
  const bad = host({ group: "no group" }).event("g", { status: "failed" });
  assert.match(bad.error.message, /no alert is sent to no group: -4/);
  const far = host().event("g", { status: "failed" }, { hops: 4 });
  assert.match(far.error.message, /no alert is sent to alerts-failed: -3/);
});

test("the plugin needs the grant emit", () => {
  assert.throws(() => new Host(wasm, { grants: [] }), /without the grant emit/);
});

test("golden samples", () => { host().samples(new URL("events.ndjson", import.meta.url)); });
