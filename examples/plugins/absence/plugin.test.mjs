// Run by `node --test`, on plugin.wasm.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../../sdk/assemblyscript/testing/index.js";

const wasm = new URL("plugin.wasm", import.meta.url);
const start = 1_767_323_045_000;
const host = (config) => new Host(wasm, { config, grants: ["clock", "emit", "tick"], now: start });
const alerts = (result) => result.emits.map((e) => [e.group, JSON.parse(e.payload)]);

test("an expected group is missed without any event", () => {
  const h = host({ seconds: 10, group: "alerts-1", expect: ["jobs-1"] });
  h.now = start + 9_999;
  assert.deepEqual(alerts(h.tick()), []);
  h.now = start + 10_000;
  assert.deepEqual(alerts(h.tick()), [["alerts-1", { group: "jobs-1", state: "silent", last_ms: start }]]);
  assert.deepEqual(alerts(h.tick()), []);
});

test("many alerts take several ticks", () => {
  const h = host({ seconds: 1 });
  for (let i = 0; i < 20; i++) h.event(`jobs-${i}`, {});
  h.now = start + 1_000;
  for (const want of [16, 4, 0]) assert.equal(h.tick().emits.length, want);
});

test("a wrong setting is refused", () => {
  assert.throws(() => host({ seconds: 0 }), /1 or more/);
});
