package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
)

const (
	// maxLogTailLines and maxLogTailBytes bound the lines that the node keeps.
	maxLogTailLines = 500
	maxLogTailBytes = 256 << 10
)

// logTail keeps the last lines of the log in memory, for support bundles. Lines go to journals, files and containers,
// which the node cannot read again. Its methods are safe for concurrent use.
type logTail struct {
	mu    sync.Mutex
	lines []json.RawMessage // oldest first
	bytes int
}

// Write implements [io.Writer]. Each call is a line.
func (t *logTail) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, bytes.Clone(bytes.TrimSpace(line)))
	t.bytes += len(line)
	drop := 0
	for ; t.bytes > maxLogTailBytes || len(t.lines)-drop > maxLogTailLines; drop++ {
		t.bytes -= len(t.lines[drop]) + 1
	}
	if drop > 0 {
		t.lines = append([]json.RawMessage(nil), t.lines[drop:]...)
	}
	return len(line), nil
}

// LogTail returns the last lines of the relay's own log, oldest first, each a JSON object. The log of Caddy itself,
// such as its access log, is not part of it.
func (n *Node) LogTail() []json.RawMessage {
	n.logTail.mu.Lock()
	defer n.logTail.mu.Unlock()
	return append([]json.RawMessage{}, n.logTail.lines...)
}

// keepingHandler is a [slog.Handler] that passes records on, and keeps them in a [logTail].
type keepingHandler struct{ to, tail slog.Handler }

func newKeepingHandler(to slog.Handler, tail *logTail) keepingHandler {
	return keepingHandler{to, slog.NewJSONHandler(tail, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// Enabled implements [slog.Handler].
func (h keepingHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h keepingHandler) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(h.tail.Handle(ctx, r), h.to.Handle(ctx, r))
}

// WithAttrs implements [slog.Handler].
func (h keepingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return keepingHandler{h.to.WithAttrs(attrs), h.tail.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h keepingHandler) WithGroup(name string) slog.Handler {
	return keepingHandler{h.to.WithGroup(name), h.tail.WithGroup(name)}
}
