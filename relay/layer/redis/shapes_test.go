package redis_test

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// shape is one way in which a layer can be set up, for us and for Python.
type shape struct {
	settings redis.Settings
	class    string
	config   map[string]any
}

// shapes starts servers for every shape that both sides have.
func shapes(t *testing.T) map[string]shape {
	certificates := peers.MakeCertificates(t)
	args, tlsAddr := peers.AlsoTLS(t, certificates)
	socket := filepath.Join(t.TempDir(), "redis.sock")
	server := peers.StartRedis(t, append(args, "--unixsocket", socket)...)
	server.Do("ACL", "SETUSER", "relay", "on", ">p@ss word", "~asgi*", "~edgerelay:*", "resetchannels", "+@all", "-@admin", "-@dangerous")
	ring := []*peers.Redis{server, peers.StartRedis(t), peers.StartRedis(t)}
	ringURLs := []string{ring[0].URL, ring[1].URL, ring[2].URL}

	_, port, _ := strings.Cut(ring[2].Addr, ":")
	sentinels := peers.StartSentinels(t, "one", ring[1], 0, 1, "", "sentinel monitor two 127.0.0.1 "+port+" 1")
	master := func(name string) map[string]any {
		return map[string]any{"master_name": name, "sentinels": sentinels.Pairs(), "db": 4}
	}

	with := func(change func(*redis.Settings), class string, config map[string]any) shape {
		s := settings(server)
		change(&s)
		if config["hosts"] == nil {
			config["hosts"] = s.URLs
		}
		return shape{s, class, config}
	}
	keys := []string{"the new key", "the old key"}
	secure := "rediss://" + tlsAddr + "/0"
	user := "redis://relay:" + url.PathEscape("p@ss word") + "@" + server.Addr + "/5"
	return map[string]shape{
		"encrypted": with(func(s *redis.Settings) { s.Prefix, s.EncryptionKeys = "asgi-e", keys },
			peers.CoreLayer, map[string]any{"prefix": "asgi-e", "symmetric_encryption_keys": keys}),
		"keys in another order": with(func(s *redis.Settings) { s.Prefix, s.EncryptionKeys = "asgi-o", keys },
			peers.CoreLayer, map[string]any{"prefix": "asgi-o", "symmetric_encryption_keys": []string{keys[1], keys[0]}}),
		"json": with(func(s *redis.Settings) { s.Prefix, s.Serializer = "asgi-j", "json" },
			peers.LaterCoreLayer, map[string]any{"prefix": "asgi-j", "serializer_format": "json"}),
		"json, encrypted, on a ring": with(func(s *redis.Settings) {
			s.Prefix, s.Serializer, s.URLs, s.EncryptionKeys = "other.prefix", "json", ringURLs, keys
		}, peers.LaterCoreLayer, map[string]any{"prefix": "other.prefix", "serializer_format": "json", "symmetric_encryption_keys": keys}),
		"a ring, encrypted": with(func(s *redis.Settings) { s.URLs, s.EncryptionKeys, s.Prefix = ringURLs, keys, "asgi-r" },
			peers.CoreLayer, map[string]any{"prefix": "asgi-r", "symmetric_encryption_keys": keys}),
		"a ring of masters": with(func(s *redis.Settings) {
			s.URLs, s.Sentinels = nil, []redisnet.Sentinel{
				{Master: "one", Addresses: sentinels.Addrs, Database: 4},
				{Master: "two", Addresses: sentinels.Addrs, Database: 4},
			}
		}, peers.CoreLayer, map[string]any{"hosts": []any{master("one"), master("two")}}),
		"unix socket": with(func(s *redis.Settings) { s.URLs = []string{"unix://" + socket + "?db=1"} },
			peers.CoreLayer, map[string]any{}),
		"tls": with(func(s *redis.Settings) {
			s.URLs, s.Prefix = []string{secure}, "asgi-t"
			s.TLS = &redisnet.TLS{CA: certificates.CA, Cert: certificates.ClientCert, Key: certificates.ClientKey}
		}, peers.CoreLayer, map[string]any{"prefix": "asgi-t", "hosts": []string{fmt.Sprintf("%s?ssl_ca_certs=%s&ssl_certfile=%s&ssl_keyfile=%s",
			secure, certificates.CA, certificates.ClientCert, certificates.ClientKey)}}),
		"user and database": with(func(s *redis.Settings) { s.URLs = []string{user} }, peers.CoreLayer, map[string]any{}),
	}
}

// TestShapesWithPython sends and receives in every shape, with the real channels_redis on the other side.
func TestShapesWithPython(t *testing.T) {
	for name, shape := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layertest.ExchangeWithPython(t, shape.class, shape.config, newBroker(t, shape.settings))
		})
	}
}

