package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/redis/go-redis/v9"
)

// Sentinels are real Redis Sentinels that watch a master with replicas.
type Sentinels struct {
	// Name is the name of the master; Addrs are the addresses of the sentinels.
	Name  string
	Addrs []string

	t         testing.TB
	password  string
	processes []*process.Process
}

// StartSentinels starts n sentinels that watch master under the name, and waits until the sentinels know each other and
// the replicas. A master has failed after half a second without an answer. A password that is not empty is required.
// The lines are added to the configuration of each sentinel.
func StartSentinels(t testing.TB, name string, master *Redis, replicas, n int, password string,
	lines ...string,
) *Sentinels {
	t.Helper()
	s := &Sentinels{Name: name, t: t, password: password}
	if password != "" {
		lines = append(lines, "requirepass "+password)
	}
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		own := testkit.FreePort(t)
		dir := t.TempDir()
		config := filepath.Join(dir, "sentinel.conf")
		text := append([]string{
			fmt.Sprintf("port %d", own), "bind 127.0.0.1", "dir " + dir,
			fmt.Sprintf("sentinel monitor %s %s %s %d", name, host, port, n/2+1),
			fmt.Sprintf("sentinel down-after-milliseconds %s 500", name),
			fmt.Sprintf("sentinel failover-timeout %s 4000", name),
		}, lines...)
		if err := os.WriteFile(config, []byte(strings.Join(text, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.processes = append(s.processes,
			process.Start(t, "redis-sentinel", exec.Command(process.Program(t, "redis-server"), config, "--sentinel")))
		s.Addrs = append(s.Addrs, testkit.Loopback(own))
	}
	for i, p := range s.processes {
		p.Ready(t, func() error {
			info, err := s.ask(i)
			if err != nil {
				return err
			}
			if info["num-other-sentinels"] != fmt.Sprint(n-1) || info["num-slaves"] != fmt.Sprint(replicas) {
				return fmt.Errorf("it knows %s other sentinels and %s replicas", info["num-other-sentinels"],
					info["num-slaves"])
			}
			return nil
		})
	}
	return s
}

func (s *Sentinels) client(i int) *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{
		Addr: s.Addrs[i], Password: s.password, MaxRetries: -1,
		DisableIdentity: true,
	})
}

func (s *Sentinels) ask(i int) (map[string]string, error) {
	client := s.client(i)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Master(ctx, s.Name).Result()
}

// Master returns the address that the first sentinel gives.
func (s *Sentinels) Master() string {
	s.t.Helper()
	info, err := s.ask(0)
	if err != nil {
		s.t.Fatal(err)
	}
	return net.JoinHostPort(info["ip"], info["port"])
}

// Failover makes the sentinels promote a replica in place of a healthy master.
func (s *Sentinels) Failover() {
	s.t.Helper()
	client := s.client(0)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := client.Failover(ctx, s.Name).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// Pairs returns the addresses for the redis package of Python.
func (s *Sentinels) Pairs() [][2]any {
	var pairs [][2]any
	for _, a := range s.Addrs {
		host, port, _ := net.SplitHostPort(a)
		var n int
		_, _ = fmt.Sscan(port, &n)
		pairs = append(pairs, [2]any{host, n})
	}
	return pairs
}

// StartReplica starts a replica of master and waits until the replica is connected.
func StartReplica(t testing.TB, master *Redis, args ...string) *Redis {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	r := StartRedis(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	r.Ready(t, func() error {
		if info := fmt.Sprint(r.Do("INFO", "replication")); !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("not in step with %s", master.Addr)
		}
		return nil
	})
	return r
}
