package pubsub_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/layer/pubsub"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func settings(servers ...*peers.Redis) pubsub.Settings {
	s := pubsub.DefaultSettings()
	s.URLs = nil
	for _, r := range servers {
		s.URLs = append(s.URLs, r.URL)
	}
	return s
}

func newBroker(t testing.TB, s pubsub.Settings) *pubsub.Broker {
	t.Helper()
	p, err := pubsub.New(s, layertest.Quiet)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	one, two, three := peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)
	for name, change := range map[string]func(*pubsub.Settings){
		"msgpack":         func(*pubsub.Settings) {},
		"json, encrypted": func(s *pubsub.Settings) { s.Serializer, s.EncryptionKeys = "json", []string{"k"} },
		"a ring, encrypted": func(s *pubsub.Settings) {
			s.Hosts, s.EncryptionKeys = settings(one, two, three).Hosts, []string{"k"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(one)
			change(&s)
			s.Prefix = strings.ReplaceAll(name, " ", "")
			relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, s) })
		})
	}
}

// TestWithPython is [TestShapesWithPython] for this layer.
func TestWithPython(t *testing.T) {
	one, two, three := peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)
	sentinels := peers.StartSentinels(t, "mymaster", three, 0, 1, "")
	ring := settings(one, two, three).Hosts
	one.Do("ACL", "SETUSER", "relay", "on", ">secret", "~edgerelay:*", "resetchannels", "&asgi*", "+@all", "-@admin", "-@dangerous")
	user := []string{"redis://relay:secret@" + one.Addr}
	keys := []string{"the new key", "the old key"}
	for name, c := range map[string]struct {
		change func(*pubsub.Settings)
		class  string
		config map[string]any
	}{
		"plain":  {func(s *pubsub.Settings) { s.Prefix = "p" }, peers.PubSubLayer, map[string]any{"hosts": []string{one.URL}, "prefix": "p"}},
		"a user": {func(s *pubsub.Settings) { s.URLs = user }, peers.PubSubLayer, map[string]any{"hosts": user}},
		"a ring": {func(s *pubsub.Settings) { s.Prefix, s.Hosts = "r", ring }, peers.PubSubLayer, map[string]any{"hosts": ring.URLs, "prefix": "r"}},
		"sentinel": {func(s *pubsub.Settings) {
			s.URLs, s.Sentinels = nil, []redisnet.Sentinel{{Master: "mymaster", Addresses: sentinels.Addrs}}
		}, peers.PubSubLayer, map[string]any{"hosts": []any{map[string]any{"master_name": "mymaster", "sentinels": sentinels.Pairs()}}}},
		"encrypted": {
			func(s *pubsub.Settings) { s.Prefix, s.EncryptionKeys = "e", keys }, peers.LaterPubSubLayer,
			map[string]any{"hosts": []string{one.URL}, "prefix": "e", "symmetric_encryption_keys": []string{keys[1], keys[0]}},
		},
		"json, encrypted": {
			func(s *pubsub.Settings) { s.Prefix, s.Serializer, s.EncryptionKeys = "j", "json", keys }, peers.LaterPubSubLayer,
			map[string]any{"hosts": []string{one.URL}, "prefix": "j", "serializer_format": "json", "symmetric_encryption_keys": keys},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings(one)
			c.change(&s)
			layertest.ExchangeWithPython(t, c.class, c.config, newBroker(t, s))
			layertest.ExchangeMessagesWithPython(t, c.class, c.config, newBroker(t, s))
		})
	}
}

