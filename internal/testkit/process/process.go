// Package process starts programs for tests, waits until a program is ready, and ends all programs with the test.
package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Process is a running program of one test. Several goroutines may call its methods.
type Process struct {
	// Name is the name in messages.
	Name string

	cmd  *exec.Cmd
	log  logBuffer
	done chan struct{}
	err  error // of Wait; read after done is closed
}

// Start starts cmd. A failed test prints its standard error, and its standard output unless cmd.Stdout is set. The end
// of the test kills the process.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.log
	}
	cmd.Stderr = &p.log
	// A grandchild that holds the pipes must not hold up the test.
	cmd.WaitDelay = time.Second
	dieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- what %s (pid %d) wrote:\n%s", name, cmd.Process.Pid, p.Log())
		}
	})
	return p
}

// Log returns the output of the process so far. Of a long output it returns the head and the tail.
func (p *Process) Log() string { return p.log.String() }

// Logf adds a line to the output of the process.
func (p *Process) Logf(format string, args ...any) { fmt.Fprintf(&p.log, format+"\n", args...) }

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process, if still running.
func (p *Process) Signal(sig os.Signal) {
	// The only possible error: the process has ended.
	_ = p.cmd.Process.Signal(sig)
}

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop ends the process with SIGTERM and returns the error of its end, such as an exit status. The test ends if the
// process still runs after the limit.
func (p *Process) Stop(t testing.TB, limit time.Duration) error {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(testkit.Scale(limit))
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		t.Fatalf("%s (pid %d) still runs %v after SIGTERM", p.Name, p.PID(), limit)
		return nil
	}
}

// Ready waits until check returns nil. The test ends if the process ends first or [testkit.Patience] is over.
func (p *Process) Ready(t testing.TB, check func() error) {
	t.Helper()
	err := testkit.Poll(testkit.Patience, p.done, check)
	if err == nil {
		return
	}
	select {
	case <-p.done:
		t.Fatalf("%s ended before it was ready: %v; install missing packages: %s\n%s", p.Name, p.err, Install, p.Log())
	default:
		t.Fatalf("%s is not ready after %v: %v", p.Name, testkit.Patience, err)
	}
}

// Parts kept of a long log, in bytes.
const (
	logHead = 64 << 10
	logTail = 128 << 10
)

// logBuffer keeps the head and the tail of the bytes written.
type logBuffer struct {
	mu      sync.Mutex
	head    bytes.Buffer
	tail    []byte
	dropped int
}

var _ io.Writer = (*logBuffer)(nil)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(p)
	if room := logHead - b.head.Len(); room > 0 {
		take := min(room, len(p))
		b.head.Write(p[:take])
		p = p[take:]
	}
	b.tail = append(b.tail, p...)
	if over := len(b.tail) - logTail; over > logTail {
		b.tail = append([]byte(nil), b.tail[over:]...)
		b.dropped += over
	}
	return n, nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dropped == 0 {
		return b.head.String() + string(b.tail)
	}
	return fmt.Sprintf("%s\n... %d bytes left out ...\n%s", b.head.String(), b.dropped, b.tail)
}
