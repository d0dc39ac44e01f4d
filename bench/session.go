//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// row is one measurement, or the reason why there is none. Fields that a kind does not measure stay zero.
type row struct {
	System  string  `json:"system"`
	Kind    kind    `json:"kind"`
	Clients int     `json:"clients"`
	Size    int     `json:"size,omitempty"`
	TLS     bool    `json:"tls,omitempty"`
	Groups  int     `json:"groups,omitempty"`       // that events are spread over
	Slow    int     `json:"slow_readers,omitempty"` // among the clients
	Session string  `json:"session,omitempty"`      // with settings or clients of its own, see sessionKey.special
	Rate    float64 `json:"rate,omitempty"`         // events a second, paced rows
	Events  int     `json:"events,omitempty"`       // in all
	Burst   int     `json:"burst,omitempty"`        // events in one burst

	Deliveries int64   `json:"deliveries,omitempty"`
	Seconds    float64 `json:"seconds,omitempty"`
	PerSecond  float64 `json:"deliveries_per_second,omitempty"`
	CPU        float64 `json:"cpu_seconds,omitempty"` // of all server processes
	CPUPerM    float64 `json:"cpu_seconds_per_million_deliveries,omitempty"`
	P50        float64 `json:"p50_ms,omitempty"`
	P99        float64 `json:"p99_ms,omitempty"`
	RedisIn    float64 `json:"redis_in_bytes_per_event,omitempty"`
	RedisOut   float64 `json:"redis_out_bytes_per_event,omitempty"`
	RedisCPU   float64 `json:"redis_cpu_seconds,omitempty"` // part of CPU

	History     string  `json:"history,omitempty"`
	Route       string  `json:"route,omitempty"`
	Front       string  `json:"front,omitempty"`
	Deflate     string  `json:"deflate,omitempty"`
	Wire        float64 `json:"bytes_on_the_wire,omitempty"` // of the frames, for each byte of the events
	plain, wire int64
	Plugin      string  `json:"plugin,omitempty"`
	CPUPerEvent float64 `json:"cpu_microseconds_per_event,omitempty"` // of Caddy
	Longest     float64 `json:"longest_wait_ms,omitempty"`            // of an event, paced

	SlowEnds int64   `json:"slow_readers_closed,omitempty"`
	QueueKiB float64 `json:"kib_per_slow_reader,omitempty"` // growth of the resident memory while slow readers do not read

	Arrived       int     `json:"arrived,omitempty"` // clients of a storm
	Users         int     `json:"users,omitempty"`
	Questions     int64   `json:"questions_to_the_api,omitempty"`
	CalmP99       float64 `json:"calm_p99_ms,omitempty"` // before the storm
	RedisCommands int64   `json:"redis_commands,omitempty"`

	LiveCPU   float64 `json:"live_cpu_seconds,omitempty"`   // of the events of a resume, to connected clients
	ReturnCPU float64 `json:"return_cpu_seconds,omitempty"` // of all clients, without events
	ReturnP99 float64 `json:"return_p99_ms,omitempty"`      // of another group meanwhile

	ConnectCPU    float64 `json:"connect_cpu_ms,omitempty"`
	ConnectPerSec float64 `json:"connects_per_second,omitempty"`
	IdleKiB       float64 `json:"idle_kib_per_connection,omitempty"`
	IdleAfterGC   float64 `json:"idle_kib_per_connection_after_gc,omitempty"`

	Lost    int64 `json:"lost"`
	Doubled int64 `json:"doubled"`
	Closed  int64 `json:"closed"`
	Behind  int64 `json:"behind"` // clients without the last event
	// Others is the share of all cores' time used by neither servers nor this program: the noise.
	Others float64 `json:"other_cpu_share"`
	Skip   string  `json:"skipped,omitempty"` // reason for a missing measurement
	Fault  string  `json:"fault,omitempty"`   // reason for a row that does not count
}

type kind string

