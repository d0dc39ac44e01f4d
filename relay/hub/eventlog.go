package hub

import "github.com/edgerelay/edgerelay/relay"

// maxLogBytes bounds the frames that are recorded for the clients of a group, on a shard, that resume.
const maxLogBytes = 4 << 20

// eventLog is the jobs that were written to an audience since the first of its pending subscriptions needs them.
type eventLog struct {
	jobs    []job
	first   uint64 // number of jobs[0]
	bytes   int
	readers int // pending subscriptions that need the log
}

// end returns the number of the next job.
func (l *eventLog) end() uint64 { return l.first + uint64(len(l.jobs)) }

// since returns the jobs from a number on.
func (l *eventLog) since(from uint64) []job { return l.jobs[from-l.first:] }

// lastSince returns the position of the last event from a number on, zero if there is none.
func (l *eventLog) lastSince(from uint64) (last relay.Position) {
	for _, j := range l.since(from) {
		for _, p := range j.positioned.positions {
			if !p.IsZero() {
				last = p
			}
		}
	}
	return last
}

// record records written jobs for clients that get positions. The shard's round is held.
func record(jobs []job) {
	for i := range jobs {
		if j := &jobs[i]; j.positioned != nil {
			j.positioned.record(j)
		}
	}
}

func (a *positionAudience) record(j *job) {
	for _, p := range j.positioned.positions {
		if !p.IsZero() {
			a.written = p
		}
	}
	if a.log.readers == 0 {
		return
	}
	recorded := *j
	recorded.journey, recorded.compressed = nil, nil // a replay is sent plain
	a.log.jobs = append(a.log.jobs, recorded)
	if a.log.bytes += len(j.frames); a.log.bytes > maxLogBytes {
		a.overflow()
	}
}

// enterLog makes a pending subscription need the log from now on.
func (a *positionAudience) enterLog(p *pending) {
	p.phase, p.from, p.flood, p.class = reading, a.log.end(), false, p.sub.classification()
	a.log.readers++
	a.resuming.Store(a.resuming.Load() | 1<<p.class.Class)
}

// leaveLog is called when a pending subscription may not need the log any more.
func (a *positionAudience) leaveLog(p *pending) {
	if p.phase != reading && p.phase != paced || p.flood {
		return
	}
	if a.log.readers--; a.log.readers == 0 {
		a.clearLog()
	}
}

func (a *positionAudience) clearLog() {
	a.log = eventLog{first: a.log.end()}
	a.resuming.Store(0)
}

// trimLog removes the jobs that no pending subscription needs.
func (a *positionAudience) trimLog() {
	if len(a.log.jobs) == 0 {
		return
	}
	from := a.log.end()
	for _, p := range a.pending {
		if (p.phase == reading || p.phase == paced) && !p.flood {
			from = min(from, p.from)
		}
	}
	n := int(from - a.log.first)
	for i := range a.log.jobs[:n] {
		a.log.bytes -= len(a.log.jobs[i].frames)
	}
	clear(a.log.jobs[:n])
	a.log.jobs, a.log.first = a.log.jobs[n:], from
}

// overflow gives the log up: clients without an answer cannot resume, and those that read too slowly are closed.
func (a *positionAudience) overflow() {
	for _, p := range a.pending {
		switch p.phase {
		case reading:
			p.flood = true
		case paced:
			p.sub.session.socket.Close(relay.ClosePolicy, "slow reader")
			p.shard.finish(a, p, ended)
		}
	}
	a.log.readers = 0
	a.clearLog()
}
