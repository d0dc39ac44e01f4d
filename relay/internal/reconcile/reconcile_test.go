package reconcile

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

var (
	errRejected = errors.New("rejected")
	start       = time.Unix(1_000_000, 0)
)

// set is a Set with a test's shorthands.
type set struct {
	Set[int]
	t *testing.T
}

func (s *set) want(key string) *Ticket[int] {
	t := &Ticket[int]{}
	s.Want(key, t)
	return t
}

// take returns the only task, which must be action.
func (s *set) take(action Action) Task[int] {
	s.t.Helper()
	tasks := s.Next(10)
	if len(tasks) != 1 || tasks[0].Action != action {
		s.t.Fatalf("tasks %+v, want one with action %d", tasks, action)
	}
	return tasks[0]
}

// do ends the only task, which must be action.
func (s *set) do(action Action, o Outcome) Recovery {
	s.t.Helper()
	return s.End(s.take(action), o, errRejected, start)
}

func (s *set) idle() {
	s.t.Helper()
	if tasks := s.Next(10); len(tasks) > 0 {
		s.t.Fatalf("unexpected tasks %+v", tasks)
	}
}

func waits(t *Ticket[int]) bool {
	if t.done == nil {
		return false
	}
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

func TestJoinWaitsForItsOwnEntries(t *testing.T) {
	s := set{t: t}
	a, b := s.want("a"), s.want("b")
	tasks := s.Next(1)
	if len(tasks) != 1 || tasks[0].Entry.Key != "a" {
		t.Fatalf("tasks %+v, want the oldest entry", tasks)
	}
	if s.End(tasks[0], Done, nil, start); waits(a) || !waits(b) {
		t.Errorf("a waits: %v, b waits: %v; want only b", waits(a), waits(b))
	}
	if c := s.want("a"); waits(c) {
		t.Error("a join of a placed entry waits")
	}
}

func TestLeaveWhilePlacing(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	task := s.take(Place)
	s.Drop("a")
	s.idle()
	s.End(task, Done, nil, start)
	s.do(Remove, Done)
	if s.Len() != 0 || waits(ticket) {
		t.Errorf("%d entries, waits %v; want none", s.Len(), waits(ticket))
	}
}

func TestJoinWhileRemoving(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Drop("a")
	task := s.take(Remove)
	ticket := s.want("a")
	if s.End(task, Done, nil, start); !waits(ticket) {
		t.Fatal("the join was answered by the removal")
	}
	if s.do(Place, Done); waits(ticket) {
		t.Error("the join still waits")
	}
}

func TestLeaveAndJoinCoalesce(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Drop("a")
	if ticket := s.want("a"); waits(ticket) {
		t.Error("the join waits although the entry never left")
	}
	s.idle()
	s.want("b")
	if s.Drop("b"); s.Len() != 1 {
		t.Errorf("%d entries, want only a", s.Len())
	}
	s.idle()
}

func TestDoubtWhilePlacing(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	task := s.take(Place)
	s.Doubt("a")
	if s.End(task, Done, nil, start); !waits(ticket) {
		t.Fatal("the join was answered before the doubt was settled")
	}
	s.do(Check, Missing)
	if r := s.do(Place, Done); r != AfterLapse || waits(ticket) {
		t.Errorf("recovery %d, waits %v; want %d and no wait", r, waits(ticket), AfterLapse)
	}
}

func TestDoubtWhileCheckingIsCheckedAgain(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Doubt("a")
	task := s.take(Check)
	s.DoubtAll(false)
	s.End(task, Done, nil, start)
	s.do(Check, Failed)
	s.do(Check, Done)
	s.idle()
}

func TestFailureIsRepeated(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	s.do(Place, Failed)
	if s.do(Place, Done); waits(ticket) {
		t.Error("the join still waits")
	}
	s.Drop("a")
	s.do(Remove, Failed)
	if s.do(Remove, Missing); s.Len() != 0 {
		t.Error("the entry is still there")
	}
}

func TestLateJoin(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var mu sync.Mutex
	if err := ticket.Wait(ctx, &mu); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want %v", err, context.Canceled)
	}
	if e := s.Get("a"); len(e.waiting) > 0 {
		t.Error("the entry holds the ticket of a caller that is gone")
	}
	if r := s.do(Place, Done); r != AfterLateJoin {
		t.Errorf("recovery %d, want %d", r, AfterLateJoin)
	}
	s.Lost(s.Get("a"))
	if r := s.do(Place, Done); r != AfterLapse {
		t.Errorf("recovery %d, want %d", r, AfterLapse)
	}
	if s.Rewrite(); s.do(Refresh, Done) != Complete {
		t.Error("a rewrite is a loss")
	}
}

func TestDroppedLapseIsNoLoss(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Lost(s.Get("a"))
	if s.LapsedCount() != 1 {
		t.Fatalf("%d lapsed, want 1", s.LapsedCount())
	}
	if s.Drop("a"); s.LapsedCount() != 0 || s.Len() != 0 {
		t.Errorf("%d lapsed of %d entries, want none", s.LapsedCount(), s.Len())
	}
}

func TestLostVoidsTheCommandInFlight(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	old := s.take(Place)
	s.LoseAll()
	current := s.take(Place)
	if s.End(old, Done, nil, start); !waits(ticket) {
		t.Fatal("an answer to the voided command counts")
	}
	if r := s.End(current, Done, nil, start); r != Complete || waits(ticket) {
		t.Errorf("recovery %d, waits %v; want complete, no wait", r, waits(ticket))
	}
}

