package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// trialOf loads a module of the plugins' tests.
func trialOf(t *testing.T, module, config string) *plugins.Trial {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", module+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	spec := plugins.Spec{Name: "test", Wasm: wasm, Grants: plugins.Grants, Config: json.RawMessage(config)}
	options := plugins.Options{Logger: slog.New(slog.DiscardHandler)}
	trial, err := plugins.Try(context.Background(), options, spec)
	if err != nil {
		t.Fatal(err)
	}
	return trial
}

// replayOf replays a recording with one or two modules, the older one first.
func replayOf(t *testing.T, r replay, recording io.Reader, modules ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	r.w = &out
	defer r.close()
	for _, m := range modules {
		r.add(m+".wasm", trialOf(t, m, "null"))
	}
	if err := r.run(recording, "test"); err != nil {
		return out.String(), err
	}
	err := r.finish()
	return out.String(), err
}

const recording = `{"group":"g","payload":{"do":"replace","with":"{\"a\":1,\"b\":2}"},"at":"2026-01-02T03:04:05Z"}
{"at":"2026-01-02T03:04:05Z","dropped":7}
{"group":"g","payload":{"do":"now"},"source":"layer","at":"2026-01-02T03:04:06Z"}
{"group":"g","text":"NaN","at":"2026-01-02T03:04:07Z"}
{"group":"g","payload":{"do":"split"},"at":"2026-01-02T03:04:08Z"}
{"group":"g","payload":{"do":"drop"},"at":"2026-01-02T03:04:09Z"}
`

