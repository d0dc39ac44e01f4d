package settings

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// CheckURLPort returns an error if no server can have the port of a URL. The caller checks everything else.
func CheckURLPort(text string) error {
	if u, err := url.Parse(text); err == nil && u.Port() != "" {
		return checkPort(u.Port())
	}
	return nil
}

// CheckHostPort returns an error if text is no host and port, such as 10.0.0.1:6379.
func CheckHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return fmt.Errorf("invalid address %q; use host:port, such as 10.0.0.1:6379", text)
	}
	if err := CheckHost(host); err != nil {
		return err
	}
	return checkPort(port)
}

// CheckHost returns an error if text is neither an IP address nor a name that DNS or a file of hosts can have.
func CheckHost(text string) error {
	if _, err := netip.ParseAddr(text); err == nil {
		return nil
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, outsideHost) {
			return fmt.Errorf("invalid host %q; use a name such as redis.example.com, or an IP address", text)
		}
	}
	if !strings.ContainsFunc(text, notOfIPv4) {
		return fmt.Errorf("invalid IP address %q; use one such as 10.0.0.1", text)
	}
	return nil
}

// outsideHost reports whether no host's name has the character. Names in other scripts are left to DNS.
func outsideHost(r rune) bool {
	return r < 0x80 && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// notOfIPv4 reports whether no IPv4 address has the character.
func notOfIPv4(r rune) bool { return r != '.' && (r < '0' || r > '9') }

// CheckNames returns an error if a name can be neither that of a header nor that of a cookie.
func CheckNames(setting string, names ...string) error {
	for _, name := range names {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%s: invalid name %q; use letters, digits, '-', '_' and '.'", setting, name)
		}
	}
	return nil
}

func checkPort(text string) error {
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("invalid port %q; use 1 to 65535", text)
	}
	return nil
}
