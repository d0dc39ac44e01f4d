package redis

import (
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// FuzzChannelName cuts names of channels that strangers put into messages and groups.
func FuzzChannelName(f *testing.F) {
	f.Add("specific.0123456789abcdef0123456789abcdef!1a")
	f.Add("!")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		r := receiver(name)
		if !strings.HasPrefix(name, r) || strings.Count(r, "!") > 1 {
			t.Errorf("receiver of %q is %q", name, r)
		}
		for n := 1; n < 5; n++ {
			if i := redisnet.RingIndex(r, n); i < 0 || i >= n {
				t.Errorf("host %d of %d", i, n)
			}
		}
	})
}
