package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// RouteFetch asks the site for the first frame of each client: a GET with the browser's Cookie and Authorization. The
// body of the response is the frame; an empty one sends none.
type RouteFetch struct {
	// URL is the address, such as http://127.0.0.1:8000/api/unread/?room={room}, or uwsgi://127.0.0.1:8050 for uWSGI's
	// socket. The values of placeholders are escaped.
	URL string `json:"url"`
	// Path is the path and query, if URL is an address without them, such as uwsgi+unix:///run/app.sock.
	Path string `json:"path,omitempty"`
	// Timeout bounds the time from the handshake to the response. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Concurrency bounds the concurrent requests of the route. Further clients wait, within the timeout. Default: 32.
	Concurrency int `json:"concurrency,omitempty" caddyfile:"<requests>" min:"1"`
	// MaxSize is the longest body. Default: 256 KiB.
	MaxSize int `json:"max_size,omitempty" caddyfile:"<size>" min:"1"`
	// OnError is what happens without a frame. "close" closes the WebSocket: with 4000 plus the status if the site
	// responds with 400 to 499, such as 4403, otherwise with 1011. "continue" goes on without the frame. Default: close.
	OnError string `json:"on_error,omitempty" caddyfile:"close|continue"`
}

const (
	defaultFetchTimeout     = 10 * time.Second
	defaultFetchConcurrency = 32
	defaultFetchSize        = 256 << 10
)

// fetcher fetches first frames.
type fetcher struct {
	url      channels.Template
	client   *http.Client
	slots    chan struct{}
	timeout  time.Duration
	maxSize  int
	proceeds bool // without a frame
}

// compile checks the settings.
func (f *RouteFetch) compile(ctx caddy.Context, rt *Route) (*fetcher, error) {
	if f.OnError != "" && f.OnError != "close" && f.OnError != "continue" {
		return nil, fmt.Errorf("on_error: invalid value %q; use close or continue", f.OnError)
	}
	out := &fetcher{
		timeout: defaultFetchTimeout, maxSize: defaultFetchSize, proceeds: f.OnError == "continue",
		slots: make(chan struct{}, max(f.Concurrency, 0)),
	}
	if f.Timeout > 0 {
		out.timeout = time.Duration(f.Timeout)
	}
	if f.MaxSize > 0 {
		out.maxSize = f.MaxSize
	}
	if f.Concurrency == 0 {
		out.slots = make(chan struct{}, defaultFetchConcurrency)
	}
	transport, address, err := fetchTransport(ctx, f.URL, f.Path, cap(out.slots))
	if err != nil {
		return nil, err
	}
	if out.url, err = rt.template(address); err != nil {
		return nil, err
	}
	out.client = &http.Client{
		Transport:     telemetry.NewTracedTransport(transport),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return out, nil
}

// fetchTransport returns the transport for an address, and the template of the URL.
func fetchTransport(ctx caddy.Context, address, path string, concurrency int) (http.RoundTripper, string, error) {
	server, rest := address, path
	if scheme, after, ok := strings.Cut(address, "://"); ok && scheme == "uwsgi" && path == "" {
		host, tail, _ := strings.Cut(after, "/")
		server, rest = scheme+"://"+host, "/"+tail
	}
	network, target, isUWSGI, err := uwsgi.ParseAddress(server)
	if err != nil {
		return nil, "", err
	}
	if isUWSGI {
		if !strings.HasPrefix(rest, "/") {
			return nil, "", errors.New("the path must begin with /, as in: first fetch uwsgi+unix:///run/app.sock /unread/")
		}
		direct, err := uwsgi.NewDirect(ctx, network, target)
		return direct, "http://localhost" + rest, err
	}
	address += path
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(address))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, "", fmt.Errorf("invalid URL %q; use one such as http://127.0.0.1:8000/api/unread/", address)
	}
	if err := settings.CheckURLPort(u.String()); err != nil {
		return nil, "", fmt.Errorf("URL %q: %w", address, err)
	}
	if authority, _, _ := strings.Cut(strings.SplitN(address, "://", 2)[1], "/"); strings.Contains(authority, "{") {
		return nil, "", fmt.Errorf("URL %q has a placeholder in the host; use it in the path or the query", address)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = nil, concurrency, concurrency
	return t, address, nil
}

// request returns the request for a client, which does not refer to the handshake's.
func (f *fetcher) request(r *http.Request, p *routeValues) (*http.Request, error) {
	address, err := f.url.Render(func(before, name string) (string, error) {
		values := p.values(name)
		switch {
		case len(values) == 0 || values[0] == "":
			return "", errNoValue
		case strings.Contains(before, "?"):
			return url.QueryEscape(values[0]), nil
		case values[0] == "." || values[0] == "..":
			return "", errors.New("the value is no segment of a path")
		}
		return url.PathEscape(values[0]), nil
	})
	if err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Cookie", "Authorization", "Accept-Language", "User-Agent"} {
		for _, v := range r.Header[name] {
			out.Header.Add(name, strings.Clone(v))
		}
	}
	scheme, _ := request.PublicOrigin(r)
	if scheme == "" {
		scheme = "http"
	}
	out.Host = strings.Clone(r.Host)
	out.Header.Set("Accept", "application/json, */*;q=0.5")
	out.Header.Set("X-Forwarded-Proto", scheme)
	out.Header.Set("X-Forwarded-Host", out.Host)
	if address := request.ClientAddress(r); address.IsValid() {
		out.Header.Set("X-Forwarded-For", address.String())
	}
	return out, nil
}

// statusError is a response without a frame.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("the site responded with status %d", int(e)) }

// fetch returns the body of the response, once there is room for the request.
func (f *fetcher) fetch(r *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, errors.New("too many requests for first frames are queued")
	}
	resp, err := f.client.Do(r.WithContext(ctx))
	if err != nil {
		if in, ok := errors.AsType[*url.Error](err); ok { // its text repeats the query, which may have a token
			err = in.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(f.maxSize)+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > f.maxSize:
		return nil, fmt.Errorf("the response is longer than max_size, %d bytes", f.maxSize)
	case !utf8.Valid(body):
		return nil, errors.New("the response is not UTF-8")
	}
	return body, nil
}

// deliverFirst sends the first frames of a client that take time, and releases the frames behind them.
func (h *Handler) deliverFirst(e *entry) {
	limit, first := h.app.node.Hub.Limits().QueuePerConnection, e.route.first
	if first.fetch != nil {
		body, err := first.fetch.fetch(e.fetch)
		if err != nil && !h.fetchFailed(e, err) {
			return
		}
		e.socket.SendFirst(body, limit)
	}
	if first.presence != nil {
		groups := make([]string, len(e.subs))
		for i := range e.subs {
			groups[i] = e.subs[i].Group
		}
		e.socket.SendFirst(first.presence.FirstFrame(groups), limit)
	}
	e.socket.Release()
}

// fetchFailed handles a response without a frame, and reports whether the client goes on.
func (h *Handler) fetchFailed(e *entry, err error) bool {
	h.app.node.Log.Warn("first frame not fetched", "route", e.route.Path, "error", err,
		"remedy", "check that the site answers this URL with 200 for the route's users, or set on_error continue")
	if e.route.first.fetch.proceeds {
		return true
	}
	code := channels.CloseFailed
	var status statusError
	if errors.As(err, &status) && status >= 400 && status < 500 {
		code = 4000 + int(status)
	}
	e.socket.Close(code, "first frame not available")
	return false
}
