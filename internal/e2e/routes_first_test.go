package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A crowd connects at once to a route whose first frame and logins come from the site, while events come. The first
// frame is the first, and the events follow, each once and in order. Afterwards the goroutines and descriptors are
// those of before.
func TestCrowdAtARouteWithFirstFrames(t *testing.T) {
	t.Parallel()
	const clients = 2000
	var fetched, asked atomic.Int64
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond) // a site's work
		if strings.HasPrefix(r.URL.Path, "/first") {
			fetched.Add(1)
			fmt.Fprintf(w, "first of %s", r.Header.Get("Cookie"))
			return
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"user": {"id": %q}, "groups": ["r_*"], "ttl": 60}`, strings.TrimPrefix(r.Header.Get("Cookie"), "sessionid="))
	}))
	t.Cleanup(site.Close)
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nchannel_layer redis "+redis.URL+
		"\nauth http "+site.URL+"/auth\n}\n}\n{$SITE} {\nbind 127.0.0.1\nedgerelay {\n"+
		"route /text/{room}/ {\ngroups r_{room}\non x.y text text\nfirst fetch "+site.URL+"/first\n}\n}\nrespond \"next\"\n}\n")
	emitter := peers.StartEmitter(t, redis.URL)
	figures := func() string {
		var list []string
		for _, line := range strings.Split(fetch(t, r.Admin+"/metrics"), "\n") {
			for _, name := range []string{"go_goroutines ", "process_open_fds ", "go_memstats_heap_inuse_bytes "} {
				if strings.HasPrefix(line, name) {
					list = append(list, line)
				}
			}
		}
		return strings.Join(list, ", ")
	}
	before := figures()
	wait := emitter.PaceMessages("r_1", map[string]any{"type": "x.y"}, 1, 200, 20*time.Millisecond)
	began := time.Now()
	crowd := make([]*routeClient, clients)
	var refused atomic.Int64
	if err := each(clients, func(i int) (err error) {
		for range 20 {
			if crowd[i], err = dialRoute(r, "/text/1/", fmt.Sprint("Cookie: sessionid=u", i)); err == nil {
				return nil
			}
			if !errors.As(err, new(wstest.RefusedError)) {
				return err
			}
			refused.Add(1)
			time.Sleep(200 * time.Millisecond)
		}
		return err
	}); err != nil {
		t.Log(lastLines(r.Log(), 5))
		t.Fatal(err)
	}
	t.Log(clients, "clients in", time.Since(began), "refused", refused.Load(), "fetched", fetched.Load(), "asked", asked.Load())
	wait()
	emitter.SendMessage("r_1", map[string]any{"type": "x.y", "n": 201, "text": "m201"})
	for i, c := range crowd {
		testkit.Eventually(t, "the last event", func() error {
			seen, _, ended := c.numbers()
			if len(seen) == 0 || seen[len(seen)-1] < 201 {
				return errors.Join(fmt.Errorf("%d events", len(seen)), ended)
			}
			return nil
		})
		c.mu.Lock()
		for k := 1; k < len(c.seen); k++ {
			if c.seen[k] != c.seen[k-1]+1 {
				t.Errorf("%d behind %d", c.seen[k], c.seen[k-1])
			}
		}
		if len(c.odd) != 1 || c.odd[0] != fmt.Sprint("first of sessionid=u", i) || len(c.forms) != len(c.seen) {
			t.Errorf("other frames %q", c.odd)
		}
		c.mu.Unlock()
	}
	during := figures()
	for _, c := range crowd {
		c.raw.Close()
	}
	testkit.Eventually(t, "the ends", func() error {
		if now := figures(); !strings.Contains(now, "go_goroutines") || openFDs(now) > openFDs(before)+80 {
			return errors.New(now)
		}
		return nil
	})
	t.Logf("before %s\nduring %s\nafter %s", before, during, figures())
}

func openFDs(figures string) (n float64) {
	_, rest, _ := strings.Cut(figures, "process_open_fds ")
	_, _ = fmt.Sscan(rest, &n)
	return n
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
