package caddymodule

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// diagnosis is what POST /edgerelay/doctor answers.
type diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
}

// examineWait bounds an examination; each check has its own bounds within it.
const examineWait = time.Minute

func (n *node) serveDoctor(w http.ResponseWriter, r *http.Request) error {
	a := n.inForce()
	if a == nil {
		return errNoConfig
	}
	if !n.examining.TryLock() {
		return errExamining
	}
	defer n.examining.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), examineWait)
	defer cancel()
	return writeJSON(w, diagnosis{a.examine(ctx, n.hub, n)})
}

// inForce returns the configuration in force, nil if there is none.
func (n *node) inForce() *nodeConfig {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.attached) == 0 {
		return nil
	}
	return n.attached[len(n.attached)-1]
}

// examine looks at everything that a names, with a hub whose channel layer is a's. running is the node if it is in operation, else nil.
func (a *nodeConfig) examine(ctx context.Context, hub *hub.Hub, running *node) (list []doctor.Finding) {
	asAWX, isAWX := a.Authorizer.(*awx.Authorizer)
	if layer, ok := a.Layer.(*RedisLayer); ok {
		list = append(list, examineRedis(ctx, layer.settings)...)
		if isAWX {
			list = append(list, doctor.AWXCapacity(layer.settings.Capacity))
		}
		if broker, ok := hub.Broker().(*redis.Broker); ok && running != nil {
			_, repairedAt := running.monitor.recent()
			list = append(list, doctor.Peak(broker.Peak(), layer.settings.Capacity), doctor.Wiped(broker.Health().Repairs, repairedAt))
		}
	}
	if broker, ok := hub.Broker().(interface{ IgnoredTypes() []string }); ok && running != nil {
		list = append(list, doctor.Ignored(broker.IgnoredTypes()))
	}
	if layer, ok := a.Layer.(*RedisPubSubLayer); ok { // nothing is stored there that could be full, vanish or expire
		if hosts, closeAll, err := layer.settings.Clients(); err == nil {
			found := make([][]doctor.Finding, len(hosts))
			eachHost(hosts, func(i int, h *goredis.Client) { found[i] = doctor.Redis(ctx, h) })
			list = slices.Concat(append([][]doctor.Finding{list}, found...)...)
			closeAll()
		}
	}
	if isAWX {
		s := asAWX.Settings()
		list = append(list, doctor.AWX(ctx, s.URL, s.SessionCookie, s.Transport)...)
		list = append(list, doctor.EventRate())
	}
	if a.Backplane != nil {
		list = append(list, a.examinePeers(ctx, running)...)
	}
	if running != nil { // of this process; the command's own would tell nothing
		list = append(list, doctor.Files(fileLimit(), a.Limits.Connections))
		stats := hub.Stats()
		list = append(list, doctor.Losses(hub.Losses()))
		list = append(list, doctor.Clocks(stats.Lag.Skewed, stats.Deliveries))
	}
	return append(list, doctor.RoundTrip(ctx, hub))
}

func examineRedis(ctx context.Context, s redis.Settings) (list []doctor.Finding) {
	hosts, closeAll, err := s.Clients()
	if err != nil { // validated before
		return nil
	}
	defer closeAll()
	found := make([][]doctor.Finding, len(hosts))
	eachHost(hosts, func(i int, h *goredis.Client) {
		if found[i] = doctor.Redis(ctx, h); found[i][0].Level != doctor.Failure {
			found[i] = append(found[i], doctor.Access(ctx, h, s.Prefix)...)
		}
	})
	var reachable []*goredis.Client
	for i, h := range hosts {
		if list = append(list, found[i]...); found[i][0].Level != doctor.Failure {
			reachable = append(reachable, h)
		}
	}
	if len(reachable) > 0 {
		list = append(list, doctor.Prefix(ctx, reachable, s.Prefix),
			doctor.Capacity(ctx, reachable, s.Prefix, s.Capacity))
	}
	return list
}

// eachHost calls fn for all hosts at once, so that one that hangs does not use up the time of the others.
func eachHost(hosts []*goredis.Client, fn func(i int, h *goredis.Client)) {
	var asking sync.WaitGroup
	for i, h := range hosts {
		asking.Go(func() { fn(i, h) })
	}
	asking.Wait()
}

// examinePeers shakes hands with all peers that are listed or were found, at once.
func (a *nodeConfig) examinePeers(ctx context.Context, running *node) []doctor.Finding {
	s := a.Backplane.Settings
	known := map[string]bool{}
	var targets []backplane.Target
	add := func(url string, found bool) {
		if url = strings.TrimSuffix(url, "/"); url != "" && !known[url] {
			known[url] = true
			targets = append(targets, backplane.Target{URL: url, Found: found})
		}
	}
	for _, d := range s.Discoveries {
		if lister, ok := d.(backplane.Lister); ok {
			for _, target := range lister.List() {
				add(target.URL, target.Found)
			}
		}
	}
	if running != nil {
		if plane := running.plane.Load(); plane != nil {
			for _, p := range plane.Peers() {
				add(p.URL, p.Found)
			}
		}
	}
	list := make([]doctor.Finding, len(targets))
	var asking sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, target := range targets {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			list[i] = doctor.Peer(ctx, target.URL, target.Found, s.Secrets, s.TLS)
		})
	}
	asking.Wait()
	return list
}
