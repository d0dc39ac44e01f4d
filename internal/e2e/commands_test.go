package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// run runs a command of the relay's Caddy against its admin API, and returns what it printed and its exit code.
func run(t *testing.T, r *peers.Relay, args ...string) (out string, code int) {
	t.Helper()
	args = append([]string{"edgerelay"}, args...)
	if args[1] != "doctor" || !strings.Contains(strings.Join(args, " "), "--config") {
		args = append(args, "--address", strings.TrimPrefix(r.Admin, "http://"))
	}
	cmd := r.Command(args...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

// lines returns the lines that begin so.
func lines(text, begin string) (found []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			found = append(found, line)
		}
	}
	return found
}

const commandSite = `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis %s {
			capacity 10000
		}
		auth none
		limits {
			connections 500
		}
		%s
	}
}
{$SITE} {
	edgerelay
}
`

// The commands of a site that is well, and then of one that is not, by breaking one thing after the other.
func TestCommands(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	relay := peers.StartRelay(t, fmt.Sprintf(commandSite, redis.URL, ""))
	websocket := strings.Replace(relay.URL, "http", "ws", 1) + "/websocket/"

	// tail shows what bench publishes; bench finds nothing lost.
	tail := relay.Command("edgerelay", "tail", "--json", "bench-tail", "--address",
		strings.TrimPrefix(relay.Admin, "http://"))
	shown, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tail.Process.Kill(); _ = tail.Wait() }()
	testkit.Eventually(t, "the tail stands", func() error {
		if out, _ := run(t, relay, "status", "--json"); !strings.Contains(out, `"groups":1`) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out, code := run(t, relay, "bench", "--url", websocket, "--clients", "20", "--rate", "20", "--duration", "1s",
		"--group", "bench-tail"); code != 0 || !strings.Contains(out, "p99") {
		t.Errorf("bench: %d\n%s", code, out)
	}
	var first struct {
		Source string
		Sent   time.Time
		Data   struct {
			Number int `json:"edgerelay_bench"`
		}
	}
	if err := json.NewDecoder(shown).Decode(&first); err != nil || first.Source != "layer" || first.Data.Number != 0 ||
		time.Since(first.Sent) > time.Minute {
		t.Errorf("tail: %+v, %v", first, err)
	}
	if out, code := run(t, relay, "status"); code != 0 || !strings.Contains(out, "edgerelay     ok") ||
		!strings.Contains(out, "20 opened") {
		t.Errorf("status: %d\n%s", code, out)
	}
	if out, code := run(t, relay, "top", "--once"); code != 0 || !strings.Contains(out, "TOP GROUPS") ||
		!strings.Contains(out, "bench-tail") || strings.Contains(out, "\x1b") {
		t.Errorf("top: %d\n%s", code, out)
	}
	if out, code := run(t, relay, "bench"); code == 0 || !strings.Contains(out, "--url") {
		t.Errorf("bench without an address: %d\n%s", code, out)
	}

	// doctor: all is well, through the front door, too.
	if out, code := run(t, relay, "doctor", "--url", websocket); code != 0 || len(lines(out, "ok  ")) < 9 ||
		!strings.Contains(out, "round trip") || !strings.Contains(out, "front door") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	// A warning leaves the exit code 0, a failure makes it 1.
	sick := func(what, level, want string) {
		t.Helper()
		out, code := run(t, relay, "doctor")
		wantCode := map[string]int{"WARN": 0, "FAIL": 1}[level]
		if found := strings.Join(lines(out, level), ""); code != wantCode || !strings.Contains(found, want) ||
			!strings.Contains(found, " → ") {
			t.Errorf("%s: %d, wanted %s … %s\n%s", what, code, level, want, out)
		}
	}
	redis.Do("ZADD", "shop:group:x", 1, "y")
	sick("another prefix", "WARN", `"shop"`)
	redis.Do("DEL", "shop:group:x")
	redis.Do("ZREM", "asgi:group:bench-tail", redis.Do("ZRANGE", "asgi:group:bench-tail", 0, 0).([]any)[0])
	testkit.Eventually(t, "the membership is back", func() error {
		if n := redis.Do("ZCARD", "asgi:group:bench-tail"); n != int64(1) {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	sick("a wiped membership", "WARN", "disappeared")
	redis.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	redis.Do("CONFIG", "SET", "maxmemory", "100mb")
	sick("eviction", "WARN", "evicts")
	redis.Kill()
	sick("no Redis", "FAIL", "start Redis")
	if out, code := run(t, relay, "status"); code != 1 || !strings.Contains(out, "UNHEALTHY") {
		t.Errorf("status without Redis: %d\n%s", code, out)
	}
	relay.Kill()
	if out, code := run(t, relay, "doctor"); code != 3 || !strings.Contains(out, "--config") {
		t.Errorf("doctor without the relay: %d\n%s", code, out)
	}
}

// The relay does not run: doctor looks at the Caddyfile.
func TestDoctorOfAConfig(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	relay := peers.StartRelay(t, fmt.Sprintf(commandSite, redis.URL, ""))
	relay.Kill()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	write := func(more string) {
		text := strings.NewReplacer("{$SITE}", relay.URL, "{$ADMIN}",
			strings.TrimPrefix(relay.Admin, "http://")).Replace(fmt.Sprintf(commandSite, redis.URL, more))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if out, code := run(t, relay, "doctor", "--config", file); code != 0 || !strings.Contains(out, "round trip") {
		t.Errorf("%d\n%s", code, out)
	}
	write("backplane {\nsecret x\npeers http://127.0.0.1:" + fmt.Sprint(testkit.FreePort(t)) + "\n}")
	if out, code := run(t, relay, "doctor", "--config", file); code != 1 ||
		!strings.Contains(strings.Join(lines(out, "FAIL"), ""), "cannot be reached") {
		t.Errorf("a peer that is away: %d\n%s", code, out)
	}
	write("frobnicate")
	if out, code := run(t, relay, "doctor", "--config", file); code != 1 || !strings.Contains(out, "frobnicate") {
		t.Errorf("a Caddyfile with an error: %d\n%s", code, out)
	}
}

// A process with few file descriptors, and a node whose peer has another secret.
func TestDoctorOfLimitsAndPeers(t *testing.T) {
	t.Parallel()
	other := peers.StartRelay(t,
		"{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nauth none\nbackplane {\nsecret theirs\n}\n}\n}\n{$SITE} {\nedgerelay\n}\n")
	site, admin := fmt.Sprint("127.0.0.1:", testkit.FreePort(t)), fmt.Sprint("127.0.0.1:", testkit.FreePort(t))
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\nadmin %s\npersist_config off\nedgerelay {\nauth none\nbackplane {\nsecret ours\npeers %s\n}\n}\n}\nhttp://%s {\nedgerelay\n}\n", admin, other.URL, site)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	caddy := other.Command("run", "--config", file, "--adapter", "caddyfile")
	limited := exec.Command("sh", append([]string{"-c", `ulimit -n 512 && exec "$@"`, "sh"}, caddy.Args...)...)
	limited.Env, limited.Dir = caddy.Env, dir
	process.Start(t, "relay with 512 files", limited)
	var out string
	testkit.Eventually(t, "the relay answers", func() error {
		cmd := other.Command("edgerelay", "doctor", "--address", admin)
		b, err := cmd.CombinedOutput()
		if out = string(b); !strings.Contains(out, "round trip") {
			return fmt.Errorf("%s %v", out, err)
		}
		return nil
	})
	if found := strings.Join(lines(out, "WARN"), ""); !strings.Contains(found, "the limit of 512") {
		t.Errorf("file descriptors:\n%s", out)
	}
	if found := strings.Join(lines(out, "FAIL"), ""); !strings.Contains(found, "a different secret") {
		t.Errorf("secret:\n%s", out)
	}
}

// Help and completion know the commands and their flags.
func TestCompletion(t *testing.T) {
	t.Parallel()
	relay := peers.StartRelay(t,
		"{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nauth none\n}\n}\n{$SITE} {\nedgerelay\n}\n")
	complete := func(args ...string) string {
		t.Helper()
		out, err := relay.Command(append([]string{"__complete"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, name := range []string{"status", "top", "tail", "publish", "doctor", "bench", "plugin"} {
		if !strings.Contains(complete("edgerelay", ""), "\n"+name+"\t") &&
			!strings.HasPrefix(complete("edgerelay", ""), name+"\t") {
			t.Errorf("completion does not know %s", name)
		}
		if name != "plugin" && !strings.Contains(complete("edgerelay", name, "--"), "--address\t") {
			t.Errorf("completion does not know the flags of %s", name)
		}
		if out, err := relay.Command("edgerelay", name, "--help").CombinedOutput(); err != nil ||
			!strings.Contains(string(out), "Usage:") {
			t.Errorf("%s --help: %v\n%s", name, err, out)
		}
	}
}
