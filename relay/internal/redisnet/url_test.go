package redisnet

import (
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// What stands in CHANNEL_LAYERS is read as redis-py reads it.
func TestURLs(t *testing.T) {
	type want struct {
		network, addr, user, password string
		db                            int
		encrypted                     bool
		pool                          Pool
		tls                           *TLS
		ignored                       []string
	}
	for url, w := range map[string]want{
		"redis://":                               {addr: "localhost:6379"},
		"redis://10.0.0.5":                       {addr: "10.0.0.5:6379"},
		"REDIS://10.0.0.5:7000/3":                {addr: "10.0.0.5:7000", db: 3},
		"redis://[::1]":                          {addr: "[::1]:6379"},
		"redis://[::1]:7000/":                    {addr: "[::1]:7000"},
		"valkey://host":                          {addr: "host:6379"},
		"valkeys://host":                         {addr: "host:6379", encrypted: true},
		"rediss://host:1":                        {addr: "host:1", encrypted: true},
		"redis://relay:secret@host/1":            {addr: "host:6379", user: "relay", password: "secret", db: 1},
		"redis://:secret@host":                   {addr: "host:6379", password: "secret"},
		"redis://relay@host":                     {addr: "host:6379", user: "relay"},
		"redis://:p%40s%2Fs%23%3F%25@host":       {addr: "host:6379", password: "p@s/s#?%"},
		"redis://:p@s\"^ |<w>@host":              {addr: "host:6379", password: "p@s\"^ |<w>"},
		"redis://:100%@host":                     {addr: "host:6379", password: "100%"},
		"redis://:a:b@host":                      {addr: "host:6379", password: "a:b"},
		"redis://:a+b@host":                      {addr: "host:6379", password: "a+b"},
		"redis://host?db=2":                      {addr: "host:6379", db: 2},
		"redis://host/1?db=2":                    {addr: "host:6379", db: 2},
		"redis://host?username=u&password=p%40":  {addr: "host:6379", user: "u", password: "p@"},
		"redis://a:b@host?username=u&password=p": {addr: "host:6379", user: "a", password: "b"},
		"unix:///var/run/redis.sock":             {network: "unix", addr: "/var/run/redis.sock"},
		"unix://u:p@/r%20s.sock?db=1": {
			network: "unix", addr: "/r s.sock", user: "u", password: "p",
			db: 1,
		},
		"redis+socket:///r.sock?virtual_host=2": {network: "unix", addr: "/r.sock", db: 2},
		"redis://h?health_check_interval=30":    {addr: "h:6379", ignored: []string{"health_check_interval"}},
		"redis://h?protocol=3&client_name=x":    {addr: "h:6379", ignored: []string{"protocol", "client_name"}},
		"redis://h?retry_on_timeout=True&&":     {addr: "h:6379", ignored: []string{"retry_on_timeout"}},
		"redis://h?max_connections=7":           {addr: "h:6379", pool: Pool{Size: 7}},
		"redis://h?socket_connect_timeout=0.5":  {addr: "h:6379", pool: Pool{DialTimeout: time.Second / 2}},
		"redis://h?socket_timeout=2":            {addr: "h:6379", pool: Pool{ReadTimeout: 2e9, WriteTimeout: 2e9}},
		"redis://h?socket_timeout=":             {addr: "h:6379"},
		"redis://h?timeout=20":                  {addr: "h:6379", pool: Pool{Wait: 20e9}},
		"redis://h?pool_size=3&dial_timeout=6s": {addr: "h:6379", pool: Pool{Size: 3, DialTimeout: 6e9}},
		"rediss://h?ssl_cert_reqs=required":     {addr: "h:6379", encrypted: true},
		"rediss://h?ssl_check_hostname=true":    {addr: "h:6379", encrypted: true},
		"rediss://h?ssl_ca_certs=/ca.pem":       {addr: "h:6379", encrypted: true, tls: &TLS{CA: "/ca.pem"}},
		"rediss://h?ssl_certfile=/c&ssl_keyfile=/k": {
			addr: "h:6379", encrypted: true,
			tls: &TLS{Cert: "/c", Key: "/k"},
		},
	} {
		h, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if w.network == "" {
			w.network = "tcp"
		}
		got := want{
			h.Network, h.Addr, h.Username, h.Password, h.DB, h.TLSConfig != nil, h.pool, h.tls, h.ignored,
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("%s:\n got %+v\nwant %+v", url, got, w)
		}
	}
}

// What is wrong with a URL is named with its remedy, and never a secret.
func TestBadURLs(t *testing.T) {
	for url, want := range map[string]string{
		"10.0.0.5:6379":                                  "has no scheme",
		"http://:secret@host":                            "unknown scheme",
		"redis://:sec#ret@host":                          "%23",
		"redis://:sec/ret@host":                          "%2F",
		"redis://:sec?ret@host":                          "%3F",
		"redis://sec?ret@host":                           "%3F",
		"redis://:secret@host:port":                      "no valid port",
		"redis://:secret@host:0":                         "no valid port",
		"redis://:secret@::1":                            "write [::1]:6379",
		"redis://:secret@host/jobs":                      "no valid database",
		"redis://:secret@host/-1":                        "no valid database",
		"unix://host/path":                               "names no socket",
		"unix://:secret@":                                "names no socket",
		"redis://:secret@host?nonsense=secret":           "unknown option nonsense; remove it",
		"redis://host?secret%40x=1":                      "not shown",
		"redis://:secret@host?max_connections=many":      "max_connections: invalid number; write 1 to 65535",
		"redis://:secret@host?pool_size=1000000000":      "pool_size: invalid number; write 1 to 65535",
		"redis://:secret@host?min_idle_conns=1000000000": "min_idle_conns: invalid number; write 0 to 65535",
		"redis://:secret@host?socket_timeout=soon":       "socket_timeout: invalid duration",
		"redis://:secret@host?socket_timeout=-1":         "socket_timeout: invalid duration",
		"redis://:secret@host?ssl_ca_certs=/ca.pem":      "ssl_ca_certs and is not encrypted; write rediss://",
		"rediss://:secret@host?ssl_cert_reqs=none":       "insecure_skip_verify",
		"rediss://:secret@host?ssl_cert_reqs=CERT_NONE":  "in the block of tls, write 'ca <file>'",
		"rediss://:secret@host?ssl_check_hostname=false": "ssl_check_hostname: certificates are verified",
		"rediss://:secret@host?ssl_ca_data=secret":       "write the certificates to a file",
		"rediss://:secret@host?ssl_password=secret":      "decrypt",
		"rediss://:secret@host?ssl_validate_ocsp=true":   "remove the option",
		"rediss://:secret@host?skip_verify=perhaps":      "write true or false",
	} {
		_, err := parseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %q", url, err, want)
		}
	}
}

