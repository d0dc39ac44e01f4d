package backplane

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// twoLinks returns a Backplane with a source that has confirmed the group before, and a second link to the same node.
func twoLinks(t *testing.T) (b *Backplane, first, second *link) {
	b = newPlane(t)
	b.Interest([]string{"before"}, nil)
	for _, l := range []**link{&first, &second} {
		*l = newLink(t.Context(), b, true)
		(*l).resumes, (*l).in = true, b.incomingOf("other")
		b.interest.mu.Lock()
		b.interest.relays[*l] = struct{}{}
		b.interest.mu.Unlock()
		b.chooseSources()
	}
	if !first.phase().isSource() || second.phase().isSource() {
		t.Fatal("the first link is not the source, or not alone")
	}
	first.confirmInterest(first.peer.askedSeq)
	return b, first, second
}

// handOver makes the second link the source, as if the first one gave no sign of life.
func handOver(b *Backplane, first, second *link) {
	b.interest.mu.Lock()
	defer b.interest.mu.Unlock()
	b.handOver(first, second, false)
}

// A link takes over and ends before its answer. The peer has confirmed a group over the link before, and sends its
// events in the stream, which continues: only the group that was not confirmed may have missed any.
func TestALinkThatEndsBeforeItsAnswerMissesNoConfirmedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first, second := twoLinks(t)
		b.Interest([]string{"after"}, nil)
		handOver(b, first, second)
		second.replace()
		b.interest.mu.Lock()
		uncovered := slices.Sorted(maps.Keys(b.interest.gaps["elsewhere"].uncovered))
		b.interest.mu.Unlock()
		if !slices.Equal(uncovered, []string{"after"}) {
			t.Errorf("groups that may have missed events: %q, want the one that was not confirmed", uncovered)
		}
		b.endGaps()
		b.stop()
		b.running.Wait()
	})
}

// A client waits in vain for a confirmation, while another link takes over: the change is late on that link.
func TestAChangeIsLateOnTheLinkThatHasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first, second := twoLinks(t)
		wait := b.Interest([]string{"after"}, nil)
		done := make(chan struct{})
		go func() {
			wait(context.Background())
			close(done)
		}()
		synctest.Wait()
		handOver(b, first, second)
		time.Sleep(testkit.Patience)
		<-done
		b.interest.mu.Lock()
		lacks, lacksBefore := second.peer.lacks("after"), second.peer.lacks("before")
		b.interest.mu.Unlock()
		if !lacks || lacksBefore {
			t.Errorf("late: after %v, before %v; want the change for which the client waited", lacks, lacksBefore)
		}
		b.endGaps()
		b.stop()
		b.running.Wait()
	})
}
