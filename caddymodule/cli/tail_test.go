package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

func TestTailWriter(t *testing.T) {
	const (
		tail = `{"at":"2026-01-02T03:04:05Z","sent":"2026-01-02T03:04:00Z","source":"layer","group":"g","data":{"a":1}}
{"at":"2026-01-02T03:04:05Z","dropped":3}
{"at":"2026-01-02T03:04:05Z","source":"peer","group":"g","text":"no JSON"}
`
		recording = `{"group":"g","payload":{"a" : 1},"source":"layer","at":"2026-01-02T03:04:05Z"}
{"at":"2026-01-02T03:04:05Z","dropped":3}
{"group":"g","text":"NaN","source":"layer","at":"2026-01-02T03:04:05Z"}
`
	)
	for _, c := range []struct {
		name           string
		w              *tailWriter
		lines, want    string
		events, missed int
		full           bool
	}{
		{"text", &tailWriter{}, tail, `{"a":1}  (published 5s earlier)|3 events dropped|no JSON`, 2, 3, false},
		{
			"a type", &tailWriter{}, `{"at":"2026-01-02T03:04:05Z","group":"g","type":"chat.message","data":{"type":"chat.message"}}` + "\n",
			`:05.000 chat.message {"type":"chat.message"}`, 1, 0, false,
		},
		{"several groups", &tailWriter{showGroup: true}, tail, `g {"a":1}|3 events dropped|g no JSON`, 2, 3, false},
		{"JSON", &tailWriter{asJSON: true}, tail, strings.ReplaceAll(strings.TrimSpace(tail), "\n", "|"), 2, 3, false},
		{
			"not recovered", &tailWriter{limit: 2}, `{"at":"2026-01-02T03:04:05Z","not_recovered":"unknown_position"}` + "\n" + tail,
			`events may be missing: unknown position|{"a":1}|3 events dropped|no JSON`, 2, 3, true,
		},
		{"recording", &tailWriter{record: true}, recording, strings.ReplaceAll(strings.TrimSpace(recording), "\n", "|"), 2, 3, false},
		{"limit", &tailWriter{record: true, limit: 1}, recording, strings.SplitN(recording, "\n", 2)[0], 1, 0, true},
	} {
		var out bytes.Buffer
		c.w.w = &out
		err := c.w.copy(strings.NewReader(c.lines), []string{"h*", "x"})
		if errors.Is(err, errTailFull) != c.full || err != nil && !c.full || c.w.events != c.events || c.w.missed != c.missed {
			t.Errorf("%s: %d events, %d missed, %v", c.name, c.w.events, c.w.missed, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		want := strings.Split(c.want, "|")
		if len(lines) != len(want) {
			t.Errorf("%s:\n%s", c.name, out.String())
			continue
		}
		for i := range want {
			if !strings.Contains(lines[i], want[i]) {
				t.Errorf("%s: line %d is %s, want %s", c.name, i+1, lines[i], want[i])
			}
		}
	}
}

// An event that two groups or patterns select is written once.
func TestTailsOfOverlappingPatterns(t *testing.T) {
	var out bytes.Buffer
	w := tailWriter{w: &out, record: true}
	groups := []string{"jobs-1", "jobs-*", "*-1"}
	for i := range groups {
		for _, group := range []string{"jobs-1", "jobs-2", "x-1"} {
			if ok, _ := path.Match(groups[i], group); ok {
				line := fmt.Sprintf(`{"group":%q,"payload":1,"source":"layer","at":"2026-01-02T03:04:05Z"}`+"\n", group)
				if err := w.copy(strings.NewReader(line), groups[:i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if w.events != 3 || strings.Count(out.String(), `"jobs-1"`) != 1 {
		t.Errorf("%d events:\n%s", w.events, out.String())
	}
}

// A recording is for its owner only, and never replaces a file.
func TestOpenRecording(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.ndjson")
	write := func(more bool) error {
		f, err := openRecording(name, more, "use another name, or --append")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("x")
		return err
	}
	if err := write(false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := write(false); err == nil || !strings.Contains(err.Error(), "exists; use another name, or --append") {
		t.Error(err)
	}
	if err := write(true); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "xx" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestTailOptions(t *testing.T) {
	for want, o := range map[string]tailOptions{
		"exclude each other": {record: "x", class: 1},
		"--append is for":    {append: true},
		"negative":           {count: -1},
		"no group":           {raw: true},
	} {
		if err := o.run(t.Context(), map[bool][]string{true: nil, false: {"g"}}[o.raw]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	o := tailOptions{record: "x"}
	const want = "/edgerelay/groups/job_events-%2A/tail?class=0&format=recording&raw=true"
	if got := o.path("job_events-*"); got != want && got != strings.Replace(want, "%2A", "*", 1) {
		t.Errorf("%s, want %s", got, want)
	}
}
