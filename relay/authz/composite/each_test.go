package composite_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/composite"
)

// Authorizers of any type can be members. Each distinct one is visited once.
func TestEachVisitsAuthorizersOfAnyType(t *testing.T) {
	shared := &struct{ relay.Open }{}
	a := composite.New(uncomparable{list: []string{"x"}})
	for name, member := range map[string]relay.Authorizer{"a": shared, "b": shared, "c": uncomparable{}} {
		if _, err := a.Add(name, member); err != nil {
			t.Fatal(err)
		}
	}
	visits := 0
	a.Each(func(string, relay.Authorizer) { visits++ })
	if visits != 3 {
		t.Errorf("%d visits, want 3", visits)
	}
	if n := a.Concurrency(); n <= 0 {
		t.Errorf("concurrency %d", n)
	}
}

// uncomparable is an authorizer that cannot be compared, as a third party's may be.
type uncomparable struct {
	relay.Open
	list []string
}
