//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// sessionKey names a kind of session: how many clients, plain or TLS.
type sessionKey struct {
	clients int
	tls     bool
}

// keys lists the sessions of one repetition. One client means the drain.
func (p *plan) keys() []sessionKey {
	var ks []sessionKey
	for _, n := range p.clients {
		ks = append(ks, sessionKey{clients: n})
	}
	if p.idleAt > 0 {
		ks = append(ks, sessionKey{clients: p.idleAt})
		if p.idleTLS {
			ks = append(ks, sessionKey{clients: p.idleAt, tls: true})
		}
	}
	if p.drain {
		ks = append(ks, sessionKey{clients: 1})
	}
	return ks
}

// chosen returns the systems of the plan in the plan's order.
func (p *plan) chosen() ([]*system, error) {
	var list []*system
	known := systems()
	for _, name := range p.systems {
		i := slices.IndexFunc(known, func(s *system) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no system %q", name)
		}
		list = append(list, known[i])
	}
	return list, nil
}

// carryOut plays all sessions: every system in turn for one number of clients, then the next number, then all
// again, so that what a neighbour on the machine takes spreads over all systems.
func (p *plan) carryOut(ctx context.Context, caddy string) (*results, error) {
	list, err := p.chosen()
	if err != nil {
		return nil, err
	}
	for _, sys := range list {
		if err := sys.try(ctx, setup{caddy: caddy}); err != nil {
			return nil, fmt.Errorf("%s: %w", sys.name, err)
		}
	}
	res := &results{Mode: p.mode, Date: time.Now().Format(time.DateOnly)}
	began := time.Now()
	for rep := range p.reps {
		for _, k := range p.keys() {
			for _, sys := range list {
				if k.clients == 1 && !sys.redis {
					continue
				}
				s := &session{sys: sys, clients: k.clients, tls: k.tls, plan: p, setup: setup{caddy: caddy}}
				err := s.play(ctx)
				if ctx.Err() != nil {
					res.Interrupted = true // what is done still counts
					return res, nil
				}
				s.account(err)
				res.Rows = append(res.Rows, s.rows...)
				p.tell(rep, began, s, err)
			}
		}
	}
	return res, nil
}

// try starts and stops a system, so that what is missing shows before much time is spent.
func (sys *system) try(ctx context.Context, s setup) (err error) {
	if s.dir, err = os.MkdirTemp("", "edgerelay-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(s.dir)
	run, err := sys.start(ctx, s)
	if err == nil {
		run.stop()
	}
	return err
}

// account makes sure that a session which ended early has a row that says why.
func (s *session) account(err error) {
	if err == nil || len(s.rows) > 0 && s.rows[len(s.rows)-1].failed() {
		return
	}
	r := s.newRow(kindConnect)
	if errors.Is(err, errFiles) {
		r.Skip = err.Error()
	} else {
		r.Fault = err.Error()
	}
	s.rows = append(s.rows, r)
}

// tell reports a session on standard error as it ends.
func (p *plan) tell(rep int, began time.Time, s *session, err error) {
	fmt.Fprintf(os.Stderr, "[%6.1f s] %d/%d %s, %d clients", time.Since(began).Seconds(), rep+1, p.reps, s.sys.name, s.clients)
	if s.tls {
		fmt.Fprint(os.Stderr, ", TLS")
	}
	fmt.Fprintln(os.Stderr)
	for _, r := range s.rows {
		fmt.Fprintln(os.Stderr, "          ", r.line())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "           FAULT:", err)
	}
}

// line is a row in short.
func (r *row) line() string {
	head := string(r.Kind)
	if r.Size > 0 {
		head += " " + sizeName(r.Size)
	}
	switch {
	case r.Skip != "":
		return head + ": " + r.Skip
	case r.Fault != "":
		return head + ": " + r.Fault
	case r.Kind == kindConnect:
		return fmt.Sprintf("%s: %.3f ms CPU each, %.0f/s, %.1f KiB each, %.1f after a collection; others took %.0f %%",
			head, r.ConnectCPU, r.ConnectPerSec, r.IdleKiB, r.IdleAfterGC, r.Others*100)
	}
	return fmt.Sprintf("%s: %d events, %.0f/s, %.2f CPU-s/M, p50 %.1f p99 %.1f ms, Redis %.0f in %.0f out; others took %.0f %%",
		head, r.Events, r.PerSecond, r.CPUPerM, r.P50, r.P99, r.RedisIn, r.RedisOut, r.Others*100)
}
