package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// logBurst is the number of lines with one message that pass at once; logRate is the number a second from then on.
	logBurst = 50
	logRate  = 1
	// maxMessages bounds the number of counted messages. The code has fewer: each message is a constant.
	maxMessages = 1024
)

// throttledHandler is a [slog.Handler] that passes lines with one message at a bounded rate, so that no number of
// clients, peers or failures floods the log. The next line that passes has the number of suppressed lines.
// See docs/decisions/operations.md#why-are-log-messages-constants-throttled-in-one-place
type throttledHandler struct {
	to       slog.Handler
	throttle *logThrottle
}

// logThrottle counts the lines of each message. Its methods are safe for concurrent use.
type logThrottle struct {
	suppressed atomic.Uint64
	now        func() time.Time

	mu       sync.Mutex
	messages map[string]*messageBudget
}

// messageBudget is the token bucket of one message.
type messageBudget struct {
	tokens  float64
	since   time.Time
	skipped int // since the last line that passed
}

func newThrottledHandler(to slog.Handler) throttledHandler {
	return throttledHandler{to, &logThrottle{now: time.Now, messages: map[string]*messageBudget{}}}
}

// Enabled implements [slog.Handler].
func (t throttledHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return t.to.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (t throttledHandler) Handle(ctx context.Context, r slog.Record) error {
	skipped, ok := t.throttle.pass(r.Message)
	if !ok {
		return nil
	}
	if skipped > 0 {
		r.AddAttrs(slog.Int("suppressed", skipped))
	}
	return t.to.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (t throttledHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return throttledHandler{t.to.WithAttrs(attrs), t.throttle}
}

// WithGroup implements [slog.Handler].
func (t throttledHandler) WithGroup(name string) slog.Handler {
	return throttledHandler{t.to.WithGroup(name), t.throttle}
}

// pass reports whether a line may be logged, and how many lines with the message were suppressed since the last one.
func (b *logThrottle) pass(message string) (skipped int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	m := b.messages[message]
	if m == nil {
		if len(b.messages) >= maxMessages {
			clear(b.messages)
		}
		m = &messageBudget{tokens: logBurst, since: now}
		b.messages[message] = m
	}
	m.tokens = min(logBurst, m.tokens+now.Sub(m.since).Seconds()*logRate)
	m.since = now
	if m.tokens < 1 {
		m.skipped++
		b.suppressed.Add(1)
		return 0, false
	}
	m.tokens--
	skipped, m.skipped = m.skipped, 0
	return skipped, true
}
