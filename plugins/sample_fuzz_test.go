package plugins

import (
	"strings"
	"testing"
)

func FuzzParseSample(f *testing.F) {
	for _, line := range []string{
		`{"do": 1}`, `{"group": "g", "payload": {"a":NaN}, "verdict": "pass"}`, `[]`, `{"payload": null}`,
		`{"payload": 1, "group": 2}`, `{"user":{},"want_class":1}`, `{"class":3,"text":"\ud800"}`, `NaN`, `{"hook":"on_event"`,
		`{"payload":1,"emits":[{"group":"b","payload":Infinity,"audience":-1}],"clock":1.5,"sent":"2026-01-02T03:04:05Z"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		s, err := ParseSample(line, "test")
		if err != nil {
			return
		}
		if err := s.check(); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if s.hook() != OnSubscribe && s.Payload == nil && s.Text == nil {
			t.Fatalf("%q has no payload: %+v", line, s)
		}
		if string(s.payload()) == string(line) {
			return
		}
		if !strings.Contains(string(line), string(s.Payload)) || !strings.Contains(string(line), string(s.Output)) {
			t.Fatalf("%q becomes %+v", line, s)
		}
	})
}

func FuzzDifferences(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":2}]}`), []byte(`{"a":[1,{"b":3}],"c":NaN}`))
	f.Add([]byte(`{"a":1,"a":2}`), []byte(`{"a":1,"a":3}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := Differences(a, b, 4)
		if (got == nil) != (string(a) == string(b)) || len(got) > 5 {
			t.Fatalf("%q and %q: %q", a, b, got)
		}
	})
}

func FuzzSampleReader(f *testing.F) {
	f.Add("{\"payload\":1}{\"payload\":2}\n{\n\"payload\":3}\nNaN\n{\"dropped\":1}")
	f.Add("{\"payload\": [\n{")
	f.Fuzz(func(t *testing.T, file string) {
		r := NewSampleReader(strings.NewReader(file), "test")
		line := 0
		for n := 0; ; n++ {
			s, err := r.Next()
			if err != nil {
				return
			}
			if r.Line() < line || s.check() != nil || n > len(file) {
				t.Fatalf("sample %d of %q in line %d: %+v", n, file, r.Line(), s)
			}
			line = r.Line()
		}
	})
}
