package sortedset

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Read implements [relay.History] for the events that are in the history already. The hosts are asked at the same time.
func (s *Store) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	pages := make([]relay.HistoryPage, len(queries))
	reads := map[*host][]*reading{}
	for i := range queries {
		limits, ok := s.Limits(queries[i].Group)
		if !ok {
			pages[i].Err = relay.NotRecoveredOff
			continue
		}
		h := s.host(queries[i].Group)
		reads[h] = append(reads[h], newReading(s, &queries[i], &pages[i], limits))
	}
	var asking sync.WaitGroup
	for h, list := range reads {
		asking.Go(func() {
			for chunk := range slices.Chunk(list, pipelineMax) {
				h.read(ctx, chunk)
			}
		})
	}
	asking.Wait()
	return pages
}

// reading is a query on its way to a page.
type reading struct {
	*relay.HistoryQuery
	page   *relay.HistoryPage
	key    string
	limits relay.HistoryLimits

	chunk   int64 // the number of events in one reply
	from    int64 // the time from which on events are needed
	cursor  int64 // everything after this time was read
	skip    int64 // and this number of events at it
	bytes   int   // of the events that were read
	entries []entry
	view    *view
	done    bool
}

func newReading(s *Store, q *relay.HistoryQuery, page *relay.HistoryPage, limits relay.HistoryLimits) *reading {
	r := &reading{HistoryQuery: q, page: page, key: s.groupKey(q.Group), limits: limits}
	r.restart()
	oldest := s.now().Add(-limits.Age).UnixMicro()
	for _, at := range q.After {
		if at.Micros >= oldest { // The first look finds out about older ones.
			r.need(at)
		}
	}
	return r
}

func (r *reading) restart() {
	r.from, r.cursor, r.skip, r.bytes, r.entries, r.done = math.MaxInt64, math.MaxInt64, 0, 0, nil, false
}

// need makes the events behind a position part of the page.
func (r *reading) need(at relay.Position) { r.from = min(r.from, at.Micros-relay.HistorySlack) }

// latest is the number of last events that the page has at least. More than count are there until they are removed.
func (r *reading) latest() int { return min(r.Latest, 2*r.limits.Count+chunkMax) }

const (
	// chunkMax is the greatest number of events in one reply, and chunkBytes the number of bytes, as far as events of the
	// group are of the same size.
	chunkMax   = 512
	chunkBytes = 1 << 20
	// bytesSlack is what a page may have beyond the limits of the group, besides an eighth of them.
	bytesSlack = 1 << 20
)

// read answers queries of one host: usually in one round trip.
func (h *host) read(ctx context.Context, list []*reading) {
	h.store.stats.reads.Add(uint64(len(list)))
	err := h.flush(ctx)
	if err == nil {
		err = h.tryRead(ctx, list)
	}
	if err != nil {
		h.note(err)
		for _, r := range list {
			r.page.Err = relay.NotRecoveredUnavailable
		}
	}
}

// errAgain means that the host was not the one that the node knew. It is now.
var errAgain = errors.New("the host has changed")

func (h *host) tryRead(ctx context.Context, list []*reading) error {
	for range establishTries {
		err := h.readOnce(ctx, list)
		if !errors.Is(err, errAgain) {
			return err
		}
		for _, r := range list {
			from := r.from
			r.restart()
			r.from = from
		}
	}
	return errAgain
}

// readOnce reads until all pages are complete.
func (h *host) readOnce(ctx context.Context, list []*reading) error {
	pending := make([][]entry, len(list))
	for i, r := range list {
		pending[i] = h.pendingGaps(r.Group)
		r.chunk = h.chunk(r.Group)
	}
	var of *head
	for first := true; ; first = false {
		pipe := h.client().Pipeline()
		if first {
			of = h.askHead(ctx, pipe)
		}
		asked := false
		steps := make([]step, len(list))
		for i, r := range list {
			steps[i] = r.ask(ctx, pipe, first)
			asked = asked || steps[i].events != nil || first
		}
		if !asked {
			break
		}
		if err := h.exec(ctx, pipe, list); err != nil {
			return err
		}
		if first {
			if err := h.check(ctx, of); err != nil {
				return err
			}
		}
		for i, r := range list {
			r.take(h, steps[i])
		}
	}
	gaps, since := of.gapEntries()
	for i, r := range list {
		r.finish(newView(r.entries, since, slices.Concat(gaps, pending[i])...))
	}
	return h.addBases(ctx, list)
}

// exec executes a pipeline. Keys of another type are deleted, and everything is read again.
func (h *host) exec(ctx context.Context, pipe goredis.Pipeliner, list []*reading) error {
	_, err := pipe.Exec(ctx)
	switch {
	case err == nil || errors.Is(err, goredis.Nil):
		return nil
	case redisnet.WrongType(err):
		for _, r := range list {
			if err := h.healGroup(ctx, r.Group); err != nil {
				return err
			}
		}
		if err := h.establish(ctx, false); err != nil {
			return err
		}
		return errAgain
	}
	return err
}

// check finds out whether the host is still the one that the node knows.
func (h *host) check(ctx context.Context, of *head) error {
	ok, err := h.intact(of)
	if ok || err != nil {
		return err
	}
	if err := h.establish(ctx, false); err != nil {
		return err
	}
	return errAgain
}

