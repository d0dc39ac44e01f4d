package awx

import (
	"slices"
	"testing"
)

// plainTexts are messages that are plain, and some that are nearly so.
var plainTexts = map[string]bool{
	`{"groups": {"jobs": ["status_changed", "summary"], "schedules": ["changed"], "control": ["limit_reached_1"]}, "xrftoken": "a!~"}`: true,
	"\t{\r\n\"xrftoken\":\"\",\"groups\":{\"job_events\":[0,42 , 1000],\"jobs\":[]}}\n ":                                               true,
	`{"groups":{}}`:                                true,
	`{}`:                                           true,
	`{"xrftoken": "t"}`:                            true,
	`{"groups": {"job_events": [-0]}}`:             false,
	`{"groups": {"job_events": [01]}}`:             false,
	`{"groups": {"job_events": [1.0]}}`:            false,
	`{"groups": {"job_events": ["4\u0032"]}}`:      false,
	`{"groups": {"jobs": ["a"], "jobs": []}}`:      false,
	`{"groups": {"jobs": ["a",]}}`:                 false,
	`{"groups": {"jobs": "a"}}`:                    false,
	`{"groups": {"jobs": [""], "": ["-"]}}`:        true,
	`{"groups": {}, "groups": {}}`:                 false,
	`{"groups": {}} {}`:                            false,
	`{"xrftoken": 1}`:                              false,
	`{"xrftoken": "\\"}`:                           false,
	`{"groups": null}`:                             false,
	`{"groups": {"jobs": ["a"]`:                    false,
	`{"x": {"groups": {"jobs": ["a"]}}}`:           false,
	`{"groups": {"é": ["a"]}}`:                     false,
	`{"groups": {"jobs": ["a b"], "xs": ["../"]}}`: false,
	`{"groups": {"a":[],"b":[],"c":[],"d":[],"e":[],"f":[],"g":[],"h":[]}}`:        true,
	`{"groups": {"a":[],"b":[],"c":[],"d":[],"e":[],"f":[],"g":[],"h":[],"i":[]}}`: false,
}

func TestPlainMessages(t *testing.T) {
	for text, plain := range plainTexts {
		if _, ok := parsePlain([]byte(text)); ok != plain {
			t.Errorf("%s is plain: %v, want %v", text, ok, plain)
		}
	}
}

// FuzzPlainMessage holds parsePlain against the way of all other messages.
func FuzzPlainMessage(f *testing.F) {
	for text := range plainTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, ok := parsePlain(text)
		if !ok {
			return
		}
		n, err := parseAny(text)
		if err != nil || m.token != n.token || m.asks != n.asks {
			t.Fatalf("%q: %+v; all others: %+v, %v", text, m, n, err)
		}
		if !m.asks {
			return
		}
		wishes, err := n.wishes()
		if err != nil || !slices.Equal(m.plain, wishes) {
			t.Errorf("%q: %q; all others: %q, %v", text, m.plain, wishes, err)
		}
	})
}
