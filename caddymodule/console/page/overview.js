// The overview: what the relay tells once a second.
let started = "";

function render(o) {
	const now = Date.parse(o.at), age = at => Math.max(0, (now - Date.parse(at)) / 1000);
	const ok = o.status === "ok", h = o.history, of = name => h.map(s => s[name]), most = name => Math.max(...of(name), 0);
	if (started && started !== o.started) say("The relay has restarted, or another node answers now.");
	started = o.started;
	renderDrain(o.drain, now);
	$("status").className = "pill " + (ok ? "good" : o.drain ? "warn" : "bad");
	if ($("status").textContent !== o.status) $("status").textContent = o.status;
	document.title = (ok ? "" : "⚠ ") + "edgerelay · " + count(o.connections) + " connections";
	$("facts").textContent = `${o.backplane ? o.backplane.name + " · " : ""}up ${span(age(o.started))} · ${bytes(o.process.memory_bytes)} memory · ${count(o.process.goroutines)} goroutines · ${o.version}`;

	const kinds = Object.entries(o.users).filter(([, n]) => n).map(([kind, n]) => `${count(n)} ${kind === "anybody" ? "without login" : kind}`).join(", ");
	show($("overview"), element("h2", "Overview", {class: "skip"}),
		tile("Connections", count(o.connections), kinds || "none", of("connections")),
		tile("Events a second", rate(o.rates.events), "max " + rate(most("events")), of("events")),
		tile("Deliveries a second", rate(o.rates.deliveries), "max " + rate(most("deliveries")), of("deliveries")),
		tile("Traffic a second", bytes(o.rates.bytes), "max " + bytes(most("bytes")), of("bytes")),
		tile("Lag", o.lag.p99 ? "≤ " + span(o.lag.p99) : "–", o.lag.p50 ? "p99; p50 ≤ " + span(o.lag.p50) : "no deliveries in 30 s", of("lag")),
		tile("Dropped a second", rate(h.at(-1)?.dropped ?? 0), "max " + rate(most("dropped")), of("dropped")));

	const busiest = Math.max(...o.top_groups.map(g => g.rate), 1e-9);
	$("groups-note").textContent = `of ${count(o.groups)}, by events a second`;
	show($("groups"), table("Top groups", [
		["Group", "", g => [groupLink(g.group), meter(g.rate / busiest)]],
		["Events/s", "n", g => rate(g.rate)],
		["Clients", "n", g => count(g.subscribers)],
		["Tails", "n", g => count(g.tails)],
		...(o.histories ? [["History", "n extra", g => g.history ? [count(g.history.events), element("div", bytes(g.history.bytes) + (g.history.oldest ? ", " + span(age(g.history.oldest)) : ""), {class: "none"})] : "–"],
			["Recovered, not", "n extra", g => g.history?.resumes ? `${count(g.history.resumes.recovered)}, ${count(g.history.resumes.not_recovered)}` : "–"]] : []),
	], o.top_groups, "No subscriptions."));

	show($("slow"), table("Slowest clients", [
		["Client", "", c => [userOf(c), o.limits.queue_per_connection ? meter(c.waiting_bytes / o.limits.queue_per_connection) : ""]],
		["Transport", "extra", c => words(c.door)],
		["Address", "extra", c => c.address],
		["Groups", "n extra", c => c.groups ? count(c.groups.length) : "…"],
		["Open for", "n extra", c => span(age(c.opened))],
		["Queued", "n", c => bytes(c.waiting_bytes)],
		...closeColumn(),
	], o.slowest_connections, "No client has queued bytes."));

	const l = o.channel_layer;
	$("layer-pill").className = "pill " + (l.ok ? "good" : "bad");
	$("layer-pill").textContent = l.ok ? "healthy" : "unhealthy";
	const facts = [["State", `${l.detail}, for ${span(age(l.since))}`], ["Reconnects", count(l.reconnects)],
		["Memberships restored", count(l.repairs) + (l.repaired_at ? `, last ${span(age(l.repaired_at))} ago` : "")],
		["Undecodable, ignored", `${count(l.undecodable)}, ${count(l.ignored)}`], ["Groups that cannot be joined, keys deleted", `${count(l.faulty_groups)}, ${count(l.healed)}`],
		["Clients by transport", Object.entries(o.doors).filter(d => d[1]).map(d => `${count(d[1])} ${words(d[0])}`).join(", ") || "none"],
		["Events", `${count(o.totals.events_from_layer)} from the layer, ${count(o.totals.events_from_peers)} from peers`],
		["Delivered", `${count(o.totals.deliveries)}, ${bytes(o.totals.bytes)}`]];
	const hs = o.histories;
	if (hs) facts.push(["Histories", `${hs.trouble ? "not kept: " + hs.trouble + "; " : ""}${plural(hs.groups, "group")}, ${bytes(hs.bytes)}; ${count(hs.recorded)} events recorded, ${count(hs.failed)} failed, ${count(hs.adopted)} adopted, ${count(hs.gaps)} gaps`]);
	const rs = o.resumes, not = Object.entries(rs.not_recovered).filter(([, n]) => n).map(([why, n]) => `${count(n)} ${words(why)}`).join(", ");
	if (hs) facts.push(["Resumes", `${count(rs.recovered)} recovered, ${not ? "not: " + not : "none failed"}; ${count(rs.latest)} latest, ${count(rs.replayed_events)} events replayed; ${count(rs.clients)} clients with positions`]);
	facts.push(...stateFacts(o));
	show($("layer"), ...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));

	const reasons = [["event or delivery dropped", o.dropped], ["dropped between nodes", o.backplane?.dropped], ["connection ended or rejected", o.ended]]
		.flatMap(([what, counts]) => Object.entries(counts ?? {}).sort().map(([why, n]) => [what, why, n])).filter(r => r[2]);
	show($("drops"), table("Dropped and ended", [["What", "", r => r[0]], ["Reason", "", r => words(r[1])], ["Count", "n", r => count(r[2])]], reasons, "No drops, no ended connections."));

	const peers = o.backplane?.peers ?? [];
	$("peers-note").textContent = o.peers ? `${o.peers.connected} of ${o.peers.known} other nodes connected; this node is ${o.backplane.name}` : "";
	show($("peers"), table("Nodes", [
		["Node", "", p => [p.name || p.url || p.address, p.name && (p.url || p.address) ? element("div", p.url || p.address, {class: "none"}) : ""]],
		["State", "", p => pill(p.state, p.state === "connected" ? "good" : p.state === "self" ? "" : "bad")],
		["Version", "extra", p => p.version || "–"],
		["Dialect", "extra", p => (p.dialect || "–") + (p.same_layer ? ", same layer" : "")],
		["Groups", "n extra", p => count(p.groups)],
		["In", "n extra", p => count(p.events_in)],
		["Out", "n extra", p => count(p.events_out)],
		["Round trip", "n", p => p.rtt_seconds ? span(p.rtt_seconds) : "–"],
		["Lag", "n", p => p.queued ? span(p.lag_seconds) : "0"],
		["Queue", "n extra", p => p.queued ? `${count(p.queued)}, ${bytes(p.queued_bytes)}` : "0"],
		["Dropped", "n", p => count(p.dropped)],
		["Last loss", "extra", p => p.last_loss ? `${words(p.last_loss.reason)}, ${new Date(p.last_loss.at).toLocaleString()}` : "–"],
		["Input rejected", "n extra", p => count(p.faults)],
		["Clock", "n extra", p => p.clock_behind_seconds ? span(Math.abs(p.clock_behind_seconds)) + (p.clock_behind_seconds < 0 ? " ahead" : " behind") : "in sync"],
	], peers, o.backplane ? "No other node is known." : "This node has no backplane.", p => p.error));

	renderRoutes(o.routes ?? []);
	renderPlugins(o.plugin_list);
}

