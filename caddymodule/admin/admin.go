package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/docs"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds the relay's endpoints to Caddy's admin API:
//
//	GET  /edgerelay/status        the node's figures
//	GET  /edgerelay/overview      the same with the top groups, the slowest clients, peers, plugins and the last two minutes
//	GET  /edgerelay/connections   the clients, by page; ?user= ?group= ?address= ?sort=slowest
//	POST /edgerelay/connections/close       {"user": "…"} closes websockets
//	GET  /edgerelay/groups        the groups, by page; ?prefix= ?sort=rate
//	GET  /edgerelay/groups/<name>/tail      the group's events as they come
//	POST /edgerelay/doctor        looks for what is wrong on the way of an event
//	GET  /edgerelay/openapi.json  all of this as OpenAPI
//	GET  /edgerelay/health        the node's state; 503 while events cannot reach it
//	GET  /edgerelay/health/ready  the same
//	GET  /edgerelay/health/live   200 while the process answers
//	GET  /edgerelay/peers         the nodes of the backplane, their state, lag and drops
//	POST /edgerelay/drain         {"duration": "30s", "rate": 500}, both optional, sends clients to other nodes; GET tells how far it is, DELETE cancels it
//	POST /edgerelay/publish       {"group": "…", "data": <any JSON>} sends data to a group
//	GET  /edgerelay/plugins       the plugins, their state and figures
//	PUT  /edgerelay/plugins/<name>          the body becomes the plugin's module, on every node of the storage
//	POST /edgerelay/plugins/<name>/rollback back to the module before
//	GET  /edgerelay/plugins/<name>/logs     the plugin's last lines
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.edgerelay", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements [caddy.AdminRouter].
func (Admin) Routes() []caddy.AdminRoute {
	health := withNode(http.MethodGet, func(n *node.Node, w http.ResponseWriter, _ *http.Request) error { return WriteHealth(n, w, true) })
	return []caddy.AdminRoute{
		{Pattern: "/edgerelay/openapi.json", Handler: caddy.AdminHandlerFunc(serveOpenAPI)},
		{Pattern: "/edgerelay/status", Handler: withNode(http.MethodGet, serveStatus)},
		{Pattern: "/edgerelay/overview", Handler: withNode(http.MethodGet, ServeOverview)},
		{Pattern: "/edgerelay/connections", Handler: withNode(http.MethodGet, serveConnections)},
		{Pattern: "/edgerelay/connections/close", Handler: withNode(http.MethodPost, serveClose)},
		{Pattern: "/edgerelay/groups", Handler: withNode(http.MethodGet, serveGroups)},
		{Pattern: "/edgerelay/groups/{name}/tail", Handler: withNode(http.MethodGet, serveTail)},
		{Pattern: "/edgerelay/doctor", Handler: withNode(http.MethodPost, serveDoctor)},
		{Pattern: "/edgerelay/health", Handler: health},
		{Pattern: "/edgerelay/health/ready", Handler: health},
		{Pattern: "/edgerelay/health/live", Handler: withNode(http.MethodGet, func(_ *node.Node, w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "application/json")
			_, err := w.Write([]byte("{\"status\":\"ok\"}\n"))
			return err
		})},
		{Pattern: "/edgerelay/drain", Handler: caddy.AdminHandlerFunc(serveDrain)},
		{Pattern: "/edgerelay/peers", Handler: withNode(http.MethodGet, servePeers)},
		{Pattern: "/edgerelay/plugins", Handler: withNode(http.MethodGet, servePlugins)},
		{Pattern: "/edgerelay/plugins/{name}", Handler: withNode(http.MethodPut, serveDeploy)},
		{Pattern: "/edgerelay/plugins/{name}/rollback", Handler: withNode(http.MethodPost, serveRollback)},
		{Pattern: "/edgerelay/plugins/{name}/logs", Handler: withNode(http.MethodGet, servePluginLogs)},
		{Pattern: "/edgerelay/publish", Handler: withNode(http.MethodPost, servePublish)},
	}
}

// serveOpenAPI describes the API.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(docs.OpenAPI)
	return err
}

// withNode makes an admin handler of f, for one method.
func withNode(method string, f func(*node.Node, http.ResponseWriter, *http.Request) error) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := onlyMethod(w, r, method); err != nil {
			return err
		}
		n := node.Current()
		if n == nil {
			return errNoConfig
		}
		return f(n, w, r)
	}
}

var (
	errNoConfig  = caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the configuration in force has no edgerelay")}
	errExamining = caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("an examination is under way; wait for its end")}
)

func onlyMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("use %s", method)}
}

// servePeers lists the nodes of the backplane.
func servePeers(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	plane := n.Backplane.Load()
	if plane == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the configuration in force has no backplane")}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(plane.Status())
}

// publication is the body of POST /edgerelay/publish.
type publication struct {
	// Group is the full group name.
	Group string `json:"group"`
	// Data is the payload. Clients get its text as it stands here.
	Data json.RawMessage `json:"data"`
}

// maxPublication is the longest body of a publish request in bytes.
const MaxPublication = 16 << 20

func servePublish(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	receipt, status, err := Publish(n, http.MaxBytesReader(w, r.Body, MaxPublication), r)
	if err != nil {
		return caddy.APIError{HTTPStatus: status, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(receipt)
}

// publish sends the publication that body holds.
func Publish(n *node.Node, body io.Reader, r *http.Request) (relay.Receipt, int, error) {
	p, status, err := ReadPublication(body)
	if err != nil {
		return relay.Receipt{}, status, err
	}
	receipt, err := n.Hub.Publish(r.Context(), p.Group, p.Data)
	if err != nil {
		return receipt, http.StatusBadGateway, err
	}
	return receipt, http.StatusOK, nil
}

// readPublication reads and checks the body of a publish request.
func ReadPublication(body io.Reader) (p publication, status int, err error) {
	dec := json.NewDecoder(body)
	err = dec.Decode(&p)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("something follows it")
	}
	if errors.As(err, new(*http.MaxBytesError)) {
		return p, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than %d bytes", MaxPublication)
	}
	if err != nil {
		return p, http.StatusBadRequest, fmt.Errorf(`the body must be {"group": "…", "data": <JSON>}: %w`, err)
	}
	if err := relay.CheckGroup(p.Group); err != nil {
		return p, http.StatusBadRequest, err
	}
	if p.Data == nil {
		return p, http.StatusBadRequest, errors.New("there is no data to publish")
	}
	if !utf8.Valid(p.Data) {
		return p, http.StatusBadRequest, errors.New("the data is not UTF-8")
	}
	return p, http.StatusOK, nil
}

var _ caddy.AdminRouter = Admin{}
