package state

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxBatch and maxBatchBytes bound a round trip.
	maxBatch      = 256
	maxBatchBytes = 1 << 20
	// maxQueued and maxQueuedBytes bound the requests that wait for a shard. A plugin may have as many as are free:
	// half of them, a third beside one plugin that has as many, and so on. So there is always room for another plugin.
	// See docs/decisions/functions.md#why-does-the-stores-queue-always-have-room-for-another-plugin
	maxQueued      = 16_384
	maxQueuedBytes = 64 << 20
	// retryPauseMin and retryPauseMax bound the pause after a failed round trip.
	retryPauseMin = 20 * time.Millisecond
	retryPauseMax = 500 * time.Millisecond
	// fenceLife is how long a fence stays without a session that begins; a session is renewed after a part of it.
	fenceLife  = 24 * time.Hour
	sessionAge = time.Hour
)

// fenceScript begins a session.
const fenceScript = `redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1`

// writer sends the requests for a shard, in order: one batch at a time, of all requests that wait.
//
// A request that has had no answer may still be in a socket's buffer and take effect later. So after a failure, the
// writer begins a session by writing the fence, and requests of earlier sessions that arrive after it have no effect.
type writer struct {
	place *redisPlace
	shard int
	ctx   context.Context
	stop  context.CancelFunc
	ended chan struct{}
	wake  chan struct{}

	mu     sync.Mutex // guards the fields below
	queue  []*queued
	shares map[string]share // of the queue, by plugin
	total  share
	closed bool

	// Of the goroutine in run.
	session string
	began   time.Time // of the session
	number  uint64    // of sessions
	pause   time.Duration
}

// share is a part of the queue.
type share struct{ requests, bytes int }

// queued is a request in the queue.
type queued struct {
	*Request
	done func(Response)
	at   time.Time
	size int
}

func newWriter(p *redisPlace, shard int) *writer {
	w := &writer{
		place: p, shard: shard, ended: make(chan struct{}), wake: make(chan struct{}, 1), shares: map[string]share{},
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	go w.run()
	return w
}

// add queues a request, and reports whether there was room. Operations of this package always have room: their number
// is bounded.
func (w *writer) add(r *Request, done func(Response)) bool {
	q := &queued{Request: r, done: done, at: time.Now(), size: len(r.Key) + len(r.Value) + len(r.Expected) + 256}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		go done(Response{Status: Unavailable})
		return true
	}
	own := w.shares[r.Plugin].plus(q, 1)
	total := w.total.plus(q, 1)
	if r.Op < OpCount && own.beyond(maxQueued-total.requests, maxQueuedBytes-total.bytes) {
		return false
	}
	w.shares[r.Plugin], w.total = own, total
	w.queue = append(w.queue, q)
	if len(w.queue) == 1 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (s share) plus(q *queued, sign int) share {
	return share{s.requests + sign, s.bytes + sign*q.size}
}

func (s share) beyond(requests, bytes int) bool { return s.requests > requests || s.bytes > bytes }

// answer answers a request that is no longer in the queue.
func (w *writer) answer(q *queued, res Response) {
	w.mu.Lock()
	w.total = w.total.plus(q, -1)
	if own := w.shares[q.Plugin].plus(q, -1); own.requests == 0 {
		delete(w.shares, q.Plugin)
	} else {
		w.shares[q.Plugin] = own
	}
	w.mu.Unlock()
	q.done(res)
}

// run sends batches until the writer is closed.
func (w *writer) run() {
	defer close(w.ended)
	for w.ctx.Err() == nil {
		batch := w.take()
		if len(batch) == 0 {
			select {
			case <-w.wake:
			case <-w.ctx.Done():
			}
			continue
		}
		if rest := w.send(batch); len(rest) > 0 {
			w.putBack(rest)
			w.rest()
		}
	}
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, q := range queue {
		w.answer(q, Response{Status: Unavailable})
	}
}

// take removes a batch from the queue. Requests that have waited for too long are answered instead: a request waits for
// less than half of the timeout, and a round trip takes less than the other half.
func (w *writer) take() []*queued {
	oldest := time.Now().Add(-w.place.limits().Timeout * 2 / 5)
	w.mu.Lock()
	late := 0
	for late < len(w.queue) && w.queue[late].at.Before(oldest) {
		late++
	}
	n, size := late, 0
	for n < len(w.queue) && n-late < maxBatch && (n == late || size+w.queue[n].size <= maxBatchBytes) {
		size += w.queue[n].size
		n++
	}
	taken := w.queue[:n:n]
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	w.mu.Unlock()
	for _, q := range taken[:late] {
		w.answer(q, Response{Status: Unavailable})
	}
	return taken[late:]
}

// putBack puts requests that had no effect before all others.
func (w *writer) putBack(rest []*queued) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(rest, w.queue...)
}

