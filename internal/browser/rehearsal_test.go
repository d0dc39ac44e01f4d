package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// The move of docs/awx.md, and the way back, with the real nginx, uWSGI and Daphne: a site in AWX's shape is taken over
// by examples/awx/Caddyfile, at the same address and on the same Redis, while a browser stays logged in. Its page is
// not loaded again; it reconnects by code of its own, and events keep coming. Then nginx and Daphne take over again.
// uWSGI is the same process all the while, with the same configuration, and requests with bodies are answered but for
// the moments in which no one listens.
func TestMovingIn(t *testing.T) {
	redis := peers.StartRedis(t)
	old := peers.StartOldSite(t, redis.URL)
	emitter := peers.StartEmitter(t, redis.URL)
	config := func(sites string) string {
		return peers.AWXExample{
			Name: "Caddyfile", UWSGI: old.Socket, Redis: redis.URL,
			Public: filepath.Dir(old.Static), Sites: sites,
		}.Text(t)
	}
	page := Open(t)

	// Before: a person logs in and looks at job 42, which is running.
	page.Do(t, chromedp.Navigate(old.URL+"/"))
	arrives(t, page, `location.pathname === "/accounts/login/"`)
	page.Do(t, chromedp.SetValue(chromedp.CSS("#username"), peers.Alice),
		chromedp.SetValue(chromedp.CSS("#password"), peers.Password(peers.Alice)),
		chromedp.Click(chromedp.CSS("#submit")))
	arrives(t, page, `document.querySelector("#user")?.textContent === "alice" && site.subscriptions === 1`)
	page.Script(t, `before = site.loaded`)
	paced := emitter.Pace("job_events-42", 0, 20_000, 20*time.Millisecond)
	page.Wait(t, soon, `site.numbers.length >= 10`)
	stillLoggedIn(t, page)
	wasHeaders, was := seen(t, old.URL)
	posts := startPosting(t, old.URL+"/upload/")

	// Canary: Caddy on another port, beside Daphne on one Redis. Each serves its own clients, each event once.
	r := peers.StartRelay(t, config("{$SITE}"))
	login := logIn(t, r.URL)
	beside := map[string]*wstest.Client{"Daphne": subscribed(t, old.URL, login), "relay": subscribed(t, r.URL, login)}
	for name, client := range beside {
		first := next(t, client)
		for i := range 50 {
			if n := next(t, client); n != first+i+1 {
				t.Errorf("beside each other: after event %d, %s has %d", first+i, name, n)
				break
			}
		}
	}

	// The move.
	posts.moving.Store(true)
	old.NGINX.Stop(t, 10*time.Second)
	if err := r.Load(config("{$SITE}, " + old.URL)); err != nil {
		t.Fatal(err)
	}
	posts.moved(t)
	page.Wait(t, soon, `site.subscriptions === 2`)
	old.Daphne.Stop(t, 20*time.Second)
	page.Script(t, `moved = site.numbers.length`)
	page.Wait(t, soon, `site.numbers.length >= moved + 50`)
	stillLoggedIn(t, page)
	isHeaders, is := seen(t, old.URL)
	for _, name := range []string{
		"Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options",
		"Cache-Control", "Expires", "Pragma", "Content-Type",
	} {
		if isHeaders.Get(name) != wasHeaders.Get(name) {
			t.Errorf("%s was %q and is %q", name, wasHeaders.Get(name), isHeaders.Get(name))
		}
	}
	if was != is {
		t.Errorf("the application was told %+v and is told %+v", was, is)
	}

	// The way back.
	old.StartDaphne()
	posts.moving.Store(true)
	r.Stop(t, 20*time.Second)
	old.StartNGINX()
	posts.moved(t)
	page.Wait(t, soon, `site.subscriptions === 3`)
	page.Script(t, `back = site.numbers.length`)
	page.Wait(t, soon, `site.numbers.length >= back + 50`)
	stillLoggedIn(t, page)
	posts.stop(t)
	emitter.StopPacing()
	if failed := paced().Failed; len(failed) > 0 {
		t.Errorf("the emitter had failures: %v", failed)
	}

	// All the while: one page, each event once and in order, missing only what was sent while the page had no socket.
	if !page.Holds(t, `site.loaded === before`) {
		t.Error("the page was loaded again")
	}
	if !page.Holds(t, `site.numbers.every((n, i) => i === 0 || n > site.numbers[i-1])`) {
		t.Error("events came twice or out of order")
	}
	if !page.Holds(t, `site.numbers.filter((n, i) => i > 0 && n !== site.numbers[i-1] + 1).length <= 2`) {
		t.Error("events are missing besides those of the two moves")
	}
	if !page.Holds(t, `site.closes.length >= 2 && !site.closes.includes(1000)`) {
		t.Error("the page's sockets did not end as they do when a server goes")
	}
	gaps, err := chromedp.Run(page.Context, chromedp.Evaluate[string](
		`site.closes.join(", ") + "; missed " + site.numbers.flatMap((n, i) => i > 0 && n !== site.numbers[i-1] + 1 ? [n - site.numbers[i-1] - 1] : []).join(" and ") + " of " + site.numbers.at(-1)`))
	t.Logf("sockets closed with %s events (%v)", gaps, err)
}

