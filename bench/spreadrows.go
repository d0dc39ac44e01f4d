//go:build linux

package main

import (
	"fmt"
	"time"
)

const (
	// spreadClients is the number of clients in sessions with many groups.
	spreadClients = 1000
	// spreadDeliveries is the approximate number of deliveries of a row.
	spreadDeliveries = 200_000
	// rateClients is the number of clients in a series of paces.
	rateClients = 10
)

// spreadRows measures events that go to many groups in turn.
func (p *plan) spreadRows(s *session) []measurement {
	r := s.newRow(kindBurst)
	r.Size = p.sizes[0]
	perEvent := max(1, s.clients/s.groups)
	// Whole rounds over the groups, so that every client has a last event.
	step := min(s.groups, s.clients)
	r.Events = max(2*step, min(20_000, int(spreadDeliveries*p.work)/perEvent)/step*step)
	r.Burst = min(r.Events, 1000)
	for r.Burst%step != 0 {
		r.Burst++
	}
	return []measurement{{r, (*session).spreadBurst}}
}

func (s *session) spreadBurst(r *row) error {
	if s.groups > 1 {
		sender, err := newSpreadSender(s.run.redis.addr, s.groups)
		if err != nil {
			return err
		}
		defer sender.close()
		own := s.run.emit
		s.run.emit = sender
		defer func() { s.run.emit = own }()
	}
	return s.burst(r)
}

// rateRows measures the plan's paces, one after another.
func (p *plan) rateRows(s *session) (ms []measurement) {
	for _, rate := range p.rates {
		r := s.newRow(kindRate)
		r.Size, r.Rate = p.sizes[0], rate
		r.Events = max(5, int(rate*p.seconds))
		ms = append(ms, measurement{r, (*session).atRate})
	}
	return ms
}

// scriptRate is the highest rate in events per second at which events are sent as channels_redis sends them; a core's
// Redis runs few more of its scripts. Faster events go into the node's key by ZADD, the script's effective command.
const scriptRate = 10_000

// rateTick is the interval at which due events are sent together, for rates above one event per tick.
const rateTick = 5 * time.Millisecond

// atRate publishes at a pace that one round trip per event could not keep.
func (s *session) atRate(r *row) error {
	if r.Rate*rateTick.Seconds() <= 1 {
		return s.paced(r)
	}
	s.src.resize(r.Size)
	if err := s.fleet.begin(s.src.last()+int64(r.Events), 16); err != nil {
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
	began := time.Now()
	for sent := 0; sent < r.Events; {
		due := min(r.Events, int(time.Since(began).Seconds()*r.Rate)+1)
		if due > sent {
			if r.Rate > scriptRate {
				err = s.run.redis.fillKey(benchGroup, s.src, due-sent)
			} else {
				err = s.run.emit.burst(s.src, due-sent)
			}
			if err != nil {
				return err
			}
			sent = due
		}
		time.Sleep(rateTick - time.Since(began)%rateTick)
	}
	took := time.Since(began)
	t, err := s.collect(r)
	if err != nil {
		return err
	}
	if err := use.read(r); err != nil {
		return err
	}
	s.finish(r, &t.Latency)
	if err := s.readRedis(r, before, reading); err != nil {
		return err
	}
	if reached := float64(r.Events) / took.Seconds(); reached < 0.9*r.Rate {
		return fmt.Errorf("%w: %.0f of %.0f a second reached Redis", errPace, reached, r.Rate)
	}
	return nil
}
