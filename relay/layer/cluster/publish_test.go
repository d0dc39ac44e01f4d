package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/history/stream"
)

func FuzzDecode(f *testing.F) {
	for _, c := range []stream.Content{{Text: []byte(`{"n": 1}`)}, {Type: "t", Sender: "s", Text: []byte("{}")}} {
		raw, _ := encode(time.Now(), &c)
		f.Add(raw)
	}
	f.Add([]byte("\x01"))
	f.Add([]byte("\x02 something else"))
	f.Add([]byte("\x02sssssssspppppppp\x01mmmmmmmqqqqqqqq{}"))
	f.Add([]byte("\x04sssssssspppppppp\x01mmmmmmmqqqqqqqq\x01t\x00{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decode(raw)
		if err != nil || !m.Position.IsZero() {
			return
		}
		if again, err := encode(m.Sent, &m.Content); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q became %q", raw, again)
		}
	})
}
