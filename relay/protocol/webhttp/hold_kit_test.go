package webhttp_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
	"github.com/edgerelay/edgerelay/relay/transport/sse"
)

// heldForm is the form of the relay's streams.
var heldForm sse.Form

// stream is a held stream's connection.
type stream struct{ *sse.Conn }

func (s stream) Append(b []byte, limit int) bool { return s.Conn.Conn.SendAnswer(b, limit) }
func (s stream) End()                            { s.Close(relay.CloseNormal, "") }

// serveHTTP passes a request to the site, and holds the response, in the order of the real handler.
func (e *edge) serveHTTP(w http.ResponseWriter, r *http.Request, streams *sse.Server) {
	webhttp.StripGrip(r.Header)
	e.SignRequest(r.Header)
	asked := time.Now()
	sent, _ := io.ReadAll(r.Body)
	out, _ := http.NewRequest(r.Method, e.site+r.URL.RequestURI(), strings.NewReader(string(sent)))
	out.Header = r.Header
	resp, err := e.client.Do(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if !webhttp.HasInstruct(resp.Header) {
		answer(w, resp.StatusCode, resp.Header, body)
		return
	}
	holding, err := e.Hold(&webhttp.Answered{
		Request: r, Asked: asked, RequestBody: sent, Whole: len(sent) <= webhttp.MaxRepeatedBody, Status: resp.StatusCode, Header: resp.Header, Body: body,
	}, webhttp.Client{Address: "127.0.0.1", Scheme: "http"})
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	case holding.Hold == nil:
		answer(w, holding.Status, holding.Header, holding.Body)
		return
	}
	reservation, err := e.hub.Admit(netip.MustParseAddr("127.0.0.1"))
	if err == nil {
		err = reservation.Identify(relay.Identity{})
	}
	if err != nil {
		holding.Hold.Abandon()
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if e.beforeJoin != nil {
		e.beforeJoin()
	}
	e.hold(w, r, holding.Hold, reservation.OpenAs(holding.Hold, e.Holds()), streams)
}

func (e *edge) hold(w http.ResponseWriter, r *http.Request, h *webhttp.Hold, s relay.Session, streams *sse.Server) {
	h.Join(r.Context(), s)
	if h.Waits() {
		a := h.Await(r.Context(), nil)
		if a == nil || !a.Stream {
			defer h.Ended()
			if a != nil {
				answer(w, a.Status, a.Header, a.Body)
			}
			return
		}
	}
	head := h.Head()
	if !head.Stream {
		defer h.Ended()
		answer(w, head.Status, head.Header, head.Body)
		return
	}
	for name, values := range head.Header {
		w.Header()[name] = values
	}
	conn, err := streams.Accept(w, r, sse.Options{Form: &heldForm, Status: head.Status, First: head.Body})
	if err != nil {
		h.Ended()
		return
	}
	h.Start(stream{conn})
	conn.Attend(h)
}

func answer(w http.ResponseWriter, status int, header http.Header, body []byte) {
	for name, values := range header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// reader reads a held response.
type reader struct {
	t testing.TB
	*http.Response
	text  *bufio.Reader
	leave context.CancelFunc
}

// get sends a request. The result has the response's head.
func (e *edge) get(t testing.TB, path string, headers ...string) *reader {
	t.Helper()
	return e.send(t, http.MethodGet, path, "", headers...)
}

func (e *edge) send(t testing.TB, method, path, body string, headers ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Scale(soon))
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, e.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := e.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &reader{t, resp, bufio.NewReader(resp.Body), cancel}
}

// reads waits for lines.
func (r *reader) reads(lines ...string) {
	r.t.Helper()
	for _, want := range lines {
		if got, err := r.text.ReadString('\n'); got != want+"\n" {
			r.t.Fatalf("line %q, %v; want %q", got, err, want)
		}
	}
}

// ends waits for the end of the response, and for nothing before.
func (r *reader) ends(want string) {
	r.t.Helper()
	if rest, err := io.ReadAll(r.text); string(rest) != want || err != nil {
		r.t.Fatalf("%q, %v; want %q and the end", rest, err, want)
	}
}

// held answers with GRIP's headers, given in pairs, and a body.
func held(w http.ResponseWriter, body string, headers ...string) {
	w.Header().Set("Content-Type", "text/plain")
	for i := 0; i < len(headers); i += 2 {
		w.Header().Add(headers[i], headers[i+1])
	}
	_, _ = io.WriteString(w, body)
}
