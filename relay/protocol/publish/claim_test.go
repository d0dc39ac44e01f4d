package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func TestSameIdempotencyKeyPublishesOnce(t *testing.T) {
	for name, send := range map[string]func(t *testing.T, e *Endpoint) answer{
		"header": func(t *testing.T, e *Endpoint) answer {
			return post(t, e, `{"groups": ["orders-1", "orders-2"], "text": "x"}`, "Idempotency-Key", `"one"`)
		},
		"member": func(t *testing.T, e *Endpoint) answer {
			return post(t, e, `{"groups": ["orders-1", "orders-2"], "text": "x", "id": "one"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, l := newEndpoint(t)
			first, second := send(t, e), send(t, e)
			if first.StatusCode != 200 || first.Published != 2 || second.StatusCode != 200 || second.Deduplicated != 2 ||
				second.Published != 0 || second.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("first %s, second %s", first.body, second.body)
			}
			if second.Results[1].Members != first.Results[1].Members {
				t.Errorf("the answer is not repeated: %s", second.body)
			}
			if got := len(l.messages()); got != 2 {
				t.Errorf("%d messages sent, want 2", got)
			}
		})
	}
}

func TestRequestsWithTheSameKeyRace(t *testing.T) {
	e, l := newEndpoint(t)
	l.block = make(chan struct{})
	const racers = 8
	answers := make(chan answer, racers)
	for range racers {
		go func() { answers <- post(t, e, `{"group": "orders-1", "text": "x", "id": "race"}`) }()
	}
	l.block <- struct{}{} // one message; a second one would block until the end of the test
	published := 0
	for range racers {
		a := <-answers
		if a.StatusCode != 200 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
		published += a.Published
	}
	if published != 1 || len(l.messages()) != 1 {
		t.Errorf("%d requests published, %d messages sent; want 1", published, len(l.messages()))
	}
}

func TestFailedPublicationMayBeRetried(t *testing.T) {
	e, l := newEndpoint(t)
	l.setFail(func(relay.Message) error { return errLayer })
	const body = `{"group": "orders-1", "text": "x", "id": "1"}`
	if a := post(t, e, body); a.StatusCode != 503 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	l.setFail(nil)
	if a := post(t, e, body); a.StatusCode != 200 || a.Published != 1 {
		t.Errorf("the retry: %d %s", a.StatusCode, a.body)
	}
}

// A request that waits for another one publishes if that one fails.
func TestWaitingRequestTakesOver(t *testing.T) {
	e, l := newEndpoint(t)
	l.block = make(chan struct{})
	fails := true
	l.fail = func(relay.Message) error { // under the lock of the layer
		if fails {
			fails = false
			return errLayer
		}
		return nil
	}
	answers := make(chan answer, 2)
	for range 2 {
		go func() { answers <- post(t, e, `{"group": "orders-1", "text": "x", "id": "1"}`) }()
	}
	l.block <- struct{}{}
	l.block <- struct{}{}
	a, b := <-answers, <-answers
	if a.StatusCode+b.StatusCode != 703 || a.Published+b.Published != 1 {
		t.Errorf("%s and %s: want one failure and one publication", a.body, b.body)
	}
}

func TestKeyThatStaysInProgress(t *testing.T) {
	e, l := newEndpoint(t)
	e.WaitTimeout = 20 * time.Millisecond
	l.block = make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		post(t, e, `{"group": "orders-1", "text": "x", "id": "1"}`)
	}()
	claimed := func() bool {
		e.Claims.mu.Lock()
		defer e.Claims.mu.Unlock()
		return len(e.Claims.claims) == 1
	}
	for !claimed() {
		time.Sleep(time.Millisecond)
	}
	a := post(t, e, `{"group": "orders-1", "text": "x", "id": "1"}`)
	if a.StatusCode != 409 || a.Header.Get("Retry-After") != "1" || a.problemBody.Reason != "in_progress" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	l.block <- struct{}{}
	<-done
}

func TestKeyOfAnotherMessage(t *testing.T) {
	e, l := newEndpoint(t)
	post(t, e, `{"group": "orders-1", "text": "x", "id": "1"}`)
	a := post(t, e, `{"messages": [{"group": "orders-2", "text": "new", "id": "2"}, {"group": "orders-1", "text": "y", "id": "1"}]}`)
	if a.StatusCode != 422 || *a.problemBody.Pointer != "/messages/1/id" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	post(t, e, `{"group": "orders-1", "text": "x"}`, "Idempotency-Key", "h")
	if a := post(t, e, `{"group": "orders-1", "text": "y"}`, "Idempotency-Key", "h"); a.StatusCode != 422 {
		t.Errorf("another body with the same header: %d %s", a.StatusCode, a.body)
	}
	if a := post(t, e, `{"group": "orders-2", "text": "new", "id": "2"}`); a.Published != 1 {
		t.Errorf("a key of a rejected request is not free: %s", a.body)
	}
	if got := l.groups(); got != "orders-1 orders-1 orders-2" {
		t.Errorf("sent to %q", got)
	}
}

func TestSameIDWithinABatch(t *testing.T) {
	e, l := newEndpoint(t)
	a := post(t, e, `{"messages": [{"group": "orders-1", "text": "x", "id": "1"}, {"group": "orders-1", "text": "x", "id": "1"}]}`)
	if a.StatusCode != 200 || a.Published != 1 || a.Deduplicated != 1 || len(l.messages()) != 1 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a = post(t, e, `{"messages": [{"group": "orders-1", "text": "x", "id": "2"}, {"group": "orders-1", "text": "y", "id": "2"}]}`)
	if a.StatusCode != 422 || len(l.messages()) != 1 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestKeysOfSeveralCredentialsAreApart(t *testing.T) {
	const other = "another-secret-of-32-characters-"
	e, l := newEndpoint(t,
		KeySettings{Name: "a", Secrets: []string{testSecret}, Groups: []string{"*"}},
		KeySettings{Name: "b", Secrets: []string{other}, Groups: []string{"*"}})
	const body = `{"group": "orders-1", "text": "x", "id": "1"}`
	post(t, e, body)
	if a := post(t, e, body, "Authorization", "Bearer "+other); a.Published != 1 || len(l.messages()) != 2 {
		t.Errorf("another key's id was used: %s", a.body)
	}
}

func TestIdempotencySwitchedOff(t *testing.T) {
	e, l := newEndpoint(t)
	e.Idempotency = 0
	if a := post(t, e, `{"messages": [{"group": "orders-1", "text": "x", "id": "1"}]}`); a.StatusCode != 400 || *a.problemBody.Pointer != "/messages/0/id" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := post(t, e, `{"group": "orders-1", "text": "x"}`, "Idempotency-Key", "1"); a.StatusCode != 400 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if len(l.messages()) > 0 {
		t.Error("a message was sent")
	}
}

// faultyKeeper is a store of claims that fails.
type faultyKeeper struct {
	LocalClaims
	mu   sync.Mutex
	left int // calls before the first failure
}

func (k *faultyKeeper) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left < 0 {
		return nil, errors.New("the store is away")
	}
	return k.LocalClaims.SwapClaims(ctx, swaps)
}

type keeping struct {
	*layer
	keeper *faultyKeeper
}

func (k keeping) Broker() relay.Broker {
	return struct {
		relay.Broker
		relay.MessagePublisher
		relay.ClaimKeeper
	}{nil, k.layer, k.keeper}
}

func TestStoreOfKeysThatIsAway(t *testing.T) {
	const body = `{"group": "orders-1", "text": "x", "id": "1"}`
	e, l := newEndpoint(t)
	e.Publisher = keeping{l, &faultyKeeper{}}
	if a := post(t, e, body); a.StatusCode != 503 || len(l.messages()) > 0 || strings.Contains(a.body, "away") {
		t.Errorf("before: %d %s, %d sent", a.StatusCode, a.body, len(l.messages()))
	}
	e.Publisher = keeping{l, &faultyKeeper{left: 1}}
	if a := post(t, e, body); a.StatusCode != 200 || !a.Results[0].Unrecorded || len(l.messages()) != 1 {
		t.Errorf("after: %d %s, %d sent", a.StatusCode, a.body, len(l.messages()))
	}
}

func TestLocalClaims(t *testing.T) {
	c := &clock{at: time.Unix(1000, 0)}
	l := &LocalClaims{now: c.now}
	swap := func(from, to string) string {
		t.Helper()
		values, err := l.SwapClaims(t.Context(), []relay.ClaimSwap{{Key: "k", From: from, To: to, Lifetime: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		return values[0]
	}
	if a, b := swap("", "1"), swap("", "2"); a != "1" || b != "1" {
		t.Errorf("got %q, then %q", a, b)
	}
	if got := swap("1", "2"); got != "2" {
		t.Errorf("a change: %q", got)
	}
	c.advance(time.Hour)
	if got := swap("", "3"); got != "3" {
		t.Errorf("after the lifetime: %q", got)
	}
	if got := swap("3", ""); got != "" || len(l.claims) != 0 {
		t.Errorf("a removal: %q, %d left", got, len(l.claims))
	}
	for i := range 5000 {
		c.advance(time.Second)
		_, err := l.SwapClaims(t.Context(), []relay.ClaimSwap{{Key: strings.Repeat("x", i), To: "v", Lifetime: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(l.claims) > 1100 {
		t.Errorf("%d claims are kept, of which 60 are current", len(l.claims))
	}
}

// lateKeeper does not answer the first call, and makes its changes nevertheless, as a Redis does that hangs for a
// while.
type lateKeeper struct {
	LocalClaims
	calls atomic.Int32
}

func (k *lateKeeper) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	texts, err := k.LocalClaims.SwapClaims(ctx, swaps)
	if k.calls.Add(1) == 1 {
		return nil, context.DeadlineExceeded
	}
	return texts, err
}

func TestClaimsOfAnOutageAreGivenBack(t *testing.T) {
	e, l := newEndpoint(t)
	e.WaitTimeout = time.Millisecond
	e.Publisher = lateKeeping{l, &lateKeeper{}}
	const body = `{"group": "orders-1", "text": "x", "id": "1"}`
	if a := post(t, e, body); a.StatusCode != 503 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	testkit.EventuallyWithin(t, lease/3, "the id is free", func() error {
		if a := post(t, e, body); a.StatusCode != 200 {
			return fmt.Errorf("%d %s", a.StatusCode, a.body)
		}
		return nil
	})
	if got := len(l.messages()); got != 1 {
		t.Errorf("%d messages sent, want 1", got)
	}
}

type lateKeeping struct {
	*layer
	keeper *lateKeeper
}

func (k lateKeeping) Broker() relay.Broker {
	return struct {
		relay.Broker
		relay.MessagePublisher
		relay.ClaimKeeper
	}{nil, k.layer, k.keeper}
}

// A second item of GRIP with the same channel and id is not sent again, whatever it is, as with Pushpin. Ids of other
// channels and other keys are others.
func TestGRIPIDs(t *testing.T) {
	e, l := newEndpoint(t, KeySettings{Name: "k", Secrets: []string{testSecret}, Groups: []string{"grip.*"}})
	for _, c := range []struct {
		items                   string
		published, deduplicated int
	}{
		{`{"channel": "a", "id": "1", "ws-message": {"content": "x"}}`, 1, 0},
		{`{"channel": "a", "id": "1", "ws-message": {"content": "other"}}`, 0, 1},
		{`{"channel": "b", "id": "1", "ws-message": {"content": "x"}}, {"channel": "b", "id": "1", "ws-message": {"content": "y"}}`, 1, 1},
		{`{"channel": "a", "id": "2", "prev-id": "1", "ws-message": {"content": "x"}}, {"channel": "a", "ws-message": {"content": "x"}}`, 2, 0},
		{`{"channel": "a", "ws-message": {"content": "x"}}`, 1, 0},
	} {
		if a := post(t, e, `{"items": [`+c.items+`]}`); a.StatusCode != 200 || a.Published != c.published || a.Deduplicated != c.deduplicated {
			t.Errorf("%s: %d %s", c.items, a.StatusCode, a.body)
		}
	}
	if n := len(l.messages()); n != 5 {
		t.Errorf("%d items sent, want 5", n)
	}
	e.Idempotency = 0
	for range 2 {
		if a := post(t, e, `{"items": [{"channel": "a", "id": "1", "ws-message": {"content": "x"}}]}`); a.Published != 1 {
			t.Errorf("without idempotency: %d %s", a.StatusCode, a.body)
		}
	}
}