func TestReplay(t *testing.T) {
	out, err := replayOf(t, replay{show: 20, classes: []uint8{0, 3}}, strings.NewReader(recording), "actor")
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"5 events", "actor.wasm", "pass                1\n", "replace             3\n", "drop                1\n",
		"failed              0\n", "fuel p50, p99, max  ", "slowest             line ",
		"the recording lacks 7 events, which arrived too fast\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	failing := recording + `{"group":"g","payload":{"do":"trap"}}` + "\n" + `{"group":"g","payload":{"do":"error"}}`
	out, err = replayOf(t, replay{show: 1}, strings.NewReader(failing), "actor")
	if err == nil || err.Error() != "2 of 7 events failed" || !strings.Contains(out, "7  g\n") ||
		!strings.Contains(out, "unreachable") || !strings.Contains(out, "… and 1 more; --show -1 shows all\n") {
		t.Errorf("%v\n%s", err, out)
	}
	for text, want := range map[string]string{
		"":                                "no events in the recording",
		`{"group":"g","payload":1,"x":2}`: `line 1: unknown member "x"`,
	} {
		if _, err := replayOf(t, replay{}, strings.NewReader(text), "actor"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Of two versions, a replay shows the events whose results differ for clients, with the reasons.
func TestReplayAgainst(t *testing.T) {
	out, err := replayOf(t, replay{show: 20, classes: []uint8{0, 3}}, strings.NewReader(recording), "pass", "actor")
	if err == nil || err.Error() != "5 of 5 events differ" {
		t.Error(err)
	}
	for _, want := range []string{
		"1  g\n     pass.wasm: pass\n     actor.wasm: replace\n     ✗ do: \"replace\" → missing\n",
		"✗ a: missing → 1\n", "3  g\n", `✗ {"do":"now"} → 1767323046000` + "\n", "✗ class 3: NaN → {\"for\":3}\n",
		"✗ 0 emitted events → 2\n", "✗ delivered → dropped\n", "5 events differ\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	out, err = replayOf(t, replay{show: 20, classes: []uint8{0, 3}}, strings.NewReader(recording), "actor", "actor")
	if err != nil || !strings.Contains(out, "0 events differ\n") || !strings.Contains(out, "against") {
		t.Errorf("equal versions: %v\n%s", err, out)
	}

	out, err = replayOf(t, replay{show: 1, asJSON: true}, strings.NewReader(recording), "pass", "actor")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err == nil || len(lines) != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	var ev replayedEvent
	var sum replaySum
	if json.Unmarshal([]byte(lines[0]), &ev) != nil || json.Unmarshal([]byte(lines[1]), &sum) != nil {
		t.Fatal(out)
	}
	if ev.Line != 1 || len(ev.Decisions) != 2 || ev.Decisions[1].Verdict != "replace" ||
		string(ev.Decisions[1].Outputs[0].Payload) != `{"a":1,"b":2}` || len(ev.Differences) != 4 {
		t.Errorf("%+v", ev)
	}
	if sum.Events != 5 || sum.Differ != 4 || sum.Missed != 7 || len(sum.Versions) != 2 ||
		sum.Versions[1].Verdicts["replace"] != 3 || sum.Versions[1].Fuel.Max <= 0 || len(sum.Versions[1].Slowest) != 3 {
		t.Errorf("%+v", sum)
	}
}

// Samples of other hooks are compared, too.
func TestReplayOfOtherHooks(t *testing.T) {
	samples := `{"group":"jobs-secret","user":{"username":"bob"}}
{"group":"jobs-1","user":{"is_superuser":true}}
{"group":"jobs-1","class":1,"payload":{"secret":1}}
`
	out, err := replayOf(t, replay{show: 20}, strings.NewReader(samples), "pass", "classes")
	for _, want := range []string{"allow → deny", "class 0 → 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if err == nil {
		t.Error("no differences")
	}
}

// A large recording takes no more memory than a small one.
func TestReplayMemory(t *testing.T) {
	line := `{"group":"g","payload":{"do":"replace","with":"` + strings.Repeat("x", 10_000) + `"}}` + "\n"
	used := func(lines int) uint64 {
		before := heap()
		r := replay{w: io.Discard}
		defer r.close()
		r.add("actor", trialOf(t, "actor", "null"))
		if err := r.run(io.LimitReader(&repeated{text: line}, int64(lines*len(line))), "test"); err != nil {
			t.Fatal(err)
		}
		return heap() - min(before, heap())
	}
	small, large := used(20), used(2000)
	if large > small+8<<20 {
		t.Errorf("2000 events take %d bytes, 20 take %d", large, small)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// repeated is an endless repetition of a text.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// Ticks come at the interval between the recorded times, and after the last event.
func TestReplayTicks(t *testing.T) {
	recording := `{"group":"a","payload":1,"at":"2026-01-02T03:04:05Z"}
{"group":"a","payload":2,"at":"2026-01-02T03:04:05.5Z"}
{"group":"a","payload":3,"at":"2026-01-02T03:04:08Z"}
{"group":"a","payload":4,"at":"2026-01-03T03:04:08.5Z"}
`
	var out bytes.Buffer
	r := replay{w: &out, show: -1, tick: time.Second}
	defer r.close()
	r.add("pass", trialOf(t, "pass", "null"))
	r.add("ticker", trialOf(t, "ticker", "null"))
	if err := r.run(strings.NewReader(recording), "test"); err != nil {
		t.Fatal(err)
	}
	err := r.finish()
	if err == nil || r.ticks != 3+maxTicks+ticksAfterLast || r.differ != 3 {
		t.Errorf("%d ticks, %d differ, %v\n%s", r.ticks, r.differ, err, out.String())
	}
	for _, want := range []string{
		"3  tick at 2026-01-02T03:04:06Z\n     pass: pass\n     ticker: pass\n     ✗ 0 emitted events → 1\n",
		"4  tick at 2026-01-02T03:04:09Z\n", "4  tick at 2026-01-03T03:04:09Z\n", "ticks               1013",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}

// Differences of the settings are differences of the versions.
func TestReplayOfConfigs(t *testing.T) {
	var out bytes.Buffer
	r := replay{w: &out, show: 5}
	defer r.close()
	for i, config := range []string{`{"n":1}`, `{"n":2}`} {
		r.add(fmt.Sprint("config ", i), trialOf(t, "actor", config))
	}
	if err := r.run(strings.NewReader(`{"do":"config"}`), "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.finish(); err == nil || !strings.Contains(out.String(), "✗ n: 1 → 2\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
