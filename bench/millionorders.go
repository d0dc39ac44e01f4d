//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// order sends an order to all crowds at once, and adds up the answers.
func (m *million) order(make func(i int) crowdOrder) (crowdAnswer, error) {
	total := crowdAnswer{Fewest: 255, Closed: map[int]int64{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for i, c := range m.crowds {
		wg.Go(func() {
			o := make(i)
			o.StallMS = millionStall.Milliseconds()
			var a crowdAnswer
			err := c.in.Encode(o)
			if err == nil {
				err = c.out.Decode(&a)
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("crowd process ended: %s", c.stderrTail())
			} else if err == nil && a.Error != "" {
				err = errors.New(a.Error)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			total.add(&a)
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return total, fmt.Errorf("%d of %d crowds failed, the first: %w%s", len(errs), len(m.crowds), errs[0], m.lastWords())
	}
	return total, nil
}

// add adds up the counts of two crowds. Lumps are added as if they coincided.
func (a *crowdAnswer) add(o *crowdAnswer) {
	a.Open += o.Open
	a.Pings += o.Pings
	a.Fewest = min(a.Fewest, o.Fewest)
	a.Lump += o.Lump
	a.Events += o.Events
	a.Doubled += o.Doubled
	a.Last = max(a.Last, o.Last)
	a.Latency.add(&o.Latency)
	for code, n := range o.Closed {
		a.Closed[code] += n
	}
}
