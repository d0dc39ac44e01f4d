package hub

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// wave is the clients of a group whose replays come from one read of the history.
type wave struct {
	hub        *Hub
	course     *course
	clients    []*pending
	reserved   int // bytes
	page       relay.HistoryPage
	incomplete bool // events of peers may be missing

	after   map[relay.Position]int // index in the query
	latest  int
	started relay.Position   // the first event of a group whose head was unknown
	replay  []relay.Event    // what the interceptor makes of the page
	failed  []relay.Position // events that a plugin could not process
	err     error            // no client can resume
	indexes map[relay.Position]int

	formats    []relay.Format
	renderings map[renderingKey]*rendering
}

// renderingKey identifies a rendering of a wave.
type renderingKey struct {
	class  relay.Classification
	format relay.Format
}

// record begins to record the events for the clients, and forgets the clients that have left.
func (w *wave) record() {
	slices.SortStableFunc(w.clients, func(a, b *pending) int {
		return cmp.Or(cmp.Compare(a.shard.number, b.shard.number), cmp.Compare(w.formatNumber(a), w.formatNumber(b)))
	})
	var left []*pending
	for rest := w.clients; len(rest) > 0; {
		var some []*pending
		some, rest = splitAudience(rest)
		s := some[0].shard
		s.round.Lock()
		a := s.audienceOf(some[0].sub)
		for _, p := range some {
			if p.phase == waiting {
				p.wave = w
				a.enterLog(p)
				left = append(left, p)
			}
		}
		s.round.Unlock()
	}
	w.clients = left
}

// splitAudience splits off the clients of the first one's shard and format.
func splitAudience(ps []*pending) (first, rest []*pending) {
	n := 1
	for n < len(ps) && ps[n].shard == ps[0].shard && ps[n].sub.session.format == ps[0].sub.session.format {
		n++
	}
	return ps[:n], ps[n:]
}

// formatNumber numbers the formats of the wave's clients.
func (w *wave) formatNumber(p *pending) int {
	format := p.sub.session.format
	if i := slices.Index(w.formats, format); i >= 0 {
		return i
	}
	w.formats = append(w.formats, format)
	return len(w.formats) - 1
}

// query is the query for all clients.
func (w *wave) query() relay.HistoryQuery {
	q := relay.HistoryQuery{Group: w.course.group}
	w.after = map[relay.Position]int{}
	w.started = w.course.firstEvent()
	oldest, unknown := relay.Position{}, false
	for _, p := range w.clients {
		if n := p.latest(); n > 0 {
			q.Latest = max(q.Latest, n)
			since := w.since(p)
			if unknown = unknown || since.IsZero(); oldest.IsZero() || since.Compare(oldest) < 0 {
				oldest = since
			}
		}
		if !p.asks() || p.base().IsZero() {
			continue
		}
		if _, ok := w.after[p.base()]; !ok {
			w.after[p.base()] = len(q.After)
			q.After = append(q.After, p.base())
		}
	}
	w.latest = q.Latest
	switch _, asked := w.after[oldest]; {
	case unknown: // events that are still on their way to this node must be recognized
		limits, _ := w.hub.historyLimits(w.course.group)
		q.Latest = max(q.Latest, limits.Count)
	case !oldest.IsZero() && !asked:
		q.After = append(q.After, oldest)
	}
	return q
}

// answer answers the clients.
func (w *wave) answer(ctx context.Context) {
	w.process(ctx)
	w.started = w.course.firstEvent()
	w.renderings = map[renderingKey]*rendering{}
	for rest := w.clients; len(rest) > 0; {
		var some []*pending
		some, rest = splitAudience(rest)
		some[0].shard.release(w, some)
	}
	w.replay, w.failed, w.page, w.after, w.indexes, w.renderings, w.clients = nil, nil, relay.HistoryPage{}, nil, nil, nil, nil
}

// process takes the page through the interceptor.
func (w *wave) process(ctx context.Context) {
	w.replay, w.err = w.page.Events, w.page.Err
	i := w.hub.interceptor.Load()
	if i == nil || w.err != nil || len(w.after) == 0 && w.latest == 0 {
		return
	}
	replayer, ok := (*i).(relay.Replayer)
	if !ok {
		w.err = relay.NotRecoveredUnavailable
		return
	}
	if len(w.page.Events) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	w.replay, w.failed, w.err = replayer.Replay(ctx, slices.Clone(w.page.Events))
}

// reason returns the reason for which a client cannot resume, nil if it can.
func (w *wave) reason(p *pending) error {
	if !p.asks() {
		return w.err
	}
	index, ok := w.after[p.base()]
	switch {
	case w.err != nil:
		return reasonOf(w.err)
	case !ok || index >= len(w.page.Resumable): // no position
		return relay.NotRecoveredUnknown
	case w.page.Resumable[index] != nil:
		return reasonOf(w.page.Resumable[index])
	case w.incomplete:
		return relay.NotRecoveredPeers
	}
	return nil
}

