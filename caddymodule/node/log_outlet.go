package node

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// logOutlet passes log records to the logger of the current configuration.
// See docs/decisions/caddy.md#why-do-log-records-follow-the-current-configuration
type logOutlet struct {
	to    atomic.Pointer[slog.Logger]
	from  *logOutlet
	attrs []slog.Attr
}

func (o *logOutlet) target() slog.Handler {
	for o.from != nil {
		o = o.from
	}
	return o.to.Load().Handler()
}

// Enabled implements [slog.Handler].
func (o *logOutlet) Enabled(ctx context.Context, level slog.Level) bool {
	return o.target().Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (o *logOutlet) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(o.attrs...)
	return o.target().Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (o *logOutlet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logOutlet{from: o, attrs: append(o.attrs[:len(o.attrs):len(o.attrs)], attrs...)}
}

// WithGroup implements [slog.Handler]; groups are not used here.
func (o *logOutlet) WithGroup(string) slog.Handler { return o }
