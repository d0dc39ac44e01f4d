package outbound

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestRequestAndResponse(t *testing.T) {
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "30")
		w.Header().Add("Set-Cookie", "session=secret")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "path": r.URL.RequestURI(), "host": r.Host, "body": string(body), "header": r.Header,
		})
	})
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback})
	for range 2 { // by the second request, a client with cookies would have one
		r := fetch(t, c, Request{URL: s.URL + "/a%2Fb?c=d#e", Headers: map[string]string{"content-type": "text/plain"}}, "hello")
		var got struct {
			Method, Path, Host, Body string
			Header                   http.Header
		}
		if err := json.Unmarshal(r.Body, &got); err != nil || r.Status != 429 {
			t.Fatal(r, err)
		}
		want := http.Header{"Content-Length": {"5"}, "Content-Type": {"text/plain"}, "User-Agent": {"edgerelay"}}
		if got.Method != "POST" || got.Path != "/a%2Fb?c=d" || got.Host != "127.0.0.1:"+s.port || got.Body != "hello" ||
			fmt.Sprint(got.Header) != fmt.Sprint(want) {
			t.Errorf("the server got %+v", got)
		}
	}
	r := fetch(t, c, Request{URL: s.URL, ResponseHeaders: []string{"Retry-After", "X-None"}}, "")
	if want := `{"headers":{"retry-after":"30"},"body":{"body":"","header":`; !strings.HasPrefix(string(r.Body), want) {
		t.Errorf("the body is %s", r.Body)
	}
	if s := c.Stats(); s.Results[3] != 3 || s.Sent != 3 || s.Buckets[boundCount-1] != 3 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBodiesThatAreNotJSON(t *testing.T) {
	b, err := withHeaders([]string{"A"}, http.Header{"A": {"x", "\xff"}}, []byte("<\xff>"))
	if err != nil || string(b) != `{"headers":{"a":"x, �"},"body":"<�>"}` {
		t.Errorf("%s, %v", b, err)
	}
}

// The name server tells one address first and a private one for the connection, or the private one in disguise.
func TestRebinding(t *testing.T) {
	s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "internal") })
	dns := nameServer(t, map[string][][]string{
		"rebind.example.com": {{"192.0.2.1"}, {"127.0.0.1"}},
		"both.example.com":   {{"127.0.0.1", "10.0.0.1", "::1"}},
		"mapped.example.com": {{"::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"}},
		"null.example.com":   {{"0.0.0.0", "::"}},
		"meta.example.com":   {{"169.254.169.254"}},
	})
	origin := "http://*.example.com:" + s.port
	c := client(t, Policy{Origins: []string{origin, s.URL, "http://localhost:" + s.port}, Resolver: dns.Resolver, Rate: 1e6})
	for _, name := range []string{"rebind", "rebind", "rebind", "both", "mapped", "null", "meta"} {
		expect(t, fetch(t, c, "http://"+name+".example.com:"+s.port+"/", ""), Denied, "not public")
	}
	expect(t, fetch(t, c, s.URL, ""), Denied, "not public") // the origin alone is no grant for its network
	expect(t, fetch(t, c, "http://localhost:"+s.port, ""), Denied, "not public")
	expect(t, fetch(t, c, "http://unknown.example.com:"+s.port, ""), Unavailable, "resolved")
	if n := s.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	granted := client(t, Policy{Origins: []string{origin}, Resolver: dns.Resolver, Private: loopback})
	if r := fetch(t, granted, "http://rebind.example.com:"+s.port, ""); string(r.Body) != "internal" {
		t.Errorf("with the network granted: %+v", r)
	}
	expect(t, fetch(t, granted, "http://meta.example.com:"+s.port, ""), Denied, "not public")
}

func TestRedirectsAreResponses(t *testing.T) {
	secret := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret.URL, http.StatusFound) })
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback})
	r := fetch(t, c, Request{URL: s.URL, ResponseHeaders: []string{"location"}}, "")
	if r.Status != 302 || !strings.Contains(string(r.Body), `"location":"`+secret.URL) {
		t.Errorf("%+v", r)
	}
	expect(t, fetch(t, c, secret.URL, ""), Denied, "not granted")
	if n := secret.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	proxy := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	dns := nameServer(t, map[string][][]string{"a.example.com": {{"127.0.0.1"}}})
	s := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	c := client(t, Policy{Origins: []string{"http://a.example.com:" + s.port}, Private: loopback, Resolver: dns.Resolver})
	expect(t, fetch(t, c, "http://a.example.com:"+s.port, ""), Responded, "")
	if proxy.connections.Load() != 0 || s.connections.Load() != 1 {
		t.Error("the request went through the proxy")
	}
}

