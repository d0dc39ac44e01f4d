//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/edgerelay/edgerelay/internal/testkit/jobevents"
)

const (
	// deflateClients is the number of clients in the bursts and paces with and without compression, and pageClients that
	// of a job's page.
	deflateClients = 1000
	pageClients    = 10
	// jobSize is the least length of an event whose text is that of a job.
	jobSize = 2048
)

// deflateCase is a way of clients to get events.
type deflateCase struct {
	name, title string
	setting     string // of the Caddyfile
	offers      bool   // the clients offer compression
	groups      int    // that each client is in, and events go to in turn; 0: one
}

// deflateCases are the cases in turn; the first is the one to compare with.
var deflateCases = []deflateCase{
	{name: "off", title: "off", setting: "compression off"},
	{name: "unused", title: "on, clients that offer none"},
	{name: "on", title: "on", offers: true},
	{name: "all", title: "on, from 1 byte", setting: "compression {\n\t\t\tmin_size 1\n\t\t}", offers: true},
	{name: "level5", title: "on, level 5", setting: "compression {\n\t\t\tlevel 5\n\t\t}", offers: true},
	{name: "two", title: "on, two groups in turn", offers: true, groups: 2},
	{name: "five", title: "on, five groups in turn", offers: true, groups: 5},
}

func findDeflate(name string) *deflateCase {
	for i := range deflateCases {
		if deflateCases[i].name == name {
			return &deflateCases[i]
		}
	}
	return nil
}

// block is the compression's part of the Caddyfile.
func (c *deflateCase) block() string {
	if c == nil {
		return ""
	}
	return c.setting
}

// prepare makes the clients offer compression and enter the groups, and the events those of jobs.
func (c *deflateCase) prepare(run *running, src *source) {
	if c == nil {
		return
	}
	run.target.Deflate, run.target.Together = c.offers, c.groups
	groups := max(c.groups, 1)
	var jobs []*jobevents.Job
	for g := range groups {
		jobs = append(jobs, jobevents.New(g+1, 1))
	}
	src.text = func(size int) []byte {
		job := jobs[int(src.next-firstSeq)%groups]
		if size < jobSize {
			return job.Status()
		}
		return job.Next()
	}
	if e, ok := run.emit.(*httpEmitter); ok && c.groups > 0 {
		n := 0
		e.wrap = func(event []byte) []byte {
			n++
			return publishBody(spreadGroup((n - 1) % groups))(event)
		}
	}
}

// deflateKeys lists the sessions of one repetition.
func (p *plan) deflateKeys() (ks []sessionKey) {
	for _, c := range deflateCases {
		ks = append(ks, sessionKey{clients: deflateClients, deflate: c.name})
		if c.groups > 0 || c.name == "unused" || c.name == "level5" {
			continue
		}
		ks = append(ks, sessionKey{clients: pageClients, deflate: c.name})
		if c.name != "all" {
			ks = append(ks, sessionKey{clients: p.idleDeflate, deflate: c.name})
		}
	}
	return ks
}

// deflateRows measures bursts and paces of a session.
func (p *plan) deflateRows(s *session) []measurement {
	large := p.burstRow(s, jobSize)
	large.Events = min(large.Events, 10_000)
	if s.clients == pageClients || findDeflate(s.deflate).groups > 0 {
		return []measurement{{large, (*session).burst}}
	}
	return []measurement{
		{large, (*session).burst},
		{p.burstRow(s, 300), (*session).burst},
		{p.pacedRow(s, jobSize), (*session).pacedIfAble},
	}
}

// deflates is the report's part about compression.
func (res *results) deflates(b *strings.Builder) {
	var list []summary
	for _, m := range res.Medians {
		if m.Deflate != "" && (m.Kind != kindConnect || m.IdleAfterGC > 0) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Compression\n\n| compression | row | bytes on the wire, %% | CPU-s/M | × off | p99 ms | KiB a "+
		"connection after a collection | more |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, m := range list {
		off := res.sameWithoutDeflate(&m)
		fmt.Fprintf(b, "| %s | %s |", findDeflate(m.Deflate).title, m.deflateName())
		switch {
		case m.why() != "":
			fmt.Fprintf(b, " %s | | | | | |\n", m.why())
		case m.Kind == kindConnect:
			fmt.Fprintf(b, " | | | | %.2f | %+.2f |\n", m.IdleAfterGC, m.IdleAfterGC-off.IdleAfterGC)
		default:
			fmt.Fprintf(b, " %.1f | %.3f | %.2f | %.1f | | |\n", 100*m.Wire, m.CPUPerM, ratio(m.CPUPerM, off.CPUPerM), m.P99)
		}
	}
}

func (m *summary) deflateName() string {
	switch {
	case m.Kind == kindConnect:
		return fmt.Sprintf("idle, %d clients", m.Clients)
	case m.Size < jobSize:
		return fmt.Sprintf("%s, status events, %d clients", m.Kind, m.Clients)
	}
	return fmt.Sprintf("%s, job events, %d clients", m.Kind, m.Clients)
}

// sameWithoutDeflate returns the row of the first case.
func (res *results) sameWithoutDeflate(m *summary) summary {
	for _, o := range res.Medians {
		if o.Kind == m.Kind && o.Clients == m.Clients && o.Size == m.Size && o.Deflate == deflateCases[0].name {
			return o
		}
	}
	return summary{}
}
