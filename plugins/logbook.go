package plugins

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// LogLine is a line that a plugin, or the host about it, wrote.
type LogLine struct {
	Time  time.Time  `json:"time"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"`
}

const (
	logKept  = 200 // lines a logbook remembers
	logRate  = 20  // lines a second …
	logBurst = 100 // … after so many at once
)

// logbook passes a plugin's lines to the logger at a bounded rate and remembers the last ones. Safe for concurrent use.
type logbook struct {
	logger *slog.Logger
	name   string
	now    func() time.Time

	mu       sync.Mutex
	lines    []LogLine // a ring once it is full
	next     int
	tokens   float64
	refilled time.Time
	left     int // lines suppressed since the last one that went through
}

func newLogbook(logger *slog.Logger, name string, now func() time.Time) *logbook {
	return &logbook{logger: logger, name: name, now: now, tokens: logBurst, refilled: now()}
}

func (l *logbook) write(level slog.Level, text string) {
	text = strings.ToValidUTF8(strings.TrimRight(text, "\n"), "\uFFFD")
	l.mu.Lock()
	now := l.now()
	l.tokens = min(logBurst, l.tokens+now.Sub(l.refilled).Seconds()*logRate)
	l.refilled = now
	if l.tokens < 1 {
		l.left++
		l.mu.Unlock()
		return
	}
	l.tokens--
	left := l.left
	l.left = 0
	line := LogLine{now, level, text}
	if len(l.lines) < logKept {
		l.lines = append(l.lines, line)
	} else {
		l.lines[l.next] = line
	}
	l.next = (l.next + 1) % logKept
	l.mu.Unlock()

	attrs := []slog.Attr{slog.String("plugin", l.name)}
	if left > 0 {
		attrs = append(attrs, slog.Int("suppressed", left))
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
