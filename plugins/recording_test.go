package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// recordedRequest is the request of a client with credentials.
const recordedRequest = `{"id":"%016x","path":"/ws/room/1/","query":"%s","params":{"room":"room_1"},` +
	`"user":{"name":"ann","api_key":"super-secret-key"},"user_name":"ann","address":"192.0.2.7",` +
	`"headers":{"authorization":"Bearer very-secret-bearer","cookie":"sessionid=very-secret-session; theme=dark-and-warm"},` +
	`"subprotocols":["v1","eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"]}`

// record begins a recording, which ends with the test.
func record(t testing.TB, p *Pipeline, o RecordingOptions) *Recording {
	t.Helper()
	r, err := p.Record("f", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// lines ends the recording, and returns its lines.
func (r *Recording) lines(t testing.TB) string {
	t.Helper()
	r.Close()
	var all bytes.Buffer
	for {
		lines, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Write(lines)
	}
}

// converse lets a client connect, send messages that get an action each, and leave.
func converse(t testing.TB, p *Pipeline, id uint64, query string, messages ...string) {
	t.Helper()
	c, actions, err := p.Connect(context.Background(), "f", id, fmt.Appendf(nil, recordedRequest, id, query))
	if err != nil {
		return
	}
	got := newPage()
	got.Perform(actions)
	c.Open(got)
	got.take(t, len(actions))
	for _, m := range messages {
		if err := c.Message(true, []byte(m)); err != nil {
			t.Fatal(m, err)
		}
		got.take(t, 1)
	}
	c.Ended(1001, "away")
}

// answering is a service that answers at once.
type answering struct{}

// Start implements [Service].
func (answering) Start(r *Request, done func(Response)) {
	done(Response{Body: []byte("value of " + r.Key)})
}

// recordedConversation records two conversations and an alarm.
func recordedConversation(t testing.TB) string {
	p := pipeline(t, Options{}, functionSpec(t))
	p.SetServices(Services{Shared: answering{}})
	p.SetPublisher(func(string, *Action) {})
	r := record(t, p, RecordingOptions{})
	converse(t, p, 0xabc, "", `{"do":"id"}`, `{"do":"get","key":"k","context":"c"}`, `{"do":"remember","text":"two"}`,
		`{"do":"recall"}`, ` {"do":"echo","text":"with a space"} `)
	converse(t, p, 0xdef, "teapot")
	if err := p.Alarm(context.Background(), "f", "turn", []byte("x\xff"), nil); err != nil {
		t.Fatal(err)
	}
	return r.lines(t)
}

// replayLines takes a recording through a trial, and returns the differences.
func replayLines(t testing.TB, trial *Trial, recording string, ignore ...string) (differences []string, calls, skipped int) {
	t.Helper()
	lines := NewSampleReader(strings.NewReader(recording), "g")
	for {
		s, err := lines.Next()
		if err == io.EOF {
			return differences, calls, skipped
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, recording)
		}
		calls++
		d := trial.Deliver(&s, nil)
		if d.Skipped {
			skipped++
			continue
		}
		for _, line := range s.CompareFunction(&d.Trace, ignore, 10) {
			differences = append(differences, fmt.Sprintf("%s: %s", d.Hook, line))
		}
	}
}

func TestRecordingReplaysWithoutDifferences(t *testing.T) {
	recording := recordedConversation(t)
	trial := functionTrial(t)
	differences, calls, skipped := replayLines(t, trial, recording)
	if len(differences) > 0 || calls != 10 || skipped > 0 {
		t.Errorf("%d calls, %d skipped, differences %q in\n%s", calls, skipped, differences, recording)
	}
	trial.Reset(time.Time{})
	samples, err := ReadSamples(strings.NewReader(recording), "g")
	if err != nil {
		t.Fatal(err)
	}
	for i := range samples { // the lines are golden samples as well
		trace := trial.Run(&samples[i])
		if err := samples[i].Compare(&trace); err != nil {
			t.Errorf("line %d as a sample: %v", i+1, err)
		}
	}
}

// Changed inputs stand for a changed module.
func TestReplayNamesTheDifference(t *testing.T) {
	recording := recordedConversation(t)
	for _, c := range []struct {
		name, from, to, want string
		skipped              int
	}{
		{"reply", `"do":"recall"`, `"do":"id"`, "on_message: effect 1, send: two → 0000000000000abc", 0},
		{"request", `"key":"k"`, `"key":"other"`, "on_message: effect 1, shared_get: k → other", 1},
		{"rejection", `"query":""`, `"query":"reason"`, "on_connect: allow → deny: no seats", 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(recording, c.from, c.to, 1)
			differences, _, skipped := replayLines(t, functionTrial(t), changed)
			if len(differences) == 0 || differences[0] != c.want || skipped != c.skipped {
				t.Errorf("%d skipped, %q; want %d, %s", skipped, differences, c.skipped, c.want)
			}
		})
	}
}

