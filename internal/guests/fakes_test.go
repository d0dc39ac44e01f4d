package guests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// try starts a probe on the real host.
func try(t testing.TB, wasm []byte) *plugins.Trial {
	t.Helper()
	trial, err := plugins.Try(t.Context(), options(newClock()), probeSpec(wasm))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trial.Close)
	return trial
}

// record returns lines of samples with the results of the probe in C on the real host: every function of the ABI, the
// search in JSON, and edits.
func record(t *testing.T) string {
	t.Helper()
	trial := try(t, probe(t, "c"))
	var lines strings.Builder
	write := func(s plugins.Sample) {
		line, err := json.Marshal(answered(&s, trial.Run(&s)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s\n", line)
	}
	event := func(ev plugins.Event) {
		text := string(ev.Payload)
		write(plugins.Sample{
			Group: ev.Group, Text: &text, Source: ev.Source, Sent: ev.Sent, Position: ev.Position.String(),
		})
	}
	for _, c := range probeCases {
		event(plugins.Event{Group: "job_events-42", Payload: []byte(c.payload)})
	}
	for _, c := range editCases(t) {
		if ev, _ := c.event(); !strings.Contains(ev.Source, "\x00") { // a source is a string in C
			event(ev)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		ev := randomEdits(r)
		event(ev)
		for _, do := range []string{"text", "find", "has"} {
			path, _ := json.Marshal(editNames[r.IntN(len(editNames))])
			ev.Group, ev.Payload = "g", fmt.Appendf(nil, `{"do":%q,"path":"x.%s,"x":%s}`, do, path[1:], ev.Payload)
			event(ev)
		}
	}
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"source"}`), Source: "redis"})
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"source"}`)})
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"sent"}`), Sent: time.UnixMilli(1767323045123)})
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"sent"}`)})
	for _, source := range []string{"", "layer", "history", "history2"} {
		event(plugins.Event{Group: "g", Payload: []byte(`{"do":"replay"}`), Source: source})
	}
	for _, part := range []uint16{0, 3} {
		position := plugins.Position{Micros: 1_767_323_045_123_456, Mark: 7, Part: part}
		event(plugins.Event{Group: "g", Payload: []byte(`{"do":"position"}`), Position: position})
	}
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"position"}`)})
	for _, at := range positions {
		event(plugins.Event{Group: "g", Payload: fmt.Appendf(nil, `{"do":"emit_at","with":"x","at":%q}`, at)})
		event(plugins.Event{Group: "g", Payload: fmt.Appendf(nil, `{"do":"emit_at","to":"h","with":"x","at":%q}`, at)})
	}
	event(plugins.Event{Group: "g", Payload: []byte(`{"do":"emit_at","to":"a b","with":"x"}`)})
	for _, user := range []string{`{"do":"deny"}`, `{"do":"reason"}`, `{"do":"class"}`, `null`} {
		write(plugins.Sample{Hook: plugins.OnSubscribe, Group: "job_events-42", User: json.RawMessage(user)})
	}
	for class := range uint8(4) {
		write(plugins.Sample{Group: "job_events-42", Payload: json.RawMessage(`{"x":"é"}`), Class: &class})
	}
	// The store: a value expires, and a full store refuses.
	later := time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC)
	for i, payload := range []string{
		`{"do":"kv_set","key":"k","value":"v"}`, `{"do":"kv_get","key":"k"}`,
		`{"do":"kv_set","key":"k","value":"` + strings.Repeat("v", 40000) + `"}`,
		`{"do":"count","name":"` + strings.Repeat("n", 64) + `"}`, `{"do":"count","name":"` + strings.Repeat("n", 65) + `"}`,
	} {
		event(plugins.Event{Group: "g", Payload: []byte(payload)})
		if i == 0 {
			write(plugins.Sample{Group: "g", Payload: json.RawMessage(`{"do":"kv_get","key":"k"}`), Clock: later})
		}
	}
	lines.WriteString(tickSamples)
	return lines.String()
}

// positions are tokens of positions, and texts that are none.
var positions = []string{
	"", "AAZFrsAAAAAAAAAAAAAABw", "AAZFrsAAAAAAAAAAAAAABwAD", "_________-AAAAAAAAAABw", "AAZFrsAAAAAAAAAAAAAABwAA",
	"AAZFrsAAAAAAAAAAAAAABx", "AAZFrsAAAAAAAAAAAAAABxAA", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAA",
	"AAAAAAAAAAAAAAAAAAAAAAAB", "AAZFrsAAAAAAAAAAAAAAB", "AAZFrsAAAAAAAAAAAAAABw==", "AAZFrs+AAAAAAAAAAAAABw", "latest",
	"AAZFrsAAAAAAAAAAAAAABwA", "é_________-AAAAAAAAABw",
}

// tickSamples are the samples of ev_on_tick.
const tickSamples = `{"hook":"on_tick","verdict":"pass","emits":[]}
{"group":"g","payload":{"do":"kv_set","key":"tick","value":"{\"n\":1}"},"verdict":"replace","output_text":"yes"}
{"hook":"on_tick","verdict":"pass","emits":[{"group":"ticks","text":"{\"n\":1}","audience":-1}]}
{"group":"g","payload":{"do":"kv_set","key":"tick","value":"error"},"verdict":"replace","output_text":"yes"}
{"hook":"on_tick","verdict":"error","reason":"it was asked for"}
`

// answered returns a sample as a line of a file, with the result as the expectation.
func answered(s *plugins.Sample, tr plugins.Trace) map[string]any {
	line := map[string]any{"group": s.Group, "verdict": tr.Verdict.String()}
	if s.Text != nil {
		line["text"] = *s.Text
	}
	if s.Payload != nil {
		line["payload"] = s.Payload
	}
	if s.Source != "" {
		line["source"] = s.Source
	}
	if s.Position != "" {
		line["position"] = s.Position
	}
	if !s.Sent.IsZero() {
		line["sent"] = s.Sent.UnixMilli()
	}
	if !s.Clock.IsZero() {
		line["clock"] = s.Clock
	}
	if s.Class != nil {
		line["class"] = *s.Class
	}
	if tr.Verdict == plugins.Failed {
		_, why, _ := strings.Cut(tr.Err.Error(), "the plugin reported an error: ")
		line["verdict"], line["reason"] = "error", why
		return line
	}
	if s.Hook == plugins.OnSubscribe {
		line["user"], line["reason"] = s.User, tr.Reason
		if tr.Verdict == plugins.Allow {
			line["want_class"] = tr.Class
		}
		return line
	}
	outputs := tr.Outputs
	if tr.Verdict != plugins.Drop {
		if tr.Verdict == plugins.Replace {
			line["output_text"] = string(outputs[0].Payload)
		}
		if s.Class == nil {
			line["audience"] = fmt.Sprintf("%#x", outputs[0].Audience)
		}
		outputs = outputs[1:]
	}
	if s.Class == nil {
		emits := []any{}
		for _, e := range outputs {
			mask := fmt.Sprintf("%#x", e.Audience)
			emits = append(emits, map[string]any{
				"group": e.Group, "text": string(e.Payload), "audience": mask, "position": e.Position.String(),
			})
		}
		line["emits"] = emits
	}
	return line
}

// TestFakeHosts: the hosts for unit tests give plugins the same results as the real host.
func TestFakeHosts(t *testing.T) {
	dir := t.TempDir()
	samples := filepath.Join(dir, "samples.ndjson")
	if err := os.WriteFile(samples, []byte(record(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	config := string(probeSpec(nil).Config)
	for _, language := range probes {
		t.Run("the real host with a probe in "+language, func(t *testing.T) {
			trial := try(t, probe(t, language))
			for i, s := range Samples(t, samples) {
				tr := trial.Run(&s)
				if err := s.Compare(&tr); err != nil {
					t.Errorf("line %d: %v", i+1, err)
				}
			}
		})
	}
	t.Run("c", func(t *testing.T) {
		const test = "#include \"edgerelay_test.h\"\nEV_TEST(samples) { ev_relay.config = %s; ev_test_samples(%s); }\n"
		runC(t, "", filepath.Join("testdata", "probe.c"), fmt.Sprintf(test, cString(config), cString(samples)))
	})
	samplesEnv := append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "SAMPLES="+samples, "CONFIG="+config)
	t.Run("go", func(t *testing.T) {
		cmd := exec.Command("go", "test", "-count=1", "./probe-go")
		cmd.Dir, cmd.Env = "testdata", samplesEnv
		Run(t, cmd)
	})
	t.Run("rust", func(t *testing.T) {
		cmd := exec.Command(rustTest(t, filepath.Join("testdata", "probe.rs")))
		cmd.Env = samplesEnv
		Run(t, cmd)
	})
	for _, language := range []string{"c", "rs", "ts"} { // the host in JavaScript has no WASI, which Go needs
		t.Run("javascript with a probe in "+language, func(t *testing.T) {
			wasm := filepath.Join(dir, language+".wasm")
			if err := os.WriteFile(wasm, probe(t, language), 0o600); err != nil {
				t.Fatal(err)
			}
			host, err := filepath.Abs(filepath.Join(Root, "sdk", "assemblyscript", "testing", "index.js"))
			if err != nil {
				t.Fatal(err)
			}
			const text = "import { Host } from %q;\nnew Host(%q, { config: %q }).samples(%q);\n"
			script := fmt.Sprintf(text, host, wasm, config, samples)
			cmd := exec.Command("node", "--input-type=module")
			cmd.Stdin = strings.NewReader(script)
			Run(t, cmd)
		})
	}
}

// rustTest compiles a plugin with its unit tests for this machine and returns the program.
func rustTest(t *testing.T, plugin string) string {
	t.Helper()
	dir := t.TempDir()
	sdk, program := filepath.Join(dir, "libedgerelay.rlib"), filepath.Join(dir, "test")
	rustc := func(args ...string) {
		cmd := exec.Command("rustc", append([]string{"--edition", "2021", "-D", "warnings"}, args...)...)
		Run(t, cmd)
	}
	rustc("--crate-type", "rlib", "--crate-name", "edgerelay", "-o", sdk, filepath.Join(Root, "sdk", "rust", "src", "lib.rs"))
	rustc("--test", "--crate-name", "plugin", "--extern", "edgerelay="+sdk, "-o", program, plugin)
	return program
}

// TestTestingPackage runs the unit tests of the npm package.
func TestTestingPackage(t *testing.T) {
	dir := filepath.Join(Root, "sdk", "assemblyscript")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil { // as scripts/build-plugins.sh does
		install := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
		install.Dir = dir
		Run(t, install)
	}
	cmd := exec.Command("npm", "test")
	cmd.Dir = dir
	Run(t, cmd)
}

// cString writes a text as a string literal in C.
func cString(s string) string {
	var b bytes.Buffer
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return `"` + b.String() + `"`
}

// runC compiles a plugin with a test for this machine, with sanitizers, and runs the test in a folder.
func runC(t *testing.T, folder, plugin, test string) {
	t.Helper()
	dir := t.TempDir()
	file, program := filepath.Join(dir, "test.c"), filepath.Join(dir, "test")
	if err := os.WriteFile(file, []byte(test), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-std=c99", "-DEDGERELAY_TEST", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined",
		"-fno-sanitize-recover=all", "-I" + filepath.Join(Root, "sdk", "c"), "-o", program,
	}
	if plugin != "" {
		args = append(args, plugin)
	}
	Run(t, exec.Command("cc", append(args, file)...))
	cmd := exec.Command(program)
	cmd.Dir = folder
	Run(t, cmd)
}

// TestExamplesInTheirLanguage runs the unit tests of the examples in AssemblyScript and C.
func TestExamplesInTheirLanguage(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(Root, "examples", "*", "*", "*.test.mjs"))
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	Run(t, exec.Command("node", append([]string{"--test"}, scripts...)...))
	programs, err := filepath.Glob(filepath.Join(Root, "examples", "plugins", "*", "*_test.c"))
	if err != nil || len(programs) == 0 {
		t.Fatal(programs, err)
	}
	for _, program := range programs {
		dir, err := filepath.Abs(filepath.Dir(program))
		if err != nil {
			t.Fatal(err)
		}
		test := fmt.Sprintf("#include %q\n", filepath.Join(dir, filepath.Base(program)))
		runC(t, dir, filepath.Join(dir, "plugin.c"), test)
	}
}

// TestCHeader runs the header's own tests: shared and random edits in buffers of exact size, and conversations.
func TestCHeader(t *testing.T) {
	root, err := filepath.Abs(filepath.Join(Root, "sdk"))
	if err != nil {
		t.Fatal(err)
	}
	testdata := func(name string) string { return cString(filepath.Join(root, "testdata", name)) }
	runC(t, "", "", fmt.Sprintf("#define EDITS %s\n#define PATHS %s\n#define ROUNDS 20000\n#include %q\n",
		testdata("edits.ndjson"), testdata("jsonpath.ndjson"), filepath.Join(root, "c", "test", "edits_test.c")))
	runC(t, "", "", fmt.Sprintf("#include %q\n", filepath.Join(root, "c", "test", "function_test.c")))
}
