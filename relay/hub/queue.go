package hub

import "sync"

// queueSize is how many bytes of frames may wait for a shard before Deliver blocks.
// See docs/decisions/hub.md#why-does-backpressure-end-in-redis
const queueSize = 4 << 20

// job is a buffer of count frames for the clients of one group on one shard, as far as they are of certain classes.
type job struct {
	audience *audience
	frames   []byte
	count    int
	classes  uint64
	sent     int64    // Unix microseconds: when the oldest of the events was published; 0 if unknown
	journey  *journey // of the one event in it, if that is sampled
}

// queue holds the jobs of one shard: any number of producers, one consumer.
type queue struct {
	mu      sync.Mutex
	filled  sync.Cond
	drained sync.Cond
	jobs    []job
	bytes   int
	closed  bool
}

func (q *queue) init() {
	q.filled.L = &q.mu
	q.drained.L = &q.mu
}

// push adds jobs, of bytes bytes together; it waits while the queue is full. It returns false, and does nothing, once
// the queue is closed.
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

// take waits for jobs and takes all of them; spare is reused for the next ones. It returns nil once the queue is closed.
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

// waiting is how many bytes of frames wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// close ends the queue, and returns the jobs left in it.
func (q *queue) close() (left []job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left, q.jobs, q.bytes = q.jobs, nil, 0
	q.closed = true
	q.filled.Broadcast()
	q.drained.Broadcast()
	return left
}
