//go:build linux && !386

package netpoll

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
)

func TestCheckTLS(t *testing.T) {
	if err := CheckTLS(); err != nil {
		t.Errorf("this Go release's crypto/tls differs: %v; look at crypto/tls/conn.go", err)
	}
}

// Offsets that are wrong but harmless to read: fields of the same types that have another meaning.
func TestSelfTestFindsWrongFields(t *testing.T) {
	in, _ := reflect.TypeFor[tls.Conn]().FieldByName("in")
	out, _ := reflect.TypeFor[tls.Conn]().FieldByName("out")
	for _, c := range []struct {
		name   string
		change func(*tlsFields)
		want   string
	}{
		{"rawInput is hand", func(f *tlsFields) { f.rawInput = f.hand }, "rawInput"},
		{"in.err is out.err", func(f *tlsFields) { f.inErr += out.Offset - in.Offset }, "in.err"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := foundFields
			c.change(&f)
			err := testTLS(f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %s", err, c.want)
			}
		})
	}
}

// Without direct TLS, because it is off or the self-test has failed, the connection stays as it is.
func TestNoDirectTLS(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*Poller)
	}{
		{"off", func(p *Poller) { p.SetDirectTLS(false) }},
		{"self-test failed", func(p *Poller) { p.checkTLS = func() error { return errors.New("failed") } }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New()
			defer p.Close()
			c.prepare(p)
			server, _ := tcpPair(t)
			secure := tls.Server(server, &tls.Config{})
			r := newRecorder()
			p.Attach(&r.Conn, secure, r)
			if secure.NetConn() != server {
				t.Error("the connection beneath is replaced")
			}
			if r.Start(false) {
				t.Error("the connection is polled")
			}
			if n, _, err := r.TryWrite([]byte("x")); n != 0 || err != nil {
				t.Errorf("TryWrite returns %d, %v", n, err)
			}
		})
	}
}

// A write during Flush follows the bytes that Flush has taken.
func TestWriteDuringFlush(t *testing.T) {
	server, _ := tcpPair(t)
	w := &tlsWriter{fd: socketOf(server), owner: newRecorder(), pending: []byte("first")}
	out := ""
	err := w.flush(func(_ net.Conn, b []byte) error {
		if out == "" {
			w.caller = fromTry
			if _, err := w.Write([]byte("second")); err != nil {
				t.Error(err)
			}
		}
		out += string(b)
		return nil
	})
	if err != nil || out != "firstsecond" {
		t.Errorf("wrote %q, %v", out, err)
	}
}
