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

// overviewRows is the number of groups and of connections in an overview.
const overviewRows = 12

// Overview is the response to GET /edgerelay/overview, which the console and `caddy edgerelay top` show.
type Overview struct {
	Status
	// At is the time of the overview.
	At time.Time `json:"at"`
	// History has a sample for each second of the last two minutes, oldest first.
	History []node.Sample `json:"history"`
	// TopGroups are the groups with most events.
	TopGroups []Group `json:"top_groups"`
	// SlowestConnections are the connections with most queued bytes.
	SlowestConnections []Connection `json:"slowest_connections"`
	// Backplane is the state of the peers; absent without a backplane.
	Backplane *backplane.Status `json:"backplane,omitempty"`
	// PluginList has all plugins, in the order of the pipeline.
	PluginList []pluginhost.Status `json:"plugin_list"`
}

// overviewCache keeps the last overview as JSON, so that the cost does not grow with the number of viewers.
type overviewCache struct {
	mu   sync.Mutex
	at   time.Time
	json []byte
}

// ServeOverview writes an overview of the node, at most a second old.
func ServeOverview(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	body, err := overviewJSON(n)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(body)
	return err
}

func overviewCacheOf(n *node.Node) *overviewCache {
	type key struct{}
	return n.Extension(key{}, func() any { return new(overviewCache) }).(*overviewCache)
}

// ForgetOverview makes the next overview a new one, which shows the effect of a change.
func ForgetOverview(n *node.Node) {
	o := overviewCacheOf(n)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.json = nil
}

// overviewJSON returns an overview as JSON, at most a second old.
func overviewJSON(n *node.Node) ([]byte, error) {
	o := overviewCacheOf(n)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.json != nil && time.Since(o.at) < node.SampleInterval-node.SampleInterval/10 {
		return o.json, nil
	}
	v := Overview{Status: statusOf(n), At: time.Now()}
	v.History, _ = n.Monitor.History()
	v.TopGroups, _ = listGroups(n, "", hub.GroupsByRate, "", overviewRows)
	addHistories(n, v.TopGroups)
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
