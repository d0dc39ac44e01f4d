package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

const resyncFrame = `{"resync": true}`

// resyncSite is a site whose clients are told of losses.
func resyncSite(redisURL string, capacity int) string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis %s {
			capacity %d
			resync `+"`%s`"+`
		}
		auth none
	}
}
{$SITE} {
	edgerelay
}
`, redisURL, capacity, resyncFrame)
}

// expectLoss waits until a metric, the log and the status of a relay tell of a loss.
func expectLoss(t *testing.T, r *peers.Relay, cause string) {
	t.Helper()
	testkit.Eventually(t, "a metric of the loss", func() error {
		if metrics := fetch(t, r.Admin+"/metrics"); strings.Contains(metrics,
			fmt.Sprintf("edgerelay_losses_total{cause=%q} 0\n", cause)) ||
			!strings.Contains(metrics, fmt.Sprintf("edgerelay_losses_total{cause=%q}", cause)) {
			return fmt.Errorf("no loss for %s", cause)
		}
		return nil
	})
	testkit.Eventually(t, "a line in the log", func() error {
		if log := r.Log(); !strings.Contains(log, "events may have been lost") ||
			!strings.Contains(log, fmt.Sprintf(`"reason": %q`, cause)) &&
				!strings.Contains(log, fmt.Sprintf(`"reason":%q`, cause)) {
			return fmt.Errorf("no line about %s", cause)
		}
		return nil
	})
	var status struct {
		Losses map[string]int
		Last   struct{ Cause, Detail string } `json:"last_loss"`
	}
	if err := json.Unmarshal([]byte(fetch(t, r.Admin+"/edgerelay/status")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Losses[cause] == 0 || status.Last.Detail == "" {
		t.Errorf("the status tells nothing of %s: %+v", cause, status)
	}
}

// awaitResync reads a client's events until it is told that it may have missed some.
func awaitResync(c *wstest.Client) (events int, err error) {
	for {
		text, err := c.Next(patience)
		if err != nil {
			return events, fmt.Errorf("after %d events: %w", events, err)
		}
		if text == resyncFrame {
			return events, nil
		}
		events++
	}
}

// A relay is stopped while an emitter fills its mailbox: the client learns that events are missing.
func TestFullMailboxIsReported(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, resyncSite(redis.URL, 100))
	emitter := peers.StartLayer(t, peers.CoreLayer, map[string]any{"hosts": []string{redis.URL}})
	c := subscriber(t, r.URL, peers.Login{CSRF: "t", Session: "s"}, "other-1")
	var events []peers.Event
	for i := range 400 {
		events = append(events, peers.Event{Group: "other-1", Text: fmt.Sprintf(`{"n": %d}`, i)})
	}
	r.Signal(syscall.SIGSTOP)
	emitter.Send(events...)
	r.Signal(syscall.SIGCONT)
	if n, err := awaitResync(c); err != nil || n != 100 {
		t.Errorf("the client was told after %d events, want 100 (%v)", n, err)
	}
	expectLoss(t, r, "mailbox_full")
	if !strings.Contains(fetch(t, r.Admin+"/metrics"), "edgerelay_channel_layer_gaps_total 1\n") {
		t.Error("the gap is not counted")
	}
	if detail := fetch(t, r.Admin+"/edgerelay/health"); !strings.Contains(detail, "mailbox_full") {
		t.Errorf("health tells nothing: %s", detail)
	}
}

// Django deletes all groups while events come: the clients of these groups are told, once a second at most.
func TestWipedMembershipsAreReported(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, resyncSite(redis.URL, 10000))
	emitter := peers.StartEmitter(t, redis.URL)
	login := peers.Login{CSRF: "t", Session: "s"}
	c := subscriber(t, r.URL, login, "other-1", "other-2")
	wait := emitter.Pace("other-1", 0, 200, time.Millisecond)
	for range 3 {
		emitter.WipeGroups(redis.URL)
		testkit.Eventually(t, "the membership", func() error {
			if redis.Do("ZCARD", "asgi:group:other-1") != int64(1) {
				return fmt.Errorf("no member")
			}
			return nil
		})
	}
	wait()
	if _, err := awaitResync(c); err != nil {
		t.Error(err)
	}
	expectLoss(t, r, "membership_restored")
}

// A client subscribes while Redis does not answer. It is told once the subscription is in place.
func TestLateSubscriptionIsReported(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	link := testkit.StartProxy(t, redis.Addr)
	r := peers.StartRelay(t, resyncSite("redis://"+link.Addr, 100))
	emitter := peers.StartEmitter(t, redis.URL)
	login := peers.Login{CSRF: "t", Session: "s"}
	before := subscriber(t, r.URL, login, "other-1")
	link.Stall()
	c := subscriber(t, r.URL, login, "other-2")
	link.Resume()
	if n, err := awaitResync(c); err != nil || n != 0 {
		t.Errorf("the client was told after %d events (%v)", n, err)
	}
	emitter.Send(peers.Event{Group: "other-1", Text: "1"}, peers.Event{Group: "other-2", Text: "2"})
	if text, err := c.Next(patience); err != nil || text != "2" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := before.Next(patience); err != nil || text != "1" {
		t.Errorf("a client of another group got %q, %v", text, err)
	}
	expectLoss(t, r, "late_join")
}
