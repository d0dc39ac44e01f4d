package testkit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// NameServer is a DNS server on loopback that answers every name alike.
type NameServer struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []netip.Addr
	services  []dnsmessage.SRVResource
	choose    func([]netip.Addr) []netip.Addr
	code      dnsmessage.RCode
	queries   int
}

// StartNameServer starts a server without addresses.
func StartNameServer(t testing.TB) *NameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &NameServer{conn: conn}
	t.Cleanup(func() { _ = conn.Close() })
	go s.serve()
	return s
}

// SetAddresses sets the answer to queries for A and AAAA.
func (s *NameServer) SetAddresses(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses, s.code = nil, dnsmessage.RCodeSuccess
	for _, a := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(a))
	}
}

// SetServices sets the answer to queries for SRV: targets with their ports.
func (s *NameServer) SetServices(services ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = nil
	for _, text := range services {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			panic(err)
		}
		number, _ := strconv.ParseUint(port, 10, 16)
		s.services = append(s.services,
			dnsmessage.SRVResource{Target: dnsmessage.MustNewName(host), Port: uint16(number)})
	}
}

// Choose makes each answer consist of those addresses that f returns. f owns its argument.
func (s *NameServer) Choose(f func([]netip.Addr) []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose = f
}

// Fail makes all answers empty, with a code, until addresses are set.
func (s *NameServer) Fail(code dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses, s.code = nil, code
}

// AwaitQueries waits until n more queries have been answered.
func (s *NameServer) AwaitQueries(t testing.TB, n int) {
	t.Helper()
	s.mu.Lock()
	until := s.queries + n
	s.mu.Unlock()
	Eventually(t, "queries", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.queries < until {
			return fmt.Errorf("%d queries are missing", until-s.queries)
		}
		return nil
	})
}

// Resolver asks the server.
func (s *NameServer) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *NameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := s.answer(buf[:n]); err == nil {
			_, _ = s.conn.WriteTo(answer, from)
		}
	}
}

func (s *NameServer) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries++
	m.Response, m.Authoritative, m.Additionals, m.RCode = true, true, nil, s.code
	q := m.Questions[0]
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: body,
		})
	}
	addresses := append([]netip.Addr(nil), s.addresses...)
	if s.choose != nil {
		addresses = s.choose(addresses)
	}
	for _, a := range addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			add(&dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			add(&dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	if q.Type == dnsmessage.TypeSRV {
		for _, r := range s.services {
			add(&r)
		}
	}
	return m.Pack()
}
