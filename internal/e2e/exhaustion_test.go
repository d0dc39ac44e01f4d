package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A relay with few file descriptors refuses whom it has none for, and goes on serving the others: it still reaches a
// Redis that comes back, takes a new configuration and answers HTTP.
func TestFewFileDescriptors(t *testing.T) {
	t.Parallel()
	const files = 256
	redis := peers.StartRedis(t)
	r := peers.StartRelayUnder(t, openSite(redis.URL, ""), "prlimit", fmt.Sprintf("--nofile=%d:%d", files, files))
	room := files - 64
	all, _ := spectators(t, r.URL, "jobs-summary", room)
	for range 20 {
		raw, err := wstest.DialRaw(r.URL+"/websocket/", "csrftoken=t")
		var refused wstest.RefusedError
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter == "" {
			if err == nil {
				raw.Close()
			}
			t.Fatalf("a client for which there is no file descriptor: %v, want 503 with Retry-After", err)
		}
	}
	for _, want := range []string{"file descriptors limit connections", "raise LimitNOFILE="} {
		if !strings.Contains(r.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}

	// Whoever only keeps connections open takes descriptors, too, here the last ones. When clients go, room for others is
	// smaller.
	var idle []net.Conn
	for range 60 {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	for _, s := range all[:40] {
		s.raw.Close()
	}
	testkit.Eventually(t, "who comes when nearly all descriptors are in use is refused", func() error {
		raw, err := wstest.DialRaw(r.URL+"/websocket/", "csrftoken=t")
		var refused wstest.RefusedError
		if errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable {
			return nil
		}
		if err == nil {
			idle = append(idle, raw.Conn)
		}
		return fmt.Errorf("%v", err)
	})

	redis.Kill()
	redis.Restart()
	emitter := peers.StartEmitter(t, redis.URL)
	testkit.Eventually(t, "an event reaches those who were there", func() error {
		emitter.Send(peers.Event{Group: "jobs-summary", Text: `"x"`})
		for i, s := range all[40:] {
			if s.events.Load() == 0 {
				return fmt.Errorf("client %d has none", i)
			}
		}
		return nil
	})
	if err := r.Load(openSite(redis.URL, "drain 1s")); err != nil {
		t.Errorf("a reload: %v", err)
	}
}

// A relay that comes near its memory limit lets go of the slowest readers and serves the others.
func TestMemoryRunsShort(t *testing.T) {
	t.Parallel()
	const limit = 160 << 20
	r := peers.StartRelayUnder(t, strings.Replace(openSite("", "limits {\nqueue_per_connection 64MiB\n}"),
		"channel_layer redis {\n\t\t\turl \n\t\t\tcapacity 10000\n\t\t\tgroup_expiry 157784760s\n\t\t}",
		"channel_layer memory", 1),
		"env", fmt.Sprintf("GOMEMLIMIT=%d", limit))
	good, _ := spectators(t, r.URL, "jobs-summary", 20)
	var slow []*wstest.Raw
	for i := range 12 { // each has a group, and so buffers, of its own
		raw, err := wstest.DialRaw(r.URL+"/websocket/", "csrftoken=t")
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if err := raw.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if err := raw.Subscribe("t", fmt.Sprint("job_events-", i)); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, raw)
	}
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	rounds, most := 0, 0
	for ; rounds < 60 && !strings.Contains(r.Log(), "slow consumers disconnected"); rounds++ {
		for i := range slow {
			if i >= 2 || rounds%8 == 0 { // two of them are hardly behind
				publishHTTP(t, r, fmt.Sprint("job_events-", i), big)
			}
		}
		publishHTTP(t, r, "jobs-summary", fmt.Sprint(rounds))
		most = max(most, resident(t, r))
	}
	if !strings.Contains(r.Log(), "slow consumers disconnected") {
		t.Fatalf("no client was evicted after %d rounds; %d MiB resident", rounds, most>>20)
	}
	if most > limit+limit/2 { // the program itself is not in the limit
		t.Errorf("%d MiB were resident, with a limit of %d", most>>20, limit>>20)
	}
	testkit.Eventually(t, "the others have all events", func() error {
		for i, s := range good {
			if n := int(s.events.Load()); n != rounds {
				return fmt.Errorf("client %d has %d of %d", i, n, rounds)
			}
		}
		return nil
	})
	// The clients cannot tell: with buffers as small as theirs they would read for minutes until they come to the close
	// frame.
	closed := 0
	if _, rest, ok := strings.Cut(fetch(t, r.Admin+"/metrics"),
		`edgerelay_connections_ended_total{reason="memory"} `); ok {
		_, _ = fmt.Sscan(rest, &closed)
	}
	if closed == 0 || closed > 10 { // two are hardly behind
		t.Errorf("the metrics count %d readers that were let go", closed)
	}
	t.Logf("%d of 12 slow readers were closed after %d rounds of up to 12 MiB, at most %d MiB were resident, with GOMEMLIMIT at %d MiB", closed, rounds, most>>20, limit>>20)
}

// resident is how many bytes of memory a relay takes.
func resident(t *testing.T, r *peers.Relay) (bytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprint("/proc/", r.PID(), "/status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscanf(rest, "%d kB", &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}

// The disk is full: plugins load and run, and say that they are not kept; a deployment that cannot be stored is
// refused, and the module before goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("limit", func(t *testing.T) {
		t.Parallel()
		fullDisk(t, t.TempDir(), "file too large", "prlimit", "--fsize=32768")
	})
	// A file system of 64 KiB in a mount namespace of the relay's own, in place of its data and storage. Within a chroot,
	// and in many containers, the kernel grants no process such a namespace; the limit has to do there.
	if err := exec.Command("unshare", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Logf("no mount namespace, so no file system that is full: %v", err)
		return
	}
	t.Run("file system", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		fullDisk(t, dir, "no space left on device", "unshare", "--map-root-user", "--mount", "sh", "-c",
			`mkdir -p "$HOME/caddy" && mount -t tmpfs -o size=64k tmpfs "$HOME/caddy" && mount -t tmpfs -o size=64k tmpfs "`+dir+`" && exec "$@"`, "sh")
	})
}

