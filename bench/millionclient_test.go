//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// crowdServer upgrades one client, subscribes it, and sends what the test wants.
func crowdServer(t *testing.T, conn net.Conn, steps []byte) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil || req.Header.Get("Upgrade") != "websocket" {
		t.Errorf("request %v, error %v; want an upgrade", req, err)
		return
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + wsAccept + "\r\n\r\n"
	_, _ = io.WriteString(conn, answer)
	_, _ = conn.Write(appendServerFrame(nil, opText, []byte(`{"accept": true}`)))
	if _, err := io.ReadFull(in, make([]byte, len(crowdSubscribe))); err != nil {
		t.Errorf("read the subscription: %v", err)
		return
	}
	for _, b := range append(appendServerFrame(nil, opText, []byte(`{"groups_current": ["x"]}`)), steps...) {
		_, _ = conn.Write([]byte{b}) // a frame may arrive in any number of pieces
	}
	_, _ = io.Copy(io.Discard, in)
}

// A crowd counts pings, events and close codes of every client, whatever the pieces in which frames arrive.
func TestCrowdCounts(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const clients = 20
	event := newSource().event()
	steps := appendServerFrame(nil, opPing, nil)
	steps = appendServerFrame(steps, opText, event)
	steps = appendServerFrame(steps, opText, event)
	steps = appendServerFrame(steps, opClose, append([]byte{1012 >> 8, 1012 & 0xff}, "restart"...))
	var servers sync.WaitGroup
	servers.Go(func() {
		for range clients {
			conn, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			servers.Go(func() {
				crowdServer(t, conn, steps)
			})
		}
	})
	stdin, orders := io.Pipe()
	answers, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- crowdServe(stdin, stdout) }()
	in, out := json.NewEncoder(orders), json.NewDecoder(answers)
	ask := func(o crowdOrder) (a crowdAnswer) {
		t.Helper()
		o.StallMS = 60_000
		if err := in.Encode(o); err != nil {
			t.Fatal(err)
		}
		if err := out.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if a.Error != "" {
			t.Fatal(a.Error)
		}
		return a
	}
	ask(crowdOrder{Do: "connect", Targets: []crowdTarget{{ln.Addr().String(), clients}}, Parallel: 3, Source: 300})
	ask(crowdOrder{Do: "event"})
	// The server ends the connection after the client's close frame, or when the listener's test ends.
	a := ask(crowdOrder{Do: "state"})
	for a.Doubled < clients {
		a = ask(crowdOrder{Do: "state"})
	}
	if a.Events != clients || a.Doubled != clients || a.Pings != clients || a.Fewest != 1 {
		t.Errorf("%d events, %d doubled, %d pings, at least %d; want %d, %d, %d, 1", a.Events, a.Doubled, a.Pings, a.Fewest,
			clients, clients, clients)
	}
	_ = orders.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Crowds and nodes divide the clients without a gap.
func TestCrowdsDivideClients(t *testing.T) {
	m := &million{res: &millionResults{Room: millionLimits{Connections: 100_003, Nodes: 7, Processes: 5}}}
	for i := range m.res.Room.Nodes {
		m.nodes = append(m.nodes, &millionNode{addr: string(rune('a' + i)), clients: share(100_003, 7, i)})
	}
	got := map[string]int{}
	sources := map[int]bool{}
	for i := range m.res.Room.Processes {
		o := m.connectOrder(i)
		n := 0
		for _, target := range o.Targets {
			got[target.Addr] += target.Clients
			n += target.Clients
		}
		for k := range (n + clientsPerSource - 1) / clientsPerSource {
			if sources[o.Source+k] {
				t.Errorf("source address %d has clients of two processes", o.Source+k)
			}
			sources[o.Source+k] = true
		}
	}
	for _, n := range m.nodes {
		if got[n.addr] != n.clients {
			t.Errorf("node %s has %d clients, want %d", n.addr, got[n.addr], n.clients)
		}
	}
}

// The report names the bound, and the verdict fails if a client was closed with another code.
func TestMillionVerdict(t *testing.T) {
	r := &millionResults{
		Wanted: 1000, Room: millionLimits{Connections: 100, Nodes: 1, Processes: 1, Bound: "little memory"}, Events: 100,
		FewestPings: 2, Pings: 200, Closed: map[int]int64{1012: 100}, Idle: millionUse{Seconds: 50, CPU: 0.001},
		Ramp: millionUse{Seconds: 1},
	}
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.markdown(), "little memory") {
		t.Error("the report does not name the bound")
	}
	r.Closed = map[int]int64{1012: 99, 0: 1}
	if r.verdict() == nil {
		t.Error("no error although a client was not closed with 1012")
	}
}
