// The clock of the page, and its keys and buttons.
let paused = false, rounds = 0, timer = 0, refreshing = null;

// refreshOnce asks for the parts of the page that are in view.
async function refreshOnce() {
	try {
		if (rounds++ % 30 === 0) await refreshSession();
		render(await get("overview"));
		trouble("");
	} catch (e) { return trouble(explain(e)); }
	await refreshTail();
	if (rounds % 3 === 1 && search && !search.befores.length) await refreshFound();
	if (rounds % 5 === 1) await refreshNodes();
}

async function refresh() {
	if (!paused && !document.hidden) await (refreshing = refreshOnce());
	timer = setTimeout(refresh, 1000);
}

// refreshNow shows the effect of an action without a wait.
async function refreshNow() {
	await refreshing;
	await refreshOnce();
	await refreshFound();
}

function pause() {
	paused = !paused;
	$("pause").textContent = paused ? "Resume" : "Pause";
	$("pause").setAttribute("aria-pressed", paused);
}
$("pause").addEventListener("click", pause);
$("all-nodes").addEventListener("toggle", refreshNodes);

const todo = {...listActions, ...groupActions, ...pluginActions};
document.addEventListener("click", e => {
	const b = e.target.closest("[data-do]");
	if (b) todo[b.dataset.do](b.dataset);
});
document.addEventListener("keydown", e => {
	if (e.ctrlKey || e.metaKey || e.altKey || $("dialog").open) return;
	if (e.key === "Escape" && group) return follow("");
	if (e.target.matches("input, select")) return;
	if (e.key === "/") { e.preventDefault(); $("group").focus(); $("group").select(); }
	if (e.key === "p") pause();
});
// Not before the key is up: the letter would be typed into the field.
document.addEventListener("keyup", e => {
	if (e.key !== "f" || e.ctrlKey || e.metaKey || e.altKey || $("dialog").open || e.target.matches("input, select")) return;
	$("find-text").focus();
	$("find-text").select();
});
refresh();