const (
	kindConnect kind = "connect"
	kindBurst   kind = "burst"
	kindBurst50 kind = "bursts of 50"
	kindPaced   kind = "paced"
	kindDrain   kind = "drain"
	kindBeside  kind = "beside slow readers"
	kindStorm   kind = "storm of connects"
	kindSwitch  kind = "storm of subscriptions"
	kindRate    kind = "rate"
	kindPlugin  kind = "plugin"
	kindResume  kind = "resume"
)

// failed reports whether the system under test broke its promise in this row.
func (r *row) failed() bool { return r.Fault != "" }

// session is one start of one system with one number of clients.
type session struct {
	sys *system
	sessionKey
	plan  *plan
	setup setup
	run   *running
	fleet *fleet
	more  *fleet // of a storm, nil without
	src   *source
	rows  []row
	api   *fakeAPI // nil without
	// ceiling is the deliveries per second of the bursts by size; it decides which paces make sense.
	ceiling map[int]float64
}

// errPace reports that emitter and Redis did not keep the pace, so that there is no result for it.
var errPace = errors.New("the pace was not held")

var errFiles = errors.New("open files in one process")

// play starts the system, connects, takes the plan's measurements and stops everything. An error means that the rest
// of the session was not measured; rows holds the measured part.
func (s *session) play(ctx context.Context) error {
	s.ceiling = make(map[int]float64)
	s.src = newSource()
	files, err := maxFiles()
	if err != nil {
		return err
	}
	if n := int(float64(s.clients)*s.sys.filesPerClient) + spareFiles; n > files {
		return fmt.Errorf("%d clients need about %d %w, the limit here is %d (ulimit -Hn)", s.clients, n, errFiles,
			files)
	}
	if s.setup.dir, err = os.MkdirTemp("", "edgerelay-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(s.setup.dir)
	if s.setup.cert, err = newCertificate(s.setup.dir); err != nil {
		return err
	}
	s.setup.clients, s.setup.tls = s.clients, s.tls
	if s.storm {
		if s.api, err = startFakeAPI(); err != nil {
			return err
		}
		defer s.api.close()
		s.setup.auth = "awx " + s.api.url()
	}
	if s.run, err = s.sys.start(ctx, s.setup); err != nil {
		return err
	}
	defer s.run.stop()
	s.run.target.Spread, s.run.target.Slow = s.groups, s.slow
	s.setup.deflate.prepare(s.run, s.src)
	if s.storm {
		s.run.target.Users = stormUsers
	}
	if s.fleet, err = launch(s.clients, files-spareFiles); err != nil {
		return err
	}
	defer s.fleet.stop()
	defer func() {
		if s.more != nil {
			s.more.stop()
		}
	}()
	if err := s.ramp(); err != nil {
		return err
	}
	for _, m := range s.plan.measurements(s) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r := m.row
		if r.Skip == "" {
			profiled := s.profile(&r)
			if err := m.measure(s, &r); err != nil {
				r.Fault = err.Error() + s.run.lastWords(s.setup.dir)
				if errors.Is(err, errPace) { // nothing was lost
					r.Fault, r.Skip = "", err.Error()
				}
			}
			if err := profiled(); err != nil {
				return err
			}
		}
		s.rows = append(s.rows, r)
		if r.failed() {
			return fmt.Errorf("%s: %s", r.Kind, r.Fault)
		}
	}
	return nil
}

// newRow begins a row of this session.
func (s *session) newRow(k kind) row {
	return row{
		System: s.sys.name, Kind: k, Clients: s.clients, TLS: s.tls, Groups: s.groups, Slow: s.slow, History: s.history,
		Route: s.route, Front: s.front, Deflate: s.deflate, Session: s.special(),
	}
}

