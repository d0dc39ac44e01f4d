package backplane

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

// Backplane connects this node to its peers. All methods may be called concurrently. It implements
// [relay.Backplane].
type Backplane struct {
	hub          relay.Node
	log          *slog.Logger
	id           string   // new with each run
	features     []string // that this node lists in its hello; fewer in tests of earlier versions
	started      time.Time
	settings     atomic.Pointer[Settings]
	client       atomic.Pointer[http.Client]
	resolver     *net.Resolver // of the hosts in URLs; nil: the system's
	tap          tap
	layer        layer
	stats        counters
	metricsQueue chan []byte // AWX metrics to store in the layer's Redis

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	discoveries map[string]context.CancelFunc
	found       map[string][]Target // by discovery
	sightings   map[string]*sightings
	dialers     map[string]*dialer         // by URL
	ending      map[string]<-chan struct{} // by URL: closed when the previous dialer has ended
	links       map[*link]struct{}
	look        chan struct{}           // holds a token while watchLinks shall look at all links
	sameLayer   map[string]bool         // by URL of a Python peer: the last verdict of its probe
	backlogs    backlogs                // events for Python nodes
	pendingLoss map[string]*pendingLoss // by node: losses to report after a reconnect
	streams     map[string]*stream      // by node: events for relays
	incoming    map[string]*incoming    // by node: this node's places in the streams of relays
	turns       atomic.Uint64           // requests for streams
	refillSlots chan struct{}           // holds a token for each reader of the history

	interest     interest
	rejectionLog rejectionLog
}

var _ relay.Backplane = (*Backplane)(nil)

// New returns a Backplane that is not running yet. It delivers to hub and logs to log.
func New(hub relay.Node, s Settings, log *slog.Logger) (*Backplane, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b := &Backplane{
		hub: hub, log: log, id: rand.Text(), features: features(),
		metricsQueue: make(chan []byte, 256),
		discoveries:  map[string]context.CancelFunc{},
		found:        map[string][]Target{},
		sightings:    map[string]*sightings{},
		ending:       map[string]<-chan struct{}{},
		dialers:      map[string]*dialer{},
		links:        map[*link]struct{}{},
		look:         make(chan struct{}, 1),
		sameLayer:    map[string]bool{},
		backlogs:     backlogs{slots: map[string]*backlogSlot{}},
		pendingLoss:  map[string]*pendingLoss{},
		streams:      map[string]*stream{},
		incoming:     map[string]*incoming{},
		refillSlots:  make(chan struct{}, refillReads),
	}
	b.tap.init(b)
	b.interest.init()
	b.rejectionLog.last = map[Rejection]time.Time{}
	b.stats.dropped, b.stats.refused = map[string]uint64{}, map[Rejection]uint64{}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.setSettings(s)
	return b, nil
}

// ID identifies this node among relays. It is new with each run.
func (b *Backplane) ID() string { return b.id }

func (b *Backplane) setSettings(s Settings) {
	s = s.WithDefaults()
	old := b.settings.Swap(&s)
	if old == nil || old.TLS != s.TLS {
		b.client.Store(b.newClient(s.TLS))
	}
}

// Start starts discovery and the exchange of events. The hub must have a channel layer.
func (b *Backplane) Start() {
	b.interest.mu.Lock()
	b.started = time.Now()
	b.interest.mu.Unlock()
	b.readLayer(b.ctx)
	b.running.Go(b.watchLayer)
	b.running.Go(b.watchLinks)
	b.running.Go(b.storeMetrics)
	b.running.Go(b.sweepQueues)
	b.running.Go(b.tap.listenBroadcast)
	b.hub.SetBackplane(b)
	b.discover()
}

// Apply makes new settings effective. Links stay open, unless the dialect or TLS has changed.
func (b *Backplane) Apply(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	old := b.settings.Load()
	b.setSettings(s)
	if now := b.settings.Load(); old.Dialect != now.Dialect || old.TLS != now.TLS {
		b.disconnect("settings changed")
	}
	b.discover()
	return nil
}

// discover starts the discoveries of the current settings and ends all others.
func (b *Backplane) discover() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	wanted := map[string]Discovery{}
	for _, d := range b.settings.Load().Discoveries {
		wanted[d.Key()] = d
	}
	for key, cancel := range b.discoveries {
		if wanted[key] == nil {
			cancel()
			delete(b.discoveries, key)
		}
	}
	for key, d := range wanted {
		if b.discoveries[key] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(b.ctx)
		b.discoveries[key] = cancel
		b.running.Go(func() {
			d.Run(ctx, func(targets []Target) {
				b.mu.Lock()
				defer b.mu.Unlock()
				if ctx.Err() == nil {
					b.setFound(key, d, targets)
					b.pruneFound()
					b.updateDialers()
				}
			})
		})
	}
	b.pruneFound()
	b.updateDialers()
}

