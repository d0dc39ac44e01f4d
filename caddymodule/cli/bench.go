package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// benchRun is a load test with one group.
type benchRun struct {
	address, group string
	dialer         *dialer
	clients, size  int
	rate           float64
	duration       time.Duration
	asJSON         *bool
}

func benchCommand() *cobra.Command {
	var b benchRun
	var browser browserFlags
	cmd := &cobra.Command{
		Use:   "bench --url <websocket>",
		Short: "Measure deliveries of a running relay under a small load",
		Args:  cobra.NoArgs,
		Long: "Connects clients to --url only, subscribes them to a group, and publishes events to the group\n" +
			"through the admin API. Reports the time from the admin API to the clients, and lost deliveries. The\n" +
			"exit code is 1 if a delivery is lost. The default is a new group, which no other client can\n" +
			"subscribe to. If users must log in, pass a browser's cookies. The limits connections_per_user and\n" +
			"connections_per_address apply.",
		Example: "  caddy edgerelay bench --url ws://localhost:8013/websocket/ --clients 500 --rate 20\n" +
			"  caddy edgerelay bench --url wss://awx.example.com/websocket/ " +
			"--header \"Cookie: awx_sessionid=…; csrftoken=…\"",
	}
	address := addAddressFlag(cmd)
	b.asJSON = addJSONFlag(cmd)
	browser.register(cmd, "URL of the websocket, such as ws://localhost:8013/websocket/")
	cmd.Flags().IntVar(&b.clients, "clients", 100, "number of clients")
	cmd.Flags().Float64Var(&b.rate, "rate", 20, "events a second")
	cmd.Flags().DurationVar(&b.duration, "duration", 10*time.Second, "duration of the load")
	cmd.Flags().IntVar(&b.size, "size", 300, "size of an event in bytes")
	cmd.Flags().StringVarP(&b.group, "group", "g", "", "the group; default: a new group")
	cmd.RunE = runE(func(ctx context.Context, _ []string) (err error) {
		ctx, stop := untilSignal(ctx)
		defer stop()
		b.address = *address
		if b.dialer, err = browser.dialer(); err == nil {
			err = b.run(ctx, os.Stdout)
		}
		return err
	})
	return cmd
}

// benchEvent is the payload of an event.
type benchEvent struct {
	Number int    `json:"edgerelay_bench"`
	Sent   int64  `json:"sent"` // in Unix nanoseconds; publisher and clients share a clock
	Fill   string `json:"fill"`
}

// run connects the clients, publishes for the configured duration, and writes the report.
func (b *benchRun) run(ctx context.Context, w io.Writer) error {
	switch {
	case b.dialer.url == "":
		return usageErrorf("no websocket given; set --url, such as ws://localhost:8013/websocket/")
	case b.clients < 1 || b.rate <= 0 || b.duration <= 0 || b.size < 1:
		return usageErrorf("--clients, --rate, --duration and --size must be above 0")
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
	connected := time.Since(began)
	if !*b.asJSON {
		fmt.Fprintf(w, "%s connected and subscribed in %v\n", count(b.clients, "client"), connected.Round(time.Millisecond))
	}

	received := make([]deliveries, len(clients))
	var count atomic.Int64
	var reading sync.WaitGroup
	for i, c := range clients {
		reading.Go(func() { received[i].read(ctx, c, &count) })
	}
	sent, err := b.publish(ctx)
	want := int64(sent) * int64(len(clients))
	awaitCount(ctx, &count, want)
	cancel()
	reading.Wait()
	if err != nil && sent == 0 {
		return err // without an event, a report says nothing
	}
	report := b.summarize(sent, received)
	report.ConnectSeconds = connected.Seconds()
	if writeErr := b.write(w, report); err == nil {
		err = writeErr
	}
	arrived := report.Arrived
	if err == nil && arrived < want {
		err = fmt.Errorf("%s deliveries were lost", humanize.Comma(want-arrived))
	}
	return err
}

// deliveries are the latencies of a client's events.
type deliveries []time.Duration

// read reads events until the context ends. Each event counts once.
func (d *deliveries) read(ctx context.Context, c *wsclient.Client, count *atomic.Int64) {
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
		*d = append(*d, time.Since(time.Unix(0, ev.Sent)))
		count.Add(1)
	}
}

// lastDeliveriesTimeout bounds the wait for deliveries after the last event.
const lastDeliveriesTimeout = 5 * time.Second

// awaitCount waits until the count is reached, but not for ever: deliveries may be lost.
func awaitCount(ctx context.Context, count *atomic.Int64, want int64) {
	ctx, cancel := context.WithTimeout(ctx, lastDeliveriesTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for count.Load() < want {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// benchReport is the JSON of the command bench. Latencies are in seconds.
type benchReport struct {
	Clients        int     `json:"clients"`
	ConnectSeconds float64 `json:"connect_seconds"`
	// Events is the number of published events, Expected and Arrived are deliveries.
	Events   int     `json:"events"`
	Expected int64   `json:"deliveries_expected"`
	Arrived  int64   `json:"deliveries"`
	P50      float64 `json:"p50_seconds"`
	P99      float64 `json:"p99_seconds"`
	Max      float64 `json:"max_seconds"`
}

// summarize returns the report.
func (b *benchRun) summarize(sent int, received []deliveries) benchReport {
	all := slices.Concat(received...)
	slices.Sort(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[min(int(q*float64(len(all))), len(all)-1)].Seconds()
	}
	return benchReport{
		Clients: len(received), Events: sent, Expected: int64(sent) * int64(len(received)), Arrived: int64(len(all)),
		P50: at(0.5), P99: at(0.99), Max: at(1),
	}
}

// write writes the report.
func (b *benchRun) write(w io.Writer, r benchReport) error {
	if *b.asJSON {
		return printJSON(w, r)
	}
	round := func(s float64) time.Duration {
		return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond)
	}
	_, err := fmt.Fprintf(w, "%s events of %s published, %s of %s deliveries arrived\n"+
		"latency from admin API to client: p50 %v, p99 %v, max %v\n", humanize.Comma(int64(r.Events)),
		humanize.IBytes(uint64(b.size)), humanize.Comma(r.Arrived), humanize.Comma(r.Expected), round(r.P50),
		round(r.P99), round(r.Max))
	return err
}

// maxHandshakes is the number of concurrent handshakes.
const maxHandshakes = 32

// connect connects and subscribes the clients. With an error, it returns the clients that are connected.
func (b *benchRun) connect(ctx context.Context) (clients []*wsclient.Client, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(b.clients)*10*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	var connecting sync.WaitGroup
	slots := make(chan struct{}, maxHandshakes)
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
			if e != nil {
				e = fmt.Errorf("%w; %s", dialCause(e), dialRemedy(e))
			} else if e = c.Subscribe(ctx, b.group); e != nil {
				e = fmt.Errorf("%w; %s", e, subscribeRemedy)
			}
			mu.Lock()
			defer mu.Unlock()
			if c != nil {
				clients = append(clients, c)
			}
			if e != nil && err == nil {
				err = fmt.Errorf("connecting client %d of %d: %w", i+1, b.clients, e)
			}
		})
	}
	connecting.Wait()
	return clients, err
}

// publish publishes events at the configured rate, and returns the number of events.
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
		resp, err := requestAdmin(ctx, b.address, http.MethodPost, "/edgerelay/publish", body)
		if ctx.Err() != nil {
			return sent, ctx.Err()
		}
		if err != nil {
			return sent, err
		}
		_ = resp.Body.Close()
		sent++
	}
	return sent, nil
}
