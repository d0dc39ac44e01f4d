package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func jobs(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("job_%d", i)
	}
	return list
}

// send publishes texts, and returns their positions once they have arrived.
func (n *historyNode) send(t testing.TB, group string, texts ...string) (at []relay.Position) {
	t.Helper()
	for _, text := range texts {
		if _, err := n.Publish(t.Context(), group, []byte(text)); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, text+" in "+group, func() bool {
			p, arrived := n.position(group, text)
			if arrived {
				at = append(at, p)
			}
			return arrived
		})
	}
	return at
}

// resume reads what follows a position.
func (n *historyNode) resume(group string, after relay.Position) (texts []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	p := n.Read(ctx, []relay.HistoryQuery{{Group: group, After: []relay.Position{after}}})[0]
	if p.Err != nil {
		return nil, p.Err
	}
	for _, ev := range p.Events {
		if ev.Position.Compare(after) > 0 {
			texts = append(texts, string(ev.Text))
		}
	}
	return texts, p.Resumable[0]
}

func (n *historyNode) expect(t testing.TB, group string, after relay.Position, reason error, want ...string) {
	t.Helper()
	texts, err := n.resume(group, after)
	if !errors.Is(err, reason) || reason == nil && !slices.Equal(texts, want) {
		t.Errorf("%s behind %v: %q, %v; want %q, %v", group, after, texts, err, want, reason)
	}
}

// What is published while a subscription is away is read from the stream: nothing is lost, and nothing comes twice.
func TestHistoryFillsInterruptions(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 3, 0)
	groups := jobs(12)
	limits := relay.HistoryLimits{Count: 100_000, Bytes: 1 << 24, Age: time.Hour}
	n := startHistory(t, settings(c.Addresses()...), limits, append(groups, "job_quiet")...)
	emitter := startHistory(t, settings(c.Addresses()...), limits)
	n.Read(t.Context(), []relay.HistoryQuery{{Group: "job_quiet"}}) // as for the first client
	tr := publish(emitter.Broker, groups, 2*time.Millisecond)
	defer tr.stop()
	from := time.Now()
	for round := range 6 {
		tr.arrived(t, n.sink)
		for _, m := range c.Masters {
			m.Do("CLIENT", "KILL", "TYPE", "pubsub")
		}
		if slot := c.Slot("edgerelay:" + groups[round]); c.Owner(slot) != 2 {
			c.Move(slot, 2)
		}
	}
	tr.arrived(t, n.sink)
	tr.stop()
	tr.check(t, n.sink, func(string) bool { return true }, from)
	delivered := map[string][]relay.Event{}
	for _, ev := range n.sink.Events() {
		delivered[ev.Group] = append(delivered[ev.Group], ev)
	}
	for _, g := range groups {
		page := n.Read(t.Context(), []relay.HistoryQuery{{Group: g, Latest: limits.Count}})[0]
		same := slices.EqualFunc(page.Events, delivered[g], func(a, b relay.Event) bool {
			return a.Position == b.Position && string(a.Text) == string(b.Text) && a.Sent.Equal(b.Sent)
		})
		if !same {
			t.Errorf("%s: %d events in the stream, %d delivered", g, len(page.Events), len(delivered[g]))
		}
	}
	if h := n.Health(); h.Gaps != 0 || h.Reconnects == 0 {
		t.Errorf("%d gaps after %d reconnects", h.Gaps, h.Reconnects)
	}
}

