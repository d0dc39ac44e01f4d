package layers

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// redisOptions are the settings of RedisCommon, for messages.
const redisOptions = "url, sentinel, tls, pool, prefix, serializer, symmetric_encryption_keys"

// RedisCommon is what both channel layers of channels_redis have. Placeholders such as {env.REDIS_URL} are replaced in
// addresses, names, passwords, keys and file names.
type RedisCommon struct {
	// URLs are the hosts: redis://, rediss:// or unix://; several make the ring of channels_redis.
	URLs []string `json:"urls,omitempty"`
	// Sentinels are masters that Redis Sentinel watches, in place of URLs.
	Sentinels []RedisSentinel `json:"sentinels,omitempty"`
	// TLS has the details of encrypted connections.
	TLS *RedisTLS `json:"tls,omitempty"`
	// Pool has the timeouts, sizes and retries of the Redis client.
	Pool *RedisPool `json:"pool,omitempty"`
	// Prefix begins every key. Default: asgi.
	Prefix string `json:"prefix,omitempty"`
	// Serializer is "msgpack" (default) or "json".
	Serializer string `json:"serializer,omitempty"`
	// SymmetricEncryptionKeys encrypt messages: the first does, each decrypts. Write placeholders, not the keys.
	SymmetricEncryptionKeys []string `json:"symmetric_encryption_keys,omitempty"`
}

// RedisSentinel is a master that Redis Sentinel watches.
type RedisSentinel struct {
	// Master is its name.
	Master string `json:"master"`
	// Addresses are those of the sentinels.
	Addresses []string `json:"addresses"`
	// Username, Password and Database are those of the master.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Database int    `json:"database,omitempty"`
	// SentinelUsername and SentinelPassword are those of the sentinels.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`
}

// RedisTLS has the details of encrypted connections to Redis. The files are read anew for each connection.
type RedisTLS struct {
	// CA is a file of certificates that sign the server's. Default: those of the system.
	CA string `json:"ca,omitempty"`
	// Cert and Key are the files of the client's certificate.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// ServerName is the name in the server's certificate. Default: the host that is dialled.
	ServerName string `json:"server_name,omitempty"`
	// InsecureSkipVerify takes any certificate: for experiments.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`
}

// RedisPool has settings of the Redis client.
type RedisPool struct {
	// Size is how many connections there are at most for each host. Default: 10 for each processor. MinIdle and MaxIdle of them may wait unused.
	Size    int `json:"size,omitempty"`
	MinIdle int `json:"min_idle,omitempty"`
	MaxIdle int `json:"max_idle,omitempty"`
	// DialTimeout, ReadTimeout and WriteTimeout bound one step. Defaults: 3s, 5s, 5s.
	DialTimeout  caddy.Duration `json:"dial_timeout,omitempty"`
	ReadTimeout  caddy.Duration `json:"read_timeout,omitempty"`
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`
	// Wait bounds the wait for a free connection. Default: one second more than read_timeout.
	Wait caddy.Duration `json:"wait,omitempty"`
	// MaxIdleTime and MaxLifetime end connections. Defaults: 30m, never.
	MaxIdleTime caddy.Duration `json:"max_idle_time,omitempty"`
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`
	// Retries is how often what changes nothing is tried again, MinBackoff to MaxBackoff apart. Defaults: 3, 8ms, 512ms.
	// Sending is never tried again: an event might arrive twice.
	Retries    *int           `json:"retries,omitempty"`
	MinBackoff caddy.Duration `json:"min_backoff,omitempty"`
	MaxBackoff caddy.Duration `json:"max_backoff,omitempty"`
}