// posting sends requests with bodies, one after another.
type posting struct {
	// moving is true while no one may listen.
	moving atomic.Bool
	// answered and refused count requests, unexpected holds what is neither.
	answered, refused atomic.Int64
	unexpected        []string
	end               chan struct{}
	ended             chan struct{}
}

// startPosting sends requests until stop.
func startPosting(t *testing.T, address string) *posting {
	t.Helper()
	p := &posting{end: make(chan struct{}), ended: make(chan struct{})}
	client := http.Client{Transport: new(http.Transport), Timeout: 30 * time.Second}
	go func() {
		defer close(p.ended)
		defer client.CloseIdleConnections()
		for size := 0; ; size = (size + 7919) % (128 << 10) {
			select {
			case <-p.end:
				return
			default:
			}
			moving := p.moving.Load()
			answer, err := post(&client, address, size)
			switch {
			case err == nil && answer == fmt.Sprintf("200 OK {\"bytes\": %d}", size):
				p.answered.Add(1)
			case err != nil && (moving || p.moving.Load()):
				p.refused.Add(1)
			default:
				p.unexpected = append(p.unexpected, fmt.Sprint(size, " bytes: ", answer, " ", err))
			}
		}
	}()
	return p
}

// post returns the status and the body of the answer.
func post(client *http.Client, address string, size int) (string, error) {
	// A reader of no known type, so that every other body comes in chunks.
	body := io.Reader(strings.NewReader(strings.Repeat("x", size)))
	if size%2 == 1 {
		body = io.MultiReader(body)
	}
	resp, err := client.Post(address, "application/octet-stream", body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(text), err
}

// moved waits until requests are answered again; from then on none may fail.
func (p *posting) moved(t *testing.T) {
	t.Helper()
	answered := p.answered.Load()
	testkit.EventuallyWithin(t, soon, "POSTs are answered", func() error {
		if p.answered.Load() == answered {
			return errors.New("not yet")
		}
		return nil
	})
	p.moving.Store(false)
}

// stop ends the requests, and fails the test if one failed that should not.
func (p *posting) stop(t *testing.T) {
	t.Helper()
	close(p.end)
	<-p.ended
	t.Logf("%d POSTs answered, %d refused while no one listened", p.answered.Load(), p.refused.Load())
	if len(p.unexpected) > 0 {
		t.Errorf("%d POSTs failed: %.2000q", len(p.unexpected), p.unexpected)
	}
	if p.answered.Load() < 100 {
		t.Errorf("only %d POSTs were answered", p.answered.Load())
	}
}

// arrives waits for an expression to be true while the browser goes from page to page.
func arrives(t *testing.T, page *Page, expression string) {
	t.Helper()
	testkit.EventuallyWithin(t, soon, expression, func() error {
		is, err := chromedp.Run(page.Context, chromedp.Evaluate[bool](expression))
		if err == nil && !is {
			err = errors.New("not yet")
		}
		return err
	})
}

// stillLoggedIn asks and posts as the page's user, and fetches a static file.
func stillLoggedIn(t *testing.T, page *Page) {
	t.Helper()
	page.Script(t, `answers = undefined; (async () => {
		const me = await (await fetch("/api/v2/me/")).json();
		const job = await fetch("/api/v2/jobs/42/"), foreign = await fetch("/api/v2/jobs/43/");
		const token = document.cookie.split("; ").find(c => c.startsWith("csrftoken=")).slice(10);
		const post = await fetch("/relaunch/", {method: "POST", headers: {"X-CSRFToken": token}});
		const forged = await fetch("/relaunch/", {method: "POST"});
		const script = await fetch("/static/page.js", {cache: "reload"});
		answers = [me.results?.[0].username, job.status, foreign.status, post.status, forged.status, script.status].join();
	})()`)
	page.Wait(t, soon, `answers !== undefined`)
	page.Wait(t, soon, `answers === "alice,200,403,204,403,200"`)
}

// mirrored is what the application is told of a request.
type mirrored struct {
	Scheme, Host, Path string
	For                string `json:"forwarded_for"`
	Port               string `json:"forwarded_port"`
	Remote             string `json:"remote_addr"`
	ServerPort         string `json:"server_port"`
	Script             string `json:"script_name"`
	Protocol           string `json:"protocol"`
	URI                string `json:"request_uri"`
	// TooLarge is how an upload beyond the limit is answered, Uploaded one within.
	TooLarge, Uploaded int
}

// seen is what a site answers at an address, and what the application behind it is told.
func seen(t *testing.T, base string) (http.Header, mirrored) {
	t.Helper()
	resp, err := http.Get(base + "//mirror/?a=b%20c//d")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m mirrored
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	upload := func(size int) int {
		resp, err := http.Post(base+"/upload/", "application/octet-stream",
			strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	m.Uploaded, m.TooLarge = upload(1<<20), upload(6<<20)
	return resp.Header, m
}

// logIn logs bob in over HTTP.
func logIn(t *testing.T, base string) peers.Login {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: http.DefaultClient.Transport, Jar: jar}
	resp, err := client.PostForm(base+"/login/",
		url.Values{"username": {peers.Admin}, "password": {peers.Password(peers.Admin)}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	l := peers.Login{User: peers.Admin}
	for _, c := range jar.Cookies(at) {
		switch c.Name {
		case "awx_sessionid":
			l.Session = c.Value
		case "csrftoken":
			l.CSRF = c.Value
		}
	}
	if resp.StatusCode != http.StatusNoContent || l.Session == "" || l.CSRF == "" {
		t.Fatalf("login: %s, %+v", resp.Status, l)
	}
	return l
}

// subscribed is a client that has joined job_events-42.
func subscribed(t *testing.T, base string, login peers.Login) *wstest.Client {
	t.Helper()
	client, resp, err := wstest.Dial(t, base+"/websocket/", login.Header())
	if err != nil {
		t.Fatalf("%v (%v)", err, resp)
	}
	if err := client.Send(fmt.Sprintf(`{"groups": {"job_events": [42]}, "xrftoken": %q}`, login.CSRF)); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := client.Next(soon)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(frame, "groups_current") {
			return client
		}
	}
}

// next is the number of the next event.
func next(t *testing.T, client *wstest.Client) int {
	t.Helper()
	frame, err := client.Next(soon)
	if err != nil {
		t.Fatal(err)
	}
	var event struct{ N *int }
	if err := json.Unmarshal([]byte(frame), &event); err != nil || event.N == nil {
		t.Fatalf("no event: %s", frame)
	}
	return *event.N
}
