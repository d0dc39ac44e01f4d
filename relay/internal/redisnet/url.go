package redisnet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// host is the settings of a host, from a URL or a Sentinel.
type host struct {
	*goredis.Options
	tls     *TLS     // settings of encrypted connections; nil: defaults
	pool    Pool     // defaults for Hosts.Pool
	ignored []string // options of redis-py without a meaning here
}

const urlHelp = "write it like redis://user:password@host:6379/0, rediss://… for TLS or unix:///path?db=0"

// parseURL reads a URL as redis-py does, so that a URL of CHANNEL_LAYERS works here. Percent-encoding in user,
// password, path and options is optional where the URL stays unambiguous. Errors name options, never values.
func parseURL(text string) (*host, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || strings.ContainsAny(scheme, "@:/?# ") {
		return nil, errors.New("the url has no scheme; " + urlHelp)
	}
	fail := func(format string, args ...any) (*host, error) {
		return nil, fmt.Errorf("the url (%s://…) "+format, append([]any{scheme}, args...)...)
	}
	if strings.Contains(rest, "#") {
		return fail("holds a '#'; in a user, a password or a path write %%23")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	h := &host{Options: &goredis.Options{Network: "tcp"}}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		h.Username, h.Password, authority = unquote(user), unquote(password), authority[i+1:]
	}
	var err error
	switch strings.ToLower(scheme) {
	case "redis", "valkey":
		err = h.setAddress(authority, path)
	case "rediss", "valkeys":
		if err = h.setAddress(authority, path); err == nil {
			name, _, _ := net.SplitHostPort(h.Addr)
			h.TLSConfig = &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
		}
	case "unix", "redis+socket", "valkey+socket":
		h.Network, h.Addr = "unix", unquote(path)
		if authority != "" || strings.Trim(path, "/ ") == "" {
			err = errors.New("names no socket; " + urlHelp)
		}
	default:
		err = errors.New("has an unknown scheme; " + urlHelp)
	}
	switch {
	case err == nil:
		err = h.setOptions(query)
	case strings.Contains(path, "@"):
		err = errors.New("holds a '/' before its '@'; in a user or a password write %2F")
	case strings.Contains(query, "@"):
		err = errors.New("holds a '?' before its '@'; in a user or a password write %3F")
	}
	if err != nil {
		return fail("%w", err)
	}
	return h, nil
}

// setAddress reads host, port and database.
func (h *host) setAddress(authority, path string) error {
	name, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		name, port = authority[:i], authority[i+1:]
	}
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name = name[1 : len(name)-1]
	} else if strings.ContainsAny(name, "[]:") {
		return errors.New("has an address of IPv6 without brackets; write [::1]:6379")
	}
	if name = unquote(name); name == "" {
		name = "localhost"
	}
	if strings.ContainsAny(name, " \t\r\n/@") {
		return errors.New("has no valid host; " + urlHelp)
	}
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("has no valid port; write a number from 1 to 65535")
	}
	h.Addr = net.JoinHostPort(name, port)
	if db := strings.Trim(unquote(path), "/"); db != "" {
		if number(&h.DB, 0, maxDatabase)(db) != nil {
			return errors.New("has no valid database; write a number from 0 behind the host, such as /0")
		}
	}
	return nil
}

// unquote decodes percent-encoding. As in Python, a '%' that encodes nothing stays.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				_ = b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		_ = b.WriteByte(s[i])
	}
	return b.String()
}

// ignoredOptions are options of redis-py and go-redis without a meaning here: the relay negotiates, retries and keeps
// connections up itself, and decodes no text from Redis.
var ignoredOptions = []string{
	"client_name", "decode_responses", "driver_info", "encoding", "encoding_errors", "health_check_interval", "lib_name",
	"lib_version", "protocol", "retry", "retry_on_error", "retry_on_timeout", "single_connection_client",
	"socket_keepalive", "socket_keepalive_options", "socket_read_size", "socket_type", "ssl_ciphers", "ssl_min_version",
	"legacy_responses", "use_async",
	"max_retries", "min_retry_backoff", "max_retry_backoff", "pool_fifo", "max_concurrent_dials",
}

// refusedOptions are options that must not be ignored, with the remedy.
var refusedOptions = map[string]string{
	"ssl_ca_data":               "write the certificates to a file, and give the file to 'ca' in the block of tls",
	"ssl_ca_path":               "write the certificates to one file, and give the file to 'ca' in the block of tls",
	"ssl_password":              "decrypt the key's file, and give it to 'key' in the block of tls",
	"ssl_validate_ocsp":         "OCSP is not supported; remove the option",
	"ssl_validate_ocsp_stapled": "OCSP is not supported; remove the option",
	"ssl_ocsp_context":          "OCSP is not supported; remove the option",
	"ssl_ocsp_expected_cert":    "OCSP is not supported; remove the option",
	"ssl_include_verify_flags":  "certificates are verified as a browser does; remove the option",
	"ssl_exclude_verify_flags":  "certificates are verified as a browser does; remove the option",
}