func TestTLS(t *testing.T) {
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	dns := nameServer(t, map[string][][]string{
		"a.example.com": {{"127.0.0.1"}}, "b.example.com": {{"127.0.0.1"}}, "a.other.net": {{"127.0.0.1"}},
	})
	p := Policy{
		Origins: []string{"https://*.example.com:" + s.port, "https://a.other.net:" + s.port},
		Private: loopback, Resolver: dns.Resolver,
	}
	expect(t, fetch(t, client(t, p), "https://a.example.com:"+s.port, ""), Unavailable, "certificate")
	p.TLS = s.trust()
	c := client(t, p)
	for range 2 {
		if r := fetch(t, c, "https://a.example.com:"+s.port, ""); string(r.Body) != "HTTP/2.0" {
			t.Errorf("%+v", r)
		}
	}
	expect(t, fetch(t, c, "https://a.other.net:"+s.port, ""), Unavailable, "certificate")
	before := s.connections.Load()
	// The certificate and the address would allow a browser to use the connection of the other host.
	expect(t, fetch(t, c, "https://b.example.com:"+s.port, ""), Responded, "")
	if n := s.connections.Load() - before; n != 1 {
		t.Errorf("%d connections for another host", n)
	}
	plain := raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n") })
	p.Origins = []string{strings.Replace(plain, "http:", "https:", 1)}
	expect(t, fetch(t, client(t, p), p.Origins[0], ""), Unavailable, "TLS")
}

// A connection that an earlier policy allowed is not used under a later one.
func TestPolicyChange(t *testing.T) {
	s := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	p := Policy{Origins: []string{s.URL}, Private: loopback, Rate: 1}
	c := client(t, p)
	expect(t, fetch(t, c, s.URL, ""), Responded, "")
	p.Private, p.Rate = nil, 1e-9
	if err := c.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	expect(t, fetch(t, c, s.URL, ""), Busy, "per second") // the rate goes on counting
	p.Rate = 1e6
	if err := c.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	c.rate.at = time.Time{}
	expect(t, fetch(t, c, s.URL, ""), Denied, "not public")
	if c.SetPolicy(Policy{}) == nil {
		t.Error("a policy without addresses is accepted")
	}
}

func TestPermits(t *testing.T) {
	s := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback, Methods: []string{"PUT"}, MaxRequest: 10})
	expect(t, fetch(t, c, s.URL, ""), Denied, "method GET")
	expect(t, fetch(t, c, Request{Method: "PUT", URL: s.URL}, "eleven bytes"), TooLarge, "10 bytes")
	expect(t, fetch(t, c, Request{Method: "PUT", URL: s.URL, Headers: map[string]string{"Host": "evil.net"}}, "a"), Denied, "Host")
	expect(t, fetch(t, c, Request{Method: "PUT", URL: s.URL}, "ten bytes."), Responded, "")
	if s.connections.Load() != 1 {
		t.Error("a refused request has connected")
	}
}

func TestResponsesBeyondTheirBounds(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, _ = w.Write(make([]byte, 8<<20))
	_ = w.Close()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/announced":
			w.Header().Set("Content-Length", "5000000000")
		case "/endless":
			for _, err := w.Write(make([]byte, 1024)); err == nil; _, err = w.Write(make([]byte, 1024)) {
			}
		case "/escaped":
			_, _ = w.Write(bytes.Repeat([]byte{1}, 60<<10))
		case "/bomb":
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("the request accepts compression")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		case "/headers":
			for i := range 5000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}
	})
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback, MaxResponse: 64 << 10})
	expect(t, fetch(t, c, s.URL+"/announced", ""), TooLarge, "65536")
	expect(t, fetch(t, c, s.URL+"/endless", ""), TooLarge, "65536")
	expect(t, fetch(t, c, s.URL+"/headers", ""), Unavailable, "not valid HTTP")
	expect(t, fetch(t, c, Request{URL: s.URL + "/escaped", ResponseHeaders: []string{"date"}}, ""), TooLarge, "as JSON")
	if r := fetch(t, c, s.URL+"/bomb", ""); !bytes.Equal(r.Body, bomb.Bytes()) {
		t.Errorf("a compressed body of %d bytes becomes %d bytes", bomb.Len(), len(r.Body))
	}
}

