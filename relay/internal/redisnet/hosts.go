// Package redisnet connects channel layers to Redis: hosts and their URLs, the ring of channels_redis, Sentinel, TLS,
// greeting, retry, health and its log lines, and the lifecycle of a layer.
package redisnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Hosts are the servers of a channel layer and the ways to reach them. Several hosts make the ring of channels_redis,
// in this order.
type Hosts struct {
	// URLs are redis://, rediss:// or unix://, with user, password and database.
	URLs []string
	// Sentinels are masters that Redis Sentinel watches, in place of URLs.
	Sentinels []Sentinel
	// TLS configures encrypted connections: to rediss:// URLs, or to the sentinels and their masters. nil: defaults for
	// rediss://, no encryption for sentinels.
	TLS *TLS
	// Pool has the timeouts, sizes and retries of the pooled client.
	Pool Pool
}

// Sentinel is a master that Redis Sentinel watches.
type Sentinel struct {
	// Master is the name at the sentinels.
	Master string
	// Addresses are the sentinels' addresses, host:port.
	Addresses []string
	// Username, Password and Database belong to the master.
	Username, Password string
	Database           int
	// SentinelUsername and SentinelPassword belong to the sentinels.
	SentinelUsername, SentinelPassword string
}

// Pool has settings of the pooled client; 0 means the default. Sending a message is never retried, because the
// message might
// arrive twice.
type Pool struct {
	// Size is the maximum number of connections to each host (default: 10 for each processor). MinIdle and MaxIdle
	// bound the unused connections.
	Size, MinIdle, MaxIdle int
	// DialTimeout (3s), ReadTimeout (5s) and WriteTimeout (5s) bound a step. Wait bounds the wait for a connection.
	DialTimeout, ReadTimeout, WriteTimeout, Wait time.Duration
	// MaxIdleTime (30m) and MaxLifetime (unlimited) end connections.
	MaxIdleTime, MaxLifetime time.Duration
	// Retries (3) is the number of repetitions of a command that changes nothing. The pauses between them grow from
	// MinBackoff (8ms) to MaxBackoff (512ms).
	Retries                int
	MinBackoff, MaxBackoff time.Duration
}

// WithDefaults replaces settings that are 0.
func (p Pool) WithDefaults() Pool {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&p.DialTimeout, 3*time.Second)
	set(&p.ReadTimeout, 5*time.Second)
	set(&p.WriteTimeout, 5*time.Second)
	set(&p.MinBackoff, 8*time.Millisecond)
	set(&p.MaxBackoff, 512*time.Millisecond)
	if p.Retries == 0 {
		p.Retries = 3
	}
	return p
}

// Backoff returns the pause before a repetition; the first is 0.
func (p Pool) Backoff(attempt int) time.Duration {
	return min(p.MinBackoff<<min(attempt, 20), p.MaxBackoff)
}

// size returns the number of hosts.
func (h Hosts) size() int { return len(h.URLs) + len(h.Sentinels) }

// Place identifies the databases that hold the layer, whatever the user and the connection. The text holds no secrets.
// The first sentinel distinguishes masters of the same name.
func (h Hosts) Place() string {
	var b strings.Builder
	all, _ := h.options()
	for i, o := range all {
		fmt.Fprintf(&b, "%s %q %d, ", o.Network, o.Addr, o.DB)
		if len(h.Sentinels) > 0 {
			fmt.Fprintf(&b, "%q, ", h.Sentinels[i].Addresses[0])
		}
	}
	return b.String()
}

// Validate returns an error if the hosts cannot be used.
func (h Hosts) Validate() error {
	_, err := h.options()
	return err
}