// first returns the index in the page from which a client's replay begins.
func (w *wave) first(p *pending) int {
	index := w.after[p.base()]
	if index < len(w.page.First) {
		return w.page.First[index]
	}
	from := p.base().Micros - relay.HistorySlack
	for i := range w.page.Events {
		if w.page.Events[i].Position.Micros >= from {
			return i
		}
	}
	return len(w.page.Events)
}

// since returns the position of the last event before a client's subscription, or of the first event after it; zero if
// neither is known.
func (w *wave) since(p *pending) relay.Position {
	if p.since.IsZero() {
		return w.started
	}
	return p.since
}

// behind returns the index in the page of the first event after a client's subscription.
func (w *wave) behind(p *pending) int {
	since := w.since(p)
	if since.IsZero() || p.latest() == 0 {
		return len(w.page.Events)
	}
	if i, ok := w.pageIndexes()[since.Entry()]; ok {
		if p.since.IsZero() {
			return i
		}
		return i + 1
	}
	return sort.Search(len(w.page.Events), func(i int) bool { return w.page.Events[i].Position.Compare(since) > 0 })
}

// answers are the answers to the clients of a shard. Clients with equal requests and classes share one, and come one
// after another, so that few answers are in memory at a time.
type answers struct {
	wave *wave
	keys map[*pending]string
	uses map[string]int
	last string // key of answer
	*answer
}

// newAnswers sorts clients by their requests.
func newAnswers(w *wave, clients []*pending) *answers {
	as := &answers{wave: w, keys: make(map[*pending]string, len(clients)), uses: map[string]int{}}
	for _, p := range clients {
		key := w.key(p)
		as.keys[p] = key
		as.uses[key]++
	}
	slices.SortStableFunc(clients, func(a, b *pending) int { return strings.Compare(as.keys[a], as.keys[b]) })
	return as
}

// key is equal for clients with equal answers.
func (w *wave) key(p *pending) string {
	key := append(make([]byte, 0, 64), p.class.Class)
	key = binary.BigEndian.AppendUint64(key, p.class.Generation)
	if !p.asks() {
		key = strconv.AppendInt(key, int64(p.latest()), 10)
		if behind := w.behind(p); len(w.page.Events)-behind > p.latest() {
			key = strconv.AppendInt(append(key, ' '), int64(behind), 10)
		}
		return string(key)
	}
	for _, after := range p.resume.After {
		key = append(after.Append(key), ' ')
	}
	return string(key)
}

// of returns the answer to a client.
func (as *answers) of(p *pending) *answer {
	key := as.keys[p]
	if as.answer == nil || key != as.last {
		as.last, as.answer = key, as.wave.newAnswer(p, as.uses[key])
	}
	return as.answer
}

// newAnswer makes the answer to a number of clients like p.
func (w *wave) newAnswer(p *pending, uses int) *answer {
	if reason := w.reason(p); reason != nil || !p.asks() && p.latest() == 0 {
		return &answer{reason: reason}
	}
	format := p.sub.session.format
	key := renderingKey{p.class, format}
	r := w.renderings[key]
	if r == nil {
		r = w.render(p.class, format)
		w.renderings[key] = r
	}
	if r.outdated {
		return &answer{outdated: true}
	}
	a := &answer{
		rendering: r, uses: uses,
		resumed: relay.Resumed{Group: w.course.group, Asked: p.asks(), Position: w.page.Head},
	}
	if p.asks() {
		first := w.first(p)
		a.known = known{indexes: r.indexes, listed: listedOf(p.resume.After), newest: r.newest}
		a.known.start = sort.Search(len(r.items), func(i int) bool { return r.items[i].index >= first })
	} else {
		a.known = known{indexes: r.indexes, start: r.latestStart(p.latest(), w.behind(p)), page: w.pageIndexes(), newest: r.newest}
	}
	a.build()
	if a.resumed.Asked && a.resumed.Events > 0 {
		// A client whose connection ends before the first event of the replay resumes from the same position.
		a.resumed.Position = p.resume.After[len(p.resume.After)-1]
	}
	a.encode(w.hub.framerOf(format))
	return a
}

// pageIndexes returns the index of each event in the page.
func (w *wave) pageIndexes() map[relay.Position]int {
	if w.indexes == nil {
		w.indexes = make(map[relay.Position]int, len(w.page.Events))
		for i := range w.page.Events {
			w.indexes[w.page.Events[i].Position.Entry()] = i
		}
	}
	return w.indexes
}

// listedOf returns the positions that a client has: the greatest part of each entry.
func listedOf(after []relay.Position) map[relay.Position]uint16 {
	listed := make(map[relay.Position]uint16, len(after))
	for _, p := range after {
		listed[p.Entry()] = max(listed[p.Entry()], p.Part)
	}
	return listed
}
