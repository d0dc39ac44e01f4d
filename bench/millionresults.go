//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The bars of a million connections on one node, and the figures that Centrifugo PRO publishes for its own million.
const (
	millionMaxResident = 4e9
	millionMaxCores    = 2.3
)

// millionLimits is what the machine has room for.
type millionLimits struct {
	Connections int    `json:"connections"`
	Nodes       int    `json:"nodes"`
	Processes   int    `json:"client_processes"`
	Bound       string `json:"bound,omitempty"` // reason for fewer connections than wanted
}

const (
	// millionKiB is the memory for a connection in KiB, with both ends in the kernel of one machine.
	millionKiB = 14
	// millionNodeMiB is the memory of a relay without clients.
	millionNodeMiB = 64
)

// millionRoom divides n connections among processes, and lowers n to what the machine has room for.
func millionRoom(n int) millionLimits {
	files := raiseFiles(n + 2048)
	r := millionLimits{Connections: n}
	lower := func(most int, bound string) {
		if most < r.Connections {
			r.Connections, r.Bound = max(most, 1), bound
		}
	}
	if max := readNumber("/proc/sys/fs/file-max"); max > 0 {
		lower((max-20_000)/2, fmt.Sprintf("fs.file-max %d, two files for each connection", max))
	}
	if watches := readNumber("/proc/sys/fs/epoll/max_user_watches"); watches > 0 {
		lower((watches-1000)/2, fmt.Sprintf("fs.epoll.max_user_watches %d, two for each connection", watches))
	}
	perNode := files - min(files/20, 2048)
	if kib := strings.Fields(fieldOf("/proc/meminfo", "MemAvailable", ":")); len(kib) > 0 {
		free, _ := strconv.Atoi(kib[0])
		each := millionKiB + millionNodeMiB<<10/perNode
		lower((free-(1<<20))/each, fmt.Sprintf("%.0f GiB of free memory", float64(free)/(1<<20)))
	}
	r.Nodes = (r.Connections + perNode - 1) / perNode
	r.Processes = max((r.Connections+files-301)/(files-300), min(8, max(1, cores()/2)))
	return r
}

// raiseFiles raises the limit of open files for this process and its children to at least want if it may (root with
// CAP_SYS_RESOURCE, up to fs.nr_open), and returns the limit.
func raiseFiles(want int) int {
	files, err := maxFiles()
	if err != nil {
		return 1024
	}
	if files < want {
		l := syscall.Rlimit{Cur: uint64(want), Max: uint64(want)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
			return want
		}
	}
	return files
}