// fullDisk starts a relay with its storage in dir by a command that leaves little room for files.
func fullDisk(t *testing.T, dir, reason string, under ...string) {
	wasm := filepath.Join(peers.Root(t), "examples", "plugins", "quiet", "plugin.wasm")
	redis := peers.StartRedis(t)
	site := openSite(redis.URL, "plugin quiet "+wasm+" {\ngroups job_events-*\n}")
	site = strings.Replace(site, "skip_install_trust",
		"skip_install_trust\n\tpersist_config off\n\tstorage file_system "+dir, 1)
	r := peers.StartRelayUnder(t, site, under...)
	if !strings.Contains(r.Log(), "compiled plugin not cached on disk") {
		t.Error("the log does not say that the compiled plugin is not kept")
	}
	c, _ := spectators(t, r.URL, "job_events-1", 1)
	filtered := func(n int64) {
		t.Helper()
		publishHTTP(t, r, "job_events-1", `{"event": "runner_on_ok", "changed": false}`)
		publishHTTP(t, r, "job_events-1", `{"event": "runner_on_failed"}`)
		testkit.Eventually(t, "the event that the plugin passes", func() error {
			if got := c[0].events.Load(); got != n {
				return fmt.Errorf("%d events", got)
			}
			return nil
		})
	}
	filtered(1)
	module, err := os.ReadFile(wasm)
	if err != nil {
		t.Fatal(err)
	}
	other := append(append(module, 0, 0x83, 0x80, 8, 1, 'n'), make([]byte, 128<<10+1)...) // a custom section that does not fit
	for range 2 {
		status, answer := call(t, http.MethodPut, r.Admin+"/edgerelay/plugins/quiet", other)
		if status != http.StatusInsufficientStorage || !strings.Contains(answer, reason) ||
			!strings.Contains(answer, "the running module stays") {
			t.Errorf("a deployment that cannot be stored: %d %s", status, answer)
		}
	}
	filtered(2)
	if err := r.Load(strings.Replace(site, "respond ok", "respond fine", 1)); err != nil {
		t.Errorf("a reload: %v", err)
	}
	filtered(3)
}
