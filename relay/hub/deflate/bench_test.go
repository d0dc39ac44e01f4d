package deflate

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit/jobevents"
	"github.com/edgerelay/edgerelay/relay"
)

// jobsOf returns n events of some groups in turn, each with the key of its group.
func jobsOf(groups, n int, next func(*jobevents.Job) []byte) (keys []Key, frames []Frames) {
	var jobs []*jobevents.Job
	for g := range groups {
		jobs = append(jobs, jobevents.New(g+1, 1))
	}
	for i := range n {
		keys = append(keys, Key{Group: fmt.Sprint("job_events-", i%groups)})
		frames = append(frames, framesOf(1, string(next(jobs[i%groups]))))
	}
	return keys, frames
}

// The bytes of AWX's job events for a client of one, two and five groups: the goal is 12 % for one.
func TestBytesOfJobEvents(t *testing.T) {
	for _, level := range []int{1, 5} {
		for groups, bound := range map[int]float64{1: 12, 2: 50, 5: 50} {
			c := newCompressor(t, Settings{MinSize: 1, Level: level})
			client := newClient(15, true)
			keys, frames := jobsOf(groups, 400, (*jobevents.Job).Next)
			before, after := 0, 0
			for i := range frames {
				_, _, size, err := client.receive(c.Buffer(keys[i], frames[i]))
				if err != nil {
					t.Fatal(err)
				}
				before, after = before+len(frames[i].Bytes), after+size
			}
			share := 100 * float64(after) / float64(before)
			t.Logf("level %d, %d groups: %.1f %% of %d bytes an event", level, groups, share, before/len(frames))
			if share > bound {
				t.Errorf("level %d, %d groups: %.1f %% of the bytes, want at most %.0f %%", level, groups, share, bound)
			}
		}
	}
}

// BenchmarkForms makes the forms of an event.
func BenchmarkForms(b *testing.B) {
	for _, level := range []int{1, 5} {
		for name, next := range map[string]func(*jobevents.Job) []byte{
			"2.4KB": (*jobevents.Job).Next, "300B": (*jobevents.Job).Status,
		} {
			for _, form := range []relay.Form{relay.Alone, relay.Chained} {
				b.Run(fmt.Sprintf("level %d/%s/%s", level, name, form), func(b *testing.B) {
					c := newCompressor(b, Settings{MinSize: 1, Level: level})
					keys, frames := jobsOf(1, 200, next)
					c.Buffer(keys[0], frames[199])
					before, after := 0, 0
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						f := frames[i%200]
						before, after = before+len(f.Bytes), after+len(c.Buffer(keys[0], f).Frames(form))
					}
					b.ReportMetric(100*float64(after)/float64(before), "%bytes")
				})
			}
		}
	}
}

// BenchmarkRun compresses 20 events in a buffer.
func BenchmarkRun(b *testing.B) {
	c := newCompressor(b, Settings{MinSize: 1, Level: 1})
	job := jobevents.New(1, 1)
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = string(job.Next())
	}
	f := framesOf(1, texts...)
	for b.Loop() {
		c.Buffer(Key{}, f).Frames(relay.Alone)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(texts)), "ns/event")
}

// BenchmarkChoose is what a delivery costs beyond the form.
func BenchmarkChoose(b *testing.B) {
	c := newCompressor(b, Settings{MinSize: 1, Level: 1})
	keys, frames := jobsOf(1, 2, (*jobevents.Job).Next)
	c.Buffer(keys[0], frames[0])
	buffer := c.Buffer(keys[0], frames[1])
	w := relay.NewWindow(relay.MaxWindowBits, true)
	for b.Loop() {
		buffer.Frames(w.Choose(&buffer.Compressed))
	}
}
