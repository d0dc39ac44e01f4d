package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/guests"
)

// examplePath returns the path of a file of an example plugin.
func examplePath(t testing.TB, name, file string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(guests.Root, "examples", "plugins", name, file))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A running relay's traffic is recorded before plugins, and a plugin and its next version are tried on it.
func TestRecordAndReplay(t *testing.T) {
	t.Parallel()
	redact := examplePath(t, "redact-c", "plugin.wasm")
	r := peers.StartRelay(t, strings.Replace(memorySite, "auth none\n",
		"auth none\n"+plugin("redact", redact, "groups job_events-*")+"\n", 1))
	file := filepath.Join(t.TempDir(), "traffic.ndjson")
	record := r.Command("edgerelay", "tail", "--plugin", "redact", "jobs-*", "--record", file, "--count", "4",
		"--address", strings.TrimPrefix(r.Admin, "http://"))
	messages, err := record.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := record.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = record.Process.Kill() }()
	lines := bufio.NewReader(messages)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "with all secrets in them") {
		t.Fatalf("%q, %v", line, err)
	}
	// A pattern records the groups that the node has joined.
	client := subscriber(t, r.URL, peers.Login{Session: "s", CSRF: "t"}, "jobs-1", "job_events-1")
	for _, text := range []string{`{"stdout":"password=hunter2"}`, `{"n":1}`, `"plain\ntext"`} {
		publishHTTP(t, r, "job_events-1", text)
	}
	expect(t, client, `{"stdout":"password=********"}`, `{"n":1}`, `"plain\ntext"`)
	publishHTTP(t, r, "jobs-1", `{"n":2}`) // of a group without plugins, which does not wait for others
	expect(t, client, `{"n":2}`)
	const sum = "4 events recorded, 0 missed because they arrived too fast\n"
	if line, err := lines.ReadString('\n'); err != nil || line != sum {
		t.Errorf("%q, %v", line, err)
	}
	if err := record.Wait(); err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"group":"job_events-1","payload":{"stdout":"password=hunter2"},"source":"layer","sent":"`,
		`{"group":"jobs-1","payload":{"n":2},`,
	} {
		if !strings.Contains(string(recorded), want) {
			t.Errorf("the recording lacks %s:\n%s", want, recorded)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the recording has mode %v, %v", info.Mode(), err)
	}

	run := func(code int, wants []string, args ...string) {
		t.Helper()
		cmd := r.Command(append([]string{"edgerelay", "plugin"}, args...)...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code {
			t.Errorf("%q: exit code %d, want %d\n%s", args, cmd.ProcessState.ExitCode(), code, out)
		}
		for _, want := range wants {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q: the output lacks %q:\n%s", args, want, out)
			}
		}
	}
	run(0, []string{"replace  job_events-1  fuel", "password=********", "4 samples, 0 wrong"}, "test", redact, file)
	run(0, []string{"4 events", "replace             1\n", "pass                3\n", "slowest"}, "replay", redact, file)
	run(0, []string{"0 events differ"}, "replay", redact, file, "--against", redact)
	run(1, []string{"stdout: \"password=hunter2\" → \"password=********\"", "1 of 4 events differ"},
		"replay", redact, file, "--against", redact, "--against-config", `{"words": ["pin"]}`)
}

// The golden samples of the examples hold for the command that the documentation names.
func TestPluginTestOnExamples(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	for _, c := range []struct{ name, config string }{
		{"redact-c", ""},
		{"quiet", ""},
		{"enrich", `{"site": "https://awx.example.com/"}`},
		{"alerts", ""},
		{"coalesce", `{"per_second": 2}`},
		{"absence", `{"seconds": 60}`},
	} {
		words := []string{
			"edgerelay", "plugin", "test", examplePath(t, c.name, "plugin.wasm"), examplePath(t, c.name, "events.ndjson"),
		}
		if c.config != "" {
			words = append(words, "--config", c.config)
		}
		cmd := r.Command(words...)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), " samples, 0 wrong; ") {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
	wasm := filepath.Join(t.TempDir(), "audience.wasm")
	write(t, wasm, guests.BuildGo(t, filepath.Join(guests.Root, "examples", "plugins", "audience")))
	cmd := r.Command("edgerelay", "plugin", "test", wasm, examplePath(t, "audience", "classes.ndjson"),
		"--config", `{"privileged": ["alice"], "strip": ["stdout", "event_data.res"]}`)
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"replace  on_class class 0  job_events-42", "allow    on_subscribe  job_events-42  class 1"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("audience: %v, the output lacks %q\n%s", err, want, out)
		}
	}
}
