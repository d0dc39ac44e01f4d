package e2e

import (
	"fmt"
	"strings"

	. "github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// What comes in as an event goes out as it is.
var eventScenes = []scene{
	{
		"an event as AWX writes it",
		exact(`{"id": 9, "job": 42, "created": "2026-11-22T10:00:00.000000Z", "group_name": "job_events", "url": "/api/v2/job_events/9", "stdout": "\u001b[0;32mok: [host]\u001b[0m", "counter": 12, "event": "runner_on_ok", "event_data": {"res": {"changed": false, "results": [1, 2.50, null]}}, "failed": false, "role": ""}`),
	},
	{
		"a status as AWX writes it",
		exact(`{"unified_job_id": 42, "status": "successful", "finished": "2026-11-22T10:00:00.000000Z", "type": "job", "group_name": "jobs", "unified_job_template_id": 7}`),
	},
	{"other scripts and emoji", exact(`{"stdout": "Grüße, 東京, עברית, 👩‍🚀, e\u0301 and é"}`)},
	{"raw control characters", exact("{\"stdout\": \"\x1b[31mred\x1b[0m\x07\x00\x7f\"}")},
	{"white space is kept", exact("  {\t\"a\" :\r\n1,\n\n \"b\":2 }  \n")},
	{"the order and repetition of keys are kept", exact(`{"b":1,"a":2,"b":3,"1":{}}`)},
	{
		"numbers are kept as they are written",
		exact(`{"n": 1.0, "m": 1E+2, "big": 123456789012345678901234567890, "z": -0}`),
	},
	{"slashes and angle brackets are kept", exact(`{"html": "<b>&amp;</b>\/", "u": "\u003c \u2028"}`)},
	{"a text that is no JSON", exact("plain\ttext, {not json")},
	{"one character", exact("x")},
	{
		"a text of 125, 126 and 127 bytes",
		exact(strings.Repeat("a", 125), strings.Repeat("b", 126), strings.Repeat("c", 127)),
	},
	{
		"a text of 65535, 65536 and 65537 bytes",
		exact(strings.Repeat("a", 65535), strings.Repeat("b", 65536), strings.Repeat("c", 65537)),
	},
	{"a text of 400 kB", exact(`{"stdout": "` + strings.Repeat("line of output\\n", 25000) + `"}`)},
	{"fifty events in order", exact(numbered(50)...)},
	{"an empty text is no frame", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		publish("jobs-summary", ""), publish("jobs-summary", "next"), wantText("next"),
	}},
	{"only the groups asked for", []step{
		open(Alice),
		subscribe(`{"job_events": [42]}`), answer("job_events-42", "", "job_events-42"),
		publish("job_events-4", "no"), publish("job_events-421", "no"), publish("job_events-", "no"),
		publish("workflow_events-42", "no"), publish("jobs-summary", "no"), publish("Job_events-42", "no"),
		publish("job_events-42", "yes"), wantText("yes"),
	}},
	{"several groups of one client, each event once", []step{
		open(Alice),
		subscribe(`{"job_events": [42, 44], "jobs": ["summary"]}`),
		answer("job_events-42 job_events-44 jobs-summary", "", "job_events-42 job_events-44 jobs-summary"),
		publish("job_events-42", "1"), publish("jobs-summary", "2"), publish("job_events-44", "3"),
		publish("job_events-42", "4"),
		wantTexts("1", "2", "3", "4"),
	}},
	{"two clients of one group", []step{
		openAs("one", Alice), openAs("two", Bob),
		on("one", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("two", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		publish("jobs-summary", "both"),
		on("one", wantText("both")), on("two", wantText("both")),
	}},
	{"two tabs of one session are apart", []step{
		openAs("one", Alice), openAs("two", Alice),
		on("one", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("two", subscribe(`{"jobs": ["status_changed"]}`), answer("jobs-status_changed", "", "jobs-status_changed")),
		on("one", subscribe(`{}`), answer("", "jobs-summary", "")),
		publish("jobs-summary", "nobody"), publish("jobs-status_changed", "two"),
		on("two", wantText("two")),
	}},
	{"the other client stays when one leaves or goes", []step{
		openAs("one", Alice), openAs("two", Bob), openAs("three", Admin),
		on("one", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("two", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("three", subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary")),
		on("one", subscribe(`{}`), answer("", "jobs-summary", "")),
		on("three", hangUp(1000)),
		publish("jobs-summary", "two alone"), on("two", wantText("two alone")),
	}},
	{"other keys of a message do no harm", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		message("jobs-summary", map[string]any{"type": "internal.message", "text": "plain"}),
		message("jobs-summary", map[string]any{
			"text": "more", "type": "internal.message", "needs_relay": false,
			"x": []any{1, nil, map[string]any{"y": 1.5}},
		}),
		wantText("plain"), wantText("more"),
	}},
	{"a message of an unknown type", odd(map[string]any{"type": "no.such.type", "text": "x"})},
	{"a message without a type", odd(map[string]any{"text": "x"})},
	{"a message without a text", odd(map[string]any{"type": "internal.message"})},
	{"a message with a text that is a number", odd(map[string]any{"type": "internal.message", "text": 5})},
	{
		"a message between peers in a group of clients",
		odd(map[string]any{"type": "consumer.subscribe", "groups": []any{"x"}, "origin_channel": "specific.x!y"}),
	},
}

// exact publishes texts and expects them byte for byte, in order.
func exact(texts ...string) []step {
	do := []step{
		open(Alice),
		subscribe(`{"job_events": [42]}`), answer("job_events-42", "", "job_events-42"),
	}
	for _, text := range texts {
		do = append(do, publish("job_events-42", text))
	}
	for _, text := range texts {
		do = append(do, wantText(text))
	}
	return do
}

func numbered(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf(`{"counter": %d}`, i)
	}
	return texts
}

// odd sends a message that is no event to a group.
func odd(m map[string]any) []step {
	return []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		message("jobs-summary", m),
		differs("Other keys and types exist; unknown ones are counted and ignored",
			wantClosed(1011),
			steps(publish("jobs-summary", "still here"), wantText("still here"))),
	}
}
