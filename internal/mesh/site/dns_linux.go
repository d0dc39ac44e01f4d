package site

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Domain is the name of the nodes in the mesh's DNS. The relays look it up again each dnsInterval.
const (
	Domain      = "nodes.mesh.test"
	dnsInterval = "2s"
)

// DNS is a server with one name. Its answers come from a function.
type DNS struct {
	conn net.PacketConn

	mu     sync.Mutex // guards the field below
	answer func() ([]netip.Addr, error)
}

// ErrServerFailure makes the server answer SERVFAIL.
var ErrServerFailure = errors.New("server failure")

// Answer sets the function with the addresses, or with [ErrServerFailure].
func (d *DNS) Answer(f func() ([]netip.Addr, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = f
}

// AnswerNodes makes the server answer with the addresses of some nodes.
func (d *DNS) AnswerNodes(nodes ...*Node) {
	var list []netip.Addr
	for _, n := range nodes {
		list = append(list, n.Addr())
	}
	d.Answer(func() ([]netip.Addr, error) { return list, nil })
}

// AnswerSome makes the server answer with some of the nodes, chosen by chance each time.
func (d *DNS) AnswerSome(count int, nodes ...*Node) {
	random := rand.New(rand.NewPCG(1, 2))
	d.Answer(func() (list []netip.Addr, err error) {
		for _, i := range random.Perm(len(nodes))[:count] {
			list = append(list, nodes[i].Addr())
		}
		return list, nil
	})
}

// Addr returns the node's address.
func (n *Node) Addr() netip.Addr { return netip.MustParseAddr(strings.Trim(n.Host(), "[]")) }

// startDNS starts a server that answers with all nodes.
func (s *Site) startDNS() {
	t := s.t
	t.Helper()
	at := s.join(Resolver, dnsNumber)
	s.DNS = &DNS{}
	s.DNS.AnswerNodes(s.Nodes...)
	if err := at.ns.Do(func() (err error) {
		s.DNS.conn, err = net.ListenPacket("udp", net.JoinHostPort(strings.Trim(at.host, "[]"), "53"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.DNS.serve()
	}()
	t.Cleanup(func() {
		_ = s.DNS.conn.Close() // ends serve
		<-done
	})
}

func (d *DNS) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		if response, err := d.respond(buffer[:n]); err == nil {
			_, _ = d.conn.WriteTo(response, from) // a lost answer is asked for again
		}
	}
}

func (d *DNS) respond(request []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(request); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(err, errors.New("not one question"))
	}
	d.mu.Lock()
	addrs, err := d.answer()
	d.mu.Unlock()
	q := m.Questions[0]
	m.Header = dnsmessage.Header{
		ID: m.ID, Response: true, Authoritative: true,
		RecursionDesired: m.RecursionDesired, RecursionAvailable: true,
	}
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	switch {
	case err != nil:
		m.RCode = dnsmessage.RCodeServerFailure
	case !strings.EqualFold(strings.TrimSuffix(q.Name.String(), "."), Domain):
		m.RCode = dnsmessage.RCodeNameError
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return m.Pack()
	}
	for _, a := range addrs {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}
