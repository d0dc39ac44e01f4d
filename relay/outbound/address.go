package outbound

import "net/netip"

// reserved are the networks within the otherwise public address space that no request reaches without a grant: those of
// the registries of special-purpose addresses, and the metadata services of clouds at public addresses.
var reserved = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's virtual host
	"2001::/23",        // Teredo, ORCHID and others
	"2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	// global is the part of IPv6 that is assigned to hosts on the internet.
	global = netip.MustParsePrefix("2000::/3")
	// nat64 is the prefix by which hosts without IPv4 reach those without IPv6: the last 32 bits are the IPv4 address.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// reachable reports whether a policy lets requests go to an address: a public one, or one in the granted networks.
func reachable(a netip.Addr, granted []netip.Prefix) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	// Whatever is granted, these are not addresses of one host.
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	if contains(granted, a) {
		return true
	}
	return (a.Is4() || global.Contains(a)) && !contains(reserved, a)
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
