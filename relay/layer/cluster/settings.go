// Package sharded is a channel layer of our own on Redis Cluster or Valkey, for sites without Python emitters: each group is a channel
// of sharded pub/sub (Redis 7), so that the load spreads over all masters. A node listens once to each group, whatever the number of
// its clients. Nothing is kept in Redis: events sent while a subscription is interrupted are lost, and that it was is made known.
package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Settings of the layer. They must be the same on every node, but for credentials.
type Settings struct {
	// Addresses are some nodes of the cluster, host:port; the others are found by them.
	Addresses []string
	// Prefix begins every channel name.
	Prefix string
	// Username and Password are those of all nodes; both may be empty.
	Username, Password string
	// TLS returns the configuration of encrypted connections, anew for each; nil is a function for none.
	TLS func() (*tls.Config, error)
}

// DefaultSettings are those of a node on the local host.
func DefaultSettings() Settings {
	return Settings{Addresses: []string{"127.0.0.1:6379"}, Prefix: "edgerelay"}
}

// Place identifies what cannot change under an open Broker.
func (s Settings) Place() string {
	return fmt.Sprintf("redis_cluster %q %q %t", s.Addresses, s.Prefix, s.TLS != nil)
}

// Validate says what is wrong with the settings, if anything.
func (s Settings) Validate() error {
	if len(s.Addresses) == 0 {
		return errors.New("channel_layer redis_cluster: no address; write: address 10.0.0.1:6379 10.0.0.2:6379")
	}
	for _, a := range s.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" || strings.Contains(a, "/") {
			return fmt.Errorf("channel_layer redis_cluster: the address %q is not host:port; write it like 10.0.0.1:6379", a)
		}
	}
	switch {
	case s.Prefix == "" || strings.ContainsAny(s.Prefix, " \r\n"):
		return errors.New("channel_layer redis_cluster: prefix must not be empty and has no spaces")
	case strings.ContainsAny(s.Prefix, "{}"):
		return errors.New("channel_layer redis_cluster: braces in the prefix would put all groups on one node of the cluster; leave them out")
	case s.Username != "" && s.Password == "":
		return errors.New("channel_layer redis_cluster: a username needs a password")
	}
	return nil
}

const (
	dialWait  = 3 * time.Second
	replyWait = 5 * time.Second
)

// client is what publishes, and knows which node has which slot.
func (b *Broker) newClient() *goredis.ClusterClient {
	return goredis.NewClusterClient(&goredis.ClusterOptions{
		Addrs:                    b.place.Addresses,
		Dialer:                   b.dial,
		CredentialsProvider:      b.credentials,
		MaxRetries:               -1, // what is sent again blindly can arrive twice
		MaxRedirects:             -1,
		DialerRetries:            1,
		DialTimeout:              dialWait,
		ReadTimeout:              replyWait,
		WriteTimeout:             replyWait,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// credentials are those in force.
func (b *Broker) credentials() (username, password string) {
	s := b.settings.Load()
	return s.Username, s.Password
}
