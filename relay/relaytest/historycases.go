package relaytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// markerSlack is more than the time after a gap in which an event may count as one before the gap.
const markerSlack = relay.HistorySlack*time.Microsecond + 100*time.Millisecond

var resumeTests = []historyCase{
	{name: "resumes behind each event", run: func(t *historyTest) {
		t.n.Join("job_1")
		texts := numbers(0, 10)
		at := t.n.publish(t, "job_1", texts...)
		for i := range at {
			t.n.expectMissed(t, "job_1", at[i], texts[i+1:]...)
			if at[i].IsZero() || i > 0 && at[i].Compare(at[i-1]) <= 0 {
				t.Errorf("event %d has the position %v, behind %v", i, at[i], at[max(i-1, 0)])
			}
		}
		t.n.expectMissed(t, "job_1", t.n.read(t, relay.HistoryQuery{Group: "job_1"}).Head)
	}},
	{name: "answers many positions at once", run: func(t *historyTest) {
		t.n.Join("job_1")
		texts := numbers(0, 300)
		at := t.n.publish(t, "job_1", texts...)
		q := relay.HistoryQuery{Group: "job_1", After: append(slices.Clone(at[100:]), relay.Position{Micros: 1, Mark: 1})}
		p := t.n.read(t, q)
		for i, err := range p.Resumable[:200] {
			if got := missed(p, at[100+i]); err != nil || !slices.Equal(got, texts[101+i:]) {
				t.Fatalf("behind event %d: %d events, %v", 100+i, len(got), err)
			}
		}
		if !errors.Is(p.Resumable[200], relay.NotRecoveredUnknown) {
			t.Errorf("an unknown position: %v", p.Resumable[200])
		}
	}},
	{name: "keeps texts and groups apart", run: func(t *historyTest) {
		t.n.Join("job_1", "job_2")
		text := "{\"x\":  1, \"s\": \"\\u001b[0;32mok\u00e9 <&>\"}"
		one := t.n.publish(t, "job_1", "first", text, "same", "same")
		two := t.n.publish(t, "job_2", "first", "other")
		t.n.expectMissed(t, "job_1", one[0], text, "same", "same")
		t.n.expectMissed(t, "job_2", two[0], "other")
		t.n.expectReason(t, "job_2", one[0], relay.NotRecoveredUnknown)
		t.n.expectReason(t, "job_1", two[1], relay.NotRecoveredUnknown)
	}},
	{name: "keeps types", run: func(t *historyTest) {
		if t.n.PublishMessage == nil {
			t.Log("the node publishes no messages with a type")
			return
		}
		t.n.Join("job_1")
		text := `{"type": "chat.message", "n": 1}`
		first := t.n.Publish(t, "job_1", text)
		typed := t.n.PublishMessage(t, relay.Message{Group: "job_1", Type: "chat.message", Text: []byte(`{"n":1}`), Sender: "s"})
		t.n.Publish(t, "job_1", "last")
		t.n.expectMissed(t, "job_1", first, text, "last")
		t.n.expectMissed(t, "job_1", typed, "last")
		p := t.n.read(t, relay.HistoryQuery{Group: "job_1", Latest: 3})
		var types, texts []string
		for _, ev := range p.Events {
			types, texts = append(types, ev.Type), append(texts, string(ev.Text))
		}
		if want := []string{"", "chat.message", ""}; !slices.Equal(types, want) || !slices.Equal(texts, []string{text, text, "last"}) {
			t.Errorf("types %q of %q, want %q", types, texts, want)
		}
	}},
	{name: "returns the latest events", run: func(t *historyTest) {
		t.n.Join("job_1")
		texts := numbers(0, 20)
		at := t.n.publish(t, "job_1", texts...)
		for _, n := range []int{1, 5, 20, 1000} {
			want := texts[max(0, 20-n):]
			if p := t.n.read(t, relay.HistoryQuery{Group: "job_1", Latest: n}); !endsWith(p, want) || p.Head != at[19] {
				t.Errorf("latest %d: %q, head %v", n, missed(p, relay.Position{}), p.Head)
			}
		}
		p := t.n.read(t, relay.HistoryQuery{Group: "job_1", After: at[17:18], Latest: 5})
		if !endsWith(p, texts[15:]) || p.Resumable[0] != nil {
			t.Errorf("latest 5 and two missed: %q", missed(p, relay.Position{}))
		}
		if p := t.n.read(t, relay.HistoryQuery{Group: "job_2", Latest: 5}); p.Err != nil || len(p.Events) > 0 {
			t.Errorf("latest of an empty group: %+v", p)
		}
	}},
	{name: "gives an empty group a head", run: func(t *historyTest) {
		t.n.Join("job_1")
		head := t.n.read(t, relay.HistoryQuery{Group: "job_1"}).Head
		if again := t.n.read(t, relay.HistoryQuery{Group: "job_1"}).Head; again != head {
			t.Errorf("heads %v and %v of a group without events", head, again)
		}
		t.n.expectMissed(t, "job_1", head)
		t.n.publish(t, "job_1", "a", "b")
		t.n.expectMissed(t, "job_1", head, "a", "b")
	}},
	{name: "answers many groups in one read", run: func(t *historyTest) {
		var queries []relay.HistoryQuery
		for i := range 50 {
			group := fmt.Sprintf("job_%d", i)
			t.n.Join(group)
			at := t.n.publish(t, group, numbers(i, 3)...)
			queries = append(queries, relay.HistoryQuery{Group: group, After: at[:1]})
		}
		off := relay.HistoryQuery{Group: "other", After: []relay.Position{{Micros: 1}}, Latest: 3}
		queries = slices.Insert(queries, 25, off)
		for i, p := range t.n.readAll(t, queries...) {
			n := i
			if i > 25 {
				n--
			}
			switch {
			case i == 25:
				if !errors.Is(p.Err, relay.NotRecoveredOff) || len(p.Events) > 0 {
					t.Errorf("a group without history: %+v", p)
				}
			case p.Err != nil || p.Resumable[0] != nil || !slices.Equal(missed(p, queries[i].After[0]), numbers(n+1, 2)):
				t.Errorf("%s: %q, %v, %v", queries[i].Group, missed(p, queries[i].After[0]), p.Resumable, p.Err)
			}
		}
		if pages := t.n.readAll(t); len(pages) > 0 {
			t.Errorf("%d pages for no query", len(pages))
		}
	}},
	{name: "knows the groups with history", limits: few(7, 1000), run: func(t *historyTest) {
		want := few(7, 1000)
		if got, ok := t.n.Limits("job_1"); !ok || got != want {
			t.Errorf("limits %+v, %v", got, ok)
		}
		if got, ok := t.n.Limits("other"); ok {
			t.Errorf("limits %+v of a group without history", got)
		}
		t.n.Join("other")
		if at := t.n.Publish(t, "other", "x"); !at.IsZero() {
			t.Errorf("an event of a group without history has the position %v", at)
		}
	}},
	{name: "serves concurrent calls", run: concurrentCalls},
}

