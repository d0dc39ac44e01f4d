// The backend of a site with live pages: no WebSocket, no Redis, no library. docs/publishing.md explains it.
import {readFile} from "node:fs/promises";
import {createServer} from "node:http";

const {PORT = 3000, SITE = "https://localhost", SHOP_KEY} = process.env;
const orders = {17: "open", 18: "open"};

// publish sends messages to clients, by edgerelay_publish. A retry with the same id sends nothing twice.
async function publish(body) {
  const response = await fetch(SITE + "/edgerelay/publish", {
    method: "POST",
    headers: {Authorization: `Bearer ${SHOP_KEY}`, "Content-Type": "application/json"},
    body: JSON.stringify(body),
  });
  const result = await response.json();
  if (!response.ok || result.failed > 0) throw new Error(JSON.stringify(result));
}

// chat answers the events of a client's WebSocket (WebSocket-over-HTTP): a list of "TYPE <hex length>\r\ncontent\r\n".
async function chat(events, response) {
  let answer = "";
  const say = (text) => { answer += `TEXT ${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`; };
  for (let at = 0; at < events.length;) {
    const line = events.indexOf("\r\n", at);
    const [type, size] = events.toString("latin1", at, line).split(" ");
    const content = events.subarray(line + 2, line + 2 + parseInt(size ?? "0", 16));
    at = line + 2 + (size ? content.length + 2 : 0);
    if (type === "OPEN") {
      answer += "OPEN\r\n";
      say('c:{"type": "subscribe", "channel": "chat"}');
    } else if (type === "TEXT") {
      await publish({items: [{channel: "chat", "ws-message": {content: `Someone: ${content}`}}]});
    } else if (type === "CLOSE") {
      answer += `CLOSE ${content.length.toString(16)}\r\n${content}\r\n`;
    }
  }
  response.setHeader("Sec-WebSocket-Extensions", 'grip; message-prefix=""');
  response.setHeader("Content-Type", "application/websocket-events").end(answer);
}

createServer(async (request, response) => {
  try {
    const body = Buffer.concat(await request.toArray());
    const [, id, state] = request.url.match(/^\/orders\/(\d+)\/(open|paid|sent)$/) ?? [];
    if (request.headers["content-type"] === "application/websocket-events") return await chat(body, response);
    if (request.method === "POST" && id in orders) {
      orders[id] = state;
      await publish({group: "orders", type: "order.changed", data: {id: Number(id), state}});
      return response.writeHead(204).end();
    }
    if (request.url === "/orders") return response.end(JSON.stringify(orders));
    if (request.url !== "/") return response.writeHead(404).end();
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(await readFile(new URL("index.html", import.meta.url)));
  } catch (error) {
    console.error(error);
    response.writeHead(502).end();
  }
}).listen(PORT, "127.0.0.1");
