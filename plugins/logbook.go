package plugins

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// LogLine is a log line of a plugin, or of the host about the plugin.
type LogLine struct {
	Time  time.Time  `json:"time"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"`
}

const (
	logKept  = 200 // lines that a logbook remembers
	logRate  = 20  // lines per second
	logBurst = 100 // lines at once
)

// logbook passes a plugin's lines to the logger at a bounded rate and remembers the last ones. Its methods are safe for
// concurrent use.
type logbook struct {
	logger *slog.Logger
	name   string
	now    func() time.Time

	mu         sync.Mutex // guards the fields below
	lines      []LogLine  // a ring once it is full
	next       int
	tokens     float64
	refilled   time.Time
	suppressed int // lines since the last one that was written
}

func newLogbook(logger *slog.Logger, name string, now func() time.Time) *logbook {
	return &logbook{logger: logger, name: name, now: now, tokens: logBurst, refilled: now()}
}

// write logs and remembers a line, or counts it as suppressed.
func (l *logbook) write(level slog.Level, text string) {
	text = strings.ToValidUTF8(strings.TrimRight(text, "\n"), "\uFFFD")
	l.mu.Lock()
	now := l.now()
	l.tokens = min(logBurst, l.tokens+now.Sub(l.refilled).Seconds()*logRate)
	l.refilled = now
	if l.tokens < 1 {
		l.suppressed++
		l.mu.Unlock()
		return
	}
	l.tokens--
	suppressed := l.suppressed
	l.suppressed = 0
	line := LogLine{now, level, text}
	if len(l.lines) < logKept {
		l.lines = append(l.lines, line)
	} else {
		l.lines[l.next] = line
	}
	l.next = (l.next + 1) % logKept
	l.mu.Unlock()

	attrs := []slog.Attr{slog.String("plugin", l.name)}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	l.logger.LogAttrs(context.Background(), level, text, attrs...)
}

// snapshot returns the remembered lines, oldest first.
func (l *logbook) snapshot() []LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]LogLine, 0, len(l.lines))
	if len(l.lines) == logKept {
		out = append(out, l.lines[l.next:]...)
	}
	return append(out, l.lines[:min(l.next, len(l.lines))]...)
}
