package peers

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/redis/go-redis/v9"
)

// RedisCluster is a Redis Cluster of real servers. Each master has an equal part of the slots.
type RedisCluster struct {
	Masters []*Redis
	// Replicas holds one replica of each of the first masters.
	Replicas []*Redis
	// TLS holds the addresses for encrypted connections, if configured by arguments.
	TLS []string

	t     testing.TB
	buses map[*Redis]int
}

// clusterSlots is the number of slots of every cluster.
const clusterSlots = 16384

// StartRedisCluster starts a cluster and waits until all nodes agree on its state. Further arguments go to each server;
// "{tls-port}" stands for another free port.
func StartRedisCluster(t testing.TB, masters, replicas int, args ...string) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t, buses: map[*Redis]int{}}
	start := func() *Redis {
		bus := testkit.FreePort(t)
		own := slices.Clone(args)
		if i := slices.Index(own, "{tls-port}"); i >= 0 {
			port := testkit.FreePort(t)
			own[i] = strconv.Itoa(port)
			c.TLS = append(c.TLS, testkit.Loopback(port))
		}
		r := StartRedis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "1500", "--cluster-require-full-coverage", "no",
		}, own...)...)
		c.buses[r] = bus
		return r
	}
	for i := range masters {
		m := start()
		c.Masters = append(c.Masters, m)
		m.Do("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/masters, (i+1)*clusterSlots/masters-1)
		m.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for range replicas {
		c.Replicas = append(c.Replicas, start())
	}
	for i, r := range c.nodes()[1:] {
		port := strconv.Itoa(r.port)
		if len(c.TLS) > 0 {
			_, port, _ = strings.Cut(c.TLS[i+1], ":")
		}
		c.Masters[0].Do("CLUSTER", "MEET", "127.0.0.1", port, c.buses[r])
	}
	c.agree(masters, 0)
	for i, r := range c.Replicas {
		r.Do("CLUSTER", "REPLICATE", c.ID(c.Masters[i]))
	}
	c.agree(masters, replicas)
	return c
}

func (c *RedisCluster) nodes() []*Redis {
	return append(c.Masters[:len(c.Masters):len(c.Masters)], c.Replicas...)
}

// agree waits until every node knows all masters and replicas and reports a healthy cluster.
func (c *RedisCluster) agree(masters, replicas int) {
	c.t.Helper()
	testkit.Eventually(c.t, "the cluster to be complete", func() error {
		for _, r := range c.nodes() {
			info, nodes := r.Do("CLUSTER", "INFO").(string), r.Do("CLUSTER", "NODES").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_assigned:16384") ||
				strings.Count(nodes, "\n") != len(c.nodes()) || strings.Contains(nodes, "handshake") ||
				strings.Count(nodes, "slave ") != replicas {
				return fmt.Errorf("%s\n%s", info, nodes)
			}
		}
		return nil
	})
	if replicas == 0 {
		return
	}
	testkit.Eventually(c.t, "the replicas to follow", func() error {
		for _, r := range c.Replicas {
			if info := r.Do("INFO", "replication").(string); !strings.Contains(info, "master_link_status:up") {
				return fmt.Errorf("%s", info)
			}
		}
		return nil
	})
}

// ID returns the name of a node in the cluster.
func (c *RedisCluster) ID(r *Redis) string {
	c.t.Helper()
	return r.Do("CLUSTER", "MYID").(string)
}

// Addresses returns the addresses of all masters.
func (c *RedisCluster) Addresses() []string {
	list := make([]string, len(c.Masters))
	for i, m := range c.Masters {
		list[i] = m.Addr
	}
	return list
}

// Slot returns the slot of a key.
func (c *RedisCluster) Slot(key string) int {
	c.t.Helper()
	return int(c.Masters[0].Do("CLUSTER", "KEYSLOT", key).(int64))
}

// Owner returns the number of the master of a slot, according to one of the masters.
func (c *RedisCluster) Owner(slot int) int {
	c.t.Helper()
	client := c.Masters[0].Client()
	defer client.Close()
	shards, err := client.ClusterShards(context.Background()).Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, shard := range shards {
		if !slices.ContainsFunc(shard.Slots,
			func(r redis.SlotRange) bool { return int64(slot) >= r.Start && int64(slot) <= r.End }) {
			continue
		}
		for _, n := range shard.Nodes {
			addr := net.JoinHostPort(n.IP, strconv.FormatInt(n.Port, 10))
			if i := slices.IndexFunc(c.Masters, func(m *Redis) bool { return m.Addr == addr }); i >= 0 &&
				n.Role == "master" {
				return i
			}
		}
	}
	return -1
}

// Move gives a slot to another master with its keys, as resharding does.
func (c *RedisCluster) Move(slot, to int) {
	c.t.Helper()
	from := c.Owner(slot)
	source, target := c.ID(c.Masters[from]), c.ID(c.Masters[to])
	c.Masters[to].Do("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
	c.Masters[from].Do("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
	for {
		keys := c.Masters[from].Do("CLUSTER", "GETKEYSINSLOT", slot, 100).([]any)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", "127.0.0.1", strconv.Itoa(c.Masters[to].port), "", 0, 5000, "KEYS"}
		c.Masters[from].Do(append(args, keys...)...)
	}
	for _, i := range []int{to, from} {
		c.Masters[i].Do("CLUSTER", "SETSLOT", slot, "NODE", target)
	}
	for i, m := range c.Masters {
		if i != to && i != from {
			m.Do("CLUSTER", "SETSLOT", slot, "NODE", target)
		}
	}
}

// Client returns a client of the cluster; the caller closes it.
func (c *RedisCluster) Client() *redis.ClusterClient {
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses(), DisableIdentity: true})
}
