package site

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// emitter is a Python process that publishes numbered events by channels_redis.
type emitter struct {
	*process.Process
	index    int
	stdin    io.WriteCloser
	reported chan struct{} // closed after the last report

	mu        sync.Mutex // guards the fields below
	emissions []judge.Emission
	from      int // the first event that is judged
}

// startEmitter starts an emitter beside the node's Redis. It publishes nothing before begin.
func (s *Site) startEmitter(n *Node, index int) *emitter {
	t := s.t
	t.Helper()
	script := filepath.Join(peers.Root(t), "internal", "mesh", "site", "testdata", "emitter.py")
	kind := "text"
	if s.options.Random {
		kind = "random"
	}
	mark := s.options.Python
	if mark == "" {
		mark = peers.RelayNode
	}
	cmd := n.redisNS.Command(peers.Python, "-B", script, n.redisURL(true), strconv.Itoa(index), strconv.Itoa(s.options.Groups),
		fmt.Sprint(s.options.Rate), strconv.Itoa(s.options.Size), kind, mark)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, lines := io.Pipe()
	cmd.Stdout = lines
	e := &emitter{index: index, stdin: stdin, reported: make(chan struct{})}
	e.Process = process.Start(t, "emitter "+n.Name, cmd)
	go func() {
		<-e.Done()
		_ = lines.Close() // never fails
	}()
	go e.read(s, stdout)
	return e
}

func (e *emitter) read(s *Site, reports io.Reader) {
	defer close(e.reported)
	for lines := bufio.NewScanner(reports); lines.Scan(); {
		var n int
		var micros int64
		var result string
		if _, err := fmt.Sscan(lines.Text(), &n, &micros, &result); err != nil || n != len(e.emissions) {
			s.t.Errorf("%s wrote %q", e.Name, lines.Text())
			continue
		}
		e.mu.Lock()
		e.emissions = append(e.emissions, judge.Emission{At: time.UnixMicro(micros), Unsure: result != "ok"})
		e.mu.Unlock()
	}
}

// begin starts the series.
func (e *emitter) begin(s *Site) {
	if _, err := io.WriteString(e.stdin, "go\n"); err != nil {
		s.t.Fatalf("%s: %v", e.Name, err)
	}
}

// judgeFromNow leaves out the events so far.
func (e *emitter) judgeFromNow() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.from = len(e.emissions)
}

// end stops the series and waits for the last report.
func (e *emitter) end(s *Site) {
	_ = e.stdin.Close() // it ends in any case
	select {
	case <-e.reported:
	case <-time.After(testkit.Patience):
		s.t.Fatalf("%s does not end", e.Name)
	}
}

func (e *emitter) series(node string) judge.Emitter {
	e.mu.Lock()
	defer e.mu.Unlock()
	return judge.Emitter{Node: node, Emissions: e.emissions[:len(e.emissions):len(e.emissions)], From: e.from}
}
