package awx

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Questions are the figures of one kind of question to AWX's API since the authorizer was made.
type Questions struct {
	// Cached were answered from memory, Shared by a request that was under way, and Asked by one of their own.
	Cached, Shared, Asked uint64
	// Yes, No and Failed are how requests ended, Time what they took together.
	Yes, No, Failed uint64
	Time            time.Duration
	// Abandoned got no answer because every client that had asked hung up, Busy because too many questions were
	// waiting.
	Abandoned, Busy uint64
}

// questions are what a cache counts.
type questions struct {
	cached, shared, asked atomic.Uint64
	yes, no, failed       atomic.Uint64
	abandoned, busy       atomic.Uint64
	nanos                 atomic.Int64
}

// ended counts an answer.
func (q *questions) ended(yes bool, err error, took time.Duration) {
	if errors.Is(err, relay.ErrBusy) {
		q.busy.Add(1)
		return
	}
	q.nanos.Add(int64(took))
	switch {
	case err == nil && yes:
		q.yes.Add(1)
	case err == nil, errors.Is(err, relay.ErrUnauthenticated):
		q.no.Add(1)
	default:
		q.failed.Add(1)
	}
}

func (q *questions) snapshot() Questions {
	return Questions{
		Cached: q.cached.Load(), Shared: q.shared.Load(), Asked: q.asked.Load(),
		Yes: q.yes.Load(), No: q.no.Load(), Failed: q.failed.Load(),
		Abandoned: q.abandoned.Load(), Busy: q.busy.Load(), Time: time.Duration(q.nanos.Load()),
	}
}

// Stats returns the figures of questions about who a user is, and about what users may see.
func (a *Authorizer) Stats() (users, objects Questions) {
	return a.users.questions.snapshot(), a.objects.questions.snapshot()
}

// Waiting returns how many questions of each class wait for their turn.
func (a *Authorizer) Waiting() map[string]int {
	waiting := map[string]int{}
	for class, n := range a.api.queue.Waiting() {
		waiting[classNames[class]] = n
	}
	return waiting
}
