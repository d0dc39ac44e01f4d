package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// benchRun is a small load test.
type benchRun struct {
	address, group string
	dialer         *dialer
	clients, size  int
	rate           float64
	duration       time.Duration
}

func benchCommand() *cobra.Command {
	var b benchRun
	var browser browserFlags
	cmd := &cobra.Command{
		Use: "bench --url <websocket>", Short: "Put a small load on a running relay", Args: cobra.NoArgs,
		Long: "Connects clients to the address given, and to no other, subscribes them to one group, publishes events to it through the admin API, and\n" +
			"reports how long they took from there to the clients, and whether any were lost. The exit code is 1 if so. The group is a new one, so that\n" +
			"nobody else gets the events. Where users must log in, give the browser's cookies; mind the limits connections_per_user and _per_address.",
		Example: "  caddy edgerelay bench --url ws://localhost:8013/websocket/ --clients 500 --rate 20\n" +
			"  caddy edgerelay bench --url wss://awx.example.com/websocket/ --header \"Cookie: awx_sessionid=…; csrftoken=…\"",
	}
	address := adminAddress(cmd)
	browser.register(cmd, "the websocket's address, such as ws://localhost:8013/websocket/")
	cmd.Flags().IntVar(&b.clients, "clients", 100, "how many clients connect")
	cmd.Flags().Float64Var(&b.rate, "rate", 20, "events a second")
	cmd.Flags().DurationVar(&b.duration, "duration", 10*time.Second, "how long events are published")
	cmd.Flags().IntVar(&b.size, "size", 300, "bytes of an event")
	cmd.Flags().StringVar(&b.group, "group", "", "the group; default: a new one")
	cmd.RunE = running(func([]string) (err error) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		b.address = *address
		if b.dialer, err = browser.dialer(); err == nil {
			err = b.run(ctx, os.Stdout)
		}
		return err
	})
	return cmd
}

// benchEvent is what is published.
type benchEvent struct {
	Number int    `json:"edgerelay_bench"`
	Sent   int64  `json:"sent"` // Unix nanoseconds; the clients have the same clock
	Fill   string `json:"fill"`
}

func (b *benchRun) run(ctx context.Context, w io.Writer) error {
	switch {
	case b.dialer.url == "":
		return errors.New("say where the websocket is: --url ws://localhost:8013/websocket/")
	case b.clients < 1 || b.rate <= 0 || b.duration <= 0 || b.size < 1:
		return errors.New("clients, rate, duration and size must be above 0")
	}
	if b.group == "" {
		b.group = "edgerelay_bench-" + rand.Text()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	began := time.Now()
	clients, err := b.connect(ctx)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s clients connected and subscribed in %v\n", humanize.Comma(int64(b.clients)), time.Since(began).Round(time.Millisecond))

	var received atomic.Int64
	latencies := make([][]time.Duration, len(clients))
	var reading sync.WaitGroup
	for i, c := range clients {
		reading.Go(func() {
			seen := map[int]bool{}
			for {
				message, err := c.Read(ctx)
				if err != nil {
					return
				}
				var ev benchEvent
				if json.Unmarshal(message, &ev) != nil || ev.Sent == 0 || seen[ev.Number] {
					continue
				}
				seen[ev.Number] = true
				latencies[i] = append(latencies[i], time.Since(time.Unix(0, ev.Sent)))
				received.Add(1)
			}
		})
	}
	sent, err := b.publish(ctx)
	want := int64(sent) * int64(len(clients))
	for deadline := time.Now().Add(5 * time.Second); received.Load() < want && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	reading.Wait()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	at := func(q float64) time.Duration {
		if len(all) == 0 {
			return 0
		}
		return all[min(int(q*float64(len(all))), len(all)-1)].Round(10 * time.Microsecond)
	}
	fmt.Fprintf(w, "%s events of %s published, %s of %s deliveries arrived\n", humanize.Comma(int64(sent)), humanize.IBytes(uint64(b.size)), humanize.Comma(int64(len(all))), humanize.Comma(want))
	fmt.Fprintf(w, "from publishing to the client: p50 %v, p99 %v, most %v\n", at(0.5), at(0.99), at(1))
	if err == nil && int64(len(all)) < want {
		err = fmt.Errorf("%s deliveries were lost", humanize.Comma(want-int64(len(all))))
	}
	return err
}

// connectAtOnce is how many clients shake hands at the same time.
const connectAtOnce = 32

// connect returns the clients, as far as they could be connected.
func (b *benchRun) connect(ctx context.Context) (clients []*wsclient.Client, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(b.clients)*10*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	var connecting sync.WaitGroup
	slots := make(chan struct{}, connectAtOnce)
	for i := range b.clients {
		slots <- struct{}{}
		mu.Lock()
		failed := err != nil
		mu.Unlock()
		if failed {
			break
		}
		connecting.Go(func() {
			defer func() { <-slots }()
			c, e := b.dialer.dial(ctx)
			if e == nil {
				e = c.Subscribe(ctx, b.group)
			} else {
				e = fmt.Errorf("%w; %s", e, dialRemedy(e))
			}
			mu.Lock()
			defer mu.Unlock()
			if c != nil {
				clients = append(clients, c)
			}
			if e != nil && err == nil {
				err = fmt.Errorf("client %d of %d: %w", i+1, b.clients, e)
			}
		})
	}
	connecting.Wait()
	return clients, err
}

// publish publishes events at the rate asked for, and returns how many.
func (b *benchRun) publish(ctx context.Context) (sent int, err error) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / b.rate))
	defer tick.Stop()
	for end := time.Now().Add(b.duration); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return sent, ctx.Err()
		case <-tick.C:
		}
		ev := benchEvent{Number: sent, Sent: time.Now().UnixNano()}
		data, _ := json.Marshal(ev) // cannot fail
		ev.Fill = strings.Repeat("x", max(0, b.size-len(data)))
		body, _ := json.Marshal(map[string]any{"group": b.group, "data": ev})
		resp, err := requestAdmin(b.address, http.MethodPost, "/edgerelay/publish", body)
		if err != nil {
			return sent, err
		}
		_ = resp.Body.Close()
		sent++
	}
	return sent, nil
}
