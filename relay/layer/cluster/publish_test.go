package cluster

import (
	"bytes"
	"testing"
	"time"
)

func FuzzDecode(f *testing.F) {
	f.Add(encode(time.Now(), []byte(`{"n": 1}`)))
	f.Add([]byte("\x01"))
	f.Add([]byte("\x02 something else"))
	f.Add([]byte("\x02sssssssspppppppp\x01mmmmmmmqqqqqqqq{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decode(raw)
		if err != nil || !m.Position.IsZero() {
			return
		}
		if again := encode(m.Sent, m.Text); !bytes.Equal(again, raw) {
			t.Errorf("%q became %q", raw, again)
		}
	})
}
