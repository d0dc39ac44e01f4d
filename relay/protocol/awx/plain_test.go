package awx

import (
	"slices"
	"testing"
)

// plainTexts are messages that parsePlain accepts or, though similar, leaves to parseJSON.
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
			t.Errorf("parsePlain(%s) is ok: %v, want %v", text, ok, plain)
		}
	}
}

// FuzzPlainMessage compares parsePlain with parseJSON.
func FuzzPlainMessage(f *testing.F) {
	for text := range plainTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, ok := parsePlain(text)
		if !ok {
			return
		}
		n, err := parseJSON(text)
		if err != nil || m.csrfToken != n.csrfToken || m.hasGroups != n.hasGroups {
			t.Fatalf("%q: parsePlain %+v, parseJSON %+v, %v", text, m, n, err)
		}
		if !m.hasGroups {
			return
		}
		requests, err := n.groupRequests()
		if err != nil || !slices.Equal(m.requests, requests) {
			t.Errorf("%q: parsePlain %q, parseJSON %q, %v", text, m.requests, requests, err)
		}
	})
}
