package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// page is a client of a function. It keeps what the function asks for.
type page struct {
	mu      sync.Mutex
	actions []string
	more    chan struct{}
}

func newPage() *page { return &page{more: make(chan struct{}, 1000)} }

// Perform implements [Client].
func (p *page) Perform(actions []Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range actions {
		p.actions = append(p.actions, describe(&actions[i]))
		p.more <- struct{}{}
	}
}

func describe(a *Action) string {
	switch a.Kind {
	case ActionSend:
		if a.Binary {
			return "send binary " + string(a.Payload)
		}
		return "send " + string(a.Payload)
	case ActionJoin:
		return "join " + a.Group
	case ActionLeave:
		return "leave " + a.Group
	case ActionPublish:
		return fmt.Sprintf("publish %s %s %s %v", a.Group, a.Type, a.Payload, a.Others)
	}
	return fmt.Sprintf("close %d %s", a.Code, a.Payload)
}

// take returns the actions so far, once there are n.
func (p *page) take(t testing.TB, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-p.more:
		case <-time.After(20 * time.Second):
			t.Fatal("the function did not act")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.actions
	p.actions = nil
	return list
}

func functionSpec(t testing.TB) Spec {
	return Spec{
		Name: "f", Wasm: fixture(t, "function"), Groups: []string{"g*"}, Join: []string{"room_*"},
		Publish: []string{"room_*", "closed", "results", "alarms"}, Grants: []Grant{GrantShared, GrantAlarms, GrantFetch},
		Instances: 2, Timeout: time.Minute, Fuel: DefaultFuel,
	}
}

// open connects a page to the function f.
func open(t testing.TB, p *Pipeline, room string) (*Connection, *page) {
	t.Helper()
	request := fmt.Sprintf(`{"query":"","params":{"room":%q}}`, room)
	c, actions, err := p.Connect(context.Background(), "f", NewConnectionID(), []byte(request))
	if err != nil {
		t.Fatal(err)
	}
	got := newPage()
	got.Perform(actions)
	c.Open(got)
	got.take(t, len(actions))
	return c, got
}

