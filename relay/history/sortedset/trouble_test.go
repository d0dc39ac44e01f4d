package sortedset_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/sortedset"
)

// Every way in which Redis can lose entries makes earlier positions useless, on all nodes, and later ones useful again.
func TestLostKeys(t *testing.T) {
	const prefix = "edgerelay:history:asgi:"
	for _, tc := range []struct {
		name string
		lose func(server *peers.Redis)
		want error
	}{
		{"everything", func(s *peers.Redis) { s.Do("FLUSHALL") }, relay.NotRecoveredUnknown},
		{"the group", func(s *peers.Redis) { s.Do("DEL", prefix+"g:job1") }, relay.NotRecoveredUnknown},
		{"the key", func(s *peers.Redis) { s.Do("DEL", prefix+"key") }, relay.NotRecoveredGap},
		{"the gaps", func(s *peers.Redis) { s.Do("DEL", prefix+"gaps") }, relay.NotRecoveredGap},
		{"the run", func(s *peers.Redis) { s.Do("DEL", prefix+"run") }, relay.NotRecoveredGap},
		{"a restart with an older copy", func(s *peers.Redis) { s.Do("SET", prefix+"run", "of the former run") }, relay.NotRecoveredGap},
		{"a restart", func(s *peers.Redis) { s.Kill(); s.Restart() }, relay.NotRecoveredUnknown},
		{"another key", func(s *peers.Redis) { s.Do("SET", prefix+"key", "r:"+strings.Repeat("ab", 32)) }, relay.NotRecoveredGap},
		{"key of another type", func(s *peers.Redis) { s.Do("DEL", prefix+"key"); s.Do("LPUSH", prefix+"key", "x") }, relay.NotRecoveredGap},
		{"run of another type", func(s *peers.Redis) { s.Do("DEL", prefix+"run"); s.Do("LPUSH", prefix+"run", "x") }, relay.NotRecoveredGap},
		{"gaps of another type", func(s *peers.Redis) { s.Do("SET", prefix+"gaps", "x") }, relay.NotRecoveredGap},
		{"group of another type", func(s *peers.Redis) { s.Do("SET", prefix+"g:job1", "x") }, relay.NotRecoveredUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, c := peers.StartRedis(t), newClock()
			a, b := newNode(t, server, c), newNode(t, server, c)
			before := a.emit("job1", "a", "b")
			wantResumable(t, b.read("job1", before[1]), nil)
			tc.lose(server)
			wantResumable(t, b.read("job1", before[1]), tc.want)
			a.tick()
			a.emit("job1", "c")
			c.advance(3 * time.Second)
			last := a.emit("job1", "d")[0]
			if other := b.event("job1", "d").Position; other != last {
				t.Errorf("the nodes give the positions %v and %v", last, other)
			}
			b.tick()
			c.advance(3 * time.Second)
			last = b.emit("job1", "e")[0]
			p := a.read("job1", last, before[1])
			wantResumable(t, p, nil, tc.want)
			if texts(p) != "[e]" {
				t.Errorf("got %s", texts(p))
			}
			wantResumable(t, newNode(t, server, c).read("job1", last, before[1]), nil, tc.want)
			if s := a.Trouble() + b.Trouble(); s != "" {
				t.Error(s)
			}
		})
	}
}

// After a wipe, a group without events has a position to resume from.
func TestHeadAfterAWipe(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	n := newNode(t, server, c)
	n.emit("job1", "a")
	c.advance(time.Minute)
	server.Do("FLUSHALL")
	head := n.read("job2").Head
	wantResumable(t, n.read("job2", head), nil)
	wantResumable(t, newNode(t, server, c).read("job2", head), nil)
}

// A node that starts, or connects again, loses nothing.
func TestLoadTwice(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a := newNode(t, server, c)
	at := a.emit("job1", "a")[0]
	a.load()
	b := newNode(t, server, c)
	wantResumable(t, b.read("job1", at), nil)
	if n := a.HistoryStats().Gaps + b.HistoryStats().Gaps; n != 0 {
		t.Errorf("%d gaps", n)
	}
}

