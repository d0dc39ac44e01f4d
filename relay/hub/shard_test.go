package hub

import (
	"io"
	"log/slog"
	"testing"
)

// A round is bounded, however many events and subscribers there are.
func TestRoundsAreBounded(t *testing.T) {
	h := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer func() { _ = h.Close(t.Context()) }()
	s := newShard(h)
	crowd := &audience{subs: make([]subscriber, maxRoundSteps/2)}
	session := &Session{shard: s, socket: &quietSocket{}}
	for i := range crowd.subs {
		crowd.subs[i] = subscriber{session.socket, &subscription{session: session}}
	}
	jobs := make([]job, 5)
	for i := range jobs {
		jobs[i] = job{audience: crowd, count: 1, classes: allClasses}
	}
	for _, want := range []int{2, 2, 1} {
		n := s.writeRound(jobs)
		if n != want {
			t.Fatalf("%d jobs in one round, want %d", n, want)
		}
		jobs = jobs[n:]
	}
	if n := cap(s.gather.steps); n > 2*maxRoundSteps {
		t.Errorf("capacity for %d steps is kept", n)
	}
	crowd.subs = append(crowd.subs, make([]subscriber, maxRoundSteps)...)
	for i := range crowd.subs {
		crowd.subs[i] = crowd.subs[0]
	}
	if n := s.writeRound([]job{{audience: crowd, count: 1, classes: allClasses}}); n != 1 {
		t.Errorf("%d jobs for more subscribers than the bound, want 1", n)
	}
}
