package state

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

// Requests that fail in a batch, by type, quota or length, leave their neighbours of other plugins alone, and each
// request is told its own result. A plugin that fills its half of the queue does not stop another one.
func TestNeighboursInABatch(t *testing.T) {
	eachPlace(t, Limits{Bytes: 64 << 10, Keys: 50}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Plugin: "bad", Op: Push, Key: "list", Value: []byte("x"), Limit: 10}, OK, "")
		var all sync.WaitGroup
		add := func(r *Request, ok func(Response) bool) {
			all.Add(1)
			s.Start(r, func(res Response) {
				defer all.Done()
				if !ok(res) {
					t.Errorf("%v of %s, %s: %d %.40q", r.Op, r.Plugin, r.Key, res.Status, res.Body)
				}
			})
		}
		fails := func(res Response) bool { return res.Status != OK }
		for range 2000 {
			add(&Request{Plugin: "bad", Op: Add, Key: "list", Delta: 1}, fails)
			add(&Request{Plugin: "bad", Op: Set, Key: "big", Value: bytes.Repeat([]byte("x"), 64<<10)}, fails)
			add(&Request{Plugin: "good", Op: Add, Key: "n", Delta: 1}, func(res Response) bool { return res.Status == OK })
		}
		all.Wait()
		want(t, s, &Request{Plugin: "good", Op: Add, Key: "n", Delta: 1}, OK, fmt.Sprint(2001))
	})
}
