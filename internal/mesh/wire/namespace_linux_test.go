package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"go.uber.org/goleak"
)

// pair is two joined namespaces, a at 10.0.0.1 and fd00::1, b at 10.0.0.2 and fd00::2.
type pair struct {
	s    *Switch
	a, b *Namespace
}

func newPair(t *testing.T) *pair {
	t.Helper()
	Need(t)
	// Registered first, so that it runs after all other cleanups.
	running := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, running)
		if left, _ := filepath.Glob(filepath.Join(namesDir, prefix+"*-pair*")); len(left) > 0 {
			t.Errorf("namespaces are left: %q", left)
		}
	})
	p := &pair{s: NewSwitch(1)}
	t.Cleanup(p.s.Close)
	for i, n := range []**Namespace{&p.a, &p.b} {
		ns, err := NewNamespace("pair" + string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		})
		digit := string(rune('1' + i))
		if err := ns.Join(p.s, string(rune('a'+i)), "10.0.0."+digit+"/24", "fd00::"+digit+"/64"); err != nil {
			t.Fatal(err)
		}
		*n = ns
	}
	return p
}

// ping returns the output of one echo request from a to b.
func (p *pair) ping(args ...string) (string, error) {
	out, err := p.a.Command("ping", append([]string{"-c", "1", "-W", "1"}, args...)...).CombinedOutput()
	return string(out), err
}

func TestPingFollowsTheRules(t *testing.T) {
	p := newPair(t)
	reaches := func(name string, want bool, args ...string) string {
		t.Helper()
		out, err := p.ping(args...)
		if (err == nil) != want {
			t.Errorf("%s: ping %v: reaches %v, want %v: %s", name, args, err == nil, want, out)
		}
		return out
	}
	reaches("no rule", true, "10.0.0.2")
	reaches("no rule", true, "fd00::2")
	p.s.Set("a", "b", Rule{Down: true})
	reaches("one way down", false, "10.0.0.2")
	reaches("one way down", false, "fd00::2")
	p.s.Set("a", "b", Rule{MTU: 600})
	reaches("small packet", true, "10.0.0.2")
	// "Do not fragment": a router would report the MTU.
	if out := reaches("large packet", false, "-M", "do", "-s", "1000", "10.0.0.2"); strings.Contains(out, "too long") {
		t.Errorf("the black hole reports its MTU: %s", out)
	}
	p.s.Reset()
	p.s.SetBoth("a", "b", Rule{Delay: 50 * time.Millisecond})
	began := time.Now()
	reaches("delay", true, "10.0.0.2")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("an echo took %v in spite of 50ms each way", took)
	}
}

// connect returns both ends of a TCP connection from a to b.
func (p *pair) connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	var l net.Listener
	if err := p.b.Do(func() (err error) {
		l, err = net.Listen("tcp", "10.0.0.2:80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := p.a.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", "10.0.0.2:80", 10*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

// transfer sends bytes over a new connection and returns the time until all have arrived, intact.
func (p *pair) transfer(t *testing.T, size int) time.Duration {
	t.Helper()
	client, server := p.connect(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	began := time.Now()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Write(sent)
		failed <- errors.Join(err, client.Close())
	}()
	_ = server.SetReadDeadline(began.Add(testkit.Patience))
	got, err := io.ReadAll(server)
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived, want %d, or with other contents", len(got), len(sent))
	}
	return time.Since(began)
}

func TestTCPSurvivesABadNetwork(t *testing.T) {
	p := newPair(t)
	for name, rule := range map[string]Rule{
		"clean":     {},
		"loss":      {Loss: 0.02},
		"reorder":   {Reorder: 0.05},
		"duplicate": {Duplicate: 0.2},
		"jitter":    {Delay: 5 * time.Millisecond, Jitter: 3 * time.Millisecond},
	} {
		p.s.SetBoth("a", "b", rule)
		t.Logf("%s: %v", name, p.transfer(t, 1<<20))
	}
	before := p.s.Counts("a", "b")
	p.s.SetBoth("a", "b", Rule{Rate: 4_000_000})
	if took := p.transfer(t, 500_000); took < 700*time.Millisecond {
		t.Errorf("4 Mbit of data took %v at 4 Mbit/s", took)
	}
	if after := p.s.Counts("a", "b"); after.Delivered == before.Delivered {
		t.Error("the switch has counted no frames")
	}
}

// Data that is sent while a link is down arrives after its return.
func TestTCPContinuesAfterALinkReturns(t *testing.T) {
	p := newPair(t)
	client, server := p.connect(t)
	p.s.Set("b", Any, Rule{Down: true})
	p.s.Set(Any, "b", Rule{Down: true})
	if _, err := io.WriteString(client, "late"); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	got := make([]byte, 4)
	if n, err := server.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes arrived over a link that is down, %v", n, err)
	}
	p.s.Reset()
	_ = server.SetReadDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "late" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCommandsRunInTheNamespace(t *testing.T) {
	p := newPair(t)
	if err := p.a.WriteEtc("resolv.conf", "nameserver 10.0.0.2\n"); err != nil {
		t.Fatal(err)
	}
	out, err := p.a.Command("sh", "-c", "ip -o addr; cat /etc/resolv.conf").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "10.0.0.1/24") || !strings.Contains(string(out), "nameserver 10.0.0.2") {
		t.Errorf("%v: %s", err, out)
	}
}

// Namespaces of a process that was killed are removed by the next one.
func TestAbandonedNamespacesAreRemoved(t *testing.T) {
	Need(t)
	abandoned := prefix + "999999999-a" // above any pid
	if err := ip("netns", "add", abandoned); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAbandoned(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(namesDir, abandoned)); !os.IsNotExist(err) {
		t.Errorf("the namespace is still there: %v", err)
	}
}
