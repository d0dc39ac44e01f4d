// Helpers of all parts of the page.
const $ = id => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const count = n => number.format(Math.round(n));
const rate = n => n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(n);
const bytes = n => {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let unit = 0;
	for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
	return (unit && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[unit];
};
const span = s => s < 0.001 ? Math.round(s * 1e6) + " µs" : s < 1 ? +(s * 1000).toFixed(1) + " ms" : s < 120 ? +s.toFixed(1) + " s" : s < 7200 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " d";
const words = s => s.replaceAll("_", " ");

// visible shows the characters that would reorder or hide a text: a name that a client has chosen must not change what a
// dialog says about it. Line ends and tabs stay.
const visible = text => typeof text === "string" ? text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
	c => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")) : text;

// element creates an element. Data of the relay is always text, never HTML.
function element(tag, text, attributes = {}) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
	e.append(...[text ?? ""].flat().map(visible));
	return e;
}

// show replaces the content of a place if the content has changed. Otherwise selection, focus and screen readers stay undisturbed.
function show(place, ...nodes) {
	const next = document.createElement("div");
	next.append(...nodes);
	if (place.lastShown === next.innerHTML) return;
	const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
	place.lastShown = next.innerHTML;
	place.replaceChildren(...next.childNodes);
	if (focused) [...place.querySelectorAll("[data-key]")].find(e => e.dataset.key === focused)?.focus();
}

// table creates a table of columns [title, classes, row => text or node] and rows. Below a row comes its error, if any.
function table(name, columns, rows, none, trouble = () => "") {
	if (!rows.length) return element("p", none, {class: "none"});
	const head = element("tr", columns.map(([title, classes]) => element("th", title, {scope: "col", class: classes})));
	const body = rows.flatMap(row => {
		const line = element("tr", columns.map(([, classes, cell]) => element("td", cell(row), {class: classes})));
		const note = trouble(row);
		return note ? [line, element("tr", element("td", note, {colspan: columns.length}), {class: "note"})] : [line];
	});
	return element("table", [element("thead", head), element("tbody", body)], {"aria-label": name});
}

function sparkline(values) {
	const ns = "http://www.w3.org/2000/svg", most = Math.max(...values, 1e-9), step = 240 / 119;
	const svg = document.createElementNS(ns, "svg");
	svg.setAttribute("viewBox", "0 0 240 40");
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("aria-hidden", "true");
	const points = values.map((v, i) => `${(240 - (values.length - 1 - i) * step).toFixed(1)},${(37 - v / most * 33).toFixed(1)}`);
	for (const [kind, d] of [["area", `M${points[0]?.split(",")[0] ?? 0},40L${points.join("L")}L240,40Z`], ["curve", "M" + points.join("L")]]) {
		const path = document.createElementNS(ns, "path");
		path.setAttribute("class", kind);
		if (points.length > 1) path.setAttribute("d", d);
		svg.append(path);
	}
	return svg;
}

function tile(title, value, note, values) {
	return element("div", [element("h2", title), element("div", value, {class: "value"}), element("div", note, {class: "note"}), sparkline(values)],
		{class: "tile", "data-tile": title});
}

const pill = (text, kind) => element("span", text, {class: "pill " + kind});
const meter = part => {
	const bar = element("i");
	bar.style.width = Math.max(0, Math.min(100, part * 100)) + "%";
	return element("div", bar, {class: "meter"});
};
const button = (text, todo, key, data = {}) => element("button", text, {
	type: "button", class: "small", "data-do": todo, "data-key": todo + " " + key,
	...Object.fromEntries(Object.entries(data).map(([name, value]) => ["data-" + name, value])),
});
const groupLink = name => element("button", name, {class: "link", type: "button", "data-do": "follow", "data-key": "group " + name, "data-group": name, title: "Follow this group"});
const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;
const clock = at => new Date(at).toLocaleTimeString("en-GB") + "." + String(new Date(at).getMilliseconds()).padStart(3, "0");
const userOf = c => c.name || c.user || "#" + c.id;

// trouble shows an error above the page; an empty text hides it. The same error is announced once.
function trouble(text) {
	text = visible(text);
	if ($("trouble").textContent !== text) $("trouble").textContent = text;
	$("trouble").hidden = !text;
	if (text && $("status").textContent !== "no data") {
		$("status").textContent = "no data";
		$("status").className = "pill bad";
	}
}

// say tells the result of an action, above the page and to screen readers, for half a minute.
let silence;
function say(text) {
	$("said").textContent = visible(text);
	clearTimeout(silence);
	silence = setTimeout(() => { $("said").textContent = ""; }, 30000);
}

async function request(path, options = {}) {
	let response;
	try {
		response = await fetch(path, {cache: "no-store", signal: AbortSignal.timeout(options.timeout ?? 10000), ...options, headers: {Accept: "application/json", ...options.headers}});
	} catch (e) { throw new Error("The relay does not respond"); }
	if (!response.ok) throw Object.assign(new Error((await response.text()).trim()), {status: response.status});
	return response.json();
}
const get = path => request(path);
const parameters = values => new URLSearchParams(Object.entries(values).filter(([, v]) => v !== undefined && v !== "")).toString();
const explain = e => e.status === 401 ? "You are no longer logged in. Log in, then reload this page." : e.status ? `${e.message} (${e.status})` : e.message + "; retrying.";

// me is what the user may do. It is asked again when a dialog opens, because each action needs a fresh token.
let me = {user: "", node: "", actions: false, uploads: false};
async function refreshSession() {
	const before = me.node;
	me = await get("session");
	if (before && before !== me.node) say(`Another node answers now: ${me.node}, not ${before}.`);
	$("who").hidden = false;
	$("who").textContent = me.user + (me.actions ? " · may act" : " · read-only");
	$("drain-start").hidden = !me.actions;
	for (const b of document.querySelectorAll(".acts")) b.hidden = !me.actions;
	return me;
}
