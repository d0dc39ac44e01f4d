package lanes

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// node is a hub with plugins, and with a history of all groups.
type node struct {
	t       *testing.T
	hub     *hub.Hub
	lanes   *Lanes
	emitter relay.Broker
}

func newNode(t *testing.T, specs ...plugins.Spec) *node {
	t.Helper()
	h := hub.New(slog.New(slog.DiscardHandler))
	layer := memory.NewLayer()
	if err := h.SetBroker(t.Context(), layer.Broker()); err != nil {
		t.Fatal(err)
	}
	p, err := plugins.New(plugins.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t, h, New(p, h.Forward, Options{Losses: h, Reclassify: h.Reclassify}), layer.Broker()}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Close(ctx)
		n.lanes.Close()
		_ = p.Close()
	})
	h.SetAuthorizer(relay.Open{}, 0)
	h.SetProtocol(awx.Protocol{})
	h.SetInterceptor(n.lanes)
	h.SetHistory(ring.New(relay.HistoryPolicy{Rules: []relay.HistoryRule{
		{Pattern: "*", HistoryLimits: relay.DefaultHistoryLimits},
	}}, time.Now))
	if err := n.lanes.Apply(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) publish(text string) { n.t.Helper(); n.publishTo("jobs-1", text) }

func (n *node) publishTo(group, text string) {
	n.t.Helper()
	if _, err := n.emitter.Publish(context.Background(), group, []byte(text)); err != nil {
		n.t.Fatal(err)
	}
}

// browser is a connection of a client that gets positions. It records the frames.
type browser struct {
	session *hub.Session

	mu     sync.Mutex // guards frames
	frames []string
}

func (b *browser) Send(frames []byte, _ int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(frames) > 0 {
		n, head := int(frames[1]), 2
		if n == 126 {
			n, head = int(binary.BigEndian.Uint16(frames[2:])), 4
		}
		b.frames = append(b.frames, string(frames[head:head+n]))
		frames = frames[head+n:]
	}
	return true
}

func (b *browser) SendCopy(frames []byte, limit int) bool { return b.Send(frames, limit) }
func (*browser) Ping() bool                               { return true }
func (*browser) Waiting() (int, bool)                     { return 0, false }
func (*browser) LastRead() time.Time                      { return time.Now() }
func (*browser) Close(int, string)                        {}
func (*browser) Kill()                                    {}

// got returns the frames of a type, "" for all.
func (b *browser) got(kind string) (frames []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.frames {
		if kind == "" || strings.HasPrefix(f, `{"type":"`+kind+`"`) {
			frames = append(frames, f)
		}
	}
	return frames
}

// connect subscribes a user, which resumes from the last frame of an earlier connection; nil: from now on.
func (n *node) connect(user string, before *browser) *browser {
	n.t.Helper()
	b := &browser{}
	id := relay.Identity{ID: "1", Key: user, Profile: user}
	reservation, err := n.hub.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(id)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	b.session = reservation.Open(b)
	b.session.OptIn()
	sub, err := b.session.Authorize(n.t.Context(), "jobs-1", false)
	if err != nil {
		n.t.Fatal(err)
	}
	if before != nil {
		sub.Resume = &relay.Resume{After: []relay.Position{before.last(n.t)}}
	}
	change, err := b.session.Subscribe(n.t.Context(), []relay.Subscription{sub})
	if err != nil {
		n.t.Fatal(err)
	}
	b.session.SendChange(change, func(relay.Change) []byte { return []byte(`{"groups_current":{}}`) })
	testkit.Eventually(n.t, "the beginning", func() bool { return len(b.got("subscribed")) == 1 })
	return b
}

// last returns the position of the last event.
func (b *browser) last(t *testing.T) relay.Position {
	t.Helper()
	events := b.got("event")
	var frame struct{ Position string }
	if err := json.Unmarshal([]byte(events[len(events)-1]), &frame); err != nil {
		t.Fatal(err)
	}
	p, err := relay.ParsePosition(frame.Position)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	superuser = `{"username":"root","is_superuser":true}`
	person    = `{"username":"alice","is_superuser":false}`
)

// TestResumedClientsSeeTheirClass: a client that resumes gets exactly what a client of its class that has stayed has
// got, and nothing of another class.
func TestResumedClientsSeeTheirClass(t *testing.T) {
	n := newNode(t, plugins.Spec{Name: "classes", Wasm: guest(t, "classes"), Groups: []string{"jobs-*"}})
	type pair struct{ stays, leaves *browser }
	users := map[string]*pair{}
	for _, user := range []string{superuser, person} {
		users[user] = &pair{n.connect(user, nil), n.connect(user, nil)}
	}
	n.publish(`{"n":0}`)
	for _, u := range users {
		testkit.Eventually(t, "the first event", func() bool { return len(u.leaves.got("event")) == 1 })
		u.leaves.session.Close()
	}
	const events = 50
	for i := range events {
		n.publish(fmt.Sprintf(`{"n":%d,"secret":"hunter2"}`, i+1))
		n.publish(fmt.Sprintf(`{"n":%d,"only":1,"text":"for superusers"}`, i+1))
	}
	n.publish(`{"n":"last"}`)
	stayed := map[string][]string{}
	for name, user := range users {
		testkit.Eventually(t, "the last event", func() bool {
			stayed[name] = user.stays.got("event")
			return strings.Contains(stayed[name][len(stayed[name])-1], `"last"`)
		})
	}
	if len(stayed[superuser]) != 2*events+2 || len(stayed[person]) != events+2 {
		t.Fatalf("%d and %d live events", len(stayed[superuser]), len(stayed[person]))
	}
	for now, want := range stayed {
		for before, user := range users { // also with the positions, and the cookie, of another class
			b := n.connect(now, user.leaves)
			testkit.Eventually(t, "the replay", func() bool { return len(b.got("event")) >= len(want)-1 })
			if begin := b.got("subscribed")[0]; !strings.Contains(begin, `"recovered":true`) {
				t.Errorf("%s after %s: %s", now, before, begin)
			}
			// The slack of two seconds covers the first event, which the client has named.
			if got := b.got("event"); !slices.Equal(got, want[1:]) {
				t.Errorf("%s after %s: %d events, want the %d of a client that has stayed", now, before, len(got), len(want)-1)
			}
			if all := strings.Join(b.got(""), ""); now == person && (strings.Contains(all, "hunter2") ||
				strings.Contains(all, "for superusers")) {
				t.Errorf("a person sees %s", all)
			}
			b.session.Close()
		}
	}
}

