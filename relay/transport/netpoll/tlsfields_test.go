package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestShrinkReleasesTheHandshakesBuffers(t *testing.T) {
	f := foundFields
	server, client := tlsPair(t)
	held := func() (n int) {
		for _, offset := range []uintptr{f.rawInput, f.hand} {
			n += field[bytes.Buffer](server, offset).Cap()
		}
		return n
	}
	if before := held(); before < 1000 {
		t.Errorf("after the handshake the buffers hold %d bytes, so there is nothing to release", before)
	}
	f.shrink(server)
	if after := held(); after != 0 {
		t.Errorf("the buffers still hold %d bytes", after)
	}
	// The stream is intact before and after a shrink, also between two pieces of a record.
	text := bytes.Repeat([]byte("the stream goes on. "), 2000)
	go func() { _, _ = client.Write(text) }()
	got := make([]byte, len(text))
	for n := 0; n < len(got); {
		m, err := server.Read(got[n:min(len(got), n+700)])
		if err != nil {
			t.Fatal(err)
		}
		n += m
		f.shrink(server)
	}
	if !bytes.Equal(got, text) {
		t.Error("the server read other bytes than the client sent")
	}
	if size := field[bytes.Reader](server, f.input).Size(); size != 0 {
		t.Errorf("the last record of %d bytes stays in memory", size)
	}
}

func TestMissingFields(t *testing.T) {
	type noIn struct{ RawInput bytes.Buffer }
	type half struct{ err error } //lint:ignore U1000 reflection reads the fields of both types
	//lint:ignore U1000 the same
	type other struct {
		in             half
		rawInput, hand bytes.Buffer
		input          bytes.Buffer // a Reader in crypto/tls
		conn           net.Conn
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[noIn](), reflect.TypeFor[other]()} {
		if _, err := findTLSFields(typ); err == nil {
			t.Errorf("no error for %v", typ)
		}
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
