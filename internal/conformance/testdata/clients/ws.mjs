// Receives events with ws from npm, and reports their digest: node ws.mjs <url>.
import { createHash } from "node:crypto";
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2]);
const hash = createHash("sha256");
socket.on("error", (error) => {
	console.error(error);
	process.exit(1);
});
socket.on("message", (data) => {
	if (data.toString() !== "end") {
		hash.update(data).update("\n");
		return;
	}
	socket.send(JSON.stringify({ Digest: hash.digest("hex"), Pad: "pad ".repeat(1024) }));
});
