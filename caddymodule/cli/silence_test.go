package cli

import (
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// silentAdmin accepts connections, reads requests and answers none. accepted reports each connection.
func silentAdmin(t *testing.T) (address string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	connections := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() { _, _ = io.Copy(io.Discard, c) }()
			connections <- struct{}{}
		}
	}()
	return l.Addr().String(), connections
}

// Commands that handle signals end while the admin API is silent, and say that it has not responded.
func TestSignalsEndCommandsOfASilentAdmin(t *testing.T) {
	for _, words := range []string{
		"tail x", "tail --plugin p", "top", "top --once", "plugin record p", "status", "drain -y --wait",
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(words+" "+sig.String(), func(t *testing.T) {
				t.Parallel()
				address, accepted := silentAdmin(t)
				cmd := program(t, append(append([]string{"edgerelay"}, strings.Fields(words)...), "--address", address)...)
				var stderr strings.Builder
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
				<-accepted
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				if !kill.Stop() {
					t.Fatalf("%v does not end %s", sig, words)
				}
				// A command without a handler ends by the signal itself.
				if code := cmd.ProcessState.ExitCode(); code != exitUnreachable && code != -1 {
					t.Errorf("exit code %d, stderr %q", code, &stderr)
				}
				if text := stderr.String(); text != "" && !strings.Contains(text, "interrupted before the response") {
					t.Errorf("stderr %q", text)
				}
			})
		}
	}
}

// The health checks of container engines give a command 3 s, so it answers earlier, with their exit code.
func TestHealthOfASilentAdmin(t *testing.T) {
	t.Parallel()
	address, _ := silentAdmin(t)
	for _, args := range [][]string{{"health"}, {"health", "--live"}} {
		began := time.Now()
		cmd := program(t, append(append([]string{"edgerelay"}, args...), "--address", address)...)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		out := runProgram(t, cmd)
		if !timer.Stop() || out.code != exitFailed || !strings.Contains(out.stderr, "no response within 2.5s; ") {
			t.Errorf("%q after %v: %+v", args, time.Since(began), out)
		}
	}
}
