package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/caddymodule/layers"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// diagnosis is what POST /edgerelay/doctor answers.
type Diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
}

// examineWait bounds an examination; each check has its own bounds within it.
const ExamineWait = time.Minute

func serveDoctor(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	a := n.Current()
	if a == nil {
		return errNoConfig
	}
	type key struct{}
	examining := n.Keep(key{}, func() any { return new(sync.Mutex) }).(*sync.Mutex) // one at a time is enough
	if !examining.TryLock() {
		return errExamining
	}
	defer examining.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), ExamineWait)
	defer cancel()
	return WriteJSON(w, Diagnosis{Examine(ctx, a, n.Hub, n)})
}

// Examine looks at everything that a names, with a hub whose channel layer is a's. running is the node if it is in operation, else nil.
func Examine(ctx context.Context, a *node.Config, hub *hub.Hub, running *node.Node) (list []doctor.Finding) {
	asAWX, isAWX := a.Authorizer.(*awx.Authorizer)
	if layer, ok := a.Layer.(*layers.RedisLayer); ok {
		list = append(list, examineRedis(ctx, layer.Settings())...)
		if isAWX {
			list = append(list, doctor.AWXCapacity(layer.Settings().Capacity))
		}
		if broker, ok := hub.Broker().(*redis.Broker); ok && running != nil {
			_, repairedAt := running.Monitor.Recent()
			list = append(list, doctor.Peak(broker.Peak(), layer.Settings().Capacity), doctor.Wiped(broker.Health().Repairs, repairedAt))
		}
	}
	if broker, ok := hub.Broker().(interface{ IgnoredTypes() []string }); ok && running != nil {
		list = append(list, doctor.Ignored(broker.IgnoredTypes()))
	}
	if layer, ok := a.Layer.(*layers.RedisPubSubLayer); ok { // nothing is stored there that could be full, vanish or expire
		if hosts, closeAll, err := layer.Settings().Clients(); err == nil {
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
		list = append(list, examinePeers(ctx, a, running)...)
	}
	if running != nil { // of this process; the command's own would tell nothing
		list = append(list, doctor.Files(node.FileLimit(), a.Limits.Connections))
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
func examinePeers(ctx context.Context, a *node.Config, running *node.Node) []doctor.Finding {
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
		if plane := running.Plane.Load(); plane != nil {
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
