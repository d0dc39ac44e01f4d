package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

const (
	paceInterval = 25 * time.Millisecond
	paceCount    = 10_000 // more than there is time for
	// visible is how long it may take until a fault is seen.
	visible = 2 * time.Second
	// recovery is how long after a fault the first event may be missing; grace how long others may be for which no node
	// was a member.
	recovery = 2 * time.Second
	grace    = time.Second
)

// lane is a Redis, a relay behind a link to it, a Python emitter and a crowd, for faults one after another.
type lane struct {
	t       *testing.T
	redis   *peers.Redis
	admin   *goredis.Client              // past the link, as a user of its own where there is a password
	link    *testkit.Proxy               // nil with Sentinel
	watched *watched                     // nil without
	hosts   func(password string) string // the lines of channel_layer redis that say where
	relay   *peers.Relay
	emitter *peers.Layer
	crowd   *crowd
	quiet   *attacker // a client of a group without traffic
	next    int       // the number of the next event
	pending chan error
}

func startLane(t *testing.T, redis *peers.Redis, password string) *lane {
	l := &lane{t: t, redis: redis, link: testkit.StartProxy(t, redis.Addr)}
	l.hosts = func(password string) string {
		if password != "" {
			password = ":" + password + "@"
		}
		return "url redis://" + password + l.link.Addr + "/0"
	}
	url := redis.URL
	options := &goredis.Options{Addr: redis.Addr, MaxRetries: -1, ReadTimeout: 10 * time.Second, DisableIdentity: true}
	if password != "" {
		url = "redis://other:other@" + redis.Addr + "/0"
		options.Username, options.Password = "other", "other"
	}
	l.admin = goredis.NewClient(options)
	t.Cleanup(func() { _ = l.admin.Close() })
	l.emitter = peers.StartEmitter(t, url)
	l.people(password)
	return l
}

// people starts the relay and its clients.
func (l *lane) people(password string) {
	t := l.t
	t.Helper()
	l.relay = peers.StartRelay(t, l.caddyfile(password))
	l.crowd = gather(t, l.addr(), *crowdSize, "jobs", "summary")
	quiet, err := l.siege().subscribe("jobs", "status_changed")
	if err != nil {
		t.Fatal(err)
	}
	l.quiet = quiet
	t.Cleanup(func() { _ = quiet.Close() })
}

func (l *lane) caddyfile(password string) string {
	return `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis {
			` + l.hosts(password) + `
			capacity 10000
			group_expiry 157784760s
		}
		auth none
		limits {
			connections_per_user 0
		}
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
	edgerelay_health
	respond "next"
}
`
}

func (l *lane) addr() string  { return strings.TrimPrefix(l.relay.URL, "http://") }
func (l *lane) siege() *siege { return &siege{t: l.t, addr: l.addr()} }

// do runs a Redis command past the link.
func (l *lane) do(args ...any) any {
	l.t.Helper()
	reply, err := l.admin.Do(context.Background(), args...).Result()
	if err != nil {
		l.t.Fatalf("redis %v: %v", args, err)
	}
	return reply
}

// begin runs one that takes its time; await waits for its end.
func (l *lane) begin(args ...any) {
	l.pending = make(chan error, 1)
	go func() { l.pending <- l.admin.Do(context.Background(), args...).Err() }()
}

func (l *lane) await() {
	l.t.Helper()
	if err := <-l.pending; err != nil {
		l.t.Fatal(err)
	}
}

// state is what the relay tells of itself.
type state struct {
	admin, site, metrics string
	problems, notes      int // lines of the log
	health               struct {
		ChannelLayer struct {
			OK                  bool
			Detail              string
			Reconnects, Repairs int
		} `json:"channel_layer"`
		Connections int
	}
}