// closeColumn is the column with the button that closes a connection, for those who may act.
function closeColumn() {
	return me.actions ? [["Action", "n", c => button("Close…", "close", c.id, {id: c.id, user: c.user, name: userOf(c), address: c.address})]] : [];
}

function renderDrain(d, now) {
	$("drain").hidden = !d;
	$("drain-cancel").hidden = !me.actions;
	$("drain-start").disabled = Boolean(d);
	if (!d) return;
	const left = Math.max(0, (Date.parse(d.ends) - now) / 1000);
	const text = d.state === "draining" ? `Draining: ${count(d.evicted)} of ${plural(d.clients, "client")} evicted, ${span(Math.round(left))} left. New connections are rejected.` : `Drained: ${plural(d.evicted, "client")} evicted, ${count(d.open)} open. New connections are rejected.`;
	if ($("drain-text").textContent !== text) $("drain-text").textContent = text;
	$("drain-progress").max = Math.max(d.clients, 1);
	$("drain-progress").value = d.clients ? d.evicted : 1;
}

// stateFacts describes presence and the shared state of plugins, where the configuration has them.
function stateFacts(o) {
	const facts = [], p = o.presence, s = o.state;
	if (p) facts.push(["Presence", `${p.trouble ? p.trouble + "; " : ""}${plural(p.members, "user")} in ${plural(p.groups, "group")} here, ${count(p.waiting)} waiting; ${count(p.joins)} joins, ${count(p.leaves)} leaves`]);
	for (const w of p?.webhooks ?? []) facts.push(["Webhook", `${w.url}: ${w.trouble ?? "healthy"}`]);
	if (s) facts.push(["Shared state", `${s.kind}, ${s.trouble ?? "healthy"}; alarms: ${count(s.alarms_fired)} fired, ${count(s.alarms_failed)} failed, ${count(s.alarms_dropped)} dropped`]);
	return facts;
}

function renderRoutes(routes) {
	$("routes-card").hidden = !routes.length;
	show($("routes"), table("Routes", [
		["Path", "", r => r.path],
		["Clients", "n", r => count(r.connections)],
		["Opened", "n extra", r => count(r.opened)],
		["Rejected", "n", r => count(r.rejected)],
		["Events", "n", r => count(r.events.rendered ?? 0)],
		["No rule", "n extra", r => count((r.events.no_rule ?? 0) + (r.events.unrenderable ?? 0))],
		["Messages", "n extra", r => count(r.messages.published ?? 0)],
		["Refused", "n extra", r => count((r.messages.refused ?? 0) + (r.messages.malformed ?? 0))],
	], routes, "No routes."));
}
