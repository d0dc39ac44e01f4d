import assert from "node:assert/strict";
import { test } from "node:test";

import { play, Scene } from "./scene.mjs";

const RUNS = 300;

test(`${RUNS} random scenes: every event once and in order, or a gap`, async (t) => {
  const { events, recovered, gaps } = await play(RUNS, (seed) => new Scene(seed));
  t.diagnostic(`${events} events, ${recovered} recoveries, ${gaps} gaps`);
  assert.ok(events > 10_000 && recovered > 100 && gaps > 100);
});
