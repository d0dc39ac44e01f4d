// The search of the documentation, in the browser alone. The first use loads search.json, which has the HTML of all pages.
"use strict";
(() => {
	const form = document.querySelector(".search");
	const input = document.getElementById("search");
	const list = document.getElementById("results");
	const found = document.getElementById("found");
	const MOST = 12;     // results
	const AROUND = 60;   // characters before a word that is found
	let index;           // a promise of the sections of all pages

	form.hidden = false;

	// sections splits a page at its headings.
	function sections({ path, html }) {
		const page = new DOMParser().parseFromString(html, "text/html").body;
		const title = page.querySelector("h1")?.textContent ?? path;
		const list = [];
		let section = { path, title, heading: title, id: "", text: "" };
		for (const element of page.children) {
			if (/^H[1-4]$/.test(element.tagName)) {
				if (element.tagName !== "H1") {
					list.push(section);
					section = { path, title, heading: element.textContent, id: element.id, text: "" };
				}
			} else {
				section.text += ` ${element.textContent.replace(/\s+/g, " ")}`;
			}
		}
		list.push(section);
		for (const section of list) {
			section.inTitle = section.title.toLowerCase();
			section.inHeading = section.heading.toLowerCase();
			section.inText = section.text.toLowerCase();
		}
		return list;
	}

	function load() {
		index ??= fetch("/docs/site/search.json")
			.then((response) => { if (!response.ok) throw new Error(`HTTP ${response.status}`); return response.json(); })
			.then((pages) => pages.flatMap(sections))
			.catch((error) => { index = undefined; throw error; });
		return index;
	}

	// score tells how well a section answers: every word must be in it. Headings count more than text.
	function score(section, words) {
		let sum = 0;
		for (const word of words) {
			const starts = (text) => new RegExp(`(^|[^a-z0-9])${word.replace(/[^a-z0-9]/g, "\\$&")}`).test(text);
			let best = 0;
			if (section.inText.includes(word)) best = starts(section.inText) ? 3 : 1;
			if (section.inTitle.includes(word)) best = Math.max(best, 5);
			if (section.inHeading.includes(word)) best = Math.max(best, starts(section.inHeading) ? 12 : 8);
			if (best === 0) return 0;
			sum += best;
		}
		const query = words.join(" ");
		if (section.inHeading === query) sum += 20;
		if (section.id === "" && section.inTitle.includes(query)) sum += 6; // a whole page
		if (words.length > 1 && section.inText.includes(query)) sum += 5;
		return sum;
	}

	// excerpt marks the words in the part of the text where the first one stands.
	function excerpt(section, words) {
		const at = Math.max(0, Math.min(...words.map((w) => section.inText.indexOf(w)).filter((n) => n >= 0), Infinity));
		let from = Number.isFinite(at) ? Math.max(0, at - AROUND) : 0;
		if (from > 0) from = section.text.indexOf(" ", from) + 1; // whole words
		const text = section.text.slice(from, from + 170).replace(/\S*$/, "").trim();
		const parts = text.split(new RegExp(`(${words.map((w) => w.replace(/[^a-z0-9]/g, "\\$&")).join("|")})`, "i"));
		const line = document.createElement("small");
		line.append(from > 0 ? "… " : "");
		parts.forEach((part, i) => line.append(i % 2 ? Object.assign(document.createElement("mark"), { textContent: part }) : part));
		line.append(" …");
		return line;
	}

	function option(section, words, number) {
		const item = document.createElement("li");
		item.id = `result-${number}`;
		item.setAttribute("role", "option");
		item.setAttribute("aria-selected", "false");
		item.dataset.href = section.path + (section.id ? `#${section.id}` : "");
		const name = document.createElement("b");
		name.textContent = section.heading === section.title ? section.title : `${section.title}: ${section.heading}`;
		item.append(name, excerpt(section, words));
		return item;
	}

	function close() {
		list.hidden = true;
		input.setAttribute("aria-expanded", "false");
		input.removeAttribute("aria-activedescendant");
	}

	function open() {
		list.hidden = false;
		input.setAttribute("aria-expanded", "true");
		input.removeAttribute("aria-activedescendant");
		list.scrollTop = 0;
	}

	function say(text) {
		list.replaceChildren(Object.assign(document.createElement("li"), { className: "none", textContent: text, role: "option" }));
		found.textContent = text;
		open();
	}

	async function search() {
		const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
		if (words.length === 0) return close();
		let all;
		try {
			all = await load();
		} catch (error) {
			return say(`The search does not work: ${error.message}`);
		}
		if (words.join(" ") !== input.value.toLowerCase().split(/\s+/).filter(Boolean).join(" ")) return; // typed on
		const best = all.map((section) => ({ section, points: score(section, words) })).filter(({ points }) => points > 0)
			.sort((a, b) => b.points - a.points);
		if (best.length === 0) return say("Nothing found");
		list.replaceChildren(...best.slice(0, MOST).map(({ section }, i) => option(section, words, i)));
		found.textContent = `${best.length} ${best.length === 1 ? "result" : "results"}`;
		open();
	}

	const options = () => [...list.querySelectorAll("[data-href]")];
	const selected = () => list.querySelector("[aria-selected=true]");

	function select(item) {
		selected()?.setAttribute("aria-selected", "false");
		item.setAttribute("aria-selected", "true");
		item.scrollIntoView({ block: "nearest" });
		input.setAttribute("aria-activedescendant", item.id);
	}

	function move(step) {
		const all = options();
		if (all.length === 0) return;
		const now = all.indexOf(selected());
		select(all[now < 0 ? (step > 0 ? 0 : all.length - 1) : (now + step + all.length) % all.length]);
	}

	function follow(item) {
		close();
		location.href = item.dataset.href;
	}

	input.addEventListener("input", search);
	input.addEventListener("focus", () => { load().catch(() => {}); if (input.value) search(); });
	input.addEventListener("blur", close);
	input.addEventListener("keydown", (event) => {
		if (event.key === "ArrowDown" || event.key === "ArrowUp") {
			event.preventDefault();
			if (list.hidden) search();
			else move(event.key === "ArrowDown" ? 1 : -1);
		} else if (event.key === "Escape") {
			if (list.hidden) input.blur();
			else { event.preventDefault(); close(); }
		}
	});
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		if (list.hidden) await search();
		const item = selected() ?? options()[0];
		if (item) follow(item);
	});
	list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
	list.addEventListener("click", (event) => {
		const item = event.target.closest("[data-href]");
		if (item) follow(item);
	});
	document.addEventListener("keydown", (event) => {
		if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
		if (event.target.closest("input, textarea, select, [contenteditable]")) return;
		event.preventDefault();
		input.focus();
		input.select();
	});
})();