// Nodes with a Redis each agree on positions by a configured key.
func TestConfiguredKey(t *testing.T) {
	c := newClock()
	key := func(key string) func(*sortedset.Options) {
		return func(o *sortedset.Options) { o.Policy.Key = key }
	}
	first, second := peers.StartRedis(t), peers.StartRedis(t)
	a, b := newNode(t, first, c, key("secret")), newNode(t, second, c, key("secret"))
	if at := a.event("job1", "x").Position; at.IsZero() || at != b.event("job1", "x").Position {
		t.Error("the positions differ")
	}
	if a.event("job1", "x").Position == newNode(t, peers.StartRedis(t), c, key("other")).event("job1", "x").Position {
		t.Error("the position does not depend on the key")
	}
	at := a.emit("job1", "x")[0]
	other := newNode(t, first, c, key("other")) // This setting is newer.
	wantResumable(t, other.read("job1", at), relay.NotRecoveredGap)
	if err := a.Tick(context.Background()); err == nil || !strings.Contains(a.Trouble(), "history_key") {
		t.Errorf("%v; %q", err, a.Trouble())
	}
	if p := a.event("job1", "x").Position; !p.IsZero() {
		t.Errorf("without a key: %v", p)
	}
	if p := a.Read(context.Background(), []relay.HistoryQuery{{Group: "job1"}})[0]; p.Err != relay.NotRecoveredUnavailable {
		t.Errorf("without a key: %v", p.Err)
	}
	policy := relay.HistoryPolicy{Key: "other", Rules: []relay.HistoryRule{{Pattern: "job*", HistoryLimits: limits}}}
	if err := a.SetPolicy(policy); err != nil {
		t.Fatal(err)
	}
	a.load()
	if a.event("job1", "x").Position != other.event("job1", "x").Position {
		t.Error("the positions differ after the change")
	}
}

func TestEncryption(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	keys := func(keys ...string) func(*sortedset.Options) {
		return func(o *sortedset.Options) { o.EncryptionKeys = keys }
	}
	a, b := newNode(t, server, c, keys("old")), newNode(t, server, c, keys("old"))
	ev := a.event("job1", "a secret")
	a.write(ev)
	b.write(b.event("job1", "a secret"))
	if n := server.Do("ZCARD", "edgerelay:history:asgi:g:job1"); n != int64(1) {
		t.Errorf("%v entries of an event", n)
	}
	if raw := fmt.Sprint(server.Do("ZRANGE", "edgerelay:history:asgi:g:job1", 0, -1)); strings.Contains(raw, "secret") {
		t.Errorf("not encrypted: %q", raw)
	}
	if raw := fmt.Sprint(server.Do("GET", "edgerelay:history:asgi:key")); !strings.HasPrefix(raw, "s:") {
		t.Errorf("the key is not encrypted: %q", raw)
	}
	// During a rotation two nodes write two members.
	rotated := newNode(t, server, c, keys("new", "old"))
	rotated.write(rotated.event("job1", "a secret"))
	p := rotated.read("job1", ev.Position)
	wantResumable(t, p, nil)
	if texts(p) != "[a secret]" {
		t.Errorf("got %s", texts(p))
	}
	b.SetEncryptionKeys([]string{"old", "new"})
	if p := b.read("job1", ev.Position); texts(p) != "[a secret]" {
		t.Errorf("got %s", texts(p))
	}
	// A node without the key cannot know what the entries are.
	blind := newNode(t, server, c, keys("blind"))
	wantResumable(t, blind.read("job1", ev.Position), relay.NotRecoveredGap)
}

