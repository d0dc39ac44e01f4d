package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// connectSuite has clients connect to the function f, whose on_connect fails for the query "fail".
type connectSuite struct {
	t   testing.TB
	p   *Pipeline
	now atomic.Int64
}

func newConnectSuite(t testing.TB, change func(*Spec)) *connectSuite {
	s := &connectSuite{t: t}
	spec := functionSpec(t)
	spec.MaxFailures, spec.Cooldown = 3, 5*time.Second
	if change != nil {
		change(&spec)
	}
	s.p = pipeline(t, Options{Now: func() time.Time { return time.Unix(1_700_000_000, s.now.Load()) }}, spec)
	return s
}

// connect connects a client.
func (s *connectSuite) connect(query, user, address string) error {
	request := fmt.Sprintf(`{"path":"/ws/","query":%q,"user_key":%q,"address":%q,"params":{"room":"room_1"}}`,
		query, user, address)
	_, _, err := s.p.Connect(context.Background(), "f", NewConnectionID(), []byte(request))
	return err
}

// fail connects a client for whom on_connect is to be called, and to fail.
func (s *connectSuite) fail(user, address string) {
	s.t.Helper()
	var failed *Failure
	if err := s.connect("fail", user, address); !errors.As(err, &failed) {
		s.t.Errorf("client %s of %s: %v, want a failed call", user, address, err)
	}
}

// suspended connects a client whom the breaker must refuse, and returns after how long it may retry.
func (s *connectSuite) suspended() time.Duration {
	s.t.Helper()
	var e *SuspendedError
	if err := s.connect("", "u", ""); !errors.As(err, &e) {
		s.t.Fatalf("%v, want a client refused without a call", err)
	}
	return e.RetryAfter
}

func (s *connectSuite) accepted() {
	s.t.Helper()
	if err := s.connect("", "u", ""); err != nil {
		s.t.Error(err)
	}
}

func TestFunctionThatAlwaysFailsRefusesClients(t *testing.T) {
	s := newConnectSuite(t, nil)
	for i := range 3 {
		s.fail(fmt.Sprint("user", i), "192.0.2.1")
	}
	calls := s.p.Health()[0].Calls
	if wait := s.suspended(); wait != 5*time.Second {
		t.Errorf("retry after %v, want the cooldown", wait)
	}
	h := s.p.Health()[0]
	if h.Calls != calls || h.CallsSkipped != 1 || h.Breaker != "open" || h.OpenBreakers[0].Hook != "on_connect" {
		t.Errorf("after failures for three users: %+v", h)
	}
	s.now.Add(int64(5 * time.Second))
	s.fail("user9", "") // the trial
	if wait := s.suspended(); wait != 5*time.Second {
		t.Errorf("after a failed trial, retry after %v", wait)
	}
	s.now.Add(int64(5 * time.Second))
	s.accepted()
	s.accepted()
	if h := s.p.Health()[0]; h.Breaker != "closed" {
		t.Errorf("after a successful trial: %+v", h)
	}
	var lines []string
	log, _ := s.p.Logs("f")
	for _, l := range log {
		lines = append(lines, l.Text)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"circuit breaker open for on_connect, of all clients", "circuit breaker closed for on_connect"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is not once in the log:\n%s", want, text)
		}
	}
}

// A client who makes the function fail must not suspend it for others.
func TestFailingClientDoesNotSuspendOthers(t *testing.T) {
	s := newConnectSuite(t, nil)
	for range 20 {
		for range 3 {
			s.fail("hostile", "192.0.2.1")
		}
		s.accepted()
	}
	for range 2 {
		s.fail("", "192.0.2.1") // without a user, the address counts
		s.fail("", "192.0.2.2")
	}
	s.accepted()
	for i := range 4 { // a client has a whole network of IPv6 addresses
		s.fail("", fmt.Sprintf("2001:db8:0:1::%x", i))
	}
	s.accepted()
	for range 12 { // no other client succeeds meanwhile
		s.fail("hostile", "192.0.2.1")
	}
	s.suspended()
}

// A half-open breaker has one call at a time, also if that call is given up.
func TestTrialOfOnConnect(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := connectBreaker{limits: breakerLimits{1, time.Second}, now: func() time.Time { return now }}
	b.report(callFailed, 1)
	now = now.Add(time.Second)
	if err := b.allow(); err != nil {
		t.Fatal(err)
	}
	if b.allow() == nil {
		t.Error("two trials at a time")
	}
	b.report(callAbandoned, 1)
	if err := b.allow(); err != nil {
		t.Error("after an abandoned trial:", err)
	}
	if _, closed := b.report(callSucceeded, 1); !closed || b.allow() != nil || b.allow() != nil {
		t.Error("a successful trial does not close the breaker")
	}
}

func TestModuleBeforeTakesSuspendedClients(t *testing.T) {
	s := newConnectSuite(t, func(spec *Spec) { spec.OnError = OnErrorLastGood })
	s.accepted()
	next := functionSpec(t)
	next.OnError, next.MaxFailures, next.Memory = OnErrorLastGood, 1, 8<<20
	if err := s.p.Apply(t.Context(), []Spec{next}); err != nil {
		t.Fatal(err)
	}
	s.fail("user", "")
	s.accepted()
	if h := s.p.Health()[0]; h.Breaker != "open" {
		t.Errorf("breaker %s, want open", h.Breaker)
	}
}
