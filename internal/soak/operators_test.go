//go:build soak

package soak

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// operators is a part: the admin API, metrics, the console, doctor and support bundles are read all the time, and the
// console's actions are done.
type operators struct {
	s     *site
	scale func(time.Duration) time.Duration
	last  map[string]float64 // the last values of counters

	reads, views, scrapes, closed, replays, doctors, bundles atomic.Int64
}

func (p *operators) run(ctx context.Context) {
	for n := 0; ; n++ {
		testkit.Pause(ctx.Done(), p.scale(5*time.Second))
		if ctx.Err() != nil {
			return
		}
		p.read()
		p.scrape()
		switch n % 6 {
		case 0:
			p.closeGroup()
		case 1:
			p.replay(n / 6)
		case 2:
			p.doctor()
		case 3:
			p.bundle()
		}
	}
}

// read gets everything that the admin API shows, and the console's page and views.
func (p *operators) read() {
	for _, path := range []string{
		"status", "overview", "connections?sort=slowest&limit=20", "groups?sort=rate&limit=20", "peers", "plugins",
		"plugin-nodes", "plugins/quiet/history", "plugins/room/logs", "groups/inventory_update_events-1/history",
		"presence?group=chat_0",
		"groups/inventory_update_events-1/replay?since=1m", "logs", "drain", "health/live", "openapi.json",
	} {
		status, answer, err := p.s.request(http.MethodGet, "/edgerelay/"+path, "", nil)
		switch {
		case err != nil:
		case status == http.StatusServiceUnavailable && p.stormy(time.Now()):
		case status != http.StatusOK || !json.Valid([]byte(answer)):
			p.s.fault("admin API: %s: %d %.300s", path, status, answer)
		default:
			p.reads.Add(1)
		}
	}
	for _, view := range []string{
		"", "session", "overview", "groups?sort=rate&limit=20", "connections?sort=slowest&limit=20", "plugin-nodes",
		"tail?group=job_events-1", "history?group=inventory_update_events-1", "presence?group=chat_0",
	} {
		status, answer, err := p.s.do(http.MethodGet, p.s.relay.URL+"/edgerelay/"+view, "", nil)
		switch {
		case err != nil:
		case status == http.StatusServiceUnavailable && p.stormy(time.Now()):
		case status != http.StatusOK:
			p.s.fault("console: %q: %d %.300s", view, status, answer)
		default:
			p.views.Add(1)
		}
	}
}

// stormy reports whether Redis was down a moment ago, or still is.
func (p *operators) stormy(from time.Time) bool {
	return p.s.trouble.happened(from.Add(-settle), time.Now(), storeDown, stateDown)
}

// scrape reads the metrics. No counter goes back, whatever is reloaded, except those of auth, which begin with the
// configuration, and those of a canary.
func (p *operators) scrape() {
	now, err := metrics(p.s.relay)
	if err != nil {
		return
	}
	for name, value := range now {
		family, _, _ := strings.Cut(name, "{")
		if !strings.HasPrefix(family, "edgerelay_") || !strings.HasSuffix(family, "_total") ||
			strings.HasPrefix(family, "edgerelay_auth_") || strings.HasPrefix(family, "edgerelay_plugin_canary_") {
			continue
		}
		if before, ok := p.last[name]; ok && value < before {
			p.s.fault("metrics: %s went from %v to %v", name, before, value)
		}
	}
	p.last = now
	p.scrapes.Add(1)
}

// closeGroup closes the clients of a group, which learn why.
func (p *operators) closeGroup() {
	const group = "jobs-closing"
	raw, err := wstest.DialRaw(p.s.relay.URL+"/websocket/", "csrftoken=t")
	if err != nil {
		return
	}
	defer raw.Close()
	if err := raw.Subscribe("t", group); err != nil {
		return
	}
	status, answer, err := p.s.request(http.MethodPost, "/edgerelay/connections/close", "application/json",
		[]byte(`{"group": "`+group+`", "code": 4001, "reason": "soak"}`))
	if err != nil {
		return
	}
	var closed wstest.ClosedError
	for err == nil {
		_, err = raw.Next(testkit.Patience)
	}
	if status != http.StatusOK || !errors.As(err, &closed) || closed.Code != 4001 || closed.Reason != "soak" {
		p.s.fault("closing a group: %d %s; the client's connection ended with %v", status, answer, err)
		return
	}
	p.closed.Add(1)
}

// replay tells the clients of a group that they may have missed events.
func (p *operators) replay(n int) {
	path := fmt.Sprintf("/edgerelay/groups/inventory_update_events-%d/replay?since=10s", n%8)
	status, answer, err := p.s.request(http.MethodPost, path, "", nil)
	switch {
	case err != nil:
	case status/100 != 2 && !p.stormy(time.Now()):
		p.s.fault("replay: %d %s", status, answer)
	case status/100 == 2:
		p.replays.Add(1)
	}
}

// doctor runs the command. It fails only while something is down.
func (p *operators) doctor() {
	from := time.Now()
	var out, errs bytes.Buffer
	cmd := p.s.relay.Command("edgerelay", "doctor", "--json", "--address", strings.TrimPrefix(p.s.relay.Admin, "http://"))
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if code == 3 { // the admin API of the configuration before a reload
		return
	}
	var failing []string
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		if !json.Valid(lines.Bytes()) {
			p.s.fault("doctor --json wrote %.300q", lines.Text())
			return
		}
		var f struct{ Check, Level, Text string }
		if err := json.Unmarshal(lines.Bytes(), &f); err == nil && strings.EqualFold(f.Level, "fail") && f.Check != "peer" {
			failing = append(failing, f.Check+": "+f.Text)
		}
	}
	if (code > 1 || len(failing) > 0) && !p.stormy(from) {
		p.s.fault("doctor: exit code %d, %q %s", code, failing, errs.String())
		return
	}
	p.doctors.Add(1)
}

// bundle writes a support bundle, which has no secret.
func (p *operators) bundle() {
	file := filepath.Join(p.s.dir, "bundle.tar.gz")
	_ = os.Remove(file)
	out, err := p.s.relay.Command("edgerelay", "support-bundle", "--address",
		strings.TrimPrefix(p.s.relay.Admin, "http://"), "--output", file).CombinedOutput()
	if err != nil {
		if !p.stormy(time.Now()) {
			p.s.t.Logf("support-bundle: %v: %s", err, out)
		}
		return
	}
	files, err := readBundle(file)
	if err != nil {
		p.s.fault("support-bundle: %v", err)
		return
	}
	for _, want := range []string{"config.json", "status.json", "doctor.json", "metrics.txt"} {
		if files[want] == "" {
			p.s.fault("support-bundle: no %s", want)
		}
	}
	for name, text := range files {
		for _, secret := range []string{backplane, tokenKey, publishKey, historyKey} {
			if strings.Contains(text, secret) {
				p.s.fault("support-bundle: %s has a secret", name)
			}
		}
	}
	p.bundles.Add(1)
}

// readBundle returns the files of a bundle by the last part of their names.
func readBundle(name string) (map[string]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(h.Name)] = string(text)
	}
}

func (p *operators) work() []count {
	return []count{
		{name: "admin reads", n: p.reads.Load()},
		{name: "views of the console", n: p.views.Load()},
		{name: "scrapes", n: p.scrapes.Load()},
		{name: "closed groups", n: p.closed.Load()},
		{name: "announced replays", n: p.replays.Load()},
		{name: "doctors", n: p.doctors.Load()},
		{name: "support bundles", n: p.bundles.Load()},
	}
}
