//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// growth measures how cost depends on one quantity at a time: clients, groups, events per second, nodes. scale
// shortens the rows.
func growth(ctx context.Context, res *results, caddy string, scale float64) error {
	base := plan{
		systems: []string{"edgerelay-redis"}, sizes: []int{300}, reps: 1, seconds: max(0.5, 4*scale),
		work: 0.6 * scale, settle: 4 * time.Second,
	}
	parts := []struct {
		set   func(*plan)
		curve func([]summary) curve
	}{
		{func(p *plan) { p.clients, p.paced = []int{100, 300, 1000, 3000, 10_000, 19_000}, true }, clientCurve},
		{func(p *plan) { p.groups = []int{1, 10, 100, 1000, 10_000, 100_000} }, groupCurve},
		{func(p *plan) { p.rates = []float64{1, 10, 100, 1000, 5000, 10_000, 20_000, 50_000} }, rateCurve},
	}
	for _, part := range parts {
		p := base
		part.set(&p)
		got, err := p.carryOut(ctx, caddy)
		if err != nil {
			return err
		}
		res.Rows = append(res.Rows, got.Rows...)
		res.Curves = append(res.Curves, part.curve(summarize(got.Rows)))
		if res.Interrupted = got.Interrupted; res.Interrupted {
			return nil
		}
	}
	for _, layer := range []string{"redis", "mesh"} {
		c, err := nodeCurve(ctx, layer, scale)
		if err != nil {
			return err
		}
		res.Curves = append(res.Curves, c)
	}
	return nil
}

// find returns the row of a kind that matches is, or nil.
func find(rows []summary, k kind, is func(*summary) bool) *summary {
	for i := range rows {
		if rows[i].Kind == k && is(&rows[i]) {
			return &rows[i]
		}
	}
	return nil
}

// notes returns the reason why rows have no values.
func notes(rows ...*summary) string {
	for _, r := range rows {
		if r == nil {
			return "not measured"
		}
		if w := r.why(); w != "" {
			return w
		}
	}
	return ""
}

// clientCurve has one group with all clients.
func clientCurve(rows []summary) curve {
	c := curve{
		Name: "clients", Title: "Clients", X: "clients in one group",
		Text: "All clients in one group, events of 300 B through Redis; bursts at full speed, and one event at a " +
			"time. CPU of Caddy and Redis together.",
		Columns: []string{
			"burst: CPU µs a delivery", "burst: deliveries/s", "one at a time: CPU µs a delivery", "p50 ms", "p99 ms",
			"CPU µs to connect", "KiB resident a connection", "Redis bytes in an event", "out",
		},
	}
	for i := range rows {
		connect := &rows[i]
		if connect.Kind != kindConnect {
			continue
		}
		same := func(s *summary) bool { return s.Clients == connect.Clients }
		burst, paced := find(rows, kindBurst, same), find(rows, kindPaced, same)
		p := point{X: float64(connect.Clients), Note: notes(connect, burst, paced)}
		if p.Note == "" {
			p.Values = []float64{
				burst.CPUPerM, burst.PerSecond, paced.CPUPerM, paced.P50, paced.P99,
				connect.ConnectCPU * 1000, connect.IdleKiB, paced.RedisIn, paced.RedisOut,
			}
		}
		c.Points = append(c.Points, p)
	}
	return c
}

// groupCurve has a thousand clients and a growing number of groups.
func groupCurve(rows []summary) curve {
	c := curve{
		Name: "groups", Title: "Groups", X: "groups",
		Text: fmt.Sprintf("%s clients. With fewer groups than clients each client is in one group, with more groups "+
			"in several. Events of 300 B go to the groups in turn at full speed, through Redis. CPU of Caddy and "+
			"Redis together; a subscription's memory is the growth over the session with one group.",
			thousands(spreadClients)),
		Columns: []string{
			"deliveries an event", "CPU µs an event", "CPU µs a delivery", "p99 ms",
			"CPU ms to connect and subscribe a client", "groups a client", "KiB a client",
		},
	}
	for i := range rows {
		connect := &rows[i]
		if connect.Kind != kindConnect {
			continue
		}
		burst := find(rows, kindBurst, func(s *summary) bool { return s.Groups == connect.Groups })
		p := point{X: float64(connect.Groups), Note: notes(connect, burst)}
		if p.Note == "" {
			p.Values = []float64{
				float64(burst.Deliveries) / float64(burst.Events), burst.CPU * 1e6 / float64(burst.Events), burst.CPUPerM, burst.P99,
				connect.ConnectCPU, max(1, float64(connect.Groups)/spreadClients), connect.IdleKiB,
			}
		}
		c.Points = append(c.Points, p)
	}
	return c
}

// rateCurve has ten clients and a growing number of events per second.
func rateCurve(rows []summary) curve {
	c := curve{
		Name: "rate", Title: "Events a second", X: "events a second",
		Text: fmt.Sprintf("%d clients in one group, events of 300 B at a steady pace; above 200/s due events are "+
			"sent together every %v. Most of Redis's CPU is the emitters' script; above %s/s events go into the "+
			"node's key by ZADD, the script's effective command.",
			rateClients, rateTick, thousands(scriptRate)),
		Columns: []string{
			"Caddy: CPU µs an event", "Redis: CPU µs an event", "Caddy: cores in use", "p50 ms", "p99 ms",
			"Redis bytes in an event", "out",
		},
	}
	for i := range rows {
		r := &rows[i]
		if r.Kind != kindRate {
			continue
		}
		p := point{X: r.Rate, Note: r.why()}
		if p.Note == "" {
			n := float64(r.Events)
			p.Values = []float64{
				(r.CPU - r.RedisCPU) * 1e6 / n, r.RedisCPU * 1e6 / n, (r.CPU - r.RedisCPU) / r.Seconds,
				r.P50, r.P99, r.RedisIn, r.RedisOut,
			}
		}
		c.Points = append(c.Points, p)
	}
	return c
}
