package node

import (
	"io"
	"log/slog"
	"strings"
	"testing"
)

// The node keeps the last lines with their fields, within both bounds.
func TestLogTailIsBounded(t *testing.T) {
	n := &Node{}
	log := slog.New(newKeepingHandler(slog.NewTextHandler(io.Discard, nil), &n.logTail)).With("part", "hub")
	for i := range 2 * maxLogTailLines {
		log.Info("line", "number", i)
	}
	log.Debug("not enabled")
	lines := n.LogTail()
	if len(lines) != maxLogTailLines {
		t.Fatalf("%d lines are kept, want %d", len(lines), maxLogTailLines)
	}
	last := string(lines[len(lines)-1])
	for _, want := range []string{`"msg":"line"`, `"level":"INFO"`, `"part":"hub"`, `"number":999`} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line lacks %s: %s", want, last)
		}
	}
	for range 10 {
		log.Info("long", "text", strings.Repeat("x", maxLogTailBytes/4))
	}
	total := 0
	for _, line := range n.LogTail() {
		total += len(line)
	}
	if lines := n.LogTail(); total > maxLogTailBytes || len(lines) != 3 {
		t.Errorf("%d long lines with %d bytes are kept, want 3 within %d", len(lines), total, maxLogTailBytes)
	}
}
