package stream

import (
	"cmp"
	"context"
	_ "embed" // for the script
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

//go:embed read.lua
var readSource string

var readScript = goredis.NewScript(readSource)

// query asks for a part of a stream.
type query struct {
	group  string
	after  []relay.Position
	latest int
	across bool // gaps do not matter, and the events of the positions are needed, too
	head   bool // the newest position must be one to resume from
	limits relay.HistoryLimits
	// former is the run ID of another server that held the stream, empty if it is not known to be another one.
	former string
}

// view is a part of a stream, and the facts about the whole.
type view struct {
	err error
	// former is set if the query must be asked again, because another server held the stream.
	former string
	// known is false for a group without a stream, in which case all below is zero.
	known                        bool
	epoch                        uint64
	gapMark                      uint64
	removed, previous, gap, head int64
	now, bytes                   int64
	events                       []relay.Event
	heads                        []int64 // places at which clients began without an event
	first                        int     // the index of the first event within the limits
}

const (
	// pipelined is the number of reads that are sent to a master at once.
	pipelined = 32
	// readTimeout bounds a read without a deadline.
	readTimeout = 5 * time.Second
	// readRetryPause is the pause before reads that were not executed are sent again.
	readRetryPause = 25 * time.Millisecond
)

// Read implements [relay.History].
func (s *Store) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	pages := make([]relay.HistoryPage, len(queries))
	var wanted []query
	var index []int
	for i, q := range queries {
		limits, ok := s.policy.Limits(q.Group)
		if !ok {
			pages[i].Err = relay.NotRecoveredOff
			continue
		}
		latest := min(max(q.Latest, 0), limits.Count)
		wanted = append(wanted, query{
			group: q.Group, after: q.After, latest: latest, across: q.AcrossGaps, head: true, limits: limits,
		})
		index = append(index, i)
	}
	for i, v := range s.readAll(ctx, wanted) {
		pages[index[i]] = v.page(wanted[i])
	}
	return pages
}

// readAll answers queries, in as few round trips as possible. Reads that were not executed are sent again until ctx
// ends.
func (s *Store) readAll(ctx context.Context, queries []query) []view {
	views := make([]view, len(queries))
	left := make([]int, len(queries))
	for i := range queries {
		left[i] = i
	}
	for {
		again := s.readOnce(ctx, queries, views, left)
		if len(again) == 0 || ctx.Err() != nil {
			return views
		}
		for _, i := range again {
			queries[i].former = views[i].former
		}
		if views[again[0]].former == "" {
			s.client.ReloadState(ctx)
			select {
			case <-time.After(readRetryPause):
			case <-ctx.Done():
				return views
			}
		}
		left = again
	}
}

// readOnce answers some of the queries, and returns those to ask again.
func (s *Store) readOnce(ctx context.Context, queries []query, views []view, left []int) (again []int) {
	byNode := map[*goredis.Client][]int{}
	for _, i := range left {
		node, err := s.client.MasterForKey(ctx, s.channel(queries[i].group))
		if err != nil {
			views[i] = view{err: err}
			again = append(again, i)
			continue
		}
		byNode[node] = append(byNode[node], i)
	}
	var (
		mu    sync.Mutex
		reads sync.WaitGroup
	)
	for node, list := range byNode {
		reads.Go(func() {
			for batch := range slices.Chunk(list, pipelined) {
				failed := s.readBatch(ctx, node, queries, views, batch)
				mu.Lock()
				again = append(again, failed...)
				mu.Unlock()
			}
		})
	}
	reads.Wait()
	return again
}

