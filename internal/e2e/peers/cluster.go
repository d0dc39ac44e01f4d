package peers

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// The generations of Python nodes, named after their endpoints.
const (
	// BroadcastNode is a node of AWX 9 to 21.
	BroadcastNode = "broadcast"
	// RelayNode is a node of AWX 22 or later.
	RelayNode = "relay"
)

// ClusterNode is a Python node of an AWX cluster: consumers under a real Daphne, a dialing process on aiohttp, and the
// real channels_redis in between.
type ClusterNode struct {
	// URL is http://host:port of Daphne, without a slash at the end.
	URL string
	// Served and Dialling are the processes, nil until their start.
	Served, Dialling *process.Process

	t          testing.TB
	generation string
	port       int
	env        []string
}

// NewClusterNode prepares a node of a generation with a Redis. Serve and Dial start its processes.
func NewClusterNode(t testing.TB, generation, redisURL, secret string) *ClusterNode {
	port := testkit.FreePort(t)
	return &ClusterNode{
		URL: "http://" + testkit.Loopback(port), t: t, generation: generation, port: port,
		env: append(os.Environ(), "CLUSTER_REDIS="+redisURL, "CLUSTER_SECRET="+secret,
			"CLUSTER_GENERATION="+generation, "CLUSTER_RETRY=0.5"),
	}
}

// Serve starts Daphne with the endpoint of the node and waits until Daphne answers.
func (c *ClusterNode) Serve() {
	c.t.Helper()
	c.Served = c.start("daphne", "-m", "daphne", "--bind", "127.0.0.1", "--port", strconv.Itoa(c.port),
		"--verbosity", "1", "cluster.asgi:application")
	c.Served.Ready(c.t, func() error {
		resp, err := http.Get(c.URL + "/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// Dial starts the process that dials other nodes: wsbroadcast or wsrelay in AWX.
func (c *ClusterNode) Dial(urls ...string) {
	c.t.Helper()
	c.Dialling = c.start("aiohttp", append([]string{"-m", "cluster.dial", c.generation}, urls...)...)
}

func (c *ClusterNode) start(name string, args ...string) *process.Process {
	c.t.Helper()
	cmd := exec.Command(process.Program(c.t, Python), append([]string{"-u", "-B"}, args...)...)
	cmd.Dir = filepath.Join(Root(c.t), "internal", "e2e", "testdata", "python")
	cmd.Env = c.env
	return process.Start(c.t, fmt.Sprintf("%s (%s node)", name, c.generation), cmd)
}
