//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"
)

const (
	// stormed is the number of clients that are connected before a storm and receive events during it.
	stormed = 1000
	// stormUsers is the number of users that the clients of a storm belong to.
	stormUsers = 100
	// stormParallel is the number of clients that connect at any time.
	stormParallel = 1000
	// stormNice is the nice value of the new clients' processes. On a real site they have machines of their own; here
	// a thousand dialing threads would take the cores from the server and the measured clients.
	stormNice = 15
	// stormGroups is the number of groups in a storm of subscriptions.
	stormGroups = 50
)

// stormRows measures a storm of connects and, where the server has groups in Redis, a storm of subscriptions.
func (p *plan) stormRows(s *session) []measurement {
	connects := s.newRow(kindStorm)
	connects.Size, connects.Rate, connects.Arrived, connects.Users = 300, 10, p.storm, stormUsers
	ms := []measurement{{connects, (*session).stormOfConnects}}
	if s.sys.redis {
		changes := s.newRow(kindSwitch)
		changes.Clients, changes.Groups = s.clients+p.storm, stormGroups
		ms = append(ms, measurement{changes, (*session).stormOfChanges})
	}
	return ms
}

// stormOfConnects connects many clients while others receive events, and measures the latency of the latter.
func (s *session) stormOfConnects(r *row) error {
	calm := *r
	calm.Events = int(r.Rate * s.plan.seconds)
	s.src.resize(r.Size)
	if err := s.paced(&calm); err != nil {
		return err
	}
	r.CalmP99 = calm.P99
	files, err := maxFiles()
	if err != nil {
		return err
	}
	if s.more, err = launchNice(r.Arrived, files-spareFiles, stormNice); err != nil {
		return err
	}
	s.more.source = 101
	asked := s.api.asked.Load()
	use, err := s.meter()
	if err != nil {
		return err
	}
	if err := s.fleet.begin(s.src.last()+1<<30, 1); err != nil { // the end is not known yet
		return err
	}
	began := time.Now()
	in := make(chan error, 1)
	go func() { in <- s.more.connect(s.run.target, stormParallel) }()
	gap := time.Duration(float64(time.Second) / r.Rate)
	for at, arrived := began, false; !arrived; at = at.Add(gap) {
		select {
		case err := <-in:
			if err != nil {
				return fmt.Errorf("the storm: %w", err)
			}
			arrived = true
		case <-time.After(time.Until(at)):
			if err := s.run.emit.one(s.src); err != nil {
				return err
			}
			r.Events++
		}
	}
	took := time.Since(began)
	if err := use.read(r); err != nil {
		return err
	}
	if err := s.fleet.cut(s.src.last()); err != nil {
		return err
	}
	t, err := s.collect(r)
	if err != nil {
		return err
	}
	r.Seconds = took.Seconds()
	s.finish(r, &t.Latency)
	r.CPUPerM = 0 // includes the connects
	r.ConnectCPU = r.CPU * 1000 / float64(r.Arrived)
	r.ConnectPerSec = float64(r.Arrived) / r.Seconds
	r.Questions = s.api.asked.Load() - asked
	return nil
}

// stormOfChanges moves every client from its group to one of a few others at once and counts the commands to Redis.
func (s *session) stormOfChanges(r *row) error {
	asked := s.api.asked.Load()
	before, own, err := s.run.redis.commands()
	if err != nil {
		return err
	}
	t := s.run.target
	t.Spread = stormGroups
	began := time.Now()
	for _, f := range []*fleet{s.fleet, s.more} {
		if err := f.change(t); err != nil {
			return err
		}
	}
	r.Seconds = time.Since(began).Seconds()
	after, _, err := s.run.redis.commands()
	if err != nil {
		return err
	}
	r.RedisCommands = after - before - own
	r.Questions = s.api.asked.Load() - asked
	return nil
}

// commands returns the number of commands that Redis has executed, and how many of them a reading adds.
func (r *redisServer) commands() (total, reading int64, err error) {
	reply, err := r.ctl.do("INFO", "commandstats")
	if err != nil {
		return 0, 0, fmt.Errorf("INFO commandstats: %w", err)
	}
	for line := range strings.Lines(reply.text) {
		_, rest, ok := strings.Cut(line, ":calls=")
		var n int64
		if _, err := fmt.Sscan(strings.SplitN(rest, ",", 2)[0], &n); ok && err == nil {
			total += n
		}
	}
	return total, 1, nil
}

// cacheSeconds is the default lifetime of a lookup of auth awx.
const cacheSeconds = 5

// stormVerdict checks the bounds of a storm: one request per user and cache lifetime, and commands in proportion to
// the groups joined and left, not to the clients.
func (res *results) stormVerdict() (errs []error) {
	for _, r := range res.Rows {
		if r.failed() || r.System == "bare" {
			continue
		}
		switch r.Kind {
		case kindStorm:
			if most := int64(r.Users) * (1 + int64(r.Seconds/cacheSeconds)); r.Questions > most {
				errs = append(errs, fmt.Errorf("%d clients of %d users caused %d requests to the API in %.1f s, more "+
					"than %d", r.Arrived, r.Users, r.Questions, r.Seconds, most))
			}
		case kindSwitch:
			if most := int64(10 * r.Groups); r.RedisCommands > most {
				errs = append(errs, fmt.Errorf("%d clients that changed to %d groups caused %d commands to Redis, "+
					"more than %d", r.Clients, r.Groups, r.RedisCommands, most))
			}
		}
	}
	return errs
}
