package guests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(Lines{})
}

// Lines is a channel layer for scripts. The layer listens on an address and reads an event from each line, such as
//
//	{"group": "jobs-1", "data": {"status": "done"}}
//
// The layer has no connection to other nodes: published events reach only the clients of this node.
type Lines struct {
	// Listen is the TCP address to listen on, such as 127.0.0.1:9000.
	Listen string `json:"listen"`
}

// CaddyModule returns the Caddy module information.
func (Lines) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.lines", New: func() caddy.Module { return new(Lines) }}
}

// UnmarshalCaddyfile reads `channel_layer lines <address>`.
func (l *Lines) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&l.Listen) {
		return d.Err("channel_layer lines takes one address, such as 127.0.0.1:9000")
	}
	return nil
}

// Provision checks the address. Open the listener in Start, not here: `caddy validate` provisions, too, and must have
// no effect.
func (l *Lines) Provision(caddy.Context) error {
	if _, _, err := net.SplitHostPort(l.Listen); err != nil {
		return fmt.Errorf("channel_layer lines: %w; use an address such as 127.0.0.1:9000", err)
	}
	return nil
}

// Place implements [guest.ChannelLayer]: a reload with the same address keeps the listener.
func (l *Lines) Place() string { return "lines " + l.Listen }

// Open implements [guest.ChannelLayer].
func (l *Lines) Open(log *slog.Logger) (relay.Broker, error) {
	return &lines{address: l.Listen, log: log, since: time.Now(), conns: map[net.Conn]struct{}{}}, nil
}

// Apply implements [guest.ChannelLayer]: no setting can change while the address stays.
func (*Lines) Apply(relay.Broker) error { return nil }

// maxLine is the limit of a line in bytes.
const maxLine = 1 << 20

// lines is the open channel layer.
type lines struct {
	address string
	log     *slog.Logger
	since   time.Time

	sink     relay.Sink
	listener net.Listener
	reading  sync.WaitGroup

	mu          sync.Mutex
	undecodable uint64
	// conns are the open connections; nil once the layer is closed.
	conns map[net.Conn]struct{}
}

// Start implements [relay.Broker].
func (b *lines) Start(sink relay.Sink) (err error) {
	b.sink = sink
	if b.listener, err = net.Listen("tcp", b.address); err != nil {
		return fmt.Errorf("channel_layer lines: %w", err)
	}
	b.reading.Go(b.accept)
	return nil
}

func (b *lines) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			// Close has closed the listener.
			return
		}
		b.mu.Lock()
		open := b.conns != nil
		if open {
			b.conns[conn] = struct{}{}
		}
		b.mu.Unlock()
		if !open {
			_ = conn.Close()
			return
		}
		b.reading.Go(func() { b.read(conn) })
	}
}

// read delivers the events of one connection in order. While the node is busy, Deliver blocks, and TCP passes the
// backpressure on to the script.
func (b *lines) read(conn net.Conn) {
	defer func() {
		b.mu.Lock()
		delete(b.conns, conn)
		b.mu.Unlock()
		_ = conn.Close()
	}()
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		var line struct {
			Group string          `json:"group"`
			Data  json.RawMessage `json:"data"`
		}
		err := json.Unmarshal(scanner.Bytes(), &line)
		if err == nil {
			err = relay.CheckGroup(line.Group)
		}
		if err != nil || line.Data == nil {
			b.mu.Lock()
			b.undecodable++
			b.mu.Unlock()
			b.log.Warn("line skipped", "error", err, "remedy", `write lines such as {"group": "jobs-1", "data": {}}`)
			continue
		}
		b.sink.Deliver([]relay.Event{{Group: line.Group, Text: line.Data, Sent: time.Now()}})
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, net.ErrClosed) {
		b.log.Warn("connection of a script failed", "error", err)
	}
}

// Join implements [relay.Broker]. The layer has nothing to do: the hub drops events of groups without clients.
func (*lines) Join(context.Context, ...string) error { return nil }

// Leave implements [relay.Broker].
func (*lines) Leave(...string) {}

// Publish implements [relay.Broker].
func (b *lines) Publish(_ context.Context, group string, text []byte) (relay.Receipt, error) {
	b.sink.Deliver([]relay.Event{{Group: group, Text: text, Sent: time.Now()}})
	return relay.Receipt{Members: 1}, nil
}

// Health implements [relay.Broker].
func (b *lines) Health() relay.Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return relay.Health{OK: b.conns != nil, Detail: "lines on " + b.address, Since: b.since, Undecodable: b.undecodable}
}

// Close implements [relay.Broker].
func (b *lines) Close(ctx context.Context) error {
	b.mu.Lock()
	for conn := range b.conns {
		_ = conn.Close()
	}
	b.conns = nil
	b.mu.Unlock()
	err := b.listener.Close()
	done := make(chan struct{})
	go func() {
		b.reading.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// Interface guards.
var (
	_ guest.ChannelLayer    = (*Lines)(nil)
	_ caddy.Provisioner     = (*Lines)(nil)
	_ caddyfile.Unmarshaler = (*Lines)(nil)
)
