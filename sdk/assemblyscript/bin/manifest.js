#!/usr/bin/env node
// Embeds a manifest in a module, as the custom section edgerelay.manifest. It replaces an earlier one.
import { readFileSync, writeFileSync } from "node:fs";
import { withSection } from "../testing/module.js";

const [wasm, file] = process.argv.slice(2);
if (!file) {
  console.error("usage: edgerelay-manifest plugin.wasm manifest.json");
  process.exit(2);
}
const manifest = Buffer.from(JSON.stringify(JSON.parse(readFileSync(file, "utf8"))));
if (manifest.length > 65536) {
  console.error(`${file}: the manifest has more than 64 KiB; shorten it`);
  process.exit(1);
}
writeFileSync(wasm, withSection(readFileSync(wasm), "edgerelay.manifest", manifest));
