package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	memorylayer "github.com/edgerelay/edgerelay/relay/layer/memory"
)

// startPeer starts a relay with a secret. The server is not started yet.
func startPeer(t *testing.T) (server *httptest.Server, plane *backplane.Backplane, log *testkit.Buffer) {
	t.Helper()
	log = &testkit.Buffer{}
	h := hub.New(slog.New(slog.DiscardHandler))
	if err := h.SetBroker(ctx, memorylayer.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	plane, err := backplane.New(h, backplane.Settings{Secrets: backplane.Secrets{"right"}},
		slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	plane.Start()
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if endpoint, ok := backplane.Endpoint(r.URL.Path); ok {
			if status := plane.Serve(w, r, endpoint); status != 0 {
				w.WriteHeader(status)
			}
		}
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := plane.Close(ctx); err != nil {
			t.Error(err)
		}
		_ = h.Close(ctx)
		server.Close()
	})
	return server, plane, log
}

// A relay answers the exchanges, and takes no link for them: it has no peer, rejects nothing and logs nothing.
func TestPeerPathLeavesNoTrace(t *testing.T) {
	server, plane, log := startPeer(t)
	server.Start()
	list := Peer(ctx, server.URL, true, backplane.Secrets{"right"}, nil)
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	expect(t, list[0], OK, "accepts this node")
	expect(t, list[1], OK, "20 round trips", "median", "MTU 65")
	m := list[1].Path
	if m.Exchanges != 20 || m.Unanswered != 0 || m.RTTMin <= 0 || m.RTTMin > m.RTTMedian || m.RTTMedian > m.RTTMax ||
		m.Connect <= 0 || m.LargeSeconds <= 0 || m.Segments < 20 || m.Retransmitted != 0 || m.MSS == 0 {
		t.Errorf("%+v", *m)
	}
	peers, stats := plane.Peers(), plane.Stats()
	if len(peers) != 0 || len(stats.Rejected) != 0 || stats.FramesIn != 0 {
		t.Errorf("peers %+v, stats %+v", peers, stats)
	}
	if text := log.String(); text != "" {
		t.Errorf("log:\n%s", text)
	}
}

func TestPeerTLS(t *testing.T) {
	server, _, _ := startPeer(t)
	server.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	list := Peer(ctx, server.URL, false, backplane.Secrets{"right"},
		&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	expect(t, list[0], OK, "accepts this node")
	expect(t, list[1], OK, "TLS 1.3", "valid until 2")
	expect(t, list[2], OK, "20 round trips")
	expect(t, Peer(ctx, server.URL, false, backplane.Secrets{"right"}, nil)[0], Failure,
		"TLS handshake fails", "tls_ca")
	soon := &tls.ConnectionState{
		Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{{NotAfter: time.Now().Add(time.Hour)}},
	}
	expect(t, judgeTLS("https://a", soon), Warning, "only", "renew")
}

// A named node gets a header that could be replayed only after it has rejected the challenge.
func TestPeerIsChallengedFirst(t *testing.T) {
	var headers []string
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers = append(headers, r.Header.Get("Sec-Websocket-Protocol"))
		if _, _, err := (backplane.Secrets{"right"}).Verify(r.Header.Get("Secret"), time.Now()); err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	defer node.Close()
	Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)
	if got := strings.Join(headers, " "); got != "edgerelay.v1 edgerelay.v1 " {
		t.Errorf("handshakes: %q", got)
	}
	headers = nil
	expect(t, Peer(ctx, node.URL, true, backplane.Secrets{"right"}, nil)[0], Failure, "different secret")
	if got := strings.Join(headers, " "); got != "edgerelay.v1 edgerelay.v1" {
		t.Errorf("handshakes with a found node: %q", got)
	}
}

// A node that restarts during the check, or a proxy that closes the connection, is neither a black hole nor a faulty
// line.
func TestEndDuringTheCheck(t *testing.T) {
	for name, pings := range map[string]int{
		"before the large exchange": smallExchanges, "with it": smallExchanges + 1, "before it": smallExchanges / 2,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m PathMeasure
			conn := endingPeer(t, pings)
			m.measure(t.Context(), conn, bufio.NewReader(conn))
			list := judgePath("http://a", &m)
			expect(t, list[len(list)-1], Warning, "the connection ended during the check",
				fmt.Sprintf("after %d of %d", min(pings, smallExchanges), smallExchanges))
		})
	}
}

// endingPeer returns a connection to a server that answers small pings, and ends the connection after a number of
// pings.
func endingPeer(t *testing.T, pings int) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		for range pings {
			var ping [14]byte // a masked frame of 8 bytes
			if _, err := io.ReadFull(conn, ping[:]); err != nil || ping[1] != 0x80|8 {
				return
			}
			pong := []byte{0x80 | opPong, 8}
			for i, b := range ping[6:] {
				pong = append(pong, b^ping[2+i%4])
			}
			if _, err := conn.Write(pong); err != nil {
				return
			}
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestJudgePath(t *testing.T) {
	good := PathMeasure{
		Exchanges: 20, RTTMin: .001, RTTMedian: .002, RTTMax: .003, LargeSeconds: .01, Segments: 30,
		MTU: 1500, MSS: 1448, MSSAfter: 1448,
	}
	look := func(change func(*PathMeasure), level Level, texts ...string) {
		t.Helper()
		m := good
		change(&m)
		list := judgePath("http://a", &m)
		expect(t, list[len(list)-1], level, texts...)
	}
	look(func(*PathMeasure) {}, OK, "MTU 1500", "0 of 30")
	look(func(m *PathMeasure) { m.Retransmitted = 1 }, OK, "1 of 30")
	look(func(m *PathMeasure) { m.Retransmitted = 3 }, Warning, "3 of 30", "faulty line")
	look(func(m *PathMeasure) { m.Unanswered = 2 }, Warning, "2 of 20")
	look(func(m *PathMeasure) { m.Unanswered = 20 }, Warning, "none of 20")
	look(func(m *PathMeasure) { m.LargeSeconds = 0 }, Failure, "black hole", "fragmentation needed")
	look(func(m *PathMeasure) { m.LargeSeconds, m.lossy, m.Retransmitted = 0, true, 9 }, Failure,
		"9 of 30", "faulty line")
	look(func(m *PathMeasure) { m.MSSAfter = 1000 }, Warning, "shrank from 1448 to 1000")
	expect(t, PeerClock("http://a", 3*time.Millisecond, time.Millisecond), OK, "3ms", "within 1ms")
	expect(t, PeerClock("http://a", -10*time.Second, time.Millisecond), Warning, "-10s", "synchronize")
}
