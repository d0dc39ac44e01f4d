package outbound

import (
	"net/netip"
	"testing"
)

func TestReachable(t *testing.T) {
	granted := prefixes("10.1.0.0/16", "fd00:1::/32", "0.0.0.0/0")[:2]
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true,
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "fd00:1::5": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "100.100.100.200": false,
		"127.0.0.1": false, "127.255.255.254": false, "169.254.169.254": false, "172.16.0.1": false,
		"172.31.255.255": false, "192.0.0.192": false, "192.168.1.1": false, "198.18.0.1": false, "192.0.2.1": false,
		"198.51.100.7": false, "203.0.113.7": false, "192.88.99.1": false, "224.0.0.1": false, "239.1.2.3": false,
		"240.0.0.1": false, "255.255.255.255": false, "168.63.129.16": false,

		"::": false, "::1": false, "::127.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"::ffff:0:127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::808:808": false,
		"fe80::1": false, "fe80::1%eth0": false, "2606:4700::1111%eth0": false, "fec0::1": false, "fc00::1": false,
		"fd00:ec2::254": false, "ff02::1": false, "100::1": false, "2001::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false, "2002:808:808::1": false, "3fff::1": false, "4000::1": false, "5f00::1": false,
	} {
		if got := reachable(netip.MustParseAddr(text), granted); got != want {
			t.Errorf("reachable(%s) = %v", text, got)
		}
	}
	everything := prefixes("0.0.0.0/0", "::/0")
	for text, want := range map[string]bool{
		"10.0.0.1": true, "169.254.169.254": true, "::1": true, "2002:7f00:1::": true,
		"0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "::ffff:0.0.0.0": false,
		"64:ff9b::": false,
	} {
		if got := reachable(netip.MustParseAddr(text), everything); got != want {
			t.Errorf("with all networks granted, reachable(%s) = %v", text, got)
		}
	}
	if reachable(netip.Addr{}, everything) {
		t.Error("no address is reachable")
	}
}
