package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"reflect"
	"testing"
	"unsafe"
)

func TestShrinkTLSGivesBackWhatTheHandshakeTook(t *testing.T) {
	// A Go without these fields costs memory, not correctness; but somebody should know.
	if len(tlsBuffers) != 2 {
		t.Fatalf("this Go's tls.Conn has %d of the two buffers: shrinkTLS no longer works, look at crypto/tls/conn.go", len(tlsBuffers))
	}
	server, client := tlsPair(t)
	held := func() (n int) {
		for _, offset := range tlsBuffers {
			n += (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(server), offset)).Cap()
		}
		return n
	}
	if before := held(); before < 1000 {
		t.Errorf("after the handshake the buffers hold %d bytes, so there would be nothing to give back", before)
	}
	shrinkTLS(server)
	if after := held(); after != 0 {
		t.Errorf("the buffers still hold %d bytes", after)
	}
	// What came before and what comes after is read as if nothing had happened, bit by bit, too.
	text := bytes.Repeat([]byte("the client goes on. "), 2000)
	go func() { _, _ = client.Write(text) }()
	got := make([]byte, len(text))
	for n := 0; n < len(got); {
		m, err := server.Read(got[n:min(len(got), n+700)])
		if err != nil {
			t.Fatal(err)
		}
		n += m
		shrinkTLS(server) // in the middle, too
	}
	if !bytes.Equal(got, text) {
		t.Error("what was read is not what was sent")
	}
}

func TestShrinkTLSWithoutTheFields(t *testing.T) {
	type other struct{ RawInput []byte }
	if got := fields[bytes.Buffer](reflect.TypeFor[other](), "RawInput", "hand"); len(got) != 0 {
		t.Errorf("found buffers at %v where there are none", got)
	}
}

// tlsPair returns the two ends of a TLS connection after the handshake.
func tlsPair(t *testing.T) (server, client *tls.Conn) {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	near, far := net.Pipe()
	server = tls.Server(near, &tls.Config{Certificates: web.TLS.Certificates})
	client = tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return server, client
}

func TestTLSTells(t *testing.T) {
	// A Go without these fields costs a goroutine for each client, and one more for each write.
	if !tlsTells || len(tlsSocket) != 1 {
		t.Errorf("this Go's tls.Conn has other fields: input %v, in.err %v, conn %v; look at crypto/tls/conn.go", tlsInput, tlsFailed, tlsSocket)
	}
}
