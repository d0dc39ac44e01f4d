//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// spareFiles is the number of files that a process needs besides its connections.
const spareFiles = 300

// maxFiles raises the soft limit of open files to the hard one, for this process and its children, and returns the
// limit.
func maxFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("raise the limit of open files: %w", err)
	}
	return int(min(l.Max, 1<<30)), nil
}

// fleet is all clients of one session, in as many receiver processes as the limit of open files requires.
type fleet struct {
	procs   []*process
	in      []*json.Encoder
	out     []*json.Decoder
	clients int
	source  int // last byte of the first source address
}

// launch starts receivers for n clients, with at most perProcess in each.
func launch(n, perProcess int) (*fleet, error) { return launchNice(n, perProcess, 0) }

// launchNice starts receivers at a nice value, so that servers and other receivers take precedence.
func launchNice(n, perProcess, nice int) (*fleet, error) {
	f := &fleet{clients: n, source: 1}
	for range (n + perProcess - 1) / perProcess {
		p, err := startNice(nice, "receive")
		if err != nil {
			f.stop()
			return nil, err
		}
		f.procs = append(f.procs, p)
		f.in = append(f.in, json.NewEncoder(p.stdin))
		f.out = append(f.out, json.NewDecoder(p.stdout))
	}
	return f, nil
}

// connect opens all clients.
func (f *fleet) connect(t target, parallel int) error {
	_, err := f.all(func(i int) order {
		t, n := f.part(t, i)
		return order{Do: "connect", Target: t, Clients: n, Parallel: parallel, Source: f.source + i*8}
	})
	return err
}

// part returns the target of the i-th receiver and its number of clients.
func (f *fleet) part(t target, i int) (target, int) {
	share, more := f.clients/len(f.procs), f.clients%len(f.procs)
	t.Of, t.First = f.clients, i*share+min(i, 1)*more
	if i == 0 {
		return t, share + more
	}
	t.Slow = 0
	return t, share
}

// change subscribes every client to the groups of t and waits for all replies.
func (f *fleet) change(t target) error {
	_, err := f.all(func(i int) order {
		t, _ := f.part(t, i)
		return order{Do: "switch", Target: t}
	})
	return err
}

// cut ends the running measurement with the event until.
func (f *fleet) cut(until int64) error {
	_, err := f.all(func(int) order { return order{Do: "cut", Until: until} })
	return err
}

// begin starts a measurement that ends with the event until.
func (f *fleet) begin(until, sample int64) error {
	_, err := f.all(func(int) order { return order{Do: "begin", Until: until, Sample: sample} })
	return err
}

// wait ends a measurement: every client has the event, or nothing arrived for stall.
func (f *fleet) wait(stall time.Duration) (*tally, error) {
	return f.all(func(int) order { return order{Do: "wait", StallMS: stall.Milliseconds()} })
}

// all sends an order to every receiver at once and adds up the replies.
func (f *fleet) all(make func(i int) order) (*tally, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total tally
		errs  []error
	)
	for i := range f.procs {
		wg.Go(func() {
			var a answer
			err := f.in[i].Encode(make(i))
			if err == nil {
				err = f.out[i].Decode(&a)
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("receiver process ended: %s", f.procs[i].stderrTail())
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			if a.Error != "" {
				errs = append(errs, errors.New(a.Error))
			}
			if a.Tally != nil {
				total.add(a.Tally)
			}
		})
	}
	wg.Wait()
	return &total, errors.Join(errs...)
}

func (f *fleet) stop() {
	for _, p := range f.procs {
		p.stop()
	}
}
