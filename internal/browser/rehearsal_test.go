package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// The move of docs/awx.md, and the way back, with the real nginx, uWSGI and Daphne: a site in AWX's shape is taken over by
// examples/awx/Caddyfile, at the same address and on the same Redis, while a browser stays logged in. Its page is not loaded
// again; it reconnects by code of its own, and events keep coming. Then nginx and Daphne take over again.
func TestMovingIn(t *testing.T) {
	redis := peers.StartRedis(t)
	old := peers.StartOldSite(t, redis.URL)
	emitter := peers.StartEmitter(t, redis.URL)
	config := awxCaddyfile(t, old, redis.URL)
	page := Open(t)

	// Before: a person logs in and looks at job 42, which is running.
	page.Do(t, chromedp.Navigate(old.URL+"/"))
	arrives(t, page, `location.pathname === "/accounts/login/"`)
	page.Do(t, chromedp.SetValue(chromedp.CSS("#username"), peers.Alice), chromedp.SetValue(chromedp.CSS("#password"), peers.Password(peers.Alice)),
		chromedp.Click(chromedp.CSS("#submit")))
	arrives(t, page, `document.querySelector("#user")?.textContent === "alice" && site.subscriptions === 1`)
	page.Script(t, `before = site.loaded`)
	paced := emitter.Pace("job_events-42", 0, 20_000, 20*time.Millisecond)
	page.Wait(t, soon, `site.numbers.length >= 10`)
	stillLoggedIn(t, page)
	wasHeaders, was := seen(t, old.URL)

	// Canary: Caddy on another port, beside Daphne on one Redis. Each serves its own clients, each event once.
	r := peers.StartRelay(t, strings.ReplaceAll(config, "{$SITES}", "{$SITE}"))
	login := logIn(t, r.URL)
	beside := map[string]*peers.Client{"Daphne": subscribed(t, old.URL, login), "relay": subscribed(t, r.URL, login)}
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
	old.NGINX.Stop(t, 10*time.Second)
	if err := r.Load(strings.ReplaceAll(config, "{$SITES}", "{$SITE}, "+old.URL)); err != nil {
		t.Fatal(err)
	}
	page.Wait(t, soon, `site.subscriptions === 2`)
	old.Daphne.Stop(t, 20*time.Second)
	page.Script(t, `moved = site.numbers.length`)
	page.Wait(t, soon, `site.numbers.length >= moved + 50`)
	stillLoggedIn(t, page)
	isHeaders, is := seen(t, old.URL)
	for _, name := range []string{"Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options", "Cache-Control", "Expires", "Pragma", "Content-Type"} {
		if isHeaders.Get(name) != wasHeaders.Get(name) {
			t.Errorf("%s was %q and is %q", name, wasHeaders.Get(name), isHeaders.Get(name))
		}
	}
	if was != is {
		t.Errorf("the application was told %+v and is told %+v", was, is)
	}

	// The way back.
	old.StartDaphne()
	r.Stop(t, 20*time.Second)
	old.StartNGINX()
	page.Wait(t, soon, `site.subscriptions === 3`)
	page.Script(t, `back = site.numbers.length`)
	page.Wait(t, soon, `site.numbers.length >= back + 50`)
	stillLoggedIn(t, page)
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

// awxCaddyfile is examples/awx/Caddyfile for the loopback interface: without TLS, at {$SITES}.
func awxCaddyfile(t *testing.T, old *peers.OldSite, redisURL string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(peers.Root(t), "examples", "awx", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for from, to := range map[string]string{
		"admin unix//run/edgerelay/admin.sock|0600": "admin {$ADMIN}",
		"unix:///var/run/redis/redis.sock":          redisURL,
		"http://127.0.0.1:8054 {":                   old.HTTP + " {",
		"reverse_proxy 127.0.0.1:8054":              "reverse_proxy " + strings.TrimPrefix(old.HTTP, "http://"),
		"origins https://awx.example.com":           "# origins: the default",
		"awx.example.com {":                         "{$SITES} {",
		"root /var/lib/awx/public/static\n":         "root " + old.Static + "\n",
	} {
		if !strings.Contains(config, from) {
			t.Fatalf("examples/awx/Caddyfile has no %q any more", from)
		}
		config = strings.Replace(config, from, to, 1)
	}
	return config
}

// arrives waits for an expression to be true while the browser goes from page to page.
func arrives(t *testing.T, page *Page, expression string) {
	t.Helper()
	peers.Eventually(t, soon, expression, func() error {
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
	// TooLarge is how an upload beyond the limit is answered, Uploaded one within.
	TooLarge, Uploaded int
}

// seen is what a site answers at an address, and what the application behind it is told.
func seen(t *testing.T, base string) (http.Header, mirrored) {
	t.Helper()
	resp, err := http.Get(base + "/mirror/?a=b%20c")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m mirrored
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	upload := func(size int) int {
		resp, err := http.Post(base+"/upload/", "application/octet-stream", strings.NewReader(strings.Repeat("x", size)))
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
	resp, err := client.PostForm(base+"/login/", url.Values{"username": {peers.Admin}, "password": {peers.Password(peers.Admin)}})
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
func subscribed(t *testing.T, base string, login peers.Login) *peers.Client {
	t.Helper()
	client, resp, err := peers.Dial(t, base+"/websocket/", login.Header())
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
func next(t *testing.T, client *peers.Client) int {
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

// uWSGI takes the scheme from X-Forwarded-Proto, so Django builds and checks https addresses behind a Caddy that ends TLS.
func TestSchemeBehindTLS(t *testing.T) {
	old := peers.StartOldSite(t, peers.StartRedis(t).URL)
	req, err := http.NewRequest(http.MethodGet, old.HTTP+"/mirror/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "awx.example.com"
	req.Header.Set("X-Forwarded-Proto", "https")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m mirrored
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || m.Scheme != "https" || m.Host != "awx.example.com" {
		t.Errorf("the application is told %+v (%v)", m, err)
	}
}
