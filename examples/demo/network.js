// The network between this page and the relay, which the page can narrow or cut: the client sees what it would see
// behind a proxy that blocks WebSockets, or without a connection. Publishing is not affected.

const LETS = { // what passes
	all: ["websocket", "stream", "poll"],
	streams: ["stream", "poll"],
	polls: ["poll"],
	none: [],
};

let passes = LETS.all;
const open = new Map(); // function that ends a connection → its kind

// use sets what passes: all, streams, polls or none.
export function use(lets) {
	passes = LETS[lets];
	for (const [end, kind] of [...open]) {
		if (passes.includes(kind)) continue;
		open.delete(end);
		end();
	}
	// As a browser does when its network is another one: the client then looks for the best way at once.
	if (passes.length > 0) dispatchEvent(new Event("online"));
}

function check(kind) {
	if (!passes.includes(kind)) throw new TypeError(`${kind}: this page lets none pass`);
}

// Socket is a WebSocket on this network.
export class Socket extends WebSocket {
	constructor(url, protocols) {
		check("websocket");
		super(url, protocols);
		const end = () => this.close();
		open.set(end, "websocket");
		this.addEventListener("close", () => open.delete(end));
	}
}

// request is fetch on this network.
export async function request(url, init) {
	const kind = init.headers.Accept === "text/event-stream" ? "stream" : "poll";
	check(kind);
	const cut = new AbortController();
	const end = () => { open.delete(end); cut.abort(); };
	open.set(end, kind);
	init.signal.addEventListener("abort", end);
	const response = await fetch(url, { ...init, signal: cut.signal }).catch(error => { open.delete(end); throw error; });
	if (kind === "poll") open.delete(end); // the rest comes at once
	return response;
}
