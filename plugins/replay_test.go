package plugins

import (
	"context"
	"strings"
	"testing"
)

// Deliveries differ if clients notice it.
func TestDeliveryDifferences(t *testing.T) {
	start := func(module string) *Trial {
		spec := Spec{Name: module, Wasm: fixture(t, module), Groups: []string{"*"}, Grants: Grants}
		trial, err := Try(context.Background(), Options{Logger: quiet}, spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(trial.Close)
		return trial
	}
	pass, actor := start("pass"), start("actor")
	for _, c := range []struct{ name, sample, want string }{
		{"pass", `{"do":"pass"}`, ""},
		{"replacement by equal bytes", `{"do":"payload"}`, ""},
		{"drop", `{"do":"drop"}`, "delivered → dropped"},
		{"failure", `{"do":"trap"}`, "delivered → error"},
		{"replacement", `{"do":"empty"}`, `{"do":"empty"} → nothing`},
		{"audience", `{"do":"audience"}`, "audience 0xffffffffffffffff → 0x4"},
		{
			"emissions", `{"do":"split"}`,
			"do: \"split\" → missing; part: missing → 1; 0 emitted events → 2",
		},
		{"denial", `{"user":{"do":"reason"}}`, "allow → deny"},
		{"class", `{"user":{"do":"class"}}`, "class 0 → 5"},
		{"view", `{"class":3,"payload":{}}`, "for: missing → 3"},
	} {
		s, err := ParseSample([]byte(c.sample), "g")
		if err != nil {
			t.Fatal(c.name, err)
		}
		classes := []uint8{0}
		a, b := pass.Deliver(&s, classes), actor.Deliver(&s, classes)
		if got := strings.Join(a.Differences(&b, 9), "; "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		again := actor.Deliver(&s, classes)
		if got := b.Differences(&again, 9); got != nil {
			t.Errorf("%s differs from itself: %s", c.name, got)
		}
	}

	// Views of a hidden, a failing and a rendering class.
	s, err := ParseSample([]byte(`{"do":"audience","n":1}`), "g")
	if err != nil {
		t.Fatal(err)
	}
	d := actor.Deliver(&s, []uint8{1, 3})
	if len(d.Views) != 2 || !d.Views[0].Hidden || !d.Views[1].Hidden || d.Called != OnEvent {
		t.Errorf("%+v", d.Views)
	}
	s.Payload = []byte(`{}`)
	d = actor.Deliver(&s, []uint8{3, 8, 9})
	if string(d.Views[0].Payload) != `{"for":3}` || !d.Views[1].Hidden || d.Views[2].Err == nil || d.Failure() == nil ||
		d.Called != OnEvent|OnClass || d.Fuel <= 0 || d.Duration <= 0 {
		t.Errorf("%+v", d)
	}
}
