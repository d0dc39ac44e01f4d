// Tests of the host for unit tests. The tests of the repository compare it with the relay's own host besides.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Host } from "../testing/index.js";
import { find, isJSON, isUTF8, parts, sameJSON, text } from "../testing/json.js";
import { withSection } from "../testing/module.js";

const root = new URL("../../../", import.meta.url);
const probe = readFileSync(new URL("internal/guests/testdata/probe-c.wasm", root));
const lines = (name) =>
  readFileSync(new URL(`sdk/testdata/${name}`, root), "utf8").trim().split("\n").map((line) => JSON.parse(line));

// A module with ev_on_event and a start function, which logs "started" from the memory.
const started = Buffer.from(
    "AGFzbQEAAAABGQVgA39/fwBgAABgAAF/YAF/AX9gAn9/AX4CCwEDZXYxA2xvZwAAAwUEAQIDBAUDAQABBzUEBm1lbW9yeQIA" +
    "DmV2X2FiaV92ZXJzaW9uAAIJZXZfYnVmZmVyAAMLZXZfb25fZXZlbnQABAgBAQocBAoAQQFBCEEHEAALBABBAQsFAEGACAsE" +
    "AEIACwsNAQBBCAsHc3RhcnRlZA==",
  "base64",
);

test("paths", () => {
  for (const { doc, path, raw, text: want } of lines("jsonpath.ndjson")) {
    const bytes = Buffer.from(doc);
    const range = find(bytes, Buffer.from(path));
    assert.equal(range ? bytes.subarray(...range).toString() : undefined, raw, `${path} in ${doc}`);
    if (range) assert.equal(Buffer.from(text(bytes.subarray(...range))).toString(), want);
  }
});

test("bytes that are not UTF-8 are decoded like in the relay", () => {
  const value = Buffer.from([34, 92, 110, 0xe4, 0xff, 0xc3, 0xa9, 34]);
  assert.equal(Buffer.from(text(value)).toString(), "\n\ufffd\ufffdé");
  assert.equal(isUTF8(value), false);
});

test("JSON with NaN", () => {
  assert.equal(isJSON('{"a":NaN}'), false);
  assert.equal(isJSON('{"a":[NaN,-Infinity],"NaN":"NaN"}', true), true);
  assert.equal(sameJSON('{"a": NaN, "b c": 1}', '{"a":NaN,"b c":1}'), true);
  assert.equal(sameJSON('{"a":"b c"}', '{"a":"bc"}'), false);
  assert.deepEqual([...parts('{"p": {"x": NaN} , "q":1}')], [["p", '{"x": NaN}'], ["q", "1"]]);
  assert.equal(parts('{"a":1'), null);
});

test("modules that the relay rejects", () => {
  assert.throws(() => new Host(probe, { grants: ["kv", "metrics", "clock", "tick"] }), /emit without the grant emit/);
  assert.throws(() => new Host(probe, { grants: ["emit", "kv", "metrics", "clock"] }), /without the grant tick/);
  const wanting = withSection(started, "edgerelay.manifest", Buffer.from('{"name":"x","grants":["kv"]}'));
  assert.equal(new Host(wanting).manifest.name, "x");
  assert.throws(() => new Host(wanting, { grants: ["emit"] }), /asks for the grant kv/);
  assert.throws(() => new Host(probe, { config: { refuse: "it is wrong" } }), /ev_init returned 2: it is wrong/);
  const empty = Buffer.from([0, 97, 115, 109, 1, 0, 0, 0]);
  assert.throws(() => new Host(empty), /does not export memory/);
});

test("a failed call ends the instance, and the store stays", () => {
  const host = new Host(probe);
  const before = host.memory;
  assert.equal(host.event("g", { do: "kv_set", key: "k", value: "v" }).payload, "yes");
  assert.match(host.event("g", { do: "error" }).error.message, /it was asked for/);
  assert.equal(host.event("g", { do: "kv_get", key: "k" }).payload, "v");
  assert.notEqual(host.memory, before);
  assert.equal(host.kvGet("k"), "v");
  assert.match(new Host(started).tick().error.message, /does not export ev_on_tick/);
});

test("the clock expires values", () => {
  const host = new Host(probe, { now: 1000 });
  host.event("g", { do: "kv_set", key: "k", value: "v" }); // for a second
  host.now += 999;
  assert.equal(host.event("g", { do: "kv_get", key: "k" }).payload, "v");
  host.now += 1;
  assert.equal(host.event("g", { do: "kv_get", key: "k" }).payload, "none");
  assert.equal(host.kvSet("k", "x"), true);
  assert.equal(new Host(probe, { kv: 100 }).kvSet("k", "x".repeat(36)), false);
  assert.equal(new Host(probe, { kv: 100 }).kvSet("k", "x".repeat(35)), true);
});

test("a start function may use the host's functions", () => {
  const host = new Host(started);
  assert.deepEqual(host.logs, [{ level: "info", text: "started" }]);
  assert.equal(host.event("g", "x").verdict, "pass");
});

test("ticks", () => {
  const host = new Host(probe);
  const { verdict, emits, error } = host.tick();
  assert.deepEqual({ verdict, emits, error }, { verdict: "pass", emits: [], error: null });
  host.kvSet("tick", "{}");
  assert.deepEqual(host.tick().emits, [{ group: "ticks", payload: "{}", audience: 0xffffffffffffffffn }]);
  host.kvSet("tick", "error");
  assert.match(host.tick().error.message, /it was asked for/);
});

test("limits", () => {
  const host = new Host(probe, { maxResult: 10, json: true });
  assert.match(host.event("g", { do: "payload" }).error.message, /more than max_result/);
  assert.match(host.event("g", { do: "replace", with: "x" }).error.message, /not JSON/);
  assert.equal(host.event("g", { do: "emit", to: "x", with: "12345678901" }).payload, "-2");
  assert.equal(host.event("g", { do: "emit", to: "x", with: "{}" }, { hops: 4 }).payload, "-3");
  assert.equal(host.event("g", { do: "emit", to: "g", with: "{}" }, { hops: 4 }).payload, "0");
  assert.equal(host.event("g", { do: "emit", to: "x y", with: "{}" }).payload, "-4");
});

test("samples that differ are all named", () => {
  const host = new Host(probe);
  const file = new URL("samples.ndjson", import.meta.url);
  assert.throws(() => host.samples(file), (error) => {
    const faults = error.message.split("\n");
    assert.equal(faults.length, 4);
    assert.match(faults[0], /:2: verdict drop, want pass$/);
    assert.match(faults[1], /:3: unknown member "verdit" of a sample/);
    assert.match(faults[2], /:5: class 5, want 6$/);
    assert.match(faults[3], /:6: number of emitted events 0, want 1$/);
    return true;
  });
});
