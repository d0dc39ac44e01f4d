package telemetry

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// recording is the metrics of a mesh, scraped several times.
type recording struct {
	nodes []*meshNode
	names *strings.Replacer
	// scrapes has the series of each node at each time; nil for a node that is down.
	scrapes [][]map[string]float64
}

// newRecording waits until each node is connected with as many others, of the number that it expects. Then it scrapes.
func newRecording(t *testing.T, nodes []*meshNode, connected, expected int, others ...string) *recording {
	t.Helper()
	pairs := []string{}
	for i, n := range nodes {
		pairs = append(pairs, n.url, fmt.Sprint("http://node-", i), n.settings.Name, fmt.Sprint("node-", i))
	}
	for i, url := range others {
		pairs = append(pairs, url, fmt.Sprint("http://other-", i))
	}
	r := &recording{nodes: nodes, names: strings.NewReplacer(pairs...)}
	for _, n := range nodes {
		n.await(connected, expected)
	}
	r.scrape()
	return r
}

func (n *meshNode) await(connected, expected int) {
	n.t.Helper()
	testkit.Eventually(n.t, "connected nodes", func() error {
		list := n.plane.Load().Nodes()
		c := backplane.CountNodes(list)
		if c.Connected != connected || c.Expected != expected || c.Known != max(connected, expected) {
			return fmt.Errorf("%s: %+v of %+v", n.url, c, list)
		}
		return nil
	})
}

func (r *recording) scrape() {
	var all []map[string]float64
	for _, n := range r.nodes {
		all = append(all, n.scrape(r.names))
	}
	r.scrapes = append(r.scrapes, all)
}

// write writes a test of promtool: the scrapes are 15 s apart, and the last one stays for half an hour. Counters in
// rising rise by one a minute for that time. firing lists the alerts and the label that tells them apart.
func (r *recording) write(w *strings.Builder, shape string, rising string, firing ...string) {
	fmt.Fprintf(w, "  - interval: 15s\n    name: %s\n    input_series:\n", shape)
	for i := range r.nodes {
		keys := map[string]bool{}
		for _, all := range r.scrapes {
			for key := range all[i] {
				keys[key] = true
			}
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			name, labels, _ := strings.Cut(key, "{")
			values := []string{}
			for _, all := range r.scrapes {
				v, ok := all[i][key]
				values = append(values, map[bool]string{true: strconv.FormatFloat(v, 'g', -1, 64), false: "_"}[ok])
			}
			last := values[len(values)-1]
			switch {
			case last == "_":
				values = append(values, "_x120")
			case rising != "" && strings.Contains(key, strconv.Quote(rising)):
				values = append(values, last+"x40", last+"+0.25x80")
			default:
				values = append(values, last+"x120")
			}
			fmt.Fprintf(w, "      - series: '%s{job=\"e\",instance=\"node-%d\"%s}'\n        values: '%s'\n",
				name, i, labels, strings.Join(values, " "))
		}
	}
	fmt.Fprint(w, "    promql_expr_test:\n      - expr: count by (alertname, peer, reason) "+
		"(max_over_time(ALERTS{alertstate=\"firing\"}[30m]))\n        eval_time: 29m\n        exp_samples:\n")
	if len(firing) == 0 {
		fmt.Fprintln(w, "          []")
	}
	for _, alert := range firing {
		name, label, _ := strings.Cut(alert, " ")
		fmt.Fprintf(w, "          - {labels: '{alertname=%q,%s}', value: 1}\n", name, label)
	}
}

func startAll(nodes []*meshNode, d ...backplane.Discovery) {
	for _, n := range nodes {
		n.start(d...)
	}
}

func meshNodes(t *testing.T, count int) (nodes []*meshNode, urls []string) {
	t.Helper()
	for range count {
		n := newMeshNode(t, memory.NewLayer(), testkit.Loopback(testkit.FreePort(t)))
		nodes, urls = append(nodes, n), append(urls, n.url)
	}
	return nodes, urls
}

