// A group: its events as they come, its history and its users.
let group = "", after = 0, shown = "tail";

async function refreshTail() {
	const of = group;
	if (!of || shown !== "tail") return;
	try {
		const t = await get(`tail?group=${encodeURIComponent(of)}&after=${after}`);
		if (of !== group) return;
		after = t.next;
		for (const ev of t.events) {
			$("events").prepend(element("li", [element("time", clock(ev.at), {datetime: ev.at, title: ev.lag !== undefined ? span(Math.max(0, ev.lag)) + " after publication" : ""}), element("code", (ev.type ? ev.type + " " : "") + ev.text + (ev.cut ? " …" : ""))]));
		}
		if (t.dropped) $("events").prepend(element("li", [element("span", "…"), element("span", `${count(t.dropped)} events dropped: they arrived too fast`)], {class: "gap"}));
		while ($("events").childElementCount > 300) $("events").lastElementChild.remove();
		$("tail-note").textContent = $("events").childElementCount ? `following ${of}` : `following ${of}; no events yet`;
	} catch (e) {
		if (of === group && e.status) { follow(""); $("tail-note").textContent = `${of}: ${explain(e)}`; }
	}
}

function follow(name) {
	group = name.trim();
	after = 0;
	$("events").replaceChildren();
	$("stop").hidden = $("group-tools").hidden = !group;
	$("group").value = group;
	$("tail-note").textContent = group ? `following ${group} …` : "events of a group, as a client with your rights receives them";
	choose("tail");
}

// choose shows one of the views of the group.
function choose(view) {
	shown = view;
	for (const b of document.querySelectorAll("[data-view]")) b.setAttribute("aria-pressed", b.dataset.view === view);
	$("events").hidden = !group || view !== "tail";
	$("group-view").hidden = !group || view === "tail";
	$("group-view").setAttribute("aria-label", view === "history" ? "History" : "Presence");
	$("group-view").replaceChildren();
	$("group-view").lastShown = undefined;
	if (!group) return undefined;
	return {tail: refreshTail, history: refreshHistory, presence: refreshPresence}[view]();
}

async function refreshHistory(limit = 100) {
	const of = group;
	$("tail-note").textContent = `history of ${of} …`;
	try {
		const page = await get("history?" + parameters({group: of, limit}));
		if (of !== group || shown !== "history") return;
		const k = page.kept, more = page.entries.length >= limit && limit < 1000;
		$("tail-note").textContent = `history of ${of}`;
		const notes = [`${plural(k.events, "event")}, ${plural(k.gaps, "gap")}, ${bytes(k.bytes)}; at most ${count(k.limits.count)} events, ${bytes(k.limits.bytes)}, ${span(k.limits.age_seconds)}`];
		if (page.hidden) notes.push(`${plural(page.hidden, "event")} not shown: plugins hide or drop them for your rights`);
		if (page.reason) notes.push("not readable at the moment: " + page.reason);
		const again = element("button", "Reload", {type: "button", class: "small", "data-do": "reload-history", "data-key": "reload-history", "data-limit": limit});
		const all = element("button", "Show up to 1,000", {type: "button", class: "small", "data-do": "reload-history", "data-key": "all-history", "data-limit": 1000});
		show($("group-view"), element("div", [element("span", notes.join(". "), {class: "note"}), again, more ? all : ""], {class: "tools"}),
			table("History of " + of, [
				["Time", "", e => element("time", clock(e.at), {datetime: e.at, title: new Date(e.at).toLocaleString("en-GB")})],
				["Event", "", e => element("code", (e.type ? e.type + " " : "") + e.text + (e.cut ? " …" : ""))],
				["Size", "n extra", e => bytes(e.size)],
				["Position", "extra", e => element("code", e.position)],
				...(me.actions ? [["Action", "n", e => button("Replay…", "replay", e.position, {position: e.position, at: e.at})]] : []),
			], page.entries, "No events that you may see."));
	} catch (e) { groupFailure(of, "history", e); }
}

async function refreshPresence() {
	const of = group;
	$("tail-note").textContent = `presence of ${of} …`;
	try {
		const p = await get("presence?" + parameters({group: of, limit: 1000}));
		if (of !== group || shown !== "presence") return;
		$("tail-note").textContent = `presence of ${of}: ${plural(p.count, "user")} on all nodes`;
		show($("group-view"), table("Users in " + of, [
			["User", "", u => JSON.stringify(u.user)],
			["Info", "", u => element("code", JSON.stringify(u.info))],
		], p.users, "No user is present."));
	} catch (e) { groupFailure(of, "presence", e); }
}

function groupFailure(of, view, e) {
	if (of !== group || shown !== view) return;
	$("tail-note").textContent = `${view} of ${of}`;
	show($("group-view"), element("p", explain(e), {class: "none"}));
}

// replayEffect tells who hears of a replay, and what they get.
function replayEffect(p) {
	const told = [];
	if (p.clients) told.push(`${plural(p.clients, "client")} with positions ${p.clients === 1 ? "is" : "are"} told that they may have missed ${p.position ? plural(p.events, "event") + " after " + clock(p.at) : "events"}. ${p.position ? "They can get these events again from the history, and ignore those that they have" : "The history cannot bring them (" + words(p.reason) + "), so they fetch them elsewhere"}`);
	if (p.resync) told.push(`${plural(p.resync, "other client")} get${p.resync === 1 ? "s" : ""} the text of resync`);
	if (p.untold) told.push(`${plural(p.untold, "client")} cannot be told: they get no positions, and resync is not set`);
	return told.length ? told.join(". ") + "." : "No client of this node is in the group.";
}

function askReplay(of, position, at) {
	ask({
		title: `Replay ${of}`,
		fields: position ? [] : [["since", "Events of the last", [["1m", "minute"], ["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "hour"]]]],
		plan: async v => {
			const p = await get("replay?" + parameters({group: of, since: position ?? v.since}));
			const told = p.clients + p.resync;
			return {effect: (position ? `From behind the event of ${clock(at)}. ` : "") + replayEffect(p), confirm: told ? `Tell ${plural(told, "client")}` : "Replay", possible: told > 0};
		},
		run: async v => {
			const p = await act("replay", {group: of, since: position ?? v.since});
			return `${of}: ${plural(p.clients + p.resync, "client")} told.`;
		},
	});
}

const groupActions = {
	follow(data) {
		follow(data.group);
		$("tail").scrollIntoView({block: "nearest"});
	},
	replay: data => askReplay(group, data.position, data.at),
	"reload-history": data => refreshHistory(Number(data.limit)),
	"group-clients"() {
		startSearch("group", group);
		$("h-find").scrollIntoView({block: "start"});
	},
};

$("tail-form").addEventListener("submit", e => { e.preventDefault(); follow($("group").value); });
// The key that focuses this field is not valid in a group's name.
$("group").addEventListener("beforeinput", e => { if (e.data === "/") e.preventDefault(); });
$("stop").addEventListener("click", () => { follow(""); $("group").focus(); });
for (const b of document.querySelectorAll("[data-view]")) b.addEventListener("click", () => choose(b.dataset.view));
