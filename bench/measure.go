//go:build linux

package main

import (
	"fmt"
	"syscall"
	"time"
)

// stall is the silence after which a measurement is aborted.
const stall = 15 * time.Second

// collect waits for the fleet and stores its counts in r. A client that missed or repeated an event, or whose
// connection ended, makes the row a fault.
func (s *session) collect(r *row) (*tally, error) {
	t, err := s.fleet.wait(stall)
	if err != nil {
		return nil, err
	}
	r.Deliveries += t.Messages
	r.plain += t.Bytes
	r.wire += t.Wire
	r.Wire = ratio(float64(r.wire), float64(r.plain))
	r.Lost += t.Lost
	r.Doubled += t.Doubled
	r.Closed, r.Behind = t.Closed, t.Behind
	if t.Lost+t.Doubled+t.Closed+t.Behind > 0 {
		return t, fmt.Errorf("%d lost, %d doubled, %d clients closed, %d clients without the last event %s", t.Lost,
			t.Doubled, t.Closed, t.Behind, t.Error)
	}
	return t, nil
}

// burst publishes r.Events at full speed, r.Burst at a time. A burst begins when the last client has received all of
// the previous one. Time runs from the first publish to the last delivery of each burst.
func (s *session) burst(r *row) error {
	s.src.resize(r.Size)
	use, err := s.meter()
	if err != nil {
		return err
	}
	var spent time.Duration
	var latency histogram
	for left := r.Events; left > 0; left -= r.Burst {
		n := min(left, r.Burst)
		if err := s.fleet.begin(s.src.last()+int64(n), s.sample()); err != nil {
			return err
		}
		began := time.Now()
		if err := s.run.emit.burst(s.src, n); err != nil {
			return err
		}
		t, err := s.collect(r)
		if err != nil {
			return err
		}
		spent += time.UnixMicro(t.Last).Sub(began.Truncate(time.Microsecond))
		latency.add(&t.Latency)
	}
	if err := use.read(r); err != nil {
		return err
	}
	r.Seconds = spent.Seconds()
	s.finish(r, &latency)
	s.ceiling[r.Size] = max(s.ceiling[r.Size], r.PerSecond)
	return nil
}

// sample is the number of deliveries in a burst per recorded latency. When a client receives only some of the events,
// each latency is recorded.
func (s *session) sample() int64 {
	if s.groups > 1 {
		return 1
	}
	return 16
}

func (s *session) finish(r *row, latency *histogram) {
	r.PerSecond = float64(r.Deliveries) / r.Seconds
	r.CPUPerM = r.CPU / float64(r.Deliveries) * 1e6
	r.P50 = latency.quantile(0.50).Seconds() * 1000
	r.P99 = latency.quantile(0.99).Seconds() * 1000
	if r.Kind == kindPlugin {
		r.Longest = latency.quantile(1).Seconds() * 1000
	}
}

// paced publishes r.Events one at a time at r.Rate per second on a fixed timetable: one late event does not delay the
// following ones.
func (s *session) paced(r *row) error {
	s.src.resize(r.Size)
	if err := s.fleet.begin(s.src.last()+int64(r.Events), 1); err != nil {
		return err
	}
	before, reading, err := s.redisMark()
	if err != nil {
		return err
	}
	use, err := s.meter()
	if err != nil {
		return err
	}
	gap := time.Duration(float64(time.Second) / r.Rate)
	began := time.Now()
	for i := range r.Events {
		time.Sleep(time.Until(began.Add(time.Duration(i) * gap)))
		if err := s.run.emit.one(s.src); err != nil {
			return err
		}
	}
	t, err := s.collect(r)
	if err != nil {
		return err
	}
	if err := use.read(r); err != nil {
		return err
	}
	s.finish(r, &t.Latency)
	return s.readRedis(r, before, reading)
}

// readRedis stores the traffic per event since before in r, without the traffic of the reading itself.
func (s *session) readRedis(r *row, before, reading traffic) error {
	if s.run.redis == nil {
		return nil
	}
	after, err := s.run.redis.traffic()
	if err != nil {
		return err
	}
	d := after.minus(before).minus(reading)
	r.RedisIn, r.RedisOut = float64(d.in)/float64(r.Events), float64(d.out)/float64(r.Events)
	return nil
}

// redisMark reads Redis's traffic counters and the traffic that one such reading adds.
func (s *session) redisMark() (now, reading traffic, err error) {
	if s.run.redis == nil {
		return now, reading, nil
	}
	first, err := s.run.redis.traffic()
	if err != nil {
		return now, reading, err
	}
	if now, err = s.run.redis.traffic(); err != nil {
		return now, reading, err
	}
	return now, now.minus(first), nil
}

// drain fills the channel key of the node while its processes are stopped, continues them and measures how fast the
// one client receives all events.
func (s *session) drain(r *row) error {
	s.src.resize(r.Size)
	if err := s.fleet.begin(s.src.last()+int64(r.Events), 16); err != nil {
		return err
	}
	if err := hold(s.run.held, syscall.SIGSTOP); err != nil {
		return err
	}
	fillErr := s.run.redis.fillKey(benchGroup, s.src, r.Events)
	use, err := s.meter()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := hold(s.run.held, syscall.SIGCONT); err != nil {
		return err
	}
	if fillErr != nil {
		return fillErr
	}
	t, err := s.collect(r)
	if err != nil {
		return err
	}
	if err := use.read(r); err != nil {
		return err
	}
	r.Seconds = time.UnixMicro(t.Last).Sub(began.Truncate(time.Microsecond)).Seconds()
	s.finish(r, &t.Latency)
	return nil
}