// A replica that takes over may lack events: no client resumes across the change. Streams elsewhere are not affected.
func TestHistoryAfterFailover(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 3, 1)
	groups := jobs(12)
	s := settings(c.Addresses()[1:]...)
	n := startHistory(t, s, relay.DefaultHistoryLimits, groups...)
	before := map[string]relay.Position{}
	hurt := map[string]bool{}
	for _, g := range groups {
		before[g] = n.send(t, g, "a")[0]
		hurt[g] = c.Owner(c.Slot("edgerelay:"+g)) == 0
	}
	testkit.Eventually(t, "the replica to be in step", func() bool { return c.Masters[0].Do("WAIT", 1, 1000) == int64(1) })
	c.Masters[0].Kill()
	for _, g := range groups {
		testkit.Eventually(t, "an event of "+g, func() bool {
			_, err := n.Publish(t.Context(), g, []byte("b"))
			_, arrived := n.position(g, "b")
			return err == nil && arrived
		})
	}
	again := startHistory(t, s, relay.DefaultHistoryLimits)
	for _, g := range groups {
		for _, node := range []*historyNode{n, again} {
			texts, err := node.resume(g, before[g])
			switch {
			case hurt[g] && err != relay.NotRecoveredGap:
				t.Errorf("%s of the failed master: %q, %v", g, texts, err)
			case !hurt[g] && (err != nil || len(texts) == 0):
				t.Errorf("%s of another master: %q, %v", g, texts, err)
			}
		}
	}
}

func TestHistoryAfterRestartOfAMaster(t *testing.T) {
	t.Parallel()
	for _, with := range []struct {
		name, file string
		want       error
	}{{"with its file", "yes", relay.NotRecoveredGap}, {"empty", "no", relay.NotRecoveredUnknown}} {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			c := peers.StartRedisCluster(t, 1, 0, "--appendonly", with.file)
			n := startHistory(t, settings(c.Addresses()...), relay.DefaultHistoryLimits, "job_1")
			before := n.send(t, "job_1", "a", "b")[0]
			c.Masters[0].Kill()
			c.Masters[0].Restart()
			testkit.Eventually(t, "the layer to be healthy", func() bool { return n.Health().OK })
			testkit.Eventually(t, "the history", func() bool {
				_, err := n.resume("job_1", before)
				return err != relay.NotRecoveredUnavailable
			})
			n.expect(t, "job_1", before, with.want)
			n.send(t, "job_1", "c")
			head := n.Read(t.Context(), []relay.HistoryQuery{{Group: "job_1"}})[0].Head
			n.send(t, "job_1", "d")
			n.expect(t, "job_1", head, nil, "d")
		})
	}
}

// Events without a number come from nodes without a history, and when Redis has no memory for the stream. They are
// delivered, and no client resumes across them.
func TestEventsWithoutANumber(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 1, 0)
	n := startHistory(t, settings(c.Addresses()...), relay.DefaultHistoryLimits, "job_1")
	plain, plainSink := start(t, settings(c.Addresses()...), "job_1")
	at := n.send(t, "job_1", "a")[0]
	if at.IsZero() {
		t.Fatal("an event without a position")
	}
	n.expect(t, "job_1", at, nil)
	if _, err := plain.Publish(t.Context(), "job_1", []byte("plain")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the event without a number", func() bool { return len(n.sink.Texts("job_1")) == 2 })
	n.expect(t, "job_1", at, relay.NotRecoveredGap)
	testkit.Eventually(t, "both events", func() bool { return len(plainSink.Texts("job_1")) == 2 })
	for _, ev := range plainSink.Events() {
		if !ev.Position.IsZero() {
			t.Errorf("%s has a position on a node without a history", ev.Text)
		}
	}
	head := n.Read(t.Context(), []relay.HistoryQuery{{Group: "job_1"}})[0].Head
	n.expect(t, "job_1", head, nil)
	c.Masters[0].Do("CONFIG", "SET", "maxmemory", "1")
	full := n.send(t, "job_1", "full")[0]
	c.Masters[0].Do("CONFIG", "SET", "maxmemory", "0")
	if failed := n.History.(relay.HistoryInspector).HistoryStats().Failed; !full.IsZero() || failed == 0 {
		t.Errorf("without memory: position %v, %d failures", full, failed)
	}
	n.expect(t, "job_1", head, relay.ErrNotRecovered)
	c.Masters[0].Do("SET", "edgerelay:history:{edgerelay:job_2}", "of another program")
	n.join(t, "job_2")
	n.send(t, "job_2", "delivered", "stored")
	if at := n.send(t, "job_2", "numbered")[0]; at.IsZero() {
		t.Error("a key of another type was not replaced")
	}
}

