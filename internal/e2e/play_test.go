package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
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
	*peers.Client
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

func (p *play) dial(h handshake) (*peers.Client, *http.Response, error) {
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
	return peers.Dial(p.t, p.site.url+h.path, header)
}

// connect opens a connection and makes it the current one.
func connect(h handshake) step {
	return func(p *play) error {
		client, _, err := p.dial(h)
		if err != nil {
			return err
		}
		p.current = &actor{Client: client, token: p.stage.logins[h.user].CSRF}
		p.clients[h.name] = p.current
		return nil
	}
}

// refused expects an HTTP status instead of an upgrade.
func refused(h handshake, status int) step {
	return func(p *play) error {
		_, resp, err := p.dial(h)
		switch {
		case err == nil:
			return fmt.Errorf("the handshake was accepted, want status %d", status)
		case resp == nil:
			return err
		case resp.StatusCode != status:
			return fmt.Errorf("handshake: %s, want %d", resp.Status, status)
		}
		return nil
	}
}

// open connects with the cookies of a user and expects to be accepted.
func open(user string) step { return openAs("", user) }

// openAs is open with a name for the connection.
func openAs(name, user string) step {
	return steps(connect(handshake{name: name, user: user}), accepted(user))
}

func accepted(user string) step {
	return want(fmt.Sprintf(`{"accept": true, "user": %d}`, peers.UserIDs[user]))
}

// on plays steps on the connection of that name.
func on(name string, do ...step) step {
	return func(p *play) error {
		before := p.current
		defer func() { p.current = before }()
		if p.current = p.clients[name]; p.current == nil {
			return fmt.Errorf("no connection %q is open", name)
		}
		if err := steps(do...)(p); err != nil {
			return fmt.Errorf("client %q: %w", name, err)
		}
		return nil
	}
}

func steps(do ...step) step {
	return func(p *play) error {
		for i, s := range do {
			if err := s(p); err != nil {
				return fmt.Errorf("%d: %w", i+1, err)
			}
		}
		return nil
	}
}

// differs is where the contract has the relay do something else than Daphne; because
// is the sentence that says so. What Daphne really does is held to as well.
func differs(because string, daphne, relay step) step {
	return func(p *play) error {
		if !p.site.relay {
			return daphne(p)
		}
		if err := relay(p); err != nil {
			return fmt.Errorf("%w\n(differs from Daphne because: %s)", err, because)
		}
		return nil
	}
}

// send sends a text; $XRF in it is the connection's CSRF token.
func send(text string) step {
	return func(p *play) error { return p.current.Send(p.fill(text)) }
}

func (p *play) fill(text string) string {
	return strings.ReplaceAll(text, "$XRF", p.current.token)
}

func sendBinary(text string) step {
	return func(p *play) error { return p.current.SendBinary([]byte(p.fill(text))) }
}

func sendFragments(parts ...string) step {
	return func(p *play) error {
		filled := make([]string, len(parts))
		for i, part := range parts {
			filled[i] = p.fill(part)
		}
		return p.current.SendFragments(filled...)
	}
}

// subscribe sends a groups object with the right token.
func subscribe(groups string) step { return send(`{"groups": ` + groups + `, "xrftoken": "$XRF"}`) }

func ping() step { return func(p *play) error { return p.current.Ping() } }

// hangUp closes the connection; the other side has to answer.
func hangUp(code int) step {
	return func(p *play) error {
		p.current.over = true
		// The code that comes back is the other side's choice.
		if err := p.current.Close(code); err != nil && peers.CloseCode(err) == -1 {
			return err
		}
		return nil
	}
}

// publish emits an event with the real channels_redis.
func publish(group, text string) step {
	return func(p *play) error {
		p.stage.emitter.Send(peers.Event{Group: group, Text: text})
		return nil
	}
}

// message sends any message to a group with the real channels_redis.
func message(group string, m map[string]any) step {
	return func(p *play) error {
		p.stage.emitter.SendMessage(group, m)
		return nil
	}
}

