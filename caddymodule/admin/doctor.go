package admin

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
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
	examining := n.Extension(key{}, func() any { return new(sync.Mutex) }).(*sync.Mutex) // one at a time is enough
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
	if e, ok := a.Layer.(guest.Examiner); ok {
		list = append(list, e.Examine(ctx)...)
	}
	list = append(list, examineBroker(a, hub.Broker(), running)...)
	if e, ok := a.Auth.(guest.Examiner); ok {
		list = append(list, e.Examine(ctx)...)
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

// examineBroker checks the channel layer as the relay sees it.
func examineBroker(a *node.Config, broker relay.Broker, running *node.Node) (list []doctor.Finding) {
	mailbox, hasMailbox := broker.(relay.Mailbox)
	if e, ok := a.Auth.(guest.MailboxExaminer); ok && hasMailbox {
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
		if plane := running.Backplane.Load(); plane != nil {
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