// TestInvalidConnections names what is wrong, and no secret.
func TestInvalidConnections(t *testing.T) {
	certificates, others := peers.MakeCertificates(t), peers.MakeCertificates(t)
	args, addr := peers.AlsoTLS(t, certificates)
	server := peers.StartRedis(t, args...)
	server.Do("ACL", "SETUSER", "relay", "on", ">hunter2", "~*", "&*", "+@all")
	for name, c := range map[string]struct {
		url  string
		tls  *redisnet.TLS
		says string
	}{
		"another authority": {"rediss://" + addr, &redisnet.TLS{
			CA: others.CA, Cert: certificates.ClientCert, Key: certificates.ClientKey,
		}, "certificate"},
		"no client certificate": {"rediss://" + addr, &redisnet.TLS{CA: certificates.CA}, "certificate"},
		"another name": {"rediss://" + addr, &redisnet.TLS{
			CA: certificates.CA, ServerName: "other.example.com",
			Cert: certificates.ClientCert, Key: certificates.ClientKey,
		}, "other.example.com"},
		"wrong password": {"redis://relay:hunter22@" + server.Addr, nil, "WRONGPASS"},
		"nobody there":   {fmt.Sprintf("redis://127.0.0.1:%d", testkit.FreePort(t)), nil, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.URLs, s.TLS = []string{c.url}, c.tls
			b := newBroker(t, s)
			if err := b.Start(&relaytest.Sink{}); err != nil {
				t.Fatal(err)
			}
			defer layertest.CloseBroker(b)
			testkit.Eventually(t, "health to say "+c.says, func() bool {
				h := b.Health()
				return !h.OK && strings.Contains(h.Detail, c.says)
			})
			if containsSecret(b.Health().Detail) {
				t.Errorf("a secret in %s", b.Health().Detail)
			}
		})
	}
}

// TestKeysAreRotated changes keys under load, without losing an event.
func TestKeysAreRotated(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.EncryptionKeys = []string{"old"}
	b, sink := start(t, s, "g")
	emitter := func(keys ...string) *redis.Broker {
		s := s
		s.EncryptionKeys = keys
		e, _ := start(t, s)
		return e
	}
	before, after := emitter("old"), emitter("new")
	sent := 0
	send := func(e *redis.Broker, n int) {
		for range n {
			if _, err := e.Publish(context.Background(), "g", fmt.Append(nil, sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	apply := func(keys ...string) {
		s.EncryptionKeys = keys
		if err := b.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	send(before, 200)
	apply("old", "new") // first everybody can read it, then everybody writes it, then the old one goes
	send(before, 200)
	send(after, 200)
	apply("new", "old")
	send(after, 200)
	testkit.Eventually(t, "all events", func() bool { return len(sink.Texts("g")) == sent })
	apply("new")
	send(after, 200)
	testkit.Eventually(t, "all events", func() bool { return len(sink.Texts("g")) == sent })
	for i, text := range sink.Texts("g") {
		if text != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, text)
		}
	}
	if h := b.Health(); h.Undecodable > 0 || h.Reconnects > 0 || h.Repairs > 0 {
		t.Errorf("health: %+v", h)
	}
	if _, err := before.Publish(context.Background(), "g", []byte("late")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the message with the old key to be counted", func() bool { return b.Health().Undecodable == 1 })
}

// TestCredentialsAreRotated changes the password that an open layer uses: the node keeps its name and its memberships.
func TestCredentialsAreRotated(t *testing.T) {
	server := peers.StartRedis(t)
	user := func(password string) string { return "redis://relay:" + password + "@" + server.Addr + "/0" }
	server.Do("ACL", "SETUSER", "relay", "on", ">one", "~*", "&*", "+@all")
	s := settings()
	s.URLs = []string{user("one")}
	b, sink := start(t, s, "g")
	stop, sent := make(chan struct{}), make(chan int)
	emitter, _ := start(t, settings(server))
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				sent <- n
				return
			default:
				if r, err := emitter.Publish(context.Background(), "g", fmt.Append(nil, n)); err != nil || r.Members != 1 {
					t.Error(r, err)
				}
				n++
			}
		}
	}()
	testkit.Eventually(t, "events", func() bool { return len(sink.Texts("g")) > 100 })
	server.Do("ACL", "SETUSER", "relay", ">two", "<one")
	s.URLs = []string{user("two")}
	s.Pool.ReadTimeout = 2 * time.Second
	if err := b.Apply(s); err != nil {
		t.Fatal(err)
	}
	n := len(sink.Texts("g"))
	testkit.Eventually(t, "more events", func() bool { return len(sink.Texts("g")) > n+100 })
	server.Do("CLIENT", "KILL", "USER", "relay")
	if err := b.Join(context.Background(), "another"); err != nil { // by the pool, which logs in again
		t.Fatal(err)
	}
	close(stop)
	total := <-sent
	testkit.Eventually(t, "all events", func() bool { return len(sink.Texts("g")) == total })
	for i, text := range sink.Texts("g") {
		if text != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, text)
		}
	}
}

// TestMessagesWithPython sends and receives messages of any type.
func TestMessagesWithPython(t *testing.T) {
	server, keys := peers.StartRedis(t), []string{"the key"}
	for name, c := range map[string]struct {
		class, serializer string
		keys              []string
	}{
		"msgpack":         {peers.CoreLayer, "msgpack", nil},
		"encrypted":       {peers.CoreLayer, "msgpack", keys},
		"json":            {peers.LaterCoreLayer, "json", nil},
		"json, encrypted": {peers.LaterCoreLayer, "json", keys},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings(server)
			s.Prefix, s.Serializer, s.EncryptionKeys = "asgi-"+strings.ReplaceAll(name, ", ", "-"), c.serializer, c.keys
			config := map[string]any{"hosts": s.URLs, "prefix": s.Prefix}
			if c.serializer == "json" {
				config["serializer_format"] = "json"
			}
			if c.keys != nil {
				config["symmetric_encryption_keys"] = c.keys
			}
			layertest.ExchangeMessagesWithPython(t, c.class, config, newBroker(t, s))
		})
	}
}
