// Run by `node --test`, on function.wasm.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../../sdk/assemblyscript/testing/index.js";

const wasm = new URL("function.wasm", import.meta.url);
const host = () => new Host(wasm, { join: ["cursors_*"], publish: ["cursors_*"] });
const page = (name) => ({ params: { page: "home" }, query: "name=" + encodeURIComponent(name) });

test("the others see a cursor, with name and color", () => {
  const h = host(), ann = h.connect(page("Ann")), ben = h.connect(page("Ben"));
  const { you } = JSON.parse(ann.received()[0]);
  assert.equal(you.name, "Ann");
  ben.received();
  ann.text('{"x": 0.25, "y": 0.123456}');
  assert.deepEqual(ben.received().map(JSON.parse), [{ ...you, x: 0.25, y: 0.1235 }]);
  assert.deepEqual(ann.received(), []);
});

test("places outside of the page, and other messages, are ignored", () => {
  const h = host(), ann = h.connect(page("Ann")), ben = h.connect(page("Ben"));
  ben.received();
  for (const text of ['{"x": 2, "y": 0}', '{"x": "left", "y": 0}', '{"x": 0.5}', "no JSON"]) ann.text(text);
  assert.deepEqual(ben.received(), []);
});

test("a cursor goes with its client", () => {
  const h = host(), ann = h.connect(page("Ann")), ben = h.connect(page("Ben"));
  const { you } = JSON.parse(ann.received()[0]);
  ben.received();
  ann.disconnect();
  assert.deepEqual(ben.received().map(JSON.parse), [{ ...you, gone: true }]);
});

test("names are short, and pages have the names of groups", () => {
  const h = host();
  assert.equal(JSON.parse(h.connect(page("x".repeat(50))).received()[0]).you.name.length, 20);
  assert.equal(JSON.parse(h.connect(page("")).received()[0]).you.name, "visitor");
  assert.equal(h.connect({ params: { page: "a b" } }).accepted, false);
});
