package redis_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

var quiet = layertest.Quiet

// settings are those of AWX, for the given servers.
func settings(servers ...*peers.Redis) redis.Settings {
	s := redis.DefaultSettings()
	s.URLs = nil
	for _, r := range servers {
		s.URLs = append(s.URLs, r.URL)
	}
	s.Capacity = 10_000
	return s
}

func newBroker(t testing.TB, s redis.Settings) *redis.Broker {
	t.Helper()
	b, err := redis.New(s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start returns a running broker that is a member of groups.
func start(t testing.TB, s redis.Settings, groups ...string) (*redis.Broker, *relaytest.Sink) {
	t.Helper()
	b, sink := newBroker(t, s), &relaytest.Sink{}
	run(t, b, sink, groups...)
	return b, sink
}

// run starts a broker for the length of the test, and makes it a member of groups.
func run(t testing.TB, b *redis.Broker, sink relay.Sink, groups ...string) {
	t.Helper()
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = b.Close(ctx)
	})
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	server := peers.StartRedis(t)
	for _, serializer := range []string{"msgpack", "json"} {
		t.Run(serializer, func(t *testing.T) {
			s := settings(server)
			s.Serializer = serializer
			s.Prefix = "asgi-" + serializer
			relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, s) })
		})
	}
}

func TestSuiteOnARing(t *testing.T) {
	s := settings(peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t))
	relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, s) })
}

func TestSuiteWithPasswordAndDatabase(t *testing.T) {
	server := peers.StartRedis(t)
	server.Do("CONFIG", "SET", "requirepass", "p@ss")
	s := settings(server)
	s.URLs = []string{"redis://:p%40ss@" + server.Addr + "/3"}
	relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, s) })
}

// TestSuiteWithoutNotifications takes CLIENT TRACKING away, as on Redis before version 6.
func TestSuiteWithoutNotifications(t *testing.T) {
	s := settings(peers.StartRedis(t, "--rename-command", "HELLO", ""))
	relaytest.Run(t, func(t testing.TB) relay.Broker { return newBroker(t, s) })
}

func TestMembershipComesBack(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	b, sink := start(t, s, "jobs-status_changed", "job_events-1")
	ctx := context.Background()
	client := server.Client()
	defer func() { _ = client.Close() }()
	disasters := []struct {
		name string
		do   func()
	}{
		{"FLUSHALL", func() { server.Do("FLUSHALL") }},
		{"AWX's wipe at start-up", func() {
			keys, err := client.Keys(ctx, "asgi:*").Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				server.Do("DEL", k)
			}
		}},
		{"one member removed", func() { server.Do("ZREMRANGEBYRANK", "asgi:group:jobs-status_changed", 0, -1) }},
		{"CLIENT KILL", func() { server.KillClients(); server.Do("FLUSHALL") }},
		{"restart", func() { server.Kill(); server.Restart() }},
	}
	for i, disaster := range disasters {
		disaster.do()
		began := time.Now()
		testkit.Eventually(t, "membership after "+disaster.name, func() bool {
			n, err := client.ZCard(ctx, "asgi:group:jobs-status_changed").Result()
			m, err2 := client.ZCard(ctx, "asgi:group:job_events-1").Result()
			return err == nil && err2 == nil && n == 1 && m == 1
		})
		t.Logf("%s: back after %v", disaster.name, time.Since(began).Round(time.Millisecond))
		if _, err := b.Publish(ctx, "job_events-1", []byte(fmt.Sprint(i))); err != nil {
			testkit.Eventually(t, "publishing works again", func() bool {
				_, err = b.Publish(ctx, "job_events-1", []byte(fmt.Sprint(i)))
				return err == nil
			})
		}
		testkit.Eventually(t, "the event after "+disaster.name, func() bool { return len(sink.Texts("job_events-1")) == i+1 })
	}
	if h := b.Health(); h.Repairs == 0 || h.Reconnects == 0 {
		t.Errorf("repairs %d and reconnects %d are not counted", h.Repairs, h.Reconnects)
	}
}

// TestMembershipIsRenewed uses a group_expiry that ends while the test runs.
func TestMembershipIsRenewed(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.GroupExpiry = time.Second
	start(t, s, "short")
	client := server.Client()
	defer func() { _ = client.Close() }()
	first, err := client.ZRangeWithScores(context.Background(), "asgi:group:short", 0, -1).Result()
	if err != nil || len(first) != 1 {
		t.Fatal(first, err)
	}
	testkit.Eventually(t, "a newer score, beyond the expiry of the first", func() bool {
		now, err := client.ZRangeWithScores(context.Background(), "asgi:group:short", 0, -1).Result()
		return err == nil && len(now) == 1 && now[0].Score > first[0].Score+1.2
	})
}

// TestBrokenConnectionLosesNothing breaks the connection all the time while events flow.
func TestBrokenConnectionLosesNothing(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	_, sink := start(t, s, "g")
	emitter, _ := start(t, s)
	const n = 500
	stop := make(chan struct{})
	killed := make(chan int64)
	go func() {
		var total int64
		for {
			select {
			case <-stop:
				killed <- total
				return
			default:
				total += server.KillClients()
			}
		}
	}()
	sent := 0
	for i := range n {
		for {
			// A publish whose connection broke may have happened or not: only what was confirmed is counted, and
			// texts are unique, so that a doubled delivery shows.
			if _, err := emitter.Publish(context.Background(), "g", []byte(fmt.Sprintf("%d/%s", i, rand.Text()))); err == nil {
				sent++
				break
			}
		}
	}
	close(stop)
	if k := <-killed; k < 10 {
		t.Errorf("only %d connections were killed", k)
	}
	testkit.Eventually(t, "everything that was sent", func() bool { return distinct(sink.Texts("g")) >= sent })
	texts := sink.Texts("g")
	if len(texts) != distinct(texts) {
		t.Errorf("%d events were delivered twice", len(texts)-distinct(texts))
	}
}