func TestRecordingLeavesOutCredentials(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	p.SetPublisher(func(string, *Action) {})
	for _, c := range []struct {
		name    string
		options RecordingOptions
		without []string
		with    []string
	}{
		{"default", RecordingOptions{}, []string{
			"very-secret-session", "very-secret-bearer", "super-secret-key", "query-secret", "query secret", "eyJhbGci",
		}, []string{`Bearer redacted-`, `sessionid=redacted-`, `"ann"`, `192.0.2.7`, `other=1`}},
		{"more", RecordingOptions{Redact: []string{"address", "User", "other"}}, []string{"192.0.2.7", `"ann"},`, "other=1"}, nil},
		{"secrets", RecordingOptions{Secrets: true}, nil, []string{
			"very-secret-session", "very-secret-bearer", "super-secret-key", "query%20secret", "eyJhbGci",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(t, p, c.options)
			converse(t, p, 1, "token=query%20secret&other=1", `{"do":"echo","text":"very-secret-session, query secret"}`)
			lines := r.lines(t)
			for _, text := range c.without {
				if strings.Contains(lines, text) {
					t.Errorf("%q is in\n%s", text, lines)
				}
			}
			for _, text := range c.with {
				if !strings.Contains(lines, text) {
					t.Errorf("%q is not in\n%s", text, lines)
				}
			}
			if differences, calls, _ := replayLines(t, functionTrial(t), lines); len(differences) > 0 || calls != 3 {
				t.Errorf("%d calls, %q", calls, differences)
			}
		})
	}
}

func TestRecordingIsBounded(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	p.SetPublisher(func(string, *Action) {})
	count := func(t *testing.T, lines string, want int) {
		t.Helper()
		if got := strings.Count(lines, `{"hook"`); got != want {
			t.Errorf("%d lines, want %d in\n%s", got, want, lines)
		}
	}
	t.Run("connections", func(t *testing.T) {
		r := record(t, p, RecordingOptions{Connections: 1})
		c, _ := open(t, p, "room_1")
		converse(t, p, 1, "", `{"do":"id"}`)
		if _, over := r.take(); over {
			t.Error("the recording has ended before its connection")
		}
		c.Ended(1000, "")
		if _, err := p.Record("f", RecordingOptions{}); err != nil {
			t.Errorf("the recording has not ended with its connection: %v", err)
		} else {
			p.find("f").recording.Load().Close()
		}
		count(t, r.lines(t), 1) // the first line was taken above
	})
	t.Run("bytes", func(t *testing.T) {
		r := record(t, p, RecordingOptions{Bytes: 1000})
		converse(t, p, 1, "", `{"do":"id"}`, `{"do":"id"}`, `{"do":"id"}`)
		lines := r.lines(t)
		if n := len(lines); n > 1100 || !strings.Contains(lines, "dropped") {
			t.Errorf("%d bytes: %s", n, lines)
		}
	})
	t.Run("path", func(t *testing.T) {
		r := record(t, p, RecordingOptions{Path: "/ws/other/*"})
		converse(t, p, 1, "", `{"do":"id"}`)
		count(t, r.lines(t), 0)
	})
	t.Run("reader", func(t *testing.T) {
		r := record(t, p, RecordingOptions{Bytes: MaxRecordedBytes})
		text := `{"do":"echo","text":"` + strings.Repeat("x", 10_000) + `"}`
		converse(t, p, 1, "", slices.Repeat([]string{text}, maxRecordedBuffer/20_000)...)
		lines := r.lines(t)
		if !strings.Contains(lines, "dropped") || strings.Contains(lines, "on_close") {
			t.Errorf("%d bytes, of which the last are %s", len(lines), lines[max(0, len(lines)-200):])
		}
	})
	t.Run("twice", func(t *testing.T) {
		r := record(t, p, RecordingOptions{})
		if _, err := p.Record("f", RecordingOptions{}); !errors.Is(err, ErrRecording) || !p.Recorded("f") {
			t.Errorf("a second recording: %v", err)
		}
		if r.Close(); p.Recorded("f") || p.Recorded("unknown") {
			t.Error("the function is still recorded")
		}
	})
}

