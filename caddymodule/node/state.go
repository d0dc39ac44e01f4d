package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/state"
)

// alarmsSettle is the time after a start in which a node with peers leaves alarms to the nodes that have run before:
// the messages of an alarm are lost for clients of a peer without a link.
const alarmsSettle = 3 * time.Second

// alarmsCloseTimeout bounds the wait for alarms that are being processed when the relay stops or the state moves.
const alarmsCloseTimeout = 2 * time.Second

// StateConfig configures the shared state of plugins.
type StateConfig struct {
	// Hosts are the Redis of the state; without URLs, that of the channel layer.
	Hosts  state.Hosts
	Prefix string
	Limits state.Limits
}

// State is this node's part in the shared state and the alarms of plugins. While no plugin has the grant for either, it
// does nothing.
type State struct {
	node *Node
	// withAlarms are the plugins whose alarms may fire here.
	withAlarms atomic.Pointer[[]string]

	mu         sync.Mutex // guards the fields below
	store      *state.Store
	alarms     *state.Alarms
	connection *state.Connection // nil: the store uses the channel layer
	place      any               // identifies where the state is
}

// Store returns the store, nil while no plugin uses one.
func (s *State) Store() *state.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

// Plugins returns the plugins of the current configuration that may use the state: those with a grant for it or for
// alarms, and those with fetch, whose requests nodes may agree about.
func (s *State) Plugins() []string { return usersOf(s.node.Current()) }

func usersOf(c *Config) []string {
	names := withGrant(c, plugins.GrantShared, plugins.GrantAlarms)
	if c == nil {
		return names
	}
	for _, p := range c.Plugins {
		if p.Fetch != nil && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// withGrant returns the names of plugins with one of the grants.
func withGrant(c *Config, grants ...plugins.Grant) (names []string) {
	if c == nil {
		return nil
	}
	for _, p := range c.Plugins {
		has := func(g string) bool { return slices.Contains(grants, plugins.Grant(g)) }
		if slices.ContainsFunc(p.Grants, has) && !p.Shadow && p.ShadowOf == "" {
			names = append(names, p.Name)
		}
	}
	return names
}

// apply makes a configuration current. The caller holds the node's mu.
func (s *State) apply(c *Config) error {
	withAlarms := withGrant(c, plugins.GrantAlarms)
	s.withAlarms.Store(&withAlarms)
	former, err := s.replace(c)
	if former != nil {
		former()
	}
	return err
}

// replace makes a configuration current, and returns a function that closes what is no longer used, nil if there is
// nothing.
func (s *State) replace(c *Config) (former func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := s.placeOf(c)
	switch {
	case place == nil:
		former = s.detach()
		s.use(nil)
		return former, nil
	case place == s.place && s.store != nil:
		s.store.SetLimits(c.State.Limits)
		if s.connection != nil {
			return nil, s.connection.Apply(c.State.Hosts)
		}
		return nil, nil
	}
	var layer relay.ScriptPipeliner
	var connection *state.Connection
	if len(c.State.Hosts.URLs) > 0 {
		if connection, err = state.Connect(c.State.Hosts, c.State.Prefix); err != nil {
			return nil, err
		}
		layer = connection
	} else {
		layer, _ = s.node.Hub.Broker().(relay.ScriptPipeliner)
	}
	if layer == nil && c.Backplane != nil && len(withGrant(c, plugins.GrantShared, plugins.GrantAlarms)) > 0 {
		s.node.Log.Warn("shared state is in this process", "effect", "other nodes have a state of their own",
			"remedy", "shared state needs Redis: write 'state redis://…' in the block of functions")
	}
	former = s.detach()
	s.store, s.connection, s.place = state.Open(layer, c.State.Limits, s.node.Log), connection, place
	settings := state.AlarmSettings{
		Plugins: func() []string { return *s.withAlarms.Load() }, Fire: s.fire, Log: s.node.Log,
	}
	if c.Backplane != nil {
		settings.Settle = alarmsSettle
	}
	s.alarms = state.Schedule(s.store, settings)
	s.use(s.store)
	return former, nil
}

// ownRedis and ofLayer identify where the state is.
type (
	ownRedis struct{ hosts, prefix string }
	ofLayer  struct{ broker relay.Broker }
	process  struct{}
)

// placeOf identifies where a configuration has the state, nil if no plugin uses it.
func (s *State) placeOf(c *Config) any {
	if len(usersOf(c)) == 0 {
		return nil
	}
	if len(c.State.Hosts.URLs) > 0 {
		return ownRedis{c.State.Hosts.Place(), c.State.Prefix}
	}
	if broker, ok := s.node.Hub.Broker().(relay.ScriptPipeliner); ok {
		return ofLayer{broker.(relay.Broker)}
	}
	return process{}
}

// fire has a plugin process an alarm.
func (s *State) fire(ctx context.Context, plugin, name string, payload []byte) error {
	h := s.node.Plugins.Load()
	if h == nil {
		return context.Canceled // unreachable: plugins with the grant have a host
	}
	return h.Alarm(ctx, plugin, name, payload)
}

// use makes plugins' requests go to a store; nil: to none.
func (s *State) use(store *state.Store) {
	h := s.node.Plugins.Load()
	if h == nil {
		return
	}
	h.UseServices(func(services *plugins.Services) {
		services.Shared, services.Alarms = nil, nil
		if store != nil {
			services.Shared, services.Alarms = stateService{store}, stateService{store}
		}
	})
}

// detach forgets the store, and returns a function that closes it, nil if there is none. The caller holds s.mu.
func (s *State) detach() func() {
	store, alarms, connection := s.store, s.alarms, s.connection
	s.store, s.alarms, s.connection, s.place = nil, nil, nil, nil
	if store == nil {
		return nil
	}
	return func() {
		closeAlarms(alarms)
		store.Close()
		if connection != nil {
			connection.Close()
		}
	}
}

func closeAlarms(a *state.Alarms) {
	ctx, cancel := context.WithTimeout(context.Background(), alarmsCloseTimeout)
	defer cancel()
	a.Close(ctx)
}

// stopAlarms ends the firing of alarms before the node stops. Requests of clients that are closed still succeed.
func (s *State) stopAlarms() {
	s.mu.Lock()
	alarms := s.alarms
	s.mu.Unlock()
	if alarms != nil {
		closeAlarms(alarms)
	}
}

// close ends the state when the node stops.
func (s *State) close() {
	s.mu.Lock()
	former := s.detach()
	s.mu.Unlock()
	if former != nil {
		former()
	}
}

// stateService carries out requests of plugins. It implements [plugins.Service].
type stateService struct{ store *state.Store }

// Start implements [plugins.Service]. The operations and the statuses of both packages have the same numbers.
func (s stateService) Start(r *plugins.Request, done func(plugins.Response)) {
	s.store.Start(&state.Request{
		Plugin: r.Plugin, Op: state.Op(r.Op), Key: r.Key, Value: r.Value, Expected: r.Expected, Delta: r.Delta,
		Limit: r.Limit, TTL: r.TTL, At: r.At,
	}, func(res state.Response) { done(plugins.Response{Status: res.Status, Body: res.Body}) })
}
