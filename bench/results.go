//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// results is one run: the machine, every measured row, and the medians.
type results struct {
	Mode   string `json:"mode"`
	Date   string `json:"date"`
	Commit string `json:"commit"`
	Dirty  bool   `json:"uncommitted_changes,omitempty"`
	Reps   int    `json:"repetitions"`
	// Interrupted marks a run without its last rows.
	Interrupted bool              `json:"interrupted,omitempty"`
	Machine     machine           `json:"machine"`
	Versions    map[string]string `json:"versions"`
	Medians     []summary         `json:"medians"`
	Rows        []row             `json:"rows,omitempty"`
	Curves      []curve           `json:"curves,omitempty"`
}

// summary has the median of each value over the repetitions of one row. Faulty and skipped repetitions are named and
// not counted.
type summary struct {
	row
	Reps   int     `json:"repetitions"`
	Least  float64 `json:"cpu_per_million_least"`
	Most   float64 `json:"cpu_per_million_most"`
	ToBare float64 `json:"ratio_to_bare_loop"` // of CPU per delivery, per connect for connects; 0 without one
	Faults int     `json:"faults"`
}

// identify adds everything that is not measured.
func (res *results) identify(root string, p *plan, caddy string) {
	res.Commit, res.Dirty = commit(root)
	res.Reps = p.reps
	res.Machine = thisMachine()
	res.Versions = versions(p.systems, caddy)
	res.Medians = summarize(res.Rows)
}

// rowKey is equal for the repetitions of one row.
type rowKey struct {
	System  string
	Kind    kind
	Clients int
	Size    int
	TLS     bool
	Groups  int
	Slow    int
	Rate    float64
	Plugin  string
	History string
	Route   string
	Front   string
	Deflate string
	Session string
}

func (r *row) key() rowKey {
	return rowKey{
		r.System, r.Kind, r.Clients, r.Size, r.TLS, r.Groups, r.Slow, r.Rate, r.Plugin, r.History, r.Route, r.Front, r.Deflate,
		r.Session,
	}
}

// summarize returns one summary per key, in the order of first appearance.
func summarize(rows []row) []summary {
	var order []rowKey
	byKey := make(map[rowKey][]row)
	for _, r := range rows {
		if _, seen := byKey[r.key()]; !seen {
			order = append(order, r.key())
		}
		byKey[r.key()] = append(byKey[r.key()], r)
	}
	var all []summary
	for _, k := range order {
		all = append(all, medianOf(byKey[k]))
	}
	for i := range all {
		k := all[i].key()
		k.System = "bare"
		for j := range all {
			if b := &all[j]; b.key() == k {
				all[i].ToBare = ratio(all[i].CPUPerM, b.CPUPerM)
				if k.Kind == kindConnect {
					all[i].ToBare = ratio(all[i].ConnectCPU, b.ConnectCPU)
				}
			}
		}
	}
	return all
}

func medianOf(rows []row) summary {
	var good []row
	s := summary{row: rows[0]}
	for _, r := range rows {
		switch {
		case r.Fault != "":
			s.Faults++
			s.Fault = r.Fault
		case r.Skip != "":
			s.Skip = r.Skip
		default:
			good = append(good, r)
		}
	}
	if s.Reps = len(good); s.Reps == 0 {
		return s
	}
	fault := s.Fault
	s.row = good[0]
	s.Fault = fault
	for _, f := range []func(*row) *float64{
		func(r *row) *float64 { return &r.Seconds }, func(r *row) *float64 { return &r.PerSecond },
		func(r *row) *float64 { return &r.CPU }, func(r *row) *float64 { return &r.CPUPerM },
		func(r *row) *float64 { return &r.P50 }, func(r *row) *float64 { return &r.P99 },
		func(r *row) *float64 { return &r.RedisIn }, func(r *row) *float64 { return &r.RedisOut },
		func(r *row) *float64 { return &r.ConnectCPU }, func(r *row) *float64 { return &r.ConnectPerSec },
		func(r *row) *float64 { return &r.IdleKiB }, func(r *row) *float64 { return &r.IdleAfterGC },
		func(r *row) *float64 { return &r.Others }, func(r *row) *float64 { return &r.RedisCPU },
		func(r *row) *float64 { return &r.QueueKiB }, func(r *row) *float64 { return &r.CalmP99 },
		func(r *row) *float64 { return &r.CPUPerEvent }, func(r *row) *float64 { return &r.Longest },
	} {
		var v []float64
		for i := range good {
			v = append(v, *f(&good[i]))
		}
		*f(&s.row) = median(v)
	}
	var v []float64
	for _, r := range good {
		v = append(v, r.CPUPerM)
	}
	s.Least, s.Most = spread(v)
	return s
}

// name is the name of the run's directory; full and short runs have no mode in it.
func (res *results) name() string {
	if res.Mode == "full" || res.Mode == "short" {
		return res.Date + "-" + res.Commit
	}
	return res.Date + "-" + res.Commit + "-" + res.Mode
}

// save writes results.json and README.md.
func (res *results) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the results' directory: %w", err)
	}
	b, err := json.MarshalIndent(res, "", " ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	files := map[string][]byte{"results.json": append(b, '\n'), "README.md": []byte(res.markdown())}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

// verdict is an error if a row of edgerelay or of the bare loop is faulty, or if a burst of edgerelay costs more than
// the plan's bound.
func (res *results) verdict(p *plan) error {
	var errs []error
	checked := 0
	for _, m := range res.Medians {
		ours := m.System == "edgerelay" || m.System == "edgerelay-redis"
		if (ours || m.System == "bare") && m.Faults > 0 {
			errs = append(errs, fmt.Errorf("%s, %d clients, %s: %s", m.System, m.Clients, m.Kind, m.Fault))
		}
		if !ours || m.Kind != kindBurst || p.bound == 0 {
			continue
		}
		checked++
		if m.ToBare == 0 || m.ToBare > p.bound {
			errs = append(errs, fmt.Errorf("%s: a delivery in bursts costs %.2f of the bare loop's CPU, more than %.2f",
				m.System, m.ToBare, p.bound))
		}
	}
	if p.mode == "storm" {
		errs = append(errs, res.stormVerdict()...)
	}
	if res.Interrupted {
		errs = append(errs, errors.New("interrupted"))
	}
	if p.bound > 0 && checked == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no burst of edgerelay was measured"))
	}
	return errors.Join(errs...)
}
