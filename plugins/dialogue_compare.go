package plugins

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// decision is what a function has decided in a call, or what a sample expects.
type decision struct {
	verdict    string // empty: not known
	err        error
	status     int
	reason     string
	attachment *string           // nil: not known
	effects    []json.RawMessage // nil: not known
}

func (t *Trace) decision() decision {
	d := decision{verdict: t.Verdict.String(), err: t.Err, status: t.Status, reason: t.Reason, effects: []json.RawMessage{}}
	switch t.Verdict {
	case Failed:
		return decision{verdict: verdictError, err: t.Err}
	case Allow, Pass:
		if t.Hook != OnAlarm {
			d.attachment = &t.Attachment
		}
	}
	for _, e := range t.Effects {
		d.effects = append(d.effects, json.RawMessage(e))
	}
	return d
}

func (s *Sample) decision() decision {
	f := s.Function
	if f == nil {
		f = &FunctionSample{}
	}
	return decision{
		verdict: s.Verdict, status: f.WantStatus, reason: s.Reason, attachment: f.wantAttachment(), effects: f.Effects,
	}
}

// CompareFunction describes for people how the decision in a call of a function's hook differs from that of a
// recording, nil if it does not. Members of JSON with a name in ignore are not compared.
func (s *Sample) CompareFunction(t *Trace, ignore []string, limit int) []string {
	a, b := s.decision(), t.decision()
	return a.differences(&b, ignore, limit)
}

// CompareFunction is [Sample.CompareFunction] for two modules.
func (t *Trace) CompareFunction(other *Trace, ignore []string, limit int) []string {
	a, b := t.decision(), other.decision()
	return a.differences(&b, ignore, limit)
}

func (d *decision) differences(other *decision, ignore []string, limit int) []string {
	c := comparison{differences{limit: limit}, ignore}
	if d.verdict != "" && d.verdict != other.verdict {
		c.add("%s → %s", d.verdict, other.describe())
		if other.verdict == verdictError || d.verdict == verdictError {
			return c.lines // the rest follows from it
		}
	}
	if d.verdict == Deny.String() && other.verdict == Deny.String() {
		if d.status != 0 && d.status != other.status {
			c.add("status %d → %d", d.status, other.status)
		}
		if d.reason != other.reason {
			c.add("reason %q → %q", d.reason, other.reason)
		}
	}
	if d.attachment != nil && other.attachment != nil {
		c.texts("attachment", []byte(*d.attachment), []byte(*other.attachment))
	}
	if d.effects != nil && other.effects != nil {
		c.effects(d.effects, other.effects)
	}
	if c.more > 0 {
		c.lines = append(c.lines, fmt.Sprintf("and %d more", c.more))
	}
	return c.lines
}

// describe names the verdict, with the reason.
func (d *decision) describe() string {
	switch {
	case d.err != nil:
		return verdictError + ": " + d.err.Error()
	case d.reason != "":
		return d.verdict + ": " + d.reason
	case d.status != 0:
		return fmt.Sprintf("%s with %d", d.verdict, d.status)
	}
	return d.verdict
}

// comparison collects differences of effects.
type comparison struct {
	differences
	ignore []string
}

// texts compares two payloads.
func (c *comparison) texts(what string, a, b []byte) {
	if sameText(string(c.strip(a)), string(c.strip(b))) {
		return
	}
	for _, line := range Differences(c.strip(a), c.strip(b), c.limit) {
		c.add("%s: %s", what, line)
	}
}

// strip returns a text without the members that are not compared, if it is JSON.
func (c *comparison) strip(text []byte) []byte {
	if len(c.ignore) == 0 || len(text) == 0 {
		return text
	}
	return stripMembers(text, c.ignore)
}

func stripMembers(value []byte, names []string) []byte {
	members, ok := loosejson.Members(value)
	if !ok {
		return mapMembers(value, func(_ string, v []byte) []byte { return stripMembers(v, names) })
	}
	var l sampleLine
	for _, m := range members {
		if !slices.Contains(names, m.Name) {
			l.raw(m.Name, stripMembers(m.Value, names))
		}
	}
	return append(append([]byte{'{'}, l...), '}')
}

// sameText compares two texts. Where the first one has the mark of a concealed secret, the second one may have any
// text.
func sameText(a, b string) bool {
	if a == b || loosejson.Same([]byte(a), []byte(b)) {
		return true
	}
	parts := strings.Split(a, concealed)
	if len(parts) == 1 || !strings.HasPrefix(b, parts[0]) {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(b, part)
		if !ok {
			return false
		}
		b = after
	}
	return strings.HasSuffix(b, parts[len(parts)-1])
}

// effects compares two lists: what both have, in order, is the same; of the rest, effects of a kind correspond.
func (c *comparison) effects(a, b []json.RawMessage) {
	i, j := 0, 0
	for _, pair := range append(c.common(a, b), [2]int{len(a), len(b)}) {
		c.unequal(a, b, i, j, pair[0], pair[1])
		i, j = pair[0]+1, pair[1]+1
	}
}

// unequal describes the effects a[i:m], in whose place are the effects b[j:n].
func (c *comparison) unequal(a, b []json.RawMessage, i, j, m, n int) {
	used := make([]bool, len(b))
	for ; i < m; i++ {
		at := -1
		for k := j; k < n && at < 0; k++ {
			if !used[k] && effectName(a[i]) == effectName(b[k]) {
				at = k
			}
		}
		if at < 0 {
			c.add("effect %d is missing: %s", i+1, excerpt(a[i], 0))
			continue
		}
		used[at] = true
		c.effect(i+1, a[i], b[at])
	}
	for ; j < n; j++ {
		if !used[j] {
			c.add("effect %d is new: %s", j+1, excerpt(b[j], 0))
		}
	}
}

// effect describes how an effect differs.
func (c *comparison) effect(number int, a, b json.RawMessage) {
	x, _ := loosejson.Members(a)
	y, _ := loosejson.Members(b)
	has := map[string][]byte{}
	for _, m := range y {
		has[m.Name] = m.Value
	}
	name := effectName(a)
	for _, m := range x {
		what := fmt.Sprintf("effect %d, %s", number, name)
		if m.Name != name {
			what += ": " + m.Name
		}
		if other, ok := has[m.Name]; ok {
			c.texts(what, plainText(m.Value), plainText(other))
		} else {
			c.add("%s: %s → missing", what, excerpt(m.Value, 0))
		}
		delete(has, m.Name)
	}
	for _, m := range y {
		if _, extra := has[m.Name]; extra {
			c.add("effect %d, %s: %s: missing → %s", number, name, m.Name, excerpt(m.Value, 0))
		}
	}
}

// plainText returns the text of a JSON string, and any other value as it is.
func plainText(value []byte) []byte {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return value
	}
	return []byte(text)
}

// same reports whether two effects are equal.
func (c *comparison) same(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, _ := loosejson.Members(a)
	y, _ := loosejson.Members(b)
	return slices.EqualFunc(x, y, func(m, n loosejson.Member) bool {
		return m.Name == n.Name && sameText(string(c.strip(plainText(m.Value))), string(c.strip(plainText(n.Value))))
	})
}

// common returns the indexes of a longest common subsequence.
func (c *comparison) common(a, b []json.RawMessage) (pairs [][2]int) {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	equal := make([][]bool, len(a))
	for i := len(a) - 1; i >= 0; i-- {
		equal[i] = make([]bool, len(b))
		for j := len(b) - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if equal[i][j] = c.same(a[i], b[j]); equal[i][j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case equal[i][j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
