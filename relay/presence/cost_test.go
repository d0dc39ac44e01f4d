package presence

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Ten thousand users enter one group, beyond the bound of announcements: a few are announced, the others are counted.
func TestTenThousandUsersInOneGroup(t *testing.T) {
	const users = 10_000
	server := peers.StartRedis(t)
	s := newRedisSite(t, newLayer(t, server.URL))
	n := s.node()
	p := &Policy{Grace: 100 * time.Millisecond, AnnounceUpTo: 100}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	for i := range users {
		n.Enter(Key{"room", fmt.Sprint(i)}, Connection(i), "", p)
	}
	took := time.Since(began)
	list, err := n.List(context.Background(), "room", 100)
	if err != nil || list.Count != users || len(list.Users) != 100 {
		t.Fatalf("list: %d of %d users, %v", len(list.Users), list.Count, err)
	}
	stored := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	testkit.Eventually(t, "the number is announced", func() bool {
		all := s.heard.all()
		return len(all) > 100 && all[len(all)-1] == fmt.Sprintf(`room presence.count {"count": %d}`, users)
	})
	if got := len(s.heard.all()); got > 110 {
		t.Errorf("%d announcements, want 100 joins and some numbers", got)
	}
	reading := time.Now()
	for range 100 {
		if _, err := n.List(context.Background(), "room", 100); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("each user: %v in Enter, %v until stored, %d B in the process; a list of 100 takes %v", took/users,
		stored/users, (after.HeapAlloc-before.HeapAlloc)/users, time.Since(reading)/100)
	t.Logf("redis: %v", server.Do("INFO", "commandstats"))
	t.Logf("redis memory: %v", server.Do("MEMORY", "USAGE", "edgerelay:presence:asgi:g:room", "SAMPLES", "0"))
	for i := range users {
		n.Leave(Key{"room", fmt.Sprint(i)}, Connection(i))
	}
	testkit.EventuallyWithin(t, 20*time.Second, "all have left", func() error {
		if list, err := n.List(context.Background(), "room", 1); err != nil || list.Count > 0 {
			return fmt.Errorf("%d members, %v", list.Count, err)
		}
		return nil
	})
}
