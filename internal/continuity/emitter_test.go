package continuity

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/oracle"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// emitter publishes events of the real channels_redis from a Python process.
type emitter struct {
	*process.Process
	stdin    io.Closer
	reported chan struct{} // closed after the last report
}

// startEmitter starts an emitter whose clock is ahead by a time, and reports its events to the oracle.
func startEmitter(
	t *testing.T, o *oracle.Oracle, redisURL, name string, groups int, rate float64, ahead time.Duration,
) *emitter {
	t.Helper()
	script := filepath.Join(peers.Root(t), "internal", "continuity", "testdata", "emitter.py")
	cmd := exec.Command(process.Program(t, "faketime"), "-f", fmt.Sprintf("%+.3fs", ahead.Seconds()),
		"/usr/bin/python3", "-B", script, redisURL, name, strconv.Itoa(groups), fmt.Sprint(rate))
	cmd.Env = append(cmd.Environ(), "FAKETIME_DONT_FAKE_MONOTONIC=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, lines := io.Pipe()
	cmd.Stdout = lines
	e := &emitter{stdin: stdin, reported: make(chan struct{})}
	e.Process = process.Start(t, "emitter "+name, cmd)
	go func() {
		<-e.Done()
		_ = lines.Close()
	}()
	go func() {
		defer close(e.reported)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			var group, n int
			var result string
			if _, err := fmt.Sscan(s.Text(), &group, &n, &result); err != nil {
				o.Complain("emitter %s wrote %q", name, s.Text())
				continue
			}
			o.Published(name, group, n, result == "ok")
		}
	}()
	return e
}

// end stops the emitter and waits for its last report.
func (e *emitter) end(t *testing.T) {
	t.Helper()
	_ = e.stdin.Close()
	select {
	case <-e.reported:
	case <-time.After(testkit.Scale(30 * time.Second)):
		t.Fatalf("%s does not end", e.Name)
	}
}
