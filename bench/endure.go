//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// endurance runs one Caddy with a Redis for long and looks, now and then and at rest, at what it holds.
type endurance struct {
	run   *running
	curve curve
}

// The columns of an endurance's curve.
const (
	heapColumn = iota
	rssColumn
	goroutineColumn
	fileColumn
	redisColumn
	enduranceColumns
)

func startEndurance(ctx context.Context, caddy, dir string, c curve) (*endurance, error) {
	c.Columns = []string{"heap after a collection, MiB", "resident, MiB", "goroutines", "open files", "Redis keys"}
	c.Charts = []curveChart{
		{c.Title + ": memory", "MiB", []int{heapColumn, rssColumn}},
		{c.Title + ": goroutines, files, keys", "how many", []int{goroutineColumn, fileColumn, redisColumn}},
	}
	run, err := startEdgerelayRedis(ctx, setup{dir: dir, caddy: caddy})
	if err != nil {
		return nil, err
	}
	return &endurance{run: run, curve: c}, nil
}

// look waits until the relay has as many connections as there should be, and notes what it holds.
func (e *endurance) look(x float64, connections int) error {
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := metric(e.run.admin, "edgerelay_connections")
		if err != nil {
			return err
		}
		if int(n) == connections {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the relay has %.0f connections, want %d, after a minute's wait", n, connections)
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Memberships are left, and connections of this harness to the admin API given up, in the background: the least of a few looks.
	var best []float64
	for range 5 {
		now, err := e.figures()
		if err != nil {
			return err
		}
		for i := range now {
			if best == nil {
				best = now
			}
			best[i] = min(best[i], now[i])
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.curve.Points = append(e.curve.Points, point{X: x, Values: best})
	fmt.Fprintf(os.Stderr, "%s %.0f: heap %.1f MiB, resident %.1f MiB, %.0f goroutines, %.0f files, %.0f Redis keys\n", e.curve.X, x, best[0], best[1], best[2], best[3], best[4])
	return nil
}

func (e *endurance) figures() ([]float64, error) {
	mem, err := memStats(e.run.admin)
	if err != nil {
		return nil, err
	}
	goroutines, err := metric(e.run.admin, "go_goroutines")
	if err != nil {
		return nil, err
	}
	pid := e.run.server.pid()
	rss, err := anonOf([]int{pid})
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, fmt.Errorf("count open files: %w", err)
	}
	keys, err := e.run.redis.ctl.do("DBSIZE")
	if err != nil {
		return nil, fmt.Errorf("DBSIZE: %w", err)
	}
	var n float64
	if _, err := fmt.Sscan(keys.text, &n); err != nil {
		return nil, fmt.Errorf("DBSIZE: %q", keys.text)
	}
	const mib = 1 << 20
	return []float64{float64(mem["HeapAlloc"]+mem["Stack"]) / mib, float64(rss) / mib, goroutines, float64(len(files)), n}, nil
}

// slack is what a figure may have grown between the first look and the worst of the second half: a share of it, and so much besides.
var slack = [enduranceColumns]struct{ share, more float64 }{
	heapColumn:      {0.10, 2},
	rssColumn:       {0.25, 10},
	goroutineColumn: {0.05, 10},
	fileColumn:      {0.05, 10},
	redisColumn:     {0, 2},
}

// verdict is an error if what the relay holds has grown. The first point is a look after some work, when caches and pools are filled.
func (e *endurance) verdict() error {
	points := e.curve.Points
	if len(points) < 4 {
		return errors.New("too few looks to tell")
	}
	var errs []error
	for i, s := range slack {
		first, worst := points[0].Values[i], 0.0
		for _, p := range points[len(points)/2:] {
			worst = max(worst, p.Values[i])
		}
		if bound := first*(1+s.share) + s.more; worst > bound {
			errs = append(errs, fmt.Errorf("%s grew from %.1f to %.1f, more than %.1f", e.curve.Columns[i], first, worst, bound))
		}
	}
	return errors.Join(errs...)
}

const (
	churnTotal   = 1_000_000
	churnLooks   = 20
	churnAtOnce  = 64
	churnGroups  = 50
	churnSources = 40 // addresses: a port rests a minute after its connection's end
)

// churn connects and disconnects, scale times a million clients, each subscribed to one of fifty groups, and ended in one of three ways.
func churn(ctx context.Context, res *results, caddy string, scale float64) error {
	dir, err := os.MkdirTemp("", "edgerelay-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	total := int(churnTotal * scale)
	e, err := startEndurance(ctx, caddy, dir, curve{
		Name: "churn", Title: "Connect and disconnect", X: "connections made",
		Text: fmt.Sprintf("%s connections, %d at a time, each upgraded, subscribed to one of %d groups in Redis and ended: a third with a close frame, a third by closing the socket, a third by a reset. Looks while none is open.",
			thousands(float64(total)), churnAtOnce, churnGroups),
	})
	if err != nil {
		return err
	}
	defer e.run.stop()
	t := e.run.target
	t.Spread, t.Of = churnGroups, 1<<30
	began := time.Now()
	for look := range churnLooks {
		var next atomic.Int64
		var wg sync.WaitGroup
		errs := make(chan error, churnAtOnce)
		for range churnAtOnce {
			wg.Go(func() {
				for ctx.Err() == nil {
					n := int(next.Add(1))
					if n > total/churnLooks {
						return
					}
					if err := comeAndGo(t, look*total/churnLooks+n); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return fmt.Errorf("churn: %w", err)
		default:
		}
		if ctx.Err() != nil {
			res.Interrupted = true
			return nil
		}
		if err := e.look(float64((look+1)*total/churnLooks), 0); err != nil {
			return err
		}
	}
	e.curve.Text += fmt.Sprintf(" It took %.0f s.", time.Since(began).Seconds())
	res.Curves = append(res.Curves, e.curve)
	return e.verdict()
}

// comeAndGo is one short connection.
func comeAndGo(t target, n int) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%churnSources))}, Timeout: dialTimeout}
	c, err := d.Dial("tcp4", t.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	if _, err := open(c, t, n); err != nil {
		return err
	}
	switch n % 3 {
	case 0:
		if _, err := c.Write(appendClientFrame(nil, opClose, []byte{0x03, 0xe8})); err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, c) // until the server has answered and closed
	case 1:
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	return nil
}

// A day at a site: what happens in an hour.
const (
	dayBrowsers   = 200
	dayEvents     = 3600 // one a second
	dayChanges    = 2400 // subscriptions: a page every five minutes for each browser
	dayReconnects = 50
	dayJobs       = 20 // new jobs, and with them new groups
	dayHours      = 24
)

// day plays what 24 hours bring to a site, as fast as it goes; scale makes each hour shorter or longer.
func day(ctx context.Context, res *results, caddy string, scale float64) error {
	dir, err := os.MkdirTemp("", "edgerelay-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	part := func(n int) int { return max(1, int(float64(n)*scale)) }
	e, err := startEndurance(ctx, caddy, dir, curve{
		Name: "day", Title: "A day", X: "hour",
		Text: fmt.Sprintf("%d browsers; in each hour %s events of 300 B, a third of them to all and the rest to %d new jobs, %s changes of subscriptions and %d reconnects, as fast as they go. Looks with all browsers connected.",
			dayBrowsers, thousands(float64(part(dayEvents))), dayJobs, thousands(float64(part(dayChanges))), part(dayReconnects)),
	})
	if err != nil {
		return err
	}
	defer e.run.stop()
	var browsers []*browser
	defer func() {
		for _, b := range browsers {
			b.close()
		}
	}()
	for range dayBrowsers {
		b, err := newBrowser(e.run.target)
		if err != nil {
			return err
		}
		browsers = append(browsers, b)
	}
	sender := e.run.emit.(*groupSender)
	src := newSource()
	src.resize(300)
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for hour := range dayHours {
		job := func() string { return spreadGroup(hour*dayJobs + random.IntN(dayJobs)) }
		changes, reconnects := part(dayChanges), part(dayReconnects)
		for n := range part(dayEvents) {
			sender.group = benchGroup
			if n%3 != 0 {
				sender.group = job()
			}
			if err := sender.one(src); err != nil && !errors.Is(err, errNoMembers) {
				return err
			}
			// The rest of the hour is spread over its events.
			for ; changes*part(dayEvents) > (part(dayEvents)-n-1)*part(dayChanges); changes-- {
				if err := browsers[random.IntN(dayBrowsers)].subscribe(benchGroup, job()); err != nil {
					return err
				}
			}
			for ; reconnects*part(dayEvents) > (part(dayEvents)-n-1)*part(dayReconnects); reconnects-- {
				i := random.IntN(dayBrowsers)
				browsers[i].close()
				if browsers[i], err = newBrowser(e.run.target); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				res.Interrupted = true
				return nil
			}
		}
		for _, b := range browsers { // the night: all pages are left, so that yesterday's groups are
			if err := b.subscribe(benchGroup); err != nil {
				return err
			}
		}
		if err := e.look(float64(hour+1), dayBrowsers); err != nil {
			return err
		}
	}
	if missed, err := metric(e.run.admin, "edgerelay_deliveries_missed_total"); err != nil {
		return err
	} else if missed > dayBrowsers*dayHours { // reconnecting clients may be in the middle of something
		return fmt.Errorf("%.0f deliveries were missed", missed)
	}
	deliveries, err := metric(e.run.admin, "edgerelay_deliveries_total")
	if err != nil {
		return err
	}
	e.curve.Text += fmt.Sprintf(" %s deliveries; it took %.0f s.", thousands(deliveries), time.Since(began).Seconds())
	res.Curves = append(res.Curves, e.curve)
	return e.verdict()
}