// options returns the settings of every host. A master behind sentinels has the network "sentinel" and the name as the
// address.
func (h Hosts) options() (list []*host, err error) {
	switch {
	case h.size() == 0:
		return nil, errors.New("no host; write: url redis://127.0.0.1:6379/0")
	case len(h.URLs) > 0 && len(h.Sentinels) > 0:
		return nil, errors.New("url and sentinel exclude each other: a ring consists of urls or of masters")
	}
	if err := h.Pool.check(); err != nil {
		return nil, err
	}
	encrypted := len(h.Sentinels) > 0
	for _, url := range h.URLs {
		o, err := parseURL(url)
		if err != nil {
			return nil, err
		}
		encrypted = encrypted || o.TLSConfig != nil
		list = append(list, o)
	}
	for _, s := range h.Sentinels {
		o, err := s.host(h.TLS != nil)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	if h.TLS != nil && !encrypted {
		return nil, errors.New("there is a tls block, but no url begins with rediss://")
	}
	for _, o := range list {
		h.Pool.or(o.pool).WithDefaults().apply(o.Options)
		if o.tls = h.TLS.or(o.tls); o.tls != nil {
			if _, err := o.tls.apply(&tls.Config{}); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// host checks the settings of a master behind sentinels.
func (s Sentinel) host(encrypted bool) (*host, error) {
	if s.Master == "" || len(s.Addresses) == 0 {
		return nil, errors.New("a sentinel needs a master and addresses; write: " +
			"'master mymaster' and 'addresses 10.0.0.1:26379 10.0.0.2:26379' in the block of sentinel")
	}
	for _, a := range s.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("sentinel address %q; write host:port, such as 10.0.0.1:26379", a)
		}
	}
	o := &host{Options: &goredis.Options{
		Network: "sentinel", Addr: s.Master, Username: s.Username, Password: s.Password, DB: s.Database,
	}}
	if encrypted {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o, nil
}

// maxPool bounds the connections of a pool: a client has so many ports towards a host, and the pool allocates a place
// for each connection.
const maxPool = 1<<16 - 1

// check returns an error for sizes out of bounds, and for backoff settings that contradict each other.
func (p Pool) check() error {
	for _, s := range []struct {
		name string
		n    int
	}{{"size", p.Size}, {"min_idle", p.MinIdle}, {"max_idle", p.MaxIdle}} {
		if s.n < 0 || s.n > maxPool {
			return fmt.Errorf("pool: %s: invalid number %d; use 1 to %d", s.name, s.n, maxPool)
		}
	}
	if p = p.WithDefaults(); p.MinBackoff > p.MaxBackoff {
		return errors.New("pool: min_backoff is above max_backoff; set a longer max_backoff")
	}
	return nil
}

// apply sets the options of the pooled client.
func (p Pool) apply(o *goredis.Options) {
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxRetries = -1 // A message that is sent again after an error can arrive twice.
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = p.DialTimeout, p.ReadTimeout, p.WriteTimeout
	override(&o.PoolSize, p.Size)
	override(&o.MinIdleConns, p.MinIdle)
	override(&o.MaxIdleConns, p.MaxIdle)
	override(&o.PoolTimeout, p.Wait)
	override(&o.ConnMaxIdleTime, p.MaxIdleTime)
	override(&o.ConnMaxLifetime, p.MaxLifetime)
}

// override sets to unless value is zero.
func override[T comparable](to *T, value T) {
	if value != *new(T) {
		*to = value
	}
}

// or replaces settings that are 0 by other settings.
func (p Pool) or(other Pool) Pool {
	fill(&p.Size, other.Size)
	fill(&p.MinIdle, other.MinIdle)
	fill(&p.MaxIdle, other.MaxIdle)
	fill(&p.DialTimeout, other.DialTimeout)
	fill(&p.ReadTimeout, other.ReadTimeout)
	fill(&p.WriteTimeout, other.WriteTimeout)
	fill(&p.Wait, other.Wait)
	fill(&p.MaxIdleTime, other.MaxIdleTime)
	fill(&p.MaxLifetime, other.MaxLifetime)
	return p
}

// fill replaces a zero value.
func fill[T comparable](to *T, value T) {
	if *to == *new(T) {
		*to = value
	}
}

// Route is a way to reach a host: a pooled client and a dialer.
type Route struct {
	Options *goredis.Options
	client  *goredis.Client
	Dial    func(ctx context.Context) (net.Conn, error) // outside the pool
	master  *master                                     // nil without Sentinel
	ignored []string                                    // options of the URL that mean nothing here
	quiet   atomic.Int64                                // until then (Unix seconds) the client's HELLO is not sent
}

// SkipHello keeps the pooled client from sending HELLO for a while, because the host hangs up at it.
func (r *Route) SkipHello() { r.quiet.Store(time.Now().Add(HelloPause).Unix()) }

// routes returns a route to every host. They connect when they are used.
func (h Hosts) routes() ([]*Route, error) {
	all, err := h.options()
	if err != nil {
		return nil, fmt.Errorf("channel_layer redis: %w", err)
	}
	list := make([]*Route, len(all))
	for i, o := range all {
		r := &Route{Options: o.Options, ignored: o.ignored}
		network, addr := o.Network, o.Addr
		dial := dialer(o.TLSConfig, o.tls, o.DialTimeout)
		r.Dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, network, addr) }
		o.Dialer, o.TLSConfig = dial, nil
		if len(h.Sentinels) > 0 {
			r.master = newMaster(h.Sentinels[i], dial)
			r.Dial = func(ctx context.Context) (net.Conn, error) { return r.master.connect(ctx, false) }
			o.Dialer = r.master.dialMaster
		}
		o.Dialer = guarded(o.Dialer, r)
		r.client = goredis.NewClient(o.Options)
		list[i] = r
	}
	return list, nil
}

// Addr names the host in messages.
func (r *Route) Addr() string {
	if r.master != nil {
		return r.master.String()
	}
	return r.Options.Addr
}

// Close closes the client and stops watching the master.
func (r *Route) close() {
	_ = r.client.Close()
	if r.master != nil {
		r.master.close()
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns a dialer that encrypts if config is not nil, with the details of t.
func dialer(config *tls.Config, t *TLS, timeout time.Duration) dialFunc {
	plain := &net.Dialer{Timeout: timeout}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := plain.DialContext(ctx, network, addr)
		if err != nil || config == nil {
			return conn, err
		}
		c := config.Clone()
		if c.ServerName == "" {
			c.ServerName, _, _ = net.SplitHostPort(addr)
		}
		if t != nil {
			if c, err = t.apply(c); err != nil {
				_ = conn.Close()
				return nil, err
			}
		}
		secure := tls.Client(conn, c)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("TLS with %s: %w", addr, err)
		}
		return secure, nil
	}
}
