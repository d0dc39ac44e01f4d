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

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

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
		if err := p.current.Close(code); err != nil && wstest.CloseCode(err) == -1 {
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
		if wstest.CloseCode(err) != code {
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
		if wstest.CloseCode(err) != -1 || errors.Is(err, wstest.ErrQuiet) {
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
