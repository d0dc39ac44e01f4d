package hub

import (
	"sync"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// queueSize is the number of bytes of frames that may be queued for a shard before Deliver blocks.
// See docs/decisions/hub.md#why-does-backpressure-end-in-redis
const queueSize = 4 << 20

// job is a buffer of frames for the subscribers of a group on a shard.
type job struct {
	audience *audience
	frames   []byte
	count    int    // of frames
	classes  uint64 // set of the classes that get the frames
	// generation is the generation of classes: 0 with all classes is for all subscribers.
	generation uint64
	// decided is the set of the classes for which the event has been rendered, or hidden. A subscriber of another class
	// got its class later.
	decided uint64
	sent    int64    // Unix microseconds: when the first event was published; 0 if unknown
	journey *journey // of the only event, if sampled
	except  uint32   // id of the session that has published the events; 0: none
	// payload is set if frames is the payload of a [relay.ClientFrame].
	payload bool
	// positioned is nil for plain clients.
	positioned *positionedJob
	// compressed has the frames in the forms for clients that agreed on compression; nil: all get frames.
	compressed *deflate.Buffer
}

// positionedJob is the part of a job for clients that get positions. Apart, since jobs of plain clients are copied
// often.
type positionedJob struct {
	*positionAudience
	positions []relay.Position // of the frames' events; empty for frames without an event
}

// queue holds the jobs of a shard, for any number of producers and a single consumer.
type queue struct {
	mu      sync.Mutex // guards all below
	filled  sync.Cond  // there are jobs, or the queue is closed
	drained sync.Cond  // there is room, or the queue is closed
	jobs    []job
	bytes   int
	closed  bool
}

func (q *queue) init() {
	q.filled.L = &q.mu
	q.drained.L = &q.mu
}

// push adds jobs with the given number of bytes of frames. It blocks while the queue is full. After close, push returns
// false without effect.
func (q *queue) push(jobs []job, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes >= queueSize && !q.closed {
		q.drained.Wait()
	}
	if q.closed {
		return false
	}
	if len(q.jobs) == 0 {
		q.filled.Signal()
	}
	q.jobs = append(q.jobs, jobs...)
	q.bytes += bytes
	return true
}

// take waits for jobs and removes all jobs; the queue reuses spare. After close, take returns nil.
func (q *queue) take(spare []job) []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && !q.closed {
		q.filled.Wait()
	}
	if q.closed {
		return nil
	}
	jobs := q.jobs
	q.jobs, q.bytes = spare[:0], 0
	q.drained.Broadcast()
	return jobs
}

// queued returns the number of queued bytes.
func (q *queue) queued() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// close closes the queue, and returns the remaining jobs.
func (q *queue) close() (left []job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left, q.jobs, q.bytes = q.jobs, nil, 0
	q.closed = true
	q.filled.Broadcast()
	q.drained.Broadcast()
	return left
}
