package site

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// LogsVariable names an environment variable with a folder for the logs of relays. Without it, logs are kept only if a
// test fails, in a folder that the test names.
const LogsVariable = "MESH_LOGS"

// Options are those of a mesh. Fields that are 0 have defaults.
type Options struct {
	// Nodes is the number of nodes, 4. Clients is the number of clients of each node, 30.
	Nodes, Clients int
	// Rate is the number of events a second of each emitter; by default all emitters together send 200.
	Rate float64
	// Size is the length of an event in bytes, 1,000. Random events cannot be compressed.
	Size   int
	Random bool
	// Groups is the number of groups, 10, and Each the number of groups of a client, 2.
	Groups, Each int
	// IPv6, TLS and DNS are about the links between nodes: the address family, https, and discovery by DNS.
	IPv6, TLS, DNS bool
	// RedisApart gives each Redis a port of its own at the switch.
	RedisApart bool
	// Python is the generation of one more node, which is one of AWX: [peers.BroadcastNode] or [peers.RelayNode]. Empty:
	// there is none.
	Python string
	// History keeps a history of all groups.
	History bool
	// Binaries are the relays' programs, by turns.
	Binaries []string
	// Settle is the time for the last events to arrive, 20 s.
	Settle time.Duration
}

func (o *Options) setDefaults() {
	o.Nodes = orDefault(o.Nodes, 4)
	o.Clients = orDefault(o.Clients, 30)
	o.Size = orDefault(o.Size, 1000)
	o.Groups = orDefault(o.Groups, 10)
	o.Each = orDefault(o.Each, 2)
	o.Rate = orDefault(o.Rate, 200/float64(o.Nodes))
	o.Settle = orDefault(o.Settle, 20*time.Second)
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Site is a running mesh of one test.
type Site struct {
	// Switch joins the namespaces. The ports are those of [Node.Port] and [Node.RedisPort], [Browsers] and [Resolver].
	Switch *wire.Switch
	Nodes  []*Node
	// DNS answers look-ups if [Options.DNS] is set.
	DNS *DNS

	t            testing.TB
	options      Options
	logs         string
	certificates peers.Certificates
	clients      []*Client
	browsers     *wire.Namespace
	python       *pythonNode // nil: none
	repairs      []time.Time
	absences     []judge.Absence
}

// Ports at the switch besides those of nodes.
const (
	Browsers = "browsers"
	Resolver = "resolver"
)

// Start starts a mesh. The relays start at the same time.
func Start(t testing.TB, options Options) *Site {
	t.Helper()
	options.setDefaults()
	if len(options.Binaries) == 0 {
		options.Binaries = []string{peers.RelayBinary(t)}
	}
	s := &Site{t: t, options: options, Switch: wire.NewSwitch(uint64(time.Now().UnixNano()))}
	t.Cleanup(s.Switch.Close)
	s.keepLogs()
	if options.TLS {
		s.certificates = peers.MakeCertificates(t)
	}
	for i := range options.Nodes {
		s.addNode(i)
	}
	if options.Python != "" {
		s.addPython()
	}
	if options.DNS {
		s.startDNS()
	}
	for _, n := range s.Nodes {
		n.startRedis()
	}
	for _, n := range s.Nodes {
		n.Start()
	}
	for i, n := range s.Nodes {
		n.AwaitReady()
		n.emitter = s.startEmitter(n, i)
	}
	if s.python != nil {
		s.python.start()
	}
	// Nobody knows what a peer sent before its first connection, so its clients until then are told of a possible loss.
	s.awaitMesh()
	for _, n := range s.Nodes {
		for k := range options.Clients {
			s.startClient(fmt.Sprint(n.Name, k), n, nil, s.groupsOf(k), k%3 == 2)
		}
	}
	t.Cleanup(func() {
		for _, c := range s.clients {
			c.end()
		}
	})
	return s
}

// keepLogs makes the folder for logs.
func (s *Site) keepLogs() {
	t := s.t
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	if dir := os.Getenv(LogsVariable); dir != "" {
		s.logs = filepath.Join(dir, name)
		if err := os.MkdirAll(s.logs, 0o755); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "mesh-logs-")
	if err != nil {
		t.Fatal(err)
	}
	s.logs = dir
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the logs of the relays are in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

// groupsOf returns the groups of a node's client.
func (s *Site) groupsOf(client int) (groups []int) {
	for k := range s.options.Each {
		groups = append(groups, (client*s.options.Each+k)%s.options.Groups)
	}
	return groups
}

// host returns an address of the mesh's network by its last number, in brackets if it is one of IPv6.
func (s *Site) host(i int) string {
	if s.options.IPv6 {
		return fmt.Sprintf("[fd77::%d]", i+1)
	}
	return fmt.Sprintf("10.77.0.%d", i+1)
}

// numbers of addresses besides those of nodes
const (
	redisNumber   = 100
	movedNumber   = 150
	browserNumber = 200
	dnsNumber     = 201
)

// join makes a namespace at an address.
func (s *Site) join(port string, number int) *place {
	t := s.t
	t.Helper()
	ns, err := wire.NewNamespace(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	host := s.host(number)
	length := "/24"
	if s.options.IPv6 {
		length = "/64"
	}
	if err := ns.Join(s.Switch, port, strings.Trim(host, "[]")+length); err != nil {
		t.Fatal(err)
	}
	if s.options.DNS {
		if err := ns.WriteEtc("resolv.conf", "nameserver "+strings.Trim(s.host(dnsNumber), "[]")+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	return &place{ns, port, host}
}

func (s *Site) addNode(i int) {
	n := &Node{
		Name: string(rune('a' + i)), site: s, dir: s.t.TempDir(), binary: s.options.Binaries[i%len(s.options.Binaries)],
		redisHost: "127.0.0.1",
	}
	n.place.Store(s.join(n.Name, i))
	n.redisNS = n.NS()
	if s.options.RedisApart {
		at := s.join(n.RedisPort(), redisNumber+i)
		n.redisNS, n.redisHost = at.ns, at.host
	}
	s.Nodes = append(s.Nodes, n)
}

// Move gives a node another address and another link to the switch. The old ones go on, without rules of their own.
func (s *Site) Move(n *Node) {
	s.t.Helper()
	n.place.Store(s.join(n.Name+"-moved", movedNumber+int(n.Name[0]-'a')))
}

// AddBrowsers starts clients of a node at the port [Browsers], subscribed to all groups.
func (s *Site) AddBrowsers(n *Node, count int) {
	s.t.Helper()
	if s.browsers == nil {
		s.browsers = s.join(Browsers, browserNumber).ns
	}
	for k := range count {
		s.startClient(fmt.Sprint("browser", k), n, s.browsers, s.allGroups(), k%2 == 1)
	}
}

// Begin waits for the full mesh, starts the emitters, and waits until each client gets events of each. From then on,
// events are judged.
func (s *Site) Begin() {
	t := s.t
	t.Helper()
	testkit.Eventually(t, "subscribed clients", func() error {
		for _, c := range s.clients {
			if err := c.subscribedNow(); err != nil {
				return err
			}
		}
		return nil
	})
	if s.python != nil {
		s.python.announceGroups()
	}
	for _, n := range s.emitting() {
		n.emitter.begin(s)
	}
	testkit.Eventually(t, "events of all emitters", func() error {
		for _, c := range s.clients {
			for e := range s.emitting() {
				if err := c.has(e, 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
	s.awaitQuiet()
	for _, n := range s.emitting() {
		n.emitter.judgeFromNow()
	}
}

// noticeDelay is longer than the time from a loss to its notice, which relays send once a second.
const noticeDelay = 1300 * time.Millisecond

// awaitQuiet waits until the notices about the time of the start have come. On a busy machine, subscriptions do not
// wait until all peers know of them, and their clients are told.
func (s *Site) awaitQuiet() {
	s.t.Helper()
	began := time.Now()
	testkit.Eventually(s.t, "an end of notices about losses", func() error {
		last, client := began, "none"
		for _, c := range s.clients {
			if at := c.lastNotice(); at.After(last) {
				last, client = at, c.record.Name
			}
		}
		if time.Since(last) < noticeDelay {
			time.Sleep(50 * time.Millisecond)
			return fmt.Errorf("the last one came %.1f s ago, to %s", time.Since(last).Seconds(), client)
		}
		return nil
	})
}

// awaitMesh waits until each relay listens to all others.
func (s *Site) awaitMesh() {
	s.t.Helper()
	for _, n := range s.Nodes {
		s.AwaitSources(n, len(s.emitting())-1)
	}
}

// emitting returns the nodes with an emitter, by the emitters' indices.
func (s *Site) emitting() []*Node {
	if s.python == nil {
		return s.Nodes
	}
	return append(slices.Clone(s.Nodes), s.python.Node)
}

// AwaitSources waits until a node listens to a number of peers.
func (s *Site) AwaitSources(n *Node, want int) {
	s.t.Helper()
	testkit.Eventually(s.t, "a full mesh", func() error {
		got, err := n.sources()
		if err == nil && got < want {
			err = fmt.Errorf("%s listens to %d peers, want %d", n.Name, got, want)
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // each attempt costs a request
		}
		return err
	})
}

// Pass lets time go by, as users see it.
func (s *Site) Pass(d time.Duration) { time.Sleep(d) }

// Repaired marks the end of a fault.
func (s *Site) Repaired() { s.repairs = append(s.repairs, time.Now()) }

// absenceMargin is the time before the end of a run in which it may lose events uncounted, and the time after the next
// run's start in which its peers may do.
const absenceMargin = time.Second

// Away marks that a node's run ends now. The function that it returns marks that the next run is complete.
func (s *Site) Away(n *Node) (back func()) {
	from := time.Now().Add(-absenceMargin)
	return func() {
		s.absences = append(s.absences, judge.Absence{Node: n.Name, From: from, Until: time.Now().Add(absenceMargin)})
	}
}

// Logs returns the folder with the logs of the relays.
func (s *Site) Logs() string { return s.logs }

// observe returns what was recorded so far.
func (s *Site) observe() *judge.Run {
	run := &judge.Run{Groups: s.options.Groups, Repairs: s.repairs, Absences: s.absences}
	for _, n := range s.emitting() {
		run.Emitters = append(run.Emitters, n.emitter.series(n.Name))
	}
	for _, c := range s.clients {
		run.Clients = append(run.Clients, c.observed())
	}
	return run
}

// End stops the emitters, waits until the last events and notices have come, for [Options.Settle] at most, and judges.
func (s *Site) End() *judge.Report {
	s.t.Helper()
	for _, n := range s.emitting() {
		n.emitter.end(s)
	}
	var report *judge.Report
	complete := func() error {
		time.Sleep(300 * time.Millisecond) // judging costs time that the relays need
		for _, c := range s.clients {
			for e, n := range s.emitting() {
				if err := c.has(e, len(n.emitter.emissions)-1); err != nil {
					return err
				}
			}
		}
		if report = judge.Judge(s.observe()); report.Untold > 0 {
			return fmt.Errorf("%d lost events without a notice", report.Untold)
		}
		return nil
	}
	if err := testkit.Poll(testkit.Scale(s.options.Settle), nil, complete); err != nil {
		s.t.Logf("at the end: %v", err)
		report = judge.Judge(s.observe())
	}
	return report
}

// Expected returns the number of judged events of an emitter that a client of [Options.Each] groups is to receive,
// rounded.
func (s *Site) Expected() int {
	e := s.Nodes[0].emitter
	return (len(e.emissions) - e.from) * s.options.Each / s.options.Groups
}
