package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// The lists of groups and connections have a table for people and JSON for scripts. Closing names its selection.
func TestListCommands(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	for i := range 3 {
		subscriber(t, r.URL, peers.Login{CSRF: "t"}, fmt.Sprint("jobs-", i), "jobs-all")
	}
	read := func(to any, args ...string) {
		t.Helper()
		out := command(t, r, append(args, "--json", address)...)
		if err := json.Unmarshal([]byte(out.stdout), to); err != nil || out.code != 0 || out.stderr != "" {
			t.Fatalf("%q: %v: %+v", args, err, out)
		}
	}
	var groups struct {
		Total  int
		Groups []struct {
			Group       string
			Subscribers int
		}
	}
	read(&groups, "group", "list", "--prefix", "jobs-", "--sort", "subscribers", "--limit", "2")
	if groups.Total != 4 || len(groups.Groups) != 2 || groups.Groups[0].Group != "jobs-all" ||
		groups.Groups[0].Subscribers != 3 {
		t.Errorf("groups: %+v", groups)
	}
	var connections struct {
		Total       int
		Connections []struct{ Groups []string }
	}
	read(&connections, "connection", "list", "--group", "jobs-1")
	if connections.Total != 1 || !slices.Contains(connections.Connections[0].Groups, "jobs-1") {
		t.Errorf("connections: %+v", connections)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"group", "list"}, "jobs-all  3            0      0.0"},
		{[]string{"group", "list", "--limit", "1"}, "and 3 more; see --limit"},
		{[]string{"connection", "list"}, "websocket"},
		{[]string{"connection", "close", "--group", "jobs-1"}, "1 connection closed"},
		{[]string{"drain", "--status"}, "off: the node accepts clients"},
	} {
		out := command(t, r, append(c.args, address)...)
		if out.code != 0 || out.stderr != "" || !strings.Contains(out.stdout, c.want) {
			t.Errorf("%q: want %q: %+v", c.args, c.want, out)
		}
	}
	testkit.Eventually(t, "the connection is closed", func() error {
		read(&connections, "connection", "list")
		if connections.Total != 2 {
			return fmt.Errorf("%+v", connections)
		}
		return nil
	})
}

// The shell completes what the relay knows: groups, users and plugins. Without a relay it completes nothing, in
// silence.
func TestCompletionOfNames(t *testing.T) {
	t.Parallel()
	wasm := peers.Root(t) + "/examples/plugins/quiet/plugin.wasm"
	r := peers.StartRelay(t, "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nauth none\nplugin quiet "+wasm+
		" {\ngroups none-*\n}\n}\n}\n{$SITE} {\nedgerelay\n}\n")
	address := strings.TrimPrefix(r.Admin, "http://")
	subscriber(t, r.URL, peers.Login{CSRF: "t"}, "jobs-summary", "events-1")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"groups of tail", []string{"tail", "--address", address, "jobs"}, "jobs-summary\n:4\n"},
		{"further groups of tail", []string{"tail", "--address", address, "x", ""}, "events-1\njobs-summary\n:4\n"},
		{"group of publish", []string{"publish", "--address", address, "--group", "ev"}, "events-1\n:4\n"},
		{"group of presence", []string{"presence", "--address", address, "ev"}, "events-1\n:4\n"},
		{"one group only", []string{"presence", "--address", address, "events-1", ""}, ":4\n"},
		{"plugins", []string{"plugin", "rollback", "--address", address, ""}, "quiet\n:4\n"},
		{"plugin of a tail", []string{"tail", "--address", address, "--plugin", ""}, "quiet\n:4\n"},
		{"files of a deployment", []string{"plugin", "deploy", "--address", address, "quiet", ""}, "wasm\n:8\n"},
		{"languages", []string{"plugin", "new", "--language", ""}, "assemblyscript\nc\ngo\nrust\n:4\n"},
		{"kinds", []string{"plugin", "new", "--kind", ""}, "filter\nfunction\n:4\n"},
		{"orders", []string{"connection", "list", "--sort", ""}, "id\nslowest\n:4\n"},
		{"without a relay", []string{"tail", "--address", "localhost:1", ""}, ":4\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := r.Command(append([]string{"__completeNoDesc", "edgerelay"}, c.args...)...)
			out, err := cmd.Output()
			found := strings.Split(strings.TrimSpace(string(out)), "\n")
			slices.Sort(found[:len(found)-1])
			if got := strings.Join(found, "\n") + "\n"; err != nil || got != c.want {
				t.Errorf("completions of %q: %q, %v; want %q", c.args, got, err, c.want)
			}
		})
	}
	script, err := r.Command("completion", "bash").Output()
	if err != nil || !strings.Contains(string(script), "__complete") {
		t.Errorf("the completion of bash: %v, %d bytes", err, len(script))
	}
}
