package redisnet

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// answerWait is how long a host may take to answer before it counts as not well.
	AnswerWait = time.Second
	// watchInterval is how often a change of health is looked for, to log it.
	watchInterval = 250 * time.Millisecond
)

// health is what is known of the hosts' state.
type Health struct {
	reconnects, Repairs atomic.Uint64
	healed              atomic.Uint64 // keys of our own that held another type
	gaps                atomic.Uint64

	mu    sync.Mutex
	hosts []hostHealth
	ok    bool
	since time.Time
	gap   string // the last one
}

type hostHealth struct {
	up    bool
	ever  bool
	asked time.Time // when a question was sent that is not answered yet
	err   error     // why it is not up, or was not the last time
	// refusal is why the host is up and takes no writes: its memory is full, its replicas or its disk are missing.
	refusal error
}

func NewHealth(hosts int) *Health {
	return &Health{hosts: make([]hostHealth, hosts), since: time.Now()}
}

// missed makes a loss known: in the layer's health, and to the sink. It does not block.
func (h *Health) Missed(sink relay.Sink, l relay.Loss) {
	h.gaps.Add(1)
	h.mu.Lock()
	h.gap = l.String() + " before " + time.Now().UTC().Format(time.RFC3339)
	h.mu.Unlock()
	relay.ReportLoss(sink, l)
}

func (h *Health) Lost(host int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host] = hostHealth{ever: h.hosts[host].ever, err: err}
}

func (h *Health) Found(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts[host].ever {
		h.reconnects.Add(1)
	}
	h.hosts[host].up, h.hosts[host].ever = true, true
}

// replaced notes that a connection is exchanged for another because the settings say so: that is no reconnect.
func (h *Health) Replaced(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].ever = false
}

// refuses notes why a host takes no writes, or with nil, that it takes them.
func (h *Health) Refuses(host int, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].refusal = why
}

// LastLoss returns why a connection broke the last time.
func (h *Health) LastLoss() (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, host := range h.hosts {
		if host.err != nil {
			err = host.err
		}
	}
	return err
}

func (h *Health) Asked(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts[host].asked.IsZero() {
		h.hosts[host].asked = time.Now()
	}
}

func (h *Health) Answered(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].asked = time.Time{}
}

// trouble says in one line what is wrong with the hosts, empty if nothing is.
func (h *Health) trouble(addr func(host int) string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var wrong []string
	for i, host := range h.hosts {
		switch {
		case !host.up && host.err != nil:
			wrong = append(wrong, fmt.Sprintf("redis %s: %v", addr(i), host.err))
		case !host.up:
			wrong = append(wrong, fmt.Sprintf("redis %s: not connected yet", addr(i)))
		case host.refusal != nil:
			wrong = append(wrong, fmt.Sprintf("redis %s takes no events: %v", addr(i), host.refusal))
		case !host.asked.IsZero() && time.Since(host.asked) > AnswerWait:
			wrong = append(wrong, fmt.Sprintf("redis %s: no answer for %v", addr(i), time.Since(host.asked).Round(100*time.Millisecond)))
		}
	}
	return strings.Join(wrong, "; ")
}

// report is the state of a layer: that of its hosts and, if they are well, what else may be wrong.
func (h *Health) Report(hosts *Ring, more func() string) relay.Health {
	addr := func(host int) string { return hosts.Route(host).Addr() }
	trouble := h.trouble(addr)
	if trouble == "" {
		trouble = more()
	}
	h.mu.Lock()
	if ok := trouble == ""; ok != h.ok {
		h.ok, h.since = ok, time.Now()
	}
	since, gap := h.since, h.gap
	h.mu.Unlock()
	detail := trouble
	if detail == "" {
		addrs := make([]string, hosts.Size)
		for i := range addrs {
			addrs[i] = addr(i)
		}
		detail = "redis " + strings.Join(addrs, ", ")
		if gap != "" {
			detail += "; " + gap
		}
	}
	return relay.Health{
		OK: trouble == "", Detail: detail, Since: since,
		Reconnects: h.reconnects.Load(), Repairs: h.Repairs.Load(), Gaps: h.gaps.Load(),
		Healed:     h.healed.Load(),
		RoundTrips: hosts.Trips.count.Load(), RoundTripSeconds: time.Duration(hosts.Trips.nanos.Load()).Seconds(),
	}
}

// Watch logs every change of a layer's health, and trouble that was over before it could be seen, until ctx ends.
// unhealthy is the message for an unhealthy layer. lastLoss returns why a connection broke last; nil: reconnects are
// not logged.
func Watch(ctx context.Context, log *slog.Logger, lastLoss func() error, health func() relay.Health, unhealthy string) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := relay.Health{OK: true, Since: time.Now()}
	connected := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := health()
		switch {
		case now.OK && !connected:
			log.Info("channel layer connected", "layer", now.Detail)
		case now.OK && !last.OK:
			log.Info("channel layer is well again", "layer", now.Detail,
				"after", time.Since(last.Since).Round(time.Millisecond), "repaired", now.Repairs)
		case now.OK && now.Reconnects > last.Reconnects && lastLoss != nil:
			log.Warn("the connection to redis broke and was made again", "error", lastLoss(),
				"repaired", now.Repairs-last.Repairs)
		case now.OK && now.Repairs > last.Repairs:
			log.Warn("memberships had vanished from redis and were put back", "groups", now.Repairs-last.Repairs)
		case !now.OK && last.OK:
			log.Error(unhealthy, "trouble", now.Detail)
		}
		connected = true
		if now.OK != last.OK || now.OK {
			last = now
		}
	}
}

// Heal counts and logs a key of the relay's own that held another type and was deleted.
func (h *Health) Heal(log *slog.Logger, host *Route, key string) {
	h.healed.Add(1)
	log.Warn("a key of the relay held another type", "key", key, "host", host.Addr(),
		"remedy", "the key was deleted; find out which program writes to it")
}