// ramp connects all clients and records the cost.
func (s *session) ramp() error {
	r := s.newRow(kindConnect)
	before, err := rssOf(s.run.pids())
	if err != nil {
		return err
	}
	use, err := s.meter()
	if err != nil {
		return err
	}
	profiled := s.profile(&r)
	if err := s.fleet.connect(s.run.target, 32); err != nil {
		r.Fault = err.Error() + s.run.lastWords(s.setup.dir)
		s.rows = append(s.rows, r)
		return errors.New(r.Fault)
	}
	if err := s.allSubscribed(); err != nil {
		return err
	}
	if err := use.read(&r); err != nil {
		return err
	}
	if err := profiled(); err != nil {
		return err
	}
	n := float64(s.clients)
	r.ConnectCPU = r.CPU * 1000 / n
	r.ConnectPerSec = n / r.Seconds
	after, err := rssOf(s.run.pids())
	if err != nil {
		return err
	}
	r.IdleKiB = float64(after-before) / 1024 / n
	if s.plan.idleSession(s) && s.run.gc != nil {
		if err := s.profileMemory("ramped"); err != nil {
			return err
		}
		least, err := s.settle()
		if err != nil {
			return err
		}
		if err := s.profileMemory("settled"); err != nil {
			return err
		}
		r.IdleAfterGC = float64(least-before) / 1024 / n
	}
	s.rows = append(s.rows, r)
	return nil
}

// settle collects garbage and returns the memory once it stops falling. Go returns pages to the system gradually,
// with pauses of seconds.
func (s *session) settle() (int64, error) {
	for range 2 { // the first may complete a running cycle
		if err := s.run.gc(); err != nil {
			return 0, err
		}
	}
	least, still := int64(1<<62), 0
	for deadline := time.Now().Add(s.plan.settle); still < 14 && time.Now().Before(deadline); {
		now, err := rssOf(s.run.pids())
		if err != nil {
			return 0, err
		}
		if still++; now < least-least/200 {
			still = 0
		}
		least = min(least, now)
		time.Sleep(250 * time.Millisecond)
	}
	return least, nil
}

// allSubscribed waits until the server counts every client, for servers that report a number.
func (s *session) allSubscribed() error {
	if s.run.subscribed == nil {
		return nil
	}
	if err := s.run.emit.one(s.src); err != nil { // creates the channel; this event is not counted
		return fmt.Errorf("first event: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		n, err := s.run.subscribed()
		if err != nil {
			return err
		}
		if n == s.clients {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server knows %d of %d clients after 30 s", n, s.clients)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// meter is a reading of the clocks.
type meter struct {
	s             *session
	at            time.Time
	cpu, own, all time.Duration
	redis         time.Duration
}

func (s *session) meter() (*meter, error) {
	m := &meter{s: s}
	var err error
	if m.cpu, err = cpuOf(s.run.pids()); err != nil {
		return nil, err
	}
	if m.own, err = cpuOf(s.ownPIDs()); err != nil {
		return nil, err
	}
	if m.redis, err = cpuOf(s.redisPIDs()); err != nil {
		return nil, err
	}
	m.all, m.at = machineBusy(), time.Now()
	return m, nil
}

func (s *session) redisPIDs() []int {
	if s.run.redis == nil {
		return nil
	}
	return []int{s.run.redis.pid()}
}

func (s *session) ownPIDs() []int {
	pids := []int{os.Getpid()}
	for _, p := range s.fleet.procs {
		pids = append(pids, p.pid())
	}
	if s.more != nil {
		for _, p := range s.more.procs {
			pids = append(pids, p.pid())
		}
	}
	return pids
}

// read adds the time and CPU since the reading to r.
func (m *meter) read(r *row) error {
	cpu, err := cpuOf(m.s.run.pids())
	if err != nil {
		return err
	}
	own, err := cpuOf(m.s.ownPIDs())
	if err != nil {
		return err
	}
	redis, err := cpuOf(m.s.redisPIDs())
	if err != nil {
		return err
	}
	r.RedisCPU += (redis - m.redis).Seconds()
	wall := time.Since(m.at)
	r.CPU += (cpu - m.cpu).Seconds()
	r.Seconds += wall.Seconds()
	others := (machineBusy() - m.all) - (cpu - m.cpu) - (own - m.own)
	if wall > time.Second/2 { // the machine's time is known in ticks only
		r.Others = max(0, ratio(others.Seconds(), wall.Seconds()*float64(cores())))
	}
	return nil
}

func hold(ps []*process, sig syscall.Signal) error {
	for _, p := range ps {
		if err := p.cmd.Process.Signal(sig); err != nil {
			return fmt.Errorf("signal %d: %w", p.pid(), err)
		}
	}
	return nil
}
