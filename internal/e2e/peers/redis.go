package peers

import (
	"context"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/redis/go-redis/v9"
)

// Redis is a real redis-server without persistence, as in AWX.
type Redis struct {
	*process.Process
	// Addr is host:port, URL the same as a redis:// URL of database 0.
	Addr, URL string

	t    testing.TB
	port int
	args []string
	dir  string
}

// StartRedis starts a redis-server on a free port and waits until the server answers. Further arguments go to the
// command line: "--requirepass", "x".
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	port := testkit.FreePort(t)
	r := &Redis{
		Addr: testkit.Loopback(port),
		URL:  "redis://" + testkit.Loopback(port) + "/0",
		t:    t, port: port, args: args, dir: t.TempDir(),
	}
	r.Restart()
	return r
}

// AlsoTLS makes StartRedis listen on a second port with TLS, which requires a client certificate. It returns the
// arguments and the address of the port.
func AlsoTLS(t testing.TB, c Certificates) (args []string, addr string) {
	t.Helper()
	port := testkit.FreePort(t)
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-cert-file", c.Cert, "--tls-key-file", c.Key, "--tls-ca-cert-file", c.CA,
	}, testkit.Loopback(port)
}

// Restart starts the server again on the same port, empty, after Kill or Stop.
func (r *Redis) Restart() {
	r.t.Helper()
	args := append([]string{
		"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir,
		"--save", "", "--appendonly", "no", "--loglevel", "notice",
		// No limit: 2,000 subscribers must not lead to evictions.
		"--maxmemory", "0",
	}, r.args...)
	r.Process = process.Start(r.t, "redis-server", exec.Command(process.Program(r.t, "redis-server"), args...))
	client := r.Client()
	defer client.Close()
	r.Ready(r.t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return client.Ping(ctx).Err()
	})
}

// Client returns a client of database 0; the caller closes it.
func (r *Redis) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:       r.Addr,
		MaxRetries: -1,
		// Older servers do not know CLIENT SETINFO.
		DisableIdentity: true,
	})
}

// Do runs one Redis command and returns its reply; an error ends the test.
func (r *Redis) Do(args ...any) any {
	r.t.Helper()
	client := r.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := client.Do(ctx, args...).Result()
	if err != nil {
		r.t.Fatalf("redis %v: %v", args, err)
	}
	return reply
}

// KillClients closes all other connections of the server and returns their number.
func (r *Redis) KillClients() int64 {
	r.t.Helper()
	killed := int64(0)
	for _, kind := range []string{"normal", "pubsub"} {
		n, ok := r.Do("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").(int64)
		if !ok {
			r.t.Fatal("CLIENT KILL answered with something that is no number")
		}
		killed += n
	}
	return killed
}
