import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import { connect } from "../dist/index.js";

// Node itself is the environment here: before version 22 it has no WebSocket.

test("without any door the error names the remedy", () => {
  const options = { url: "ws://127.0.0.1:9/websocket/", environment: { WebSocket: undefined } };
  assert.throws(() => connect({ ...options, positions: false }), /no WebSocket here; .*environment: \{ WebSocket \}/);
  assert.throws(() => connect({ ...options, doors: ["websocket"] }), /package ws/);
  assert.throws(() => connect({ ...options, environment: { WebSocket: undefined, fetch: undefined } }), /package ws/);
});

test("without a page the error asks for the address", () => {
  assert.throws(() => connect({}), /there is no page.*; set url: "wss:/);
  assert.throws(() => connect({ url: "/websocket/" }), /invalid url \/websocket\/; set url/);
});

test("a WebSocket that throws unheard errors, as that of the package ws does", async () => {
  let tried;
  const attempt = new Promise((resolve) => (tried = resolve));
  class Refused {
    readyState = 0;
    protocol = "";
    constructor(url, protocols) {
      setImmediate(() => {
        tried({ url, protocols });
        if (!this.onerror) throw new Error("unhandled 'error' event");
        this.onerror({});
        this.onclose?.({ code: 1006, reason: "" });
      });
    }
    close() {}
  }
  const client = connect({ url: "wss://relay.example.com/websocket/", doors: ["websocket"], environment: { WebSocket: Refused } });
  const waiting = new Promise((resolve) => client.on("state", ({ state }) => state === "waiting" && resolve()));
  assert.deepEqual(await attempt, { url: "wss://relay.example.com/websocket/", protocols: ["edgerelay.events.v1"] });
  await waiting;
  client.close();
});

test("without WebSocket, Node's fetch reads the event stream", async (t) => {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    asked.push({ accept: request.headers.accept, ...JSON.parse(body) });
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const frame of [
      { accept: true, user: 7 },
      { groups_current: ["jobs-summary"], groups_left: [], groups_joined: ["jobs-summary"] },
      { type: "subscribed", group: "jobs-summary", position: "p0", events: 0 },
      { type: "event", group: "jobs-summary", position: "p1", event: { n: 1 } },
    ]) response.write(`data: ${JSON.stringify(frame)}\n\n`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.closeAllConnections() ?? server.close());
  const client = connect({
    url: `http://127.0.0.1:${server.address().port}/websocket/`, groups: { jobs: ["summary"] }, token: () => "",
    environment: { WebSocket: undefined },
  });
  const event = await new Promise((resolve) => client.on("event", resolve));
  assert.deepEqual([event, client.door], [{ n: 1 }, "stream"]);
  assert.match(asked[0].accept, /text\/event-stream/);
  client.close();
});
