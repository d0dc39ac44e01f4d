//go:build soak

package soak

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins/artifact"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

const (
	tokenKey   = "soak-token-key-of-at-least-32-bytes"
	publishKey = "soak-publish-key-of-at-least-32-byte"
	backplane  = "soak-secret-of-the-backplane-0123456789"
	historyKey = "soak-history-key-of-all-nodes-0123456789"
)

// site is the relays, with everything on, and the servers beside them.
type site struct {
	t *testing.T
	// store is the Redis of relay and near, elsewhere that of far, and state that of the functions.
	store, elsewhere, state *peers.Redis
	// relay is the node whose vitals are measured, near a neighbor on its Redis, far one behind the backplane, and ring
	// a node whose channel layer and histories are in memory.
	relay, near, far, ring *peers.Relay
	// toFar and toRelay are the links of the backplane.
	toFar, toRelay *testkit.Proxy
	// hooks counts the requests of the functions, and backend answers the messages of a route.
	hooks   *hookSite
	backend *backendSite
	private ed25519.PrivateKey
	keyLine string
	dir     string
	age     time.Duration // of histories
	trouble *trouble
	quiet   []byte // the modules
	room    []byte

	mu    sync.Mutex
	ended map[*peers.Relay]bool // nodes that do not run at the moment
}

func startSite(t *testing.T, age time.Duration) *site {
	t.Helper()
	debug := "http2xconnect=1"
	if os.Getenv("SOAK_HEAPS") != "" {
		debug += ",memprofilerate=16384" // a difference of some KiB is visible
	}
	t.Setenv("GODEBUG", debug) // of the relays
	s := &site{t: t, dir: t.TempDir(), ended: map[*peers.Relay]bool{}, age: age}
	s.sign()
	s.store, s.elsewhere = peers.StartRedis(t), peers.StartRedis(t)
	s.state = peers.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s.hooks, s.backend = startHooks(t), startBackend(t)
	s.far = peers.StartRelay(t, s.farFile())
	s.toFar = testkit.StartProxy(t, strings.TrimPrefix(s.far.URL, "http://"))
	s.relay = peers.StartRelay(t, s.file(0))
	s.toRelay = testkit.StartProxy(t, strings.TrimPrefix(s.relay.URL, "http://"))
	s.near = peers.StartRelay(t, s.nearFile())
	s.ring = peers.StartRelay(t, s.ringFile(0))
	if err := s.far.Load(s.farFile()); err != nil {
		t.Fatal(err)
	}
	return s
}

