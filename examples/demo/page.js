import { connect } from "./client/index.js";
import * as network from "./network.js";

const $ = id => document.getElementById(id);
const at = path => new URL(`../${path}`, import.meta.url); // relative to the page, wherever a site has it
const LISTED = 200;        // events kept on the page
const LATEST = 20;         // earlier events of each group, from the history
const RATE_SECONDS = 3;    // a rate is the mean of the last full seconds

function note(id, text, bad = false) {
	$(id).textContent = text;
	$(id).classList.toggle("bad", bad);
}

function element(tag, props = {}, ...children) {
	const made = Object.assign(document.createElement(tag), props);
	made.append(...children);
	return made;
}

// ---- the connection
const client = connect({
	url: at("websocket/").href, groups: parseGroups($("groups").value), latest: LATEST,
	environment: { WebSocket: network.Socket, fetch: network.request, storage: undefined },
});
const WAYS = { websocket: "WebSocket", stream: "event stream", poll: "long polls" };
let cut = false; // by the button

function showState(state, detail) {
	const way = state === "connected" && client.door ? `: ${WAYS[client.door]}` : "";
	$("state").textContent = state === "closed" ? "disconnected" : state + way;
	$("state").dataset.state = state;
	if (detail !== undefined) note("detail", detail);
}

client.on("state", ({ state, code, reason, retryIn }) => {
	if (state === "open") return showState("connected");
	if (cut) return showState("closed");
	if (state === "loggedout") return showState("closed", "the relay knows no user for this browser; reload the page");
	const why = code ? `closed with code ${code}${reason ? `: ${reason}` : ""}` : "";
	if (state === "waiting") return showState("waiting", `${why}; next attempt in ${(retryIn / 1000).toFixed(1)} s`);
	showState(state, why || undefined);
});
client.on("door", () => { if (client.state === "open") showState("connected"); });
client.on("refused", ({ message }) => note("subscribe-result", message, true));

$("disconnect").onclick = () => {
	cut = !cut;
	$("disconnect").textContent = cut ? "Connect again" : "Disconnect me";
	if (cut) note("detail", "Publish some events now, then connect again.");
	network.use(cut ? "none" : $("network").value);
	if (cut) showState("closed");
};
$("network").onchange = () => {
	if (!cut) network.use($("network").value);
};

// ---- groups, counts, rates
const stats = new Map();   // group → {count, now, seconds, position}
const total = stat();
let current = [];          // the groups that the relay has confirmed

function stat() { return { count: 0, now: 0, seconds: Array(60).fill(0), position: "" }; }

function statOf(group) {
	if (!stats.has(group)) stats.set(group, stat());
	return stats.get(group);
}

client.on("groups", groups => {
	current = groups.current.toSorted();
	for (const group of stats.keys()) if (!current.includes(group)) stats.delete(group);
	for (const group of current) statOf(group);
	for (const group of misses.keys()) if (!current.includes(group)) misses.delete(group);
	$("known-groups").replaceChildren(...current.map(value => element("option", { value })));
	showStats();
});
client.on("subscribed", ({ group, position }) => {
	if (position) statOf(group).position = position;
	showStats();
});

function parseGroups(text) {
	const groups = Object.create(null);
	for (const line of text.split(/[\n;]/).map(l => l.trim()).filter(Boolean)) {
		const [name, items] = line.split(/:(.*)/s).map(s => s.trim());
		if (!name || !items) throw new Error(`“${line}”: write a name, a colon, and types or ids`);
		groups[name] = (groups[name] ?? []).concat(items.split(/[\s,]+/).filter(Boolean).map(i => /^\d{1,15}$/.test(i) ? Number(i) : i));
	}
	return groups;
}

$("subscribe-form").onsubmit = e => {
	e.preventDefault();
	try {
		client.subscribe(parseGroups($("groups").value));
		note("subscribe-result", "");
	} catch (err) { note("subscribe-result", err.message, true); }
};

const rate = s => s.seconds.slice(-RATE_SECONDS).reduce((a, b) => a + b, 0) / RATE_SECONDS;
const perSecond = s => rate(s).toFixed(rate(s) < 10 ? 1 : 0);

function showStats() {
	$("groups-current").replaceChildren(...[...stats].map(([group, s]) => {
		const name = element("td", {}, group);
		if (s.position) name.append(element("small", { textContent: `position ${s.position}`, title: s.position }));
		const row = element("tr", {}, name, element("td", {}, s.count.toLocaleString("en")), element("td", {}, perSecond(s)));
		row.dataset.group = group;
		return row;
	}));
	$("total").textContent = `${total.count.toLocaleString("en")} event${total.count === 1 ? "" : "s"}, ${perSecond(total)}/s`;
	const top = Math.max(4, ...total.seconds);
	$("chart").firstElementChild.setAttribute("points", total.seconds.map((n, i) => `${i * 60 / 59},${(19 - 18 * n / top).toFixed(2)}`).join(" "));
}

setInterval(() => {
	for (const s of [total, ...stats.values()]) { s.seconds.shift(); s.seconds.push(s.now); s.now = 0; }
	showStats();
}, 1000);

// ---- events that were missed
const misses = new Map();  // group → {text, bad}

