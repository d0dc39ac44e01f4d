package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// overviewRows is how many groups and connections an overview shows.
const overviewRows = 12

// overview is what the console and `caddy edgerelay top` show: GET /edgerelay/overview.
type overview struct {
	nodeStatus
	// At is when it was gathered.
	At time.Time `json:"at"`
	// History has a sample for each of the last seconds, the oldest first.
	History []sample `json:"history"`
	// TopGroups are the groups with most events, SlowestConnections those for which most bytes wait.
	TopGroups          []groupStatus `json:"top_groups"`
	SlowestConnections []connection  `json:"slowest_connections"`
	// Backplane is the state of the other nodes; absent without a backplane.
	Backplane *backplane.Status `json:"backplane,omitempty"`
	// PluginList has all plugins in their order.
	PluginList []pluginStatus `json:"plugin_list"`
}

// overviews keeps the last overview as JSON, so that any number of viewers costs the same.
type overviews struct {
	mu   sync.Mutex
	at   time.Time
	json []byte
}

func (n *node) serveOverview(w http.ResponseWriter, _ *http.Request) error {
	body, err := n.overview()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(body)
	return err
}

// overview returns an overview as JSON, gathered within the last second.
func (n *node) overview() ([]byte, error) {
	o := &n.overviews
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.json != nil && time.Since(o.at) < sampleEvery-sampleEvery/10 {
		return o.json, nil
	}
	v := overview{nodeStatus: n.status(), At: time.Now()}
	v.History, _ = n.monitor.recent()
	v.TopGroups, _ = n.groups("", hub.GroupsByRate, "", overviewRows)
	slowest, _ := n.hub.SlowestSessions(hub.SessionFilter{}, overviewRows)
	v.SlowestConnections = connections(slowest)
	if plane := n.plane.Load(); plane != nil {
		s := plane.Status()
		v.Backplane = &s
	}
	v.PluginList = []pluginStatus{}
	if h := n.plugins.Load(); h != nil {
		v.PluginList = h.status()
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		return nil, err
	}
	o.at, o.json = v.At, body.Bytes()
	return o.json, nil
}
