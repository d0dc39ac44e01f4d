package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/units"
)

// unmarshal reads
//
//	backplane {
//		secret         <secret> [<previous>]
//		peers          <url>...
//		dialect        auto|broadcast|relay|edgerelay
//		emitters       awx|any
//		node_name      <name>
//		advertise      <url>
//		tls_ca         <file>...
//		tls_server_name <name>
//		tls_insecure_skip_verify
//		retry          <duration>
//		ping           <duration>
//		silence        <duration>
//		subscribe_wait <duration>
//		queue_per_peer <size>
//		frame_size     <size>
//		dns <name>[:<port>] {
//			scheme  http|https
//			port    <port>
//			dialect broadcast|relay
//			every   <duration>
//		}
//		redis <url> {
//			every <duration>
//		}
//		postgres <dsn> {
//			ip     <address>
//			scheme http|https
//			port   <port>
//			every  <duration>
//		}
//	}
func (b *Backplane) unmarshal(d *caddyfile.Dispenser) error {
	texts := map[string]*string{
		"dialect": &b.Dialect, "emitters": &b.Emitters, "node_name": &b.NodeName, "advertise": &b.Advertise,
		"tls_server_name": &b.TLSServerName,
	}
	times := map[string]*caddy.Duration{"retry": &b.Retry, "ping": &b.Ping, "silence": &b.Silence, "subscribe_wait": &b.SubscribeWait}
	sizes := map[string]*int{"queue_per_peer": &b.QueuePerPeer, "frame_size": &b.FrameSize}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		args := d.RemainingArgs()
		one := func() (string, error) {
			if len(args) != 1 {
				return "", d.Errf("%s takes one value", name)
			}
			return args[0], nil
		}
		var err error
		switch name {
		case "secret":
			if len(args) < 1 || len(args) > 2 {
				return d.Err("secret takes the secret and, while it is being exchanged, the previous one")
			}
			b.Secret = args[0]
			if len(args) == 2 {
				b.SecretPrevious = args[1]
			}
		case "peers":
			if len(args) == 0 {
				return d.Err("peers needs at least one URL, such as http://10.0.0.2")
			}
			b.Peers = append(b.Peers, args...)
		case "tls_ca":
			if len(args) == 0 {
				return d.Err("tls_ca needs at least one file")
			}
			b.TLSCA = append(b.TLSCA, args...)
		case "tls_insecure_skip_verify":
			if len(args) != 0 {
				return d.ArgErr()
			}
			b.TLSInsecureSkipVerify = true
		case "dns":
			var x DNSDiscovery
			if x.Name, err = one(); err == nil {
				err = unmarshalDiscovery(d, name, map[string]*string{"scheme": &x.Scheme, "dialect": &x.Dialect},
					&x.Port, &x.Every)
			}
			b.DNS = append(b.DNS, x)
		case "redis":
			var x RedisDiscovery
			if x.URL, err = one(); err == nil {
				err = unmarshalDiscovery(d, name, nil, nil, &x.Every)
			}
			b.Redis = append(b.Redis, x)
		case "postgres":
			var x PostgresDiscovery
			if x.DSN, err = one(); err == nil {
				err = unmarshalDiscovery(d, name, map[string]*string{"ip": &x.IP, "scheme": &x.Scheme}, &x.Port,
					&x.Every)
			}
			b.Postgres = append(b.Postgres, x)
		default:
			var value string
			if value, err = one(); err != nil {
				return err
			}
			if to := texts[name]; to != nil {
				*to = value
			} else if to := times[name]; to != nil {
				if *to, err = units.Duration(value); err != nil {
					return d.Errf("%s: %v", name, err)
				}
			} else if to := sizes[name]; to != nil {
				size, err := units.Size(value, units.MaxBuffer)
				if err != nil {
					return d.Errf("%s: %v", name, err)
				}
				*to = int(size)
			} else {
				return d.Errf("backplane has no setting %q; it has secret, peers, dialect, emitters, node_name, advertise, tls_ca, tls_server_name, tls_insecure_skip_verify, retry, ping, silence, subscribe_wait, queue_per_peer, frame_size, dns, redis and postgres", name)
			}
		}
		if err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// unmarshalDiscovery reads the block of a discovery: texts by their names, the port unless it is nil, and every.
func unmarshalDiscovery(d *caddyfile.Dispenser, kind string, texts map[string]*string, port *int, every *caddy.Duration) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one value", name)
		}
		var err error
		switch {
		case texts[name] != nil:
			*texts[name] = value
		case name == "port" && port != nil:
			*port, err = strconv.Atoi(value)
		case name == "every":
			*every, err = units.Duration(value)
		default:
			return d.Errf("%s has no setting %q", kind, name)
		}
		if err != nil {
			return d.Errf("%s: %v", name, err)
		}
	}
	return nil
}
