package state

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eachPlace runs a test with a store in memory and one in Redis.
func eachPlace(t *testing.T, limits Limits, test func(t *testing.T, s *Store)) {
	t.Run("memory", func(t *testing.T) {
		s := Open(nil, limits, slog.New(slog.DiscardHandler))
		t.Cleanup(s.Close)
		test(t, s)
	})
	t.Run("redis", func(t *testing.T) { test(t, openRedis(t, peers.StartRedis(t).URL, limits)) })
}

func openRedis(t testing.TB, url string, limits Limits) *Store {
	t.Helper()
	c, err := Connect(Hosts{URLs: []string{url}}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := Open(c, limits, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		s.Close()
		c.Close()
	})
	return s
}

// call starts a request and waits for the response.
func call(t testing.TB, s *Store, r *Request) Response {
	t.Helper()
	if r.Plugin == "" {
		r.Plugin = "game"
	}
	answered := make(chan Response, 1)
	s.Start(r, func(res Response) { answered <- res })
	select {
	case res := <-answered:
		return res
	case <-time.After(20 * time.Second):
		t.Fatalf("no response to %v of %q", r.Op, r.Key)
		return Response{}
	}
}

// want checks the response to a request.
func want(t testing.TB, s *Store, r *Request, status int32, body string) {
	t.Helper()
	res := call(t, s, r)
	if res.Status != status || string(res.Body) != body {
		t.Fatalf("%v %q: got %d %q, want %d %q", r.Op, r.Key, res.Status, res.Body, status, body)
	}
}

// fired is an alarm that fired.
type fired struct{ node, plugin, name, payload string }

// schedule fires alarms of the plugin "game" into a channel.
func schedule(t testing.TB, s *Store, node string, lease time.Duration) (*Alarms, chan fired) {
	t.Helper()
	list := make(chan fired, 10_000)
	return scheduleFunc(t, s, lease, func(_ context.Context, plugin, name string, payload []byte) error {
		list <- fired{node, plugin, name, string(payload)}
		return nil
	}), list
}

func scheduleFunc(
	t testing.TB, s *Store, lease time.Duration,
	fire func(ctx context.Context, plugin, name string, payload []byte) error,
) *Alarms {
	t.Helper()
	a := Schedule(s, AlarmSettings{
		Plugins: func() []string { return []string{"game"} }, Fire: fire, Lease: lease,
		Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		a.Close(ctx)
	})
	return a
}

var errBroken = errors.New("broken")
