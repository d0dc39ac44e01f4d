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
		{Group: "jobs-1", History: &admin.GroupHistory{Events: 1000, Bytes: 412 << 10, Oldest: time.Now().Add(-4 * time.Minute)}},
		{Group: "jobs-2", History: &admin.GroupHistory{}},
		{Group: "other"},
	}}
	var out bytes.Buffer
	writeTop(&out, &o)
	if strings.Contains(strings.ToLower(out.String()), "history ") {
		t.Errorf("without histories:\n%s", out.String())
	}
	o.Histories = &admin.HistoryStatus{
		Kind: "sorted_set", Groups: 212, Bytes: 12 << 20, Recorded: 10_233, Adopted: 2, Gaps: 3, Trouble: "NOPERM\x1b",
	}
	out.Reset()
	writeTop(&out, &o)
	for _, want := range []string{
		"history       UNHEALTHY: NOPERM\ufffd; sorted set, 212 groups, 12 MiB, 10,233 events recorded, 2 adopted, 3 gaps\n",
		"TAILS    HISTORY       SIZE      AGE\n", "     0      1,000    412 KiB       4m\n", "     0          0        0 B        –\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
