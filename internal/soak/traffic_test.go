//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// emit publishes events to all groups in turn, at rate events per second, until ctx ends.
func emit(ctx context.Context, b *redis.Broker, ledgers []*ledger, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		l := ledgers[i%len(ledgers)]
		quiet := i%10 == 0
		l.publish(quiet, func(n int) (relay.Receipt, error) {
			return b.Publish(context.Background(), l.group, text(l.group, n, quiet))
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// loud is the kind of groups with more events than a slow client reads.
const loud = "ad_hoc_command_events"

// shout publishes long events to the loud groups; no ledger counts them.
func shout(ctx context.Context, b *redis.Broker) {
	long := fmt.Appendf(nil, "%q", strings.Repeat("x", 64<<10))
	for n := 0; ctx.Err() == nil; n++ {
		_, _ = b.Publish(ctx, fmt.Sprint(loud, "-", n%2), long)
		testkit.Pause(ctx.Done(), 12*time.Millisecond)
	}
}

// witness receives the events of a group for the whole time.
func witness(url string, l *ledger) (*wstest.Raw, <-chan error, error) {
	raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
	if err != nil {
		return nil, nil, err
	}
	if err := raw.Subscribe("t", l.group); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() {
		for {
			text, err := raw.Next(5 * time.Minute)
			if err != nil {
				ended <- err
				return
			}
			var event struct{ N int }
			if err := json.Unmarshal([]byte(text), &event); err != nil {
				ended <- fmt.Errorf("%w: %.100q", err, text)
				return
			}
			l.arrive(event.N)
		}
	}()
	return raw, ended, nil
}

// guests counts the clients of the crowd.
type guests struct{ served, failed atomic.Int64 }

// comeAndGo repeatedly connects, listens for a moment and disconnects, with or without leaving its groups first.
func (g *guests) comeAndGo(ctx context.Context, urls []string, groups int) {
	for ctx.Err() == nil {
		url := urls[rand.IntN(len(urls))]
		raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
		if err == nil {
			for range 1 + rand.IntN(3) {
				if err = raw.Subscribe("t", fmt.Sprint("job_events-", rand.IntN(2*groups))); err != nil {
					break
				}
				_, _ = raw.Next(time.Duration(1+rand.IntN(300)) * time.Millisecond)
			}
			if rand.IntN(2) == 0 {
				_ = raw.Send(`{"groups": {}, "xrftoken": "t"}`)
			}
			raw.Close()
		}
		if err != nil {
			g.failed.Add(1)
			testkit.Pause(ctx.Done(), 50*time.Millisecond)
		} else {
			g.served.Add(1)
		}
	}
}

// dawdle is a client that does not read. The relay disconnects it, which the client with its small buffer cannot
// notice; after a pause it connects again.
func (g *guests) dawdle(ctx context.Context, url, group string, asleep time.Duration) {
	for ctx.Err() == nil {
		raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
		if err == nil {
			_ = raw.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			err = raw.Subscribe("t", group)
		}
		if err != nil {
			testkit.Pause(ctx.Done(), 100*time.Millisecond)
			continue
		}
		testkit.Pause(ctx.Done(), asleep)
		raw.Close()
	}
}