// shapes are the forms of a mesh. Each writes its recordings, and the alerts that fire.
var shapes = map[string]func(t *testing.T, w *strings.Builder){
	"each node lists all nodes, itself too": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 3)
		startAll(nodes, list(urls...))
		r := newRecording(t, nodes, 2, 2)
		r.write(w, "listed-self", "")
		for _, reason := range backplane.DropReasons() {
			var firing []string
			if !slices.Contains([]string{"already_received", "not_asked_for", "same_layer"}, reason) {
				firing = []string{fmt.Sprintf("EdgerelayPeerDrops reason=%q", reason)}
			}
			one := *r
			one.nodes = one.nodes[:1]
			one.write(w, "drops-"+reason, reason, firing...)
		}
	},
	"one node dials": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 2)
		nodes[0].start(list(urls[1]))
		nodes[1].start()
		nodes[0].await(1, 1)
		newRecording(t, nodes[1:], 1, 0).write(w, "accepts", "")
		newRecording(t, nodes[:1], 1, 1, urls[1]).write(w, "dials", "")
	},
	"a node has two addresses": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 2)
		alias := strings.Replace(urls[1], "127.0.0.1", "localhost", 1)
		startAll(nodes, list(urls[0], urls[1], alias))
		nodes[1].await(1, 1)
		newRecording(t, nodes, 1, 1, alias).write(w, "redundant", "")
	},
	"nodes share a channel layer": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 2)
		nodes[1].layer = nodes[0].layer
		startAll(nodes, list(urls...))
		newRecording(t, nodes, 1, 1).write(w, "same-layer", "")
	},
	"Python nodes of both generations": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 1)
		older, newer := startPython(t, "broadcast"), startPython(t, "relay")
		startAll(nodes, list(urls[0], older.URL, newer.URL))
		newRecording(t, nodes, 2, 2, older.URL, newer.URL).write(w, "python", "")
	},
	"nodes find each other in DNS": func(t *testing.T, w *strings.Builder) {
		server := testkit.StartNameServer(t)
		port := testkit.FreePort(t)
		var nodes []*meshNode
		for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			nodes = append(nodes, newMeshNode(t, memory.NewLayer(), net.JoinHostPort(ip, strconv.Itoa(port))))
		}
		server.SetAddresses("127.0.0.2", "127.0.0.3", "127.0.0.4")
		startAll(nodes, &discovery.DNS{
			Name: "relay.example.com.", Scheme: "http", Port: port, Every: 50 * time.Millisecond,
			Resolver: server.Resolver(), Log: quiet,
		})
		newRecording(t, nodes, 2, 2).write(w, "dns", "")
	},
	"nodes find each other in Redis": func(t *testing.T, w *strings.Builder) {
		redis := peers.StartRedis(t)
		nodes, _ := meshNodes(t, 3)
		for _, n := range nodes {
			n.start(&discovery.Redis{
				URL: redis.URL, Advertise: n.url, Every: 100 * time.Millisecond, TTL: 5 * time.Second, Log: quiet,
			})
		}
		newRecording(t, nodes, 2, 2).write(w, "redis", "")
	},
	"nodes are restarted one by one": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 3)
		startAll(nodes, list(urls...))
		r := newRecording(t, nodes, 2, 2)
		for i, n := range nodes {
			n.stop(n.plane.Load())
			for j, other := range nodes {
				if j != i {
					other.await(1, 2)
				}
			}
			for range 8 { // two minutes
				r.scrape()
			}
			n.listen(n.settings.Name)
			n.start()
			for _, other := range nodes {
				other.await(2, 2)
			}
			r.scrape()
		}
		r.write(w, "rolling-restart", "")
	},
	"a node is down": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 2)
		away := fmt.Sprint("http://127.0.0.1:", testkit.FreePort(t))
		startAll(nodes[:1], list(append(urls, away)...))
		startAll(nodes[1:], list(urls...))
		nodes[1].await(1, 1)
		newRecording(t, nodes[:1], 1, 2, urls[1], away).write(w, "down", "", `EdgerelayPeerDown peer="http://other-1"`)
	},
	"a node with another secret": func(t *testing.T, w *strings.Builder) {
		nodes, urls := meshNodes(t, 2)
		nodes[1].settings.Secrets = backplane.Secrets{"another"}
		nodes[1].start()
		nodes[0].start(list(urls...))
		newRecording(t, nodes[:1], 0, 1, urls[1]).write(w, "refused", "", `EdgerelayPeerDown peer="http://other-0"`)
	},
}

const recordedFile = "testdata/mesh_alerts.yml"

// Each shape of a mesh is recorded; Prometheus's own tool then tells which alerts fire. With EDGERELAY_WRITE_SERIES=1,
// the recording is written to testdata.
func TestAlertsOnRecordedMeshes(t *testing.T) {
	rules, err := filepath.Abs("../../deploy/prometheus/edgerelay.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]*strings.Builder{}
	for name := range shapes {
		recorded[name] = &strings.Builder{}
	}
	t.Run("record", func(t *testing.T) {
		for name, shape := range shapes {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				shape(t, recorded[name])
			})
		}
	})
	write := os.Getenv("EDGERELAY_WRITE_SERIES") != ""
	if write {
		rules = "../../../deploy/prometheus/edgerelay.rules.yml"
	}
	text := &strings.Builder{}
	fmt.Fprintf(text, "# Metrics of meshes of every shape, recorded by\n#\n#     EDGERELAY_WRITE_SERIES=1 go test "+
		"./caddymodule/telemetry -run AlertsOnRecordedMeshes\n#\n# The counters of the tests drops-… are made up.\n"+
		"rule_files: [%q]\nevaluation_interval: 1m\ntests:\n", rules)
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		text.WriteString(recorded[name].String())
	}
	file := filepath.Join(t.TempDir(), "mesh_alerts.yml")
	if write {
		file = recordedFile
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runPromtool(t, file)
}

// The recording in testdata, made by an earlier build, still fires the same alerts.
func TestAlertsOnEarlierRecording(t *testing.T) { runPromtool(t, recordedFile) }

func runPromtool(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v (scripts/install-test-deps.sh installs it)\n%s", err, out)
	}
}