// readBatch sends reads to a master, and returns those to ask again.
func (s *Store) readBatch(ctx context.Context, node *goredis.Client, queries []query, views []view, batch []int) (again []int) {
	gaps, commands := make([]*pendingGap, len(batch)), make([]*goredis.Cmd, len(batch))
	pipe := node.Pipeline()
	for n, i := range batch {
		q := &queries[i]
		gaps[n] = s.gapOf(q.group)
		args := append([]any{"EVALSHA", readScript.Hash(), 2}, s.arguments(ctx, q, gaps[n])...)
		commands[n] = pipe.Do(ctx, args...)
	}
	asked := time.Now()
	_, _ = pipe.Exec(ctx)
	unloaded := false
	for n, i := range batch {
		v, err := s.result(commands[n])
		switch {
		case err == nil && v.former != "":
			again = append(again, i)
		case err == nil:
			s.stored(queries[i].group, gaps[n])
			if v.known {
				s.learnClock(v.now, asked)
			}
			if v.known && queries[i].head {
				s.setSize(queries[i].group, v.bytes)
			}
		case strings.HasPrefix(err.Error(), "NOSCRIPT"):
			unloaded = true
			again = append(again, i)
		case notExecuted(err):
			again = append(again, i)
		default:
			s.failed.Add(1)
		}
		v.err = err
		views[i] = v
	}
	if unloaded {
		_ = readScript.Load(ctx, node).Err()
	}
	s.reads.Add(uint64(len(batch) - len(again)))
	return again
}

// arguments returns keys and arguments of the script.
func (s *Store) arguments(ctx context.Context, q *query, gap *pendingGap) []any {
	numbers := make([]int64, 0, len(q.after))
	for _, p := range q.after {
		if p.Micros > 0 {
			numbers = append(numbers, p.Micros)
		}
	}
	slices.Sort(numbers)
	packed := make([]byte, 0, 8*len(numbers))
	for _, n := range slices.Compact(numbers) {
		packed = binary.BigEndian.AppendUint64(packed, uint64(n))
	}
	at, mark, head := "", "", ""
	if gap != nil {
		at, mark = strconv.FormatInt(gap.at.Micros, 10), bigEndian(gap.at.Mark)
	}
	if q.head {
		head = "head"
	}
	lost, moved := "", ""
	if q.former != "" {
		if s.isMaster(ctx, q.former) {
			moved = q.former
		} else {
			lost = q.former
		}
	}
	keys := s.keys(q.group)
	limits, _ := s.policy.Limits(q.group)
	return []any{
		keys[0], keys[1], newEpoch(), packed, q.latest, at, mark, lost, moved, head, hashLife(limits.Age).Milliseconds(),
		limits.Age.Milliseconds() + 1,
	}
}

var errAnswer = errors.New("the reading script answered in another form")

// result reads the answer of the script.
func (s *Store) result(c *goredis.Cmd) (v view, err error) {
	list, err := c.Slice()
	if err != nil {
		return v, err
	}
	if len(list) == 1 {
		former, ok := list[0].(string)
		if !ok {
			return v, errAnswer
		}
		v.former = former
		return v, nil
	}
	if len(list) != 5 {
		return v, errAnswer
	}
	epoch, ok := list[0].(string)
	mark, ok2 := list[1].(string)
	size, ok3 := list[2].(string)
	numbers, ok4 := list[3].(string)
	events, ok5 := list[4].([]any)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || len(epoch) != 8 {
		return v, errAnswer
	}
	if n, err := fmt.Sscan(numbers, &v.removed, &v.previous, &v.gap, &v.head, &v.now); n != 5 {
		return v, fmt.Errorf("%w: %w", errAnswer, err)
	}
	v.known, v.epoch = true, binary.BigEndian.Uint64([]byte(epoch))
	if len(mark) == 8 {
		v.gapMark = binary.BigEndian.Uint64([]byte(mark))
	}
	for _, e := range events {
		if err := v.add(e); err != nil {
			return v, err
		}
	}
	s.see(max(v.previous, v.gap, v.head))
	v.bytes, _ = strconv.ParseInt(size, 10, 64)
	return v, nil
}

