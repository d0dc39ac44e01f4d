// Package statetest tests the shared state of functions on a channel layer, by comparison with a plain model.
package statetest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/state"
)

// The overheads that a quota charges for a key and for an element of a list.
const (
	entryOverhead   = 64
	elementOverhead = 16
)

// model is the plainest store with the documented behavior, without lifetimes.
type model struct {
	values map[string]string
	lists  map[string][]string
}

func (m *model) answer(r *state.Request) (int32, string) {
	value, list := m.values[r.Key], m.lists[r.Key]
	set := func() (int32, string) {
		delete(m.lists, r.Key)
		if m.values[r.Key] = string(r.Value); len(r.Value) == 0 {
			delete(m.values, r.Key)
		}
		return state.OK, ""
	}
	switch {
	case r.Op == state.Set:
		return set()
	case r.Op == state.Push || r.Op == state.List:
		if value != "" {
			return state.Invalid, ""
		}
	case list != nil:
		return state.Invalid, ""
	}
	switch r.Op {
	case state.Get:
		if value == "" {
			return state.None, ""
		}
		return state.OK, value
	case state.Swap:
		if value != string(r.Expected) {
			return state.Conflict, value
		}
		return set()
	case state.Add:
		n, err := strconv.ParseInt(value, 10, 64)
		if value != "" && err != nil {
			return state.Invalid, ""
		}
		m.values[r.Key] = strconv.FormatInt(n+r.Delta, 10)
		return state.OK, m.values[r.Key]
	case state.Push:
		list = append(slices.Clone(list), string(r.Value))
		m.lists[r.Key] = list[max(0, len(list)-r.Limit):]
		return state.OK, ""
	}
	if list == nil {
		return state.None, "[]"
	}
	text, _ := json.Marshal(list[max(0, len(list)-r.Limit):])
	return state.OK, string(text)
}

// usage is what the values and lists need.
func (m *model) usage() (u state.Usage) {
	for key, value := range m.values {
		u.Keys++
		u.Bytes += int64(len(key) + len(value) + entryOverhead)
	}
	for key, list := range m.lists {
		u.Keys++
		u.Bytes += int64(len(key) + entryOverhead)
		for _, e := range list {
			u.Bytes += int64(len(e) + elementOverhead)
		}
	}
	return u
}

// Comparison makes random requests to a store and to the model.
type Comparison struct {
	t      testing.TB
	store  *state.Store
	model  *model
	seed   uint64
	random *rand.Rand
}

// New opens a store on a channel layer; nil is a store in this process.
func New(t testing.TB, layer relay.ScriptPipeliner) *Comparison {
	s := state.Open(layer, state.Limits{}, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	seed := rand.Uint64()
	return &Comparison{
		t, s, &model{map[string]string{}, map[string][]string{}}, seed, rand.New(rand.NewPCG(seed, 0)),
	}
}

// step is a request with the response of the model, and that of the store.
type step struct {
	r      *state.Request
	status int32
	body   string
	got    chan state.Response
}

// Run starts n requests, and compares the responses and the usage.
func (c *Comparison) Run(n int) {
	c.t.Helper()
	texts := []string{"", "a", "7", "-3", "longer text", "<\u2028>", `"`}
	pick := func() []byte { return []byte(texts[c.random.IntN(len(texts))]) }
	steps := make([]step, n)
	for i := range steps {
		r := &state.Request{
			Plugin: "game", Op: state.Op(c.random.IntN(int(state.AlarmSet))), Key: fmt.Sprint("k", c.random.IntN(8)),
			Value: pick(), Expected: pick(), Delta: int64(c.random.IntN(9) - 4), Limit: 1 + c.random.IntN(4),
		}
		status, body := c.model.answer(r)
		st := step{r, status, body, make(chan state.Response, 1)}
		steps[i] = st
		c.store.Start(r, func(res state.Response) { st.got <- res })
	}
	for i, st := range steps {
		if res := <-st.got; res.Status != st.status || string(res.Body) != st.body {
			c.t.Fatalf("seed %d, step %d, %v %s: got %d %q, want %d %q",
				c.seed, i, st.r.Op, st.r.Key, res.Status, res.Body, st.status, st.body)
		}
	}
	if u, err := c.store.Usage("game"); err != nil || u != c.model.usage() {
		c.t.Errorf("seed %d: usage %+v %v, want %+v", c.seed, u, err, c.model.usage())
	}
}

// Await waits until the store answers, as after a failover.
func (c *Comparison) Await() {
	c.t.Helper()
	testkit.Eventually(c.t, "the state is available", func() error {
		_, err := c.store.Usage("game")
		return err
	})
}
