package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// calls counts the commands that a Redis has executed, by name.
func calls(t *testing.T, server *peers.Redis) map[string]int {
	t.Helper()
	text, ok := server.Do("INFO", "commandstats").(string)
	if !ok {
		t.Fatal("no commandstats")
	}
	counts := map[string]int{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
		if err != nil {
			t.Fatal(err)
		}
		counts[name] = n
	}
	return counts
}

// tap is a proxy that records the writes of its clients.
type tap struct {
	*testkit.Proxy
	mu     sync.Mutex
	pieces [][]byte
}

func newTap(t *testing.T, server *peers.Redis) *tap {
	t.Helper()
	p := &tap{}
	p.Proxy = testkit.StartRelay(t, server.Addr, func(_ int, b []byte, to io.Writer) {
		p.mu.Lock()
		p.pieces = append(p.pieces, bytes.Clone(b))
		p.mu.Unlock()
		_, _ = to.Write(b)
	}, nil)
	return p
}

// An event on an idle node costs Redis two commands, which travel in one piece: one round trip after the wake-up the
// node has the event.
func TestAnIdleNodeReadsAnEventInOneRoundTrip(t *testing.T) {
	server := peers.StartRedis(t)
	proxy := newTap(t, server)
	s := settings(server)
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	_, sink := start(t, s, "jobs-status_changed")
	emitter := newBroker(t, settings(server)) // on a way of its own
	t.Cleanup(func() { _ = emitter.Close(context.Background()) })
	send := func(i int) {
		if _, err := emitter.Publish(context.Background(), "jobs-status_changed", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the event", func() bool { return len(sink.Events()) > i })
	}
	send(0)
	testkit.Eventually(t, "the node's first look at the others' beats", func() bool {
		proxy.mu.Lock()
		defer proxy.mu.Unlock()
		return slices.ContainsFunc(proxy.pieces, func(piece []byte) bool { return bytes.Contains(piece, []byte("pttl")) })
	})
	before := calls(t, server)
	proxy.mu.Lock()
	from := len(proxy.pieces)
	proxy.mu.Unlock()
	const events = 20
	for i := range events {
		send(i + 1)
	}
	after := calls(t, server)
	if n := after["rename"] - before["rename"]; n != events {
		t.Errorf("%d RENAMEs for %d events", n, events)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	trips, others := 0, 0
	for _, piece := range proxy.pieces[from:] {
		switch upper := bytes.ToUpper(piece); {
		case bytes.Contains(upper, []byte("RENAME")):
			if trips++; !bytes.Contains(upper, []byte("ZRANGE")) {
				t.Errorf("the reading does not travel with the renaming: %q", piece)
			}
		case bytes.Contains(upper, []byte("EXISTS")): // a sign of life, once a second
		default:
			others++
			t.Logf("besides: %q", piece)
		}
	}
	if trips != events || others > 0 {
		t.Errorf("%d round trips and %d other messages to Redis for %d events, want one each", trips, others, events)
	}
}

// Joining and leaving costs commands by the group, however many clients or calls want it, and they travel by the
// hundred.
func TestMembershipCostsByTheGroup(t *testing.T) {
	server := peers.StartRedis(t)
	proxy := newTap(t, server)
	s := settings(server)
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	b, _ := start(t, s, "warm-1")
	var groups []string
	const count = 200
	for i := range count {
		groups = append(groups, fmt.Sprint("job_events-", i))
	}
	before := calls(t, server)
	proxy.mu.Lock()
	from := len(proxy.pieces)
	proxy.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
	b.Leave(groups...)
	testkit.Eventually(t, "the groups to be left", func() bool { return server.Do("EXISTS", "asgi:group:job_events-199") == int64(0) })
	after := calls(t, server)
	total := 0
	for name, n := range after {
		if name != "info" && name != "exists" {
			total += n - before[name]
		}
	}
	// ZADD, EXPIRE, ZREM, and a look because Redis tells of our own change, on a busy machine two; and a few commands
	// of the node itself.
	if total > 5*count+50 {
		t.Errorf("%d commands for %d groups joined and left", total, count)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	if pieces := len(proxy.pieces) - from; pieces > count/4 {
		t.Errorf("they came in %d pieces: they are not pipelined", pieces)
	}
}
