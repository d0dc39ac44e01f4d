package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// anyHost is the host of an origin that stands for all hosts.
const anyHost = "*"

// origin is a granted scheme, host and port. A host *.example.com stands for all hosts below example.com.
type origin struct {
	scheme, host, port string
}

// parseOrigin parses an origin such as https://hooks.slack.com or https://*.example.com:8443.
func parseOrigin(text string) (origin, error) {
	invalid := func(why string) (origin, error) {
		return origin{}, fmt.Errorf("invalid address %q: %s; use one such as https://hooks.slack.com or "+
			"https://*.example.com:8443", text, why)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return invalid("it does not begin with https:// or http://")
	}
	rest = strings.TrimSuffix(rest, "/")
	below, isBelow := strings.CutPrefix(rest, "*.")
	host, isAny := rest, rest == anyHost || strings.HasPrefix(rest, anyHost+":")
	switch {
	case isBelow:
		host = below
	case isAny:
		host = "any.invalid" + strings.TrimPrefix(rest, anyHost)
	}
	u, err := url.Parse(scheme + "://" + host)
	if err != nil {
		return invalid("it is not a URL")
	}
	o, err := originOf(u)
	switch {
	case err != nil:
		return invalid(err.Error())
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return invalid("it has a path or a query")
	case isBelow && !strings.Contains(o.host, "."):
		return invalid("the wildcard stands for a whole top-level domain")
	case isBelow:
		o.host = "*." + o.host
	case isAny:
		o.host = anyHost
	}
	return o, nil
}

// originOf returns the origin of a URL that goes to one host. It rejects what resolvers and other parsers could read as
// another host.
func originOf(u *url.URL) (o origin, err error) {
	o.scheme, o.port = u.Scheme, u.Port()
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return o, errors.New("the scheme is neither https nor http")
	case u.Opaque != "" || u.Host == "":
		return o, errors.New("there is no host")
	case u.User != nil:
		return o, errors.New("there is a user before the host")
	}
	if o.host, err = hostOf(u); err != nil {
		return o, err
	}
	if o.port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return o, errors.New("the port is empty")
		}
		o.port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	n, err := strconv.ParseUint(o.port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != o.port {
		return o, errors.New("the port is not a number from 1 to 65535")
	}
	return o, nil
}

// hostOf returns the host of a URL in lower case: a name in ASCII or an IP address in its usual form.
func hostOf(u *url.URL) (string, error) {
	host := strings.ToLower(u.Hostname())
	if strings.HasPrefix(u.Host, "[") || strings.Contains(host, ":") {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" || !strings.HasPrefix(u.Host, "[") {
			return "", errors.New("the host is not an IPv6 address without a zone, in brackets")
		}
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String(), nil
	}
	labels := strings.Split(host, ".")
	if len(host) > 253 || !nameLabels(labels) {
		return "", errors.New("the host is not a name of letters, digits and hyphens (write others as xn--…)")
	}
	// Some resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses.
	if isNumber(labels[len(labels)-1]) {
		return "", errors.New("the host is a number but not an IPv4 address of four decimal numbers")
	}
	return host, nil
}

// isNumber reports whether a label is a decimal, octal or hexadecimal number.
func isNumber(label string) bool {
	digits, isHex := strings.CutPrefix(label, "0x")
	return !strings.ContainsFunc(digits, func(r rune) bool {
		return !(r >= '0' && r <= '9' || isHex && r >= 'a' && r <= 'f')
	})
}

func nameLabels(labels []string) bool {
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return false
		}
	}
	return true
}

// covers reports whether the granted origin o includes the origin of a request.
func (o origin) covers(r origin) bool {
	if o.scheme != r.scheme || o.port != r.port {
		return false
	}
	if below, ok := strings.CutPrefix(o.host, "*."); ok {
		return strings.HasSuffix(r.host, "."+below)
	}
	return o.host == anyHost || o.host == r.host
}
