//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// restartLive is the number of clients that are back before the others, and receive events meanwhile.
	restartLive = 1000
	// restartRate is the number of these events a second.
	restartRate = 10
	// restartMissed is the number of events that the others miss.
	restartMissed = 20
	// restartNice is the nice value of the clients that return.
	restartNice = 5
	// restartWithin is the time in which all clients shall be back.
	restartWithin = 10 * time.Second
)

// restartCase is a node that ends with all its clients and starts again.
type restartCase struct {
	Binary string `json:"binary"` // "now" or "before"
	Crash  bool   `json:"crash"`  // SIGKILL instead of SIGTERM

	Clients   int     `json:"clients"`
	Seconds   float64 `json:"seconds"`    // from the first dial until all are subscribed and have the missed events
	CPU       float64 `json:"cpu_ms"`     // of Caddy, for each client
	CalmP99   float64 `json:"calm_p99"`   // of the live clients without a storm, in ms
	P99       float64 `json:"p99"`        // during the storm
	Resumed   int64   `json:"resumed"`    // subscriptions that recovered everything
	Asked     int64   `json:"asked"`      // requests to the API during the storm
	PeakMiB   float64 `json:"peak_mib"`   // resident memory of Caddy at the end of the storm
	FirstBack float64 `json:"first_back"` // seconds from the start of the process until the live clients are back
	Others    float64 `json:"other_cpu_share"`
}

// restartResults is a run of mode restart.
type restartResults struct {
	Date    string        `json:"date"`
	Commit  string        `json:"commit"`
	Dirty   bool          `json:"uncommitted_changes,omitempty"`
	Machine machine       `json:"machine"`
	Cases   []restartCase `json:"cases"`
}

// runRestarts measures the return of n TLS clients after a restart and after a crash. Binaries take turns; before is an
// older one without a history, "" for none.
func runRestarts(ctx context.Context, caddy, before, out string, n, reps int) error {
	res := &restartResults{Date: time.Now().Format(time.DateOnly), Machine: thisMachine()}
	res.Commit, res.Dirty = commit(moduleRoot())
	for range max(reps, 1) {
		for _, crash := range []bool{false, true} {
			for _, c := range []restartCase{{Binary: "before"}, {Binary: "now"}} {
				path := caddy
				if c.Binary == "before" {
					if path = before; before == "" {
						continue
					}
				}
				c.Crash, c.Clients = crash, n
				if err := c.play(ctx, path); err != nil {
					return fmt.Errorf("%s, crash %t: %w", c.Binary, crash, err)
				}
				res.Cases = append(res.Cases, c)
				fmt.Print(c.line())
			}
		}
	}
	text := res.markdown()
	if out == "" {
		out = filepath.Join(moduleRoot(), "bench", "results", res.Date+"-"+res.Commit+"-restart")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the results' directory: %w", err)
	}
	b, err := json.MarshalIndent(res, "", " ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	return errors.Join(os.WriteFile(filepath.Join(out, "results.json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(out, "README.md"), []byte(text), 0o644), res.verdict())
}

