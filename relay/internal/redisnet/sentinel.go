package redisnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// followEvery is how often the sentinels are asked whether the master is still the one that we are connected to.
	followEvery = time.Second
	// othersWait is how long the other sentinels have to answer once one has.
	othersWait = 200 * time.Millisecond
	// formerWait is how long a former master may still take for what it has been asked.
	formerWait = 2 * time.Second
	// sentinelWait bounds each step with a sentinel.
	sentinelWait = time.Second
)

// master is a Redis master as its sentinels know it. Connections to a former master are cut when there is another, but for those of links,
// which part from it themselves.
// All sentinels are asked and the newest configuration is believed: one that is cut off from the others still names the old master.
// See docs/decisions/layers.md#why-does-sentinelgo-replace-the-failover-client
type master struct {
	name      string
	sentinels []*goredis.SentinelClient
	dial      dialFunc
	stop      context.CancelFunc
	asking    sync.WaitGroup

	mu     sync.Mutex
	addr   string
	epoch  uint64 // of the newest answer
	conns  map[*MasterConn]bool
	closed bool
}

func newMaster(s Sentinel, dial dialFunc) *master {
	m := &master{name: s.Master, dial: dial, conns: map[*MasterConn]bool{}}
	for _, addr := range s.Addresses {
		m.sentinels = append(m.sentinels, goredis.NewSentinelClient(&goredis.Options{
			Addr: addr, Username: s.SentinelUsername, Password: s.SentinelPassword, Dialer: guarded(dial, nil),
			DialTimeout: sentinelWait, ReadTimeout: sentinelWait, WriteTimeout: sentinelWait, ContextTimeoutEnabled: true,
			DialerRetries: 1, MaxRetries: -1, PoolSize: 4, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.asking.Go(func() { m.follow(ctx) })
	return m
}

// masterConn is a connection that master knows of.
type MasterConn struct {
	net.Conn
	master *master
	Addr   string
	link   bool // it is not cut
	warned bool // that it is to a former master
}

// former tells whether a connection of a link is to a master that is none any more.
func Former(conn net.Conn) bool {
	c, ok := conn.(*MasterConn)
	if !ok {
		return false
	}
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	return c.Addr != c.master.addr
}

// Close closes the connection, and master forgets it.
func (c *MasterConn) Close() error {
	c.master.mu.Lock()
	delete(c.master.conns, c)
	c.master.mu.Unlock()
	return c.Conn.Close()
}

// dialMaster connects to the master of now, whatever the address.
func (m *master) dialMaster(ctx context.Context, _, _ string) (net.Conn, error) {
	return m.connect(ctx, false)
}

func (m *master) connect(ctx context.Context, link bool) (net.Conn, error) {
	addr, epoch, err := m.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := m.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &MasterConn{Conn: conn, master: m, Addr: addr, link: link}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	if epoch != m.epoch { // another has become the master meanwhile
		_ = conn.Close()
		return nil, ErrFormer
	}
	m.addr, m.conns[c] = addr, true
	return c, nil
}

// follow cuts what is connected to a former master, until ctx ends.
func (m *master) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		idle := len(m.conns) == 0
		m.mu.Unlock()
		if idle { // whoever connects asks by himself
			continue
		}
		addr, epoch, err := m.find(ctx)
		if err != nil { // the sentinels are away, the master perhaps not
			continue
		}
		m.mu.Lock()
		if epoch != m.epoch { // whoever connected meanwhile knows better
			m.mu.Unlock()
			continue
		}
		m.addr = addr
		var cut []*MasterConn
		for c := range m.conns {
			switch {
			case c.Addr == addr:
			case !c.link:
				cut = append(cut, c)
			case !c.warned: // it parts by itself, unless it waits for an answer of a host that is gone
				c.warned = true
				_ = c.Conn.SetReadDeadline(time.Now().Add(formerWait))
			}
		}
		m.mu.Unlock()
		for _, c := range cut {
			_ = c.Close()
		}
	}
}

// find asks the sentinels for the master's address, and the epoch since which it is.
func (m *master) find(ctx context.Context) (string, uint64, error) {
	type answer struct {
		addr  string
		epoch uint64
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, 3*sentinelWait)
	defer cancel()
	answers := make(chan answer, len(m.sentinels))
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return "", 0, net.ErrClosed
	}
	for _, s := range m.sentinels {
		m.asking.Go(func() {
			info, err := s.Master(ctx, m.name).Result()
			a := answer{addr: net.JoinHostPort(info["ip"], info["port"]), err: err}
			if err == nil {
				a.epoch, err = strconv.ParseUint(info["config-epoch"], 10, 64)
				if err != nil || info["ip"] == "" || info["port"] == "" {
					a.err = errors.New("its answer cannot be understood")
				}
			}
			answers <- a
		})
	}
	m.mu.Unlock()
	var best answer
	heard := 0
	var failed error
	var enough <-chan time.Time
collect:
	for range m.sentinels {
		select {
		case a := <-answers:
			switch {
			case a.err != nil:
				failed = a.err
			case best.addr == "" || a.epoch > best.epoch:
				best = a
			}
			if a.err == nil {
				if heard++; heard == 1 {
					enough = time.After(othersWait)
				}
			}
		case <-enough:
			break collect
		case <-ctx.Done():
			failed = ctx.Err()
			break collect
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// All of them may have been set up anew, and count from the beginning.
	if best.addr != "" && best.epoch < m.epoch && heard < len(m.sentinels) {
		best.addr, failed = "", errors.New("those that answer are behind what one has said before")
	}
	if best.addr == "" {
		return "", 0, fmt.Errorf("no sentinel tells where the master %s is: %w", m.name, failed)
	}
	m.epoch = best.epoch
	return best.addr, best.epoch, nil
}

// String names the master and where it was last.
func (m *master) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addr == "" {
		return m.name
	}
	return m.name + " (" + m.addr + ")"
}

// close ends all connections.
func (m *master) close() {
	m.mu.Lock()
	m.closed = true
	var open []*MasterConn
	for c := range m.conns {
		open = append(open, c)
	}
	m.mu.Unlock()
	m.stop()
	for _, c := range open {
		_ = c.Close()
	}
	for _, s := range m.sentinels {
		_ = s.Close()
	}
	m.asking.Wait()
}

// errFormer ends a connection that works, to make another.
var ErrFormer = errors.New("the sentinels name another master")
