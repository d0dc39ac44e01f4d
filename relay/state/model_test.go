package state

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// model is the plainest store with the documented behavior, without lifetimes.
type model struct {
	values map[string]string
	lists  map[string][]string
}

func (m *model) answer(r *Request) (int32, string) {
	value, list := m.values[r.Key], m.lists[r.Key]
	set := func() (int32, string) {
		delete(m.lists, r.Key)
		if m.values[r.Key] = string(r.Value); len(r.Value) == 0 {
			delete(m.values, r.Key)
		}
		return OK, ""
	}
	switch {
	case r.Op == Set:
		return set()
	case r.Op == Push || r.Op == List:
		if value != "" {
			return Invalid, ""
		}
	case list != nil:
		return Invalid, ""
	}
	switch r.Op {
	case Get:
		if value == "" {
			return None, ""
		}
		return OK, value
	case Swap:
		if value != string(r.Expected) {
			return Conflict, value
		}
		return set()
	case Add:
		n, err := strconv.ParseInt(value, 10, 64)
		if value != "" && err != nil {
			return Invalid, ""
		}
		m.values[r.Key] = strconv.FormatInt(n+r.Delta, 10)
		return OK, m.values[r.Key]
	case Push:
		list = append(slices.Clone(list), string(r.Value))
		m.lists[r.Key] = list[max(0, len(list)-r.Limit):]
		return OK, ""
	}
	if list == nil {
		return None, "[]"
	}
	text, _ := json.Marshal(list[max(0, len(list)-r.Limit):])
	return OK, string(text)
}

// usage is what the values and lists need.
func (m *model) usage() (u Usage) {
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

func TestStoresBehaveLikeTheModel(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		m := &model{map[string]string{}, map[string][]string{}}
		texts := []string{"", "a", "7", "-3", "longer text", "<\u2028>", `"`}
		pick := func() []byte { return []byte(texts[random.IntN(len(texts))]) }
		type step struct {
			r      *Request
			status int32
			body   string
			got    chan Response
		}
		var steps []step
		for range 5000 {
			r := &Request{
				Plugin: "game", Op: Op(random.IntN(int(AlarmSet))), Key: fmt.Sprint("k", random.IntN(8)),
				Value: pick(), Expected: pick(), Delta: int64(random.IntN(9) - 4), Limit: 1 + random.IntN(4),
			}
			status, body := m.answer(r)
			st := step{r, status, body, make(chan Response, 1)}
			steps = append(steps, st)
			s.Start(r, func(res Response) { st.got <- res })
		}
		for i, st := range steps {
			if res := <-st.got; res.Status != st.status || string(res.Body) != st.body {
				t.Fatalf("seed %d, step %d, %v %s: got %d %q, want %d %q",
					seed, i, st.r.Op, st.r.Key, res.Status, res.Body, st.status, st.body)
			}
		}
		if u, err := s.Usage("game"); err != nil || u != m.usage() {
			t.Errorf("seed %d: usage %+v %v, want %+v", seed, u, err, m.usage())
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(byte(Get), []byte(`[0, "x"]`))
	f.Add(byte(List), []byte(`[0, "x", "y"]`))
	f.Add(byte(opClaim), []byte(`[0, 5, "name", 1, "payload", 0]`))
	f.Add(byte(opUsage), []byte(`[0, 5, 1, 2]`))
	f.Fuzz(func(t *testing.T, op byte, text []byte) {
		var list []any
		if json.Unmarshal(text, &list) != nil {
			return
		}
		for i, v := range list { // as the client of Redis has it
			if n, ok := v.(float64); ok {
				list[i] = int64(n)
			}
		}
		res := parse(Op(op), list)
		if res.Status > Conflict || res.wait < 0 || res.wait > startWindow {
			t.Errorf("status %d, wait %v", res.Status, res.wait)
		}
		for _, c := range res.claims {
			if res.Status != OK {
				t.Errorf("claim %q of a response with status %d", c.name, res.Status)
			}
		}
	})
}