func readNumber(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// millionResults is a run of mode million.
type millionResults struct {
	Date    string        `json:"date"`
	Commit  string        `json:"commit"`
	Dirty   bool          `json:"uncommitted_changes,omitempty"`
	Machine machine       `json:"machine"`
	Wanted  int           `json:"wanted"`
	Room    millionLimits `json:"room"`

	Open int        `json:"open"`
	Ramp millionUse `json:"ramp"`
	// Memory: without clients, right after the ramp, after three ping intervals, after a garbage collection.
	Base, Ramped, Rested, Collected millionMemory
	Idle                            millionUse `json:"idle"`
	Pings                           int64      `json:"pings"`
	FewestPings                     int        `json:"fewest_pings"`
	Lump                            int64      `json:"most_pings_in_100_ms"`
	Event                           millionUse `json:"event"`
	Events                          int64      `json:"received_the_event"`
	Doubled                         int64      `json:"doubled"`
	MedianEvent                     float64    `json:"median_event_seconds"`
	LastEvent                       float64    `json:"last_event_seconds"`
	Scrape                          float64    `json:"scrape_seconds"`
	Drain                           millionUse `json:"drain"`
	// Closed counts the ends of connections by close code; 0: without a close frame.
	Closed map[int]int64 `json:"closed"`
}

func (r *millionResults) identify(root string) {
	r.Date = time.Now().Format(time.DateOnly)
	r.Commit, r.Dirty = commit(root)
	r.Machine = thisMachine()
}

func (r *millionResults) save(dir, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the results' directory: %w", err)
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	for name, content := range map[string]string{"results.json": string(b) + "\n", "README.md": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

// onOneNode is the resident memory of one node with a million connections: measured if there was one node, otherwise
// a node without clients and the growth by connection.
func (r *millionResults) onOneNode(m millionMemory) float64 {
	base := float64(r.Base.Resident) / float64(r.Room.Nodes)
	return base + r.each(m)*1e6
}

// each is the growth of the nodes' resident memory by connection, in bytes.
func (r *millionResults) each(m millionMemory) float64 {
	return float64(m.Resident-r.Base.Resident) / float64(r.Room.Connections)
}

// coresFor is the CPU of the idle clients in cores, for a million of them.
func (r *millionResults) coresFor() float64 {
	return r.Idle.CPU / r.Idle.Seconds * 1e6 / float64(r.Room.Connections)
}

// verdict is an error if a client missed something, or if the run exceeds a bar.
func (r *millionResults) verdict() error {
	var errs []error
	n := int64(r.Room.Connections)
	if r.Events != n || r.Doubled > 0 {
		errs = append(errs, fmt.Errorf("%d of %d clients received the event, %d twice", r.Events, n, r.Doubled))
	}
	if r.Closed[1012] != n {
		errs = append(errs, fmt.Errorf("closed by code: %v, want 1012 for all", r.Closed))
	}
	if r.FewestPings < 1 {
		errs = append(errs, errors.New("a client got no ping in two ping intervals"))
	}
	if most := max(r.onOneNode(r.Ramped), r.onOneNode(r.Rested)); most > millionMaxResident {
		errs = append(errs, fmt.Errorf("%.1f GB resident for a million, more than %.1f", most/1e9, millionMaxResident/1e9))
	}
	if c := r.coresFor(); c > millionMaxCores {
		errs = append(errs, fmt.Errorf("%.1f cores for a million idle clients, more than %.1f", c, millionMaxCores))
	}
	return errors.Join(errs...)
}

// markdown returns the report.
func (r *millionResults) markdown() string {
	var b strings.Builder
	m, n := r.Machine, float64(r.Room.Connections)
	dirty := ""
	if r.Dirty {
		dirty = " with uncommitted changes"
	}
	fmt.Fprintf(&b, "# %s idle connections, %s, commit %s%s\n\n", thousands(n), r.Date, r.Commit, dirty)
	fmt.Fprintf(&b, "%s, %d cores, %.0f GiB, Linux %s, %s, %s, %d open files a process; %d nodes, and the clients in %d "+
		"processes on the same cores, loopback.\n", m.CPU, m.Cores, m.MemGiB, m.Kernel, m.OS, m.Go, m.Files, r.Room.Nodes,
		r.Room.Processes)
	if r.Room.Bound != "" {
		fmt.Fprintf(&b, "%s were wanted; the bound is %s.\n", thousands(float64(r.Wanted)), r.Room.Bound)
	}
	fmt.Fprintf(&b, "\n| quantity | all nodes | for a million on one node | Centrifugo PRO, published |\n|---|--:|--:|--:|\n")
	gb := func(x float64) string { return fmt.Sprintf("%.2f GB", x/1e9) }
	memory := func(name string, m millionMemory, other string) {
		fmt.Fprintf(&b, "| resident memory, %s | %s | %s (%.2f KiB each) | %s |\n", name, gb(float64(m.Resident)),
			gb(r.onOneNode(m)), r.each(m)/1024, other)
	}
	fmt.Fprintf(&b, "| resident memory, no client | %s | %s | |\n", gb(float64(r.Base.Resident)),
		gb(float64(r.Base.Resident)/float64(r.Room.Nodes)))
	memory("right after the ramp", r.Ramped, "")
	memory("idle", r.Rested, "11.3 GB")
	memory("after a collection", r.Collected, "")
	slab := float64(r.Rested.Slab - r.Base.Slab)
	fmt.Fprintf(&b, "| kernel memory (slab), both ends / the nodes' half | %s / %s | %s / %s | 4.2 GB |\n", gb(slab), gb(slab/2),
		gb(slab/n*1e6), gb(slab/n*1e6/2))
	fmt.Fprintf(&b, "| cores, idle with a ping every %s | %.2f | %.2f | 2.33 |\n", millionPing, r.Idle.CPU/r.Idle.Seconds,
		r.coresFor())
	fmt.Fprintf(&b, "| connects a second | %s | | |\n", thousands(n/r.Ramp.Seconds))
	fmt.Fprintf(&b, "| CPU to connect | %.3f ms | | |\n", r.Ramp.CPU*1000/n)
	fmt.Fprintf(&b, "| pings in %.0f s, fewest of a client, most in 100 ms against the mean | %s, %d, %.1f × | | |\n", r.Idle.Seconds,
		thousands(float64(r.Pings)), r.FewestPings, float64(r.Lump)/(float64(r.Pings)/r.Idle.Seconds/10))
	fmt.Fprintf(&b, "| one event of 300 B to all: clients that received it | %s | | |\n", thousands(float64(r.Events)))
	fmt.Fprintf(&b, "| … until half, until the last | %.2f s, %.2f s | | |\n", r.MedianEvent, r.LastEvent)
	fmt.Fprintf(&b, "| … CPU | %.2f s (%.1f µs a delivery) | %.2f s | |\n", r.Event.CPU, r.Event.CPU*1e6/n,
		r.Event.CPU/n*1e6)
	fmt.Fprintf(&b, "| a scrape of all metrics | %.0f ms | | |\n", r.Scrape*1000)
	fmt.Fprintf(&b, "| drain at %s a second: time, CPU | %.0f s, %.1f s | | |\n", thousands(millionDrainRate), r.Drain.Seconds,
		r.Drain.CPU)
	fmt.Fprintf(&b, "| … clients closed with 1012 / otherwise | %s / %s | | |\n", thousands(float64(r.Closed[1012])),
		thousands(n-float64(r.Closed[1012])))
	fmt.Fprintf(&b, "| CPU share of other processes: ramp, idle, event, drain | %.0f %%, %.0f %%, %.0f %%, %.0f %% | | |\n",
		100*r.Ramp.Others, 100*r.Idle.Others, 100*r.Event.Others, 100*r.Drain.Others)
	return b.String()
}
