package plugins

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// FuzzRecording reads arbitrary lines as a recording. A line about a function that is read and written again is the
// same sample, and comparing it, and taking it through a module, ends without a panic.
func FuzzRecording(f *testing.F) {
	for line := range strings.Lines(recordedConversation(f)) {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"dropped":3}`))
	f.Add([]byte(`{"hook":"on_result","token":7,"context_binary":"/w==","binary":"/w==","status":-1,"random":"AAEC"}`))
	f.Add([]byte(`{"hook":"on_message","text":"x","client":"c","tokens":[1,1],"effects":[{"shared_get":"k"},{"fetch":"•••"}]}`))
	f.Add([]byte(`{"hook":"on_connect","request":[{"token":{"cookie":["a=b"]}}],"client":"0000000000000abc"}`))
	spec := functionSpec(f)
	spec.Instances = 0
	trial, err := Try(f.Context(), Options{}, spec)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(trial.Close)
	redact := newRedactor([]string{"x"}, false)
	f.Fuzz(func(t *testing.T, input []byte) {
		trial.run.replies = dialogue{}
		for lines := NewSampleReader(bytes.NewReader(input), "g"); ; {
			s, err := lines.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				return
			}
			if s.hook()&ofFunctions == 0 {
				continue
			}
			if s.Function == nil {
				s.Function = &FunctionSample{}
			}
			written := AppendSample(nil, &s)
			again, err := ParseSample(written, "g")
			if err != nil {
				t.Fatalf("%s: %v", written, err)
			}
			if twice := AppendSample(nil, &again); !bytes.Equal(written, twice) {
				t.Fatalf("%s\n%s", written, twice)
			}
			if out, secrets := redact.request(s.Function.Request); out != nil {
				_ = secrets.replace(string(out))
			}
			d := trial.Deliver(&s, nil)
			own := d.decision()
			if list := own.differences(&own, []string{"id"}, 5); list != nil {
				t.Fatalf("%s differs from itself: %q", written, list)
			}
			_ = s.CompareFunction(&d.Trace, []string{"id"}, 5)
		}
	})
}
