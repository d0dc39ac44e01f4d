// Unit tests: edgerelay/testing takes the relay's place. `npm test` builds the function and runs them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "edgerelay/testing";

test("a room", () => {
  const host = new Host("plugin.wasm", { join: ["room-*"], publish: ["room-*"], grants: ["shared"] });
  const room = { params: { room: "7" } };
  const alice = host.connect(room), bob = host.connect(room);
  alice.text("hello");
  assert.deepEqual(bob.received(), ["visit 2 of room-7", "hello"]);
});