func TestFaultyEntry(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	s.do(Place, Rejected)
	if faulty := ticket.Faulty(); waits(ticket) || len(faulty) != 1 || faulty[0].Fault() != errRejected {
		t.Fatalf("waits %v, faulty %+v; want the reason at once", waits(ticket), faulty)
	}
	if again := s.want("a"); waits(again) || len(again.Faulty()) != 1 {
		t.Error("a join of a faulty entry waits")
	}
	s.idle()
	s.DoubtAll(false)
	s.idle()
	if next := s.NextRetry(); !next.Equal(start.Add(faultPauseMin)) {
		t.Errorf("next retry at %v, want %v", next, start.Add(faultPauseMin))
	}
	s.RetryFaulty(start.Add(faultPauseMin - 1))
	s.idle()
	s.RetryFaulty(start.Add(faultPauseMin))
	s.End(s.take(Examine), Rejected, nil, start)
	if err := s.Get("a").Fault(); err != errRejected {
		t.Errorf("fault %v, want the one before", err)
	}
	if next := s.NextRetry(); !next.Equal(start.Add(2 * faultPauseMin)) {
		t.Errorf("next retry at %v, want %v", next, start.Add(2*faultPauseMin))
	}
	s.Doubt("a") // the destination notified of a change
	s.do(Examine, Done)
	if r := s.do(Place, Done); r != AfterLateJoin {
		t.Errorf("recovery %d, want %d: the caller was answered with an error", r, AfterLateJoin)
	}
	for range s.Faulty {
		t.Error("the entry is still faulty")
	}
}

func TestFaultyEntryIsDropped(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Rejected)
	s.Doubt("a")
	task := s.take(Examine)
	s.Drop("a")
	s.End(task, Rejected, errRejected, start)
	s.do(Remove, Rejected) // a key of another type has no members
	if s.Len() != 0 {
		t.Errorf("%d entries, want none", s.Len())
	}
}

func TestDropAll(t *testing.T) {
	s := set{t: t}
	var forgot []string
	s.Forgot = func(e *Entry[int]) { forgot = append(forgot, e.Key) }
	select {
	case <-s.DropAll():
	default:
		t.Fatal("an empty set is not emptied")
	}
	s.want("a")
	s.do(Place, Done)
	s.want("b")
	emptied := s.DropAll()
	if again := s.DropAll(); again != emptied {
		t.Error("a second call waits for another channel")
	}
	select {
	case <-emptied:
		t.Fatal("emptied before a was removed")
	default:
	}
	s.do(Remove, Done)
	<-emptied
	if len(forgot) != 2 {
		t.Errorf("forgot %q, want b and a", forgot)
	}
}

func TestUnknowableCheckRefreshes(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Doubt("a")
	s.do(Check, Unknowable)
	if r := s.do(Refresh, Done); r != Complete {
		t.Errorf("recovery %d, want %d", r, Complete)
	}
	s.idle()
}

func TestRewriteWhileChecking(t *testing.T) {
	s := set{t: t}
	s.want("a")
	s.do(Place, Done)
	s.Doubt("a")
	task := s.take(Check)
	s.Rewrite()
	s.End(task, Done, nil, start)
	s.do(Refresh, Done)
	s.idle()
}

// A rewrite must not hide that an entry had vanished, whatever happens before its answer.
func TestRewriteNoticesALapse(t *testing.T) {
	for name, between := range map[string]func(*set){
		"at once":                  func(*set) {},
		"after a failed refresh":   func(s *set) { s.do(Refresh, Failed) },
		"after an unsent refresh":  func(s *set) { s.do(Refresh, Unsent) },
		"after a notification":     func(s *set) { s.Doubt("a") },
		"after another connection": func(s *set) { s.DoubtAll(true) },
		"rewritten twice":          func(s *set) { s.Rewrite() },
	} {
		t.Run(name, func(t *testing.T) {
			s := set{t: t}
			s.want("a")
			s.do(Place, Done)
			s.Rewrite()
			between(&s)
			if r := s.do(Refresh, Missing); r != Complete {
				t.Errorf("recovery %d before the entry is placed, want %d", r, Complete)
			}
			s.do(Place, Failed)
			if r := s.do(Place, Done); r != AfterLapse {
				t.Errorf("recovery %d, want %d", r, AfterLapse)
			}
			s.idle()
		})
	}
}

// A ticket can wait for entries of several sets.
func TestTicketOfTwoSets(t *testing.T) {
	one, two := set{t: t}, set{t: t}
	ticket := &Ticket[int]{}
	one.Want("a", ticket)
	two.Want("b", ticket)
	if one.do(Place, Done); !waits(ticket) {
		t.Fatal("the ticket does not wait for the second set")
	}
	two.do(Place, Done)
	if err := ticket.Wait(t.Context(), &sync.Mutex{}); err != nil {
		t.Error(err)
	}
}

// A command in flight was sent with the settings from before a rewrite.
func TestRewriteWhilePlacing(t *testing.T) {
	s := set{t: t}
	ticket := s.want("a")
	task := s.take(Place)
	s.Rewrite()
	s.End(task, Done, nil, start)
	s.do(Refresh, Done)
	if s.idle(); waits(ticket) {
		t.Error("the caller still waits")
	}
}

// While a destination is away, no command is taken off the queue.
func TestQueueIsBoundedByEntries(t *testing.T) {
	s := set{t: t}
	s.want("kept")
	for range 10_000 {
		s.want("a")
		s.Drop("a")
	}
	if n := len(s.queue); n > 100 {
		t.Errorf("%d entries are queued, of which 1 needs a command", n)
	}
	if n := s.Unsettled(); n != 1 {
		t.Errorf("%d entries are unsettled, want 1", n)
	}
	s.do(Place, Done)
}