// sign makes a key and signed files of the plugins' modules.
func (s *site) sign() {
	s.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.private = private
	if s.keyLine, err = artifact.FormatPublicKey(public); err != nil {
		s.t.Fatal(err)
	}
	root := peers.Root(s.t)
	for name, from := range map[string]string{
		"quiet": filepath.Join(root, "examples", "plugins", "quiet", "plugin.wasm"),
		"room":  filepath.Join(root, "plugins", "testdata", "function.wasm"),
	} {
		wasm, err := os.ReadFile(from)
		if err != nil {
			s.t.Fatal(err)
		}
		if name == "quiet" {
			s.quiet = wasm
		} else {
			s.room = wasm
		}
		for file, text := range map[string][]byte{name + ".wasm": wasm, name + ".wasm.sig": s.signature(wasm, name)} {
			if err := os.WriteFile(filepath.Join(s.dir, file), text, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// signature returns the file of a module's signature.
func (s *site) signature(wasm []byte, plugin string) []byte {
	signature, err := artifact.Sign(wasm, s.private, plugin)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := artifact.FormatSignatures([]artifact.Signature{*signature})
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// emitter returns a broker that publishes to a Redis as AWX does.
func (s *site) emitter(store *peers.Redis) *redis.Broker {
	settings := redis.DefaultSettings()
	settings.URLs, settings.Capacity, settings.GroupExpiry = []string{store.URL}, 10_000, 157784760*time.Second
	b, err := redis.New(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b
}

// up returns the addresses of those of the nodes that run.
func (s *site) up(nodes ...*peers.Relay) func() []string {
	return func() (list []string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range nodes {
			if !s.ended[n] {
				list = append(list, n.URL)
			}
		}
		return list
	}
}

// fault fails the test for something that just went wrong, and tells which faults may have been the cause.
func (s *site) fault(format string, args ...any) { s.faultAt(time.Now(), format, args...) }

// faultAt is fault for an earlier time.
func (s *site) faultAt(at time.Time, format string, args ...any) {
	s.t.Errorf("%s %s\n\t%s", at.Format("15:04:05.000"), fmt.Sprintf(format, args...), s.trouble.near(at))
}

// end marks a node as ended or running.
func (s *site) end(n *peers.Relay, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[n] = ended
}

// features are the lines of the option edgerelay of the nodes on Redis. Reloads change the variant.
func (s *site) features(variant int, links string) string {
	return fmt.Sprintf(`		limits {
			groups_per_connection %d
			connections_per_user 0
			connections_per_address 0
			subscribe_rate 0
			queue_per_connection 128KiB
		}
		history inventory_update_events-* project_update_events-* workflow_events-* feed_* {
			count 4000
			size 4MiB
			age %v
		}
		history_key %s
		plugin_key soak %s
		plugin quiet %s {
			groups job_events-*
		}
		plugin room %s {
			groups orders-*
			watch orders-1
			join room_*
			publish room_* closed results alarms
			grant shared alarms
			fetch %s {
				methods POST
				private 127.0.0.0/8
				rate 1000
				in_flight 128
				once_for %v
			}
		}
		functions {
			state %s
		}
%s`, 50+variant%2, s.age, historyKey, s.keyLine, filepath.Join(s.dir, "quiet.wasm"), filepath.Join(s.dir, "room.wasm"),
		s.hooks.url, 2*s.age, s.state.URL, links)
}

// routes are the routes of the nodes on Redis.
func (s *site) routes() string {
	return fmt.Sprintf(`		path /websocket/
		route /ws/room/{room}/ {
			function room
			limits {
				message_rate 1000
			}
		}
		route /ws/alarms/ {
			groups alarms results
		}
		route /ws/feed/{feed}/ {
			groups feed_{feed}
			on soak.event json emitter group n pad
		}
		route /ws/chat/{chat}/ {
			auth jwt {
				key %s
				from query token
				allow chat_*
			}
			groups chat_{chat}
			on chat.message json message
			on presence.join json joined=user count
			on presence.leave json left=user count
			messages publish chat.message json message
			limits {
				message_rate 1000
			}
			presence {
				grace 1s
				groups chat_*
			}
		}
		route /ws/backend/ {
			messages backend %s {
				concurrency 8
			}
		}`, tokenKey, s.backend.url)
}

// file is the relay's Caddyfile.
func (s *site) file(variant int) string {
	return s.onRedis(s.store, s.features(variant, s.links(s.toFar)))
}

// nearFile is the Caddyfile of the neighbor.
func (s *site) nearFile() string { return s.onRedis(s.store, s.features(0, "")) }

// farFile is the Caddyfile of the node behind the backplane.
func (s *site) farFile() string {
	return s.onRedis(s.elsewhere, s.features(0, s.links(s.toRelay)))
}

// links is the backplane's block for a link; before the link exists, no peer answers.
func (s *site) links(link *testkit.Proxy) string {
	address := "127.0.0.1:1"
	if link != nil {
		address = link.Addr
	}
	return fmt.Sprintf("\t\tbackplane {\n\t\t\tsecret %s\n\t\t\tpeers http://%s\n\t\t}", backplane, address)
}

func (s *site) onRedis(store *peers.Redis, features string) string {
	text := caddyfile(store.URL, features)
	text = strings.Replace(text, "\tmetrics\n",
		"\tmetrics\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n\tstorage file_system "+
			filepath.Join(s.dir, "storage-"+filepath.Base(store.URL[:len(store.URL)-2]))+"\n", 1)
	return strings.Replace(text, "\tedgerelay\n", "\tedgerelay_console {\n\t\tactions on\n\t}\n\tedgerelay {\n"+s.routes()+
		"\n\t}\n", 1)
}

// ringFile is the Caddyfile of the node in memory. Idempotency keys are in its memory as well. They expire during the
// first play, so that a later rest has as many as the first.
func (s *site) ringFile(variant int) string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	skip_install_trust
	servers {
		protocols h1 h2c
	}
	log {
		level WARN
	}
	edgerelay {
		channel_layer memory
		auth none
		history system_job_events-* {
			count %d
			size 4MiB
			age %v
		}
		limits {
			connections_per_user 0
			connections_per_address 0
			subscribe_rate 0
		}
	}
}
{$SITE} {
	edgerelay_publish {
		key soak %s {
			groups *
			rate 100000
		}
		idempotency %v
	}
	edgerelay
	respond ok
}
`, 5000+variant%2, s.age, publishKey, s.age)
}
