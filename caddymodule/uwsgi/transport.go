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

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

func init() {
	caddy.RegisterModule(new(Transport))
}

// Defaults of the settings. The timeouts are those of nginx.
const (
	defaultTimeout           = 60 * time.Second
	defaultMemory            = 64 << 10
	defaultDisk              = 1 << 30
	defaultMaxResponseHeader = 64 << 10
)

// Transport speaks the uwsgi protocol to uWSGI's ordinary `socket`, over TCP or a Unix socket. A request body is read
// completely before a worker is occupied, and a response is read as fast as the worker sends. No request is sent twice:
// only a failed dial is retried on another upstream.
type Transport struct {
	// The application's DOCUMENT_ROOT. May contain placeholders. Default: the site's `root`.
	Root string `json:"root,omitempty" caddyfile:"<path>"`

	// SCRIPT_NAME, the path below which the application is mounted, such as `/awx`. PATH_INFO is the rest of the path,
	// whether or not the site has stripped the prefix already. May contain placeholders.
	ScriptName string `json:"script_name,omitempty" caddyfile:"<path>"`

	// Variables to add, or to replace, except CONTENT_LENGTH. Values may contain placeholders. A client cannot override
	// these variables.
	Env map[string]string `json:"env,omitempty" caddyfile:"<name> <value>"`

	// Leave repeated slashes in PATH_INFO. By default, repeated slashes are merged, as in nginx. `.` and `..` are
	// always resolved.
	KeepSlashes bool `json:"keep_slashes,omitempty" caddyfile:"-"`

	// The first modifier of the uwsgi packet, which selects uWSGI's request plugin. Default: 0, for WSGI, PSGI and
	// Rack.
	Modifier1 uint8 `json:"modifier1,omitempty" caddyfile:"<0 to 255>"`

	// The second modifier of the uwsgi packet. Default: 0.
	Modifier2 uint8 `json:"modifier2,omitempty" caddyfile:"<0 to 255>"`

	// The time limit for a connection attempt. uWSGI accepts no further connections while its listen queue is full.
	// Default: `60s`.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// The longest time between two parts of the response, and before the first part. Default: `60s`.
	ReadTimeout caddy.Duration `json:"read_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// The time limit for the worker to accept the next part of the request. Default: `60s`.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty" caddyfile:"<duration>" min:"1"`

	// The part of a request body that is held in memory. The rest goes to a temporary file. Default: 64 KiB.
	RequestMemory int64 `json:"request_memory,omitempty" caddyfile:"<size>" min:"1"`

	// The part of a request body that is held in a temporary file. Larger bodies get 413. To limit bodies further, use
	// Caddy's directive `request_body` with `max_size`. 0: no file, bodies must fit into memory. Default: 1 GiB.
	RequestDisk *int64 `json:"request_disk,omitempty" caddyfile:"<size>"`

	// Forward responses without buffering. A slow client then occupies the worker. The response header
	// `X-Accel-Buffering: no` switches buffering off for a single response, and `X-Accel-Buffering: yes` switches
	// buffering on.
	Unbuffered bool `json:"unbuffered,omitempty" caddyfile:"-"`

	// The part of a response that is held in memory for the client. The rest goes to a temporary file. Default: 64 KiB.
	ResponseMemory int64 `json:"response_memory,omitempty" caddyfile:"<size>" min:"1"`

	// The part of a response that is held in a temporary file. When the file or the disk is full, the worker waits for
	// the client. 0: no file. Default: 1 GiB.
	ResponseDisk *int64 `json:"response_disk,omitempty" caddyfile:"<size>"`

	// The largest head of a response: status line and headers. A larger head gets 502. Default: 64 KiB.
	MaxResponseHeader int64 `json:"max_response_header,omitempty" caddyfile:"<size>" min:"1"`

	// The directory of temporary files. Each file is unlinked as soon as it is created. May contain global
	// placeholders. Default: the system's, `$TMPDIR` or `/tmp`.
	TempDir string `json:"temp_dir,omitempty" caddyfile:"<directory>"`

	log *slog.Logger
	// envNames are the keys of Env, sorted.
	envNames []string
	// passive is set if reverse_proxy counts errors of this transport as failures of the upstream.
	passive bool
	// handlesResponses is set if the site has a handle_response, which may need the X-Accel headers.
	handlesResponses bool
	rings            sync.Pool
	// warnOnce guards the warning about an X-Accel-Redirect without effect.
	warnOnce sync.Once
	// The log limits throttle the messages about rejected requests and failed files.
	rejectionLogs, diskErrorLogs logLimit
}

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.uwsgi",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision sets the defaults, and prevents the surrounding reverse_proxy from sending a request twice.
func (t *Transport) Provision(ctx caddy.Context) error {
	t.log = ctx.Slogger()
	if err := settings.Check("transport uwsgi", t); err != nil {
		return err
	}
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
			if err := t.adaptHandler(handler); err != nil {
				return err
			}
		}
	}
	return nil
}

// adaptHandler disables retries after errors in the reverse_proxy of this transport. By default, reverse_proxy repeats
// a GET after any error, while the first worker may still be executing the request. An lb_retry_match is an error.
// See docs/decisions/uwsgi.md#why-does-transport-uwsgi-reject-lb_retry_match
func (t *Transport) adaptHandler(handler *reverseproxy.Handler) error {
	if len(handler.Upstreams) == 0 && handler.DynamicUpstreamsRaw == nil {
		return errors.New("transport uwsgi: reverse_proxy has no upstream; " +
			"add the address of uWSGI's socket, such as 127.0.0.1:8050 or unix//run/awx/uwsgi.sock")
	}
	for _, upstream := range handler.Upstreams {
		t.warnOfRelativeSocket(upstream.Dial)
	}
	t.passive = handler.HealthChecks != nil && handler.HealthChecks.Passive != nil
	t.handlesResponses = len(handler.HandleResponse) > 0
	if handler.LoadBalancing == nil {
		return nil
	}
	if len(handler.LoadBalancing.RetryMatchRaw) > 0 {
		return errors.New("transport uwsgi never sends a request twice; " +
			"remove lb_retry_match (failed dials are retried without it)")
	}
	// "not" with an empty matcher set matches no request. Retries after a failed dial ignore the matchers.
	handler.LoadBalancing.RetryMatchRaw = caddyhttp.RawMatcherSets{{"not": json.RawMessage(`[{}]`)}}
	return nil
}

// Validate implements [caddy.Validator].
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
		if size > maxMemoryPerRequest {
			return fmt.Errorf("%s: %d bytes per request are too many; use at most 64MiB", name, size)
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

// maxMemoryPerRequest is the upper limit of the settings for memory per request, in bytes.
const maxMemoryPerRequest = 64 << 20

// RequiresContentLength implements [reverseproxy.ContentLengthRequiredTransport]: CONTENT_LENGTH precedes the body.
func (*Transport) RequiresContentLength() bool { return true }

// RoundTrip implements [http.RoundTripper]. It is safe for concurrent use.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	p, err := t.buildPacket(r)
	if err != nil {
		return t.reject(r, err)
	}
	body, err := t.readRequestBody(r)
	if err != nil {
		return t.reject(r, err)
	}
	if body.present {
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
