// Plugins: those of this node, one of them in detail, and those of all nodes.
let plugins = [], chosen = "";

function renderPlugins(list) {
	const failed = p => Object.values(p.failures ?? {}).reduce((a, b) => a + b, 0);
	const state = p => p.breaker === "open" ? ["breaker open", "bad"] : p.breaker === "half-open" ? ["breaker half-open", "warn"] : p.refused ? ["update rejected", "warn"] : p.oldest_event_seconds >= 1 ? ["slow", "warn"] : p.engine === "interpreter" ? ["interpreted", "warn"] : p.shadow ? ["shadow", ""] : ["active", "good"];
	plugins = list;
	$("plugins-note").textContent = list.length ? "in the order of the pipeline" : "";
	show($("plugins"), table("Plugins", [
		["Plugin", "", p => element("button", p.name, {class: "link", type: "button", "data-do": "plugin", "data-key": "plugin " + p.name, "data-plugin": p.name, title: "Show the plugin"})],
		["State", "", p => pill(...state(p))],
		["Groups", "extra", p => (p.groups ?? []).join(" ")],
		["Calls", "n", p => count(p.calls)],
		["Pass", "n extra", p => count(p.passed)],
		["Drop", "n", p => count(p.dropped)],
		["Replace", "n extra", p => count(p.replaced)],
		["Emit", "n extra", p => count(p.emitted)],
		["Deny", "n extra", p => count(p.denied)],
		["Failed", "n", p => count(failed(p))],
		["Queued", "n", p => p.queued_events ? `${count(p.queued_events)}, ${span(p.oldest_event_seconds)}` : "0"],
		["Too slow", "n extra", p => count(p.dropped_slow)],
		["Fuel/call", "n extra", p => count(p.fuel / Math.max(p.calls, 1))],
	], list, "No plugins are configured.", p => p.refused || p.last_error));
	renderPlugin();
}

const percent = share => +(share * 100).toFixed(2) + "%";
const running = p => p.canary?.phase === "running";
const versionOf = p => p.from === "file" ? "the file" : "version " + p.version;

