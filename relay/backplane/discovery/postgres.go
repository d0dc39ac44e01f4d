package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// heartbeats is the PostgreSQL channel on which AWX's web nodes announce themselves.
const heartbeats = "web_ws_heartbeat"

// Postgres finds web nodes of AWX 22 and later by their heartbeats. It announces this node as a web node, so that
// Python task nodes dial it.
type Postgres struct {
	// DSN is the connection string, such as postgres://awx:password@db/awx. LISTEN needs a session, so PgBouncer in
	// transaction mode does not work.
	DSN string
	// Hostname is this node's name in the cluster; IP, if known, the address that task nodes dial.
	Hostname, IP string
	// Scheme and Port are those of all nodes, as AWX's BROADCAST_WEBSOCKET_PROTOCOL and _PORT.
	Scheme string
	Port   int
	// Every is the time between heartbeats. A node without a heartbeat for Silence is removed. Defaults: 15 s and
	// 60 s.
	Every, Silence time.Duration
	Log            *slog.Logger
}

var (
	_ backplane.Discovery = (*Postgres)(nil)
	_ backplane.Patient   = (*Postgres)(nil)
)

// Key implements [backplane.Discovery].
func (p *Postgres) Key() string {
	return fmt.Sprint("postgres ", fingerprint(p.DSN), " ", p.Hostname, " ", p.IP, " ",
		p.Scheme, ":", p.Port, " ", p.Every, " ", p.Silence)
}

// Patience implements [backplane.Patient]: a node may have lost the database only. Answers are as far apart as this
// node's heartbeats.
func (p *Postgres) Patience() int { return 4 }

// Source implements [backplane.Patient].
func (p *Postgres) Source() string {
	return fmt.Sprint("postgres ", fingerprint(p.DSN), " ", p.Scheme, ":", p.Port)
}

// Validate returns an error if a setting is missing or invalid.
func (p *Postgres) Validate() error {
	if _, err := pgx.ParseConfig(p.DSN); err != nil { // the error may contain the password
		return errors.New("backplane: postgres: invalid connection string; " +
			"use a value such as postgres://user:password@host:5432/awx")
	}
	if p.Hostname == "" {
		return errors.New("backplane: postgres: this node has no name; add 'node_name <name>'")
	}
	return nil
}

// heartbeat is the message of a web node.
type heartbeat struct {
	Hostname string  `json:"hostname"`
	IP       *string `json:"ip"`
	Action   string  `json:"action"`
}

// webNode is a known web node.
type webNode struct {
	address string
	heard   time.Time
	gone    bool // the node has announced its end
}

// Run implements [backplane.Discovery]. It reconnects after an error, with a growing pause.
func (p *Postgres) Run(ctx context.Context, found func([]backplane.Target)) {
	nodes := map[string]webNode{}
	wait := time.Second
	failing := false
	for ctx.Err() == nil {
		began := time.Now()
		err := p.session(ctx, nodes, found)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait, failing = time.Second, false
		}
		if !failing {
			p.Log.Warn("PostgreSQL unreachable, known peers stay", "error", err)
		}
		failing = true
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// intervals returns Every and Silence with their defaults.
func (p *Postgres) intervals() (every, silence time.Duration) {
	every, silence = p.Every, p.Silence
	if every <= 0 {
		every = 15 * time.Second
	}
	if silence <= 0 {
		silence = 4 * every
	}
	return every, silence
}

// session connects, announces and listens until the connection breaks.
func (p *Postgres) session(ctx context.Context, nodes map[string]webNode, found func([]backplane.Target)) error {
	connecting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(connecting, p.DSN)
	if err != nil {
		return err
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if ctx.Err() != nil && !conn.IsClosed() {
			_ = p.announce(leaving, conn, "offline") // best effort: peers time this node out anyway
		}
		_ = conn.Close(leaving)
	}()
	if _, err := conn.Exec(connecting, "LISTEN "+heartbeats); err != nil {
		return err
	}
	p.Log.Info("receiving heartbeats of web nodes", "channel", heartbeats, "hostname", p.Hostname)
	every, silence := p.intervals()
	for name, n := range nodes { // heartbeats were missed because this node was disconnected
		n.heard = time.Now()
		nodes[name] = n
	}
	due := time.Now()
	for {
		if now := time.Now(); !now.Before(due) {
			if err := p.beat(ctx, conn); err != nil {
				return err
			}
			due = now.Add(every)
			forget(nodes, now.Add(-silence))
			found(p.targets(nodes))
		}
		waiting, cancel := context.WithDeadline(ctx, due)
		n, err := conn.WaitForNotification(waiting)
		expired := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil {
			if expired && !conn.IsClosed() {
				continue
			}
			return err
		}
		if p.handleHeartbeat(nodes, n.Payload) {
			found(p.targets(nodes))
		}
	}
}

// beat announces this node. A stop meanwhile does not interrupt it, which would close the connection that says
// farewell.
func (p *Postgres) beat(ctx context.Context, conn *pgx.Conn) error {
	beating, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	return p.announce(beating, conn, "online")
}

// beatTimeout bounds a heartbeat, and so how long a stop may wait for it.
const beatTimeout = 5 * time.Second

// announce sends a heartbeat, byte for byte as AWX's run_ws_heartbeat does.
func (p *Postgres) announce(ctx context.Context, conn *pgx.Conn, action string) error {
	payload := pyjson.AppendString([]byte(`{"hostname": `), p.Hostname)
	payload = append(payload, `, "ip": `...)
	if p.IP == "" {
		payload = append(payload, "null"...)
	} else {
		payload = pyjson.AppendString(payload, p.IP)
	}
	payload = append(pyjson.AppendString(append(payload, `, "action": `...), action), '}')
	_, err := conn.Exec(ctx, "SELECT pg_notify($1, $2)", heartbeats, string(payload))
	return err
}

// handleHeartbeat updates the nodes, and reports whether they change. Invalid heartbeats are ignored.
func (p *Postgres) handleHeartbeat(nodes map[string]webNode, payload string) (changed bool) {
	var h heartbeat
	if json.Unmarshal([]byte(payload), &h) != nil || h.Hostname == "" || h.Hostname == p.Hostname {
		return false
	}
	before, known := nodes[h.Hostname]
	switch h.Action {
	case "online":
		address := h.Hostname
		if h.IP != nil && *h.IP != "" {
			address = *h.IP
		}
		if _, err := backplane.ParseURL(p.url(address)); err != nil || strings.ContainsAny(address, "/@?#") {
			return false
		}
		nodes[h.Hostname] = webNode{address: address, heard: time.Now()}
		return !known || before.gone || before.address != address
	case "offline":
		if known {
			nodes[h.Hostname] = webNode{address: before.address, heard: before.heard, gone: true}
		}
		return known && !before.gone
	}
	return false
}

// forget removes the nodes without a heartbeat since before.
func forget(nodes map[string]webNode, before time.Time) {
	for name, n := range nodes {
		if n.heard.Before(before) {
			delete(nodes, name)
		}
	}
}

func (p *Postgres) url(address string) string {
	return p.Scheme + "://" + net.JoinHostPort(address, strconv.Itoa(p.Port))
}

func (p *Postgres) targets(nodes map[string]webNode) []backplane.Target {
	targets := []backplane.Target{}
	for _, n := range nodes {
		targets = append(targets, backplane.Target{URL: p.url(n.address), Dialect: backplane.Relay, Gone: n.gone})
	}
	slices.SortFunc(targets, func(x, y backplane.Target) int { return strings.Compare(x.URL, y.URL) })
	return slices.Compact(targets)
}
