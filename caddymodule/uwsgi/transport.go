package uwsgi

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(new(Transport))
}

// Defaults of the settings. The timeouts are nginx's.
const (
	defaultTimeout           = 60 * time.Second
	defaultMemory            = 64 << 10
	defaultDisk              = 1 << 30
	defaultMaxResponseHeader = 64 << 10
)

// Transport speaks the uwsgi protocol to uWSGI's ordinary `socket`, over TCP or a Unix socket. It reads a
// request's body completely before it occupies a worker, and takes the answer from the worker as fast as it
// comes. A request is never sent twice: only a failed dial is retried on another upstream.
type Transport struct {
	// DOCUMENT_ROOT as the application sees it; default: the site's `root`. May contain placeholders.
	Root string `json:"root,omitempty" caddyfile:"<path>"`

	// SCRIPT_NAME, the path below which the application is mounted, such as `/awx`. PATH_INFO is what follows
	// it, whether or not the site has stripped the prefix already. May contain placeholders.
	ScriptName string `json:"script_name,omitempty" caddyfile:"<path>"`

	// Further variables, or other values for the ones that the transport sets; values may contain
	// placeholders. They prevail over everything that a client sends.
	Env map[string]string `json:"env,omitempty" caddyfile:"<name> <value>"`

	// Pass repeated slashes in PATH_INFO on as they are. By default they are merged, as nginx does. `.` and
	// `..` are always resolved.
	KeepSlashes bool `json:"keep_slashes,omitempty" caddyfile:"-"`

	// The first modifier of the uwsgi packet, which selects uWSGI's request plugin. Default: 0, for WSGI,
	// PSGI and Rack.
	Modifier1 uint8 `json:"modifier1,omitempty" caddyfile:"<0 to 255>"`

	// The second modifier of the uwsgi packet. Default: 0.
	Modifier2 uint8 `json:"modifier2,omitempty" caddyfile:"<0 to 255>"`

	// How long to try to connect. uWSGI accepts no further connections while its listen queue is full.
	// Default: `60s`.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// How long the worker may send nothing, before the answer begins or within it. Default: `60s`.
	ReadTimeout caddy.Duration `json:"read_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// How long the worker may take nothing of the request. Default: `60s`.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// Bytes of a request body that are held in memory; what exceeds them goes to a temporary file. Default: 64 KiB.
	RequestMemory int64 `json:"request_memory,omitempty" caddyfile:"<size>"`

	// Bytes of a request body that are held in a temporary file. Larger bodies get 413, and `request_body`
	// with `max_size` is where a site sets its own limit. 0: none, bodies must fit into memory. Default: 1
	// GiB.
	RequestDisk *int64 `json:"request_disk,omitempty" caddyfile:"<size>"`

	// Pass answers on without holding what the client has not taken yet: a slow client then holds the worker.
	// An answer with `X-Accel-Buffering: no` does so for itself, one with `X-Accel-Buffering: yes` the
	// opposite.
	Unbuffered bool `json:"unbuffered,omitempty" caddyfile:"-"`

	// Bytes of an answer that are held in memory; what exceeds them goes to a temporary file. Default: 64 KiB.
	ResponseMemory int64 `json:"response_memory,omitempty" caddyfile:"<size>"`

	// Bytes of an answer that are held in a temporary file. When it is full, or the disk is, the worker has
	// to wait for the client. 0: none. Default: 1 GiB.
	ResponseDisk *int64 `json:"response_disk,omitempty" caddyfile:"<size>"`

	// The largest head of an answer, status line and headers, in bytes. Default: 64 KiB.
	MaxResponseHeader int64 `json:"max_response_header,omitempty" caddyfile:"<size>"`

	// The directory of temporary files, which are unlinked as soon as they are created. Default: the
	// system's, `$TMPDIR` or `/tmp`. May contain global placeholders.
	TempDir string `json:"temp_dir,omitempty" caddyfile:"<directory>"`

	log *slog.Logger
	// envNames are the keys of Env, sorted.
	envNames []string
	// passive tells that reverse_proxy counts errors of this transport as failures of the upstream.
	passive bool
	// handled tells that handle_response may want to see headers that are dropped otherwise.
	handled bool
	rings   sync.Pool
	// warned is done once a header that has no effect was logged.
	warned sync.Once
	// refusals and diskErrors bound how often these are logged.
	rejections, diskErrors logLimit
}

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.uwsgi",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision sets the defaults, and keeps the surrounding reverse_proxy from sending a request twice.
func (t *Transport) Provision(ctx caddy.Context) error {
	t.log = ctx.Slogger()
	if t.Root == "" {
		t.Root = "{http.vars.root}"
	}
	for _, timeout := range []*caddy.Duration{&t.DialTimeout, &t.ReadTimeout, &t.WriteTimeout} {
		if *timeout == 0 {
			*timeout = caddy.Duration(defaultTimeout)
		}
	}
	for _, size := range []*int64{&t.RequestMemory, &t.ResponseMemory} {
		if *size == 0 {
			*size = defaultMemory
		}
	}
	for _, size := range []**int64{&t.RequestDisk, &t.ResponseDisk} {
		if *size == nil {
			disk := int64(defaultDisk)
			*size = &disk
		}
	}
	if t.MaxResponseHeader == 0 {
		t.MaxResponseHeader = defaultMaxResponseHeader
	}
	t.TempDir = caddy.NewReplacer().ReplaceKnown(t.TempDir, "")
	t.envNames = make([]string, 0, len(t.Env))
	for name := range t.Env {
		t.envNames = append(t.envNames, name)
	}
	slices.Sort(t.envNames)
	t.rings.New = func() any {
		ring := make([]byte, t.ResponseMemory)
		return &ring
	}
	for _, module := range ctx.Modules() {
		if handler, ok := module.(*reverseproxy.Handler); ok {
			if err := t.adapt(handler); err != nil {
				return err
			}
		}
	}
	return nil
}

// adapt looks at the reverse_proxy that the transport belongs to. Left alone, it would send a GET again after
// any error, while the first worker may be executing it.
// See docs/decisions/uwsgi.md#why-does-transport-uwsgi-reject-lb_retry_match
func (t *Transport) adapt(handler *reverseproxy.Handler) error {
	t.passive = handler.HealthChecks != nil && handler.HealthChecks.Passive != nil
	t.handled = len(handler.HandleResponse) > 0
	if handler.LoadBalancing == nil {
		return nil
	}
	if len(handler.LoadBalancing.RetryMatchRaw) > 0 {
		return errors.New("transport uwsgi never sends a request twice; " +
			"remove lb_retry_match (failed dials are retried without it)")
	}
	// These are matchers of nothing. Errors of dialing do not ask them.
	handler.LoadBalancing.RetryMatchRaw = caddyhttp.RawMatcherSets{{"not": json.RawMessage(`[{}]`)}}
	return nil
}

// Validate rejects settings that cannot work.
func (t *Transport) Validate() error {
	for name, size := range map[string]int64{
		"request_memory": t.RequestMemory, "request_disk": *t.RequestDisk, "response_memory": t.ResponseMemory,
		"response_disk": *t.ResponseDisk, "max_response_header": t.MaxResponseHeader,
	} {
		if size < 0 || size > math.MaxInt64/4 {
			return fmt.Errorf("%s: %d is out of range; use a size such as 64KiB", name, size)
		}
	}
	for name, size := range map[string]int64{
		"request_memory": t.RequestMemory, "response_memory": t.ResponseMemory,
		"max_response_header": t.MaxResponseHeader,
	} {
		if size > maxMemory {
			return fmt.Errorf("%s: %d bytes for each request are too many; use at most 64MiB", name, size)
		}
	}
	for name, timeout := range map[string]caddy.Duration{
		"dial_timeout": t.DialTimeout, "read_timeout": t.ReadTimeout, "write_timeout": t.WriteTimeout,
	} {
		if timeout < 0 {
			return fmt.Errorf("%s: %s is negative; use a duration such as 60s", name, time.Duration(timeout))
		}
	}
	if t.ScriptName != "" && !strings.HasPrefix(t.ScriptName, "/") && !strings.HasPrefix(t.ScriptName, "{") {
		return fmt.Errorf("script_name: %q does not begin with a slash; use a path such as /awx", t.ScriptName)
	}
	for _, name := range t.envNames {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %q cannot be a variable's name; use letters, digits and underscores", name)
		}
		if name == "CONTENT_LENGTH" {
			return errors.New("env: CONTENT_LENGTH is always the size of the request body; remove it")
		}
	}
	if t.TempDir != "" {
		if info, err := os.Stat(t.TempDir); err != nil || !info.IsDir() {
			return fmt.Errorf("temp_dir: %q is not a directory; create it", t.TempDir)
		}
	}
	return nil
}

// maxMemory bounds what one request can be configured to hold in memory.
const maxMemory = 64 << 20

// RequiresContentLength tells reverse_proxy that a body cannot be forwarded before its length is known.
func (*Transport) RequiresContentLength() bool { return true }

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	p, err := t.packet(r)
	if err != nil {
		return t.reject(r, err)
	}
	body, err := t.requestBody(r)
	if err != nil {
		return t.reject(r, err)
	}
	if body.known {
		p.addInt("CONTENT_LENGTH", body.size)
	} else {
		p.add("CONTENT_LENGTH", "")
	}
	e, err := t.dial(r, body)
	if err != nil {
		return nil, err
	}
	return e.run(p.bytes())
}

// Interface guards.
var (
	_ caddy.Provisioner                           = (*Transport)(nil)
	_ caddy.Validator                             = (*Transport)(nil)
	_ http.RoundTripper                           = (*Transport)(nil)
	_ reverseproxy.ContentLengthRequiredTransport = (*Transport)(nil)
)
