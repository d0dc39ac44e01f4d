package e2e

import (
	"fmt"
	"strings"

	. "github.com/edgerelay/edgerelay/internal/e2e/peers"
)

const junkRule = `AWX/Channels dies (close 1011) on text that is not JSON or not an object; the relay answers {"error": "…"} and keeps the connection`

// What no browser of ours sends.
var junkScenes = []scene{
	{"text that is not JSON", junk(send("hello"))},
	{"an empty text", junk(send(""))},
	{"white space alone", junk(send(" \n"))},
	{"half an object", junk(send(`{"groups": {"jobs": ["summary"]}, "xrftoken": "$XRF"`))},
	{"two objects", junk(send(`{"groups": {}, "xrftoken": "$XRF"}{"groups": {}, "xrftoken": "$XRF"}`))},
	{"single quotes", junk(send(`{'groups': {}, 'xrftoken': '$XRF'}`))},
	{"a comma too many", junk(send(`{"groups": {}, "xrftoken": "$XRF",}`))},
	{"an array", junk(send(`[{"groups": {}, "xrftoken": "$XRF"}]`))},
	{"a string", junk(send(`"groups"`))},
	{"a number", junk(send(`5`))},
	{"null", junk(send(`null`))},
	{"a binary frame", junk(sendBinary(`{"groups": {}, "xrftoken": "$XRF"}`))},
	{"an empty binary frame", junk(sendBinary(``))},
	{"very deep nesting", junk(send(strings.Repeat(`[`, 20000)))},
	{"groups null", junk(subscribe(`null`))},
	{"groups a list", junk(subscribe(`["jobs-summary"]`))},
	{"groups a string", junk(subscribe(`"jobs-summary"`))},
	{"groups a number", junk(subscribe(`1`))},
	{"a name of 100 characters", junk(subscribe(`{"jobs": ["` + strings.Repeat("n", 95) + `"]}`))},
	{"a name of 10,000 characters", junk(subscribe(`{"` + strings.Repeat("n", 10000) + `": ["x"]}`))},
	{"a space in a name", junk(subscribe(`{"jobs": ["a b"]}`))},
	{"an exclamation mark in a name", junk(subscribe(`{"jobs": ["a!b"]}`))},
	{"a glob in a name", junk(subscribe(`{"jobs": ["*"]}`))},
	{"a colon in a name", junk(subscribe(`{"jobs": ["a:b"]}`))},
	{"a slash in a name", junk(subscribe(`{"jobs/x": ["a"]}`))},
	{"a NUL in a name", junk(subscribe(`{"jobs": ["a\u0000"]}`))},
	{"letters of another script in a name", junk(subscribe(`{"jobs": ["é"]}`))},
	{"half a surrogate pair in a name", junk(subscribe(`{"jobs": ["\ud800"]}`))},
	{"one bad name among good ones", junk(subscribe(`{"jobs": ["status_changed", "a b"]}`))},
	{"an object as an item", junk(subscribe(`{"jobs": [{"a": 1}]}`))},
	{"a list as an item", junk(subscribe(`{"jobs": [["a"]]}`))},
	{"true as an item", loose(`true`, "jobs-True")},
	{"null as an item", loose(`null`, "jobs-None")},
	{"a fraction as an item", loose(`1.5`, "jobs-1.5")},
	{"a whole number with a point as an item", loose(`7.0`, "jobs-7.0")},
	{"1e2 as an item", loose(`1e2`, "jobs-100.0")},
	{"NaN as an item", loose(`NaN`, "jobs-nan")},
	{"digits of another script as an item", loose(`"٤٢"`, "jobs-٤٢")},
	{"a line feed at the end of a name", []step{
		open(Alice),
		subscribe(`{"jobs": ["a\n"]}`),
		differs(nameRule,
			want(`{"groups_current": ["jobs-a\n"], "groups_left": [], "groups_joined": ["jobs-a\n"]}`),
			wantError()),
	}},
	{"text that is not UTF-8", []step{
		open(Alice),
		send("{\"groups\": {}, \"xrftoken\": \"\xff\xfe\"}"),
		differs("invalid UTF-8 in a text frame closes 1007, as RFC 6455 wants; Daphne drops the connection",
			wantDropped(), wantClosed(1007)),
	}},
	{"a frame of 300 kB", []step{
		open(Alice),
		send(`{"groups": {}, "xrftoken": "$XRF", "x": "` + strings.Repeat("x", 300_000) + `"}`),
		differs("bounded by the limits: frame size in", answer("", "", ""), wantClosed(1009)),
	}},
	{"150 groups", []step{
		open(Alice),
		subscribe(`{"jobs": [` + manyIDs(150) + `]}`),
		differs("bounded by the limits: groups per connection",
			answer(manyNames(150), "", manyNames(150)),
			wantError()),
	}},
	{"junk of one client does not touch another", []step{
		openAs("one", Alice), openAs("two", Bob),
		on("two", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("one", send("junk"), differs(junkRule, wantClosed(1011), wantError())),
		publish("jobs-summary", "still here"), on("two", wantText("still here")),
	}},
}

// junk sends something that Channels dies of; in the relay it changes nothing.
func junk(do step) []step {
	return []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		do,
		differs(junkRule,
			wantClosed(1011),
			steps(
				wantError(),
				publish("jobs-status_changed", "not joined"), publish("jobs-summary", "still here"),
				wantText("still here"),
				subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", ""))),
	}
}

// loose asks for an item that Python turns into a name that no emitter meant.
func loose(item, name string) []step {
	return []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{"jobs": ["summary", ` + item + `]}`),
		differs("ids may be numbers or strings; "+nameRule,
			answer("jobs-summary "+name, "", name),
			steps(
				wantError(), publish("jobs-summary", "still here"), wantText("still here"),
				subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", ""))),
	}
}

func manyIDs(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	return strings.Join(ids, ", ")
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("jobs-%d", i)
	}
	return strings.Join(names, " ")
}
