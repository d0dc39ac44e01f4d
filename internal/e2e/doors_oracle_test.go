package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// An oracle knows every event of a test, and how each class sees it. Clients at all doors report the frames that they
// get. See [oracle.saw] for the rules.
type oracle struct {
	t       *testing.T
	events  map[string][]string // texts by group, from number 1 on
	covered map[string]bool     // groups whose secrets only superusers see
}

// The groups of the test, and the path of its route.
const (
	openGroup, statusGroup, routeGroup = "job_events-42", "jobs-status_changed", "r_1"
	routePath                          = "/room/1/"
)

var coveredGroups = []string{"job_events-44", "job_events-100"}

func newOracle(t *testing.T, count int) *oracle {
	o := &oracle{t: t, events: map[string][]string{}, covered: map[string]bool{}}
	for _, group := range append([]string{openGroup, statusGroup, routeGroup}, coveredGroups...) {
		for n := range count {
			o.events[group] = append(o.events[group], oracleText(group, n+1))
		}
	}
	for _, group := range coveredGroups {
		o.covered[group] = true
	}
	return o
}

// oracleWords make texts that resemble each other, as the events of a job do.
var oracleWords = strings.Fields(`TASK [common : install packages] ok: changed: [web1.example.com] => {"changed": false,
	"msg": "all packages present"} skipping: fatal: UNREACHABLE! PLAY RECAP stdout stderr uuid parent_uuid runner_on_ok`)

// oracleText returns a text of 60 B to 30 KB.
func oracleText(group string, n int) string {
	size := 0
	switch k := rand.IntN(20); {
	case k < 4:
	case k < 18:
		size = 200 + rand.IntN(4000)
	default:
		size = 10_000 + rand.IntN(20_000)
	}
	var fill strings.Builder
	for fill.Len() < size {
		fill.WriteString(oracleWords[rand.IntN(len(oracleWords))])
		if fill.WriteByte(' '); rand.IntN(6) == 0 {
			fill.WriteString(strconv.FormatUint(rand.Uint64(), 36))
		}
	}
	quoted, _ := json.Marshal(fill.String())
	return fmt.Sprintf(`{"g": %q, "n": %d, "secret": "s3cret-%016x", "fill": %s}`, group, n, rand.Uint64(), quoted)
}

// want is the text that a client gets.
func (o *oracle) want(group string, n int, user string) (string, error) {
	if n < 1 || n > len(o.events[group]) {
		return "", fmt.Errorf("%s has no event %d", group, n)
	}
	text := o.events[group][n-1]
	if o.covered[group] && user != peers.Admin {
		before, rest, _ := strings.Cut(text, `"s3cret-`)
		text = before + `"***"` + rest[17:]
	}
	return text, nil
}

// view is what a client knows, over all its connections.
type view struct {
	*oracle
	name, user string
	resumes    bool

	mu     sync.Mutex
	had    map[string]map[int]bool // numbers by group
	places map[string][]string     // the last positions by group
	last   map[string]int          // of this connection
	hole   map[string]int          // after this number, the client was told, events may be missing
	conns  int
	again  int // events that came again on another connection
	holes  []string
	ends   []string // of connections that the client has not left
	packed int      // compressed messages
	lies   int
	ready  bool
}

func (o *oracle) view(name, user string, resumes bool) *view {
	return &view{
		oracle: o, name: name + " of " + user, user: user, resumes: resumes, had: map[string]map[int]bool{},
		places: map[string][]string{}, hole: map[string]int{},
	}
}

// begin begins a connection.
func (v *view) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns++
	v.last, v.ready = map[string]int{}, false
}

// begun records that the client is subscribed.
func (v *view) begun() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ready = true
}

func (v *view) isReady() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ready
}

// fresh begins a subscription to a group.
func (v *view) fresh(group string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.last, group)
}

// told records that events of a group may be missing.
func (v *view) told(group, frame string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	newest := 0
	for n := range v.had[group] {
		newest = max(newest, n)
	}
	if from, ok := v.hole[group]; !ok || newest < from {
		v.hole[group] = newest
	}
	v.holes = append(v.holes, time.Now().Format("05.000 ")+frame)
}

