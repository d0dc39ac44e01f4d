//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// historyClients is the number of clients in the bursts and paces with and without a history.
	historyClients = 1000
	// resumeEvents is the number of events that the clients of a resume have missed.
	resumeEvents = 100
	// resumeParallel is the number of clients that reconnect at any time.
	resumeParallel = 1000
	// besideClients is the number of clients in another group during a resume.
	besideClients = 50
	// overlap is longer than the time before a position from which a relay replays: without the pause, clients would get
	// events again that they have.
	overlap = 2500 * time.Millisecond
)

// historyCase is a kind of session with or without a history.
type historyCase struct {
	name, title string
	on          bool // the groups have a history
	positions   bool // clients have opted in
}

// historyCases are the cases in turn; the first is the one to compare with.
var historyCases = []historyCase{
	{name: "off", title: "off"},
	{name: "on", title: "on, clients without positions", on: true},
	{name: "positions", title: "on, clients with positions", on: true, positions: true},
}

func findHistory(name string) *historyCase {
	for i := range historyCases {
		if historyCases[i].name == name {
			return &historyCases[i]
		}
	}
	return nil
}

// block is the history's part of the Caddyfile.
func (c *historyCase) block() string {
	if c == nil || !c.on {
		return ""
	}
	return "history *"
}

// historyRows measures bursts and paces of a session, or the resume of many clients.
func (p *plan) historyRows(s *session) []measurement {
	if s.resume {
		r := s.newRow(kindResume)
		r.Size, r.Events, r.Rate = 300, resumeEvents, 10
		return []measurement{{r, (*session).resumeAll}}
	}
	return []measurement{
		{p.burstRow(s, 300), (*session).burst},
		{p.burstRow(s, 2048), (*session).burst},
		{p.pacedRow(s, 300), (*session).pacedIfAble},
		{p.pacedRow(s, 2048), (*session).pacedIfAble},
	}
}