// Every option that redis-py reads from a URL is understood, ignored or refused by name.
func TestOptionsOfRedisPy(t *testing.T) {
	out, err := exec.Command("/usr/bin/python3", "-c",
		"from redis.connection import URL_QUERY_ARGUMENT_PARSERS as p; print(*p)").Output()
	if err != nil {
		t.Fatalf("%v; install it with: scripts/install-test-deps.sh", err)
	}
	// Those of redis-py 8, and what else its connections take.
	options := append(strings.Fields(string(out)), "socket_read_size", "ssl_include_verify_flags",
		"ssl_exclude_verify_flags", "ssl_min_version", "timeout", "protocol", "legacy_responses", "client_name", "username",
		"password", "encoding", "encoding_errors", "decode_responses", "lib_name", "lib_version", "driver_info",
		"ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_ciphers",
		"ssl_password", "socket_type", "socket_keepalive_options", "single_connection_client", "retry")
	if !slices.Contains(options, "health_check_interval") {
		t.Fatalf("redis-py has the options %q", options)
	}
	for _, name := range options {
		if _, err := parseURL("rediss://host?" + name + "=1"); err != nil &&
			strings.Contains(err.Error(), "unknown option") {
			t.Error(err)
		}
	}
}

// Settings in the Caddyfile come before those in the URL.
func TestURLsAndPool(t *testing.T) {
	h := Hosts{
		URLs: []string{"redis://a?socket_timeout=2&max_connections=7", "redis://b"},
		Pool: Pool{ReadTimeout: time.Second},
	}
	list, err := h.options()
	if err != nil {
		t.Fatal(err)
	}
	a, b := list[0], list[1]
	if a.ReadTimeout != time.Second || a.WriteTimeout != 2*time.Second || a.PoolSize != 7 {
		t.Errorf("%v, %v, %d", a.ReadTimeout, a.WriteTimeout, a.PoolSize)
	}
	if b.ReadTimeout != time.Second || b.WriteTimeout != 5*time.Second || b.PoolSize != 0 {
		t.Errorf("%v, %v, %d", b.ReadTimeout, b.WriteTimeout, b.PoolSize)
	}
}

func FuzzURL(f *testing.F) {
	for _, url := range []string{
		"redis://u:p@h:1/2?db=3", "unix://u:p@/s?db=1", "rediss://[::1]:1?ssl_ca_certs=/x", "redis://:%zz@h?socket_timeout=1e400",
		"redis://h?%=1", "://", "redis://@", "redis://[", "redis://h?socket_timeout=nan",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		h, err := parseURL(url)
		if err != nil {
			return
		}
		if h.Addr == "" || h.DB < 0 || h.pool.ReadTimeout < 0 || h.pool.Size < 0 {
			t.Errorf("%q: %+v", url, h)
		}
		if again, err := parseURL(url); err != nil || again.Addr != h.Addr || again.Password != h.Password {
			t.Errorf("%q is read in two ways", url)
		}
	})
}
