package cli

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// No request waits for ever, and those for which the relay works longer have more time.
func TestSilenceLimits(t *testing.T) {
	for _, c := range []struct {
		method, path string
		min, max     time.Duration
	}{
		{http.MethodGet, "/edgerelay/health/live", 2 * time.Second, 3 * time.Second},
		{http.MethodGet, "/edgerelay/status", 10 * time.Second, 30 * time.Second},
		{http.MethodGet, "/edgerelay/plugins/p", 10 * time.Second, 30 * time.Second},
		{http.MethodPost, "/edgerelay/publish", 10 * time.Second, 30 * time.Second},
		{http.MethodGet, "/edgerelay/groups/health/tail?raw=true", 10 * time.Second, 30 * time.Second},
		{http.MethodPut, "/edgerelay/plugins/p?by=x", plugins.MaxCompileTime + 2*time.Minute, 15 * time.Minute},
		{http.MethodPost, "/edgerelay/plugins/p/rollback", plugins.MaxCompileTime + 2*time.Minute, 15 * time.Minute},
		{http.MethodPost, "/edgerelay/doctor", time.Minute + 10*time.Second, 2 * time.Minute},
		{http.MethodPost, "/edgerelay/doctor?channels=5m0s", 6 * time.Minute, 7 * time.Minute},
	} {
		if got := silenceLimit(c.method, c.path); got < c.min || got > c.max {
			t.Errorf("%s %s: %v, want %v to %v", c.method, c.path, got, c.min, c.max)
		}
	}
}

// A silence before the response, or within it, is an admin API that does not respond. A stream may be silent.
func TestSilenceEndsARequest(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/before" {
			<-release
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status": `))
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	place := adminAddress{strings.TrimPrefix(server.URL, "http://"), "from --address"}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{"/before", "/within"} {
			watch := watchSilence(t.Context(), place, method, path)
			watch.limit = 50 * time.Millisecond
			watch.timer.Reset(watch.limit)
			req, err := http.NewRequestWithContext(watch.ctx, method, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				err = watch.failure(err)
			} else {
				var v any
				body := watch.body(resp)
				err = decodeResponse(place.address, path, body, &v)
				_ = body.Close()
			}
			remedy := "restart the relay if it hangs"
			if method == http.MethodPost {
				remedy = "may take effect"
			}
			if exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "no response within") ||
				!strings.Contains(err.Error(), remedy) {
				t.Errorf("%s %s: %v (exit code %d)", method, path, err, exitCode(err))
			}
		}
	}
}

// endless writes a JSON text that never ends.
type endless struct{ sent int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	if e.sent == 0 {
		p[0] = '"'
	}
	e.sent += len(p)
	return len(p), nil
}

func (e *endless) Close() error { return nil }

// A response without an end is not read into memory.
func TestResponsesAreBounded(t *testing.T) {
	source := &endless{}
	place := adminAddress{"localhost:2019", "from --address"}
	watch := watchSilence(t.Context(), place, http.MethodGet, "/edgerelay/status")
	body := watch.body(&http.Response{StatusCode: http.StatusOK, Body: source})
	body.(*watchedBody).left = 1 << 20
	var v any
	err := decodeResponse("localhost:2019", "/edgerelay/status", body, &v)
	_ = body.Close()
	if err == nil || !errors.As(err, new(*bodyError)) || !strings.Contains(err.Error(), "the response to /edgerelay/status") ||
		source.sent > 4<<20 {
		t.Errorf("%d bytes read, error %v", source.sent, err)
	}
}

// A line of a stream without an end is not read into memory, and long lines arrive whole.
func TestLinesOfStreamsAreBounded(t *testing.T) {
	source := &endless{}
	if _, err := readLine(bufio.NewReader(source)); err == nil || source.sent > 2*maxLineBytes {
		t.Errorf("%d bytes read, error %v", source.sent, err)
	}
	long := strings.Repeat("x", 100_000) + "\n"
	r := bufio.NewReader(strings.NewReader(long + "short\n"))
	for _, want := range []string{long, "short\n"} {
		if line, err := readLine(r); err != nil || string(line) != want {
			t.Errorf("%d bytes, error %v, want %d", len(line), err, len(want))
		}
	}
}
