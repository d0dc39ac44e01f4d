package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/layer/cluster"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 3, 0)
	// One node is enough to find the others.
	relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, settings(c.Addresses()[0])) })

	t.Run("ten thousand groups, one subscription each", func(t *testing.T) {
		b, sink := newBroker(t, settings(c.Addresses()...)), &relaytest.Sink{}
		if err := b.Start(sink); err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		groups := names(10_000)
		began := time.Now()
		if err := b.Join(ctx, groups...); err != nil {
			t.Fatal(err)
		}
		t.Logf("joined after %v", time.Since(began).Round(time.Millisecond))
		channels := 0
		for i, m := range c.Masters {
			n := len(m.Do("PUBSUB", "SHARDCHANNELS").([]any))
			if n < 2500 {
				t.Errorf("master %d has %d of 10,000 groups", i, n)
			}
			channels += n
		}
		if channels != len(groups) {
			t.Errorf("%d channels for %d groups", channels, len(groups))
		}
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
		for _, m := range c.Masters {
			if left := m.Do("PUBSUB", "SHARDCHANNELS").([]any); len(left) > 0 {
				t.Errorf("%d channels are left", len(left))
			}
		}
	})

	t.Run("the layer's identity", func(t *testing.T) {
		a, _ := start(t, settings(c.Addresses()...))
		b, _ := start(t, settings(c.Addresses()[1]))
		ctx := context.Background()
		one, err := a.LayerID(ctx)
		two, err2 := b.LayerID(ctx)
		if err != nil || err2 != nil || one == "" || one != two {
			t.Errorf("%q %v, %q %v", one, err, two, err2)
		}
	})

	t.Run("what others publish", func(t *testing.T) {
		b, sink := start(t, settings(c.Addresses()...), "g")
		client := c.Client()
		defer func() { _ = client.Close() }()
		for _, junk := range []string{"", "x", "\x01", "\x01short", "\x02 of another form", "{}"} {
			if err := client.SPublish(context.Background(), "edgerelay:g", junk).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Publish(context.Background(), "g", []byte("fine")); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the event behind the junk", func() bool { return len(sink.Texts("g")) == 1 })
		if h := b.Health(); h.Undecodable != 5 { // Redis leaves nothing of an empty one
			t.Errorf("%d undecodable", h.Undecodable)
		}
	})
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 2, 0)
	rotate := func(password string) {
		for _, m := range c.Masters {
			m.Do("ACL", "SETUSER", "relay", "reset", "on", ">"+password, "~edgerelay:*", "&edgerelay:*", "+@all", "-@admin")
			m.Do("CLIENT", "KILL", "USER", "relay")
		}
	}
	rotate("first")
	s := settings(c.Addresses()...)
	s.Username, s.Password = "relay", "first"
	groups := names(10)
	b, sink := start(t, s, groups...)
	rotate("second")
	testkit.Eventually(t, "health to tell", func() bool { return strings.Contains(b.Health().Detail, "WRONGPASS") })
	s.Password = "second"
	if err := b.Apply(s); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "health to be good again", func() bool { return b.Health().OK })
	for _, g := range groups {
		if r, err := b.Publish(context.Background(), g, []byte("1")); err != nil || r.Members != 1 {
			t.Errorf("%s: %+v, %v", g, r, err)
		}
	}
	testkit.Eventually(t, "the events", func() bool { return len(sink.Events()) == len(groups) })
	s.Prefix = "other"
	if err := b.Apply(s); err == nil {
		t.Error("another prefix was applied to an open broker")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	files := peers.MakeCertificates(t)
	c := peers.StartRedisCluster(t, 3, 0, "--tls-port", "{tls-port}", "--tls-cluster", "yes", "--tls-auth-clients", "yes",
		"--tls-cert-file", files.Cert, "--tls-key-file", files.Key, "--tls-ca-cert-file", files.CA,
		"--tls-client-cert-file", files.ClientCert, "--tls-client-key-file", files.ClientKey)
	details := redisnet.TLS{CA: files.CA, Cert: files.ClientCert, Key: files.ClientKey}
	s := settings(c.TLS[0])
	s.TLS = details.Config
	groups := names(10)
	b, sink := start(t, s, groups...)
	for _, g := range groups {
		if r, err := b.Publish(context.Background(), g, []byte("1")); err != nil || r.Members != 1 {
			t.Errorf("%s: %+v, %v", g, r, err)
		}
	}
	testkit.Eventually(t, "the events", func() bool { return len(sink.Events()) == len(groups) })
	testkit.Eventually(t, "connections to all nodes", func() error {
		for _, addr := range c.TLS {
			if !strings.Contains(b.Health().Detail, addr) {
				return fmt.Errorf("not connected to %s: %s", addr, b.Health().Detail)
			}
		}
		return nil
	})
	elsewhere := redisnet.TLS{Cert: files.ClientCert, Key: files.ClientKey}
	s.TLS = elsewhere.Config
	stranger := newBroker(t, s)
	if err := stranger.Start(&relaytest.Sink{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close(context.Background()) }()
	testkit.Eventually(t, "an unknown authority to be refused", func() bool {
		return strings.Contains(stranger.Health().Detail, "unknown authority")
	})
}

func TestStartsWithoutCluster(t *testing.T) {
	t.Parallel()
	server := peers.StartRedis(t)
	for name, addr := range map[string]string{"nobody there": "127.0.0.1:1", "no cluster": server.Addr} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, settings(addr))
			if err := b.Start(&relaytest.Sink{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if err := b.Join(ctx, "g"); err == nil {
				t.Error("joined a group")
			}
			if _, err := b.Publish(ctx, "g", []byte("1")); err == nil {
				t.Error("published")
			}
			testkit.Eventually(t, "health to tell", func() bool { return !b.Health().OK })
			t.Log(b.Health().Detail)
			b.Leave("g")
			if err := b.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInvalidSettings(t *testing.T) {
	for _, change := range []func(*cluster.Settings){
		func(s *cluster.Settings) { s.Addresses = nil },
		func(s *cluster.Settings) { s.Addresses = []string{"redis://x:hunter2@h:1"} },
		func(s *cluster.Settings) { s.Addresses = []string{"10.0.0.1"} },
		func(s *cluster.Settings) { s.Prefix = "" },
		func(s *cluster.Settings) { s.Prefix = "{x}" },
		func(s *cluster.Settings) { s.Username = "u" },
	} {
		s := cluster.DefaultSettings()
		change(&s)
		if _, err := cluster.New(s, quiet); err == nil {
			t.Errorf("accepted %+v", s)
		}
	}
}