// pruneFound drops the targets of discoveries that have ended, once every current discovery has reported: until
// then, the same peers may be found again. b.mu is held.
func (b *Backplane) pruneFound() {
	for key := range b.discoveries {
		if _, ok := b.found[key]; !ok {
			return
		}
	}
	for key := range b.found {
		if b.discoveries[key] == nil {
			delete(b.found, key)
			delete(b.sightings, key)
		}
	}
}

// updateDialers dials new targets, and leaves those that no discovery reports any more. b.mu is held.
func (b *Backplane) updateDialers() {
	if b.closed {
		return
	}
	wanted := map[string]Target{}
	for _, targets := range b.found {
		for _, t := range targets {
			t.URL = canonicalURL(t.URL)
			if other, ok := wanted[t.URL]; ok {
				t = mergeTargets(t, other)
			}
			wanted[t.URL] = t
		}
	}
	for url, d := range b.dialers {
		t, ok := wanted[url]
		switch {
		case !ok:
			b.running.Go(d.leave)
		case t != d.target:
			d.cancel()
		default:
			continue
		}
		b.ending[url] = d.done
		delete(b.dialers, url)
		delete(b.sameLayer, url)
	}
	own := canonicalURL(b.settings.Load().Advertise)
	for url, t := range wanted {
		if b.dialers[url] == nil && url != own {
			b.startDialer(url, t)
		}
	}
	for url, done := range b.ending {
		select {
		case <-done:
			delete(b.ending, url)
		default:
		}
	}
}

// startDialer dials a target. b.mu is held.
func (b *Backplane) startDialer(url string, t Target) {
	ctx, cancel := context.WithCancel(b.ctx)
	d := newDialer(b, t, cancel)
	b.dialers[url] = d
	last := b.ending[url]
	b.running.Go(func() {
		defer close(d.done)
		if last != nil { // the previous dialer saves the groups of its node when it ends
			<-last
		}
		d.run(ctx)
	})
}

// leaving reports whether Close has been called.
func (b *Backplane) leaving() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// spawn runs f unless the backplane is closing. Close waits for f.
func (b *Backplane) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Go(f)
	return true
}

// Published implements [relay.Backplane]: like an AWX emitter, it also publishes the wrapped copy that peers of the
// broadcast dialect expect. These nodes pass a message on without its hops, so that a relay behind one counts from the
// start: they get the first hop alone.
// See docs/decisions/functions.md#how-do-loops-of-plugins-that-publish-end
func (b *Backplane) Published(ctx context.Context, m relay.Message) error {
	if d := b.settings.Load().Dialect; d != Auto && d != Broadcast ||
		m.Group == broadcastGroup || relay.SenderHops(m.Sender) > 1 {
		return nil
	}
	broker := b.hub.Broker()
	if broker == nil {
		return relay.ErrClosed
	}
	_, err := broker.Publish(ctx, broadcastGroup, appendBroadcast(nil, m.Group, m.Sender, m.Text))
	return err
}

// deliver passes a peer's events to local clients, and metrics to storeMetrics.
func (b *Backplane) deliver(l *link, events []relay.Event) {
	rest := events[:0]
	for _, ev := range events {
		if ev.Group == metricsGroup {
			if ev.Type != "" {
				continue
			}
			select {
			case b.metricsQueue <- ev.Text:
			default: // the next values replace them soon
			}
			continue
		}
		rest = append(rest, ev)
	}
	if len(rest) == 0 {
		return
	}
	l.eventsIn.Add(uint64(len(rest)))
	b.stats.eventsIn.Add(uint64(len(rest)))
	b.hub.Deliver(rest)
}

// Close withdraws this node's announcements and closes all links. It returns when that is done or ctx ends.
func (b *Backplane) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	if b.hub.Backplane() == relay.Backplane(b) {
		b.hub.SetBackplane(nil)
	}
	b.endStreams()
	b.endBacklogs()
	b.endGaps()
	var closes sync.WaitGroup
	for _, l := range b.allLinks() {
		closes.Go(func() {
			l.flushAcknowledged()
			l.closeWith(websocket.StatusGoingAway, "node is shutting down")
		})
	}
	said, done := make(chan struct{}), make(chan struct{})
	go func() {
		closes.Wait()
		close(said)
		b.running.Wait()
		close(done)
	}()
	select {
	case <-said:
	case <-ctx.Done():
	}
	b.stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
