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
	// followInterval is the time between questions to the sentinels whether the master is still the same.
	followInterval = time.Second
	// otherSentinelsTimeout bounds the wait for the other sentinels once one has answered.
	otherSentinelsTimeout = 200 * time.Millisecond
	// formerReplyTimeout bounds the wait for replies of a former master.
	formerReplyTimeout = 2 * time.Second
	// sentinelTimeout bounds each step with a sentinel.
	sentinelTimeout = time.Second
)

// master is a Redis master as its sentinels know it. All sentinels are asked, and the newest configuration counts: a
// sentinel that is cut off from the others still names the old master. When the master changes, pooled connections to
// the former one are cut. Other connections end by themselves.
// See docs/decisions/layers.md#why-does-sentinelgo-replace-the-failover-client
type master struct {
	name      string
	sentinels []*goredis.SentinelClient
	dial      dialFunc
	stop      context.CancelFunc
	asking    sync.WaitGroup

	mu     sync.Mutex // guards the fields below, and the connections' warned
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
			DialTimeout: sentinelTimeout, ReadTimeout: sentinelTimeout, WriteTimeout: sentinelTimeout,
			ContextTimeoutEnabled: true,
			DialerRetries:         1, MaxRetries: -1, PoolSize: 4, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.asking.Go(func() { m.follow(ctx) })
	return m
}

// MasterConn is a connection to a master behind sentinels.
type MasterConn struct {
	net.Conn
	master *master
	Addr   string // the master's address
	pooled bool   // cut when the master changes
	warned bool   // a read deadline was set, because the master has changed
}

// Former reports whether a connection is to a former master.
func Former(conn net.Conn) bool {
	c, ok := conn.(*MasterConn)
	if !ok {
		return false
	}
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	return c.Addr != c.master.addr
}

// Close implements [net.Conn].
func (c *MasterConn) Close() error {
	c.master.mu.Lock()
	delete(c.master.conns, c)
	c.master.mu.Unlock()
	return c.Conn.Close()
}

// dialMaster connects a pooled client to the current master, whatever the address.
func (m *master) dialMaster(ctx context.Context, _, _ string) (net.Conn, error) {
	return m.connect(ctx, true)
}

func (m *master) connect(ctx context.Context, pooled bool) (net.Conn, error) {
	addr, epoch, err := m.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := m.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &MasterConn{Conn: conn, master: m, Addr: addr, pooled: pooled}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	if epoch != m.epoch { // The master has changed meanwhile.
		_ = conn.Close()
		return nil, ErrFormer
	}
	m.addr, m.conns[c] = addr, true
	return c, nil
}

// follow asks for the master until ctx ends, and cuts connections to former masters.
func (m *master) follow(ctx context.Context) {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		unused := len(m.conns) == 0
		m.mu.Unlock()
		if unused { // The next connection asks the sentinels.
			continue
		}
		addr, epoch, err := m.find(ctx)
		if err != nil { // The sentinels are away; the master may not be.
			continue
		}
		for _, c := range m.change(addr, epoch) {
			_ = c.Close()
		}
	}
}

// change takes the master's address, and returns the connections to cut.
func (m *master) change(addr string, epoch uint64) (cut []*MasterConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch { // A connection that was made meanwhile has newer information.
		return nil
	}
	m.addr = addr
	for c := range m.conns {
		switch {
		case c.Addr == addr:
		case c.pooled:
			cut = append(cut, c)
		case !c.warned: // Its owner ends the connection, but may wait for a reply of a host that is gone.
			c.warned = true
			_ = c.SetReadDeadline(time.Now().Add(formerReplyTimeout))
		}
	}
	return cut
}

// location is a sentinel's answer: where the master is, since which epoch.
type location struct {
	addr  string
	epoch uint64
	err   error
}

// find asks the sentinels for the master's address and its epoch.
func (m *master) find(ctx context.Context) (string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*sentinelTimeout)
	defer cancel()
	answers, err := m.askAll(ctx)
	if err != nil {
		return "", 0, err
	}
	best, heard, err := m.newest(ctx, answers)
	m.mu.Lock()
	defer m.mu.Unlock()
	// If all sentinels answer, a lower epoch is believed: they may have been set up again, counting from the beginning.
	if best.addr != "" && best.epoch < m.epoch && heard < len(m.sentinels) {
		best.addr, err = "", errors.New("the sentinels that answer are behind one that answered before")
	}
	if best.addr == "" {
		return "", 0, fmt.Errorf("no sentinel tells where the master %s is: %w", m.name, err)
	}
	m.epoch = best.epoch
	return best.addr, best.epoch, nil
}

// askAll asks every sentinel at once.
func (m *master) askAll(ctx context.Context) (<-chan location, error) {
	answers := make(chan location, len(m.sentinels))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	for _, s := range m.sentinels {
		m.asking.Go(func() { answers <- m.ask(ctx, s) })
	}
	return answers, nil
}

// ask asks a sentinel.
func (m *master) ask(ctx context.Context, s *goredis.SentinelClient) location {
	info, err := s.Master(ctx, m.name).Result()
	if err != nil {
		return location{err: err}
	}
	epoch, err := strconv.ParseUint(info["config-epoch"], 10, 64)
	if err != nil || info["ip"] == "" || info["port"] == "" {
		return location{err: errors.New("invalid answer of a sentinel")}
	}
	return location{addr: net.JoinHostPort(info["ip"], info["port"]), epoch: epoch}
}

// newest returns the answer with the highest epoch, the number of answers, and the error of a sentinel that has none.
func (m *master) newest(ctx context.Context, answers <-chan location) (best location, heard int, failed error) {
	var enough <-chan time.Time
	for range m.sentinels {
		select {
		case a := <-answers:
			if a.err != nil {
				failed = a.err
				continue
			}
			if best.addr == "" || a.epoch > best.epoch {
				best = a
			}
			if heard++; heard == 1 {
				enough = time.After(otherSentinelsTimeout)
			}
		case <-enough:
			return best, heard, failed
		case <-ctx.Done():
			return best, heard, ctx.Err()
		}
	}
	return best, heard, failed
}

// String returns the master's name and its last address.
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

// ErrFormer ends a connection to a former master, so that the next connection goes to the current master.
var ErrFormer = errors.New("the sentinels name another master")
