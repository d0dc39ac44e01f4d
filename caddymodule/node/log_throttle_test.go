package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A flood of one message leaves room for the others, and the next line says how many are missing.
func TestLogThrottle(t *testing.T) {
	var out bytes.Buffer
	h := newThrottledHandler(slog.NewTextHandler(&out, nil))
	now := time.Unix(0, 0)
	h.throttle.now = func() time.Time { return now }
	log := slog.New(h)
	for i := range 3 * logBurst {
		log.With("a", 1).Warn("flood", "i", i)
	}
	log.Info("another")
	if n := strings.Count(out.String(), "msg=flood"); n != logBurst {
		t.Errorf("%d lines of a flood passed, want %d", n, logBurst)
	}
	if !strings.Contains(out.String(), "msg=another\n") {
		t.Errorf("another message was held up:\n%s", out.String())
	}
	if n := h.throttle.suppressed.Load(); n != 2*logBurst {
		t.Errorf("%d counted as suppressed, want %d", n, 2*logBurst)
	}
	out.Reset()
	now = now.Add(2 * time.Second)
	for range 5 {
		log.WithGroup("g").Warn("flood")
	}
	want := fmt.Sprintf("msg=flood g.suppressed=%d\n", 2*logBurst)
	if lines := strings.SplitAfter(out.String(), "\n"); len(lines) != 3 || !strings.HasSuffix(lines[0], want) || !strings.HasSuffix(lines[1], "msg=flood\n") {
		t.Errorf("two seconds later: %q; want two lines, the first with %q", lines, want)
	}
	for i := range 3 * maxMessages { // what is not a constant must not fill the memory
		log.Info(fmt.Sprint("message ", i))
	}
	if n := len(h.throttle.messages); n > maxMessages {
		t.Errorf("%d messages remembered", n)
	}
}
