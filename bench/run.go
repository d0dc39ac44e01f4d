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

// sessionKey is a kind of session: the number of clients, plain or TLS, and the special measurements.
type sessionKey struct {
	clients int
	tls     bool
	groups  int    // that events are spread over, 0: one
	slow    int    // clients that read slowly
	beside  bool   // measures the latency beside slow readers
	storm   bool   // measures a storm of connects
	rates   bool   // measures a series of paces
	plugin  string // of a measurement with plugins, "" for none; see pluginCases
	history string // of a measurement with or without a history, "" for others; see historyCases
	resume  bool   // measures the return of all clients
	route   string // of a measurement of routes, "" for others; see routeCases
	deflate string // of a measurement of compression, "" for others; see deflateCases
	front   string // the proxy or listener wrapper in front of the site, "" for none; see frontCases
}

// special names a session that differs from those of the fan-out rows by more than its clients, groups and events: its
// connects are rows of their own.
func (k sessionKey) special() string {
	switch {
	case k.storm:
		return "storm"
	case k.resume:
		return "resume"
	case k.plugin != "":
		return "plugins"
	}
	return ""
}

func (k sessionKey) String() string {
	s := fmt.Sprintf("%d clients", k.clients)
	if k.tls {
		s += ", TLS"
	}
	if k.groups > 0 {
		s += fmt.Sprintf(", %d groups", k.groups)
	}
	if k.beside {
		s += fmt.Sprintf(", %d slow readers", k.slow)
	}
	if k.storm {
		s += ", storm"
	}
	if k.history != "" {
		s += ", history " + k.history
	}
	if k.route != "" {
		s += ", by " + findRoute(k.route).title
	}
	if k.deflate != "" {
		s += ", compression " + findDeflate(k.deflate).title
	}
	if k.front != "" {
		s += ", " + findFront(k.front).title
	}
	if k.resume {
		s += ", resume"
	}
	if k.plugin != "" {
		s += ", plugin: " + k.plugin
	}
	return s
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
	if p.beside > 0 {
		ks = append(ks, sessionKey{clients: p.beside, beside: true})
		ks = append(ks, sessionKey{clients: p.beside, beside: true, slow: p.beside / 100})
	}
	if p.storm > 0 {
		ks = append(ks, sessionKey{clients: stormed, storm: true})
	}
	for _, g := range p.groups {
		ks = append(ks, sessionKey{clients: spreadClients, groups: g})
	}
	if p.plugins {
		for _, c := range pluginCases {
			ks = append(ks, sessionKey{clients: pluginClients, plugin: c.name})
		}
	}
	if p.history {
		for _, c := range historyCases {
			ks = append(ks, sessionKey{clients: historyClients, history: c.name},
				sessionKey{clients: p.idleHistory, history: c.name})
		}
	}
	if p.resume > 0 {
		ks = append(ks, sessionKey{clients: p.resume, history: "positions", resume: true})
	}
	if p.doors {
		for _, c := range doorCases {
			ks = append(ks, sessionKey{clients: routeClients, route: c.name}, sessionKey{clients: p.idleRoutes, route: c.name})
		}
	}
	if p.routes {
		for _, c := range routeCases {
			ks = append(ks, sessionKey{clients: routeClients, route: c.name}, sessionKey{clients: p.idleRoutes, route: c.name})
		}
	}
	if p.deflate {
		ks = append(ks, p.deflateKeys()...)
	}
	if p.fronts {
		for _, c := range frontCases {
			ks = append(ks, sessionKey{clients: frontClients, front: c.name, tls: c.tls},
				sessionKey{clients: p.idleFronts, front: c.name, tls: c.tls})
		}
	}
	if len(p.rates) > 0 {
		ks = append(ks, sessionKey{clients: rateClients, rates: true})
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

// carryOut plays all sessions: every system in turn for one number of clients, then the next number, then all again.
// Interference from other processes so spreads over all systems.
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
				if !p.plays(rep, k, sys) {
					continue
				}
				s := &session{sys: sys, sessionKey: k, plan: p, setup: setup{caddy: caddy, env: p.env, cpus: p.cpus}}
				s.setup.plugin, s.setup.history = findPlugin(k.plugin), findHistory(k.history)
				s.setup.route, s.setup.front = findRoute(k.route), findFront(k.front)
				if s.setup.route.isDoor() {
					s.setup.history = findHistory("on") // events have positions, as ids of streams need
				}
				s.setup.deflate = findDeflate(k.deflate)
				err := s.play(ctx)
				if ctx.Err() != nil {
					res.Interrupted = true // completed rows count
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

// plays reports whether a system takes part in a session. Slow systems are measured once: their cost is a hundred
// times the spread of the repetitions.
func (p *plan) plays(rep int, k sessionKey, sys *system) bool {
	switch {
	case rep > 0 && sys.slow:
		return false
	case k.clients == 1, k.groups > 0, k.rates:
		return sys.redis && (k.clients == 1 || !sys.slow)
	case k.beside:
		return sys.name == "edgerelay" || sys.name == "edgerelay-redis"
	case k.history != "", k.route != "", k.front != "":
		return sys.name == "edgerelay" || sys.name == "edgerelay-redis"
	case k.deflate != "":
		return sys.name == "edgerelay"
	case k.plugin != "":
		return sys.name == "edgerelay-redis"
	case k.storm:
		return sys.name == "bare" || sys.name == "edgerelay-redis"
	}
	return true
}

// try starts and stops a system, so that a missing program is reported early.
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

// account adds a row with the reason to a session that ended early.
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

// tell reports a session on standard error when it ends.
func (p *plan) tell(rep int, began time.Time, s *session, err error) {
	fmt.Fprintf(os.Stderr, "[%6.1f s] %d/%d %s, %v\n", time.Since(began).Seconds(), rep+1, p.reps, s.sys.name,
		s.sessionKey)
	for _, r := range s.rows {
		fmt.Fprintln(os.Stderr, "          ", r.line())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "           FAULT:", err)
	}
}

// line is the short form of a row.
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
		return fmt.Sprintf("%s: %.3f ms CPU each, %.0f/s, %.1f KiB each, %.1f after a collection; other processes "+
			"used %.0f %%",
			head, r.ConnectCPU, r.ConnectPerSec, r.IdleKiB, r.IdleAfterGC, r.Others*100)
	case r.Kind == kindStorm:
		return fmt.Sprintf("%s: %d clients of %d users in %.2f s, %d requests to the API, deliveries p50 %.1f p99 "+
			"%.1f ms (before: %.1f)",
			head, r.Arrived, r.Users, r.Seconds, r.Questions, r.P50, r.P99, r.CalmP99)
	case r.Kind == kindResume:
		return fmt.Sprintf("%s: %d events each in %.1f s, CPU %.2f s live, %.2f s to return, %.2f s to return and resume: "+
			"%.2f × live; another group p99 %.1f ms calm, %.1f return, %.1f resume; other processes used %.0f %%", head, r.Events,
			r.Seconds, r.LiveCPU, r.ReturnCPU, r.CPU, (r.CPU-r.ReturnCPU)/r.LiveCPU, r.CalmP99, r.ReturnP99, r.P99, r.Others*100)
	case r.Kind == kindPlugin:
		return fmt.Sprintf("%s %s: %.2f µs CPU an event, p50 %.2f p99 %.2f ms, longest wait %.1f ms; other processes used "+
			"%.0f %%", head, r.Plugin, r.CPUPerEvent, r.P50, r.P99, r.Longest, r.Others*100)
	case r.Kind == kindSwitch:
		return fmt.Sprintf("%s: %d clients to %d groups in %.2f s, %d commands to Redis, %d requests to the API", head,
			r.Clients, r.Groups, r.Seconds, r.RedisCommands, r.Questions)
	}
	if r.Groups > 0 {
		head += fmt.Sprintf(", %d groups", r.Groups)
	}
	if r.Kind == kindRate {
		head += fmt.Sprintf(" at %.0f/s", r.Rate)
	}
	return fmt.Sprintf("%s: %d events, %.0f/s, %.2f CPU-s/M, p50 %.1f p99 %.1f ms, Redis %.0f in %.0f out; other "+
		"processes used %.0f %%",
		head, r.Events, r.PerSecond, r.CPUPerM, r.P50, r.P99, r.RedisIn, r.RedisOut, r.Others*100)
}