// rest pauses after a failure.
func (w *writer) rest() {
	w.pause = min(max(2*w.pause, retryPauseMin), retryPauseMax)
	timer := time.NewTimer(w.pause/2 + rand.N(w.pause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// send makes a round trip with a batch. It answers requests, and returns the last ones of the batch if these had no
// effect and can be sent again.
func (w *writer) send(batch []*queued) (rest []*queued) {
	ctx, cancel := context.WithTimeout(w.ctx, w.place.limits().Timeout/2)
	defer cancel()
	if w.session == "" || time.Since(w.began) > sessionAge {
		if err := w.begin(ctx); err != nil {
			w.place.report(err)
			return batch
		}
	}
	replies := w.place.layer.RunScripts(ctx, w.shard, script, w.place.calls(w.shard, w.session, batch))
	w.place.stats.batches.Add(1)
	w.place.stats.batched.Add(uint64(len(batch)))
	responses, without, err := read(batch, replies)
	if err != nil || without < len(batch) {
		w.session = ""
	}
	if without == len(batch) {
		w.pause = 0
	}
	w.place.report(err)
	for i, q := range batch[:without] {
		w.answer(q, responses[i])
	}
	return batch[without:]
}

// begin begins a session, after which requests of earlier ones have no effect.
func (w *writer) begin(ctx context.Context) error {
	w.number++
	next := session(w.place.node, w.number)
	_, err := w.place.layer.RunScript(ctx, w.shard, fenceScript, []string{w.place.fence(w.shard)}, next,
		fenceLife.Milliseconds())
	if err != nil {
		w.session = ""
		return err
	}
	w.session, w.began = next, time.Now()
	w.place.stats.sessions.Add(1)
	return nil
}

// read returns the responses, and the index of the first of the last requests that had no effect. Earlier requests
// without effect are not sent again, because later ones have had theirs: these are unavailable. err is the last error
// that may pass.
func read(batch []*queued, replies []relay.ScriptReply) (responses []Response, without int, err error) {
	responses = make([]Response, len(batch))
	for i := range batch {
		reply := &replies[i/scriptRequests]
		response, none, failure := result(batch[i].Op, reply, i%scriptRequests)
		if responses[i] = response; failure != nil {
			err = failure
		}
		if !none {
			without = i + 1
		}
	}
	return responses, without, err
}

// result returns the response to a request at a position of a run of the script, and whether the request had no effect.
func result(op Op, reply *relay.ScriptReply, at int) (res Response, none bool, err error) {
	res.Status = Unavailable
	if reply.Err != nil {
		return res, reply.NotRun, reply.Err
	}
	list, ok := reply.Value.([]any)
	switch {
	case ok && isFenced(list):
		return res, true, nil
	case !ok || at >= len(list):
		return res, false, nil
	}
	if err = rejection(list[at]); err != nil {
		return res, hadNoEffect(err), err
	}
	return parse(op, list[at]), false, nil
}

// close ends the writer, and waits for the round trip in progress.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	<-w.ended
}
