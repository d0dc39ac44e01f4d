package netpoll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"sync"
	"time"
)

// selfTestTimeout bounds each step of the self-test that waits for the other end.
const selfTestTimeout = 10 * time.Second

// CheckTLS tests the access to unexported fields of crypto/tls, once per process, over a pair of sockets. The error
// says why direct TLS is not used. The test takes some milliseconds.
var CheckTLS = sync.OnceValue(func() error {
	if fieldsErr != nil {
		return fieldsErr
	}
	return testTLS(foundFields)
})

var foundFields, fieldsErr = findTLSFields(reflect.TypeFor[tls.Conn]())

// testTLS serves a client over each version of TLS by the direct path, with the given offsets.
func testTLS(f tlsFields) (err error) {
	defer func() { // of this goroutine, which makes all uses of the offsets
		if p := recover(); p != nil {
			err = fmt.Errorf("self-test of direct TLS: panic: %v", p)
		}
	}()
	cert, roots, err := selfTestCertificate()
	if err != nil {
		return fmt.Errorf("self-test of direct TLS: creating a certificate: %w", err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t := tlsTest{poller: &Poller{tls: f, checkTLS: func() error { return nil }}}
		t.poller.directTLS.Store(true)
		if err := t.run(version, cert, roots); err != nil {
			return fmt.Errorf("self-test of direct TLS: %s: %w", tls.VersionName(version), err)
		}
	}
	return nil
}

// tlsTest is a run of the self-test.
type tlsTest struct {
	poller *Poller
	server *tls.Conn
	client *tls.Conn
	conn   Conn // of server
}

// A tlsTest is an owner without duties, because the steps of the test flush and read.
func (*tlsTest) ReadReady([]byte) {}
func (*tlsTest) FlushSoon()       {}
func (*tlsTest) Progress(int)     {}

func (t *tlsTest) run(version uint16, cert tls.Certificate, roots *x509.CertPool) error {
	near, far, err := socketPair()
	if err != nil {
		return err
	}
	defer func() { _, _ = near.Close(), far.Close() }()
	_, _ = near.SetDeadline(time.Now().Add(selfTestTimeout)), far.SetDeadline(time.Now().Add(selfTestTimeout))
	certs := []tls.Certificate{cert}
	t.server = tls.Server(near, &tls.Config{Certificates: certs, MinVersion: version, MaxVersion: version})
	t.client = tls.Client(far, &tls.Config{
		RootCAs: roots, ServerName: selfTestName, MinVersion: version, MaxVersion: version,
	})
	shaken := make(chan error, 1)
	go func() { shaken <- t.client.Handshake() }()
	if err := errors.Join(t.server.Handshake(), <-shaken); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	f := &t.poller.tls
	switch {
	case field[bytes.Buffer](t.server, f.rawInput).Cap() == 0, field[bytes.Buffer](t.server, f.hand).Cap() == 0:
		return errors.New("the handshake did not use the buffers rawInput and hand")
	case f.holds(t.server):
		return errors.New("bytes are held after the handshake")
	}
	t.poller.Attach(&t.conn, t.server, t)
	for _, step := range []func() error{t.testReads, t.testWrites, t.testReads, t.testEnd} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// testReads reads three records in small pieces.
func (t *tlsTest) testReads() error {
	var sent []byte
	for i := range 3 {
		record := bytes.Repeat([]byte{byte('a' + i)}, 100*(i+1))
		if _, err := t.client.Write(record); err != nil {
			return fmt.Errorf("writing to the server: %w", err)
		}
		sent = append(sent, record...)
	}
	var got []byte
	piece := make([]byte, 64)
	for len(got) < len(sent) {
		n, err := t.read(piece)
		if err != nil {
			return fmt.Errorf("reading after %d of %d bytes: %w", len(got), len(sent), err)
		}
		got = append(got, piece[:n]...)
		if err := t.checkHeld(len(got), len(sent)); err != nil {
			return err
		}
	}
	if !bytes.Equal(got, sent) {
		return errors.New("the server read other bytes than the client sent")
	}
	if t.conn.fd != noFD {
		if _, err := t.read(piece); err != errWouldBlock {
			return fmt.Errorf("reading an empty connection: %w", err)
		}
	}
	return nil
}

// read reads as the poller's readers do, where there is a poller.
func (t *tlsTest) read(b []byte) (n int, err error) {
	if t.conn.fd == noFD {
		return t.conn.Read(b)
	}
	n, _, err = t.conn.tryRead(b)
	return n, err
}

// checkHeld compares the fields with the number of bytes read. All records are in the socket before the first read.
func (t *tlsTest) checkHeld(read, sent int) error {
	if t.conn.fd == noFD {
		return nil
	}
	f := &t.poller.tls
	if first := 100 - read; first > 0 && field[bytes.Reader](t.server, f.input).Len() != first {
		return errors.New("input does not have the rest of a record")
	}
	if *field[error](t.server, f.inErr) != nil {
		return errors.New("in.err is set on an open connection")
	}
	if read < 100 && field[bytes.Buffer](t.server, f.rawInput).Len() == 0 {
		return errors.New("rawInput does not have the records after the first")
	}
	if read == sent && f.holds(t.server) {
		return errors.New("bytes are held although all are read")
	}
	return nil
}

// testWrites writes until the socket is full, and flushes.
func (t *tlsTest) testWrites() error {
	if t.conn.writer == nil {
		return nil // the platform has no direct writes
	}
	if any(t.server.NetConn()) != any(t.conn.writer) {
		return errors.New("the connection beneath has not been replaced")
	}
	const piece, most = 8 << 10, 1 << 10
	var sent []byte
	for i := range most {
		b := bytes.Repeat([]byte{byte(i)}, piece)
		t.conn.Lock()
		n, kept, err := t.conn.TryWrite(b)
		t.conn.Unlock()
		if err != nil || n != len(b) {
			return fmt.Errorf("writing: %d of %d bytes: %w", n, len(b), err)
		}
		if sent = append(sent, b...); kept > 0 {
			break
		}
	}
	if t.conn.Kept() == 0 {
		return errors.New("writes to a full socket are not kept")
	}
	got := make([]byte, len(sent))
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(t.client, got)
		read <- err
	}()
	if err := errors.Join(t.conn.Flush(), <-read); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	if !bytes.Equal(got, sent) {
		return errors.New("the client read other bytes than the server wrote")
	}
	return nil
}

// testEnd reads the client's end.
func (t *tlsTest) testEnd() error {
	if err := t.client.CloseWrite(); err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	if _, err := t.read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("reading the end: %w", err)
	}
	if f := &t.poller.tls; *field[error](t.server, f.inErr) != io.EOF || !f.holds(t.server) {
		return errors.New("in.err is not set at the end")
	}
	return nil
}

const selfTestName = "edgerelay-self-test"

// selfTestCertificate returns a certificate for this process alone.
func selfTestCertificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{selfTestName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}