// endsWith reports whether the page's events end with texts.
func endsWith(p relay.HistoryPage, texts []string) bool {
	got := missed(p, relay.Position{})
	return len(got) >= len(texts) && slices.Equal(got[len(got)-len(texts):], texts)
}

// concurrentCalls publishes, resumes and marks gaps at once, and then looks at what is kept.
func concurrentCalls(t *historyTest) {
	const writers, events = 4, 50
	t.n.Join("job_0", "job_1", "job_gap")
	start := map[string]relay.Position{}
	for _, g := range []string{"job_0", "job_1"} {
		start[g] = t.n.read(t, relay.HistoryQuery{Group: g}).Head
	}
	stop := make(chan struct{})
	var publishers, readers sync.WaitGroup
	for w := range writers {
		publishers.Go(func() {
			for i := range events {
				t.n.Publish(t, fmt.Sprintf("job_%d", w%2), fmt.Sprintf("%d %d", w, i))
			}
		})
		readers.Go(func() {
			group := fmt.Sprintf("job_%d", w%2)
			for at := start[group]; ; {
				p := t.n.read(t, relay.HistoryQuery{Group: group, After: []relay.Position{at}})
				if p.Err != nil || p.Resumable[0] != nil {
					t.Errorf("%s: cannot resume behind a head: %v, %v", group, p.Resumable, p.Err)
					return
				}
				at = p.Head
				t.n.MarkGap(relay.Loss{Groups: []string{"job_gap"}})
				t.n.Limits(group)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	publishers.Wait()
	close(stop)
	readers.Wait()
	for group, at := range start {
		p := t.n.read(t, relay.HistoryQuery{Group: group, After: []relay.Position{at}})
		next, seen := map[string]int{}, 0
		for _, text := range missed(p, at) {
			writer, number, _ := strings.Cut(text, " ")
			if number != fmt.Sprint(next[writer]) {
				t.Fatalf("%s: %s of writer %s, want %d", group, number, writer, next[writer])
			}
			next[writer]++
			seen++
		}
		if seen != writers/2*events || p.Resumable[0] != nil {
			t.Errorf("%s: %d events, want %d; %v", group, seen, writers/2*events, p.Resumable[0])
		}
	}
}

var gapTests = []historyCase{
	{name: "does not resume across a gap", run: func(t *historyTest) {
		t.n.Join("job_1", "job_2")
		before := t.n.publish(t, "job_1", "a", "b")
		other := t.n.publish(t, "job_2", "a", "b")
		gap := t.n.MarkGap(relay.Loss{Cause: relay.LossInterrupted, Groups: []string{"job_1", "other"}})
		if gap.IsZero() {
			t.Fatal("the gap has no position")
		}
		for _, at := range before {
			t.n.expectReason(t, "job_1", at, relay.NotRecoveredGap)
		}
		t.n.expectBehindGap(t, "job_1", gap)
		t.n.publish(t, "job_1", "c")
		t.n.expectReason(t, "job_1", before[1], relay.NotRecoveredGap)
		t.n.expectBehindGap(t, "job_1", gap, "c")
		t.n.expectMissed(t, "job_2", other[0], "b")
		if p := t.n.read(t, relay.HistoryQuery{Group: "job_1", Latest: 10}); !endsWith(p, []string{"a", "b", "c"}) {
			t.Errorf("the latest events around a gap: %q", missed(p, relay.Position{}))
		}
	}},
	{name: "resumes behind a gap", clock: true, run: func(t *historyTest) {
		t.n.Join("job_1")
		t.n.publish(t, "job_1", "a")
		first := t.n.MarkGap(relay.Loss{Groups: []string{"job_1"}})
		t.n.Advance(markerSlack)
		at := t.n.publish(t, "job_1", "b", "c")
		t.n.expectMissed(t, "job_1", at[0], "c")
		second := t.n.MarkGap(relay.Loss{Groups: []string{"job_1"}})
		t.n.expectReason(t, "job_1", at[0], relay.NotRecoveredGap)
		t.n.expectReason(t, "job_1", first, relay.ErrNotRecovered)
		t.n.expectBehindGap(t, "job_1", second)
		t.n.expectMissed(t, "job_1", t.n.read(t, relay.HistoryQuery{Group: "job_1"}).Head)
	}},
	{name: "marks a gap of all groups", run: func(t *historyTest) {
		t.n.Join("job_1", "job_2")
		at := t.n.publish(t, "job_1", "a")[0]
		head := t.n.read(t, relay.HistoryQuery{Group: "job_2"}).Head
		gap := t.n.MarkGap(relay.Loss{Cause: relay.LossFailover, All: true})
		t.n.expectReason(t, "job_1", at, relay.NotRecoveredGap)
		t.n.expectReason(t, "job_2", head, relay.ErrNotRecovered)
		t.n.expectBehindGap(t, "job_1", gap)
		t.n.publish(t, "job_1", "b")
		t.n.expectBehindGap(t, "job_1", gap, "b")
	}},
	{name: "has no silent hole where the node was no member", run: func(t *historyTest) {
		t.n.Join("job_1")
		at := t.n.publish(t, "job_1", "a")[0]
		t.n.Leave("job_1")
		t.n.publish(t, "job_1", "b")
		t.n.Join("job_1")
		t.n.publish(t, "job_1", "c")
		p := t.n.read(t, relay.HistoryQuery{Group: "job_1", After: []relay.Position{at}})
		if p.Err == nil && p.Resumable[0] == nil && !slices.Equal(missed(p, at), []string{"b", "c"}) {
			t.Errorf("complete, with %q", missed(p, at))
		}
	}},
}

// few returns limits of a minute.
func few(count, bytes int) relay.HistoryLimits {
	return relay.HistoryLimits{Count: count, Bytes: bytes, Age: time.Minute}
}

var boundTests = []historyCase{
	{name: "bounds the number of events", limits: few(20, 1<<20), run: func(t *historyTest) {
		t.n.Join("job_1")
		texts := numbers(0, 100+5*t.Excess)
		t.expectTail(texts, t.n.publish(t, "job_1", texts...), 20, 20+t.Excess)
	}},
	{name: "bounds the bytes", limits: few(1000, 1000), run: func(t *historyTest) {
		t.n.Join("job_1")
		texts := numbers(0, 40+5*t.Excess)
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"n": %d, "s": %q}`, i, strings.Repeat("x", 80))
		}
		t.expectTail(texts, t.n.publish(t, "job_1", texts...), 8, 12+t.Excess)
	}},
	{name: "bounds the age", limits: few(1000, 1<<20), clock: true, run: func(t *historyTest) {
		t.n.Join("job_1")
		at := t.n.publish(t, "job_1", "a", "b")
		t.n.Advance(50 * time.Second)
		at = append(at, t.n.publish(t, "job_1", "c")...)
		t.n.Advance(30 * time.Second)
		t.n.expectReason(t, "job_1", at[0], relay.NotRecoveredUnknown)
		t.n.expectMissed(t, "job_1", at[1], "c") // the last removed event: nothing behind it is missing
		latest := missed(t.n.read(t, relay.HistoryQuery{Group: "job_1", Latest: 10}), relay.Position{})
		if !slices.Equal(latest, []string{"c"}) {
			t.Errorf("the latest are %q, want those of the last minute", latest)
		}
	}},
	{name: "keeps a head within the age", limits: few(1000, 1<<20), clock: true, run: func(t *historyTest) {
		t.n.Join("job_1")
		head := t.n.read(t, relay.HistoryQuery{Group: "job_1"}).Head
		t.n.Advance(30 * time.Second)
		t.n.expectMissed(t, "job_1", head)
		t.n.publish(t, "job_1", "a")
		t.n.expectMissed(t, "job_1", head, "a")
	}},
}

// expectTail looks at a group whose older events were trimmed. At least least events and most at most are kept.
func (t *historyTest) expectTail(texts []string, at []relay.Position, least, most int) {
	t.Helper()
	if t.n.Advance != nil {
		t.n.Advance(2 * time.Second)
	}
	p := t.n.read(t, relay.HistoryQuery{Group: "job_1", Latest: len(texts)})
	kept := missed(p, relay.Position{})
	if len(kept) < least || len(kept) > most || !slices.Equal(kept, texts[len(texts)-len(kept):]) {
		t.Fatalf("%d of %d events are kept, want %d to %d, the last ones: %q", len(kept), len(texts), least, most, kept)
	}
	first := len(texts) - len(kept)
	for i := range at {
		switch {
		case i < first-1 && i >= first-1-t.Excess: // may be kept, although it is more than what is read
		case i < first-1:
			t.n.expectReason(t, "job_1", at[i], relay.NotRecoveredUnknown)
		default: // from the last removed event on, nothing is missing
			t.n.expectMissed(t, "job_1", at[i], texts[i+1:]...)
		}
	}
}

var sharedTests = []historyCase{
	{name: "reads across gaps", run: readsAcrossGaps},
	{name: "resumes on another node", shared: true, run: func(t *historyTest) {
		other := t.peer()
		t.n.Join("job_1")
		other.Join("job_1")
		at := t.n.publish(t, "job_1", "a", "b")
		at = append(at, other.publish(t, "job_1", "c")...)
		for i := range at {
			want := []string{"a", "b", "c"}[i+1:]
			t.n.expectMissed(t, "job_1", at[i], want...)
			other.expectMissed(t, "job_1", at[i], want...)
		}
		head := other.read(t, relay.HistoryQuery{Group: "job_1"}).Head
		t.n.expectMissed(t, "job_1", head)
		if quiet := other.read(t, relay.HistoryQuery{Group: "job_2"}).Head; !quiet.IsZero() {
			t.n.Join("job_2")
			p := t.n.read(t, relay.HistoryQuery{Group: "job_2", After: []relay.Position{quiet}})
			if p.Err != nil {
				t.Errorf("the head of an empty group: %v", p.Err)
			}
		}
	}},
	{name: "learns of gaps of another node", shared: true, run: func(t *historyTest) {
		other := t.peer()
		t.n.Join("job_1")
		other.Join("job_1")
		at := t.n.publish(t, "job_1", "a")[0]
		gap := other.MarkGap(relay.Loss{Cause: relay.LossMailboxFull, Groups: []string{"job_1"}})
		other.expectReason(t, "job_1", at, relay.NotRecoveredGap)
		other.expectBehindGap(t, "job_1", gap)
		testkit.Eventually(t, "the gap to be known here", func() bool {
			p := t.n.read(t, relay.HistoryQuery{Group: "job_1", After: []relay.Position{at, gap}})
			return p.Err == nil && errors.Is(p.Resumable[0], relay.NotRecoveredGap) && p.Resumable[1] == nil
		})
	}},
	{name: "marks a gap of all groups for those that a new node joins later", shared: true, run: func(t *historyTest) {
		t.n.Join("job_1")
		at := t.n.publish(t, "job_1", "a")[0]
		again := t.peer()
		again.Join("job_2")
		gap := again.MarkGap(relay.Loss{Cause: relay.LossPeerLink, All: true})
		again.Join("job_1")
		again.expectReason(t, "job_1", at, relay.NotRecoveredGap)
		again.expectBehindGap(t, "job_1", gap)
		t.n.publish(t, "job_1", "b")
		again.expectBehindGap(t, "job_1", gap, "b")
	}},
	{name: "resumes after a restart", shared: true, run: func(t *historyTest) {
		t.n.Join("job_1")
		other := t.peer() // is a member all the time
		other.Join("job_1")
		at := t.n.publish(t, "job_1", "a", "b")
		if err := t.n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		other.publish(t, "job_1", "c")
		again := t.peer()
		again.Join("job_1")
		again.expectMissed(t, "job_1", at[0], "b", "c")
	}},
}
