package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A move behind a load balancer costs nothing: from nginx, uWSGI and Daphne to the relay, with `transport uwsgi` to the
// same uWSGI, and back, under traffic. No request fails, and a client that reconnects, and then fetches from the API
// what it missed as AWX's pages do, has every event once.
func TestMovingBehindABalancerLosesNothing(t *testing.T) {
	redis := peers.StartRedis(t)
	old := peers.StartOldSite(t, redis.URL)
	emitter := peers.StartEmitter(t, redis.URL)
	r := peers.StartRelay(t, peers.AWXExample{
		Name: "Caddyfile", UWSGI: old.Socket, Redis: redis.URL, Public: filepath.Dir(old.Static), Sites: "{$SITE}",
	}.Text(t))
	balancer := peers.StartBalancer(t, "old", old.URL)
	login := logIn(t, balancer.URL)

	posters := []*balancedPosts{postThrough(t, balancer.URL), postThrough(t, balancer.URL)}
	followers := make([]*follower, 4)
	for i := range followers {
		followers[i] = follow(t, balancer.URL, login)
	}
	paced := emitter.PaceStored("job_events-42", redis.URL, 0, 20_000, 10*time.Millisecond)
	arrived := func(at string, more int) {
		t.Helper()
		for _, f := range followers {
			f.await(t, at, more)
		}
	}
	arrived("old", 20)
	began := time.Now()
	step := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }

	// The move: new connections go to the relay, then the old site ends, and with it its sockets.
	balancer.Switch("relay", r.URL)
	for _, p := range posters {
		p.awaitSite(t, "relay")
	}
	step("requests go to the relay")
	old.NGINX.Stop(t, 10*time.Second)
	old.Daphne.Kill() // its clients were nginx's; an orderly stop would only wait for them
	step("the old site has stopped")
	arrived("relay", 50)
	step("clients are at the relay")

	// The way back: the old site starts, new connections go there, and the relay drains.
	old.StartDaphne()
	old.StartNGINX()
	balancer.Switch("old", old.URL)
	for _, p := range posters {
		p.awaitSite(t, "old")
	}
	step("requests go to the old site")
	drain := r.Command("edgerelay", "drain", "--duration", "1s", "--wait", "--address", strings.TrimPrefix(r.Admin, "http://"))
	if out, err := drain.CombinedOutput(); err != nil {
		t.Fatalf("drain: %v\n%s", err, out)
	}
	step("the relay is drained")
	r.Stop(t, 20*time.Second)
	arrived("old", 50)
	step("clients are at the old site")

	emitter.StopPacing()
	result := paced()
	for _, p := range posters {
		p.stop(t)
	}
	for i, f := range followers {
		f.stop(t, len(result.Times))
		t.Logf("client %d: %d connections, %d events over sockets, %d from the API", i, f.connections.Load(), f.live, f.fetched)
	}
	if len(result.Failed) > 0 {
		t.Errorf("the emitter had failures: %v", result.Failed)
	}
}

// balancedPosts sends POSTs one after another, each over a connection of its own: whether a client may repeat a POST
// over a connection that was closed meanwhile is a matter of HTTP, not of the sites.
type balancedPosts struct {
	site      atomic.Value // of the last response
	inARow    atomic.Int64 // responses of that site
	count     atomic.Int64
	failures  []string
	end, done chan struct{}
}

