package uwsgi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// contentLengthSize is the space reserved for CONTENT_LENGTH, which is added once the body has been read.
const contentLengthSize = 2 + len("CONTENT_LENGTH") + 2 + 20

// buildPacket returns a packet with the variables of a request, except CONTENT_LENGTH. Names and values are those of
// nginx's uwsgi_params.
func (t *Transport) buildPacket(r *http.Request) (*packet, error) {
	if strings.Contains(r.URL.Path, "\x00") {
		return nil, &rejection{http.StatusBadRequest, errors.New("path contains a zero byte")}
	}
	v := &variables{t: t, r: r, p: newPacket(t.Modifier1, t.Modifier2)}
	v.repl, _ = r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if v.repl == nil {
		v.repl = caddy.NewReplacer()
	}
	v.addRequest()
	v.addConnection()
	v.addHeaders()
	for _, name := range t.envNames {
		v.p.add(name, v.repl.ReplaceAll(t.Env[name], ""))
	}
	if !v.p.fits(contentLengthSize) {
		return nil, &rejection{http.StatusRequestHeaderFieldsTooLarge, errTooLarge}
	}
	return v.p, nil
}

// variables adds the variables of one request to a packet.
type variables struct {
	t    *Transport
	r    *http.Request
	p    *packet
	repl *caddy.Replacer
}

// add appends a variable, unless the setting env replaces the variable.
func (v *variables) add(name, value string) {
	if _, configured := v.t.Env[name]; !configured {
		v.p.add(name, value)
	}
}

// addRequest adds the variables of the request line.
func (v *variables) addRequest() {
	r := v.r
	original := *r
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		original = o
	}
	// REQUEST_URI is the client's original. In WSGI, rewrites affect only PATH_INFO.
	uri := original.RequestURI
	if !strings.HasPrefix(uri, "/") {
		uri = original.URL.RequestURI()
	}
	path := cleanPath(r.URL.Path, !v.t.KeepSlashes)
	script := strings.TrimSuffix(v.repl.ReplaceAll(v.t.ScriptName, ""), "/")
	if script != "" {
		// handle_path or strip_prefix may have removed the prefix already.
		stripped := original.URL.Path != r.URL.Path && cleanPath(original.URL.Path, !v.t.KeepSlashes) == script+path
		if rest, ok := strings.CutPrefix(path, script); ok && !stripped && (rest == "" || rest[0] == '/') {
			path = rest
		}
		v.add("SCRIPT_NAME", script)
	}
	v.add("QUERY_STRING", r.URL.RawQuery)
	v.add("REQUEST_METHOD", r.Method)
	v.add("CONTENT_TYPE", r.Header.Get("Content-Type"))
	v.add("REQUEST_URI", uri)
	v.add("PATH_INFO", path)
	root := v.repl.ReplaceAll(v.t.Root, "")
	if root != "" {
		if absolute, err := caddy.FastAbs(root); err == nil {
			root = absolute
		}
	}
	v.add("DOCUMENT_ROOT", root)
	// r.Proto will not do: in an extended CONNECT it names another protocol, such as websocket.
	v.add("SERVER_PROTOCOL", fmt.Sprintf("HTTP/%d.%d", r.ProtoMajor, r.ProtoMinor))
}

// addConnection adds the variables of client and server, also for clients of a trusted proxy.
func (v *variables) addConnection() {
	r := v.r
	ctx := r.Context()
	direct := "http"
	if r.TLS != nil {
		direct = "https"
	}
	// The header is trustworthy: reverse_proxy replaces the value unless a trusted proxy sent it.
	scheme := direct
	if forwarded := strings.ToLower(r.Header.Get("X-Forwarded-Proto")); forwarded == "http" || forwarded == "https" {
		scheme = forwarded
	}
	v.add("REQUEST_SCHEME", scheme)
	if scheme == "https" {
		v.add("HTTPS", "on")
	}
	// wsgi.url_scheme follows UWSGI_SCHEME. Without UWSGI_SCHEME, uWSGI would also trust X-Forwarded-SSL.
	v.add("UWSGI_SCHEME", scheme)

	peer, peerPort, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		// The site listens on a Unix socket. nginx uses the same name for such clients.
		peer, peerPort = "unix:", ""
	}
	peer, _, _ = strings.Cut(peer, "%")
	client, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	if client == "" || client == "@" {
		client = peer
	}
	if client != peer {
		// The port belongs to the trusted proxy's connection.
		peerPort = ""
	}
	v.add("REMOTE_ADDR", client)
	v.add("REMOTE_PORT", peerPort)

	host, port := splitHost(r.Host)
	local := ""
	if address, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		if ip, localPort, err := net.SplitHostPort(address.String()); err == nil {
			local = localPort
			if host == "" {
				host = ip
			}
		}
	}
	// The client used Caddy's port, unless a trusted proxy ended TLS.
	if local != "" && scheme == direct {
		port = local
	}
	if port == "" {
		port = "80"
		if scheme == "https" {
			port = "443"
		}
	}
	v.add("SERVER_PORT", port)
	v.add("SERVER_NAME", host)
}

// splitHost splits a Host header. The port is empty if the header has none or an invalid one.
func splitHost(hostPort string) (host, port string) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return strings.Trim(hostPort, "[]"), ""
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		port = ""
	}
	return host, port
}

// droppedHeaders do not become HTTP_… variables. Most belong to the connection or have a variable of their own. Proxy
// would become HTTP_PROXY, which makes programs use a proxy of the client's choice (httpoxy.org).
var droppedHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Expect": true, "Content-Length": true, "Content-Type": true,
	"Host": true, "Proxy": true,
}

// addHeaders adds the request's headers as HTTP_… variables.
func (v *variables) addHeaders() {
	if v.r.Host != "" {
		v.add("HTTP_HOST", v.r.Host)
	}
	for field, values := range v.r.Header {
		name, ok := variableName(field)
		if !ok || len(values) == 0 || droppedHeaders[http.CanonicalHeaderKey(field)] {
			continue
		}
		value := values[0]
		if field == "User-Agent" && value == "" {
			// reverse_proxy sets an empty User-Agent where the client sent none.
			continue
		}
		if len(values) > 1 {
			separator := ", "
			if field == "Cookie" {
				separator = "; "
			}
			value = strings.Join(values, separator)
		}
		v.add(name, value)
	}
}

// variableName returns the variable of a header. As in nginx, only names of letters, digits and hyphens have a
// variable: otherwise a client's X_Real_IP would become the variable of X-Real-IP.
func variableName(field string) (string, bool) {
	name := make([]byte, 0, len("HTTP_")+len(field))
	name = append(name, "HTTP_"...)
	for i := range len(field) {
		switch c := field[i]; {
		case 'a' <= c && c <= 'z':
			name = append(name, c-'a'+'A')
		case 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
			name = append(name, c)
		case c == '-':
			name = append(name, '_')
		default:
			return "", false
		}
	}
	return string(name), true
}

// cleanPath resolves "." and ".." in a path as nginx does, and merges repeated slashes if merge is set. The result
// begins with a slash.
// See docs/decisions/uwsgi.md#why-is-path_info-cleaned
func cleanPath(path string, merge bool) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") && strings.HasPrefix(path, "/") {
		return path
	}
	var kept []string
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "..":
			kept = kept[:max(0, len(kept)-1)]
		case segment == "." || segment == "" && merge && !last:
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			// A last segment of "." or ".." is a directory, and ends with a slash.
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}
