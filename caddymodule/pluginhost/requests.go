package pluginhost

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/outbound"
)

// requests carries out the HTTP requests of plugins. It implements [plugins.Service]. All methods are safe for
// concurrent use.
type requests struct {
	host *Host
	log  *slog.Logger

	mu      sync.Mutex // guards the fields below
	closed  bool
	clients map[string]*requester
	closing sync.WaitGroup // of clients that are no longer used
}

// requester makes the requests of one plugin.
type requester struct {
	*outbound.Client
	of      *Plugin       // whose policy the client has
	claimed atomic.Uint64 // requests that another node, or an earlier event, has made
}

// FetchStats are the counts of a plugin's requests.
type FetchStats struct {
	outbound.Stats
	// Claimed is the number of requests that were not made because of their "once".
	Claimed uint64
}

func newRequests(h *Host, log *slog.Logger) *requests {
	return &requests{host: h, log: log, clients: map[string]*requester{}}
}

// Start implements [plugins.Service].
func (f *requests) Start(r *plugins.Request, done func(plugins.Response)) {
	running, ok := f.host.configured(r.Plugin)
	switch {
	case !ok:
		done(refused(plugins.StatusUnavailable, "the plugin has been removed"))
		return
	case running.Fetch == nil || running.Shadow || running.ShadowOf != "":
		done(refused(plugins.StatusDenied, "the plugin's block has no fetch, or the plugin is a shadow"))
		return
	}
	req, err := outbound.Parse([]byte(r.Key))
	if err != nil {
		f.report(running, "", plugins.StatusInvalid, err.Error())
		done(refused(plugins.StatusInvalid, err.Error()))
		return
	}
	client, err := f.client(running)
	if err != nil {
		done(refused(plugins.StatusUnavailable, err.Error()))
		return
	}
	slot, result := client.Admit(req, r.Value)
	if slot == nil {
		done(f.response(running, req, result))
		return
	}
	go func() {
		defer slot.Release()
		if req.Once != "" {
			done(f.once(client, running, req, slot))
			return
		}
		done(f.response(running, req, slot.Do()))
	}()
}

// client returns the client of a plugin with its current policy.
func (f *requests) client(p *Plugin) (*requester, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.clients[p.Name]
	switch {
	case f.closed:
		return nil, errStale
	case c == nil:
		own, err := outbound.New(p.requests)
		if err != nil {
			return nil, err
		}
		c = &requester{Client: own, of: p}
		f.clients[p.Name] = c
	case c.of != p:
		if err := c.SetPolicy(p.requests); err != nil {
			return nil, err
		}
		c.of = p
	}
	return c, nil
}

// statuses are the statuses of requests without a response.
var statuses = map[outbound.Outcome]int32{
	outbound.Denied: plugins.StatusDenied, outbound.Invalid: plugins.StatusInvalid, outbound.TooLarge: plugins.StatusTooLarge,
	outbound.Busy: plugins.StatusBusy, outbound.Unavailable: plugins.StatusUnavailable,
}

// response returns the result of a request as the plugin gets it. Without a response of the server, the body is the
// reason.
func (f *requests) response(p *Plugin, req *outbound.Request, r outbound.Result) plugins.Response {
	if r.Outcome == outbound.Responded {
		return plugins.Response{Status: int32(r.Status), Body: r.Body}
	}
	status := statuses[r.Outcome]
	f.report(p, req.Host(), status, r.Reason)
	return refused(status, r.Reason)
}

func refused(status int32, reason string) plugins.Response {
	return plugins.Response{Status: status, Body: []byte(reason)}
}

// report logs why a request had no response. The URL may hold secrets; the host alone is shown.
func (f *requests) report(p *Plugin, host string, status int32, reason string) {
	hide := concealer(p.spec.Secrets)
	log := f.log.With("plugin", p.Name, "host", hide.Replace(host), "reason", hide.Replace(reason))
	switch status {
	case plugins.StatusDenied:
		log.Warn("plugin request denied", "remedy", "if the plugin is meant to make it, grant it in the plugin's fetch")
	case plugins.StatusInvalid:
		log.Warn("plugin request invalid")
	case plugins.StatusBusy:
		log.Warn("plugin request over its limit", "remedy", "raise in_flight or rate in the plugin's fetch")
	default:
		log.Warn("plugin request failed")
	}
}

// minConcealed is the length of the shortest secret that is concealed, as in plugins' own lines.
const minConcealed = 4

// concealer replaces secrets, in any case: host names are in lower case.
func concealer(secrets []string) *strings.Replacer {
	var pairs []string
	for _, s := range secrets {
		if len(s) >= minConcealed {
			pairs = append(pairs, s, "•••", strings.ToLower(s), "•••")
		}
	}
	return strings.NewReplacer(pairs...)
}

// align makes clients for the running plugins with fetch, and closes those of other plugins.
func (f *requests) align() {
	running, _ := f.host.snapshot()
	wanted := map[string]bool{}
	for _, p := range running {
		if own := p.module.plugin; own.Fetch != nil {
			wanted[p.Name] = true
			_, _ = f.client(own) // the policy is checked, so that only a host that closes has none
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, c := range f.clients {
		if !wanted[name] {
			delete(f.clients, name)
			f.closing.Go(c.Close)
		}
	}
}

// Fetches returns the counts of the plugins' requests, by plugin.
func (h *Host) Fetches() map[string]FetchStats {
	f := h.requests
	f.mu.Lock()
	clients := maps.Clone(f.clients)
	f.mu.Unlock()
	stats := map[string]FetchStats{}
	for name, c := range clients {
		stats[name] = FetchStats{c.Stats(), c.claimed.Load()}
	}
	return stats
}

// close ends all requests.
func (f *requests) close() {
	f.mu.Lock()
	f.closed = true
	list := slices.Collect(maps.Values(f.clients))
	f.mu.Unlock()
	for _, c := range list {
		f.closing.Go(c.Close)
	}
	f.closing.Wait()
}

// configured returns the settings with which a plugin runs.
func (h *Host) configured(name string) (*Plugin, bool) {
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	p := h.find(name)
	if p == nil || p.module == nil {
		return nil, false
	}
	return p.module.plugin, true
}
