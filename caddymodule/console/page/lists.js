// Find: all groups and all clients, page by page. The relay searches, so that 10,000 groups cost the page one screen.
const pageLength = 25;
let search = null; // {kind, text, sort, befores, after}

async function refreshFound() {
	const of = search;
	if (!of) return;
	const groups = of.kind === "prefix", sort = groups ? of.sort : "id";
	const query = {limit: pageLength, sort, [of.kind]: of.text, after: sort === "name" || sort === "id" ? of.after : undefined};
	try {
		const page = await get((groups ? "groups?" : "connections?") + parameters(query));
		if (of !== search) return;
		of.next = page.next;
		of.total = page.total;
		const list = groups ? page.groups : page.connections;
		const first = of.befores.length * pageLength + 1;
		$("find-total").textContent = list.length ? `${count(first)} to ${count(first + list.length - 1)} of ${plural(page.total, groups ? "group" : "client")}` : "";
		$("find-before").hidden = !of.befores.length;
		$("find-next").hidden = !page.next;
		$("find-close").hidden = !me.actions || !page.total || !["user", "group"].includes(of.kind) || !of.text;
		$("find-close").textContent = `Close ${groups ? "" : count(page.total)}…`;
		show($("found"), groups ? foundGroups(list) : foundClients(list, Date.now()));
	} catch (e) {
		if (of === search) show($("found"), element("p", explain(e), {class: "none"}));
	}
}

const foundGroups = list => table("Groups", [
	["Group", "", g => groupLink(g.group)],
	["Clients", "n", g => count(g.subscribers)],
	["Events/s", "n", g => rate(g.rate)],
	["Tails", "n extra", g => count(g.tails)],
], list, "No group of this node begins so.");

const foundClients = (list, now) => table("Clients", [
	["Client", "", c => [userOf(c), c.name || c.user ? element("div", "#" + c.id + (c.user && c.name ? ", id " + c.user : ""), {class: "none"}) : ""]],
	["Transport", "extra", c => words(c.door)],
	["Address", "extra", c => c.address],
	["Groups", "n", c => c.groups ? element("span", count(c.groups.length), {title: c.groups.join(" ")}) : "…"],
	["Open since", "n extra", c => new Date(c.opened).toLocaleTimeString("en-GB")],
	["Queued", "n", c => bytes(c.waiting_bytes)],
	...closeColumn(),
], list, "No client of this node matches.");

function startSearch(kind, text) {
	$("find-kind").value = kind;
	$("find-text").value = text;
	$("find-sort").hidden = kind !== "prefix";
	search = {kind, text: text.trim(), sort: $("find-sort").value, befores: [], after: ""};
	return refreshFound();
}

$("find-form").addEventListener("submit", e => { e.preventDefault(); startSearch($("find-kind").value, $("find-text").value); });
$("find-kind").addEventListener("change", () => { $("find-sort").hidden = $("find-kind").value !== "prefix"; });
$("find-next").addEventListener("click", () => {
	search.befores.push(search.after);
	search.after = search.next;
	refreshFound();
});
$("find-before").addEventListener("click", () => {
	search.after = search.befores.pop();
	refreshFound();
});

// closing asks before clients are closed. filter is what the relay gets; the number is asked when the dialog opens.
function closing(title, filter, query) {
	ask({
		title,
		plan: async () => {
			const {total} = await get("connections?" + parameters({limit: 1, ...query}));
			return {
				effect: total ? `Closes ${plural(total, "connection")} on this node (${me.node}), with code 1008. Clients with a login may connect again.` : "No such connection is open.",
				confirm: total ? `Close ${plural(total, "connection")}` : "Close", possible: total > 0,
			};
		},
		run: async () => {
			const {closed} = await act("close", filter);
			return `Closed ${plural(closed, "connection")}.`;
		},
	});
}

const listActions = {
	"close": data => closing(`Close connection #${data.id}${data.name === "#" + data.id ? "" : " of " + data.name} from ${data.address}`, {id: Number(data.id)}, {id: data.id}),
	"close-found": () => closing(`Close all connections of ${search.kind} ${search.text}`, {[search.kind]: search.text}, {[search.kind]: search.text}),
	"close-group": () => closing(`Close all connections of group ${group}`, {group}, {group}),
	drain() {
		ask({
			title: "Drain this node",
			fields: [["duration", "Over", [["", "the configured time"], ["10s", "10 seconds"], ["30s", "30 seconds"], ["2m", "2 minutes"], ["10m", "10 minutes"]]]],
			plan: async () => {
				const o = await get("overview");
				return {effect: `Evicts ${plural(o.connections, "client")} from ${me.node}, one after another, with code 1012: they reconnect to other nodes. New connections are rejected until the drain is canceled or the relay restarts.${o.peers ? "" : " This node knows no other node."}`, confirm: `Evict ${plural(o.connections, "client")}`};
			},
			run: async v => { const d = await act("drain", v.duration ? {duration: v.duration} : {}); return `The drain has begun: ${plural(d.open, "client")} to evict.`; },
		});
	},
	undrain() {
		ask({
			title: "Cancel the drain",
			plan: async () => ({effect: `${me.node} accepts new connections again. Clients that were evicted come back only by chance.`, confirm: "Cancel the drain"}),
			run: async () => { await act("undrain", {}); return "The drain is canceled; the node accepts clients."; },
		});
	},
};
