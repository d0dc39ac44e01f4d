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
	// AnswerTimeout is how long a healthy host may take to answer.
	AnswerTimeout = time.Second
	// watchInterval is the time between looks at the health, to log changes.
	watchInterval = 250 * time.Millisecond
)

// Health is the state of a layer's hosts.
type Health struct {
	Repairs    atomic.Uint64 // memberships that were missing and restored
	reconnects atomic.Uint64
	healed     atomic.Uint64 // keys of the relay's own that held another type
	gaps       atomic.Uint64

	mu    sync.Mutex
	hosts []hostHealth
	ok    bool
	since time.Time
	gap   string // the last gap
}

type hostHealth struct {
	up    bool
	ever  bool      // was up before
	asked time.Time // when the oldest unanswered command was sent
	err   error     // why the host is not up, or was not the last time
	// rejection is why the host is up and takes no writes: memory is full, or replicas or the disk are missing.
	rejection error
}

// NewHealth returns the health of a number of hosts.
func NewHealth(hosts int) *Health {
	return &Health{hosts: make([]hostHealth, hosts), since: time.Now()}
}

// ReportLoss reports a loss: in the layer's health, and to the sink. It does not block.
func (h *Health) ReportLoss(sink relay.Sink, l relay.Loss) {
	h.gaps.Add(1)
	h.mu.Lock()
	h.gap = l.String() + " before " + time.Now().UTC().Format(time.RFC3339)
	h.mu.Unlock()
	relay.ReportLoss(sink, l)
}

// Disconnected notes why a host's connection broke or could not be made.
func (h *Health) Disconnected(host int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host] = hostHealth{ever: h.hosts[host].ever, err: err}
}

// Connected notes that a host is up.
func (h *Health) Connected(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts[host].ever {
		h.reconnects.Add(1)
	}
	h.hosts[host].up, h.hosts[host].ever = true, true
}

// Replaced notes that a connection is replaced because of new settings. The next connection is no reconnect.
func (h *Health) Replaced(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].ever = false
}

// RejectsWrites notes why a host takes no writes; nil: it takes writes.
func (h *Health) RejectsWrites(host int, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].rejection = why
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

// Asked notes that a command was sent.
func (h *Health) Asked(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts[host].asked.IsZero() {
		h.hosts[host].asked = time.Now()
	}
}

// Answered notes that a host has answered.
func (h *Health) Answered(host int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts[host].asked = time.Time{}
}

// trouble describes the unhealthy hosts in a line; empty if all are healthy.
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
		case host.rejection != nil:
			wrong = append(wrong, fmt.Sprintf("redis %s takes no events: %v", addr(i), host.rejection))
		case !host.asked.IsZero() && time.Since(host.asked) > AnswerTimeout:
			unanswered := time.Since(host.asked).Round(100 * time.Millisecond)
			wrong = append(wrong, fmt.Sprintf("redis %s: no answer for %v", addr(i), unanswered))
		}
	}
	return strings.Join(wrong, "; ")
}

// Report returns the state of a layer: the state of the hosts and, if all are healthy, more.
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

// Watch logs every change of a layer's health, and failures that were over before it could be seen, until ctx ends.
// effect describes the consequence of an unhealthy layer for events. lastLoss returns the cause of the last broken
// connection; nil: reconnects are not logged.
func Watch(ctx context.Context, log *slog.Logger, effect string, lastLoss func() error, health func() relay.Health) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := relay.Health{OK: true, Since: time.Now()}
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := health()
		switch {
		case !now.OK && last.OK:
			log.Error("channel layer unhealthy", "error", now.Detail, "effect", effect)
		case now.OK && first:
			log.Info("channel layer connected", "layer", now.Detail)
		case now.OK:
			logRecovery(log, lastLoss, last, now)
		}
		first = false
		if now.OK != last.OK || now.OK {
			last = now
		}
	}
}

// logRecovery logs a healthy layer that was unhealthy since last, or whose failure was over before it could be seen.
func logRecovery(log *slog.Logger, lastLoss func() error, last, now relay.Health) {
	switch {
	case !last.OK:
		log.Info("channel layer recovered", "layer", now.Detail,
			"duration", time.Since(last.Since).Round(time.Millisecond), "restored", now.Repairs)
	case now.Reconnects > last.Reconnects && lastLoss != nil:
		log.Warn("redis connection broke, reconnected", "error", lastLoss(), "restored", now.Repairs-last.Repairs)
	case now.Repairs > last.Repairs:
		log.Warn("group memberships were missing, restored", "count", now.Repairs-last.Repairs)
	}
}

// Heal counts and logs a key of the relay's own that held another type and was deleted.
func (h *Health) Heal(log *slog.Logger, host *Route, key string) {
	h.healed.Add(1)
	log.Warn("key of the relay held another type, deleted", "key", key, "host", host.Addr(),
		"remedy", "find the program that writes to it")
}
