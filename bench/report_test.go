//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a run with every kind of row, a skipped one and a faulty one.
func sample() *results {
	res := &results{Mode: "full", Date: "2026-01-02", Commit: "abc1234", Reps: 1, Machine: thisMachine()}
	for i, sys := range systems() {
		v := float64(i + 1)
		res.Rows = append(res.Rows,
			row{
				System: sys.name, Kind: kindConnect, Clients: 10_000, ConnectCPU: v, IdleKiB: v * 7, IdleAfterGC: v * 5,
				ConnectPerSec: 1000,
			},
			row{
				System: sys.name, Kind: kindBurst, Clients: 1000, Size: 300, Events: 1000, Burst: 500, CPUPerM: v,
				PerSecond: 1e6 / v, P50: v, P99: 2 * v,
			},
			row{
				System: sys.name, Kind: kindBurst50, Clients: 1000, Size: 300, Events: 1000, Burst: 50, CPUPerM: v,
				PerSecond: 1e6 / v, P50: v, P99: 2 * v,
			},
			row{System: sys.name, Kind: kindDrain, Clients: 1, Size: 1024, Events: 500, CPUPerM: v, PerSecond: 1e5},
		)
		paced := row{
			System: sys.name, Kind: kindPaced, Clients: 1000, Size: 2048, Events: 50, Rate: 10, CPUPerM: v,
			PerSecond: 1e4, P50: v, P99: 2 * v, Others: 0.5,
		}
		switch sys.name {
		case "daphne":
			paced = row{
				System: sys.name, Kind: kindPaced, Clients: 1000, Size: 2048,
				Skip: "not sustainable: 1/s of 2/s & <more>",
			}
		case "edgerelay-redis":
			paced.RedisIn, paced.RedisOut = 1600, 700
		case "nchan":
			paced.Fault = "1 lost | twice"
		}
		res.Rows = append(res.Rows, paced)
	}
	for i, c := range pluginCases {
		v := float64(i + 1)
		res.Rows = append(res.Rows, row{
			System: "edgerelay-redis", Kind: kindPlugin, Clients: pluginClients, Size: 300, Plugin: c.name, CPUPerEvent: v,
			P50: v, P99: 2 * v, Longest: 3 * v,
		})
	}
	res.Medians = summarize(res.Rows)
	return res
}

func TestTablesAreEven(t *testing.T) {
	text := sample().markdown()
	columns, tables := 0, 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(line, "|")
		if columns == 0 {
			columns, tables = n, tables+1
		}
		if n != columns {
			t.Errorf("%d of %d columns: %s", n-1, columns-1, line)
		}
	}
	if tables != 6 {
		t.Errorf("%d tables, want 6:\n%s", tables, text)
	}
	for _, want := range []string{"abc1234", "not sustainable", "FAULT (1 times): 1 lost / twice", "1,600 / 700", "°"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestSavedRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	res := sample()
	if err := res.save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back results
	if err := json.Unmarshal(b, &back); err != nil || len(back.Rows) != len(res.Rows) ||
		back.Medians[1].ToBare != res.Medians[1].ToBare {
		t.Errorf("results.json does not come back: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != res.markdown() {
		t.Errorf("README.md is not the report:\n%s", text)
	}
}

// The clients of a storm ask an API for their rights, and those of a resume are not measured at rest: their connects do
// not count as those of the fan-out.
func TestSpecialSessionsHaveConnectsOfTheirOwn(t *testing.T) {
	plain := row{System: "edgerelay", Kind: kindConnect, Clients: 1000, ConnectCPU: 0.1, IdleKiB: 4, IdleAfterGC: 2}
	res := &results{Rows: []row{plain, plain}}
	for _, key := range []sessionKey{{storm: true}, {resume: true}, {plugin: "copy"}} {
		special := plain
		special.ConnectCPU, special.IdleAfterGC, special.Session = 0.3, 0, key.special()
		res.Rows = append(res.Rows, special, special)
	}
	res.Medians = summarize(res.Rows)
	if m := res.Medians[0]; m.ConnectCPU != 0.1 || m.IdleAfterGC != 2 || m.Reps != 2 {
		t.Errorf("the fan-out's connects: %+v", m)
	}
	var b strings.Builder
	res.connects(&b)
	if got := strings.Count(b.String(), "| 1,000 |"); got != 1 {
		t.Errorf("%d rows of connects, want 1:\n%s", got, b.String())
	}
}