func TestHistoryAfterAWipe(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 1, 0)
	n := startHistory(t, settings(c.Addresses()...), relay.DefaultHistoryLimits, "job_1")
	before := n.send(t, "job_1", "a", "b")
	for _, keys := range [][]any{
		{"FLUSHALL"},
		{"DEL", "edgerelay:history:{edgerelay:job_1}"},
		{"DEL", "edgerelay:history:{edgerelay:job_1}:meta"},
	} {
		c.Masters[0].Do(keys...)
		n.expect(t, "job_1", before[0], relay.NotRecoveredUnknown)
		text := fmt.Sprint(keys)
		at := n.send(t, "job_1", text)
		n.expect(t, "job_1", before[0], relay.NotRecoveredUnknown)
		n.expect(t, "job_1", at[0], nil)
		before = append(at, n.send(t, "job_1", text+" and one more")...)
		n.expect(t, "job_1", before[0], nil, text+" and one more")
	}
	if texts := n.sink.Texts("job_1"); len(texts) != 8 || n.Health().Gaps != 0 {
		t.Errorf("delivered: %q, %d gaps", texts, n.Health().Gaps)
	}
}

// Texts go with their age. A client of a quiet group still resumes, because nothing is missing behind its position.
func TestHistoryOfAQuietGroup(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 1, 0)
	limits := relay.HistoryLimits{Count: 10, Bytes: 1000, Age: 300 * time.Millisecond}
	n := startHistory(t, settings(c.Addresses()...), limits, "job_1")
	at := n.send(t, "job_1", "a", "b")
	testkit.Eventually(t, "the stream to expire", func() bool {
		return c.Masters[0].Do("EXISTS", "edgerelay:history:{edgerelay:job_1}") == int64(0)
	})
	n.expect(t, "job_1", at[0], relay.NotRecoveredUnknown)
	n.expect(t, "job_1", at[1], nil)
	n.send(t, "job_1", "c")
	if info, err := n.History.(relay.HistoryInspector).InspectHistory(t.Context(), "job_1"); err != nil || info.Bytes == 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A reload may end the history and begin another one.
func TestHistoryIsSwitchedOffAndOn(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 1, 0)
	n := startHistory(t, settings(c.Addresses()...), relay.DefaultHistoryLimits, "job_1")
	n.send(t, "job_1", "a")
	if h, err := n.KeepHistory(relay.HistoryPolicy{}); h != nil || err != nil {
		t.Fatalf("without rules: %v, %v", h, err)
	}
	if at := n.send(t, "job_1", "b")[0]; !at.IsZero() {
		t.Error("a position without a history")
	}
	h, err := n.KeepHistory(historyPolicy(relay.DefaultHistoryLimits))
	if err != nil {
		t.Fatal(err)
	}
	n.History = h
	at := n.send(t, "job_1", "c", "d")
	n.expect(t, "job_1", at[0], nil, "d")
	if texts := n.sink.Texts("job_1"); len(texts) != 4 {
		t.Errorf("delivered: %q", texts)
	}
	same, err := n.KeepHistory(historyPolicy(relay.HistoryLimits{Count: 1, Bytes: 100, Age: time.Hour}))
	if limits, _ := h.Limits("job_1"); same != h || err != nil || limits.Count != 1 {
		t.Errorf("another policy: %v, limits %+v", err, limits)
	}
}

// The rights that the documentation names are enough.
func TestHistoryWithFewRights(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 2, 0)
	for _, m := range c.Masters {
		m.Do("ACL", "SETUSER", "relay", "reset", "on", ">secret", "~edgerelay:*", "&edgerelay:*", "+@all", "-@admin")
	}
	s := settings(c.Addresses()...)
	s.Username, s.Password = "relay", "secret"
	n := startHistory(t, s, relay.DefaultHistoryLimits, jobs(4)...)
	for _, g := range jobs(4) {
		at := n.send(t, g, "a", "b")
		n.expect(t, g, at[0], nil, "b")
		gap := n.MarkGap(relay.Loss{Groups: []string{g}})
		n.expect(t, g, at[1], relay.NotRecoveredGap)
		n.expect(t, g, gap, nil)
	}
}
