package layers

import (
	"fmt"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// RedisCommon has the settings that both channel layers of channels_redis share. Placeholders such as {env.REDIS_URL}
// are replaced in addresses, names, the prefix, passwords, keys and file names.
type RedisCommon struct {
	// URLs are the hosts: redis://, rediss:// or unix://; several make the ring of channels_redis.
	URLs []string `json:"url,omitempty" caddyfile:"<url>..." example:"redis://127.0.0.1:6379/0"`
	// Sentinels are masters that Redis Sentinel watches, in place of URLs.
	Sentinels []RedisSentinel `json:"sentinel,omitempty" caddyfile:"{ … }"`
	// TLS has the details of encrypted connections.
	TLS *RedisTLS `json:"tls,omitempty" caddyfile:"{ … }"`
	// Pool has the timeouts, sizes and retries of the Redis client.
	Pool *RedisPool `json:"pool,omitempty" caddyfile:"{ … }"`
	// Prefix begins every key. Default: asgi.
	Prefix string `json:"prefix,omitempty" caddyfile:"<prefix>"`
	// Serializer is "msgpack" (default) or "json".
	Serializer string `json:"serializer,omitempty" caddyfile:"msgpack|json"`
	// SymmetricEncryptionKeys encrypt messages with the first key, and decrypt with any key. Write placeholders, not
	// the keys.
	SymmetricEncryptionKeys []string `json:"symmetric_encryption_keys,omitempty" caddyfile:"<key>..." example:"{env.CHANNELS_KEY}"`
}

// RedisSentinel is a master that Redis Sentinel watches.
type RedisSentinel struct {
	// Master is the name of the master.
	Master string `json:"master"`
	// Addresses are the addresses of the sentinels.
	Addresses []string `json:"addresses" caddyfile:"<host:port>..."`
	// Username is the user of the master.
	Username string `json:"username,omitempty" caddyfile:"<name>"`
	// Password is the password of the master.
	Password string `json:"password,omitempty" caddyfile:"<password>"`
	// Database is the number of the master's database. Default: 0.
	Database int `json:"database,omitempty" caddyfile:"<number>"`
	// SentinelUsername is the user of the sentinels.
	SentinelUsername string `json:"sentinel_username,omitempty" caddyfile:"<name>"`
	// SentinelPassword is the password of the sentinels.
	SentinelPassword string `json:"sentinel_password,omitempty" caddyfile:"<password>"`
}

// RedisTLS has the details of encrypted connections to Redis. Each connection reads the files again.
type RedisTLS struct {
	// CA is a file of certificates to trust. Default: the system's.
	CA string `json:"ca,omitempty" caddyfile:"<file>"`
	// Cert is the file of the client's certificate. Default: none.
	Cert string `json:"cert,omitempty" caddyfile:"<file>"`
	// Key is the file of the client certificate's key.
	Key string `json:"key,omitempty" caddyfile:"<file>"`
	// ServerName is the name in the server's certificate. Default: the dialed host.
	ServerName string `json:"server_name,omitempty" caddyfile:"<name>"`
	// InsecureSkipVerify accepts any certificate: for experiments.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" caddyfile:"-"`
}

// RedisPool has settings of the Redis client.
type RedisPool struct {
	// Size is the number of connections that each host may have, at most 65535. Default: 10 for each processor.
	Size int `json:"size,omitempty" caddyfile:"<number>" max:"65535"`
	// MinIdle is the number of connections that stay open unused. Default: 0.
	MinIdle int `json:"min_idle,omitempty" caddyfile:"<number>" max:"65535"`
	// MaxIdle is the number of connections that may be open unused. Default: no limit.
	MaxIdle int `json:"max_idle,omitempty" caddyfile:"<number>" max:"65535"`
	// DialTimeout bounds the opening of a connection. Default: 3s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// ReadTimeout bounds the wait for a response. Default: 5s.
	ReadTimeout caddy.Duration `json:"read_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// WriteTimeout bounds the sending of commands. Default: 5s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Wait bounds the wait for a free connection. Default: one second more than read_timeout.
	Wait caddy.Duration `json:"wait,omitempty" caddyfile:"<duration>" min:"1"`
	// MaxIdleTime is the time after which an unused connection is closed. Default: 30m.
	MaxIdleTime caddy.Duration `json:"max_idle_time,omitempty" caddyfile:"<duration>" min:"1"`
	// MaxLifetime is the time after which any connection is closed. Default: never.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty" caddyfile:"<duration>" min:"1"`
	// Retries is the number of times that a read-only command is repeated. A send is never repeated, because the event
	// might arrive twice. Default: 3.
	Retries *int `json:"retries,omitempty" caddyfile:"<number>"`
	// MinBackoff is the shortest pause before a repetition. Default: 8ms.
	MinBackoff caddy.Duration `json:"min_backoff,omitempty" caddyfile:"<duration>" min:"1"`
	// MaxBackoff is the longest pause before a repetition. Default: 512ms.
	MaxBackoff caddy.Duration `json:"max_backoff,omitempty" caddyfile:"<duration>" min:"1"`
}

// placeholder is a placeholder in a prefix.
var placeholder = regexp.MustCompile(`\{(env|file)\.[^{}]+\}`)

// prefixIn replaces the placeholders of a prefix. Other braces are a part of it, such as the hash tag of a cluster
// behind a proxy.
func prefixIn(replaced *placeholders.Replacer, prefix string) string {
	return placeholder.ReplaceAllStringFunc(prefix, func(found string) string { return replaced.In("prefix", found) })
}

// expand replaces placeholders. Without configured hosts, the hosts of defaults apply; without a prefix, prefix stays.
func (c *RedisCommon) expand(defaults redis.Hosts, prefix *string) (h redis.Hosts, keys []string, err error) {
	replaced := placeholders.New()
	if c.Prefix != "" {
		*prefix = prefixIn(replaced, c.Prefix)
	}
	if len(c.URLs) == 0 && len(c.Sentinels) == 0 {
		h.URLs = defaults.URLs
	}
	for _, u := range c.URLs {
		h.URLs = append(h.URLs, replaced.In("url", u))
	}
	for _, s := range c.Sentinels {
		to := redis.Sentinel{
			Master: replaced.In("sentinel: master", s.Master), Database: s.Database,
			Username:         replaced.In("sentinel: username", s.Username),
			Password:         replaced.In("sentinel: password", s.Password),
			SentinelUsername: replaced.In("sentinel: sentinel_username", s.SentinelUsername),
			SentinelPassword: replaced.In("sentinel: sentinel_password", s.SentinelPassword),
		}
		for _, a := range s.Addresses {
			to.Addresses = append(to.Addresses, replaced.In("sentinel: addresses", a))
		}
		h.Sentinels = append(h.Sentinels, to)
	}
	if t := c.TLS; t != nil {
		h.TLS = t.settings(replaced)
	}
	if p := c.Pool; p != nil {
		h.Pool = redis.Pool{
			Size: p.Size, MinIdle: p.MinIdle, MaxIdle: p.MaxIdle,
			DialTimeout: time.Duration(p.DialTimeout), ReadTimeout: time.Duration(p.ReadTimeout),
			WriteTimeout: time.Duration(p.WriteTimeout), Wait: time.Duration(p.Wait),
			MaxIdleTime: time.Duration(p.MaxIdleTime), MaxLifetime: time.Duration(p.MaxLifetime),
			MinBackoff: time.Duration(p.MinBackoff), MaxBackoff: time.Duration(p.MaxBackoff),
		}
		if p.Retries != nil {
			if h.Pool.Retries = *p.Retries; *p.Retries == 0 {
				h.Pool.Retries = -1
			}
		}
	}
	for _, k := range c.SymmetricEncryptionKeys {
		keys = append(keys, replaced.In("symmetric_encryption_keys", k))
	}
	if err := replaced.Err(); err != nil {
		return h, keys, err
	}
	for _, s := range h.Sentinels {
		for _, a := range s.Addresses {
			if err := settings.CheckHostPort(a); err != nil {
				return h, keys, fmt.Errorf("sentinel: addresses: %w", err)
			}
		}
	}
	return h, keys, nil
}

// settings returns the settings of package redis, placeholders replaced.
func (t *RedisTLS) settings(replaced *placeholders.Replacer) *redis.TLS {
	return &redis.TLS{
		CA: replaced.In("tls: ca", t.CA), Cert: replaced.In("tls: cert", t.Cert), Key: replaced.In("tls: key", t.Key),
		ServerName: replaced.In("tls: server_name", t.ServerName), Insecure: t.InsecureSkipVerify,
	}
}

// readSentinel reads `sentinel { … }`. Several masters share the other settings.
func readSentinel(d *caddyfile.Dispenser) (list []RedisSentinel, err error) {
	if d.NextArg() {
		return nil, d.Err("sentinel takes a block: " +
			"'master mymaster' and 'addresses 10.0.0.1:26379 10.0.0.2:26379' in braces, each on a line of its own")
	}
	var block struct {
		Masters []string `json:"master" caddyfile:"<name>..."`
		RedisSentinel
	}
	if err := settings.Read(d, "sentinel", &block); err != nil {
		return nil, err
	}
	if len(block.Masters) == 0 || len(block.Addresses) == 0 {
		return nil, d.Err("sentinel needs a master and addresses, such as: " +
			"master mymaster, and: addresses 10.0.0.1:26379 10.0.0.2:26379")
	}
	for _, m := range block.Masters {
		s := block.RedisSentinel
		s.Master = m
		list = append(list, s)
	}
	return list, nil
}

// ReadSetting implements [settings.Reader] for sentinels.
func (c *RedisCommon) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "sentinel" {
		return false, nil
	}
	masters, err := readSentinel(d)
	c.Sentinels = append(c.Sentinels, masters...)
	return true, err
}
