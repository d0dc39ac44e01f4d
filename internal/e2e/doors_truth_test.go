package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// oracleClient is a client of the oracle test. It runs connections one after another until the test ends.
type oracleClient struct {
	*view
	groups []string
	// stays is set if the client keeps its connection as long as its node lives.
	stays bool
	// churns is set if the client leaves groups and comes back: it need not have the last event.
	churns bool
	packs  bool // gets compressed messages
	// run serves a connection to a node, until it ends, ctx ends, or the client has enough of it.
	run func(ctx context.Context, v *view, node string, groups []string) error
}

func (c *oracleClient) play(ctx context.Context, nodes []*peers.Relay, first int) {
	for i := first; ctx.Err() == nil; i++ {
		leave, cancel := ctx, func() {}
		if !c.stays {
			leave, cancel = context.WithTimeout(ctx, time.Duration(300+rand.IntN(2500))*time.Millisecond)
		}
		c.begin()
		err := c.run(leave, c.view, nodes[i%len(nodes)].URL, c.groups)
		cancel()
		if leave.Err() == nil {
			c.mu.Lock()
			c.ends = append(c.ends, fmt.Sprint(time.Now().Format("05.000 "), err))
			c.mu.Unlock()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Clients at every door, with every kind of compression, at two nodes that are reloaded and killed, get every event
// as their class sees it, once and in order, or hear of a gap.
func TestEveryDoorTellsTheTruth(t *testing.T) {
	t.Parallel()
	count := 80
	if n, err := strconv.Atoi(os.Getenv("EDGERELAY_ORACLE_EVENTS")); err == nil { // more find more
		count = n
	}
	s := newStage(t)
	o := newOracle(t, count)
	file := func(compression string) string {
		f := s.withPlugins(plugin("classes", guest(t, "classes"), "groups "+strings.Join(coveredGroups, " ")),
			"history job_events-* r_* {\ncount 10000\nsize 64MiB\n}\nlimits {\nconnections_per_user 0\nconnections_per_address 0\n}", compression)
		f = strings.Replace(f, "edgerelay {", "servers {\nprotocols h1 h2c\n}\nedgerelay {", 1)
		return strings.Replace(f, "\tedgerelay\n", "\tedgerelay {\npath /websocket/\nroute /room/{room}/ {\nauth none\ngroups r_{room}\non x.y text text\n}\n}\n", 1)
	}
	var nodes []*peers.Relay
	for range 2 {
		nodes = append(nodes, peers.StartRelayUnder(t, file("compression"), "env", "GODEBUG=http2xconnect=1"))
	}
	clients := o.crowd(s)
	ctx, cancel := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	for i, c := range clients {
		playing.Go(func() { c.play(ctx, nodes, i/2) })
	}
	defer playing.Wait()
	defer cancel()
	ready := func() {
		for _, c := range clients {
			testkit.Eventually(t, c.name+" is subscribed", func() bool { return c.isReady() })
		}
	}
	ready()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		o.emit(s)
	}()
	settings := []string{
		"compression off", "compression {\nmin_size 1\n}", "compression {\nexclude job_events-42\n}", "compression {\nlevel 6\n}",
		"compression {\nmin_size 50\nlevel 9\n}", "compression",
	}
	for i := 0; ; i++ {
		select {
		case <-sent:
		case <-time.After(700 * time.Millisecond):
			if i%20 == 3 {
				nodes[1].Kill()
				nodes[1].Restart(file("compression"))
			}
			if err := nodes[i%2].Load(file(settings[i%len(settings)])); err != nil {
				t.Error(err)
			}
			continue
		}
		break
	}
	ready() // again: a node may just have been killed
	o.finish(s)
	deadline := time.Now().Add(30 * time.Second)
	for _, c := range clients {
		if c.churns {
			continue
		}
		for c.has(c.groups, count) != nil && time.Now().Before(deadline) && !t.Failed() {
			time.Sleep(50 * time.Millisecond)
		}
		if err := c.has(c.groups, count); err != nil {
			t.Error(err)
		}
	}
	cancel()
	playing.Wait()
	for _, c := range clients {
		if c.packs && c.packed == 0 {
			t.Errorf("%s has got no compressed message", c.name)
		}
		if c.resumes {
			c.complete(c.groups)
		}
		if t.Failed() {
			t.Logf("%s: %d connections, %d events again, %d compressed, %s; told %.300q; ended %.300q", c.name, c.conns,
				c.again, c.packed, c.counts(), c.holes, c.ends)
		}
	}
}
