//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// coresClients is the number of clients of the curve over cores.
const coresClients = 5000

// coresCurve measures the relay on 1, 2, 4 … cores. The receivers have the other cores; where there are none, they
// share the relay's.
func coresCurve(ctx context.Context, res *results, caddy string, scale float64) error {
	c := curve{
		Name: "cores", Title: "By cores", X: "cores",
		Text: fmt.Sprintf("%s clients of one group, events of 300 B, memory layer. Caddy is bound to the first cores, with "+
			"GOMAXPROCS. The receivers have the rest of %d cores; in the last row, and on a machine with two cores, they "+
			"compete with the relay or are the limit, and only CPU per delivery and per connect is comparable.",
			thousands(coresClients), cores()),
		Columns: []string{
			"burst: deliveries/s", "× one core", "burst: CPU-s/M", "paced: CPU-s/M", "paced: p99 ms", "connects/s",
			"connect: CPU ms",
		},
	}
	defer func() { _ = bind(os.Getpid(), 0, cores()) }()
	var first float64
	for k := 1; k <= cores(); k *= 2 {
		from := k % cores() // all cores in the last row
		if err := bind(os.Getpid(), from, cores()); err != nil {
			return err
		}
		p := plan{
			systems: []string{"edgerelay"}, clients: []int{coresClients}, sizes: []int{300}, reps: 2, paced: true,
			seconds: max(0.5, 4*scale), work: 0.6 * scale, env: []string{"GOMAXPROCS=" + strconv.Itoa(k)}, cpus: k,
		}
		got, err := p.carryOut(ctx, caddy)
		if err != nil {
			return err
		}
		res.Rows = append(res.Rows, got.Rows...)
		if res.Interrupted = got.Interrupted; res.Interrupted {
			return nil
		}
		pt := corePoint(float64(k), summarize(got.Rows))
		if len(pt.Values) > 0 {
			if k == 1 {
				first = pt.Values[0]
			}
			pt.Values[1] = ratio(pt.Values[0], first)
		}
		c.Points = append(c.Points, pt)
	}
	res.Curves = append(res.Curves, c)
	return nil
}

// corePoint is a row of the curve over cores.
func corePoint(k float64, rows []summary) point {
	any := func(*summary) bool { return true }
	connect, burst, paced := find(rows, kindConnect, any), find(rows, kindBurst, any), find(rows, kindPaced, any)
	if connect == nil || burst == nil || paced == nil {
		return point{X: k, Note: "not measured"}
	}
	if note := notes(connect, burst, paced); note != "" {
		return point{X: k, Note: note}
	}
	return point{X: k, Values: []float64{
		burst.PerSecond, 0, burst.CPUPerM, paced.CPUPerM, paced.P99, connect.ConnectPerSec, connect.ConnectCPU,
	}}
}

// bind binds all threads of a process to the cores from … to-1. Children inherit the binding.
func bind(pid, from, to int) error {
	out, err := exec.Command("taskset", "-a", "-p", "-c", fmt.Sprintf("%d-%d", from, to-1), strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, lastLine(string(out)))
	}
	return nil
}