func (l *lane) state() (s state) {
	l.t.Helper()
	look := func(url string) string {
		status, body := call(l.t, http.MethodGet, url, nil)
		return fmt.Sprint(status, " ", body)
	}
	s.admin, s.site = look(l.relay.Admin+"/edgerelay/health"), look(l.relay.URL+"/health")
	for line := range strings.Lines(fetch(l.t, l.relay.Admin+"/metrics")) {
		if strings.HasPrefix(line, "edgerelay_channel_layer_") {
			s.metrics += line
		}
	}
	log := l.relay.Log()
	s.problems = strings.Count(log, "channel layer unhealthy")
	s.notes = s.problems + strings.Count(log, "broke, reconnected") +
		strings.Count(log, "were missing, restored")
	if err := json.Unmarshal([]byte(s.admin[4:]), &s.health); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// watch waits until a fault is to be seen everywhere.
func (l *lane) watch(f fault, before state, struck time.Time) (e evidence) {
	l.t.Helper()
	var now state
	check := func(what string, took *time.Duration, seen bool) error {
		if seen && *took == 0 {
			*took = time.Since(struck)
		}
		if *took == 0 {
			return fmt.Errorf("%s tells nothing: %+v", what, now)
		}
		return nil
	}
	testkit.EventuallyWithin(l.t, time.Until(struck.Add(visible+500*time.Millisecond)), "the fault to be seen",
		func() error {
			now = l.state()
			var admin, site, metrics, log bool
			if f.counted {
				layer, was := now.health.ChannelLayer, before.health.ChannelLayer
				admin = layer.Reconnects > was.Reconnects || layer.Repairs > was.Repairs
				site = admin // counts are not for the public
				metrics = now.metrics != before.metrics
				log = now.notes > before.notes
			} else {
				admin, site = strings.HasPrefix(now.admin, "503 "), strings.HasPrefix(now.site, "503 ")
				metrics = strings.Contains(now.metrics, "edgerelay_channel_layer_up 0")
				log = now.problems > before.problems
			}
			for _, err := range []error{
				check("health", &e.admin, admin), check("the site's health", &e.site, site),
				check("metrics", &e.metrics, metrics), check("the log", &e.log, log),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		})
	return e
}

// hold stalls the link until events wait in Redis.
func (l *lane) hold() {
	l.t.Helper()
	l.link.Stall()
	testkit.Eventually(l.t, "events to wait in Redis", func() error {
		for _, key := range l.do("KEYS", "asgispecific.*").([]any) {
			if l.do("ZCARD", key).(int64) >= 5 {
				return nil
			}
		}
		return fmt.Errorf("there are none")
	})
}

// suffer lets a fault strike while events flow, and tells what became of them.
func (l *lane) suffer(f fault) {
	t := l.t
	t.Helper()
	calm := l.state()
	// A failover before may have closed a connection that was used once more.
	testkit.Eventually(t, "the channel layer is healthy before", func() error {
		if calm = l.state(); !calm.health.ChannelLayer.OK {
			return fmt.Errorf("%+v", calm.health)
		}
		return nil
	})
	start := l.next
	l.next += paceCount
	wait := l.emitter.Pace("jobs-summary", start, paceCount, paceInterval)
	l.crowd.reach(t, start+10, patience)
	if f.held {
		l.hold()
	}
	struck := time.Now()
	f.strike(l)
	over := time.Now()
	if f.slow {
		struck = over
	}
	if f.held {
		l.link.Resume()
	}
	seen := l.watch(f, calm, struck)
	late := make(chan error, 1)
	if f.mend != nil {
		detail := l.state().health.ChannelLayer.Detail
		go func() { late <- l.newcomer(t) }()
		<-time.After(time.Until(struck.Add(f.lasts))) // the length of the fault
		f.mend(l)
		over = time.Now()
		t.Logf("health said: %s", detail)
	}
	// From here on, until every client has had a second's worth of events.
	testkit.EventuallyWithin(t, recovery+patience, "health", func() error {
		if now := l.state(); !now.health.ChannelLayer.OK {
			return fmt.Errorf("%+v", now.health)
		}
		return nil
	})
	well := time.Since(over)
	l.crowd.reach(t, l.crowd.progress()+int(time.Second/paceInterval), patience)
	l.emitter.StopPacing()
	paced := wait()
	final := l.next - 1
	l.emitter.Send(peers.Event{Group: "jobs-summary", Text: fmt.Sprintf(`{"n": %d}`, final)},
		peers.Event{Group: "jobs-status_changed", Text: "quiet"})
	l.crowd.reach(t, final, patience)
	if text, err := l.quiet.text(); err != nil || string(text) != "quiet" {
		t.Errorf("a client without traffic: %q, %v", text, err)
	}
	if f.mend != nil {
		if err := <-late; err != nil {
			t.Errorf("a client that came during the fault: %v", err)
		}
	}
	l.judge(f, start, struck, over, well, seen, paced)
	if now := l.state(); now.health.Connections < *crowdSize+1 {
		t.Errorf("%d connections afterwards", now.health.Connections)
	}
	if n := l.do("ZCARD", "asgi:group:jobs-summary").(int64); n != 1 {
		t.Errorf("%d members of the group afterwards, want one", n)
	}
}

// newcomer connects and subscribes during a fault; he is answered, and has his event afterwards.
func (l *lane) newcomer(t *testing.T) error {
	item := fmt.Sprint(l.next)
	a, err := (&siege{t: t, addr: l.addr()}).subscribe("job_events", item)
	if err != nil {
		return err
	}
	defer a.Close()
	for { // until it comes, for the group may not be joined yet
		resp, err := http.Post(l.relay.Admin+"/edgerelay/publish", "application/json",
			strings.NewReader(`{"group": "job_events-`+item+`", "data": "late"}`))
		if err != nil {
			return err
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if bytes.Contains(body, []byte(`"members":1`)) {
			break
		}
	}
	text, err := a.text()
	if err == nil && string(text) != `"late"` {
		err = fmt.Errorf("got %.100q", text)
	}
	return err
}

// judge compares what was sent with what came.
func (l *lane) judge(f fault, start int, struck, over time.Time, well time.Duration, seen evidence, paced peers.Paced) {
	t := l.t
	t.Helper()
	arrived := map[int]time.Time{}
	var first, previous arrival // first: the first to come after the fault was over
	gap := time.Duration(0)
	got, late := l.crowd.record(t, f.twoMasters)
	slices.SortFunc(got, func(a, b arrival) int { return a.number - b.number })
	for _, a := range got {
		arrived[a.number] = a.at
		if a.at.After(over) && first.at.IsZero() {
			first = a
		}
		if !previous.at.IsZero() {
			gap = max(gap, a.at.Sub(previous.at))
		}
		previous = a
	}
	lost, resumed := 0, time.Duration(-1)
	for i, sent := range paced.Times {
		n := start + i
		_, came := arrived[n]
		switch {
		case came && resumed < 0 && sent.After(over):
			resumed = sent.Sub(over)
		case came:
		case paced.Failed[n]:
			if sent.After(over.Add(recovery)) {
				t.Errorf("event %d could not be sent %v after the fault", n, sent.Sub(over))
			}
		default:
			lost++
			if f.lossless || sent.After(over.Add(grace)) || sent.Before(struck.Add(-500*time.Millisecond)) {
				t.Errorf("event %d is lost; it was sent %v after the fault was over", n, sent.Sub(over))
			}
		}
	}
	next := first.at.Sub(over)
	t.Logf("%s | next delivery %.2f s | well %.2f s | gap %.2f s | lost %d, late %d, refused %d of %d | %v",
		f.name, next.Seconds(), well.Seconds(), gap.Seconds(), lost, late, len(paced.Failed), len(paced.Times), seen)
	if first.at.IsZero() || next > recovery || resumed < 0 || resumed > recovery {
		t.Errorf("the next delivery came %v after the fault was over, the first event that arrived was sent %v after it", next, resumed)
	}
	for _, took := range []time.Duration{seen.admin, seen.site, seen.metrics, seen.log} {
		if took > visible {
			t.Errorf("%v: later than %v", seen, visible)
			break
		}
	}
}
