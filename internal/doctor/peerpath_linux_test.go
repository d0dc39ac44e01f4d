package doctor

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// Two namespaces, joined by a switch that delays, loses or swallows packets: the findings name the fault.
func TestPeerPathInNamespaces(t *testing.T) {
	wire.Need(t)
	network := wire.NewSwitch(1)
	t.Cleanup(network.Close)
	var spaces [2]*wire.Namespace
	for i, name := range []string{"a", "b"} {
		space, err := wire.NewNamespace("doctor-" + name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = space.Close() })
		if err := space.Join(network, name, []string{"10.0.0.1/24", "10.0.0.2/24"}[i]); err != nil {
			t.Fatal(err)
		}
		spaces[i] = space
	}
	server, _, _ := startPeer(t)
	if err := spaces[1].Do(func() (err error) {
		_ = server.Listener.Close()
		server.Listener, err = net.Listen("tcp", "10.0.0.2:8013")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.Start()
	examine := func(rule wire.Rule) (list []Finding) {
		t.Helper()
		network.SetBoth("a", "b", rule)
		defer network.Reset()
		if err := spaces[0].Do(func() error {
			list = Peer(ctx, "http://10.0.0.2:8013", true, backplane.Secrets{"right"}, nil)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(list) < 2 && rule.Loss == 0 {
			t.Fatalf("%+v", list)
		}
		return list
	}
	list := examine(wire.Rule{})
	expect(t, list[1], OK, "MTU 1500", "segments sent again")
	if m := list[1].Path; m.Retransmitted > 1 { // a busy machine answers one late
		t.Errorf("%+v", *m)
	}
	list = examine(wire.Rule{Delay: 40 * time.Millisecond})
	expect(t, list[1], OK, "median 8")
	if m := list[1].Path; m.RTTMin < .08 || m.RTTMax > .8 || m.Connect < .08 {
		t.Errorf("%+v", *m)
	}
	list = examine(wire.Rule{MTU: 1200})
	expect(t, list[len(list)-1], Failure, "black hole", "1500")
	if m := list[1].Path; m.Unanswered != 0 {
		t.Errorf("small exchanges: %+v", *m)
	}
	for _, f := range examine(wire.Rule{Loss: .15}) {
		if strings.Contains(f.Text, "black hole") {
			t.Errorf("a loss of 15 %% is taken for a black hole: %+v", f)
		}
	}
}