// TestResumesUnderDeployments: classes are decided again while clients come back. None sees another's text.
func TestResumesUnderDeployments(t *testing.T) {
	spec := plugins.Spec{Name: "classes", Wasm: guest(t, "classes"), Groups: []string{"jobs-*"}}
	n := newNode(t, spec)
	first := n.connect(person, nil)
	n.publish(`{"n":0}`)
	testkit.Eventually(t, "the first event", func() bool { return len(first.got("event")) == 1 })
	for range 30 {
		n.publish(`{"secret":"hunter2"}`)
		n.publish(`{"only":1,"text":"for superusers"}`)
	}
	stop := make(chan struct{})
	var deployments sync.WaitGroup
	deployments.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			changed := spec
			changed.Config = fmt.Append(nil, i)
			if err := n.lanes.Apply(context.Background(), []plugins.Spec{changed}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	recovered := 0
	for i := range 20 {
		user := []string{person, superuser}[i%2]
		b := n.connect(user, first)
		if strings.Contains(b.got("subscribed")[0], `"recovered":true`) {
			recovered++
		}
		if all := strings.Join(b.got(""), ""); user == person && (strings.Contains(all, "hunter2") ||
			strings.Contains(all, "for superusers")) {
			t.Errorf("a person sees %s", all)
		}
		b.session.Close()
	}
	close(stop)
	deployments.Wait()
	testkit.Eventually(t, "a client resumes", func() bool {
		b := n.connect(superuser, first)
		defer b.session.Close()
		return strings.Contains(b.got("subscribed")[0], `"recovered":true`)
	})
	t.Logf("%d of 20 clients resumed meanwhile", recovered)
}

// TestResumeThroughAFailingPlugin: a client learns which events it does not get, and gets all others.
func TestResumeThroughAFailingPlugin(t *testing.T) {
	spec := actor(t, "jobs-*")
	spec.MaxFailures = 1000
	n := newNode(t, spec)
	const user = `{"do":"class"}` // class 5, for which the plugin renders {"for":5}
	first := n.connect(user, nil)
	n.publish(`{"do":"pass"}`)
	testkit.Eventually(t, "the first event", func() bool { return len(first.got("event")) == 1 })
	first.session.Close()
	stays := n.connect(user, nil)
	for range 3 {
		n.publish(`{"do":"trap","secret":"hunter2"}`)
		n.publish(`{"do":"split"}`) // three parts, of which one is for the classes 1 and 2
		n.publish(`{"do":"route","to":"elsewhere","with":"{}"}`)
	}
	testkit.Eventually(t, "the live events", func() bool { return len(stays.got("event")) == 6 })
	testkit.Eventually(t, "the withheld events", func() bool { return len(stays.got("withheld")) == 3 })
	b := n.connect(user, first)
	testkit.Eventually(t, "the replay", func() bool { return len(b.got("event")) == 6 && len(b.got("withheld")) == 3 })
	if got, want := b.got("event"), stays.got("event"); !slices.Equal(got, want) {
		t.Errorf("the replay has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, want := b.got("withheld"), stays.got("withheld"); !slices.Equal(got, want) {
		t.Errorf("withheld\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if all := strings.Join(b.got(""), ""); strings.Contains(all, "hunter2") {
		t.Errorf("the client sees %s", all)
	}
}

// TestEventsThatNoHistoryHas: an event that a plugin has emitted to another group, and that the client has missed, is a
// gap in the history of that group, whether other clients got the event or a plugin failed to process it.
func TestEventsThatNoHistoryHas(t *testing.T) {
	for _, emitted := range []string{`{"do":"pass"}`, `{"do":"trap"}`} {
		n := newNode(t, actor(t, "jobs-*"))
		leave := n.hub.Listen(t.Context(), "jobs-2", func(relay.Event) {})
		defer leave()
		first := n.connect(person, nil)
		n.publish(`{"n":0}`)
		testkit.Eventually(t, "the first event", func() bool { return len(first.got("event")) == 1 })
		first.session.Close()
		stays := n.connect(person, nil)
		with, _ := json.Marshal(emitted)
		n.publishTo("jobs-2", fmt.Sprintf(`{"do":"route","to":"jobs-1","with":%s}`, with))
		testkit.Eventually(t, "the emitted event, or its loss", func() bool {
			return len(stays.got("event"))+len(stays.got("gap")) == 1
		})
		if begin := n.connect(person, first).got("subscribed")[0]; !strings.Contains(begin, `"recovered":false,"reason":"gap"`) {
			t.Errorf("after %s: %s", emitted, begin)
		}
	}
}