func distinct(list []string) int {
	seen := map[string]bool{}
	for _, s := range list {
		seen[s] = true
	}
	return len(seen)
}

// TestJunkIsSkipped puts messages into the channel key that no emitter would send.
func TestJunkIsSkipped(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	b, sink := start(t, s, "g")
	client := server.Client()
	defer func() { _ = client.Close() }()
	ctx := context.Background()
	members, err := client.ZRange(ctx, "asgi:group:g", 0, -1).Result()
	if err != nil || len(members) != 1 {
		t.Fatal(members, err)
	}
	channel := members[0]
	key := "asgi" + channel[:len("specific.")+33]
	prefix := "123456789012"
	junk := []string{
		"", "short", prefix, prefix + "\xdf\xff\xff\xff\xff", prefix + "\xdb\xff\xff\xff\xff", prefix + "\x93\x01\x02\x03",
		prefix + "\x82\xa4type\xc1", prefix + "\x81\xa4text\xdb\x7f\xff\xff\xffxx", prefix + "\x81\xb0__asgi_channel__\xdd\x7f\xff\xff\xff",
		prefix + "\x81\xa4type\xaechat.something", prefix + "\x80",
	}
	first := time.Now().Unix() - int64(len(junk)) // not so old that the publisher below would delete what has not been read yet
	for i, j := range junk {
		client.ZAdd(ctx, key, goredis.Z{Score: float64(first + int64(i)), Member: j})
	}
	if _, err := b.Publish(ctx, "g", []byte("fine")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the event behind the junk", func() bool { return len(sink.Texts("g")) == 1 })
	if h := b.Health(); h.Undecodable+h.Ignored < uint64(len(junk))-1 || !h.OK {
		t.Errorf("%d undecodable and %d ignored of %d, ok %v", h.Undecodable, h.Ignored, len(junk), h.OK)
	}
}

func TestChannelCapacityOfOthers(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	s.ChannelCapacity = []redis.ChannelCapacity{{Pattern: "http.request*", Capacity: 2}}
	b, sink := start(t, s, "g")
	server.Do("ZADD", "asgi:group:g", time.Now().Unix(), "http.request.abc!1")
	for i := range 4 {
		r, err := b.Publish(context.Background(), "g", []byte("x"))
		if want := i / 2; err != nil || r.OverCapacity != min(want, 1) || r.Members != 2 {
			t.Errorf("event %d: %+v, %v", i, r, err)
		}
	}
	if n := server.Do("ZCARD", "asgihttp.request.abc!"); n != int64(2) {
		t.Errorf("%v messages wait where two may", n)
	}
	testkit.Eventually(t, "all events at the node", func() bool { return len(sink.Texts("g")) == 4 })
}

func TestCloseLeavesNothing(t *testing.T) {
	server := peers.StartRedis(t)
	groups := make([]string, 700)
	for i := range groups {
		groups[i] = fmt.Sprintf("job_events-%d", i)
	}
	b, _ := start(t, settings(server), groups...)
	if n := server.Do("DBSIZE").(int64); n < 700 {
		t.Fatalf("%d keys", n)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := server.Do("DBSIZE").(int64); n != 0 {
		t.Errorf("%d keys are left: %v", n, server.Do("KEYS", "*"))
	}
}

func TestStartsWithoutRedis(t *testing.T) {
	server := peers.StartRedis(t)
	server.Kill()
	b, sink := newBroker(t, settings(server)), &relaytest.Sink{}
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := b.Join(ctx, "g"); err == nil {
		t.Error("joined a group without a server")
	}
	testkit.Eventually(t, "health to tell", func() bool { return !b.Health().OK })
	server.Restart()
	testkit.Eventually(t, "the group to be joined after all", func() bool {
		r, err := b.Publish(context.Background(), "g", []byte("1"))
		return err == nil && r.Members == 1
	})
	testkit.Eventually(t, "the event", func() bool { return len(sink.Texts("g")) > 0 })
	testkit.Eventually(t, "health", func() bool { return b.Health().OK })
}

func TestApplyKeepsThePlace(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	b, _ := start(t, s, "g")
	s.Capacity = 1
	if err := b.Apply(s); err != nil {
		t.Fatal(err)
	}
	s.Prefix = "other"
	if err := b.Apply(s); err == nil {
		t.Error("another prefix was applied to an open broker")
	}
}

func TestInvalidSettings(t *testing.T) {
	for _, change := range []func(*redis.Settings){
		func(s *redis.Settings) { s.URLs = nil },
		func(s *redis.Settings) { s.URLs = []string{"http://secret:hunter2@x"} },
		func(s *redis.Settings) { s.Prefix = "" },
		func(s *redis.Settings) { s.Capacity = 0 },
		func(s *redis.Settings) { s.Serializer = "pickle" },
		func(s *redis.Settings) { s.GroupExpiry = 0 },
	} {
		s := redis.DefaultSettings()
		change(&s)
		if _, err := redis.New(s, quiet); err == nil {
			t.Errorf("accepted %+v", s)
		} else if fmt.Sprint(err) == "" || len(err.Error()) > 0 && containsSecret(err.Error()) {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func containsSecret(s string) bool {
	for i := 0; i+7 <= len(s); i++ {
		if s[i:i+7] == "hunter2" {
			return true
		}
	}
	return false
}
