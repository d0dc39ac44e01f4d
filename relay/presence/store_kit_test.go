package presence

import (
	"context"
	"fmt"
	"reflect"
	"testing"
)

// storeNode is a node of a store, without a tracker.
type storeNode struct {
	t     testing.TB
	store Store
	reg   Registration
}

func newStoreNode(t testing.TB, s Store, name string) *storeNode {
	t.Helper()
	n := &storeNode{t: t, store: s, reg: Registration{Node: name}}
	n.register()
	return n
}

func (n *storeNode) register() Registered {
	n.t.Helper()
	r, err := n.store.Register(context.Background(), 0, n.reg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.reg = r.Registration
	return r
}

func (n *storeNode) change(of string, changes ...Change) Changed {
	n.t.Helper()
	c, err := n.store.Change(context.Background(), 0, n.reg, of, changes)
	if err != nil {
		n.t.Fatal(err)
	}
	if c.Known {
		n.reg.Calls++
	}
	return c
}

func (n *storeNode) enter(user string, p *Policy) Changed {
	n.t.Helper()
	return n.change(n.reg.Node, Change{Op: OpEnter, Key: Key{"room", user}, Info: `{"name": "x y"}`, Policy: p})
}

// enterAcknowledged enters, and acknowledges the announcements as if they were published.
func (n *storeNode) enterAcknowledged(user string) []Announcement {
	n.t.Helper()
	told := n.enter(user, slow).Announcements
	for _, a := range told {
		n.acknowledge(a)
	}
	return told
}

func (n *storeNode) release(user string) Changed {
	n.t.Helper()
	return n.change(n.reg.Node, Change{Op: OpRelease, Key: Key{"room", user}})
}

func (n *storeNode) tend() Tended {
	n.t.Helper()
	tended, err := n.store.Tend(context.Background(), 0, n.reg, 100)
	if err != nil {
		n.t.Fatal(err)
	}
	return tended
}

// tendAll tends and does what is due.
func (n *storeNode) tendAll() (told []Announcement) {
	n.t.Helper()
	tended := n.tend()
	if !tended.Known {
		n.t.Fatal("the node is unknown")
	}
	for _, dead := range tended.Dead {
		held, _, err := n.store.Held(context.Background(), 0, dead, 0, 100)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, k := range held {
			n.change(dead, Change{Op: OpRelease, Key: k})
		}
		if err := n.store.Remove(context.Background(), 0, dead); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, k := range tended.Expired {
		told = append(told, n.change(n.reg.Node, Change{Op: OpExpire, Key: k}).Announcements...)
	}
	for _, a := range tended.Unclaimed {
		told = append(told, n.change(n.reg.Node, Change{Op: OpClaim, Key: a.Key, Kind: a.Kind}).Announcements...)
	}
	return told
}

func (n *storeNode) acknowledge(a Announcement) []Announcement {
	n.t.Helper()
	return n.change(n.reg.Node, Change{Op: OpAcknowledge, Key: a.Key, Kind: a.Kind, Members: a.Members}).Announcements
}

func kinds(list []Announcement) (text string) {
	for _, a := range list {
		text += fmt.Sprintf("%c%s=%d ", a.Kind, a.User, a.Members)
	}
	return text
}

func check[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func count(t *testing.T, s Store) int {
	t.Helper()
	list, err := s.List(context.Background(), "room", 10)
	if err != nil {
		t.Fatal(err)
	}
	return list.Count
}
