package state

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestValuesAreSetSwappedAndAdded(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Op: Get, Key: "a"}, None, "")
		want(t, s, &Request{Op: Set, Key: "a", Value: []byte("x\x00\xff")}, OK, "")
		want(t, s, &Request{Op: Get, Key: "a"}, OK, "x\x00\xff")
		want(t, s, &Request{Op: Swap, Key: "a", Expected: []byte("y"), Value: []byte("z")}, Conflict, "x\x00\xff")
		want(t, s, &Request{Op: Swap, Key: "a", Expected: []byte("x\x00\xff"), Value: []byte("z")}, OK, "")
		want(t, s, &Request{Op: Swap, Key: "b", Value: []byte("new")}, OK, "")
		want(t, s, &Request{Op: Swap, Key: "b", Value: []byte("new")}, Conflict, "new")
		want(t, s, &Request{Op: Set, Key: "a"}, OK, "")
		want(t, s, &Request{Op: Get, Key: "a"}, None, "")
		want(t, s, &Request{Op: Add, Key: "n", Delta: 5}, OK, "5")
		want(t, s, &Request{Op: Add, Key: "n", Delta: math.MaxInt64 - 6}, OK, strconv.Itoa(math.MaxInt64-1))
		want(t, s, &Request{Op: Add, Key: "n", Delta: 2}, Invalid, "")
		want(t, s, &Request{Op: Add, Key: "n"}, OK, strconv.Itoa(math.MaxInt64-1))
		want(t, s, &Request{Op: Add, Key: "b", Delta: 1}, Invalid, "")
	})
}

func TestListsKeepTheLastElements(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Op: List, Key: "l", Limit: 5}, None, "[]")
		for i := range 5 {
			want(t, s, &Request{Op: Push, Key: "l", Value: []byte(fmt.Sprintf("%d\"", i)), Limit: 3}, OK, "")
		}
		want(t, s, &Request{Op: List, Key: "l", Limit: 5}, OK, `["2\"","3\"","4\""]`)
		want(t, s, &Request{Op: List, Key: "l", Limit: 1}, OK, `["4\""]`)
		want(t, s, &Request{Op: Get, Key: "l"}, Invalid, "")
		want(t, s, &Request{Op: Add, Key: "l"}, Invalid, "")
		want(t, s, &Request{Op: Swap, Key: "l", Value: []byte("x")}, Invalid, "")
		want(t, s, &Request{Op: Push, Key: "l", Value: []byte("\xff"), Limit: 3}, Invalid, "")
		want(t, s, &Request{Op: Push, Key: "l", Value: []byte("last"), Limit: 1}, OK, "")
		want(t, s, &Request{Op: List, Key: "l", Limit: 5}, OK, `["last"]`)
		want(t, s, &Request{Op: Set, Key: "l", Value: []byte("text")}, OK, "")
		want(t, s, &Request{Op: Push, Key: "l", Value: []byte("x"), Limit: 3}, Invalid, "")
		want(t, s, &Request{Op: List, Key: "l", Limit: 3}, Invalid, "")
		big := []byte(strings.Repeat("x", 60_000))
		for i := range 6 {
			status := OK
			if i >= 4 { // 256 KiB
				status = TooLarge
			}
			want(t, s, &Request{Op: Push, Key: "big", Value: big, Limit: 10}, status, "")
		}
	})
}

func TestValuesEndWithTheirLifetime(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Op: Set, Key: "a", Value: []byte("x"), TTL: time.Millisecond}, OK, "")
		want(t, s, &Request{Op: Push, Key: "l", Value: []byte("x"), Limit: 1, TTL: time.Millisecond}, OK, "")
		want(t, s, &Request{Op: Add, Key: "n", Delta: 1, TTL: time.Second}, OK, "1")
		want(t, s, &Request{Op: Add, Key: "n", Delta: 1, TTL: time.Hour}, OK, "2") // counts from the first use
		want(t, s, &Request{Op: Set, Key: "kept", Value: []byte("x"), TTL: time.Millisecond}, OK, "")
		want(t, s, &Request{Op: Set, Key: "kept", Value: []byte("y")}, OK, "")
		testkit.Eventually(t, "keys expire", func() error {
			for _, key := range []string{"a", "l", "n"} {
				if res := call(t, s, &Request{Op: Get, Key: key}); res.Status != None {
					return fmt.Errorf("%s: got %d %q", key, res.Status, res.Body)
				}
			}
			return nil
		})
		want(t, s, &Request{Op: Get, Key: "kept"}, OK, "y")
		u, err := s.Usage("game")
		if want := int64(len("kept") + 1 + entryOverhead); err != nil || u.Bytes != want || u.Keys != 1 {
			t.Errorf("usage after the end of lifetimes: got %+v %v, want %d bytes of 1 key", u, err, want)
		}
	})
}