// setOptions reads the query's options.
func (h *host) setOptions(query string) error {
	var files TLS
	pool := &h.pool
	known := map[string]func(value string) error{
		"db": number(&h.DB, 0, maxDatabase), "virtual_host": number(&h.DB, 0, maxDatabase),
		"username": text(&h.Username), "password": text(&h.Password),
		"max_connections": number(&pool.Size, 1, maxPool), "pool_size": number(&pool.Size, 1, maxPool),
		"max_active_conns": number(&pool.Size, 1, maxPool),
		"min_idle_conns":   number(&pool.MinIdle, 0, maxPool), "max_idle_conns": number(&pool.MaxIdle, 0, maxPool),
		"socket_timeout":         seconds(&pool.ReadTimeout, &pool.WriteTimeout),
		"read_timeout":           seconds(&pool.ReadTimeout),
		"write_timeout":          seconds(&pool.WriteTimeout),
		"socket_connect_timeout": seconds(&pool.DialTimeout), "dial_timeout": seconds(&pool.DialTimeout),
		"timeout":            seconds(&pool.Wait), // of a blocking pool
		"pool_timeout":       seconds(&pool.Wait),
		"conn_max_idle_time": seconds(&pool.MaxIdleTime), "idle_timeout": seconds(&pool.MaxIdleTime),
		"conn_max_lifetime": seconds(&pool.MaxLifetime), "max_conn_age": seconds(&pool.MaxLifetime),
		"ssl_ca_certs": text(&files.CA), "ssl_certfile": text(&files.Cert), "ssl_keyfile": text(&files.Key),
		"ssl_cert_reqs":      verified("required", "optional", "cert_required", "cert_optional"),
		"ssl_check_hostname": verified("true", "yes", "1"),
		"skip_verify":        yes(&files.Insecure),
	}
	user, password := h.Username, h.Password
	for option := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(option, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return errors.New("has an option with an invalid name")
		}
		name, value = plain, unquote(strings.ReplaceAll(value, "+", " "))
		set, remedy := known[name], refusedOptions[name]
		switch {
		case name == "":
			continue
		case h.TLSConfig == nil && strings.HasPrefix(name, "ssl_"):
			return fmt.Errorf("has the option %s and is not encrypted; write rediss://", safeName(name))
		case remedy != "":
			return fmt.Errorf("has the option %s, which is not supported; %s", name, remedy)
		case slices.Contains(ignoredOptions, name):
			h.ignored = append(h.ignored, name)
		case set == nil:
			return fmt.Errorf("has an unknown option %s; remove it", safeName(name))
		case value == "": // An empty option is no option.
		default:
			if err := set(value); err != nil {
				return fmt.Errorf("has the option %s: %w", name, err)
			}
		}
	}
	if user != "" {
		h.Username = user
	}
	if password != "" {
		h.Password = password
	}
	if files != (TLS{}) {
		h.tls = &files
	}
	return nil
}

// safeName returns a text if it looks like the name of an option, unlike the rest of a password with a '?'.
func safeName(name string) string {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && c != '_' || i > 40 {
			return "(its name is not shown: does a password hold a '?', to be written as %3F?)"
		}
	}
	return name
}

func text(to *string) func(string) error {
	return func(value string) error { *to = value; return nil }
}

// maxDatabase bounds the number of a database.
const maxDatabase = 1 << 30

func number(to *int, least, most int) func(string) error {
	return func(value string) (err error) {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("invalid number; write %d to %d", least, most)
		}
		*to = n
		return nil
	}
}

// seconds reads a number of seconds, as in redis-py, or a duration.
func seconds(to ...*time.Duration) func(string) error {
	return func(value string) error {
		d, err := time.ParseDuration(value)
		if n, e := strconv.ParseFloat(value, 64); e == nil {
			d, err = time.Duration(n*float64(time.Second)), nil
			if !(n < 1e9) {
				d = 0
			}
		}
		if err != nil || d <= 0 {
			return errors.New("invalid duration; write seconds, such as 5 or 0.5")
		}
		for _, t := range to {
			*t = d
		}
		return nil
	}
}

func yes(to *bool) func(string) error {
	return func(value string) (err error) {
		if *to, err = strconv.ParseBool(value); err != nil {
			return errors.New("write true or false")
		}
		return nil
	}
}

// verified accepts the values that mean the default behavior.
func verified(accepted ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(accepted, strings.ToLower(value)) {
			return errors.New("certificates are verified; in the block of tls, write 'ca <file>' for a private " +
				"authority, or 'insecure_skip_verify' for an experiment")
		}
		return nil
	}
}
