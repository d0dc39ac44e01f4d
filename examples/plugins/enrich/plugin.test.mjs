// Run by `node --test`, on plugin.wasm.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../../sdk/assemblyscript/testing/index.js";

const wasm = new URL("plugin.wasm", import.meta.url);
const host = (config) => new Host(wasm, { config, grants: [] });

test("a failed job is an error, and final", () => {
  const { payload } = host().event("jobs-status_changed", { unified_job_id: 42, status: "failed" });
  assert.equal(payload, '{"unified_job_id":42,"status":"failed","severity":"error","final":true}');
});

test("the link names the kind of job", () => {
  const site = host({ site: "https://awx.example.com/" });
  const link = (type) => JSON.parse(site.event("g", { unified_job_id: 7, status: "running", type }).payload).link;
  assert.equal(link("job"), "https://awx.example.com/#/jobs/playbook/7/output");
  assert.equal(link("workflow_job"), "https://awx.example.com/#/jobs/workflow/7/output");
  assert.equal(link("something new"), undefined);
});

test("members that the event has already are replaced", () => {
  const { payload } = host().event("g", '{"final":"?", "status":"new"}');
  assert.equal(payload, '{"final":false, "status":"new","severity":"info"}');
});

test("the rest of the event stays as it is", () => {
  const { payload } = host().event("g", '{ "status": "successful", "elapsed": NaN, "name": "\\u00e9" }\n');
  assert.equal(payload,
    '{ "status": "successful", "elapsed": NaN, "name": "\\u00e9","severity":"success","final":true }\n');
});

test("events without a known status pass", () => {
  for (const payload of ['{"status":"on fire"}', '{"status":5}', "{}", "no JSON", ""]) {
    assert.equal(host().event("g", payload).verdict, "pass", payload);
  }
});

test("a site that is no address is refused", () => {
  assert.throws(() => host({ site: "awx" }), /https:\/\/awx.example.com/);
});

test("golden samples", () => {
  host({ site: "https://awx.example.com/" }).samples(new URL("events.ndjson", import.meta.url));
});