func TestQuotasHoldAndExpiredKeysDoNotCount(t *testing.T) {
	eachPlace(t, Limits{Bytes: 1000, Keys: 5, Alarms: 2, Value: 500}, func(t *testing.T, s *Store) {
		far := time.Now().Add(time.Hour)
		want(t, s, &Request{Op: Set, Key: "a", Value: make([]byte, 501)}, TooLarge, "")
		want(t, s, &Request{Op: Set, Key: strings.Repeat("k", maxKey+1), Value: []byte("x")}, TooLarge, "")
		want(t, s, &Request{Op: Set, Key: "a", Value: make([]byte, 500)}, OK, "")
		want(t, s, &Request{Op: Set, Key: "b", Value: make([]byte, 400)}, TooLarge, "")
		want(t, s, &Request{Op: Set, Key: "a", Value: []byte("x")}, OK, "")
		want(t, s, &Request{Op: AlarmSet, Key: "1", At: far}, OK, "")
		want(t, s, &Request{Op: AlarmSet, Key: "2", At: far}, OK, "")
		want(t, s, &Request{Op: AlarmSet, Key: "2", At: far}, OK, "")
		want(t, s, &Request{Op: AlarmSet, Key: "3", At: far}, TooLarge, "")
		want(t, s, &Request{Op: AlarmCancel, Key: "1"}, OK, "")
		want(t, s, &Request{Op: AlarmCancel, Key: "1"}, None, "")
		for i := range 4 {
			want(t, s, &Request{Op: Set, Key: strconv.Itoa(i), Value: []byte("x"), TTL: time.Second}, OK, "")
		}
		want(t, s, &Request{Op: Add, Key: "new", Delta: 1}, TooLarge, "")
		want(t, s, &Request{Op: Set, Key: "other", Plugin: "another", Value: []byte("x")}, OK, "")
		testkit.Eventually(t, "an expired key makes room", func() error {
			if res := call(t, s, &Request{Op: Add, Key: "new", Delta: 1}); res.Status != OK {
				return fmt.Errorf("got %d although four keys have expired", res.Status)
			}
			return nil
		})
		want(t, s, &Request{Op: AlarmCancel, Key: "2"}, OK, "")
		testkit.Eventually(t, "all expired keys leave the usage", func() error {
			u, err := s.Usage("game")
			if want := int64(len("ax"+"new1") + 2*entryOverhead); err != nil || u.Bytes != want || u.Keys != 2 || u.Alarms != 0 {
				return fmt.Errorf("usage: got %+v %v, want %d bytes of 2 keys", u, err, want)
			}
			return nil
		})
	})
}

func TestPluginsCannotLeaveTheirNamespace(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Plugin: "a", Op: Set, Key: "b:v:x", Value: []byte("1")}, OK, "")
		for _, r := range []*Request{
			{Plugin: "a:v:b", Op: Get, Key: "x"}, {Plugin: "a:v", Op: Get, Key: "b:v:x"}, {Plugin: "b", Op: Get, Key: "x"},
		} {
			want(t, s, r, None, "")
		}
		for _, key := range []string{"sizes", "bytes", "expiry", "due", "{x}", "\x00", "a b\r\n"} {
			want(t, s, &Request{Plugin: "a", Op: Set, Key: key, Value: []byte("v")}, OK, "")
			want(t, s, &Request{Plugin: "a", Op: Get, Key: key}, OK, "v")
		}
	})
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		for _, r := range []*Request{
			{Op: Get},
			{Op: Set, Key: "a", TTL: -1},
			{Op: Push, Key: "a"},
			{Op: Push, Key: "a", Limit: 1001},
			{Op: List, Key: "a"},
			{Op: OpCount, Key: "a"},
			{Op: opClaim, Key: "a"},
		} {
			want(t, s, r, Invalid, "")
		}
		want(t, s, &Request{Op: AlarmSet, Key: "a", Value: make([]byte, maxPayload+1)}, TooLarge, "")
	})
}

func TestRequestsOfACallerTakeEffectInOrder(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		const n = 5000
		last := make(chan Response, 1)
		for i := range n {
			s.Start(&Request{
				Plugin: "game", Op: Swap, Key: "a", Expected: numbered(i), Value: numbered(i + 1),
			}, func(res Response) {
				if res.Status != OK {
					t.Errorf("swap %d: got %d %q", i, res.Status, res.Body)
				}
				if i == n-1 {
					last <- res
				}
			})
		}
		<-last
		want(t, s, &Request{Op: Get, Key: "a"}, OK, strconv.Itoa(n))
	})
}

// numbered returns the text of a number, empty for 0.
func numbered(i int) []byte {
	if i == 0 {
		return nil
	}
	return strconv.AppendInt(nil, int64(i), 10)
}