// expand replaces placeholders. Without hosts it keeps those given.
func (c *RedisCommon) expand(defaults redis.Hosts) (h redis.Hosts, keys []string, err error) {
	replaced := placeholders.New()
	if len(c.URLs) == 0 && len(c.Sentinels) == 0 {
		h.URLs = defaults.URLs
	}
	for _, u := range c.URLs {
		h.URLs = append(h.URLs, replaced.In("url", u))
	}
	for _, s := range c.Sentinels {
		to := redis.Sentinel{
			Master: replaced.In("sentinel: master", s.Master), Database: s.Database,
			Username: replaced.In("sentinel: username", s.Username), Password: replaced.In("sentinel: password", s.Password),
			SentinelUsername: replaced.In("sentinel: sentinel_username", s.SentinelUsername), SentinelPassword: replaced.In("sentinel: sentinel_password", s.SentinelPassword),
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
			DialTimeout: time.Duration(p.DialTimeout), ReadTimeout: time.Duration(p.ReadTimeout), WriteTimeout: time.Duration(p.WriteTimeout),
			Wait: time.Duration(p.Wait), MaxIdleTime: time.Duration(p.MaxIdleTime), MaxLifetime: time.Duration(p.MaxLifetime),
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
	return h, keys, replaced.Err()
}

// settings are those of package redis, placeholders replaced.
func (t *RedisTLS) settings(replaced *placeholders.Replacer) *redis.TLS {
	return &redis.TLS{
		CA: replaced.In("tls: ca", t.CA), Cert: replaced.In("tls: cert", t.Cert), Key: replaced.In("tls: key", t.Key),
		ServerName: replaced.In("tls: server_name", t.ServerName), Insecure: t.InsecureSkipVerify,
	}
}

// unmarshalOption takes one of redisOptions, and returns false for what is none of these.
func (c *RedisCommon) unmarshalOption(d *caddyfile.Dispenser) (known bool, err error) {
	switch name := d.Val(); name {
	case "url":
		urls := d.RemainingArgs()
		if len(urls) == 0 {
			return true, d.Err("url takes at least one url, such as redis://127.0.0.1:6379/0")
		}
		c.URLs = append(c.URLs, urls...)
	case "symmetric_encryption_keys":
		keys := d.RemainingArgs()
		if len(keys) == 0 {
			return true, d.Err("symmetric_encryption_keys takes at least one key, such as {env.CHANNELS_KEY}")
		}
		c.SymmetricEncryptionKeys = append(c.SymmetricEncryptionKeys, keys...)
	case "prefix":
		err = oneValue(d, &c.Prefix)
	case "serializer":
		err = oneValue(d, &c.Serializer)
	case "sentinel":
		var masters []RedisSentinel
		masters, err = parseSentinel(d)
		c.Sentinels = append(c.Sentinels, masters...)
	case "tls":
		if c.TLS == nil {
			c.TLS = &RedisTLS{}
		}
		err = c.TLS.unmarshal(d)
	case "pool":
		if c.Pool == nil {
			c.Pool = &RedisPool{}
		}
		err = c.Pool.unmarshal(d)
	default:
		return false, nil
	}
	return true, err
}

// oneValue reads the one argument of a setting.
func oneValue(d *caddyfile.Dispenser, to *string) error {
	name := d.Val()
	if !d.AllArgs(to) {
		return d.Errf("%s takes one value", name)
	}
	return nil
}

// parseSentinel reads
//
//	sentinel {
//		master            <name>...
//		addresses         <host:port>...
//		username          <name>
//		password          <password>
//		database          <number>
//		sentinel_username <name>
//		sentinel_password <password>
//	}
func parseSentinel(d *caddyfile.Dispenser) (list []RedisSentinel, err error) {
	if d.NextArg() {
		return nil, d.Err("sentinel takes a block: sentinel { master mymaster; addresses 10.0.0.1:26379 10.0.0.2:26379 }, each on a line")
	}
	var masters []string
	s := RedisSentinel{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch name := d.Val(); name {
		case "master":
			masters = append(masters, d.RemainingArgs()...)
		case "addresses":
			s.Addresses = append(s.Addresses, d.RemainingArgs()...)
		case "username":
			err = oneValue(d, &s.Username)
		case "password":
			err = oneValue(d, &s.Password)
		case "sentinel_username":
			err = oneValue(d, &s.SentinelUsername)
		case "sentinel_password":
			err = oneValue(d, &s.SentinelPassword)
		case "database":
			err = number(d, &s.Database)
		default:
			err = d.Errf("sentinel has no setting %q; it has master, addresses, username, password, database, sentinel_username and sentinel_password", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(masters) == 0 || len(s.Addresses) == 0 {
		return nil, d.Err("sentinel needs a master and addresses, such as: master mymaster, and: addresses 10.0.0.1:26379 10.0.0.2:26379")
	}
	for _, m := range masters {
		s.Master = m
		list = append(list, s)
	}
	return list, nil
}

// unmarshal reads
//
//	tls {
//		ca          <file>
//		cert        <file>
//		key         <file>
//		server_name <name>
//		insecure_skip_verify
//	}
func (t *RedisTLS) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Err("tls takes a block: tls { ca /etc/redis/ca.pem }, each on a line")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch name := d.Val(); name {
		case "ca":
			err = oneValue(d, &t.CA)
		case "cert":
			err = oneValue(d, &t.Cert)
		case "key":
			err = oneValue(d, &t.Key)
		case "server_name":
			err = oneValue(d, &t.ServerName)
		case "insecure_skip_verify":
			if t.InsecureSkipVerify = true; d.NextArg() {
				err = d.Err("insecure_skip_verify takes no value")
			}
		default:
			err = d.Errf("tls has no setting %q; it has ca, cert, key, server_name and insecure_skip_verify", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unmarshal reads
//
//	pool {
//		size          <number>
//		min_idle      <number>
//		max_idle      <number>
//		dial_timeout  <duration>
//		read_timeout  <duration>
//		write_timeout <duration>
//		wait          <duration>
//		max_idle_time <duration>
//		max_lifetime  <duration>
//		retries       <number>
//		min_backoff   <duration>
//		max_backoff   <duration>
//	}
func (p *RedisPool) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Err("pool takes a block: pool { size 20 }, each on a line")
	}
	numbers := map[string]*int{"size": &p.Size, "min_idle": &p.MinIdle, "max_idle": &p.MaxIdle}
	times := map[string]*caddy.Duration{
		"dial_timeout": &p.DialTimeout, "read_timeout": &p.ReadTimeout, "write_timeout": &p.WriteTimeout, "wait": &p.Wait,
		"max_idle_time": &p.MaxIdleTime, "max_lifetime": &p.MaxLifetime, "min_backoff": &p.MinBackoff, "max_backoff": &p.MaxBackoff,
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		var err error
		switch {
		case name == "retries":
			p.Retries = new(int)
			err = number(d, p.Retries)
		case numbers[name] != nil:
			err = number(d, numbers[name])
		case times[name] != nil:
			var text string
			if err = oneValue(d, &text); err == nil {
				if *times[name], err = settings.PositiveDuration(text); err != nil {
					err = d.Errf("%s: %v", name, err)
				}
			}
		default:
			err = d.Errf("pool has no setting %q; it has size, min_idle, max_idle, dial_timeout, read_timeout, write_timeout, wait, max_idle_time, max_lifetime, retries, min_backoff and max_backoff", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// number reads the one argument of a setting, 0 or more.
func number(d *caddyfile.Dispenser, to *int) error {
	name := d.Val()
	var text string
	if err := oneValue(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return d.Errf("%s takes a number, 0 or more, not %q", name, text)
	}
	*to = n
	return nil
}
