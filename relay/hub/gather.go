package hub

import (
	"runtime"

	"github.com/edgerelay/edgerelay/relay"
)

// gather collects the jobs of a round by session, so that a client gets all events of all groups with a single write,
// in the order of delivery. Sessions with the same sequence of jobs, in the same forms, share a joined buffer.
// See docs/decisions/hub.md#why-does-each-worker-own-its-sessions
type gather struct {
	touched []*Session
	steps   []step
	joined  map[uint64]*joined
	kept    int    // bytes in joined buffers that are still needed
	scratch []byte // for a sequence of a single session
}

// step is a job in a session's sequence.
type step struct {
	job  formedJob
	next int32 // index into steps, -1 at the end
}

// formedJob is the index of a job, and the form of its frames in the lowest bits.
type formedJob int32

// formBits is the number of bits of a form.
const formBits = 2

const _ = uint(1<<formBits - relay.FormCount) // all forms fit

// frames returns the frames of a step.
func (s *step) frames(jobs []job) []byte {
	return jobs[s.job>>formBits].framesAs(relay.Form(s.job & (1<<formBits - 1)))
}

// sequence is a session's jobs in this round, owned by the shard's worker.
type sequence struct {
	first, last int32  // indexes into steps, plus one; 0: none
	sign        uint64 // hash of the jobs
	count       int32  // of events
}

// joined is the buffers of a sequence that at least two sessions have.
type joined struct {
	like  *Session // a session with this sequence
	uses  int      // sessions with this sequence that have not been written to
	size  int      // bytes in parts
	parts [][]byte
}

// maxJoined bounds the bytes in joined buffers. Beyond the bound, further sequences are copied for each session.
const maxJoined = 16 << 20

// yieldEvery is the number of writes, of some microseconds each, after which a worker yields its processor. The
// scheduler does not see system calls that cannot block, and would otherwise preempt the worker after 10 ms only.
const yieldEvery = 64

// write sends the jobs' frames to the sessions of the audiences, and hands payloads to their sockets in between.
func (g *gather) write(h *Hub, jobs []job) {
	from := 0
	for i := range jobs {
		if jobs[i].payload {
			g.writeFrames(h, jobs[from:i])
			h.receive(&jobs[i])
			from = i + 1
		}
	}
	g.writeFrames(h, jobs[from:])
}

// receive hands a payload to the sockets of the audience.
func (h *Hub) receive(j *job) {
	limit, sent := h.Limits().QueuePerConnection, 0
	for _, sub := range j.audience.subs {
		r, ok := sub.socket.(relay.FrameReceiver)
		switch {
		case !ok || !j.isFor(sub.subscription):
		case r.Receive(j.frames, limit):
			sent++
		default:
			h.countMiss(sub.session, j.count)
		}
	}
	h.stats.deliveries.Add(uint64(sent))
	h.stats.bytes.Add(uint64(sent * len(j.frames)))
}

// writeFrames sends the frames of jobs without payloads.
func (g *gather) writeFrames(h *Hub, jobs []job) {
	switch len(jobs) {
	case 0:
		return
	case 1:
		g.writeOne(h, &jobs[0])
		return
	}
	for i := range jobs {
		j := &jobs[i]
		toAll, outdated := j.toAll() && j.except == 0, false
		var forms chosen
		for _, sub := range j.audience.subs {
			if toAll || j.isFor(sub.subscription) {
				form := j.choose(sub.socket)
				forms[form]++
				g.add(sub.session, formedJob(i<<formBits)|formedJob(form), j.count)
			} else if j.misses(sub.subscription) {
				outdated = true
			}
		}
		h.countForms(j, &forms)
		if outdated {
			h.withheldOutdated(j)
		}
	}
	g.findEqual()
	limit := h.Limits().QueuePerConnection
	var deliveries, bytes uint64
	for i, s := range g.touched {
		if i%yieldEvery == yieldEvery-1 {
			runtime.Gosched()
		}
		n, ok := g.send(s, jobs, limit)
		bytes += uint64(n)
		delivered := int(s.seq.count)
		if !ok {
			if missed := g.retry(h, s, jobs, n, limit); missed > 0 {
				h.countMiss(s, missed)
				delivered -= missed
			}
		}
		deliveries += uint64(delivered)
	}
	for _, s := range g.touched {
		s.seq = sequence{}
	}
	clear(g.touched)
	clear(g.joined)
	g.touched, g.steps, g.kept = g.touched[:0], g.steps[:0], 0
	if cap(g.scratch) > 4*joinSize {
		g.scratch = nil
	}
	h.stats.deliveries.Add(deliveries)
	h.stats.bytes.Add(bytes)
}

