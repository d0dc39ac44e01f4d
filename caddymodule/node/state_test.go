package node

import (
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/state"
)

// TestStateHasTheNumbersOfPlugins compares the operations and statuses, which stateService passes as they are.
func TestStateHasTheNumbersOfPlugins(t *testing.T) {
	for _, c := range []struct {
		plugin plugins.Op
		state  state.Op
	}{
		{plugins.SharedGet, state.Get},
		{plugins.SharedSet, state.Set},
		{plugins.SharedSwap, state.Swap},
		{plugins.SharedAdd, state.Add},
		{plugins.SharedPush, state.Push},
		{plugins.SharedList, state.List},
		{plugins.AlarmSet, state.AlarmSet},
		{plugins.AlarmCancel, state.AlarmCancel},
	} {
		if uint8(c.plugin) != uint8(c.state) {
			t.Errorf("%v is %d in plugins and %d in state", c.plugin, c.plugin, c.state)
		}
	}
	for _, c := range [][2]int32{
		{plugins.StatusOK, state.OK},
		{plugins.StatusNone, state.None},
		{plugins.StatusConflict, state.Conflict},
		{plugins.StatusUnavailable, state.Unavailable},
		{plugins.StatusTooLarge, state.TooLarge},
		{plugins.StatusInvalid, state.Invalid},
		{plugins.StatusBusy, state.Busy},
	} {
		if c[0] != c[1] {
			t.Errorf("status %d of plugins is %d in state", c[0], c[1])
		}
	}
}