// play starts a node, connects the clients, ends the node and measures the clients' return.
func (c *restartCase) play(ctx context.Context, caddy string) (err error) {
	files, err := maxFiles()
	if err != nil {
		return err
	}
	set := setup{caddy: caddy, tls: true, clients: c.Clients}
	if c.Binary == "now" {
		set.history = findHistory("positions")
	}
	if set.dir, err = os.MkdirTemp("", "edgerelay-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(set.dir)
	if set.cert, err = newCertificate(set.dir); err != nil {
		return err
	}
	api, err := startFakeAPI()
	if err != nil {
		return err
	}
	defer api.close()
	set.auth = "awx " + api.url()
	run, err := startEdgerelay(ctx, set, true)
	if err != nil {
		return err
	}
	defer run.stop()
	defer func() {
		if err != nil {
			err = errors.New(err.Error() + run.lastWords(set.dir))
		}
	}()
	run.target.Users = stormUsers
	crowd, err := launchNice(c.Clients, files-spareFiles, restartNice)
	if err != nil {
		return err
	}
	defer crowd.stop()
	live, err := connectBeside(run, restartLive, restartRate)
	if live != nil {
		defer live.fleet.stop()
	}
	if err != nil {
		return err
	}
	defer live.stop()
	if err := crowd.connect(run.target, 64); err != nil {
		return err
	}
	src := newSource()
	src.resize(300)
	if err := c.end(run, live, crowd, src); err != nil {
		return err
	}
	return c.storm(run, live, crowd, src, api)
}

// end cuts all clients, publishes the events that they miss, and ends the node.
func (c *restartCase) end(run *running, live *besideOthers, crowd *fleet, src *source) error {
	var err error
	c.CalmP99, err = live.during(func() error { time.Sleep(4 * time.Second); return nil })
	if err != nil {
		return err
	}
	// The last positions have no other event close before them: a relay replays from shortly before a position.
	time.Sleep(overlap)
	if err := errors.Join(run.emit.one(src), live.sender.one(live.src)); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if err := errors.Join(crowd.hangUp(), live.fleet.hangUp()); err != nil {
		return err
	}
	if run.target.Dialect == dialectEvents { // without a history the group has no member now
		if err := run.emit.burst(src, restartMissed); err != nil {
			return err
		}
		time.Sleep(time.Second) // the node has them
	}
	signal := syscall.SIGTERM
	if c.Crash {
		signal = syscall.SIGKILL
	}
	if err := run.server.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	select {
	case <-run.server.exited:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the node does not stop")
	}
}

// storm starts the node again. The live clients return first, then all others at once.
func (c *restartCase) storm(run *running, live *besideOthers, crowd *fleet, src *source, api *fakeAPI) error {
	began := time.Now()
	if err := run.again(); err != nil {
		return err
	}
	t := run.target
	t.Group = besideGroup
	if err := live.fleet.reopen(t, 32); err != nil {
		return err
	}
	c.FirstBack = time.Since(began).Seconds()
	asked, pids := api.asked.Load(), []int{run.server.pid()}
	last := src.last()
	if run.target.Dialect != dialectEvents { // nothing is missed without a history
		last = firstSeq - 1
	}
	if err := crowd.begin(last, 16); err != nil {
		return err
	}
	used, err := cpuOf(pids)
	if err != nil {
		return err
	}
	busy, own := machineBusy(), restartOwn(live, crowd)
	began = time.Now()
	var got *tally
	c.P99, err = live.during(func() (err error) {
		if err = crowd.reopen(run.target, stormParallel); err == nil {
			got, err = crowd.wait(5 * time.Second)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.Seconds = time.Since(began).Seconds()
	now, err := cpuOf(pids)
	if err != nil {
		return err
	}
	c.CPU = (now - used).Seconds() * 1000 / float64(c.Clients)
	others := machineBusy() - busy - (now - used) - (restartOwn(live, crowd) - own)
	c.Others = max(0, ratio(others.Seconds(), c.Seconds*float64(cores())))
	c.Resumed, c.Asked = got.Resumed, api.asked.Load()-asked
	if got.Closed+got.Doubled > 0 || run.target.Dialect == dialectEvents && got.Lost+got.Behind > 0 {
		return fmt.Errorf("%d lost, %d doubled, %d clients closed, %d clients without the last event %s", got.Lost,
			got.Doubled, got.Closed, got.Behind, got.Error)
	}
	bytes, err := rssOf(pids)
	c.PeakMiB = float64(bytes) / (1 << 20)
	return err
}

// restartOwn is the CPU time of this program.
func restartOwn(live *besideOthers, crowd *fleet) time.Duration {
	pids := []int{os.Getpid()}
	for _, f := range []*fleet{live.fleet, crowd} {
		for _, p := range f.procs {
			pids = append(pids, p.pid())
		}
	}
	used, _ := cpuOf(pids)
	return used
}

func (c *restartCase) line() string {
	end := "restart"
	if c.Crash {
		end = "crash"
	}
	return fmt.Sprintf("| %s | %s | %s | %.1f | %.2f | %.1f / %.1f | %s | %d | %.0f | %.0f %% |\n", c.Binary, end,
		thousands(float64(c.Clients)), c.Seconds, c.CPU, c.CalmP99, c.P99, thousands(float64(c.Resumed)), c.Asked, c.PeakMiB,
		100*c.Others)
}

func (res *restartResults) markdown() string {
	var b strings.Builder
	m := res.Machine
	fmt.Fprintf(&b, "# Reconnect storms over TLS, %s, commit %s\n\n", res.Date, res.Commit)
	fmt.Fprintf(&b, "%s, %d cores, %.0f GiB, Linux %s, %s, %s; clients on the same cores, loopback, at nice %d. TLS 1.3, "+
		"ECDSA P-256, no session tickets, `auth awx` with %d users and an API of %s. %s clients are back first and receive "+
		"%d events a second. \"before\" is an older binary, without a history.\n\n", m.CPU, m.Cores, m.MemGiB, m.Kernel, m.OS,
		m.Go, restartNice, stormUsers, apiTime, thousands(restartLive), restartRate)
	b.WriteString("| binary | end of the node | clients that return | seconds until all are back and have what they missed | " +
		"CPU ms each | p99 ms of live deliveries: calm / storm | recovered | requests to the API | MiB resident | CPU of " +
		"other processes |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for i := range res.Cases {
		b.WriteString(res.Cases[i].line())
	}
	return b.String()
}

// verdict is an error if the clients of the current binary were late or did not recover.
func (res *restartResults) verdict() error {
	var errs []error
	for _, c := range res.Cases {
		if c.Binary != "now" {
			continue
		}
		if c.Seconds > restartWithin.Seconds() {
			errs = append(errs, fmt.Errorf("%.1f s until all were back, more than %s", c.Seconds, restartWithin))
		}
		if c.Resumed < int64(c.Clients) {
			errs = append(errs, fmt.Errorf("%d of %d clients recovered everything (crash %t)", c.Resumed, c.Clients, c.Crash))
		}
	}
	return errors.Join(errs...)
}