func (v *view) at(group, position string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if position != "" {
		list := append(v.places[group], position)
		v.places[group] = list[max(0, len(list)-300):]
	}
}

// since is the member since of a message.
func (v *view) since() map[string][]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := map[string][]string{}
	for group, places := range v.places {
		list[group] = append([]string(nil), places...)
	}
	return list
}

// saw records an event: byte for byte as the user's class sees it; on a connection each event once, in order and
// without a hole, and over the connections of a client that resumes without a hole; unless the client was told about
// one.
func (v *view) saw(group, text, position string) {
	if err := v.check(group, text, position); err != nil {
		v.lie(err)
	}
}

// lie fails the test, once for each client.
func (v *view) lie(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lies++; v.lies < 4 {
		v.t.Errorf("%s: %v", time.Now().Format("15:04:05.000"), err)
	}
}

func (v *view) check(group, text, position string) error {
	head := text[:min(len(text), 100)]
	var number int
	if _, rest, ok := strings.Cut(head, `"n": `); ok {
		digits, _, _ := strings.Cut(rest, ",")
		number, _ = strconv.Atoi(digits)
	}
	if group == "" {
		_, rest, _ := strings.Cut(head, `"g": "`)
		group, _, _ = strings.Cut(rest, `"`)
	}
	want, err := v.want(group, number, v.user)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: %.200q", v.name, err, text)
	case text != want:
		return fmt.Errorf("%s: got %.100s\nwant %.100s", v.name, text, want)
	}
	v.at(group, position)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.had[group] == nil {
		v.had[group] = map[int]bool{}
	}
	last, began := v.last[group]
	from, told := v.hole[group]
	told = told && from < number
	v.last[group] = number
	switch {
	case began && number <= last:
		err = fmt.Errorf("%s: connection %d: %s %d after %d", v.name, v.conns, group, number, last)
	case began && !v.hasAll(group, last, number) && !told:
		err = fmt.Errorf("%s: connection %d: %s %d after %d, and no notice", v.name, v.conns, group, number, last)
	case !began && v.resumes && group != statusGroup && len(v.had[group]) > 0 && !told && number > 1 && !v.had[group][number-1]:
		err = fmt.Errorf("%s: connection %d begins with %s %d, and not all before it came", v.name, v.conns, group, number)
	}
	if v.had[group][number] {
		v.again++
	}
	v.had[group][number] = true
	return err
}

// hasAll reports whether all events between two have come on earlier connections: a replay leaves them out.
func (v *view) hasAll(group string, from, to int) bool {
	for n := from + 1; n < to; n++ {
		if !v.resumes || !v.had[group][n] {
			return false
		}
	}
	return true
}

// has reports whether the client has the last event of all groups.
func (v *view) has(groups []string, last int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range groups {
		if !v.had[g][last] {
			return fmt.Errorf("%s has no event %d of %s, but %d others, connection %d", v.name, last, g, len(v.had[g]), v.conns)
		}
	}
	return nil
}

func (v *view) counts() (s string) {
	for g, m := range v.had {
		s += fmt.Sprint(g, ":", len(m), " ")
	}
	return s
}

// complete checks the events of a client that resumes, or has stayed.
func (v *view) complete(groups []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range groups {
		_, told := v.hole[g]
		if n := len(v.had[g]); g != statusGroup && n != len(v.events[g]) && !told { // which has no history
			v.t.Errorf("%s has %d of %d events of %s", v.name, n, len(v.events[g]), g)
		}
	}
}

// frame records a frame of the subprotocol.
func (v *view) frame(text string) {
	var f positioned
	if !strings.HasPrefix(text, `{"type":`) {
		return
	}
	f.frame = text
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		v.lie(fmt.Errorf("%s: %w: %.300s", v.name, err, text))
	}
	switch f.Type {
	case "event":
		v.saw(f.Group, f.text(), f.Position)
	case "subscribed":
		v.begun()
		if f.Recovered != nil && !*f.Recovered {
			v.told(f.Group, text)
		}
		if f.Events != nil && *f.Events == 0 {
			v.at(f.Group, f.Position)
		}
	case "gap":
		for _, g := range f.Groups {
			v.told(g, text)
		}
	default:
		v.lie(fmt.Errorf("%s: %s", v.name, text))
	}
}