// add reads an entry of the stream: its number, and a list of a field's name and the value.
func (v *view) add(e any) error {
	pair, ok := e.([]any)
	if !ok || len(pair) != 2 {
		return errAnswer
	}
	id, ok := pair[0].(string)
	fields, ok2 := pair[1].([]any)
	if !ok || !ok2 || len(fields) != 2 {
		return errAnswer
	}
	name, ok := fields[0].(string)
	value, ok2 := fields[1].(string)
	number, _, _ := strings.Cut(id, "-")
	micros, err := strconv.ParseInt(number, 10, 64)
	switch {
	case !ok || !ok2 || err != nil:
		return errAnswer
	case name == "h":
		v.heads = append(v.heads, micros)
		return nil
	case name != textField && name != contentField || len(value) < 8:
		return errAnswer
	}
	raw := []byte(value)
	content := Content{Text: raw[8:]}
	if name == contentField {
		if content, err = DecodeContent(raw[8:]); err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
	}
	v.events = append(v.events, relay.Event{
		Type: content.Type, Sender: content.Sender, Text: content.Text, Source: relay.FromHistory, NeedsRelay: true,
		Sent: time.UnixMicro(int64(binary.BigEndian.Uint64(raw))), Position: relay.Position{Micros: micros, Mark: v.epoch},
	})
	return nil
}

// notExecuted reports whether a command was certainly not executed, or may be repeated because it reads.
func notExecuted(err error) bool { return !errors.Is(err, errAnswer) && !refused(err) }

// page answers a query.
func (v *view) page(q query) (p relay.HistoryPage) {
	if v.err != nil || !v.known {
		p.Err = relay.NotRecoveredUnavailable
		return p
	}
	v.limit(q.limits)
	first := len(v.events)
	p.Resumable, p.First = make([]error, len(q.after)), make([]int, len(q.after))
	for i, after := range q.after {
		begin, err := v.resume(after, q.across)
		if p.Resumable[i] = err; err == nil {
			p.First[i] = begin
			first = min(first, begin)
		}
	}
	if q.latest > 0 {
		first = min(first, max(v.first, len(v.events)-q.latest))
	}
	for i := range p.First {
		p.First[i] = max(0, p.First[i]-first)
	}
	p.Events = v.events[first:]
	for i := range p.Events {
		p.Events[i].Group = q.group
	}
	p.Head = relay.Position{Micros: max(v.previous, v.head), Mark: v.epoch}
	if v.gap > p.Head.Micros {
		p.Head = relay.Position{Micros: v.gap, Mark: v.gapMark}
	}
	return p
}

// limit finds the first event within the limits. Redis removes events a little later.
func (v *view) limit(limits relay.HistoryLimits) {
	bytes, oldest := 0, v.now-limits.Age.Microseconds()
	for v.first = len(v.events); v.first > 0; v.first-- {
		ev := &v.events[v.first-1]
		bytes += len(ev.Text)
		if len(v.events)-v.first >= limits.Count || bytes > limits.Bytes || ev.Position.Micros < oldest {
			return
		}
	}
}

// resume returns the index of the first event behind a position, or the reason for which events may be missing. Across
// gaps, it returns the index of the position's own event.
func (v *view) resume(after relay.Position, across bool) (begin int, err error) {
	begin, kept := slices.BinarySearchFunc(v.events, after.Micros, func(ev relay.Event, micros int64) int {
		return cmp.Compare(ev.Position.Micros, micros)
	})
	ours := after.Mark == v.epoch && after.Micros > 0
	isGap := after.Micros == v.gap && after.Mark == v.gapMark && v.gap > 0
	isHead := ours && (after.Micros == v.head || slices.Contains(v.heads, after.Micros))
	switch {
	case !(isGap || isHead) && !(ours && (kept || after.Micros == v.removed)), after.Micros < v.removed:
		return 0, relay.NotRecoveredUnknown
	case across && kept && begin >= v.first:
		return begin, nil
	case after.Micros < v.gap, v.gap > 0 && !isGap && !isHead && after.Micros <= v.gap+relay.HistorySlack:
		return 0, relay.NotRecoveredGap
	}
	if kept {
		begin++
	}
	if begin < v.first {
		return 0, relay.NotRecoveredUnknown
	}
	if isGap { // The node that marked it has another clock.
		for begin > v.first && v.events[begin-1].Position.Micros >= after.Micros-relay.HistorySlack {
			begin--
		}
	}
	return begin, nil
}
