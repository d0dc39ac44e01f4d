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
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, sent, err := decode(raw)
		if err != nil {
			return
		}
		if again := encode(sent, text); !bytes.Equal(again, raw) {
			t.Errorf("%q became %q", raw, again)
		}
	})
}
