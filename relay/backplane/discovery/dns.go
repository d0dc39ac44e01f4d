package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// DNS finds peers behind a DNS name, such as that of a Kubernetes headless service, and follows its changes.
type DNS struct {
	// Name is looked up for A and AAAA records, or for SRV records if it begins with an underscore, as in
	// _http._tcp.edgerelay.awx.svc.cluster.local.
	Name string
	// Scheme is http or https. Port is the port of nodes behind A and AAAA records.
	Scheme string
	Port   int
	// Python is the dialect of Python nodes behind the name; empty if there are none. Python nodes are sent AWX's
	// header, which can be replayed.
	Python backplane.Dialect
	// Every is the time between look-ups. Default: 10 s.
	Every time.Duration
	// Resolver looks up the name; nil is the system's resolver.
	Resolver *net.Resolver
	Log      *slog.Logger
}

var (
	_ backplane.Discovery = (*DNS)(nil)
	_ backplane.Patient   = (*DNS)(nil)
)

// patience is the number of answers after which a node without a link that is missing from them is left. At the default
// intervals, this is as long as events are kept for the node.
const patience = 6

// Key implements [backplane.Discovery].
func (d *DNS) Key() string {
	return fmt.Sprint("dns ", d.Scheme, " ", d.Name, ":", d.Port, " ", d.Every, " ", d.Python)
}

// Patience implements [backplane.Patient]: name servers return a part of many addresses.
func (d *DNS) Patience() int { return patience }

// Source implements [backplane.Patient].
func (d *DNS) Source() string {
	return fmt.Sprint("dns ", d.Scheme, " ", d.Name, ":", d.Port, " ", d.Python)
}

// Run implements [backplane.Discovery].
func (d *DNS) Run(ctx context.Context, found func([]backplane.Target)) {
	every := d.Every
	if every <= 0 {
		every = 10 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, failing := -1, false
	for {
		targets, err := d.lookup(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if !failing {
				d.Log.Warn("DNS look-up of peers failed, known peers stay", "name", d.Name, "error", err)
			}
		case err == nil:
			if last != len(targets) {
				last = len(targets)
				d.Log.Info("peers found in DNS", "name", d.Name, "count", last)
			}
			found(targets)
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (d *DNS) lookup(ctx context.Context) ([]backplane.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	targets := []backplane.Target{}
	add := func(host string, port int) {
		targets = append(targets, backplane.Target{
			URL:     d.Scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)),
			Dialect: cmp.Or(d.Python, backplane.Auto), Found: d.Python == "",
		})
	}
	if strings.HasPrefix(d.Name, "_") {
		_, records, err := resolver.LookupSRV(ctx, "", "", d.Name)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			add(strings.TrimSuffix(r.Target, "."), int(r.Port))
		}
	} else {
		addresses, err := resolver.LookupNetIP(ctx, "ip", d.Name)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			add(a.Unmap().String(), d.Port)
		}
	}
	if len(targets) == 0 {
		return nil, errors.New("the answer has no address")
	}
	slices.SortFunc(targets, func(x, y backplane.Target) int { return strings.Compare(x.URL, y.URL) })
	return slices.Compact(targets), nil
}