function missed(group, text, bad = false) {
	misses.delete(group);
	misses.set(group, { text, bad });
	note("missed", [...misses].map(([group, { text }]) => `${group}: ${text}`).join("; "), [...misses.values()].some(({ bad }) => bad));
	note("detail", "");
}

client.on("recovered", ({ group, events }) =>
	missed(group, events === 0 ? "nothing missed" : `${events} event${events === 1 ? "" : "s"} recovered`));
client.on("gap", ({ group, reason }) =>
	missed(group, reason === "withheld" ? "an event was withheld" : `events may be missing (${reason})`, true));

// ---- events: taken in at once, shown ten times a second
let pending = [], drawing = 0, paused = false;

client.on("event", (event, { group, position, time, replayed }) => {
	for (const s of [total, statOf(group)]) { s.count++; s.now++; }
	if (position) statOf(group).position = position;
	pending.push({ event, group, position, replayed, at: time ? new Date(time * 1000) : new Date() });
	if (pending.length > LISTED) pending.shift();
	drawing ||= setTimeout(draw, 100);
});

function draw() {
	drawing = 0;
	showStats();
	if (paused) return;
	const items = pending.map(item).reverse();
	pending = [];
	$("events").prepend(...items);
	while ($("events").childElementCount > LISTED) $("events").lastElementChild.remove();
	$("empty").hidden = $("events").childElementCount > 0;
}

function item({ event, group, position, replayed, at }) {
	const text = typeof event === "string" ? event : JSON.stringify(event);
	const summary = element("summary", {},
		element("time", { textContent: at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0"), dateTime: at.toISOString() }),
		element("span", { className: "badge", textContent: group }));
	if (replayed) summary.append(element("span", { className: "tag", textContent: "replayed", title: "from the group's history" }));
	summary.append(element("code", { textContent: text.slice(0, 300) }));
	const details = element("details", {}, summary);
	details.ontoggle = () => { // the whole payload only when it is asked for
		if (!details.open || details.querySelector("pre")) return;
		const about = element("dl", {}, element("dt", {}, "published"), element("dd", {}, at.toLocaleString()));
		if (position) about.append(element("dt", {}, "position"), element("dd", {}, element("code", {}, position)));
		details.append(about, element("pre", { tabIndex: 0 }, element("code", {}, typeof event === "string" ? event : JSON.stringify(event, null, 2))));
	};
	const li = element("li", { className: "event" }, details);
	li.dataset.group = group;
	return li;
}

$("pause").onclick = () => {
	paused = !paused;
	$("pause").setAttribute("aria-pressed", paused);
	draw();
};
$("clear").onclick = () => {
	pending = [];
	$("events").replaceChildren();
	$("empty").hidden = false;
	for (const s of [total, ...stats.values()]) s.count = 0;
	showStats();
};

// ---- publishing
const post = (path, body) => fetch(at(path), { method: "POST", headers: { "Content-Type": "application/json" }, body });

$("publish-form").onsubmit = async e => {
	e.preventDefault();
	const group = $("publish-group").value.trim();
	const data = $("publish-data").value; // sent as it was typed: subscribers get this very text
	try { JSON.parse(data); } catch (err) { return note("publish-result", `not JSON: ${err.message}`, true); }
	try {
		const answer = await post("publish", `{"group": ${JSON.stringify(group)}, "data": ${data}}`);
		if (!answer.ok) return note("publish-result", `rejected (${answer.status}): ${(await answer.text()).slice(0, 200)}`, true);
		note("publish-result", `published to ${group}`);
	} catch (err) {
		note("publish-result", `not sent: ${err.message}`, true);
	}
};
$("publish-data").onkeydown = e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) $("publish-form").requestSubmit(); };

// ---- the relay: its plugin, its console, and the command that publishes
let plugin;                // {name, groups, on}

function showPlugin(text, bad = false) {
	$("plugin-row").hidden = !plugin;
	if (!plugin) return;
	$("plugin").textContent = `Plugin ${plugin.name}`;
	$("plugin").setAttribute("aria-checked", plugin.on);
	const effect = plugin.name === "redact" ? "masks passwords and tokens" : "runs on each event";
	note("plugin-note", text ?? (plugin.on ? effect : "is off: events pass unchanged"), bad);
}

$("plugin").onclick = async () => {
	const wanted = { name: plugin.name, on: !plugin.on };
	try {
		const answer = await post("demo/plugin", JSON.stringify(wanted));
		if (!answer.ok) return showPlugin(`rejected (${answer.status}): ${(await answer.text()).slice(0, 200)}`, true);
		({ plugins: [plugin] } = await answer.json());
		showPlugin();
	} catch (err) {
		showPlugin(`not switched: ${err.message}`, true);
	}
};

$("copy").onclick = async () => {
	try {
		await navigator.clipboard.writeText($("command").textContent);
		note("copied", "copied");
	} catch { // not on a page without TLS, except on localhost
		getSelection().selectAllChildren($("command"));
		note("copied", "selected; copy it with your keyboard");
	}
};

try {
	const about = await (await fetch(at("demo/about"))).json();
	[plugin] = about.plugins;
	showPlugin();
	$("command").textContent = about.publish;
	$("terminal").hidden = false;
	if (about.console) $("console").href = about.console;
	$("console").hidden = !about.console;
} catch (err) {
	note("detail", `nothing is known about the relay: ${err.message}`, true);
}
showStats();
