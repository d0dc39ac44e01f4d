package plugins

import "testing"

func TestPositionTokens(t *testing.T) {
	for _, c := range []struct {
		token string
		want  Position
		err   bool
	}{
		{"", Position{}, false},
		{"AAYvs2UAAAAAAAAAAAAABw", Position{Micros: 0x62fb365000000, Mark: 7}, false},
		{"AAYvs2UAAAAAAAAAAAAABwAC", Position{Micros: 0x62fb365000000, Mark: 7, Part: 2}, false},
		{"AAYvs2UAAAAAAAAAAAAABwAA", Position{}, true}, // has a shorter token
		{"AAAAAAAAAAAAAAAAAAAAAA", Position{}, true},   // no event's
		{"AAYvs2UAAAAAAAAAAAAABx", Position{}, true},   // a bit that no position has
		{"AAYvs2UAAAAAAAAAAAAAB", Position{}, true},
		{"AAYvs2UAAAAAAAAAAAAAB\n", Position{}, true},
		{"latest", Position{}, true},
	} {
		got, err := ParsePosition(c.token)
		if got != c.want || (err != nil) != c.err {
			t.Errorf("%q is %+v (%v), want %+v", c.token, got, err, c.want)
		}
		if !c.err && got.String() != c.token {
			t.Errorf("%+v becomes %q, want %q", got, got, c.token)
		}
	}
}

// TestEventPosition: a plugin sees the position of an event, also in events that another plugin emitted in the group.
// Each output of the group has it. Other groups have histories of their own.
func TestEventPosition(t *testing.T) {
	second, other := actor(t), actor(t)
	second.Name, other.Name, other.Groups = "second", "other", []string{"s"}
	p := pipeline(t, Options{}, actor(t), second, other)
	at, held := Position{Micros: 1_700_000_000_000_000, Mark: 5}, Position{Micros: 1_700_000_000_000_000, Mark: 4}
	ask := string(do("position"))
	for _, c := range []struct {
		name, event, want string
		at                Position
		positions         []Position // of the outputs
	}{
		{"own", ask, "g1 " + at.String(), at, []Position{at}},
		{"none", ask, "g1 -1", Position{}, []Position{{}}},
		{"replaced before", string(do("replace", "with", ask)), "g1 " + at.String(), at, []Position{at}},
		{"split", string(do("split")), `g1 {"part":1}; g1 {"part":2}; g1 {"part":3} to 110`, at, []Position{at, at, at}},
		{"another group", string(do("route", "to", "s", "with", ask)), "s -1", at, []Position{{}}},
		{
			"held back", string(do("emit_at", "at", held.String())), "", held,
			[]Position{held},
		},
		{"no position", string(do("emit_at", "at", "no position")), "g1 -5", at, []Position{at}},
	} {
		out := p.Process(Event{Group: "g1", Payload: []byte(c.event), Position: c.at}, nil)
		if c.want != "" && show(out) != c.want {
			t.Errorf("%s: %s, want %s", c.name, show(out), c.want)
		}
		if len(out) != len(c.positions) {
			t.Fatalf("%s: %d outputs", c.name, len(out))
		}
		for i := range out {
			if out[i].Position != c.positions[i] {
				t.Errorf("%s: output %d has the position %v, want %v", c.name, i, out[i].Position, c.positions[i])
			}
		}
	}
	view := Event{Group: "g1", Payload: []byte("{}"), Position: at}
	if got, _, _ := p.renderNow(6, view); string(got) != at.String() {
		t.Errorf("on_class sees the position %q, want %q", got, at)
	}
	var withheld []Position
	p.OnWithheld(func(_ string, at Position) { withheld = append(withheld, at) })
	p.Process(Event{Group: "g1", Payload: do("trap"), Position: at}, nil)
	p.Process(Event{Group: "g1", Payload: do("route", "to", "s", "with", string(do("trap"))), Position: at}, nil)
	if len(withheld) != 2 || withheld[0] != at || !withheld[1].IsZero() {
		t.Errorf("withheld at %v, want %v and none for the other group", withheld, at)
	}
}
