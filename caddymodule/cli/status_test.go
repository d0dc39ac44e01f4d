package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// Histories have a line in the status and columns in top, if there are any.
func TestHistoriesOnTheScreen(t *testing.T) {
	o := admin.Overview{TopGroups: []admin.Group{
		{Group: "jobs-1", History: &admin.GroupHistory{Events: 1000, Bytes: 412 << 10, Oldest: time.Now().Add(-4 * time.Minute), Resumes: &admin.GroupResumes{Recovered: 1200, NotRecovered: 3}}},
		{Group: "jobs-2", History: &admin.GroupHistory{}},
		{Group: "other"},
	}}
	var out bytes.Buffer
	writeTop(&out, &o, unlimitedWidth)
	if strings.Contains(strings.ToLower(out.String()), "history ") {
		t.Errorf("without histories:\n%s", out.String())
	}
	o.Histories = &admin.HistoryStatus{
		Kind: "sorted_set", Groups: 212, Bytes: 12 << 20, Recorded: 10_233, Adopted: 2, Gaps: 3, Trouble: "NOPERM\x1b",
	}
	o.Resumes = admin.ResumeStatus{
		Clients: 5, Recovered: 1200, Latest: 7, Events: 99, NotRecovered: map[string]uint64{"gap": 1, "unknown_position": 2},
	}
	out.Reset()
	writeTop(&out, &o, unlimitedWidth)
	for _, want := range []string{
		"history       UNHEALTHY: NOPERM\ufffd; sorted set, 212 groups, 12 MiB, 10,233 events recorded, 2 adopted, 3 gaps\n",
		"resumes       5 clients with positions; 1,200 recovered, 3 not (1 gap, 2 unknown position), 7 latest; " +
			"99 events replayed, 0 waiting\n",
		"TAILS    HISTORY       SIZE      AGE  RECOVERED    NOT\n",
		"     0      1,000    412 KiB       4m      1,200      3\n",
		"     0          0        0 B        –          0      0\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// The columns of histories are on a screen with 80 columns, too.
func TestHistoriesOnANarrowScreen(t *testing.T) {
	o := admin.Overview{
		Status: admin.Status{Histories: &admin.HistoryStatus{}},
		TopGroups: []admin.Group{{
			Group: "inventory_update_events-1234567890", Rate: 9999, Subscribers: 10_000,
			History: &admin.GroupHistory{
				Events: 10_000, Bytes: 1023 << 10, Oldest: time.Now().Add(-59 * time.Minute),
				Resumes: &admin.GroupResumes{Recovered: 1200, NotRecovered: 3},
			},
		}},
	}
	var out bytes.Buffer
	writeTopGroups(&out, &o, 80)
	want := "\nTOP GROUPS                   EVENTS/S CLIENTS HISTORY     SIZE   AGE RECOV NOT\n" +
		"inventory_update_events-1234    9,999  10,000  10,000 1023 KiB   59m 1,200   3\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
