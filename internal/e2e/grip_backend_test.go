package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// gripBackend is a uWSGI with the site of testdata/grip/backend.py.
type gripBackend struct {
	*process.Process
	// http is the address of the http-socket, socket that of the uwsgi protocol.
	http, socket string
	log          string
	start        func() *process.Process
}

func startGripBackend(t *testing.T, workers int) *gripBackend {
	b := &gripBackend{
		http: testkit.Loopback(testkit.FreePort(t)), socket: testkit.Loopback(testkit.FreePort(t)),
		log: filepath.Join(t.TempDir(), "log"),
	}
	b.start = func() *process.Process {
		cmd := exec.Command(process.Program(t, "uwsgi"), "--plugin", "python3", "--http-socket", b.http, "--socket", b.socket,
			"--wsgi-file", filepath.Join(peers.Root(t), "internal", "e2e", "testdata", "grip", "backend.py"),
			"--processes", strconv.Itoa(workers), "--master", "--need-app", "--die-on-term", "--disable-logging",
			"--listen", "100")
		cmd.Env = append(os.Environ(), "GRIP_LOG="+b.log, "PYTHONDONTWRITEBYTECODE=1")
		p := process.Start(t, "uwsgi", cmd)
		p.Ready(t, func() error {
			resp, err := http.Get("http://" + b.http)
			if err == nil {
				resp.Body.Close()
			}
			return err
		})
		return p
	}
	b.Process = b.start()
	return b
}

// seen returns the recorded events of a client, which its query names.
func (b *gripBackend) seen(t *testing.T, client string) (events []string) {
	t.Helper()
	text, err := os.ReadFile(b.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "overlap "+client && client != "slow" { // uWSGI does not notice that the relay has given a request up
			t.Errorf("two requests of %s overlapped", client)
		}
		if rest, ok := strings.CutPrefix(line, client+" "); ok {
			events = append(events, strings.TrimSpace(rest))
		}
	}
	return events
}

// What a real WSGI server does to one connection reaches no other: each failure has its code, and each message is seen
// once.
func TestBackendUnderUWSGI(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http", "uwsgi"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b := startGripBackend(t, 4)
			address := "http://" + b.http
			if protocol == "uwsgi" {
				address = "uwsgi://" + b.socket
			}
			r := peers.StartRelay(t, gripSite(address, "timeout 1s"))
			witness := dialGrip(t, r.URL+"/ws/?witness")
			for name, c := range map[string]struct {
				message string
				code    int
			}{
				"fail": {"fail", 1011}, "nonsense": {"nonsense", 1011}, "slow": {"sleep 2", 1013}, "killed": {"die", 1011},
			} {
				victim := dialGrip(t, r.URL+"/ws/?"+name)
				victim.send(c.message)
				witness.send("still here: " + name)
				witness.hear("still here: " + name)
				victim.closed(c.code)
				testkit.Eventually(t, "the site is told", func() bool {
					events := b.seen(t, name)
					return len(events) > 0 && events[len(events)-1] == "DISCONNECT"
				})
				want := fmt.Sprint([]string{"OPEN", "TEXT " + c.message, "DISCONNECT"})
				if got := fmt.Sprint(b.seen(t, name)); got != want {
					t.Errorf("%s: the site saw %s, want %s", name, got, want)
				}
			}
		})
	}
}

// The messages of many clients arrive in order, one request at a time for each.
func TestBackendOrder(t *testing.T) {
	t.Parallel()
	const clients, messages = 20, 30
	b := startGripBackend(t, 4)
	r := peers.StartRelay(t, gripSite("uwsgi://"+b.socket, "concurrency 4"))
	var all sync.WaitGroup
	for i := range clients {
		c := dialGrip(t, fmt.Sprintf("%s/ws/?c%d.", r.URL, i))
		all.Go(func() {
			for n := range messages {
				c.send(fmt.Sprint("m", n))
			}
			for n := range messages {
				c.hear(fmt.Sprint("m", n))
			}
		})
	}
	all.Wait()
	for i := range clients {
		events := b.seen(t, fmt.Sprintf("c%d.", i))
		if len(events) != messages+1 {
			t.Fatalf("client %d: %d events, want %d", i, len(events), messages+1)
		}
		for n, e := range events[1:] {
			if e != fmt.Sprint("TEXT m", n) {
				t.Fatalf("client %d: event %d is %q", i, n, e)
			}
		}
	}
}

// A site that is down while clients talk gets each message once, when it is back.
func TestBackendRestarts(t *testing.T) {
	t.Parallel()
	b := startGripBackend(t, 2)
	r := peers.StartRelay(t, strings.Replace(gripSite("uwsgi://"+b.socket), "{\n", "{\n\tlog {\n\t\tlevel DEBUG\n\t}\n", 1))
	c := dialGrip(t, r.URL+"/ws/?client")
	c.send("before")
	c.hear("before")
	if err := b.Stop(t, patience); err != nil {
		t.Fatal(err)
	}
	c.send("one")
	c.send("two")
	testkit.Eventually(t, "a request fails", func() bool { return strings.Contains(r.Log(), "backend request failed, retrying") })
	b.Process = b.start()
	c.hear("one", "two")
	if got, want := fmt.Sprint(b.seen(t, "client")), "[OPEN TEXT before TEXT one TEXT two]"; got != want {
		t.Errorf("the site saw %s, want %s", got, want)
	}
}

// A thousand connections whose backend is dead leave another route, with a backend of its own, alone.
func TestDeadBackendBesideAnother(t *testing.T) {
	t.Parallel()
	dead, _ := startEchoSite(t, "room")
	proxy := testkit.StartProxy(t, strings.TrimPrefix(dead, "http://"))
	b := startGripBackend(t, 2)
	r := peers.StartRelay(t, strings.Replace(gripSite("http://"+b.http), "auth none",
		"auth none\n\t\tlimits {\n\t\t\tconnections_per_user 0\n\t\t}", 1))
	site := strings.Replace(gripSite("http://"+b.http), "auth none",
		"auth none\n\t\tlimits {\n\t\t\tconnections_per_user 0\n\t\t}", 1)
	site = strings.Replace(site, "\troute /ws/ {", "\troute /dead/ {\n\t\t\tmessages backend http://"+proxy.Addr+
		" {\n\t\t\t\ttimeout 2s\n\t\t\t}\n\t\t}\n\t\troute /ws/ {", 1)
	if err := r.Load(site); err != nil {
		t.Fatal(err)
	}
	conns := make([]*wstest.Raw, 1000)
	for i := range conns {
		c, err := wstest.DialRaw(fmt.Sprintf("%s/dead/?user=%d", r.URL, i), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		conns[i] = c
	}
	c := dialGrip(t, r.URL+"/ws/?live")
	proxy.Stall()
	for _, d := range conns {
		if err := d.Send("lost"); err != nil {
			t.Fatal(err)
		}
	}
	slowest := time.Duration(0)
	for i := range 50 {
		began := time.Now()
		c.send(fmt.Sprint(i))
		c.hear(fmt.Sprint(i))
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of 50 answers beside 1,000 connections of a dead backend took %v", slowest)
	for i, d := range conns {
		_, err := d.Next(patience)
		var closed wstest.ClosedError
		if !errors.As(err, &closed) || closed.Code != 1013 {
			t.Fatalf("connection %d of the dead backend: %v, want the close code 1013", i, err)
		}
	}
	c.send("end")
	c.hear("end")
}
