//go:build linux

package main

import (
	"fmt"
	"time"
)

// plan is the measurements of a mode.
type plan struct {
	mode        string
	systems     []string
	clients     []int // of the fan-out sessions
	sizes       []int
	reps        int
	seconds     float64 // length of a paced row
	work        float64 // scales the length of burst rows
	paced       bool
	fifty       bool // bursts of 50 events, of the first size
	idleAt      int  // connections of the idle sessions, 0: none
	idleTLS     bool
	drain       bool
	beside      int           // clients of the sessions with and without slow readers, 0: none
	storm       int           // clients of a storm, 0: none
	groups      []int         // numbers of groups that events are spread over, a session for each
	rates       []float64     // events a second, a row each
	history     bool          // the cost of a history, off and on
	idleHistory int           // connections of its idle sessions
	resume      int           // clients of a resume, 0: none
	routes      bool          // the cost of routes beside AWX's protocol
	doors       bool          // the cost of event streams beside WebSockets
	idleRoutes  int           // connections of the idle sessions of routes and doors
	fronts      bool          // the cost of proxies and listener wrappers in front of a site
	idleFronts  int           // connections of their idle sessions
	deflate     bool          // the cost of compression, and the bytes on the wire
	idleDeflate int           // connections of its idle sessions
	plugins     bool          // the cost of plugins, and the longest wait beside them
	env         []string      // of edgerelay's process
	cpus        int           // that edgerelay's process is bound to, 0: all
	settle      time.Duration // how long memory may keep falling after a collection
	// profiles is a directory for CPU profiles of edgerelay's rows, "" for none.
	profiles string
	bound    float64 // ci: edgerelay's burst CPU per delivery against the bare loop's
}

func plans() map[string]*plan {
	all := []string{"bare", "edgerelay", "edgerelay-redis", "nchan", "daphne"}
	ours := all[:3]
	return map[string]*plan{
		"full": {
			systems: all, clients: []int{100, 1000, 5000, 19000}, sizes: []int{300, 2048}, reps: 2,
			seconds: 4, work: 0.6, paced: true, fifty: true, idleAt: 10_000, idleTLS: true, drain: true, beside: 5000,
			storm: 10_000, plugins: true, history: true, idleHistory: 10_000, resume: 10_000,
			routes: true, doors: true, idleRoutes: 10_000,
			deflate: true, idleDeflate: 10_000, settle: 12 * time.Second,
		},
		"short": {
			systems: ours, clients: []int{1000, 5000}, sizes: []int{300, 2048}, reps: 1,
			seconds: 3, work: 0.5, paced: true, fifty: true, idleAt: 10_000, settle: 10 * time.Second,
		},
		"slow":    {systems: ours[1:], reps: 3, seconds: 8, beside: 5000},
		"plugins": {systems: ours[2:], reps: 3, seconds: 4, work: 0.5, plugins: true},
		"history": {
			systems: ours[1:], reps: 2, seconds: 4, work: 0.5, history: true, idleHistory: 10_000, resume: 10_000,
			settle: 12 * time.Second,
		},
		"routes": {
			systems: ours[1:], reps: 2, seconds: 4, work: 0.5, routes: true, idleRoutes: 10_000, settle: 12 * time.Second,
		},
		"sse": {
			systems: ours[1:2], reps: 2, seconds: 4, work: 0.5, doors: true, idleRoutes: 10_000, settle: 12 * time.Second,
		},
		"deflate": {
			systems: ours[1:2], reps: 2, seconds: 4, work: 0.3, deflate: true, idleDeflate: 10_000, settle: 12 * time.Second,
		},
		"fronts": {
			systems: ours[1:2], reps: 2, seconds: 4, work: 0.5, fronts: true, idleFronts: 5_000, settle: 12 * time.Second,
		},
		"storm": {systems: ours, reps: 1, seconds: 5, storm: 10_000},
		"ci": {
			systems: ours, clients: []int{1000}, sizes: []int{300}, reps: 3,
			work: 0.4, bound: 0.5,
		},
	}
}

// Limits of one burst. A client's queue stays below a relay's default limit of 1 MiB.
const (
	burstEvents = 1000
	burstBytes  = 512 << 10
)

// measurement is one planned row.
type measurement struct {
	row     row
	measure func(*session, *row) error
}

// measurements lists the rows of a session after the ramp.
func (p *plan) measurements(s *session) []measurement {
	var ms []measurement
	if p.drainSession(s) {
		r := s.newRow(kindDrain)
		r.Size, r.Events = 1024, 50_000
		if s.sys.slow {
			r.Events = 500
		}
		return []measurement{{r, (*session).drain}}
	}
	switch {
	case p.idleSession(s):
		return nil
	case s.beside:
		return []measurement{{p.besideRow(s), (*session).besideSlow}}
	case s.storm:
		return p.stormRows(s)
	case s.history != "":
		return p.historyRows(s)
	case s.route != "":
		return p.routeRows(s)
	case s.plugin != "":
		return p.pluginRows(s)
	case s.front != "":
		return p.frontRows(s)
	case s.deflate != "":
		return p.deflateRows(s)
	case s.groups > 0:
		return p.spreadRows(s)
	case s.rates:
		return p.rateRows(s)
	}
	for i, size := range p.sizes {
		ms = append(ms, measurement{p.burstRow(s, size), (*session).burst})
		if p.fifty && i == 0 {
			r := p.burstRow(s, size)
			r.Kind, r.Burst = kindBurst50, min(r.Events, 50)
			ms = append(ms, measurement{r, (*session).burst})
		}
		if p.paced {
			ms = append(ms, measurement{p.pacedRow(s, size), (*session).pacedIfAble})
		}
	}
	return ms
}

func (p *plan) drainSession(s *session) bool { return s.sessionKey == sessionKey{clients: 1} }
func (p *plan) idleSession(s *session) bool {
	if s.history != "" {
		return s.sessionKey == sessionKey{clients: p.idleHistory, history: s.history}
	}
	if s.route != "" {
		return s.sessionKey == sessionKey{clients: p.idleRoutes, route: s.route}
	}
	if s.front != "" {
		return s.clients == p.idleFronts
	}
	if s.deflate != "" {
		return s.clients == p.idleDeflate
	}
	return s.sessionKey == sessionKey{clients: p.idleAt, tls: s.tls}
}

func (p *plan) burstRow(s *session, size int) row {
	r := s.newRow(kindBurst)
	r.Size = size
	r.Events = max(3, int(float64(s.sys.burstDeliveries)*p.work)/s.clients)
	r.Burst = min(r.Events, burstEvents, burstBytes/size)
	return r
}

func (p *plan) pacedRow(s *session, size int) row {
	r := s.newRow(kindPaced)
	r.Size, r.Rate = size, paceFor(s.clients)
	r.Events = max(5, int(r.Rate*p.seconds))
	return r
}

// paceFor is the rate of the paced rows: 10 events per second, or 2 where the bare loop itself could not keep up.
func paceFor(clients int) float64 {
	if clients > 5000 {
		return 2
	}
	return 10
}

// headroom is the factor by which a system's bursts must exceed the pace for a paced row to make sense.
const headroom = 1.2

// pacedIfAble measures a paced row unless this session's bursts showed that the system cannot keep the pace.
func (s *session) pacedIfAble(r *row) error {
	want := r.Rate * float64(s.clients)
	if top := s.ceiling[r.Size]; top < want*headroom {
		r.Skip = fmt.Sprintf("not sustainable: %.0f/s of %.0f/s in bursts", top, want)
		return nil
	}
	return s.paced(r)
}
