package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// A node that does not know the secret registers itself as a peer. It gets no header that lets it pass for a node.
func TestRoguePeerCannotUseTheHeader(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	headers := make(chan string, 100)
	rogue := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case headers <- r.Header.Get("secret"):
		default:
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer rogue.Close()
	peers.StartRelay(t, fmt.Sprintf(`{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis %s
		auth none
		backplane {
			secret s3cret
			advertise {$SITE}
			retry 100ms
			redis %s {
				every 1s
			}
		}
	}
}
{$SITE} {
	edgerelay
}
`, redis.URL, redis.URL))
	redis.Do("ZADD", "edgerelay:nodes", time.Now().Add(time.Hour).Unix(), rogue.URL)
	for range 2 {
		select {
		case header := <-headers:
			if _, _, err := (backplane.Secrets{"s3cret"}).Verify(header, time.Now()); err == nil {
				t.Fatalf("the rogue got %q, which every node takes for five minutes", header)
			}
		case <-time.After(patience):
			t.Fatal("the rogue was not dialled")
		}
	}
}