// writeOne is write for a single job, the usual case of a quiet system: no session has two.
func (g *gather) writeOne(h *Hub, j *job) {
	limit, sent := h.Limits().QueuePerConnection, 0
	toAll, outdated := j.toAll() && j.except == 0, false
	var sentAs chosen
	for i, sub := range j.audience.subs {
		if i%yieldEvery == yieldEvery-1 {
			runtime.Gosched()
		}
		if !toAll && !j.isFor(sub.subscription) {
			outdated = outdated || j.misses(sub.subscription)
			continue
		}
		form := j.choose(sub.socket)
		if sub.socket.Send(j.framesAs(form), limit) {
			sent++
			sentAs[form]++
		} else if missed := h.retryJob(sub.session, j, limit); missed > 0 {
			h.countMiss(sub.session, missed)
		} else {
			sent++
			sentAs[relay.Plain]++
		}
	}
	if outdated {
		h.withheldOutdated(j)
	}
	h.stats.deliveries.Add(uint64(sent * j.count))
	h.stats.bytes.Add(uint64(h.countForms(j, &sentAs)))
}

// add appends a job to a session's sequence.
func (g *gather) add(s *Session, job formedJob, count int) {
	g.steps = append(g.steps, step{job, -1})
	at := int32(len(g.steps))
	if s.seq.first == 0 {
		s.seq.first = at
		g.touched = append(g.touched, s)
	} else {
		g.steps[s.seq.last-1].next = at - 1
	}
	s.seq.last = at
	s.seq.sign = (s.seq.sign ^ uint64(job+1)) * 0x9e3779b97f4a7c15
	s.seq.count += int32(count)
}

// findEqual counts the sessions with the same sequence.
func (g *gather) findEqual() {
	if g.joined == nil {
		g.joined = map[uint64]*joined{}
	}
	for _, s := range g.touched {
		if s.seq.first == s.seq.last {
			continue
		}
		if j := g.joined[s.seq.sign]; j != nil {
			j.uses++
		} else {
			g.joined[s.seq.sign] = &joined{like: s, uses: 1}
		}
	}
}

// send writes a session's sequence and returns the number of bytes that the socket has taken.
func (g *gather) send(s *Session, jobs []job, limit int) (int, bool) {
	if s.seq.first == s.seq.last {
		frames := g.steps[s.seq.first-1].frames(jobs)
		if !s.socket.Send(frames, limit) {
			return 0, false
		}
		return len(frames), true
	}
	j := g.joined[s.seq.sign]
	j.uses--
	if j.parts == nil && (j.uses == 0 || g.kept > maxJoined) || !g.equal(s, j.like) {
		return g.sendAlone(s, jobs, limit)
	}
	if j.parts == nil {
		j.parts = g.join(s, jobs)
		for _, part := range j.parts {
			j.size += len(part)
		}
		g.kept += j.size
	}
	defer func() {
		if j.uses == 0 {
			g.kept -= j.size
			j.parts, j.size = nil, 0
		}
	}()
	n := 0
	for _, part := range j.parts {
		if !s.socket.Send(part, limit) {
			return n, false
		}
		n += len(part)
	}
	return n, true
}

// equal reports whether two sessions have the same sequence: hashes can collide.
func (g *gather) equal(a, b *Session) bool {
	if a == b {
		return true
	}
	i, k := a.seq.first-1, b.seq.first-1
	for i >= 0 && k >= 0 {
		if g.steps[i].job != g.steps[k].job {
			return false
		}
		i, k = g.steps[i].next, g.steps[k].next
	}
	return i == k
}

// join copies a sequence into shared buffers of up to joinSize bytes each.
func (g *gather) join(s *Session, jobs []job) (parts [][]byte) {
	size := 0
	for i := s.seq.first - 1; i >= 0; i = g.steps[i].next {
		size += len(g.steps[i].frames(jobs))
	}
	var part []byte
	for i := s.seq.first - 1; i >= 0; i = g.steps[i].next {
		frames := g.steps[i].frames(jobs)
		if len(part)+len(frames) > cap(part) {
			if part != nil {
				parts = append(parts, part)
			}
			part = make([]byte, 0, max(len(frames), min(size, joinSize)))
		}
		part = append(part, frames...)
		size -= len(frames)
	}
	return append(parts, part)
}

// sendAlone writes a sequence that no other session shares, without allocating.
func (g *gather) sendAlone(s *Session, jobs []job, limit int) (n int, ok bool) {
	g.scratch = g.scratch[:0]
	for i := s.seq.first - 1; i >= 0; i = g.steps[i].next {
		frames := g.steps[i].frames(jobs)
		if len(g.scratch) > 0 && len(g.scratch)+len(frames) > joinSize {
			if !s.socket.SendCopy(g.scratch, limit) {
				return n, false
			}
			n += len(g.scratch)
			g.scratch = g.scratch[:0]
		}
		g.scratch = append(g.scratch, frames...)
	}
	if !s.socket.SendCopy(g.scratch, limit) {
		return n, false
	}
	return n + len(g.scratch), true
}
