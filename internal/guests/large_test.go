package guests

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// shapes returns events of the given size that cost redactors more or less.
var shapes = map[string]func(n int) string{
	"output without secrets": func(n int) string { return stdout(strings.Repeat("x", n)) },
	"a secret a line": func(n int) string {
		return stdout(strings.Repeat(`TASK [copy: files] *** ok: [host1] => password=hunter2 token: abc\n`, n/67))
	},
	"beginnings of words": func(n int) string { return stdout(strings.Repeat("psptak", n/6)) },
	"beginnings of keys":  func(n int) string { return stdout(strings.Repeat("-----begin ", n/11)) },
	"beginnings of URLs":  func(n int) string { return stdout(strings.Repeat("://a:", n/5)) },
	"secret numbers":      func(n int) string { return `{"secrets":[` + strings.Repeat("1,", n/2-8) + `1]}` },
	"empty strings":       func(n int) string { return `{"a":[` + strings.Repeat(`"",`, n/3-3) + `1]}` },
}

func stdout(text string) string {
	const head, tail = `{"event":"runner_on_failed","event_data":{"res":{"stdout":"`, `"}},"status":"failed"}`
	return head + text[:max(0, len(text)-len(head)-len(tail))] + tail
}

// TestLargeEvents: with default settings, the examples process events of any size up to 1 MiB and any content, and the
// redactors agree.
func TestLargeEvents(t *testing.T) {
	redacted := map[string][]byte{}
	for _, e := range examples {
		spec := e.spec(e.Wasm(t))
		spec.JSON = false // some of the events are cut in the middle of an escape
		p := start(t, newClock(), spec)
		var worst float64
		for name, shape := range shapes {
			for _, size := range []int{4 << 10, 64 << 10, 1<<20 - 20, 1 << 20} {
				payload := []byte(shape(size))
				before := p.Health()[0].Fuel
				out := p.Process(plugins.Event{Group: "job_events-1", Payload: payload}, nil)
				h := p.Health()[0]
				worst = max(worst, float64(h.Fuel-before)/float64(len(payload)))
				if len(payload) > size || len(payload) < size-100 {
					t.Fatalf("%s: %d bytes instead of %d", name, len(payload), size)
				}
				if h.LastError != "" {
					t.Fatalf("%s, %d bytes of %s: %s", e.Name, size, name, h.LastError)
				}
				if !strings.HasPrefix(e.Name, "redact") {
					continue
				}
				key := fmt.Sprint(name, size)
				if other := redacted[key]; len(out) != 1 || other != nil && !bytes.Equal(other, out[0].Payload) {
					t.Errorf("%d bytes of %s: the redactors disagree", size, name)
				}
				redacted[key] = out[0].Payload
				if bytes.Contains(out[0].Payload, []byte("hunter2")) {
					t.Errorf("%s, %d bytes of %s: a secret is left", e.Name, size, name)
				}
			}
		}
		t.Logf("%s: at most %.1f units a byte, %d KiB of memory", e.Name, worst, p.Health()[0].Memory>>10)
		_ = p.Close()
	}
}