func TestFunctionAnswersItsClient(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	c, actions, err := p.Connect(context.Background(), "f", 0xabc, []byte(`{"query":"","params":{"room":"room_1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := newPage()
	got.Perform(actions)
	c.Open(got)
	if list := got.take(t, 2); !slices.Equal(list, []string{"join room_1", "send welcome"}) {
		t.Errorf("after on_connect: %q", list)
	}
	for _, m := range []struct{ message, want string }{
		{`{"do":"echo","text":"hi"}`, "send hi"},
		{`{"do":"recall"}`, "send room_1"},
		{`{"do":"remember","text":"two"}`, "send 0"},
		{`{"do":"recall"}`, "send two"},
		{`{"do":"id"}`, "send 0000000000000abc"},
		{`{"do":"join","group":"room_2"}`, "join room_2"},
		{`{"do":"join","group":"secret"}`, "send -3"},
		{`{"do":"join","group":"room 2"}`, "send -4"},
		{`{"do":"leave","group":"room_2"}`, "leave room_2"},
		{`{"do":"close","code":"4001"}`, "close 4001 bye"},
		{`{"do":"close","code":"1002"}`, "send -4"},
		{`{"do":"publish","group":"room_1","text":"plain"}`, "publish room_1  plain false"},
		{
			`{"do":"publish","group":"room_1","type":"chat.message","text":"{\"a\":1}","flags":1}`,
			`publish room_1 chat.message {"a":1} true`,
		},
		{`{"do":"publish","group":"room_1","type":"chat.message","text":"[]"}`, "send -4"},
		{`{"do":"publish","group":"other","text":"x"}`, "send -3"},
		{"ping", "send pong"},
	} {
		if err := c.Message(true, []byte(m.message)); err != nil {
			t.Fatal(m.message, err)
		}
		if list := got.take(t, 1); list[0] != m.want {
			t.Errorf("%s: %q, want %q", m.message, list, m.want)
		}
	}
	if err := c.Message(false, []byte{0, 0xff}); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 1); list[0] != "send binary \x00\xff" {
		t.Errorf("binary: %q", list)
	}
}

func TestFunctionRefusesClients(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	for query, want := range map[string]RefusedError{
		"deny": {403, ""}, "teapot": {418, ""}, "reason": {403, "no seats"},
	} {
		_, _, err := p.Connect(context.Background(), "f", 1, []byte(`{"query":"`+query+`"}`))
		var refused *RefusedError
		if !errors.As(err, &refused) || *refused != want {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, query := range []string{"fail", "trap"} {
		if _, _, err := p.Connect(context.Background(), "f", 1, []byte(`{"query":"`+query+`"}`)); err == nil ||
			errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, _, err := p.Connect(context.Background(), "nobody", 1, nil); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("without the plugin: %v", err)
	}
}

// A message that the function cannot handle is an error for its client, and for no other.
func TestFunctionFailsForOneClient(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	bad, _ := open(t, p, "")
	good, got := open(t, p, "")
	for range 30 {
		if err := bad.Message(true, []byte(`{"do":"trap"}`)); err == nil {
			t.Fatal("a trap is no error")
		}
	}
	if err := good.Message(true, []byte(`{"do":"echo","text":"hi"}`)); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 1); list[0] != "send hi" {
		t.Errorf("got %q", list)
	}
}

// A module that takes the place of another finds the attachments.
func TestAttachmentSurvivesDeployment(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	c, got := open(t, p, "room_7")
	other := slices.Concat(fixture(t, "function"), []byte{0, 2, 1, 'x'}) // with an empty section of its own
	if err := p.Deploy(context.Background(), "f", other); err != nil {
		t.Fatal(err)
	}
	if err := c.Message(true, []byte(`{"do":"recall"}`)); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 1); list[0] != "send room_7" {
		t.Errorf("got %q", list)
	}
}

// kept is a service that keeps the requests.
type kept struct {
	mu   sync.Mutex
	list []*Request
	done []func(Response)
}

// Start implements [Service].
func (k *kept) Start(r *Request, done func(Response)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list, k.done = append(k.list, r), append(k.done, done)
}

func TestRequestsOfFunctions(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &kept{}
	p.SetServices(Services{Shared: service, Alarms: service, Fetch: service})
	c, got := open(t, p, "")
	want := []Request{
		{Op: SharedGet, Key: "k"},
		{Op: SharedSet, Key: "k", Value: []byte("v"), TTL: 5 * time.Millisecond},
		{Op: SharedSwap, Key: "k", Value: []byte("w"), Expected: []byte("v")},
		{Op: SharedAdd, Key: "n", Delta: -3},
		{Op: SharedPush, Key: "l", Value: []byte("v"), Limit: 9},
		{Op: SharedList, Key: "l", Limit: 9},
		{Op: AlarmSet, Key: "a", Value: []byte("p"), At: time.UnixMilli(1_900_000_000_000)},
		{Op: AlarmCancel, Key: "a"},
		{Op: HTTPFetch, Key: `{"url":"u"}`, Value: []byte("b")},
	}
	for i, message := range []string{
		`{"do":"get","key":"k","context":"c"}`,
		`{"do":"set","key":"k","value":"v","ttl":5,"context":"c"}`,
		`{"do":"swap","key":"k","expected":"v","value":"w","context":"c"}`,
		`{"do":"add","key":"n","delta":-3,"context":"c"}`,
		`{"do":"push","key":"l","value":"v","limit":9,"context":"c"}`,
		`{"do":"list","key":"l","limit":9,"context":"c"}`,
		`{"do":"alarm","key":"a","value":"p","at":1900000000000,"context":"c"}`,
		`{"do":"cancel","key":"a","context":"c"}`,
		`{"do":"fetch","key":"{\"url\":\"u\"}","value":"b","context":"c"}`,
	} {
		if err := c.Message(true, []byte(message)); err != nil {
			t.Fatal(message, err)
		}
		if len(service.list) != i+1 {
			t.Fatalf("%s: %d requests", message, len(service.list))
		}
		asked := service.list[i]
		want[i].Plugin = "f"
		if fmt.Sprint(*asked) != fmt.Sprint(want[i]) {
			t.Errorf("%s: %+v, want %+v", message, *asked, want[i])
		}
		service.done[i](Response{Status: int32(i), Body: []byte("body")})
		if list := got.take(t, 1); list[0] != fmt.Sprintf("send c %d body", i) {
			t.Errorf("%s: answer %q", message, list)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &kept{}
	p.SetServices(Services{Shared: service, Fetch: service})
	c, got := open(t, p, "")
	for _, m := range []struct{ message, want string }{
		{`{"do":"get","key":"k","times":17}`, "send -1"},
		{`{"do":"get","key":""}`, "send -4"},
		{`{"do":"list","key":"l","limit":0}`, "send -4"},
		{`{"do":"set","key":"k","ttl":-1}`, ""}, // beyond the range of durations: forever
		{`{"do":"set","key":"k","value":"` + strings.Repeat("v", maxSharedValue+1) + `"}`, "send -2"},
		{`{"do":"fetch","key":"no object"}`, "send -4"},
	} {
		if err := c.Message(true, []byte(m.message)); err != nil {
			t.Fatal(err)
		}
		if m.want == "" {
			continue
		}
		if list := got.take(t, 1); list[0] != m.want {
			t.Errorf("%.40s: %q, want %q", m.message, list, m.want)
		}
	}
	for range 3 {
		if err := c.Message(true, []byte(`{"do":"get","key":"k","times":16}`)); err != nil {
			t.Fatal(err)
		}
	}
	if len(service.list) > maxOwnRequests {
		t.Errorf("%d requests of one client are in flight", len(service.list))
	}
	if list := got.take(t, 1); list[0] != "send -1" {
		t.Errorf("beyond the bound: %q", list)
	}
}

// Requests without a service, or to one that is not configured, get an answer.
func TestRequestsWithoutService(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	c, got := open(t, p, "")
	if err := c.Message(true, []byte(`{"do":"get","key":"k","context":"c"}`)); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 1); list[0] != "send c -1 " {
		t.Errorf("got %q", list)
	}
}

// An answer that comes when the client has gone reaches the function, which can publish, and not send.
func TestAnswerAfterTheEnd(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &kept{}
	p.SetServices(Services{Shared: service})
	published := make(chan string, 10)
	p.SetPublisher(func(plugin string, a *Action) { published <- plugin + " " + describe(a) })
	c, client := open(t, p, "")
	if err := c.Message(true, []byte(`{"do":"get","key":"k","context":"c"}`)); err != nil {
		t.Fatal(err)
	}
	c.Ended(1001, "left")
	if got := client.take(t, 1); !slices.Equal(got, []string{"publish closed  left false"}) { // and no message for the client
		t.Errorf("got %q", got)
	}
	service.done[0](Response{Status: StatusNone})
	if got := <-published; got != "f publish results  c 1  false" {
		t.Errorf("got %q", got)
	}
}

func TestAlarmsAndEventsHaveEffects(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	service := &kept{}
	p.SetServices(Services{Shared: service})
	published := make(chan string, 10)
	p.SetPublisher(func(plugin string, a *Action) { published <- plugin + " " + describe(a) })
	ofAlarm := ""
	publish := func(a *Action) error { ofAlarm = describe(a); return nil }
	if err := p.Alarm(context.Background(), "f", "wake", []byte("up"), publish); err != nil {
		t.Fatal(err)
	}
	if ofAlarm != "publish alarms  wakeup false" {
		t.Errorf("got %q", ofAlarm)
	}
	failed := errors.New("no channel layer")
	publish = func(*Action) error { return failed }
	if err := p.Alarm(context.Background(), "f", "wake", []byte("up"), publish); !errors.Is(err, failed) {
		t.Errorf("an alarm whose message was not published: %v", err)
	}
	if err := p.Alarm(context.Background(), "f", "wake", []byte("fail"), nil); err == nil {
		t.Error("an alarm that fails was handled")
	}
	event := []byte(`{"do":"get","key":"k","context":"e"}`)
	p.Process(Event{Group: "g1", Payload: event}, nil)
	p.Process(Event{Group: "g1", Payload: event, Source: SourceHistory}, nil) // which has no effects
	if len(service.done) != 1 {
		t.Fatalf("%d requests", len(service.done))
	}
	service.done[0](Response{Body: []byte("v")})
	if got := <-published; got != "f publish results  e 0 v false" {
		t.Errorf("got %q", got)
	}
}

// Other groups are a matter of settings: the module keeps running.
func TestGroupsOfFunctionsChange(t *testing.T) {
	spec := functionSpec(t)
	p := pipeline(t, Options{}, spec)
	c, got := open(t, p, "")
	before := p.Health()[0].Loaded
	spec.Join, spec.Groups = []string{"secret"}, []string{"other"}
	if err := p.Apply(context.Background(), []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	if err := c.Message(true, []byte(`{"do":"join","group":"secret"}`)); err != nil {
		t.Fatal(err)
	}
	if list := got.take(t, 1); list[0] != "join secret" {
		t.Errorf("got %q", list)
	}
	if h := p.Health()[0]; !h.Loaded.Equal(before) || h.Deploys != 0 {
		t.Errorf("the module was loaded again: %v, %v, %d", before, h.Loaded, h.Deploys)
	}
}

// A module that only events call needs groups, also if it runs already.
func TestFilterNeedsGroups(t *testing.T) {
	spec := Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"g"}, NeedsGroups: true, Instances: 1}
	p := pipeline(t, Options{}, spec)
	spec.Groups = nil
	if err := p.Apply(context.Background(), []Spec{spec}); err == nil || !strings.Contains(err.Error(), "no groups") {
		t.Error(err)
	}
}

// A client that asks for a group that it cannot have is refused, also if the function reports the failed join as an
// error: the fault is the client's, and the circuit breaker stays closed.
func TestJoinOfAnotherGroupRefusesTheClient(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	for range 30 {
		for _, room := range []string{"room 1", "secret"} {
			request := fmt.Sprintf(`{"query":"strict","params":{"room":%q}}`, room)
			_, _, err := p.Connect(context.Background(), "f", NewConnectionID(), []byte(request))
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Status != 403 {
				t.Fatalf("room %q: %v, want a refusal with 403", room, err)
			}
		}
	}
	open(t, p, "room_1")
}