func TestServersThatMisbehave(t *testing.T) {
	write := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			if strings.HasSuffix(text, "…") {
				_, _ = io.Copy(io.Discard, c) // until the client closes
			}
		}
	}
	for name, c := range map[string]struct {
		write  func(net.Conn)
		reason string
	}{
		"silent":      {write("…"), "within"},
		"slow head":   {write("HTTP/1.1 200 OK\r\nA: …"), "within"},
		"slow body":   {write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc…"), "within"},
		"cut":         {write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), "broke"},
		"cut chunk":   {write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"), "broke"},
		"no HTTP":     {write("SSH-2.0-secret\r\n"), "not valid HTTP"},
		"empty":       {write(""), "broke"},
		"switching":   {write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n…"), "status"},
		"status 999":  {write("HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n"), "status"},
		"two lengths": {write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"), "not valid HTTP"},
		"drip": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for _, err := c.Write([]byte("x")); err == nil; _, err = c.Write([]byte("x")) {
				time.Sleep(10 * time.Millisecond)
			}
		}, "within"},
		"informational": {func(c net.Conn) {
			for _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"); err == nil; {
				_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := raw(t, c.write)
			own := client(t, Policy{Origins: []string{url}, Private: loopback, Timeout: 5 * time.Second})
			began := time.Now()
			r := fetch(t, own, Request{URL: url + "/SECRET", TimeoutMS: 200}, "")
			expect(t, r, Unavailable, c.reason)
			if took := time.Since(began); took > 3*time.Second || strings.Contains(strings.ToLower(r.Reason), "secret") {
				t.Errorf("%v, %s", took, r.Reason)
			}
		})
	}
	url := "http://" + testkit.Loopback(testkit.FreePort(t))
	expect(t, fetch(t, client(t, Policy{Origins: []string{url}, Private: loopback}), url, ""), Unavailable, "refused")
}

func TestRequestsInFlight(t *testing.T) {
	hold, arrived := make(chan struct{}), make(chan struct{}, 8)
	s := serve(t, true, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hold })
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback, InFlight: 3, TLS: s.trust()})
	var wg sync.WaitGroup
	var responded atomic.Int32
	for range 3 {
		wg.Go(func() {
			if r := fetch(t, c, s.URL, ""); r.Status == 200 {
				responded.Add(1)
			}
		})
	}
	for range 3 {
		<-arrived
	}
	expect(t, fetch(t, c, s.URL, ""), Busy, "3 requests")
	if n := c.Stats().InFlight; n != 3 {
		t.Errorf("%d requests in flight", n)
	}
	close(hold)
	wg.Wait()
	expect(t, fetch(t, c, s.URL, ""), Responded, "")
	if responded.Load() != 3 {
		t.Errorf("%d responses", responded.Load())
	}
}

func TestRate(t *testing.T) {
	now := time.Now()
	b := bucket{now: func() time.Time { return now }}
	for i := range 3 {
		if !b.take(3) {
			t.Errorf("request %d of a burst is refused", i)
		}
	}
	if b.take(3) {
		t.Error("a burst has no end")
	}
	now = now.Add(400 * time.Millisecond)
	if !b.take(3) || b.take(3) {
		t.Error("0.4 s at 3 per second are not one request")
	}
	now = now.Add(-time.Hour) // the clock is set back
	if b.take(3) {
		t.Error("a clock that is set back gives tokens")
	}
	now = now.Add(time.Hour)
	if b = (bucket{now: b.now}); !b.take(0.1) || b.take(0.1) {
		t.Error("a rate below one has no burst of one")
	}
}

func TestCloseEndsRequests(t *testing.T) {
	hold, arrived := make(chan struct{}), make(chan struct{}, 1)
	s := serve(t, false, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hold })
	defer close(hold)
	c := client(t, Policy{Origins: []string{s.URL}, Private: loopback})
	end := make(chan Result, 1)
	req, err := Parse([]byte(`{"url": "` + s.URL + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Start(req, nil, func(r Result) { end <- r })
	<-arrived
	c.Close()
	expect(t, <-end, Unavailable, "stopping")
	expect(t, fetch(t, c, s.URL, ""), Unavailable, "stopping")
}

func TestPolicyFaults(t *testing.T) {
	good := Policy{Origins: []string{"https://a.example.com"}}
	if err := Check(good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Policy){
		"no addresses":         func(p *Policy) { p.Origins = nil },
		"invalid address":      func(p *Policy) { p.Origins = []string{"a.example.com"} },
		`invalid method "get"`: func(p *Policy) { p.Methods = []string{"get"} },
		"CONNECT":              func(p *Policy) { p.Methods = []string{"CONNECT"} },
		"header Host":          func(p *Policy) { p.Headers = []string{"host"} },
		"max_request":          func(p *Policy) { p.MaxRequest = -1 },
		"max_response":         func(p *Policy) { p.MaxResponse = 1 << 40 },
		"timeout":              func(p *Policy) { p.Timeout = time.Hour },
		"in_flight":            func(p *Policy) { p.InFlight = 1 << 20 },
		"rate":                 func(p *Policy) { p.Rate = -1 },
		"private network":      func(p *Policy) { p.Private = []netip.Prefix{{}} },
	} {
		p := good
		change(&p)
		if err := Check(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
