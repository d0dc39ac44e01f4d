//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// pluginClients is small, so that the plugin's share of an event's cost shows beside the fan-out's.
	pluginClients = 10
	// pluginRate is the rate at which waits are measured, in events per second.
	pluginRate = 100
	// besideGroup is the group of the plugin in [pluginCase].beside.
	besideGroup = "jobs-summary"
	// greedyRate is the rate of events for that plugin, in events per second.
	greedyRate = 50
)

// pluginCase is a plugin of a session.
type pluginCase struct {
	name, title string
	module      string // path below the repository's root, "" for no plugin
	config      string
	beside      bool // the plugin has another group than the measured one
}

// pluginCases are the plugins in turn; the first is the session to compare with.
var pluginCases = []pluginCase{
	{name: "none", title: "none"},
	{name: "pass", title: "passes every event", module: "plugins/testdata/pass.wasm"},
	{
		name: "redact", title: "redacts words, in C", module: "examples/plugins/redact-c/plugin.wasm",
		config: `{"words": ["password"]}`,
	},
	{
		name: "greedy beside", title: fmt.Sprintf("in another group: %d events/s of 100,000 cache misses each", greedyRate),
		module: "bench/testdata/chase.wasm", beside: true,
	},
	{
		name: "endless beside", title: fmt.Sprintf("in another group: %d events/s of an endless loop each", greedyRate),
		module: "plugins/testdata/hostile/loop.wasm", beside: true,
	},
}

// findPlugin returns a case by name, or nil.
func findPlugin(name string) *pluginCase {
	for i := range pluginCases {
		if pluginCases[i].name == name {
			return &pluginCases[i]
		}
	}
	return nil
}

// block is the plugin's part of the Caddyfile.
func (c *pluginCase) block() string {
	if c == nil || c.module == "" {
		return ""
	}
	group := benchGroup
	if c.beside {
		group = besideGroup
	}
	lines := []string{
		fmt.Sprintf("plugin bench %s {", filepath.Join(moduleRoot(), c.module)), "\tgroups " + group,
	}
	if c.config != "" {
		lines = append(lines, "\tconfig `"+c.config+"`")
	}
	return strings.Join(append(lines, "}"), "\n\t\t")
}

// pluginRows measures the CPU of an event in bursts, and waits at a pace.
func (p *plan) pluginRows(s *session) []measurement {
	r := s.newRow(kindPlugin)
	r.Size, r.Rate, r.Plugin = 300, pluginRate, s.plugin
	return []measurement{{r, (*session).withPlugin}}
}

// withPlugin measures the CPU of an event in bursts, unless the plugin is beside, and then the waits at a pace.
func (s *session) withPlugin(r *row) error {
	if !s.setup.plugin.beside {
		burst := *r
		burst.Events = max(1000, int(100_000*s.plan.work))
		burst.Burst = burstEvents
		if err := s.burst(&burst); err != nil {
			return err
		}
		r.CPUPerEvent = (burst.CPU - burst.RedisCPU) * 1e6 / float64(burst.Events)
	} else {
		stop, err := s.feedGreedyPlugin()
		if err != nil {
			return err
		}
		defer stop()
	}
	r.Events = int(r.Rate * s.plan.seconds)
	if err := s.paced(r); err != nil {
		return err
	}
	r.CPUPerM = 0 // has no meaning at a pace that leaves the cores idle
	return nil
}

// feedGreedyPlugin subscribes a client to the plugin's group and publishes there until stop is called. The plugin gets
// events for a second first, so that it is busy from the first measured event on.
func (s *session) feedGreedyPlugin() (stop func(), err error) {
	if s.more, err = launch(1, spareFiles); err != nil {
		return nil, err
	}
	s.more.source = 101
	t := s.run.target
	t.Group = besideGroup
	if err := s.more.connect(t, 1); err != nil {
		return nil, err
	}
	sender, err := newGroupSender(s.run.redis.addr, besideGroup)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		tick := time.NewTicker(time.Second / greedyRate)
		defer tick.Stop()
		src := newSource()
		src.resize(300)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if sender.one(src) != nil { // Redis ends with the session
				return
			}
		}
	})
	time.Sleep(time.Second)
	return func() {
		cancel()
		publishing.Wait()
		sender.close()
	}, nil
}
