package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// front is a web server before uWSGI: its ports without and with TLS.
type front struct{ plain, secure int }

// uwsgiRoot is the document root of both web servers.
const uwsgiRoot = "/srv/www"

// startNGINX starts an nginx with Debian's uwsgi_params.
func startNGINX(t *testing.T, upstream string, certificates peers.Certificates) front {
	t.Helper()
	dir := t.TempDir()
	f := front{testkit.FreePort(t), testkit.FreePort(t)}
	conf := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:%[2]d;
		listen 127.0.0.1:%[3]d ssl;
		server_name localhost;
		ssl_certificate %[4]s;
		ssl_certificate_key %[5]s;
		root %[6]s;
		location / {
			include /etc/nginx/uwsgi_params;
			uwsgi_pass %[7]s;
		}
	}
}
`, dir, f.plain, f.secure, certificates.Cert, certificates.Key, uwsgiRoot, upstream)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	process.Start(t, "nginx", exec.Command(process.Program(t, "nginx"), "-p", dir, "-e", "stderr", "-c", file))
	testkit.Eventually(t, "nginx listens", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(f.secure))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return f
}

// startFront starts a Caddy with the same sites.
func startFront(t *testing.T, upstream string, certificates peers.Certificates) front {
	t.Helper()
	f := front{testkit.FreePort(t), testkit.FreePort(t)}
	peers.StartRelay(t, fmt.Sprintf(`{
	admin {$ADMIN}
	auto_https off
	default_bind 127.0.0.1
}
(uwsgi) {
	root %[1]s
	reverse_proxy %[2]s {
		transport uwsgi
	}
}
{$SITE} {
}
http://:%[3]d {
	import uwsgi
}
https://localhost:%[4]d {
	tls %[5]s %[6]s
	import uwsgi
}
`, uwsgiRoot, upstream, f.plain, f.secure, certificates.Cert, certificates.Key))
	return f
}

// ask sends a request as it is, and returns what the application is told, and the status.
func (f front) ask(t *testing.T, secure bool, request string) (uwsgiEnviron, int) {
	t.Helper()
	port := f.plain
	if secure {
		port = f.secure
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if secure {
		conn = tls.Client(conn, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e uwsgiEnviron
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%q: %s: %v", request, body, err)
		}
		if got := e.get("SERVER_PORT"); got != strconv.Itoa(port) {
			t.Errorf("%q: SERVER_PORT is %s, want %d", request, got, port)
		}
	}
	return e, resp.StatusCode
}

// differsByDesign are the variables that differ between nginx's uwsgi_params and the transport, and why.
var differsByDesign = map[string]string{
	"SERVER_PORT":           "each has its own; compared with it in ask",
	"REMOTE_PORT":           "each request has its own",
	"UWSGI_SCHEME":          "from the transport: makes wsgi.url_scheme right whatever headers say",
	"HTTP_X_FORWARDED_FOR":  "from reverse_proxy",
	"HTTP_X_FORWARDED_HOST": "from reverse_proxy",
	// Of the next uWSGI makes wsgi.url_scheme, also of a client's.
	"HTTP_X_FORWARDED_PROTO": "from reverse_proxy; nginx passes a client's on",
	"HTTP_VIA":               "from reverse_proxy",
	"HTTP_CONTENT_LENGTH":    "nginx repeats CONTENT_LENGTH",
	"HTTP_CONTENT_TYPE":      "nginx repeats CONTENT_TYPE",
	"HTTP_CONNECTION":        "nginx passes headers of the connection on",
	"HTTP_TRANSFER_ENCODING": "nginx passes headers of the connection on",
	"HTTP_UPGRADE":           "nginx passes headers of the connection on",
	"HTTP_TE":                "nginx passes headers of the connection on",
	"HTTP_EXPECT":            "nginx passes it on, with the body at hand",
	"HTTP_PROXY":             "nginx passes it on: httpoxy",
}

// An application is told the same as by nginx, but for differences that are listed.
func TestUWSGIEnvironAsNginx(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	certificates := peers.MakeCertificates(t)
	fronts := map[string]front{
		"nginx":       startNGINX(t, uwsgi.Socket, certificates),
		"Caddy":       startFront(t, uwsgi.Socket, certificates),
		"Caddy, unix": startFront(t, "unix/"+uwsgi.Unix, certificates),
	}
	get := func(target, headers string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n"
	}
	post := func(headers, body string) string {
		return "POST /form/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n" + body
	}
	for _, c := range []struct {
		request string
		// differs are further differences: nginx's value and ours.
		differs map[string][2]string
	}{
		{request: get("/", "")},
		{request: get("/", "User-Agent: x\r\nAccept: */*\r\nCookie: a=b; c=\"d\"\r\n"+
			"Authorization: Basic YTpi\r\nX-Empty:\r\n")},
		{request: get("/a%20b/%C3%A4?x=%2F&y=a+b?c", "")},
		{request: get("/a%2Fb%2e%2e/c", "")},
		{request: get("/%E4%FF", "")},
		{request: get("//a///b", "")},
		{request: get("/a/./b/../c/", "")},
		{request: get("/a/%2e%2e/b/.", "")},
		{request: get("/a;b=c/:@&=+$,~'()*!", "")},
		{request: get("/?", "")},
		{request: get("http://localhost/absolute?x", "")},
		{request: get("/", "X_Real_IP: 1\r\nX-Real-Ip: 2\r\nREMOTE_ADDR: 3\r\nProxy: http://evil\r\nX.Dot: 1\r\n")},
		{request: get("/", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Port: 1\r\n")},
		{request: get("/", "Accept-Encoding: gzip\r\nRange: bytes=1-2\r\nIf-Modified-Since: x\r\n"+
			"Origin: http://localhost\r\n")},
		{request: get("/", "Upgrade: websocket\r\nTE: trailers\r\n")},
		{request: post("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n", "a=b")},
		{request: post("Content-Length: 0\r\n", "")},
		{request: post("Content-Length: 100000\r\n", strings.Repeat("x", 100_000))},
		{request: post("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
			"3\r\n{\"a\r\n5\r\n\": 1}\r\n0\r\n\r\n")},
		{request: "PROPFIND /dav HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{request: "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{request: "GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n"},
		// Python's dict keeps the last of equal variables, and HTTP joins equal headers.
		{request: get("/", "Accept: a\r\nAccept: b\r\n"), differs: map[string][2]string{"HTTP_ACCEPT": {"b", "a, b"}}},
		{request: get("/", "Cookie: a=1\r\nCookie: b=2\r\n"), differs: map[string][2]string{"HTTP_COOKIE": {
			"b=2",
			"a=1; b=2",
		}}},
		// uWSGI believes this header, and UWSGI_SCHEME more.
		{request: get("/", "X-Forwarded-Ssl: on\r\n"), differs: map[string][2]string{"wsgi.url_scheme": {
			"https",
			"http",
		}, "HTTPS": {"on", ""}}},
	} {
		for _, secure := range []bool{false, true} {
			want, wantStatus := fronts["nginx"].ask(t, secure, c.request)
			for _, name := range []string{"Caddy", "Caddy, unix"} {
				got, status := fronts[name].ask(t, secure, c.request)
				if status != wantStatus {
					t.Errorf("%s, TLS %t, %.80q: status %d, nginx %d", name, secure, c.request, status, wantStatus)
				}
				keys := maps.Clone(want)
				maps.Copy(keys, got)
				for _, key := range slices.Sorted(maps.Keys(keys)) {
					if _, listed := differsByDesign[key]; listed {
						continue
					}
					ours, theirs := fmt.Sprint(got[key]), fmt.Sprint(want[key])
					if d, listed := c.differs[key]; listed && got.get(key) == d[1] && want.get(key) == d[0] {
						continue
					}
					if ours != theirs {
						t.Errorf("%s, TLS %t, %.80q: %s is %q, from nginx %q", name, secure, c.request, key, ours,
							theirs)
					}
				}
			}
		}
	}
}