func TestGap(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	log := &testkit.Buffer{}
	p, err := pubsub.New(s, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	sink := &layertest.LossSink{}
	if err := p.Start(sink); err != nil {
		t.Fatal(err)
	}
	defer layertest.CloseBroker(p)
	ctx := context.Background()
	var groups []string
	for i := range 1200 { // more than one command's worth
		groups = append(groups, fmt.Sprintf("g-%04d", i))
	}
	if err := p.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
	if h := p.Health(); h.Gaps != 0 {
		t.Fatalf("%d gaps at first", h.Gaps)
	}
	left := groups[0]
	for i, disaster := range []struct {
		name string
		do   func()
	}{
		{"CLIENT KILL", func() { server.KillClients() }},
		{"restart", func() {
			server.Kill()
			testkit.Eventually(t, "health to tell", func() bool { return !p.Health().OK })
			p.Leave(left)
			groups = groups[1:]
			server.Restart()
		}},
	} {
		disaster.do()
		testkit.Eventually(t, "the gap after "+disaster.name, func() bool { return p.Health().Gaps == uint64(i+1) })
		want := fmt.Sprintf("events of %d groups may have been lost", len(groups))
		if h := p.Health(); !h.OK || !strings.Contains(h.Detail, want) {
			t.Errorf("health: %+v, want %q", h, want)
		}
		testkit.Eventually(t, "the loss", func() bool { return len(sink.Of(relay.LossInterrupted)) == i+1 })
		// All groups work again.
		for _, g := range groups[len(groups)-3:] {
			if r, err := p.Publish(ctx, g, []byte("x")); err != nil || r.Members != 1 {
				t.Errorf("%s: %+v, %v", g, r, err)
			}
		}
	}
	losses := sink.Of(relay.LossInterrupted)
	if len(losses[0].Groups) != 1200 || len(losses[1].Groups) != 1199 {
		t.Errorf("losses of %d and %d groups, want 1200 and 1199", len(losses[0].Groups), len(losses[1].Groups))
	}
	if n := strings.Count(log.String(), "subscriptions interrupted"); n != 2 {
		t.Errorf("%d lines in the log:\n%s", n, log)
	}
}

// TestFollowsTheMaster has the master die that the subscriptions are on.
func TestFollowsTheMaster(t *testing.T) {
	first := peers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	second := peers.StartReplica(t, first)
	// Several sentinels can split their votes, which delays the failover by eight seconds.
	sentinels := peers.StartSentinels(t, "mymaster", first, 1, 1, "")
	s := pubsub.DefaultSettings()
	s.URLs, s.Sentinels = nil, []redisnet.Sentinel{{Master: "mymaster", Addresses: sentinels.Addrs}}
	p, sink := newBroker(t, s), &relaytest.Sink{}
	if err := p.Start(sink); err != nil {
		t.Fatal(err)
	}
	defer layertest.CloseBroker(p)
	if err := p.Join(context.Background(), "g"); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	began := time.Now()
	testkit.Eventually(t, "the gap", func() bool { return p.Health().Gaps == 1 && p.Health().OK })
	t.Logf("subscribed again %v after the master was killed", time.Since(began).Round(time.Millisecond))
	if n, ok := second.Do("PUBSUB", "NUMSUB", "asgi__group__g").([]any); !ok || n[1] != int64(1) {
		t.Errorf("subscriptions at the new master: %v", n)
	}
	if r, err := p.Publish(context.Background(), "g", []byte("x")); err != nil || r.Members != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	testkit.Eventually(t, "the event", func() bool { return len(sink.Texts("g")) == 1 })
}

// TestJunk publishes what no emitter would.
func TestJunk(t *testing.T) {
	server := peers.StartRedis(t)
	p, sink := newBroker(t, settings(server)), &relaytest.Sink{}
	if err := p.Start(sink); err != nil {
		t.Fatal(err)
	}
	defer layertest.CloseBroker(p)
	if err := p.Join(context.Background(), "g"); err != nil {
		t.Fatal(err)
	}
	junk := []string{"", "x", "\xdf\xff\xff\xff\xff", "\x81\xa4text\xdb\x7f\xff\xff\xffxx", "\x80", strings.Repeat("y", 1<<20)}
	for _, j := range junk {
		server.Do("PUBLISH", "asgi__group__g", j)
	}
	if _, err := p.Publish(context.Background(), "g", []byte("fine")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the event behind the junk", func() bool { return len(sink.Texts("g")) == 1 })
	if h := p.Health(); h.Undecodable+h.Ignored != uint64(len(junk)) || !h.OK {
		t.Errorf("%+v of %d", h, len(junk))
	}
}

func TestLayerID(t *testing.T) {
	server := peers.StartRedis(t)
	id := func(url string) string {
		s := pubsub.DefaultSettings()
		s.URLs = []string{url}
		p := newBroker(t, s)
		defer layertest.CloseBroker(p)
		id, err := p.LayerID(context.Background())
		if err != nil || id == "" {
			t.Fatal(id, err)
		}
		return id
	}
	if a, b := id("redis://"+server.Addr+"/1"), id("redis://"+server.Addr+"/2"); a != b {
		t.Errorf("%s and %s, though pub/sub is one for all databases", a, b)
	}
}

func TestLateJoinIsALoss(t *testing.T) {
	server := peers.StartRedis(t)
	layertest.TestLateJoin(t, server, newBroker(t, settings(server)))
}

func TestApplyKeepsThePlace(t *testing.T) {
	s := settings(peers.StartRedis(t))
	b := newBroker(t, s)
	defer layertest.CloseBroker(b)
	if err := b.Apply(s); err != nil {
		t.Error(err)
	}
	s.Prefix = "other"
	if err := b.Apply(s); err == nil {
		t.Error("another prefix was accepted")
	}
}