// chunk returns the number of events of a group to ask for at once.
func (h *host) chunk(group string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.groups[group]; g != nil && g.count > 0 {
		return int64(min(max(chunkBytes/(g.bytes/g.count+1), 1), chunkMax))
	}
	return chunkMax
}

// step is a request of a reading.
type step struct {
	metas, events *goredis.ZSliceCmd
	min, count    int64
}

// ask adds the commands for the next step.
func (r *reading) ask(ctx context.Context, pipe goredis.Pipeliner, first bool) (s step) {
	if first {
		s.metas = pipe.ZRangeByScoreWithScores(ctx, r.key, &goredis.ZRangeBy{Min: "-inf", Max: "(0"})
	}
	if r.done {
		return s
	}
	s.min, s.count = max(r.from, 1), r.chunk
	switch latest := int64(r.latest()); {
	case r.from == math.MaxInt64: // The newest event makes the head.
		s.min, s.count = 1, min(max(latest-int64(r.events()), 1), r.chunk)
	case latest > int64(r.events()):
		s.min = 1
	case r.events() == 0 && !first: // The newest event is older than all positions, and makes the head.
		s.min, s.count = 1, 1
	}
	to := "+inf"
	if r.cursor != math.MaxInt64 {
		to = score(r.cursor)
	}
	s.events = pipe.ZRevRangeByScoreWithScores(ctx, r.key,
		&goredis.ZRangeBy{Max: to, Min: score(s.min), Offset: r.skip, Count: s.count})
	return s
}

// events is the number of events that were read.
func (r *reading) events() (n int) {
	for i := range r.entries {
		if r.entries[i].kind == eventKind {
			n++
		}
	}
	return n
}

// take takes the replies to a step, and finds out whether another step is needed.
func (r *reading) take(h *host, s step) {
	keys := h.store.settings.Load().keys
	if s.metas != nil {
		r.takeMetas(s.metas.Val(), keys)
	}
	if s.events == nil {
		return
	}
	list := s.events.Val()
	for _, z := range list {
		raw, _ := z.Member.(string)
		r.entries = append(r.entries, decode(raw, z.Score, r.Group, keys))
		r.bytes += len(raw)
		if at := int64(z.Score); at != r.cursor {
			r.cursor, r.skip = at, 0
		}
		r.skip++
	}
	if int64(len(list)) < s.count { // Everything down to the minimum was read.
		r.cursor, r.skip = s.min-1, 0
	}
	enough := r.events() >= r.latest() && r.cursor < r.from && (r.events() > 0 || s.metas == nil)
	if r.from == math.MaxInt64 {
		enough = r.events() >= r.latest()
	}
	r.done = enough || r.cursor < 1 || r.exceeds()
}

// takeMetas takes the entries without text. A position counts, however old it is, unless it was removed: quiet groups
// keep old events.
func (r *reading) takeMetas(list []goredis.Z, keys keyring) {
	for _, z := range list {
		raw, _ := z.Member.(string)
		e := decode(raw, z.Score, r.Group, keys)
		r.entries = append(r.entries, e)
	}
	v := newView(r.entries, 0)
	for _, at := range r.After {
		if !at.IsZero() && at.Compare(v.floor) >= 0 || v.marks(at) {
			r.need(at)
		}
	}
}

// exceeds reports whether more was read than the group's limits allow. The rest counts as removed.
func (r *reading) exceeds() bool {
	return r.bytes > r.limits.Bytes+r.limits.Bytes/8+bytesSlack || len(r.entries) > 2*r.limits.Count+4*chunkMax
}

// finish answers the query.
func (r *reading) finish(v *view) {
	p := r.page
	r.view = v
	p.Resumable = make([]error, len(r.After))
	from := int64(math.MaxInt64)
	for i, at := range r.After {
		start := at.Micros - relay.HistorySlack
		switch err := v.judge(at); {
		case err != nil && (err != relay.NotRecoveredGap || !r.AcrossGaps):
			p.Resumable[i] = err
		case r.cursor >= max(start, v.floor.Micros, 1): // Not everything was read.
			p.Resumable[i] = relay.NotRecoveredTooMuch
		default:
			from = min(from, start)
		}
	}
	p.Events = v.page(r.Group, from, r.latest())
	p.Head = v.head()
}

// sawHead notes the position that clients get, so that events which come later and stand before it are noted as late.
func (h *host) sawHead(group string, at relay.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.group(group); g != nil {
		g.saw(at)
	}
}

// addBases gives the groups without a position to resume from a new one. Two nodes may add one each; both count.
func (h *host) addBases(ctx context.Context, list []*reading) error {
	pipe := h.client().Pipeline()
	for _, r := range list {
		if r.page.Head.IsZero() {
			at, seen := r.view.newBase(h.newest.Load(), h.store.now().UnixMicro(), rand.Uint64())
			r.page.Head = at
			pipe.ZAdd(ctx, r.key, metaEntry(baseKind, at, seen...))
			pipe.PExpire(ctx, r.key, r.limits.Age+lifetimeMargin)
		}
		h.sawHead(r.Group, r.page.Head)
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return err
}

// time returns the time of an event.
func (e *entry) time() time.Time { return time.UnixMicro(e.Micros) }