func TestPermissions(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	acl := func(rules ...any) {
		server.Do(append([]any{"ACL", "SETUSER", "relay", "reset", "on", ">x", "~edgerelay:history:*"}, rules...)...)
	}
	acl("+@all", "-@admin", "-@dangerous")
	user := func(o *sortedset.Options) { o.Hosts = ring(t, "redis://relay:x@"+server.Addr+"/0") }
	n := newNode(t, server, c, user)
	if p := n.event("job1", "a").Position; !p.IsZero() || !strings.Contains(n.Trouble(), "+info") {
		t.Errorf("without INFO: %v, %q", p, n.Trouble())
	}
	acl("+@all", "-@admin", "-@dangerous", "+info")
	n.load()
	n.Tick(context.Background())
	if n.Trouble() != "" {
		t.Error(n.Trouble())
	}
	at := n.emit("job1", "a")[0]
	n.tick()
	if info, err := n.InspectHistory(context.Background(), "job1"); err != nil || info.Events != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	wantResumable(t, n.read("job1", at), nil)

	acl("+@all", "-@admin", "-@dangerous", "+info", "-zadd")
	n.emit("job1", "lost")
	wantResumable(t, n.read("job1", at), relay.NotRecoveredGap)
	if !strings.Contains(n.Trouble(), "NOPERM") {
		t.Errorf("trouble: %q", n.Trouble())
	}
	acl("+@all", "-@admin", "-@dangerous", "+info")
	n.tick()
	c.advance(3 * time.Second)
	last := n.emit("job1", "b")[0]
	wantResumable(t, newNode(t, server, c).read("job1", at, last), relay.NotRecoveredGap, nil)
	if n.Trouble() != "" {
		t.Error(n.Trouble())
	}
}

// A Redis without memory takes no events. They are missing, and events that are too many go.
func TestOutOfMemory(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	n := newNode(t, server, c, withLimits(relay.HistoryLimits{Count: 3, Bytes: 1000, Age: time.Minute}))
	at := n.emit("job1", "a", "b", "c", "d", "e")
	server.Do("CONFIG", "SET", "maxmemory", 1)
	n.emit("job1", "lost")
	if err := n.Tick(context.Background()); err == nil || !strings.Contains(n.Trouble(), "OOM") {
		t.Errorf("%v; %q", err, n.Trouble())
	}
	server.Do("CONFIG", "SET", "maxmemory", 0)
	n.tick()
	p := newNode(t, server, c).query(relay.HistoryQuery{Group: "job1", After: at, Latest: 9})
	if texts(p) != "[c d e]" {
		t.Errorf("left: %s", texts(p))
	}
	for i, err := range p.Resumable {
		if err == nil {
			t.Errorf("resumed from %d", i)
		}
	}
}

// While Redis is away, gaps wait, and no client resumes.
func TestRedisAway(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	n := newNode(t, server, c)
	at := n.emit("job1", "a")[0]
	server.Kill()
	n.MarkGap(relay.Loss{Groups: []string{"job1"}})
	if p := n.Read(context.Background(), []relay.HistoryQuery{{Group: "job1", After: []relay.Position{at}}})[0]; p.Err == nil {
		t.Error("read from nowhere")
	}
	if n.Tick(context.Background()) == nil || n.Trouble() == "" {
		t.Error("no trouble")
	}
	server.Restart()
	n.tick()
	if info, err := n.InspectHistory(context.Background(), "job1"); err != nil || info.Gaps != 1 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Run does its work while events come.
func TestRun(t *testing.T) {
	server := peers.StartRedis(t)
	n := newNode(t, server, nil, func(o *sortedset.Options) {
		o.Now, o.Policy.Rules[0].HistoryLimits = nil, relay.HistoryLimits{Count: 3, Bytes: 1000, Age: time.Minute}
	})
	running := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(running)
		n.Run(ctx, 0)
	}()
	for i := range 10 {
		n.write(n.event("job1", fmt.Sprint(i), time.Now()))
	}
	n.MarkGap(relay.Loss{Groups: []string{"job2"}})
	eventually(t, "the removal of old events", func() bool { return server.Do("ZCARD", "edgerelay:history:asgi:g:job1") == int64(4) })
	for _, group := range []string{"job1", "job2"} {
		eventually(t, "a limited lifetime", func() bool {
			ttl, _ := server.Do("PTTL", "edgerelay:history:asgi:g:"+group).(int64)
			return ttl > 0
		})
	}
	cancel()
	<-running
	n.MarkGap(relay.Loss{Groups: []string{"job3"}})
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if got := server.Do("EXISTS", "edgerelay:history:asgi:g:job3"); got != int64(1) {
		t.Errorf("the gap was not written: %v", got)
	}
}
