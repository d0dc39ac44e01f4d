import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import ts from "typescript";

const LIMIT = 10_500;

// Without comments and indentation, and compressed: a bundler that also shortens names gets below this.
test(`the client has at most ${LIMIT} bytes compressed`, (t) => {
  const dist = new URL("../dist/", import.meta.url);
  const files = readdirSync(dist).filter((name) => name.endsWith(".js"));
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022, removeComments: true };
  const text = files
    .map((name) => ts.transpileModule(readFileSync(new URL(name, dist), "utf8"), { compilerOptions }).outputText)
    .join("").replace(/^\s+/gm, "");
  const size = gzipSync(text, { level: 9 }).length;
  t.diagnostic(`${text.length} bytes, ${size} compressed`);
  assert.ok(files.length > 3 && size <= LIMIT, `${size} bytes`);
});
