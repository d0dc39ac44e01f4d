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

// Hosts are the servers of a channel layer, and how they are reached. Several make the ring of channels_redis, in this order.
type Hosts struct {
	// URLs are redis://, rediss:// or unix://, with user, password and database.
	URLs []string
	// Sentinels are masters that Redis Sentinel knows, in place of URLs.
	Sentinels []Sentinel
	// TLS has the details of encrypted connections: to rediss:// URLs, or to the Sentinels and their masters. nil: the defaults of
	// rediss://, none for Sentinels.
	TLS *TLS
	// Pool has the client's timeouts, sizes and retries.
	Pool Pool
}

// Sentinel is one master that Redis Sentinel watches.
type Sentinel struct {
	// Master is its name there.
	Master string
	// Addresses are those of the sentinels, host:port.
	Addresses []string
	// Username, Password and Database are those of the master.
	Username, Password string
	Database           int
	// SentinelUsername and SentinelPassword are those of the sentinels themselves.
	SentinelUsername, SentinelPassword string
}

// Pool has settings of the Redis client; what is 0 has its default. Sending a message is never tried again, whatever they
// say: it might arrive twice.
type Pool struct {
	// Size is how many connections there are at most for each host (default: 10 for each processor); MinIdle and MaxIdle of these may wait unused.
	Size, MinIdle, MaxIdle int
	// DialTimeout (3s), ReadTimeout (5s) and WriteTimeout (5s) bound one step; Wait bounds the wait for a free connection.
	DialTimeout, ReadTimeout, WriteTimeout, Wait time.Duration
	// MaxIdleTime (30m) and MaxLifetime (no bound) end connections.
	MaxIdleTime, MaxLifetime time.Duration
	// Retries (3) is how often what changes nothing is tried again, MinBackoff (8ms) to MaxBackoff (512ms) apart.
	Retries                int
	MinBackoff, MaxBackoff time.Duration
}

// withDefaults fills in what is 0.
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

// backoff is how long to wait before the given repetition, the first being 0.
func (p Pool) Backoff(attempt int) time.Duration {
	return min(p.MinBackoff<<min(attempt, 20), p.MaxBackoff)
}

// size is how many hosts there are.
func (h Hosts) size() int { return len(h.URLs) + len(h.Sentinels) }

// place names the databases that hold the layer, without who reads them and how. Masters of one name are told apart by their first sentinel.
func (h Hosts) Place() string {
	var b strings.Builder
	all, _ := h.Options()
	for i, o := range all {
		fmt.Fprintf(&b, "%s %q %d, ", o.Network, o.Addr, o.DB)
		if len(h.Sentinels) > 0 {
			fmt.Fprintf(&b, "%q, ", h.Sentinels[i].Addresses[0])
		}
	}
	return b.String()
}

// options are those of every host. That of a Sentinel has network "sentinel" and the master's name as its address.
func (h Hosts) Options() ([]*host, error) {
	var list []*host
	switch {
	case h.size() == 0:
		return nil, errors.New("no host; write: url redis://127.0.0.1:6379/0")
	case len(h.URLs) > 0 && len(h.Sentinels) > 0:
		return nil, errors.New("url and sentinel exclude each other: a ring is either of urls or of masters")
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
		if s.Master == "" || len(s.Addresses) == 0 {
			return nil, errors.New("a sentinel needs a master and addresses; write: sentinel { master mymaster; addresses 10.0.0.1:26379 10.0.0.2:26379 }, each on a line")
		}
		for _, a := range s.Addresses {
			if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
				return nil, fmt.Errorf("sentinel address %q; write host:port, such as 10.0.0.1:26379", a)
			}
		}
		o := &host{Options: &goredis.Options{
			Network: "sentinel", Addr: s.Master, Username: s.Username, Password: s.Password, DB: s.Database,
		}}
		if h.TLS != nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		list = append(list, o)
	}
	if h.TLS != nil {
		if !encrypted {
			return nil, errors.New("there is a tls block, but no url begins with rediss://")
		}
	}
	if pool := h.Pool.WithDefaults(); pool.MinBackoff > pool.MaxBackoff {
		return nil, errors.New("pool: min_backoff is above max_backoff")
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

func (p Pool) apply(o *goredis.Options) {
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxRetries = -1 // a message whose sending is retried blindly can arrive twice
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = p.DialTimeout, p.ReadTimeout, p.WriteTimeout
	set := func(to *int, n int) {
		if n != 0 {
			*to = n
		}
	}
	set(&o.PoolSize, p.Size)
	set(&o.MinIdleConns, p.MinIdle)
	set(&o.MaxIdleConns, p.MaxIdle)
	setTime := func(to *time.Duration, d time.Duration) {
		if d != 0 {
			*to = d
		}
	}
	setTime(&o.PoolTimeout, p.Wait)
	setTime(&o.ConnMaxIdleTime, p.MaxIdleTime)
	setTime(&o.ConnMaxLifetime, p.MaxLifetime)
}

// or fills in what is 0 from other settings.
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

// fill sets what is not set.
func fill[T comparable](to *T, value T) {
	if *to == *new(T) {
		*to = value
	}
}

// route is one way to reach a host: a client, and the dialer that it uses.
type Route struct {
	Options *goredis.Options
	client  *goredis.Client
	Dial    func(ctx context.Context) (net.Conn, error) // for links
	master  *master                                     // nil without Sentinel
	ignored []string                                    // options of the URL that mean nothing here
	quiet   atomic.Int64                                // until when (Unix seconds) the client's HELLO is not sent
}

// skipHello keeps the client from sending HELLO for a while: the host hangs up at it.
func (r *Route) SkipHello() { r.quiet.Store(time.Now().Add(WithoutHello).Unix()) }

// routes connects to nothing yet.
func (h Hosts) routes() ([]*Route, error) {
	all, err := h.Options()
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
			r.Dial = func(ctx context.Context) (net.Conn, error) { return r.master.connect(ctx, true) }
			o.Dialer = r.master.dialMaster
		}
		o.Dialer = guarded(o.Dialer, r)
		r.client = goredis.NewClient(o.Options)
		list[i] = r
	}
	return list, nil
}

// addr names the host for people.
func (r *Route) Addr() string {
	if r.master != nil {
		return r.master.String()
	}
	return r.Options.Addr
}

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
