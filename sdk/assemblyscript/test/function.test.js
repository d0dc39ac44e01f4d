// Tests of functions in AssemblyScript, and of the host that runs them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Host } from "../testing/index.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "edgerelay-"));
after(() => rmSync(folder, { recursive: true }));
const options = ["-O3", "--runtime", "incremental", "--noAssert", "--use", "abort=", "-o", join(folder, "game.wasm")];
execFileSync(join(here, "../node_modules/.bin/asc"), [join(here, "game.ts"), ...options], { stdio: "inherit" });
const game = readFileSync(join(folder, "game.wasm"));
const visitor = (username, more = {}) => ({ params: { room: "7" }, user: { username }, ...more });

test("a conversation", () => {
  const host = new Host(game);
  const alice = host.connect(visitor("alice")), bob = host.connect(visitor("bob"));
  assert.equal(alice.error, null);
  assert.deepEqual(alice.received(), ["game-7 1"]);
  assert.deepEqual(bob.received(), ["game-7 2"]);
  alice.text("hi");
  assert.deepEqual(alice.received(), []);
  assert.deepEqual(bob.received(), ['{"from":"alice","text":"hi"}']);
  bob.text("ping");
  bob.text("echo");
  assert.deepEqual(bob.received(), ["pong", "first", "echo"]);
  bob.text("fail");
  assert.match(bob.error.message, /no/);
  assert.deepEqual(bob.received(), []);
  bob.text("quit");
  assert.deepEqual(bob.closed, { code: 3000, reason: "bye" });
  assert.deepEqual(alice.received(), ["bob left 3000"]);
  assert.throws(() => bob.text("late"), /not connected/);
});

test("rejections", () => {
  const host = new Host(game);
  const c = host.connect();
  assert.deepEqual([c.accepted, c.status, c.reason, c.error], [false, 403, "anonymous", null]);
  assert.equal(host.connect(visitor("alice", { query: "x=1&v=a%20b" })).status, 426);
  assert.equal(host.sharedGet("visits:game-7"), null);
});

test("groups are granted", () => {
  const host = new Host(game, { join: ["chat-*"] });
  const c = host.connect(visitor("alice"));
  assert.equal(c.status, 403);
  assert.ok(host.logs.some((line) => line.text.includes("patterns")));
});

test("alarms come until they succeed", () => {
  const host = new Host(game);
  const alice = host.connect(visitor("alice"));
  alice.received();
  alice.text("remind");
  host.advance(4000);
  assert.deepEqual(alice.received(), []);
  host.advance(1000);
  assert.deepEqual(alice.received(), ["remind"]);
  host.alarms.push({ name: "x", payload: "broken", at: 0, failures: 0 });
  host.advance(0);
  assert.deepEqual([host.alarms.length, host.alarms[0].failures], [1, 1]);
  assert.match(host.error.message, /broken/);
});

test("HTTP requests", () => {
  const host = new Host(game);
  const alice = host.connect(visitor("alice"));
  alice.received();
  alice.text("ask");
  assert.deepEqual(alice.received(), ["unavailable"]);
  host.fetch = (r) => ({ body: `${r.method} ${r.url} ${r.body} ${r.once}` });
  host.holdResponses = true;
  alice.text("ask");
  assert.deepEqual(alice.received(), []);
  host.respond();
  assert.deepEqual(alice.received(), ["POST https://example.org/ ? asked"]);
});

test("the shared store", () => {
  const host = new Host(game);
  const alice = host.connect(visitor("alice"));
  alice.received();
  alice.text("store");
  assert.deepEqual(alice.received(), ["swapped 0 0 ", "conflict 2 1 ", "sum 0 5 ", 'list 0 0 b+c"', "a list -4 0 "]);
  host.advance(1000);
  assert.equal(host.sharedGet("k"), null);
});

test("clients may leave, and unknown continuations fail", () => {
  const host = new Host(game);
  host.holdResponses = true;
  const alice = host.connect(visitor("alice"));
  alice.disconnect(1001);
  host.respond();
  assert.deepEqual([alice.error, alice.frames], [null, []]);
  const bob = host.connect(visitor("bob"));
  bob.text("lost");
  host.respond();
  assert.match(bob.error.message, /"nowhere"/);
});
