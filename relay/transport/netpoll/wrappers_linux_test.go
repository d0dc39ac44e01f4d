//go:build linux && !386

package netpoll

import (
	"bufio"
	"crypto/tls"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// ahead is a listed wrapper that reads ahead, as that of the PROXY protocol does.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

func (a *ahead) Read(b []byte) (int, error) { return a.r.Read(b) }

// unknown is a wrapper that is not listed.
type unknown struct{ *ahead }

func init() {
	t := reflect.TypeFor[ahead]()
	passThrough[wrapperType{t.PkgPath(), t.Name()}] = embeddedConn
}

// readAhead wraps a connection twice, and makes the inner wrapper read all of text, which the client sends, and return
// the first byte only.
func readAhead(t *testing.T, server, client net.Conn, text string) *ahead {
	t.Helper()
	if _, err := client.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	inner := &ahead{server, bufio.NewReader(server)}
	if _, err := inner.r.Peek(len(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return &ahead{inner, bufio.NewReader(inner)}
}

// A connection loses its wrappers, and no bytes.
func TestListedWrappersAreTakenOff(t *testing.T) {
	for _, text := range []string{"-", "-held by the wrapper, "} {
		p, r := New(), newRecorder()
		server, client := tcpPair(t)
		early := p.Attach(&r.Conn, readAhead(t, server, client, text), r)
		if string(early) != text[1:] {
			t.Errorf("%q precedes the first read, want %q", early, text[1:])
		}
		if r.NetConn() != server || r.fd == noFD || r.writer != nil {
			t.Errorf("attached %T with descriptor %d, want the socket", r.NetConn(), r.fd)
		}
		if !r.Start(false) {
			t.Fatal("a wrapped TCP connection is not polled")
		}
		_, _ = client.Write([]byte("later"))
		r.want(t, "later")
		_ = client.Close()
		r.wantEnd(t)
		p.Close()
	}
}

// Under TLS, records that a wrapper holds are read, and the wrapper stays no longer.
func TestWrappersUnderTLSAreTakenOff(t *testing.T) {
	p, r := New(), newRecorder()
	defer p.Close()
	server, client := tcpPair(t)
	cert, roots, err := selfTestCertificate()
	if err != nil {
		t.Fatal(err)
	}
	wrapper := &ahead{server, bufio.NewReaderSize(server, 64<<10)}
	secure := tls.Server(wrapper, &tls.Config{Certificates: []tls.Certificate{cert}})
	far := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: selfTestName})
	shaken := make(chan error, 1)
	go func() { shaken <- far.Handshake() }()
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one, ", "two, ", "three, "} {
		if _, err := far.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "records in the wrapper", func() bool {
		_ = server.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _ = wrapper.r.Peek(64 << 10)
		return wrapper.r.Buffered() > 3*20
	})
	_ = server.SetReadDeadline(time.Time{})
	p.Attach(&r.Conn, secure, r)
	if w, ok := secure.NetConn().(*tlsWriter); !ok || w.Conn != server || r.fd == noFD {
		t.Errorf("the connection beneath is %T", secure.NetConn())
	}
	if SocketBeneath(secure) != server {
		t.Error("the socket is not found beneath an attached connection")
	}
	if !r.Start(false) {
		t.Fatal("a wrapped TLS connection is not polled")
	}
	r.want(t, "one, two, three, ")
	_, _ = far.Write([]byte("later"))
	r.want(t, "later")
	_ = client.Close()
	r.wantEnd(t)
}

// A wrapper that is not listed stays: it may change bytes.
func TestUnknownWrappersStay(t *testing.T) {
	p, r := New(), newRecorder()
	defer p.Close()
	server, client := tcpPair(t)
	wrapper := unknown{readAhead(t, server, client, "-held")}
	if early := p.Attach(&r.Conn, wrapper, r); len(early) > 0 {
		t.Errorf("took %q", early)
	}
	if r.NetConn() != wrapper || r.fd != noFD || r.Start(false) {
		t.Error("a wrapper that is not listed is taken off")
	}
	b := make([]byte, 8)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "held" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

// The end of the stream that a wrapper has seen is not lost.
func TestEndBehindWrapper(t *testing.T) {
	p, r := New(), newRecorder()
	defer p.Close()
	server, client := tcpPair(t)
	wrapper := readAhead(t, server, client, "-last")
	_ = client.Close()
	early := p.Attach(&r.Conn, wrapper, r)
	if string(early) != "last" {
		t.Errorf("%q precedes the end", early)
	}
	if r.Start(true) {
		r.wantEnd(t)
	} else if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("the end is lost")
	}
}
