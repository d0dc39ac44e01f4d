// Command progress is a filter and a function in one module. It counts the events of jobs, such as those of AWX, and
// sends the pages of a job a summary four times a second, in place of thousands of events.
package main

import (
	"strconv"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
	"github.com/edgerelay/edgerelay/sdk/go/function"
)

const (
	prefix = "job_events-"
	// kept is how long the summary of a job is kept for later pages, in milliseconds.
	kept = 3_600_000
	// forgotten is how long a job without events stays in memory, in milliseconds.
	forgotten = 600_000
)

// job is what a page shows about a job.
type job struct {
	ok, changed, failed, skipped int64
	total                        int64 // 0 if it is unknown
	task                         string
	finished                     bool

	fresh bool  // whether the last summary lacks something
	last  int64 // done, at the last summary
	at    int64 // Unix milliseconds of the last summary
}

var (
	// All events of a group come to the same instance, so each instance counts its own jobs.
	jobs  = map[string]*job{}
	order []string // groups of jobs, by their first event
)

func init() { function.OnConnect(watch) }

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, count) }

//go:wasmexport ev_on_tick
func OnTick() uint64 { return edgerelay.OnTick(summarize) }

// watch subscribes a page to a job, and begins with the summary so far.
func watch(c *edgerelay.Connect) edgerelay.Admission {
	group := prefix + c.Param("job")
	if c.Join(group) != nil {
		return edgerelay.Reject
	}
	if summary, ok := edgerelay.KVGet(group); ok {
		return edgerelay.AdmitIf(c.Send(summary))
	}
	return edgerelay.Accept
}

// count takes an event into account, and drops it.
func count(e *edgerelay.Event) edgerelay.Verdict {
	if e.IsReplay() {
		return edgerelay.Drop // has counted when it was live
	}
	j := jobs[e.Group]
	if j == nil {
		j = restored(e.Group)
		jobs[e.Group] = j
		order = append(order, e.Group)
	}
	switch {
	case e.Is("event", "runner_on_ok") && e.Is("changed", "true"):
		j.changed++
	case e.Is("event", "runner_on_ok"):
		j.ok++
	case e.Is("event", "runner_on_failed"), e.Is("event", "runner_on_unreachable"):
		j.failed++
	case e.Is("event", "runner_on_skipped"):
		j.skipped++
	case e.Is("event", "playbook_on_task_start"):
		j.task, _ = e.Text("task")
	case e.Is("event", "playbook_on_start"):
		*j = job{at: j.at}
		j.total, _ = e.Int("total")
	case e.Is("event", "playbook_on_stats"):
		j.finished = true
	}
	j.fresh = true
	return edgerelay.Drop
}

// restored returns the job of the last summary: the instance that counted before may be lost.
func restored(group string) *job {
	j := &job{at: edgerelay.Now()}
	summary, _ := edgerelay.KVGet(group)
	for name, n := range map[string]*int64{
		"ok": &j.ok, "changed": &j.changed, "failed": &j.failed, "skipped": &j.skipped, "total": &j.total,
	} {
		text, _ := edgerelay.TextAt(summary, name)
		*n, _ = strconv.ParseInt(text, 10, 64)
	}
	j.task, _ = edgerelay.TextAt(summary, "task")
	j.last = j.done()
	return j
}

func (j *job) done() int64 { return j.ok + j.changed + j.failed + j.skipped }

// summarize sends the pages of each job a summary if something has changed. A call may emit 16 events; the next tick
// goes on with the other jobs.
func summarize() error {
	now, left, full := edgerelay.Now(), order[:0], false
	for _, group := range order {
		j := jobs[group]
		if j.fresh && !full {
			summary := j.summary(group[len(prefix):], now)
			switch err := edgerelay.Emit(group, []byte(summary)); err {
			case nil:
				edgerelay.KVSet(group, summary, kept)
				j.fresh, j.last, j.at = false, j.done(), now
			case edgerelay.ErrTooMany:
				full = true
			default:
				return err
			}
		}
		if !j.fresh && (j.finished || now-j.at > forgotten) {
			delete(jobs, group)
			continue
		}
		left = append(left, group)
	}
	order = left
	return nil
}

func (j *job) summary(name string, now int64) string {
	b := append([]byte(`{"job":`), edgerelay.Quote(name)...)
	for _, m := range []struct {
		name string
		n    int64
	}{
		{"ok", j.ok},
		{"changed", j.changed},
		{"failed", j.failed},
		{"skipped", j.skipped},
		{"total", j.total},
		{"per_second", (j.done() - j.last) * 1000 / max(now-j.at, 1)},
	} {
		b = append(b, `,"`+m.name+`":`...)
		b = strconv.AppendInt(b, m.n, 10)
	}
	b = append(b, `,"task":`+edgerelay.Quote(j.task)+`,"finished":`...)
	return string(append(strconv.AppendBool(b, j.finished), '}'))
}

func main() {}