// renderPlugin shows the chosen plugin, and what may be done with it.
function renderPlugin() {
	const p = plugins.find(p => p.name === chosen);
	$("plugin").hidden = !p;
	if (!p) return;
	$("h-plugin").textContent = p.name;
	const data = {plugin: p.name}, tool = (text, todo) => button(text, todo, p.name, data);
	show($("plugin-tools"), ...(me.uploads && !running(p) ? [tool("Deploy…", "deploy")] : []),
		...(me.registries?.length && !running(p) ? [tool("Deploy from a registry…", "pull")] : []),
		...(me.actions && running(p) ? [tool("Promote…", "promote"), tool("Change the share…", "canary"), tool("Take the canary back…", "rollback")] : []),
		...(me.actions && !running(p) && p.previous ? [tool("Roll back…", "rollback")] : []),
		...(me.actions && !running(p) && p.from === "deploy" ? [tool("Run the files again…", "undeploy")] : []),
		tool("Hide", "plugin-hide"));
	const module = [p.module, p.module_version].filter(Boolean).join(" ");
	const facts = [["Runs", `${versionOf(p)}${module ? ", " + module : ""}, ${p.hash.slice(0, 12)}, ${bytes(p.size)}${p.signed_by ? ", signed by " + p.signed_by : ""}`], [p.from === "deploy" ? "File, not in use" : "Source", p.file]];
	if (p.ref) facts.push(["Pulled from", p.ref]);
	if (p.by || p.message) facts.push(["Deployed", `${p.by ? "by " + p.by : ""}${p.message ? ": " + p.message : ""}`]);
	facts.push(["Grants", p.grants.join(", ") || "none"]);
	if (p.canary) facts.push(["Canary", canaryText(p.canary)]);
	if (p.last_error) facts.push(["Last error", p.last_error]);
	show($("plugin-facts"), ...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function canaryText(c) {
	if (c.phase !== "running") return `${c.phase}${c.ended_by ? " by " + c.ended_by : ""}${c.reason ? ": " + c.reason : ""}`;
	const calls = (name, k) => `${name}: ${plural(k.events, "event")}, ${count(k.failures)} failed, p90 ${span(k.p90_seconds)}`;
	return `running on ${percent(c.share)} of the groups${c.by ? ", by " + c.by : ""}; ${calls("candidate", c.candidate)}; ${calls("stable", c.stable)}; ${count(c.same)} same, ${count(c.differ)} differ${c.fault ? "; fault: " + c.fault : ""}`;
}

async function choosePlugin(name) {
	chosen = name;
	$("plugin-versions").replaceChildren();
	renderPlugin();
	if (!name) return;
	$("h-plugin").focus();
	await refreshVersions();
}

let versions = [];
async function refreshVersions() {
	const of = chosen;
	if (!of) return;
	try {
		const list = await get("versions?" + parameters({plugin: of}));
		if (of !== chosen) return;
		versions = list;
		show($("plugin-versions"), element("h3", "Versions"), table("Versions of " + of, [
			["Version", "", v => [count(v.version), v.running ? pill("runs", "good") : ""]],
			["When", "", v => v.at ? new Date(v.at).toLocaleString("en-GB", {dateStyle: "short", timeStyle: "short"}) : "–"],
			["By", "", v => v.by || "–"],
			["Reason", "extra", v => v.message || "–"],
			["Origin", "extra", v => [v.origin + (v.of ? " to " + v.of : ""), v.ref ? element("div", v.ref.split("@")[0], {class: "none", title: v.ref}) : ""]],
			["Module", "extra", v => element("code", v.hash.slice(0, 12))],
			...(me.actions ? [["Action", "n", v => v.available && !v.running ? button("Return…", "rollback", of + " " + v.version, {plugin: of, to: v.version}) : ""]] : []),
		], list, "Never deployed: each node runs its file."));
	} catch (e) { show($("plugin-versions"), element("p", "Versions: " + explain(e), {class: "none"})); }
}

async function refreshNodes() {
	if (!$("all-nodes").open) return;
	try {
		const all = await get("plugin-nodes"), names = all.plugins.map(p => p.name);
		show($("plugin-nodes"), table("Plugins of all nodes", [
			["Node", "", n => [n.node || n.id, n.here ? element("div", "this node", {class: "none"}) : ""]],
			["State", "", n => pill(n.state, n.state === "live" ? "good" : "bad")],
			["Report", "n extra", n => n.here ? "now" : span(n.age_seconds) + " ago"],
			...names.map(name => [name, "", n => nodeCell(n.plugins.find(p => p.name === name))]),
		], all.nodes, "No node reports plugins."), ...all.plugins.filter(p => !p.converged).map(p => element("p", `${p.name}: ${p.why.join("; ")}`, {class: "none"})),
			element("p", all.plugins.length && all.plugins.every(p => p.converged) ? "All live nodes run the same." : "", {class: "none"}));
	} catch (e) { show($("plugin-nodes"), element("p", explain(e), {class: "none"})); }
}

function nodeCell(p) {
	if (!p) return "–";
	const lines = [p.version ? "version " + p.version : p.from, element("div", p.hash.slice(0, 12), {class: "none"})];
	if (p.canary) lines.push(element("div", `canary ${percent(p.canary.share)}`, {class: "none"}));
	if (p.diverged || p.refused) lines.push(pill("differs", "bad"));
	return lines;
}

// everywhere tells on which nodes a change applies.
async function everywhere() {
	const live = (await get("plugin-nodes")).nodes.filter(n => n.state === "live");
	return live.length > 1 ? `on all ${live.length} nodes (${live.map(n => n.node).join(", ")})` : "on this node, the only one of the storage";
}
const shares = ["canary", "Groups that get it", [["", "all"], ["1%", "1%, as a canary"], ["10%", "10%, as a canary"], ["50%", "50%, as a canary"]]];
const reason = ["message", "Reason, for the history and the log", {maxlength: 200}];
const find = data => plugins.find(p => p.name === data.plugin) ?? {name: data.plugin, hash: "", grants: []};
// seen is the state that the dialog names. If another operator, or a canary's gate, was faster, the action is refused.
const seen = p => ({hash: p.hash, candidate: running(p) ? p.canary.hash : "none"});
const changed = async text => { await refreshVersions(); return text; };

// compileTimeout is for actions that may compile a module: the node takes a minute at most for its bytes, and ten
// minutes for the compiler, if its configuration lets it.
const compileTimeout = 720000;

const pluginActions = {
	"plugin": data => choosePlugin(data.plugin),
	"plugin-hide": () => choosePlugin(""),
	deploy(data) {
		const p = find(data);
		ask({
			title: "Deploy " + p.name,
			fields: [["module", "Module, a .wasm file", {type: "file", accept: ".wasm,application/wasm", required: ""}],
				["signatures", "Signatures, a .sig file, if the nodes have plugin keys", {type: "file"}],
				shares, reason],
			plan: async v => v.module ? {
				effect: `${v.canary ? `Tries ${v.module.name} (${bytes(v.module.size)}) on ${v.canary} of the groups` : `Replaces ${versionOf(p)} of ${p.name} by ${v.module.name} (${bytes(v.module.size)})`}, ${await everywhere()}. The module gets the plugin's grants: ${p.grants.join(", ") || "none"}. A module that fails its checks changes nothing.`,
				confirm: v.canary ? `Try on ${v.canary}` : "Deploy",
			} : {effect: "Choose a module.", possible: false},
			run: async v => {
				const form = new FormData();
				if (v.signatures) form.append("signatures", v.signatures);
				form.append("module", v.module);
				const body = new Response(form);
				await act("deploy", await body.blob(), {query: "?" + parameters({plugin: p.name, message: v.message, canary: v.canary, hash: p.hash}), type: body.headers.get("Content-Type"), timeout: compileTimeout});
				return changed(`${p.name}: ${v.module.name} is ${v.canary ? "tried on " + v.canary : "deployed"}.`);
			},
		});
	},
	pull(data) {
		const p = find(data), prefixes = me.registries ?? [];
		ask({
			title: `Deploy ${p.name} from a registry`,
			fields: [["ref", "Reference", {maxlength: 500, required: "", placeholder: `oci://${prefixes[0] ?? "registry"}/${p.name}:1.0`}], shares, reason],
			plan: async v => v.ref?.startsWith("oci://") ? {
				effect: `This node pulls ${v.ref} with its signatures. ${v.canary ? `The module is tried on ${v.canary} of the groups` : `It replaces ${versionOf(p)} of ${p.name}`}, ${await everywhere()}. It gets the plugin's grants: ${p.grants.join(", ") || "none"}. A module that fails its checks changes nothing.`,
				confirm: v.canary ? `Try on ${v.canary}` : "Deploy",
			} : {effect: `Write a reference that begins with ${prefixes.map(prefix => "oci://" + prefix + "/").join(" or ")}.`, possible: false},
			run: async v => {
				await act("pull", {plugin: p.name, ref: v.ref, message: v.message, canary: v.canary, hash: p.hash}, {timeout: compileTimeout});
				return changed(`${p.name}: ${v.ref} is ${v.canary ? "tried on " + v.canary : "deployed"}.`);
			},
		});
	},
	rollback(data) {
		const p = find(data), canary = running(p), to = Number(data.to) || undefined;
		const target = versions.find(v => v.version === to);
		const goal = to ? `version ${to}${target?.by ? ", by " + target.by : ""}` : "the module before it";
		ask({
			title: canary ? "Take the canary of " + p.name + " back" : "Roll " + p.name + " back",
			fields: [reason],
			plan: async () => ({
				effect: canary && !to ? `${percent(p.canary.share)} of the groups get ${versionOf(p)} again, ${await everywhere()}.` : `Replaces ${versionOf(p)} of ${p.name} by ${goal}, ${await everywhere()}.`,
				confirm: canary && !to ? "Take back" : to ? "Return to version " + to : "Roll back",
			}),
			run: async v => { await act("rollback", {plugin: p.name, message: v.message, to, ...seen(p)}, {timeout: compileTimeout}); return changed(`${p.name}: rolled back.`); },
		});
	},
	undeploy(data) {
		const p = find(data);
		ask({
			title: "Run the files of " + p.name, fields: [reason],
			plan: async () => ({effect: `Takes ${versionOf(p)} back. Each node runs the file of its configuration, ${await everywhere()}.`, confirm: "Run the files"}),
			run: async v => { await act("undeploy", {plugin: p.name, message: v.message, ...seen(p)}, {timeout: compileTimeout}); return changed(`${p.name}: each node runs its file.`); },
		});
	},
	promote(data) {
		const p = find(data);
		ask({
			title: "Promote the canary of " + p.name, fields: [reason],
			plan: async () => ({effect: `All groups get the candidate ${p.canary.hash.slice(0, 12)} in place of ${versionOf(p)}, ${await everywhere()}. So far: ${plural(p.canary.candidate.events, "event")}, ${count(p.canary.candidate.failures)} failed.`, confirm: "Promote"}),
			run: async v => { await act("promote", {plugin: p.name, message: v.message, ...seen(p)}, {timeout: compileTimeout}); return changed(`${p.name}: the candidate is promoted.`); },
		});
	},
	canary(data) {
		const p = find(data);
		ask({
			title: "Change the share of " + p.name,
			fields: [["share", "Groups that get the candidate", ["1%", "5%", "10%", "25%", "50%", "100%"].map(s => [s, s])], reason],
			plan: async v => ({effect: `The candidate decides for ${v.share} of the groups, so far for ${percent(p.canary.share)}, ${await everywhere()}.`, confirm: "Change to " + v.share}),
			run: async v => { await act("canary", {plugin: p.name, message: v.message, share: v.share, ...seen(p)}); return `${p.name}: the canary has ${v.share} of the groups.`; },
		});
	},
};
