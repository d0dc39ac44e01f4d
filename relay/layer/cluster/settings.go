// Package cluster is a channel layer on Redis Cluster or Valkey, for sites without Python emitters. Each group is a
// channel of sharded pub/sub (Redis 7), so the load spreads over all masters. A node subscribes to each group once,
// whatever the number of clients. Redis keeps the events of groups with history only. Other events that are published
// while a subscription is interrupted are lost, and the layer reports the loss.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Settings are the settings of the layer. They must be equal on every node, except for credentials.
type Settings struct {
	// Addresses are some nodes of the cluster, host:port. They name the other nodes.
	Addresses []string
	// Prefix begins every channel name.
	Prefix string
	// Username and Password are valid on all nodes. Both may be empty.
	Username, Password string
	// TLS returns the configuration of a connection. Called per connection; nil: no TLS.
	TLS func() (*tls.Config, error)
}

// DefaultSettings returns settings for a cluster node on this machine.
func DefaultSettings() Settings {
	return Settings{Addresses: []string{"127.0.0.1:6379"}, Prefix: "edgerelay"}
}

// Place identifies the settings that cannot change under an open Broker. The text holds no secrets.
func (s Settings) Place() string {
	return fmt.Sprintf("redis_cluster %q %q %t", s.Addresses, s.Prefix, s.TLS != nil)
}

// Validate returns an error if the settings cannot be used.
func (s Settings) Validate() error {
	if len(s.Addresses) == 0 {
		return errors.New("channel_layer redis_cluster: no address; write: address 10.0.0.1:6379 10.0.0.2:6379")
	}
	for _, a := range s.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" || strings.Contains(a, "/") {
			return fmt.Errorf("channel_layer redis_cluster: address %q; write host:port, such as 10.0.0.1:6379", a)
		}
	}
	switch {
	case s.Prefix == "" || strings.ContainsAny(s.Prefix, " \r\n"):
		return errors.New("channel_layer redis_cluster: prefix is empty or has spaces")
	case strings.ContainsAny(s.Prefix, "{}"):
		return errors.New("channel_layer redis_cluster: braces in the prefix would put all groups on one node; " +
			"remove them")
	case s.Username != "" && s.Password == "":
		return errors.New("channel_layer redis_cluster: a username needs a password")
	}
	return nil
}

const (
	dialTimeout  = 3 * time.Second
	replyTimeout = 5 * time.Second
)

// newClient returns the client that publishes and that knows the nodes of the slots.
func (b *Broker) newClient() *goredis.ClusterClient {
	return goredis.NewClusterClient(&goredis.ClusterOptions{
		Addrs:                    b.place.Addresses,
		Dialer:                   b.dial,
		CredentialsProvider:      b.credentials,
		MaxRetries:               -1, // An event that is sent again can arrive twice.
		MaxRedirects:             -1,
		DialerRetries:            1,
		DialTimeout:              dialTimeout,
		ReadTimeout:              replyTimeout,
		WriteTimeout:             replyTimeout,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// credentials returns the current credentials.
func (b *Broker) credentials() (username, password string) {
	s := b.settings.Load()
	return s.Username, s.Password
}

// dial connects to a node.
func (s *Settings) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	plain := &net.Dialer{}
	if s.TLS == nil {
		return plain.DialContext(ctx, network, addr)
	}
	config, err := s.TLS()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, network, addr)
}

// Clients returns a client for each of the addresses, and a function that closes all clients. The clients serve checks
// of the nodes; the layer itself does not use them.
func (s *Settings) Clients() (list []*goredis.Client, closeAll func()) {
	for _, a := range s.Addresses {
		list = append(list, goredis.NewClient(&goredis.Options{
			Addr: a, Dialer: s.dial, Username: s.Username, Password: s.Password,
			MaxRetries: -1, DialerRetries: 1, ReadTimeout: replyTimeout, WriteTimeout: replyTimeout,
			ContextTimeoutEnabled: true, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}))
	}
	return list, func() {
		for _, c := range list {
			_ = c.Close()
		}
	}
}