func postThrough(t *testing.T, base string) *balancedPosts {
	t.Helper()
	p := &balancedPosts{end: make(chan struct{}), done: make(chan struct{})}
	p.site.Store("")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	pace := time.NewTicker(10 * time.Millisecond)
	go func() {
		defer close(p.done)
		defer pace.Stop()
		for size := 0; ; size = (size + 7919) % (128 << 10) {
			select {
			case <-p.end:
				return
			case <-pace.C:
			}
			resp, err := client.Post(base+"/upload/", "application/octet-stream", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				p.failures = append(p.failures, err.Error())
				continue
			}
			var body struct{ Bytes int }
			err = json.NewDecoder(resp.Body).Decode(&body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || body.Bytes != size {
				p.failures = append(p.failures, fmt.Sprint(resp.Status, " for ", size, " bytes: ", body, err))
			}
			if site := resp.Header.Get(peers.SiteHeader); site != p.site.Load() {
				p.site.Store(site)
				p.inARow.Store(0)
			}
			p.inARow.Add(1)
			p.count.Add(1)
		}
	}()
	return p
}

// settledPosts is the number of responses in a row after which no request is at the other site any more.
const settledPosts = 20

// awaitSite waits until requests go to a site only.
func (p *balancedPosts) awaitSite(t *testing.T, site string) {
	t.Helper()
	testkit.EventuallyWithin(t, soon, "POSTs go to "+site, func() error {
		if at := p.site.Load(); at != site || p.inARow.Load() < settledPosts {
			return fmt.Errorf("%d responses in a row from %v", p.inARow.Load(), at)
		}
		return nil
	})
}

func (p *balancedPosts) stop(t *testing.T) {
	t.Helper()
	close(p.end)
	<-p.done
	t.Logf("%d POSTs, %d failed", p.count.Load(), len(p.failures))
	if len(p.failures) > 0 || p.count.Load() < 3*settledPosts {
		t.Errorf("%d of %d POSTs failed: %.1000q", len(p.failures), p.count.Load(), p.failures)
	}
}

// follower is a client that reconnects until it is stopped, and fetches what it missed.
type follower struct {
	base        string
	login       peers.Login
	cancel      context.CancelFunc
	done        chan struct{}
	connections atomic.Int64

	mu            sync.Mutex // guards the rest
	site          string
	seen          map[int]bool
	last          int // the greatest number without a hole below
	live, fetched int
	faults        []string
}

func follow(t *testing.T, base string, login peers.Login) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{base: base, login: login, cancel: cancel, done: make(chan struct{}), seen: map[int]bool{}, last: -1}
	t.Cleanup(cancel)
	go func() {
		defer close(f.done)
		for ctx.Err() == nil {
			f.connect(ctx, t)
		}
	}()
	return f
}

// connect follows one connection until it ends.
func (f *follower) connect(ctx context.Context, t *testing.T) {
	client, resp, err := wstest.Dial(t, f.base+"/websocket/", f.login.Header())
	if err != nil {
		return // the balancer had a connection to a site that ends: again
	}
	defer func() { _ = client.Close(1000) }()
	f.connections.Add(1)
	if client.Send(fmt.Sprintf(`{"groups": {"job_events": [42]}, "xrftoken": %q}`, f.login.CSRF)) != nil {
		return
	}
	for ctx.Err() == nil {
		frame, err := client.Next(time.Second)
		if errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			return
		}
		var message struct {
			N       *int
			Current []string `json:"groups_current"`
		}
		_ = json.Unmarshal([]byte(frame), &message)
		switch {
		case message.N != nil:
			f.add(*message.N, false)
		case len(message.Current) > 0: // subscribed: from here on live, so what the API has now closes the hole
			f.fetch()
			f.mu.Lock()
			f.site = resp.Header.Get(peers.SiteHeader)
			f.mu.Unlock()
		}
	}
}

// fetch gets the events after the last one from the API. A request that fails is a fault: none may.
func (f *follower) fetch() {
	f.mu.Lock()
	above := f.last
	f.mu.Unlock()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprint(f.base, "/api/v2/jobs/42/job_events/?counter__gt=", above), nil)
	if err != nil {
		panic(err)
	}
	req.Header, req.Close = f.login.Header(), true
	var page struct{ Results []int }
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		f.mu.Lock()
		f.faults = append(f.faults, err.Error())
		f.mu.Unlock()
	}
	for _, n := range page.Results {
		f.add(n, true)
	}
}

func (f *follower) add(n int, fetched bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case fetched && f.seen[n]:
		return // has come over the socket meanwhile
	case f.seen[n]:
		return // the API was faster
	case fetched:
		f.fetched++
	default:
		f.live++
	}
	f.seen[n] = true
	for f.seen[f.last+1] {
		f.last++
	}
}

// await waits until the client is connected to a site and got more events there.
func (f *follower) await(t *testing.T, site string, more int) {
	t.Helper()
	from := -1
	testkit.EventuallyWithin(t, soon, "events arrive from "+site, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.site != site {
			return fmt.Errorf("connected to %q", f.site)
		}
		if from < 0 {
			from = f.live
		}
		if f.live < from+more {
			return fmt.Errorf("%d of %d events", f.live-from, more)
		}
		return nil
	})
}

// stop waits for the last event and ends the client. total is the number of emitted events.
func (f *follower) stop(t *testing.T, total int) {
	t.Helper()
	testkit.EventuallyWithin(t, soon, "every event has arrived", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.last != total-1 {
			return fmt.Errorf("without a hole up to %d of %d", f.last, total-1)
		}
		return nil
	})
	f.cancel()
	<-f.done
	if len(f.seen) != total || len(f.faults) > 0 || f.connections.Load() < 3 {
		t.Errorf("%d of %d events, %d connections, faults %q; want every event and a connection to each site", len(f.seen), total,
			f.connections.Load(), f.faults)
	}
}