// Connections that are open already are recorded on demand, with their attachment.
func TestRecordingOfOpenConnections(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	c, got := open(t, p, "room_5")
	r := record(t, p, RecordingOptions{Open: true})
	if err := c.Message(true, []byte(`{"do":"recall"}`)); err != nil {
		t.Fatal(err)
	}
	got.take(t, 1)
	lines := r.lines(t)
	if differences, calls, _ := replayLines(t, functionTrial(t), lines); len(differences) > 0 || calls != 1 {
		t.Errorf("%d calls, %q in %s", calls, differences, lines)
	}
	if !strings.Contains(lines, `"attachment":"room_5"`) {
		t.Error(lines)
	}
}

// TestFunctionDifferences names each kind of difference.
func TestFunctionDifferences(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		ignore     []string
		want       string // lines; empty: none
	}{
		{"same", `"effects":[{"send":"{\"a\":1}"}]`, `"effects":[{"send":"{ \"a\": 1 }"}]`, nil, ""},
		{"member", `"effects":[{"send":"{\"a\":1,\"b\":2}"}]`, `"effects":[{"send":"{\"a\":3,\"b\":2}"}]`, nil, "effect 1, send: a: 1 → 3"},
		{"ignored", `"effects":[{"send":"{\"a\":1,\"b\":[{\"id\":4}]}"}]`, `"effects":[{"send":"{\"a\":1,\"b\":[{\"id\":5}]}"}]`, []string{"id"}, ""},
		{"missing", `"effects":[{"join":"g"},{"send":"x"}]`, `"effects":[{"send":"x"}]`, nil, `effect 1 is missing: {"join":"g"}`},
		{"new", `"effects":[{"send":"x"}]`, `"effects":[{"join":"g"},{"send":"x"}]`, nil, `effect 1 is new: {"join":"g"}`},
		{"order", `"effects":[{"send":"x"},{"send":"y"}]`, `"effects":[{"send":"y"},{"send":"x"}]`, nil, "effect 1"},
		{"option", `"effects":[{"publish":"g","text":"x"}]`, `"effects":[{"publish":"g","text":"x","others":true}]`, nil, "effect 1, publish: others: missing → true"},
		{"attachment", `"effects":[],"want_attachment":"{\"n\":1}"`, `"effects":[],"want_attachment":"{\"n\":2}"`, nil, "attachment: n: 1 → 2"},
		{"verdict", `"verdict":"pass"`, `"verdict":"error"`, nil, "pass → error"},
		{"concealed", `"effects":[{"fetch":"https://a.test/•••","method":"POST"}]`, `"effects":[{"fetch":"https://a.test/key","method":"POST"}]`, nil, ""},
		{"concealed, another host", `"effects":[{"fetch":"https://a.test/•••"}]`, `"effects":[{"fetch":"https://b.test/key"}]`, nil, "effect 1, fetch: https://a.test/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d [2]decision
			for i, members := range []string{c.a, c.b} {
				s, err := ParseSample([]byte(`{"hook":"on_message","text":"x",`+members+`}`), "")
				if err != nil {
					t.Fatal(err)
				}
				d[i] = s.decision()
			}
			got := strings.Join(d[0].differences(&d[1], c.ignore, 10), "\n")
			if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// BenchmarkMessageWithoutRecording is the cost of a message; compare its allocations with those of a build without
// recordings.
func BenchmarkMessageWithoutRecording(b *testing.B) {
	p := pipeline(b, Options{}, functionSpec(b))
	request := []byte(`{"query":"","params":{"room":"room_1"}}`)
	c, _, err := p.Connect(context.Background(), "f", 1, request)
	if err != nil {
		b.Fatal(err)
	}
	c.Open(discard{})
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Message(true, []byte(`{"do":"echo","text":"hi"}`)); err != nil {
			b.Fatal(err)
		}
	}
}

// discard is a client that discards its actions.
type discard struct{}

// Perform implements [Client].
func (discard) Perform([]Action) {}
