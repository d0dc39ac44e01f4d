// One dialog confirms all actions. It names the object and the effect, and nothing happens before its button is pressed.
let question = null;

// ask opens the dialog. plan returns the effect as text, once the values of the fields are known; run acts, and returns what
// has happened. Fields are [name, label, attributes], or [name, label, [[value, text], …]] for a choice.
function ask({title, fields = [], plan, run}) {
	const opener = document.activeElement;
	question = {title, plan, run, round: 0, opener, key: opener?.dataset?.key};
	$("dialog-title").textContent = visible(title);
	$("dialog-fields").replaceChildren(...fields.map(([name, label, about = {}]) => {
		const field = Array.isArray(about) ? element("select", about.map(([value, text]) => element("option", text, {value})), {name}) : element("input", "", {name, autocomplete: "off", ...about});
		return element("label", [label, field]);
	}));
	failure("");
	$("dialog").showModal();
	($("dialog-fields").querySelector("input, select") ?? $("dialog-cancel")).focus();
	describe();
}

const values = () => {
	const all = {};
	for (const field of $("dialog-fields").querySelectorAll("[name]")) all[field.name] = field.type === "file" ? field.files[0] : field.value.trim();
	return all;
};

function failure(text) {
	$("dialog-failure").textContent = visible(text);
	$("dialog-failure").hidden = !text;
}

// describe shows the effect. Until it is known, nothing can be confirmed.
async function describe() {
	const of = question, round = ++of.round, current = () => question === of && of.round === round;
	$("dialog-confirm").disabled = true;
	$("dialog-confirm").textContent = visible(of.title);
	$("dialog-effect").textContent = "…";
	try {
		await refreshSession();
		const {effect, confirm, possible = true} = await of.plan(values());
		if (!current()) return;
		$("dialog-effect").textContent = visible(effect);
		$("dialog-confirm").textContent = visible(confirm ?? of.title);
		$("dialog-confirm").disabled = !possible;
	} catch (e) {
		if (!current()) return;
		$("dialog-effect").textContent = "The effect is unknown.";
		failure(e.status ? explain(e) : e.message);
	}
}

let describing;
$("dialog-fields").addEventListener("input", () => {
	failure("");
	$("dialog-confirm").disabled = true;
	clearTimeout(describing);
	describing = setTimeout(() => question && describe(), 300);
});

$("dialog-form").addEventListener("submit", async e => {
	e.preventDefault();
	const of = question;
	if ($("dialog-confirm").disabled) return;
	$("dialog-confirm").disabled = true;
	$("dialog").setAttribute("aria-busy", "true");
	failure("");
	try {
		const done = await of.run(values());
		await refreshNow(); // the next action must not begin with what the page showed before
		if (question === of) $("dialog").close();
		say(done);
	} catch (e) {
		if (question !== of) return say(`${of.title}: ${e.message}`);
		failure(e.status ? `Not done: ${e.message} (${e.status})` : "No answer: the action may have been carried out. Close this dialog and look, before you repeat it.");
		$("dialog-confirm").disabled = !e.status;
	} finally { $("dialog").removeAttribute("aria-busy"); }
});
$("dialog-cancel").addEventListener("click", () => $("dialog").close());

// The focus goes back to the button that opened the dialog, or to its successor if the table was drawn again.
// The event comes later than the end of the dialog, which may have been opened again.
$("dialog").addEventListener("close", () => {
	if ($("dialog").open || !question) return;
	const {opener, key} = question;
	question = null;
	const target = opener?.isConnected ? opener : [...document.querySelectorAll("[data-key]")].find(e => e.dataset.key === key);
	(target && !target.hidden ? target : $("main")).focus({preventScroll: true});
});

// act carries out an action. A token that has become invalid is replaced once: a refused action has had no effect.
async function act(name, body, {query = "", type = "application/json", timeout = 15000} = {}) {
	const post = () => request("actions/" + name + query, {
		method: "POST", timeout, headers: {"Content-Type": type, "X-Edgerelay-Token": me.token ?? ""},
		body: type === "application/json" ? JSON.stringify(body) : body,
	});
	try {
		return await post();
	} catch (e) {
		if (e.status !== 403 || !e.message.startsWith("the token is invalid")) throw e;
		await refreshSession();
		return post();
	}
}
