package awx

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func TestSince(t *testing.T) {
	second := relay.Position{Micros: 2, Mark: 7, Part: 1}
	unknown := &relay.Resume{After: []relay.Position{{}}}
	for value, want := range map[string]*relay.Resume{
		`"` + token + `"`: {After: []relay.Position{position}},
		`["` + token + `", "` + second.String() + `"]`: {After: []relay.Position{position, second}},
		`["junk", 1, null, "` + token + `"]`:           {After: []relay.Position{position}},
		`["` + token + `", "junk"]`:                    {After: []relay.Position{position, {}}},
		`["` + token + `", 5]`:                         {After: []relay.Position{position, {}}},
		`"\u0041` + token[1:] + `"`:                    {After: []relay.Position{mustParse("A" + token[1:])}},
		`{"latest": 20}`:                               {Latest: 20},
		`{"latest": 20, "more": true}`:                 {Latest: 20},
		`{"latest": 99999999999999999999}`:             {Latest: 1<<31 - 1},
		`{"latest": 0}`:                                nil,
		`null`:                                         nil,
		`[]`:                                           nil,
		`"junk"`:                                       unknown,
		`""`:                                           unknown,
		`"` + relay.Position{}.String() + `"`:          unknown,
		`{}`:                                           unknown,
		`{"latest": -1}`:                               unknown,
		`{"latest": 1.5}`:                              unknown,
		`{"latest": "20"}`:                             unknown,
		`1`:                                            unknown,
		`true`:                                         unknown,
		`[[]]`:                                         unknown,
	} {
		s := parseSince([]byte(`{"other-1": "junk", "a-1": ` + value + `}`))
		if got := s.resume("a-1"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", value, got, want)
		}
		if got := s.resume("a-2"); got != nil {
			t.Errorf("%s: a group without a wish: %v", value, got)
		}
	}
	for raw, want := range map[string]*relay.Resume{``: nil, `null`: nil, `[]`: unknown, `1`: unknown, `"x"`: unknown, `{}`: nil} {
		s := parseSince([]byte(raw))
		if got := s.resume("a-1"); !reflect.DeepEqual(got, want) {
			t.Errorf("since %s: %v, want %v", raw, got, want)
		}
	}
}

func mustParse(token string) relay.Position {
	p, err := relay.ParsePosition(token)
	if err != nil {
		panic(err)
	}
	return p
}

// Of too many tokens the last ones count, so that the place to resume from is never lost.
func TestTokensAreBounded(t *testing.T) {
	list := func(n int) string {
		var tokens []string
		for i := range n {
			tokens = append(tokens, `"`+relay.Position{Micros: int64(i + 1)}.String()+`"`)
		}
		return `[` + strings.Join(tokens, ",") + `]`
	}
	var members []string
	for i := range 12 {
		members = append(members, fmt.Sprintf(`"a-%d": %s`, i, list(maxTokens+i)))
	}
	s := parseSince([]byte(`{` + strings.Join(members, ",") + `}`))
	for i := range 12 {
		want := maxTokens
		if i >= 10 {
			want = 1
		}
		after := s.resume(fmt.Sprint("a-", i)).After
		if last := after[len(after)-1].Micros; len(after) != want || last != int64(maxTokens+i) {
			t.Errorf("list %d: %d tokens, the last one %d", i, len(after), last)
		}
	}
}

func FuzzSince(f *testing.F) {
	for _, raw := range []string{
		`{"a-1": "` + token + `"}`, `{"a-1": ["` + token + `", "x"]}`, `{"a-1": {"latest": 3}}`, `{"a-1": [`, `[]`, `{"a-1": null}`, ``,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseJSON([]byte(`{"since": ` + string(raw) + `}`))
		if err != nil || len(m.since) == 0 {
			return
		}
		s := parseSince(m.since)
		r := s.resume("a-1")
		if r == nil {
			return
		}
		if r.Latest < 0 || r.Latest > 0 == (len(r.After) > 0) || len(r.After) > maxTokens {
			t.Errorf("%q: %+v", raw, r)
		}
		for _, p := range r.After[:max(len(r.After)-1, 0)] {
			if p.IsZero() {
				t.Errorf("%q: %+v", raw, r)
			}
		}
	})
}

// subscriber is a session that records subscriptions.
type subscriber struct {
	relay.Session
	subs []relay.Subscription
}

func (*subscriber) Limits() *relay.Limits { return new(relay.Limits) }
func (*subscriber) Holds([]string) bool   { return false }
func (*subscriber) Send([]byte) bool      { return true }

func (*subscriber) Authorize(_ context.Context, group string, _ bool) (relay.Subscription, error) {
	if strings.HasPrefix(group, "secret-") {
		return relay.Subscription{}, relay.ErrDenied
	}
	return relay.Subscription{Group: group}, nil
}

func (s *subscriber) Identity() relay.Identity { return relay.Identity{} }

func (s *subscriber) Subscribe(_ context.Context, subs []relay.Subscription) (relay.Change, error) {
	s.subs = subs
	return relay.Change{}, nil
}

func (s *subscriber) SendChange(relay.Change, func(relay.Change) []byte) bool { return true }

// The wish counts for the groups that the client may see, and for clients that have opted in.
func TestSinceInMessages(t *testing.T) {
	message := `{"groups": {"a": [1, 2], "secret": [1]}, "xrftoken": "t", "since": {"a-1": "` + token + `", "secret-1": "` + token + `"}}`
	wish := &relay.Resume{After: []relay.Position{position}}
	for _, positions := range []bool{false, true} {
		session := &subscriber{}
		c := Client{
			Shared: &Shared{Log: slog.New(slog.DiscardHandler)}, Session: session, CSRFToken: "t", Positions: positions,
		}
		c.Message(true, []byte(message))
		want := relay.Groups("a-1", "a-2")
		if positions {
			want[0].Resume = wish
		}
		if !reflect.DeepEqual(session.subs, want) {
			t.Errorf("opted in: %v: %+v, want %+v", positions, session.subs, want)
		}
	}
}