// want expects a frame that is the same JSON, lists taken as sets.
func want(text string) step {
	return func(p *play) error {
		got, err := p.current.Next(patience)
		if err != nil {
			return fmt.Errorf("want %s: %w", text, err)
		}
		same, err := sameJSON(got, text)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("got  %s\nwant %s", got, text)
		}
		return nil
	}
}

// wantText expects a frame of exactly these bytes.
func wantText(text string) step {
	return func(p *play) error {
		got, err := p.current.Next(patience)
		if err != nil {
			return fmt.Errorf("want %.200q: %w", text, err)
		}
		if got != text {
			return fmt.Errorf("got  %.200q (%d bytes)\nwant %.200q (%d bytes)", got, len(got), text, len(text))
		}
		return nil
	}
}

// wantTexts expects these frames in any order: across groups there is none that
// counts.
func wantTexts(texts ...string) step {
	return func(p *play) error {
		missing := slices.Clone(texts)
		for range texts {
			got, err := p.current.Next(patience)
			if err != nil {
				return fmt.Errorf("want %q: %w", missing, err)
			}
			at := slices.Index(missing, got)
			if at < 0 {
				return fmt.Errorf("got %.200q, want one of %q", got, missing)
			}
			missing = slices.Delete(missing, at, at+1)
		}
		return nil
	}
}

// wantError expects {"error": "..."} with any text.
func wantError() step {
	return func(p *play) error {
		got, err := p.current.Next(patience)
		if err != nil {
			return fmt.Errorf("want an error frame: %w", err)
		}
		var frame map[string]string
		if err := json.Unmarshal([]byte(got), &frame); err != nil || len(frame) != 1 || frame["error"] == "" {
			return fmt.Errorf(`got %s, want {"error": "..."}`, got)
		}
		return nil
	}
}

// denied expects the refusal of one object.
func denied(kind, id string) step {
	return want(fmt.Sprintf(`{"error": "access denied to channel %s for resource id %s"}`, kind, id))
}

// answer expects the answer to a subscription; names are separated by spaces.
func answer(current, left, joined string) step {
	list := func(names string) string {
		text, err := json.Marshal(append([]string{}, strings.Fields(names)...))
		if err != nil {
			panic(err)
		}
		return string(text)
	}
	return want(fmt.Sprintf(`{"groups_current": %s, "groups_left": %s, "groups_joined": %s}`,
		list(current), list(left), list(joined)))
}

// wantClosed expects that the site closes the connection with this code and
// nothing before it.
func wantClosed(code int) step {
	return func(p *play) error {
		got, err := p.current.Next(patience)
		if err == nil {
			return fmt.Errorf("got %.200s, want a close with %d", got, code)
		}
		if peers.CloseCode(err) != code {
			return fmt.Errorf("want a close with %d, got: %w", code, err)
		}
		p.current.over = true
		return nil
	}
}

// wantDropped expects that the connection ends without a close frame.
func wantDropped() step {
	return func(p *play) error {
		got, err := p.current.Next(patience)
		if err == nil {
			return fmt.Errorf("got %.200s, want the end of the connection", got)
		}
		if peers.CloseCode(err) != -1 || errors.Is(err, peers.ErrQuiet) {
			return fmt.Errorf("want the connection to break, got: %w", err)
		}
		p.current.over = true
		return nil
	}
}

// get asks for a path without Upgrade.
func get(path string, status int) step {
	return func(p *play) error {
		resp, err := http.Get(p.site.url + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != status {
			return fmt.Errorf("GET %s: %s, want %d: %.200s", path, resp.Status, status, body)
		}
		return nil
	}
}

// sameJSON compares two JSON texts; the order in lists does not count, how often
// an item stands in them does.
func sameJSON(a, b string) (bool, error) {
	var va, vb any
	if err := json.Unmarshal([]byte(a), &va); err != nil {
		return false, fmt.Errorf("got a frame that is not JSON (%w): %.200q", err, a)
	}
	if err := json.Unmarshal([]byte(b), &vb); err != nil {
		return false, errors.Join(errors.New("the scene expects something that is not JSON"), err)
	}
	return reflect.DeepEqual(sorted(va), sorted(vb)), nil
}

func sorted(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = sorted(value)
		}
	case []any:
		for i := range v {
			v[i] = sorted(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return v
}
