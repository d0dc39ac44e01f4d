package e2e

import (
	"strings"

	. "github.com/edgerelay/edgerelay/internal/e2e/peers"
)

const deniedFrame = `{"error": "access denied to channel"}`

// What a groups object does, and what the token guards.
var subscribeScenes = []scene{
	{"the groups of the AWX dashboard", []step{
		open(Alice),
		subscribe(`{"jobs": ["status_changed", "summary"], "schedules": ["changed"], "inventories": ["status_changed"], "control": ["limit_reached_2"]}`),
		answer(
			"jobs-status_changed jobs-summary schedules-changed inventories-status_changed control-limit_reached_2", "",
			"jobs-status_changed jobs-summary schedules-changed inventories-status_changed control-limit_reached_2"),
	}},
	{"a new object replaces the old one", []step{
		open(Alice),
		subscribe(`{"jobs": ["status_changed", "summary"]}`),
		answer("jobs-status_changed jobs-summary", "", "jobs-status_changed jobs-summary"),
		subscribe(`{"jobs": ["summary"], "job_events": [42]}`),
		answer("jobs-summary job_events-42", "jobs-status_changed", "job_events-42"),
		publish("jobs-status_changed", "left"), publish("jobs-summary", "kept"), publish("job_events-42", "joined"),
		wantTexts("kept", "joined"),
	}},
	{"an empty object leaves everything", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"], "job_events": [42]}`),
		answer("jobs-summary job_events-42", "", "jobs-summary job_events-42"),
		subscribe(`{}`), answer("", "jobs-summary job_events-42", ""),
		publish("jobs-summary", "for nobody"),
		subscribe(`{}`), answer("", "", ""),
	}},
	{"an empty object to begin with", []step{
		open(Alice),
		subscribe(`{}`), answer("", "", ""),
	}},
	{"empty lists", []step{
		open(Alice),
		subscribe(`{"jobs": [], "job_events": []}`), answer("", "", ""),
		subscribe(`{"jobs": ["summary"], "schedules": []}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{"jobs": []}`), answer("", "jobs-summary", ""),
	}},
	{"the same again changes nothing", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", ""),
		publish("jobs-summary", "once"), publish("jobs-summary", "and for all"),
		wantText("once"), wantText("and for all"),
	}},
	{"left and joined again", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{}`), answer("", "jobs-summary", ""),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		publish("jobs-summary", "back"), wantText("back"),
	}},
	{"ids as strings", []step{
		open(Alice),
		subscribe(`{"job_events": ["42"], "jobs": [7]}`),
		answer("job_events-42 jobs-7", "", "job_events-42 jobs-7"),
		subscribe(`{"job_events": [42], "jobs": ["7"]}`), answer("job_events-42 jobs-7", "", ""),
	}},
	{"an id twice", []step{
		open(Alice),
		subscribe(`{"job_events": [42, "42", 42], "jobs": ["summary", "summary"]}`),
		answer("job_events-42 jobs-summary", "", "job_events-42 jobs-summary"),
		publish("job_events-42", "once"), publish("job_events-42", "and again"),
		wantText("once"), wantText("and again"),
	}},
	{"a key twice: the last one counts", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"], "jobs": ["status_changed"]}`),
		answer("jobs-status_changed", "", "jobs-status_changed"),
	}},
	{"groups twice: the last one counts", []step{
		open(Alice),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": "$XRF", "groups": {"jobs": ["status_changed"]}}`),
		answer("jobs-status_changed", "", "jobs-status_changed"),
	}},
	{"an odd split of the same name", []step{
		open(Alice),
		subscribe(`{"a-b": ["c"], "a": ["b-c"]}`), answer("a-b-c", "", "a-b-c"),
	}},
	{"odd names that are allowed", []step{
		open(Alice),
		subscribe(`{"A.b_c-9": ["..", "-", "_"], "": ["x"], "y": [""]}`),
		answer("A.b_c-9-.. A.b_c-9-- A.b_c-9-_ -x y-", "", "A.b_c-9-.. A.b_c-9-- A.b_c-9-_ -x y-"),
		publish("A.b_c-9-..", "odd"), wantText("odd"),
	}},
	{"names are told apart by case", []step{
		open(Alice),
		subscribe(`{"jobs": ["Summary"], "Jobs": ["summary"]}`),
		answer("jobs-Summary Jobs-summary", "", "jobs-Summary Jobs-summary"),
		publish("jobs-summary", "another"), publish("jobs-Summary", "this"), wantText("this"),
	}},
	{"a name of 99 characters", []step{
		open(Alice),
		subscribe(`{"jobs": ["` + strings.Repeat("n", 94) + `"]}`),
		answer("jobs-"+strings.Repeat("n", 94), "", "jobs-"+strings.Repeat("n", 94)),
		publish("jobs-"+strings.Repeat("n", 94), "long"), wantText("long"),
	}},
	{"negative and long numbers", []step{
		open(Alice),
		subscribe(`{"jobs": [-1, 0, 123456789012345678901234567890]}`),
		answer("jobs--1 jobs-0 jobs-123456789012345678901234567890", "",
			"jobs--1 jobs-0 jobs-123456789012345678901234567890"),
	}},
	{"minus zero is zero", []step{
		open(Alice),
		subscribe(`{"jobs": [-0]}`), answer("jobs-0", "", "jobs-0"),
	}},
	{"escapes in names are read", []step{
		open(Alice),
		subscribe(`{"j\u006fbs": ["s\u0075mmary"]}`), answer("jobs-summary", "", "jobs-summary"),
	}},
	{"other keys do no harm", []step{
		open(Alice),
		send(`  {"x": {"groups": [1]}, "groups": {"jobs": ["summary"]}, "xrftoken": "$XRF", "type": null}` + "\n"),
		answer("jobs-summary", "", "jobs-summary"),
	}},
	{"a message in fragments", []step{
		open(Alice),
		sendFragments(`{"groups": {"jo`, `bs": ["summary"]}, `, `"xrftoken": "$XRF"}`),
		answer("jobs-summary", "", "jobs-summary"),
	}},
	{"a message without groups has no answer", []step{
		open(Alice),
		send(`{"xrftoken": "$XRF"}`),
		send(`{"xrftoken": "$XRF", "ping": 1}`),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
	}},
	{"the token is checked on a message without groups too", []step{
		open(Alice),
		send(`{}`), want(deniedFrame),
		send(`{"xrftoken": "x"}`), want(deniedFrame),
	}},
	{"no token", []step{
		open(Alice),
		send(`{"groups": {"jobs": ["summary"]}}`), want(deniedFrame),
	}},
	{"wrong tokens", []step{
		open(Alice),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": "wrong"}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": ""}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": null}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": 5}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": ["$XRF"]}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": "$XRF "}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "XRFToken": "$XRF"}`), want(deniedFrame),
	}},
	{"a wrong token comes before anything else", []step{
		open(Alice),
		send(`{"groups": null, "xrftoken": "wrong"}`), want(deniedFrame),
		send(`{"groups": {"job_events": [43]}}`), want(deniedFrame),
	}},
	{"a wrong token changes nothing", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		send(`{"groups": {}, "xrftoken": "wrong"}`), want(deniedFrame),
		publish("jobs-summary", "still here"), wantText("still here"),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", ""),
	}},
	{"no CSRF cookie at the handshake: always denied", []step{
		connect(handshake{user: Alice, header: map[string]string{"Cookie": "awx_sessionid=$SESSION"}}), accepted(Alice),
		subscribe(`{"jobs": ["summary"]}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": ""}`), want(deniedFrame),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": null}`), want(deniedFrame),
	}},
	{"an empty CSRF cookie: always denied", []step{
		connect(handshake{user: Alice, header: map[string]string{"Cookie": "awx_sessionid=$SESSION; csrftoken="}}),
		accepted(Alice),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": ""}`), want(deniedFrame),
	}},
	{"a CSRF cookie in quotes", []step{
		connect(handshake{
			user:   Alice,
			header: map[string]string{"Cookie": `awx_sessionid=$SESSION; csrftoken="$XRF"`},
		}), accepted(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
	}},
	{"two CSRF cookies: the last one counts", []step{
		connect(handshake{
			user:   Alice,
			header: map[string]string{"Cookie": `csrftoken=first; awx_sessionid=$SESSION; csrftoken=$XRF`},
		}),
		accepted(Alice),
		send(`{"groups": {"jobs": ["summary"]}, "xrftoken": "first"}`), want(deniedFrame),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
	}},
	{"a value that is not a list", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{"jobs": "status_changed"}`), want(deniedFrame),
		subscribe(`{"jobs": null}`), want(deniedFrame),
		subscribe(`{"jobs": {"status_changed": 1}}`), want(deniedFrame),
		subscribe(`{"jobs": 5}`), want(deniedFrame),
		subscribe(`{"schedules": ["changed"], "jobs": true}`), want(deniedFrame),
		publish("schedules-changed", "not joined"), publish("jobs-summary", "still here"), wantText("still here"),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", ""),
	}},
	{"a denied object before a value that is not a list", []step{
		open(Alice),
		subscribe(`{"job_events": [43], "jobs": "summary"}`),
		denied("job_events", "43"), want(deniedFrame),
	}},
}
