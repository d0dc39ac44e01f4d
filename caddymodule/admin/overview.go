package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// overviewRows is how many groups and connections an overview shows.
const overviewRows = 12

// overview is what the console and `caddy edgerelay top` show: GET /edgerelay/overview.
type Overview struct {
	NodeStatus
	// At is when it was gathered.
	At time.Time `json:"at"`
	// History has a sample for each of the last seconds, the oldest first.
	History []node.Sample `json:"history"`
	// TopGroups are the groups with most events, SlowestConnections those for which most bytes wait.
	TopGroups          []groupStatus `json:"top_groups"`
	SlowestConnections []Connection  `json:"slowest_connections"`
	// Backplane is the state of the other nodes; absent without a backplane.
	Backplane *backplane.Status `json:"backplane,omitempty"`
	// PluginList has all plugins in their order.
	PluginList []pluginhost.Status `json:"plugin_list"`
}

// overviews keeps the last overview as JSON, so that any number of viewers costs the same.
type overviews struct {
	mu   sync.Mutex
	at   time.Time
	json []byte
}

func ServeOverview(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	body, err := overviewOf(n)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(body)
	return err
}

// overview returns an overview as JSON, gathered within the last second.
func overviewOf(n *node.Node) ([]byte, error) {
	type key struct{}
	o := n.Extension(key{}, func() any { return new(overviews) }).(*overviews)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.json != nil && time.Since(o.at) < node.SampleInterval-node.SampleInterval/10 {
		return o.json, nil
	}
	v := Overview{NodeStatus: statusOf(n), At: time.Now()}
	v.History, _ = n.Monitor.History()
	v.TopGroups, _ = groupsOf(n, "", hub.GroupsByRate, "", overviewRows)
	slowest, _ := n.Hub.SlowestSessions(hub.SessionFilter{}, overviewRows)
	v.SlowestConnections = connections(slowest)
	if plane := n.Backplane.Load(); plane != nil {
		s := plane.Status()
		v.Backplane = &s
	}
	v.PluginList = []pluginhost.Status{}
	if h := n.Plugins.Load(); h != nil {
		v.PluginList = h.Status()
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		return nil, err
	}
	o.at, o.json = v.At, body.Bytes()
	return o.json, nil
}