// resumeAll cuts all clients twice. The first time they miss nothing, and the second time resumeEvents events, which
// they get when they are back. The CPU of the first return is that of the handshakes. Meanwhile, clients of another
// group receive events.
func (s *session) resumeAll(r *row) error {
	s.src.resize(r.Size)
	live, err := s.liveDelivery(r.Events)
	if err != nil {
		return fmt.Errorf("live delivery: %w", err)
	}
	r.LiveCPU = live
	// The last position has no other event close before it.
	time.Sleep(overlap)
	if _, err := s.liveDelivery(1); err != nil {
		return fmt.Errorf("live delivery: %w", err)
	}
	beside, err := s.besideOthers(r.Rate)
	if err != nil {
		return err
	}
	defer beside.stop()
	if r.CalmP99, err = beside.during(func() error { time.Sleep(5 * time.Second); return nil }); err != nil {
		return err
	}
	use, err := s.meter()
	if err != nil {
		return err
	}
	if r.ReturnP99, err = beside.during(s.comeBack); err != nil {
		return fmt.Errorf("return without events: %w", err)
	}
	empty := *r
	if err := use.read(&empty); err != nil {
		return err
	}
	r.ReturnCPU = empty.CPU
	if err := s.fleet.begin(s.src.last()+int64(r.Events), s.sample()); err != nil {
		return err
	}
	if err := s.fleet.hangUp(); err != nil {
		return err
	}
	if err := s.run.emit.burst(s.src, r.Events); err != nil {
		return err
	}
	if use, err = s.meter(); err != nil {
		return err
	}
	began := time.Now()
	var t *tally
	r.P99, err = beside.during(func() (err error) {
		if err = s.comeBack(); err == nil {
			t, err = s.collect(r)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("return with %d events: %w", r.Events, err)
	}
	if err := use.read(r); err != nil {
		return err
	}
	r.Seconds = time.UnixMicro(t.Last).Sub(began.Truncate(time.Microsecond)).Seconds()
	r.PerSecond = float64(r.Deliveries) / r.Seconds
	return nil
}

// liveDelivery returns the CPU seconds of a burst to the connected clients.
func (s *session) liveDelivery(events int) (float64, error) {
	live := s.newRow(kindBurst)
	live.Size, live.Events, live.Burst = 300, events, events
	err := s.burst(&live)
	return live.CPU, err
}

// comeBack reconnects all clients.
func (s *session) comeBack() error {
	if err := s.fleet.hangUp(); err != nil {
		return err
	}
	return s.fleet.reopen(s.run.target, resumeParallel)
}

// hangUp ends all connections.
func (f *fleet) hangUp() error {
	_, err := f.all(func(int) order { return order{Do: "hang up"} })
	return err
}

// reopen connects all clients again.
func (f *fleet) reopen(t target, parallel int) error {
	_, err := f.all(func(i int) order {
		t, _ := f.part(t, i)
		return order{Do: "reopen", Target: t, Parallel: parallel, Source: f.source + i*8}
	})
	return err
}

// hangUpAll ends all connections of a receiver. Its clients stay, with the numbers that they expect.
func (r *receiver) hangUpAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.clients {
		c := &r.clients[i]
		r.hangUp(c, "")
		c.closed, c.rest = false, nil
	}
}

// reopen connects all clients of a receiver again. They resume from the position of the last event.
func (r *receiver) reopen(t target, parallel, firstSource int) error {
	r.mu.Lock()
	t.Since = string(r.position)
	n := len(r.clients)
	r.mu.Unlock()
	return r.openAll(t, 0, n, parallel, firstSource)
}

// unwrap returns the event in a frame of dialectEvents, and remembers the position. ok is false for other frames.
func (r *receiver) unwrap(frame []byte) (event []byte, ok bool) {
	const positionKey, eventKey = `"position":"`, `,"event":`
	if !bytes.HasPrefix(frame, []byte(`{"type":"event"`)) {
		return nil, false
	}
	head := frame[:min(len(frame), 400)]
	at := bytes.Index(head, []byte(positionKey))
	event = frame[max(0, bytes.Index(head, []byte(eventKey)))+len(eventKey):]
	if at < 0 || len(event) < 2 {
		return nil, false
	}
	token := head[at+len(positionKey):]
	r.position = append(r.position[:0], token[:max(0, bytes.IndexByte(token, '"'))]...)
	return event[:len(event)-1], true
}

// besideOthers are clients of another group with events of their own.
type besideOthers struct {
	fleet  *fleet
	src    *source
	sender emitter
	rate   float64
}

// besideOthers connects clients of another group.
func (s *session) besideOthers(rate float64) (*besideOthers, error) {
	b, err := connectBeside(s.run, besideClients, rate)
	if b != nil {
		s.more = b.fleet // is stopped with the session
	}
	return b, err
}

// connectBeside connects n clients of another group. The caller stops the fleet, also after an error.
func connectBeside(run *running, n int, rate float64) (*besideOthers, error) {
	f, err := launch(n, max(n, spareFiles))
	if err != nil {
		return nil, err
	}
	b := &besideOthers{fleet: f, src: newSource(), rate: rate}
	f.source = 101
	t := run.target
	t.Group = besideGroup
	if err := f.connect(t, 8); err != nil {
		return b, err
	}
	b.src.resize(300)
	b.sender, err = run.emitTo(besideGroup)
	return b, err
}

// during publishes events while work is done, and returns the 99th percentile of their latency in milliseconds.
func (b *besideOthers) during(work func() error) (p99 float64, err error) {
	if err := b.fleet.begin(b.src.last()+1<<30, 1); err != nil { // the end is not known yet
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var publishing sync.WaitGroup
	var failed error
	publishing.Go(func() {
		gap := time.Duration(float64(time.Second) / b.rate)
		for at := time.Now(); ctx.Err() == nil; at = at.Add(gap) {
			time.Sleep(time.Until(at))
			if failed = b.sender.one(b.src); failed != nil {
				return
			}
		}
	})
	err = work()
	cancel()
	publishing.Wait()
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	if err := b.fleet.cut(b.src.last()); err != nil {
		return 0, err
	}
	t, err := b.fleet.wait(stall)
	if err != nil {
		return 0, err
	}
	if t.Lost+t.Doubled+t.Closed+t.Behind > 0 {
		return 0, fmt.Errorf("the other group: %d lost, %d doubled, %d clients closed, %d clients without the last event %s",
			t.Lost, t.Doubled, t.Closed, t.Behind, t.Error)
	}
	return t.Latency.quantile(0.99).Seconds() * 1000, nil
}

func (b *besideOthers) stop() { b.sender.close() }

// histories is the report's part about histories.
func (res *results) histories(b *strings.Builder) {
	list := res.withHistory()
	if len(list) > 0 {
		fmt.Fprintf(b, "\n## History\n\n| system | history | row | CPU-s/M | × off | p99 ms | KiB a connection after a "+
			"collection | more than off |\n|---|---|---|--:|--:|--:|--:|--:|\n")
	}
	for _, m := range list {
		off := res.sameWithoutHistory(&m)
		fmt.Fprintf(b, "| %s | %s | %s |", titleOf(m.System), findHistory(m.History).title, m.historyName())
		switch {
		case m.why() != "":
			fmt.Fprintf(b, " %s | | | | |\n", m.why())
		case m.Kind == kindConnect:
			fmt.Fprintf(b, " | | | %.2f | %+.2f |\n", m.IdleAfterGC, m.IdleAfterGC-off.IdleAfterGC)
		default:
			fmt.Fprintf(b, " %.3f | %.2f | %.1f | | |\n", m.CPUPerM, m.CPUPerM/off.CPUPerM, m.P99)
		}
	}
	resumes := res.of(kindResume)
	if len(resumes) > 0 {
		fmt.Fprintf(b, "\n## Resume\n\n| system | clients | events each | CPU s live | CPU s to return | CPU s to return and "+
			"resume | resume ÷ live | seconds | p99 ms of another group: calm / return / resume |\n"+
			"|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	}
	for _, m := range resumes {
		if why := m.why(); why != "" {
			fmt.Fprintf(b, "| %s | %d | %d | %s | | | | | |\n", titleOf(m.System), m.Clients, m.Events, why)
			continue
		}
		fmt.Fprintf(b, "| %s | %d | %d | %.2f | %.2f | %.2f | %.2f | %.1f | %.1f / %.1f / %.1f |\n", titleOf(m.System),
			m.Clients, m.Events, m.LiveCPU, m.ReturnCPU, m.CPU, (m.CPU-m.ReturnCPU)/m.LiveCPU, m.Seconds, m.CalmP99,
			m.ReturnP99, m.P99)
	}
}

// historyName is the row in words.
func (m *summary) historyName() string {
	if m.Kind == kindConnect {
		return fmt.Sprintf("%d idle", m.Clients)
	}
	return fmt.Sprintf("%s %s, %d clients", m.Kind, sizeName(m.Size), m.Clients)
}

// withHistory returns the rows of sessions with or without a history, apart from resumes.
func (res *results) withHistory() (list []summary) {
	for _, m := range res.Medians {
		if m.History != "" && m.Kind != kindResume && (m.Kind != kindConnect || m.IdleAfterGC > 0) {
			list = append(list, m)
		}
	}
	return list
}

// sameWithoutHistory returns the row of the first case.
func (res *results) sameWithoutHistory(m *summary) summary {
	for _, o := range res.Medians {
		if o.System == m.System && o.Kind == m.Kind && o.Clients == m.Clients && o.Size == m.Size &&
			o.History == historyCases[0].name {
			return o
		}
	}
	return summary{}
}
