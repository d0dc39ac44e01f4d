package site

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// PythonNode is the name of the node of [Options.Python], and of its port at the switch.
const PythonNode = "python"

// pythonNode is a node of AWX: consumers in Daphne, a dialing process, a Redis, an emitter, and a listener in place of
// consumers with clients.
type pythonNode struct {
	*Node
	dialing  *process.Process
	listener *process.Process
	announce io.Writer
}

// addPython adds the node, without its processes.
func (s *Site) addPython() {
	n := &Node{Name: PythonNode, site: s, dir: s.t.TempDir(), redisHost: "127.0.0.1"}
	n.place.Store(s.join(n.Name, s.options.Nodes))
	n.redisNS = n.NS()
	s.python = &pythonNode{Node: n}
}

// start starts the processes. The relays are ready.
func (p *pythonNode) start() {
	s := p.site
	s.t.Helper()
	p.startRedis()
	host := strings.Trim(p.Host(), "[]")
	daphne := p.command("daphne", "-m", "daphne", "--bind", host, "--port", "80", "--verbosity", "1", "cluster.asgi:application")
	daphne.Ready(s.t, func() error {
		conn, err := dialer(p.NS())(s.t.Context(), "tcp", p.Host()+":80")
		if err != nil {
			return err
		}
		return conn.Close()
	})
	args := []string{"-m", "cluster.dial", s.options.Python}
	for _, n := range s.Nodes {
		args = append(args, "http://"+n.Host())
	}
	p.dialing = p.command("dialing process", args...)
	p.emitter = s.startEmitter(p.Node, len(s.Nodes))
	p.listen()
}

func (p *pythonNode) command(name string, args ...string) *process.Process {
	s := p.site
	s.t.Helper()
	cmd := p.NS().Command(peers.Python, append([]string{"-u", "-B"}, args...)...)
	cmd.Dir = filepath.Join(peers.Root(s.t), "internal", "e2e", "testdata", "python")
	cmd.Env = append(os.Environ(), "CLUSTER_REDIS="+p.redisURL(true), "CLUSTER_SECRET="+secret,
		"CLUSTER_GENERATION="+s.options.Python, "CLUSTER_RETRY=0.5")
	return process.Start(s.t, name+" of the Python node", cmd)
}

// listen starts the listener, whose record is that of a client of all groups that nobody can tell of losses.
func (p *pythonNode) listen() {
	s := p.site
	t := s.t
	t.Helper()
	script := filepath.Join(peers.Root(t), "internal", "mesh", "site", "testdata", "listener.py")
	cmd := p.NS().Command(peers.Python, "-u", "-B", script, p.redisURL(true), strconv.Itoa(s.options.Groups))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, lines := io.Pipe()
	cmd.Stdout = lines
	c := &Client{
		site: s, node: p.Node, stop: make(chan struct{}), stopped: make(chan struct{}),
		record: judge.Client{Name: "listener", Node: p.Name, Groups: s.allGroups(), Untellable: true},
		newest: map[[2]int]int{},
	}
	p.announce, p.listener = stdin, process.Start(t, "listener", cmd)
	listener := p.listener
	go func() {
		<-listener.Done()
		_ = lines.Close() // never fails
	}()
	go func() {
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			if line := scanner.Text(); line == "joined" {
				c.subscribed(true)
			} else {
				c.event(line, time.Now())
			}
		}
	}()
	close(c.stopped) // it ends with its process
	s.clients = append(s.clients, c)
}

// announceGroups makes the relays send the listener's groups. AWX announces each once, to the nodes that are connected.
func (p *pythonNode) announceGroups() {
	for _, n := range p.site.Nodes {
		testkit.Eventually(p.site.t, "a connection to the Python node", func() error {
			time.Sleep(100 * time.Millisecond) // each attempt costs a request
			list, err := n.Peers()
			if err == nil && !slices.ContainsFunc(list, func(o Peer) bool {
				return o.URL == "http://"+p.Host() && o.State == "connected"
			}) {
				err = fmt.Errorf("%s has %+v", n.Name, list)
			}
			return err
		})
	}
	if _, err := io.WriteString(p.announce, "announce\n"); err != nil {
		p.site.t.Fatalf("listener: %v", err)
	}
}

// allGroups are the numbers of all groups.
func (s *Site) allGroups() (all []int) {
	for g := range s.options.Groups {
		all = append(all, g)
	}
	return all
}
