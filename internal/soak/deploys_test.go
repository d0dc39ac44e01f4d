//go:build soak

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// deploys is a part: other modules with the same behavior are signed and deployed, at once or by canaries, of which
// some are promoted and some taken back.
type deploys struct {
	s     *site
	every time.Duration
	n     int

	deployed, promoted, returned, refused atomic.Int64
}

func (p *deploys) run(ctx context.Context) {
	for ; ; p.n++ {
		testkit.Pause(ctx.Done(), p.every)
		if ctx.Err() != nil {
			return
		}
		switch p.n % 5 {
		case 0:
			p.deploy("room", p.s.room, &p.deployed)
		case 1:
			p.canary("?canary=50%25&for=1s&max_slowdown=0", "", pluginhost.CanaryPromoted, &p.promoted)
		case 2:
			p.unsigned()
		case 3:
			p.canary("?canary=30%25&for=10m&max_slowdown=0", "/rollback", pluginhost.CanaryReturned, &p.returned)
		default:
			p.deploy("quiet", p.s.quiet, &p.deployed)
		}
	}
}

// variant returns a module with another custom section.
func (p *deploys) variant(wasm []byte) []byte {
	return append(bytes.Clone(wasm), 0, 5, 1, 'n', byte(p.n), byte(p.n>>8), byte(p.n>>16))
}

// put sends a module, signed for the plugin of a name. The error is that of a connection that a reload has ended.
func (p *deploys) put(plugin, query, signedFor string, wasm []byte) (status int, answer string, err error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, text := range map[string][]byte{"module": wasm, "signatures": p.s.signature(wasm, signedFor)} {
		part, err := w.CreateFormFile(name, name)
		if err != nil {
			return 0, "", err
		}
		if _, err := part.Write(text); err != nil {
			return 0, "", err
		}
	}
	if err := w.Close(); err != nil {
		return 0, "", err
	}
	return p.s.request(http.MethodPut, "/edgerelay/plugins/"+plugin+query, w.FormDataContentType(), form.Bytes())
}

// request makes a request to the relay's admin API.
func (s *site) request(method, path, contentType string, body []byte) (status int, answer string, err error) {
	return s.do(method, s.relay.Admin+path, contentType, body)
}

// do makes a request.
func (s *site) do(method, url, contentType string, body []byte) (status int, answer string, err error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (p *deploys) deploy(plugin string, wasm []byte, done *atomic.Int64) {
	status, answer, err := p.put(plugin, "", plugin, p.variant(wasm))
	switch {
	case err != nil:
	case status != http.StatusOK:
		p.s.fault("deploy: %d %s", status, answer)
	default:
		done.Add(1)
	}
}

// unsigned deploys a module whose signature is for another plugin, and expects that it is refused.
func (p *deploys) unsigned() {
	status, answer, err := p.put("quiet", "", "room", p.variant(p.s.quiet))
	switch {
	case err != nil:
	case status != http.StatusUnprocessableEntity:
		p.s.fault("a module without a signature was answered with %d %s", status, answer)
	default:
		p.refused.Add(1)
	}
}

// canary starts a canary and waits for its end. A path of the plugin ends it once it runs; without one, time does.
func (p *deploys) canary(query, end string, want pluginhost.CanaryPhase, done *atomic.Int64) {
	status, answer, err := p.put("quiet", query, "quiet", p.variant(p.s.quiet))
	if err != nil {
		return
	}
	if status != http.StatusOK {
		p.s.fault("canary: %d %s", status, answer)
		return
	}
	asked := false
	err = testkit.Poll(2*testkit.Patience, nil, func() error {
		_, answer, err := p.s.request(http.MethodGet, "/edgerelay/plugins/quiet", "", nil)
		if err != nil {
			return err
		}
		var row struct{ Canary pluginhost.CanaryStatus }
		if err := json.Unmarshal([]byte(answer), &row); err != nil {
			return fmt.Errorf("%w: %s", err, answer)
		}
		c := row.Canary
		if c.Here && end != "" && !asked {
			status, answer, err := p.s.request(http.MethodPost, "/edgerelay/plugins/quiet"+end, "", nil)
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("%d %s: %w", status, answer, err)
			}
			asked = true
		}
		if c.Phase != want {
			return fmt.Errorf("the canary is %s: %s", c.Phase, c.Reason)
		}
		return nil
	})
	if err != nil {
		p.s.fault("canary: want it %s: %v", want, err)
		return
	}
	done.Add(1)
}

func (p *deploys) work() []count {
	return []count{
		{name: "deployed modules", n: p.deployed.Load()},
		{name: "canaries promoted", n: p.promoted.Load()},
		{name: "canaries taken back", n: p.returned.Load()},
		{name: "modules without a signature refused", n: p.refused.Load()},
	}
}
