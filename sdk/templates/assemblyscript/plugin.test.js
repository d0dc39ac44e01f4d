// Unit tests: edgerelay/testing takes the relay's place. `npm test` builds the plugin and runs them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "edgerelay/testing";

test("failures are marked", () => {
  const host = new Host("plugin.wasm");
  const result = host.event("jobs-status_changed", { status: "failed" });
  assert.equal(result.payload, '{"status":"failed","seen":true}');
});

test("other statuses are dropped", () => {
  const host = new Host("plugin.wasm");
  assert.equal(host.event("jobs-status_changed", { status: "running" }).verdict, "drop");
});

test("golden samples", () => {
  new Host("plugin.wasm").samples("events.ndjson");
});
