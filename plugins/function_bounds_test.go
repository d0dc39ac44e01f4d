package plugins

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
	}
}

// Answers that wait for their function count as requests in flight: they take memory.
func TestAnswersThatWaitAreInFlight(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &kept{}
	p.SetServices(Services{Shared: service})
	c, got := open(t, p, "")
	for range 4 {
		if err := c.Message(true, []byte(`{"do":"get","key":"k","times":16,"context":"c"}`)); err != nil {
			t.Fatal(err)
		}
	}
	c.mu.Lock() // as a hook that takes its time does
	for _, done := range service.done {
		done(Response{})
	}
	own, all := c.answers.inFlight(), p.find("f").env.inFlight.Load()
	c.mu.Unlock()
	if own != 64 || all != 64 {
		t.Errorf("%d of the client and %d of the plugin are in flight, want 64", own, all)
	}
	got.take(t, 64)
	eventually(t, "the requests to end", func() bool { return p.find("f").env.inFlight.Load() == 0 })
	if n := c.answers.inFlight(); n != 0 {
		t.Errorf("%d are in flight afterwards", n)
	}
}

// eager is a service that answers at once.
type eager struct{ started atomic.Int64 }

// Start implements [Service].
func (e *eager) Start(_ *Request, done func(Response)) {
	e.started.Add(1)
	done(Response{})
}

// A function that makes a request for each answer ends with its client, and if it never had one.
func TestRequestsEndAfterTheClient(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &eager{}
	p.SetServices(Services{Shared: service})
	again := `{"do":"get","key":"k","context":"again"}`
	c, _ := open(t, p, "")
	if err := c.Message(true, []byte(again)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a loop of requests", func() bool { return service.started.Load() > 2*maxDepth })
	c.Ended(1001, "")
	eventually(t, "its end", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.afterwards == maxDepth
	})
	if n := p.find("f").env.inFlight.Load(); n != 0 {
		t.Errorf("%d requests are in flight afterwards", n)
	}
	before := service.started.Load()
	p.Process(Event{Group: "g1", Payload: []byte(again)}, nil)
	eventually(t, "the end without a client", func() bool { return p.find("f").env.inFlight.Load() == 0 })
	if n := service.started.Load() - before; n != maxDepth {
		t.Errorf("%d requests for an event, want %d", n, maxDepth)
	}
}

// A plugin that publishes for each event what becomes an event for it again ends after some hops.
func TestPublishLoopsEnd(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	var published []int
	p.SetPublisher(func(_ string, a *Action) { published = append(published, a.Hops) })
	loop := []byte(`{"do":"publish","group":"room_1","text":"x"}`)
	for hops := range 6 {
		p.Process(Event{Group: "g1", Payload: loop, Hops: hops}, nil)
	}
	if !slices.Equal(published, []int{1, 2, 3, 4}) {
		t.Errorf("published with hops %d", published)
	}
	c, got := open(t, p, "")
	if err := c.Message(true, loop); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 2); !slices.Contains(list, "publish room_1  x false") {
		t.Errorf("a client's message: %q", list)
	}
}

// The caller of an alarm that has ended does not end later calls.
func TestAlarmLeavesNoCaller(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	slots := p.find("f").live().slots
	connections := make([]*Connection, len(slots))
	for i := range slots {
		c, _, err := p.Connect(context.Background(), "f", uint64(i), []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		c.Open(newPage())
		connections[i] = c
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := p.Alarm(ctx, "f", "wake", []byte("up"), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	for i, c := range connections {
		if err := c.Message(true, []byte(`{"do":"echo"}`)); err != nil {
			t.Fatal(err)
		}
		if slots[i].instance.limits.caller != nil {
			t.Error("a call has the caller of another")
		}
	}
}

// A shadow has no effects, also none of alarms that were set before it was one.
func TestShadowGetsNoAlarms(t *testing.T) {
	spec := functionSpec(t)
	spec.Shadow = true
	p := pipeline(t, Options{}, spec)
	if err := p.Alarm(context.Background(), "f", "wake", nil, nil); !errors.Is(err, ErrNoHook) {
		t.Errorf("got %v", err)
	}
}

// Clients do not wait for long: beyond a bound they are refused at once, whatever on_error says. on_close waits longer.
func TestBusyFunctionRefusesClients(t *testing.T) {
	spec := functionSpec(t)
	spec.Instances, spec.OnError = 1, OnErrorPass
	p := pipeline(t, Options{}, spec)
	c, _ := open(t, p, "")
	s := &p.find("f").live().slots[0]
	s.clientPace.Store(int64(time.Second))
	s.waiting.Add(6)
	s.mu.Lock() // as a call in flight does
	if err := c.Message(true, []byte(`{"do":"echo"}`)); !errors.Is(err, ErrBusy) {
		t.Errorf("a message: %v", err)
	}
	if _, _, err := p.Connect(context.Background(), "f", 1, []byte(`{}`)); !errors.Is(err, ErrBusy) {
		t.Errorf("a handshake: %v", err)
	}
	if s.tooBusyFor(OnClose) || s.tooBusyFor(OnEvent) || s.tooBusyFor(OnResult) {
		t.Error("other hooks do not wait")
	}
	if s.waiting.Add(25); !s.tooBusyFor(OnClose) {
		t.Error("on_close waits without a bound")
	}
	s.waiting.Store(0)
	s.mu.Unlock()
	if err := c.Message(true, []byte(`{"do":"echo"}`)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if h := p.Health()[0]; len(h.Failures) > 0 || h.RecentFailures > 0 {
		t.Errorf("%+v", h)
	}
}
