package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Diagnosis is the response to POST /edgerelay/doctor.
type Diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
}

// DiagnosisTimeout bounds a diagnosis. Each check has a shorter timeout of its own.
const DiagnosisTimeout = time.Minute

// serveDoctor diagnoses the current configuration, for one client at a time.
func serveDoctor(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	config := n.Current()
	if config == nil {
		return errNoConfig
	}
	span, err := channelsTime(r)
	if err != nil {
		return err
	}
	type key struct{}
	diagnosing := n.Extension(key{}, func() any { return new(sync.Mutex) }).(*sync.Mutex)
	if !diagnosing.TryLock() {
		return errDiagnosing
	}
	defer diagnosing.Unlock()
	if span > 0 {
		return WriteJSON(w, Diagnosis{examineChannels(r.Context(), n, config, span)})
	}
	ctx, cancel := context.WithTimeout(r.Context(), DiagnosisTimeout)
	defer cancel()
	return WriteJSON(w, Diagnosis{Diagnose(ctx, config, n.Hub, n)})
}

// Diagnose runs all checks of a configuration. The hub uses the configuration's channel layer. running is the node of
// this process, or nil if the node does not run the configuration; checks of the process are then omitted.
func Diagnose(ctx context.Context, c *node.Config, h *hub.Hub, running *node.Node) (list []doctor.Finding) {
	if e, ok := c.Layer.(guest.Examiner); ok {
		list = append(list, e.Examine(ctx)...)
	}
	if e, ok := c.Layer.(guest.HistoryExaminer); ok && len(c.History.Rules) > 0 {
		list = append(list, e.ExamineHistory(ctx, c.History)...)
	}
	list = append(list, checkBroker(c, h.Broker(), running)...)
	for _, auth := range append([]guest.Auth{c.Auth}, c.RouteAuth...) {
		if e, ok := auth.(guest.Examiner); ok {
			list = append(list, e.Examine(ctx)...)
		}
	}
	if c.Backplane != nil {
		list = append(list, checkPeers(ctx, c, running)...)
	}
	if running != nil {
		list = append(list, checkPublishing(ctx, running)...)
		list = append(list, checkPresence(ctx, running)...)
		list = append(list, checkState(running)...)
		stats := h.Stats()
		list = append(list,
			doctor.Files(node.FileLimit(), c.Limits.Connections),
			doctor.Connect(node.AnnouncesConnect(), c.ExtendedConnect),
			checkHistory(h.History()),
			doctor.Compression(h.Compresses(), stats.ByDoor[relay.DoorWebSocket], h.CompressionStats()),
			doctor.Losses(h.Losses()),
			doctor.Clocks(stats.Lag.Skewed, stats.Deliveries))
		for _, p := range running.Routes.Paths() {
			list = append(list, doctor.RouteTypes(p.Path, p.Stats))
		}
		list = append(list, checkBackends(ctx, running)...)
		list = append(list, checkPluginNodes(ctx, running)...)
	}
	return append(list, doctor.RoundTrip(ctx, h))
}

// checkBroker checks the channel layer from the relay's point of view.
func checkBroker(c *node.Config, broker relay.Broker, running *node.Node) (list []doctor.Finding) {
	mailbox, hasMailbox := broker.(relay.Mailbox)
	if e, ok := c.Auth.(guest.MailboxExaminer); ok && hasMailbox {
		list = append(list, e.ExamineMailbox(mailbox.Capacity()))
	}
	if running == nil {
		return list
	}
	if hasMailbox {
		_, repairedAt := running.Monitor.History()
		list = append(list, doctor.Peak(mailbox.Peak(), mailbox.Capacity()),
			doctor.Wiped(broker.Health().Repairs, repairedAt))
	}
	if l, ok := broker.(relay.IgnoredTypeLister); ok {
		list = append(list, doctor.Ignored(l.IgnoredTypes()))
	}
	return list
}

// checkHistory reports whether histories are kept.
func checkHistory(history relay.History) doctor.Finding {
	inspector, ok := history.(relay.HistoryInspector)
	if !ok {
		return doctor.History(nil)
	}
	stats := inspector.HistoryStats()
	return doctor.History(&stats)
}

// checkPublishing examines the keys of edgerelay_publish, and the store of idempotency keys.
func checkPublishing(ctx context.Context, running *node.Node) (list []doctor.Finding) {
	var keys []doctor.PublishKey
	for _, k := range publishing.StateOf(running).Keys() {
		keys = append(keys, doctor.PublishKey{
			Name: k.Name, Groups: k.Groups, SecretLength: k.ShortestSecret, Literal: k.Literal, Cleartext: k.Cleartext,
		})
	}
	if len(keys) == 0 {
		return nil
	}
	keeper, _ := running.Hub.Broker().(relay.ClaimKeeper)
	return append(doctor.PublishKeys(keys), doctor.Claims(ctx, keeper))
}

// checkBackends asks the sites that answer the messages of current routes.
func checkBackends(ctx context.Context, running *node.Node) []doctor.Finding {
	all := running.Backends.All()
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(key string) bool { return !running.Routes.Has(key) })
	list := make([]doctor.Finding, len(keys))
	var checks sync.WaitGroup
	for i, key := range keys {
		path, _, _ := strings.Cut(key, "\x00")
		checks.Go(func() { list[i] = doctor.Backend(ctx, path, all[key]) })
	}
	checks.Wait()
	return list
}

// maxPeerChecks is the number of peers that are examined at a time. Each takes ten seconds at most.
const maxPeerChecks = 100

// checkPeers shakes hands with all configured and discovered peers, and measures the paths to them.
func checkPeers(ctx context.Context, c *node.Config, running *node.Node) (findings []doctor.Finding) {
	s, targets := c.Backplane.Settings, peerTargets(c, running)
	list := make([][]doctor.Finding, len(targets))
	var checks sync.WaitGroup
	slots := make(chan struct{}, maxPeerChecks)
	for i, target := range targets {
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			list[i] = doctor.Peer(ctx, target.URL, target.Found, s.Secrets, s.TLS)
		})
	}
	checks.Wait()
	return append(slices.Concat(list...), checkPeerClocks(running)...)
}

// checkPeerClocks reports the clocks of peers as the running backplane has measured them.
func checkPeerClocks(running *node.Node) (list []doctor.Finding) {
	if running == nil {
		return nil
	}
	plane := running.Backplane.Load()
	if plane == nil {
		return nil
	}
	nodes := plane.Nodes()
	for i := range nodes {
		if n := &nodes[i]; n.ClockError > 0 && n.State == backplane.StateConnected {
			seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
			list = append(list, doctor.PeerClock(n.Label(), seconds(n.ClockBehind), seconds(n.ClockError)))
		}
	}
	return list
}

// peerTargets lists the configured peers, and the peers that the running backplane has discovered.
func peerTargets(c *node.Config, running *node.Node) (targets []backplane.Target) {
	known := map[string]bool{}
	add := func(url string, found bool) {
		if url = strings.TrimSuffix(url, "/"); url != "" && !known[url] {
			known[url] = true
			targets = append(targets, backplane.Target{URL: url, Found: found})
		}
	}
	for _, d := range c.Backplane.Settings.Discoveries {
		if lister, ok := d.(backplane.Lister); ok {
			for _, target := range lister.List() {
				add(target.URL, target.Found)
			}
		}
	}
	if running == nil {
		return targets
	}
	if plane := running.Backplane.Load(); plane != nil {
		for _, p := range plane.Peers() {
			add(p.URL, p.Found)
		}
	}
	return targets
}
