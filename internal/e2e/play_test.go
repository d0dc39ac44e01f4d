package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// patience bounds every wait for a frame; only a failure uses it up.
const patience = 30 * time.Second

// A scene is a script that browsers play against a site.
type scene struct {
	name  string
	steps []step
}

// A step does or expects one thing.
type step func(*play) error

// A play is one scene on one site.
type play struct {
	t       testing.TB
	stage   *stage
	site    site
	clients map[string]*actor
	current *actor
}

// A site is where scenes are played.
type site struct {
	name string
	url  string
	// relay: ours, which does better than Daphne where a step differs.
	relay bool
}

// A stage is what all scenes share.
type stage struct {
	redis      *peers.Redis
	controller *peers.Controller
	emitter    *peers.Layer
	logins     map[string]peers.Login
}

// An actor is one connection of a browser.
type actor struct {
	*wstest.Client
	token string
	over  bool
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{redis: peers.StartRedis(t), logins: map[string]peers.Login{}}
	s.controller = peers.StartController(t, s.redis.URL)
	s.emitter = peers.StartEmitter(t, s.redis.URL)
	for user := range peers.UserIDs {
		s.logins[user] = s.controller.Login(user)
	}
	return s
}

func (s *stage) daphne() site { return site{name: "daphne", url: s.controller.URL} }

// play plays one scene on a site. In the end every connection that is still open
// is asked something that is always refused: a frame too many anywhere before
// that is then found, without waiting for silence.
func (s *stage) play(t *testing.T, where site, sc scene) {
	t.Helper()
	p := &play{t: t, stage: s, site: where, clients: map[string]*actor{}}
	p.run(sc.steps)
	for name, a := range p.clients {
		if a.over {
			continue
		}
		p.current = a
		p.run([]step{
			send(`{"xrftoken": "not the token"}`),
			want(`{"error": "access denied to channel"}`),
		})
		if err := a.Close(1000); err != nil {
			t.Errorf("client %q: closing in the end: %v", name, err)
		}
	}
	if !where.relay {
		// Channels does not take a consumer that died out of its groups. What is
		// sent there later can meet the end of another one, which then hangs
		// instead of closing (seen with channels_redis 4.0.0).
		s.emitter.WipeGroups(s.redis.URL)
	}
}

func (p *play) run(steps []step) {
	p.t.Helper()
	for i, do := range steps {
		if err := do(p); err != nil {
			p.t.Fatalf("on %s: step %d: %v", p.site.name, i+1, err)
		}
	}
}

// A handshake says how a browser connects.
type handshake struct {
	// name of the connection, for [on]; "" is the first.
	name string
	// user whose cookies are sent; "" for none.
	user string
	// path; /websocket/ if empty.
	path string
	// header fields to set, after the cookies. In values, $SITE is the site's
	// origin, $SESSION and $XRF the values of the user's two cookies.
	header map[string]string
}

func (p *play) dial(h handshake) (*wstest.Client, *http.Response, error) {
	login := p.stage.logins[h.user]
	header := http.Header{}
	if h.user != "" {
		header = login.Header()
	}
	fill := strings.NewReplacer("$SITE", p.site.url, "$SESSION", login.Session, "$XRF", login.CSRF)
	for key, value := range h.header {
		header.Set(key, fill.Replace(value))
	}
	if h.path == "" {
		h.path = "/websocket/"
	}
	return wstest.Dial(p.t, p.site.url+h.path, header)
}
