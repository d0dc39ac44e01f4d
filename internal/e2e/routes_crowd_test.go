package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// routeClient is a client of a route that keeps the numbers of its events.
type routeClient struct {
	name string
	raw  *wstest.Raw

	mu    sync.Mutex
	seen  []int
	forms []string // of the frames, "" if a frame is in none
	odd   []string // frames without a number
	ended error
}

// dialRoute connects to a path of a node.
func dialRoute(r *peers.Relay, path string, headers ...string) (*routeClient, error) {
	raw, err := wstest.DialRaw(r.URL+path, "", headers...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &routeClient{name: r.URL + path, raw: raw}
	go c.read()
	return c, nil
}

func (c *routeClient) read() {
	for {
		text, err := c.raw.Next(0)
		c.mu.Lock()
		if err != nil {
			c.ended = err
			c.mu.Unlock()
			return
		}
		if n, form, ok := routeFrame(text); ok {
			c.seen, c.forms = append(c.seen, n), append(c.forms, form)
		} else {
			c.odd = append(c.odd, text)
		}
		c.mu.Unlock()
	}
}

// routeFrame returns the number and the form of a frame of [routeRules].
func routeFrame(text string) (n int, form string, ok bool) {
	if digits, is := strings.CutPrefix(text, "m"); is {
		n, err := strconv.Atoi(digits)
		return n, "text", err == nil
	}
	if _, err := fmt.Sscanf(text, `{"n": %d, "form": %q, "text": "m`, &n, &form); err != nil {
		return 0, "", false
	}
	again := fmt.Sprintf(`{"n": %d, "form": %q, "text": "m%d"}`, n, form, n)
	return n, form, again == text
}

// routeRules is the block of a route whose JSON frames have a form.
func routeRules(form string) string {
	return `on x.y json n form:="` + form + "\" text\n"
}

// numbers returns what the client has got.
func (c *routeClient) numbers() (seen []int, forms []string, ended error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int(nil), c.seen...), append([]string(nil), c.forms...), c.ended
}

// checkOrder returns an error if an event came twice, out of order, or as something else.
func (c *routeClient) checkOrder() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.seen); i++ {
		if c.seen[i] <= c.seen[i-1] {
			return fmt.Errorf("%s: event %d behind %d", c.name, c.seen[i], c.seen[i-1])
		}
	}
	if len(c.odd) > 0 {
		return fmt.Errorf("%s: %d odd frames, the first %.200q", c.name, len(c.odd), c.odd[0])
	}
	return nil
}

// checkAll waits until the client has the events first to last, each once and in order.
func (c *routeClient) checkAll(t *testing.T, first, last int) {
	t.Helper()
	testkit.Eventually(t, "the last event", func() error {
		seen, _, ended := c.numbers()
		if len(seen) == 0 || seen[len(seen)-1] < last {
			return errors.Join(fmt.Errorf("%s: %d events, not %d", c.name, len(seen), last), ended)
		}
		return nil
	})
	if err := c.checkOrder(); err != nil {
		t.Error(err)
	}
	seen, _, _ := c.numbers()
	if len(seen) != last-first+1 || seen[0] != first {
		t.Errorf("%s: %d events from %d on; want %d to %d; missing %v", c.name, len(seen), seen[0], first, last,
			missingNumbers(seen, first, last))
	}
}

// missingNumbers returns the first numbers that are not seen.
func missingNumbers(seen []int, first, last int) (missing []int) {
	have := map[int]bool{}
	for _, n := range seen {
		have[n] = true
	}
	for n := first; n <= last && len(missing) < 10; n++ {
		if !have[n] {
			missing = append(missing, n)
		}
	}
	return missing
}

// each calls fn for 0 to n-1, in some goroutines, and returns the first error.
func each(n int, fn func(i int) error) error {
	errs, slots := make(chan error, n), make(chan bool, 50)
	for i := range n {
		slots <- true
		go func() {
			errs <- fn(i)
			<-slots
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
