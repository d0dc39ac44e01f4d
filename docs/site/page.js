// Copy buttons, boxes that scroll by keys, and the mark of the current section in the contents. The pages can be read
// without this script.
"use strict";
(() => {
	// A box that is wider than its place scrolls; keys scroll it only if it can have the focus.
	function reachable() {
		for (const box of document.querySelectorAll("main pre, main .table")) {
			const wide = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
			if (wide) {
				box.tabIndex = 0;
				box.setAttribute("role", "group");
				box.setAttribute("aria-label", box.matches("pre") ? "Code" : "Table");
			} else {
				box.removeAttribute("tabindex");
				box.removeAttribute("role");
				box.removeAttribute("aria-label");
			}
		}
	}
	reachable();
	addEventListener("resize", reachable);

	// text is what a reader wants in the clipboard: of a session at a prompt, the commands.
	function text(pre) {
		const all = pre.textContent.replace(/\n$/, "");
		const lines = all.split("\n");
		if (!lines[0].startsWith("$ ")) return all;
		return lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2)).join("\n");
	}

	async function copy(button, pre) {
		try {
			await navigator.clipboard.writeText(text(pre));
			button.textContent = "Copied";
		} catch { // browsers forbid it without TLS, except on localhost
			getSelection().selectAllChildren(pre);
			button.textContent = "Selected";
		}
		setTimeout(() => { button.textContent = "Copy"; }, 2000);
	}

	for (const pre of document.querySelectorAll("main pre")) {
		const box = document.createElement("div");
		box.className = "code";
		const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
		button.setAttribute("aria-live", "polite");
		button.addEventListener("click", () => copy(button, pre));
		pre.replaceWith(box);
		box.append(pre, button);
	}

	// The contents are a column on wide screens, and folded on narrow ones.
	const contents = document.querySelector(".contents");
	if (!contents) return;
	const wide = matchMedia("(min-width: 80rem)");
	const fold = () => { contents.open = wide.matches; };
	fold();
	wide.addEventListener("change", fold);
	const links = new Map([...contents.querySelectorAll("a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
	const heads = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
	let current;
	function mark() {
		const passed = heads.filter((h) => h.getBoundingClientRect().top < 120).at(-1) ?? heads[0];
		const link = links.get(passed?.id);
		if (link === current) return;
		current?.removeAttribute("aria-current");
		current = link;
		current?.setAttribute("aria-current", "true");
		if (wide.matches) current?.scrollIntoView({ block: "nearest" });
	}
	mark();
	addEventListener("scroll", mark, { passive: true });
})();
