// The sections of a WebAssembly module.

const START = "edgerelay:start";

/** An unsigned integer in LEB128. */
function leb(n) {
  const out = [];
  for (; n > 127; n >>>= 7) out.push((n & 127) | 128);
  return Buffer.from([...out, n]);
}

/** Reads an unsigned integer in LEB128: the value, and the position behind it. */
function readLEB(bytes, i) {
  let n = 0;
  for (let shift = 0; ; shift += 7, i++) {
    n += (bytes[i] & 127) * 2 ** shift;
    if (!(bytes[i] & 128)) return [n, i + 1];
  }
}

const text = (name) => Buffer.concat([leb(Buffer.byteLength(name)), Buffer.from(name)]);

/** The sections: id, name of a custom section, content. */
function split(wasm) {
  const bytes = Buffer.from(wasm.buffer ?? wasm, wasm.byteOffset ?? 0, wasm.byteLength);
  const sections = [];
  for (let i = 8; i < bytes.length; ) {
    const id = bytes[i];
    const [size, from] = readLEB(bytes, i + 1);
    let name = "";
    if (id === 0) {
      const [n, at] = readLEB(bytes, from);
      name = bytes.toString("utf8", at, at + n);
    }
    sections.push({ id, name, content: bytes.subarray(from, from + size) });
    i = from + size;
  }
  return { head: bytes.subarray(0, 8), sections };
}

function join({ head, sections }) {
  return Buffer.concat([head, ...sections.flatMap((s) => [Buffer.from([s.id]), leb(s.content.length), s.content])]);
}

/** Returns the module with a custom section, which replaces an earlier one of that name. */
export function withSection(wasm, name, content) {
  const { head, sections } = split(wasm);
  const rest = sections.filter((s) => s.id !== 0 || s.name !== name);
  return join({ head, sections: [...rest, { id: 0, content: Buffer.concat([text(name), content]) }] });
}

/**
 * Makes the start function an export, as the relay does: the host's functions need the memory, which is there only when
 * the instance is.
 */
export function deferStart(wasm) {
  const { head, sections } = split(wasm);
  const start = sections.find((s) => s.id === 8);
  const exported = sections.find((s) => s.id === 7);
  if (!start || !exported) return wasm;
  const [count, from] = readLEB(exported.content, 0);
  const entry = Buffer.concat([text(START), Buffer.from([0]), start.content]);
  exported.content = Buffer.concat([leb(count + 1), exported.content.subarray(from), entry]);
  return join({ head, sections: sections.filter((s) => s !== start) });
}

/** Runs the start function of an instance. */
export function runStart(instance) { instance.exports[START]?.(); }
