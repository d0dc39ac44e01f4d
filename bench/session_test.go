//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// TestMain lets the test binary be what the harness starts of itself: a receiver or a bare loop.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "receive" || os.Args[1] == "bare" || os.Args[1] == "nodes") {
		if err := dispatch(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestSessionOfTheBareLoop plays whole sessions, plain and TLS, with real processes.
func TestSessionOfTheBareLoop(t *testing.T) {
	p := &plan{systems: []string{"bare"}, sizes: []int{300, 2048}, work: 0.02, paced: true, fifty: true, seconds: 0.3}
	for _, tls := range []bool{false, true} {
		s := &session{sys: systems()[0], sessionKey: sessionKey{clients: 100, tls: tls}, plan: p}
		if err := s.play(context.Background()); err != nil {
			t.Fatal(err)
		}
		if len(s.rows) != 6 {
			t.Fatalf("%d rows, want connect, burst, burst of 50, paced, burst, paced", len(s.rows))
		}
		for _, r := range s.rows[1:] {
			if r.failed() || r.Skip != "" || r.Deliveries != int64(r.Events*r.Clients) || r.CPUPerM <= 0 ||
				r.PerSecond <= 0 || r.P99 < r.P50 || r.P50 <= 0 {
				t.Errorf("TLS %v: %+v", tls, r)
			}
		}
		if r := s.rows[0]; r.Kind != kindConnect || r.ConnectCPU <= 0 {
			t.Errorf("TLS %v: %+v", tls, r)
		}
		if _, err := os.Stat(s.setup.dir); !os.IsNotExist(err) {
			t.Errorf("the session's directory is left behind: %v", err)
		}
	}
}

// TestSessionTellsAFault has a server that loses an event: the row has no figures but a reason.
func TestSessionTellsAFault(t *testing.T) {
	lossy := *systems()[0]
	start := lossy.start
	lossy.start = func(ctx context.Context, s setup) (*running, error) {
		r, err := start(ctx, s)
		if err == nil {
			r.emit = &losing{r.emit}
		}
		return r, err
	}
	s := &session{sys: &lossy, sessionKey: sessionKey{clients: 10}, plan: &plan{sizes: []int{300}, work: 0.001}}
	if s.play(context.Background()) == nil {
		t.Fatal("a lost event passes")
	}
	last := s.rows[len(s.rows)-1]
	if !last.failed() || last.Lost != 10 || last.PerSecond != 0 {
		t.Errorf("%+v", last)
	}
}

// losing skips the second event of a burst.
type losing struct{ emitter }

func (l *losing) burst(s *source, n int) error {
	if err := l.emitter.burst(s, 1); err != nil {
		return err
	}
	s.event()
	return l.emitter.burst(s, n-2)
}

// TestTooFewFiles asks for more clients than any process may hold: the row says so and nothing is started.
func TestTooFewFiles(t *testing.T) {
	files, err := maxFiles()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{sys: systems()[0], sessionKey: sessionKey{clients: files}, plan: &plan{}}
	s.account(s.play(context.Background()))
	if len(s.rows) != 1 || s.rows[0].Skip == "" || s.rows[0].failed() {
		t.Errorf("%+v", s.rows)
	}
}
