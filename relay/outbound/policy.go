package outbound

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Policy grants requests. A zero value means the documented default.
type Policy struct {
	// Origins are addresses such as https://hooks.slack.com or https://*.example.com:8443. At least one is needed.
	// https://* stands for all hosts. Without a port, an origin has the scheme's default port.
	Origins []string
	// Methods are the allowed methods. Default: GET and POST. CONNECT and TRACE cannot be granted.
	Methods []string
	// Headers are names of headers that requests may have besides Accept, Authorization, Content-Type and a few others.
	Headers []string
	// Private are networks that are not public, such as 10.0.0.0/8, to which requests may go.
	Private []netip.Prefix
	// MaxRequest bounds the body of a request, in bytes. Default: 64 KiB.
	MaxRequest int64
	// MaxResponse bounds the body of a response, in bytes. Default: 256 KiB.
	MaxResponse int64
	// Timeout bounds a request, from the look-up of the host to the end of the response. Default: 10 s.
	Timeout time.Duration
	// InFlight bounds the requests at a time; there is no queue. Default: 16.
	InFlight int
	// Rate bounds the requests per second. Bursts have up to as many requests, at least one. Default: 10.
	Rate float64

	// Resolver looks up hosts. Default: the system's.
	Resolver *net.Resolver
	// TLS is for tests. Default: the system's certificates, TLS 1.2 or later.
	TLS *tls.Config
}

// Defaults and limits of policies.
const (
	DefaultMaxRequest  = 64 << 10
	DefaultMaxResponse = 256 << 10
	DefaultTimeout     = 10 * time.Second
	DefaultInFlight    = 16
	DefaultRate        = 10

	maxSize     = 64 << 20
	maxTimeout  = 5 * time.Minute
	maxInFlight = 4096
	maxRate     = 1e6
)

// rules are a checked policy.
type rules struct {
	Policy
	origins []origin
	headers []string
}

// compile checks a policy and fills in the defaults. The error lists all faults.
func (p Policy) compile() (*rules, error) {
	r := &rules{Policy: p}
	var faults []error
	if len(p.Origins) == 0 {
		faults = append(faults, errors.New("no addresses; add one, as in: fetch https://hooks.slack.com"))
	}
	for _, text := range p.Origins {
		o, err := parseOrigin(text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		r.origins = append(r.origins, o)
	}
	var err error
	if r.headers, err = grantedHeaders(p.Headers); err != nil {
		faults = append(faults, err)
	}
	if len(p.Methods) == 0 {
		r.Methods = []string{"GET", "POST"}
	}
	for _, m := range r.Methods {
		if !isToken(m) || m == "CONNECT" || m == "TRACE" || !upper(m) {
			faults = append(faults, fmt.Errorf("invalid method %q; use some of GET, HEAD, POST, PUT, PATCH, DELETE", m))
		}
	}
	if slices.ContainsFunc(p.Private, func(n netip.Prefix) bool { return !n.IsValid() }) {
		faults = append(faults, errors.New("invalid private network; use one such as 10.0.0.0/8"))
	}
	if faults = append(faults, r.fillIn()...); len(faults) > 0 {
		texts := make([]string, len(faults)) // on one line, as logs and commands show it
		for i, fault := range faults {
			texts[i] = fault.Error()
		}
		return r, errors.New(strings.Join(texts, "; "))
	}
	return r, nil
}

func upper(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c >= 'a' && c <= 'z' })
}

func (r *rules) fillIn() (faults []error) {
	for _, l := range []struct {
		name          string
		value         *int64
		initial, most int64
	}{
		{"max_request", &r.MaxRequest, DefaultMaxRequest, maxSize},
		{"max_response", &r.MaxResponse, DefaultMaxResponse, maxSize},
		{"timeout", (*int64)(&r.Timeout), int64(DefaultTimeout), int64(maxTimeout)},
	} {
		if *l.value == 0 {
			*l.value = l.initial
		}
		if *l.value < 0 || *l.value > l.most {
			faults = append(faults, fmt.Errorf("invalid %s; use 64 MiB, or 5 minutes, at most", l.name))
		}
	}
	if r.InFlight == 0 {
		r.InFlight = DefaultInFlight
	}
	if r.Rate == 0 {
		r.Rate = DefaultRate
	}
	if r.InFlight < 0 || r.InFlight > maxInFlight {
		faults = append(faults, fmt.Errorf("invalid in_flight %d; use 1 to %d", r.InFlight, maxInFlight))
	}
	if !(r.Rate > 0 && r.Rate <= maxRate) {
		faults = append(faults, fmt.Errorf("invalid rate %v; use more than 0 and at most %v", r.Rate, maxRate))
	}
	return faults
}

// permits returns the outcome of a request that the policy does not allow, or Responded.
func (r *rules) permits(req *Request, method string, body int) (Outcome, string) {
	switch {
	case !slices.ContainsFunc(r.origins, func(o origin) bool { return o.covers(req.origin) }):
		return Denied, "the address " + req.origin.scheme + "://" + req.origin.address() + " is not granted"
	case !slices.Contains(r.Methods, method):
		return Denied, "the method " + method + " is not granted"
	case int64(body) > r.MaxRequest:
		return TooLarge, fmt.Sprintf("the body has more than %d bytes", r.MaxRequest)
	}
	return Responded, ""
}
