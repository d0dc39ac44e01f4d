//go:build soak

package soak

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// chats is a part: users with tokens who talk to each other by a route, with presence. Each hears everything that the
// others say at most once and in order, and what it says itself.
type chats struct {
	s *site

	said, heard, joins, leaves, lists atomic.Int64
}

const talkersPerChat, chatCount = 4, 2

func (p *chats) run(ctx context.Context) {
	var talking sync.WaitGroup
	var users [chatCount][]string
	leave := make(chan struct{})
	for i := range talkersPerChat * chatCount {
		w := &talker{p: p, user: fmt.Sprint("user", i), chat: i % chatCount, stays: leave}
		users[w.chat] = append(users[w.chat], w.user)
		talking.Go(func() { w.run(ctx) })
	}
	<-ctx.Done()
	for chat, want := range users {
		p.present(chat, want)
	}
	close(leave)
	talking.Wait()
	for chat := range users {
		p.present(chat, nil)
	}
}

// present waits until the list of a chat's users is as wanted. Those of a dead node leave with its lease.
func (p *chats) present(chat int, want []string) {
	slices.Sort(want)
	err := testkit.Poll(testkit.Scale(lease+15*time.Second), nil, func() error {
		_, answer, err := p.s.request("GET", fmt.Sprint("/edgerelay/presence?group=chat_", chat), "", nil)
		if err != nil {
			return err
		}
		var list struct{ Users []struct{ User string } }
		if err := json.Unmarshal([]byte(answer), &list); err != nil {
			return fmt.Errorf("%w: %.200s", err, answer)
		}
		var got []string
		for _, u := range list.Users {
			got = append(got, u.User)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("present are %q, want %q", got, want)
		}
		return nil
	})
	if err != nil {
		p.s.fault("presence of chat %d: %v", chat, err)
		return
	}
	p.lists.Add(1)
}

func (p *chats) work() []count {
	return []count{
		{name: "chats: said", n: p.said.Load()},
		{name: "heard", n: p.heard.Load()},
		{name: "presence: joins heard", n: p.joins.Load()},
		{name: "leaves heard", n: p.leaves.Load()},
		{name: "right lists", n: p.lists.Load()},
	}
}

// talker is a user who says a number about every 200 ms.
type talker struct {
	p     *chats
	user  string
	chat  int
	stays <-chan struct{} // closed when the user leaves

	number int
}

// words is what one talker says.
type words struct {
	User string
	N    int
}

func (w *talker) run(ctx context.Context) {
	for first := true; ; first = false {
		select {
		case <-w.stays:
			return
		default:
		}
		if !first {
			// Some are away for longer than the grace period.
			testkit.Pause(w.stays, time.Duration(50+rand.IntN(3000))*time.Millisecond)
		}
		nodes := w.p.s.up(w.p.s.relay, w.p.s.near)()
		url := fmt.Sprintf("%s/ws/chat/%d/?token=%s", nodes[rand.IntN(len(nodes))], w.chat, token(w.user))
		if raw, err := wstest.DialRaw(url, ""); err == nil {
			w.talk(ctx, raw)
		}
	}
}

// talk is one connection. Now and then the user leaves and comes back.
func (w *talker) talk(ctx context.Context, raw *wstest.Raw) {
	own := make(chan int, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.listen(raw, own)
	}()
	defer func() {
		raw.Close()
		<-ended
	}()
	for range 10 + rand.IntN(20) {
		if ctx.Err() != nil {
			break
		}
		if !w.say(raw, own, ended) {
			return
		}
		testkit.Pause(ctx.Done(), 200*time.Millisecond)
	}
	if ctx.Err() != nil {
		select {
		case <-w.stays:
		case <-ended:
		}
	}
}

// say says the next number and waits until the talker hears itself. It returns false if the connection has ended.
func (w *talker) say(raw *wstest.Raw, own <-chan int, ended <-chan struct{}) bool {
	w.number++
	from := time.Now()
	text, err := json.Marshal(map[string]any{"message": words{w.user, w.number}})
	if err != nil {
		panic(err)
	}
	if raw.Send(string(text)) != nil {
		return false
	}
	w.p.said.Add(1)
	timer := time.NewTimer(testkit.Scale(10 * time.Second))
	defer timer.Stop()
	for {
		select {
		case n := <-own:
			if n == w.number {
				return true
			}
		case <-ended:
			return false
		case <-timer.C:
			if !w.p.s.trouble.happened(from.Add(-settle), time.Now(), storeDown) {
				w.p.s.faultAt(from, "chats: %s did not hear its message %d", w.user, w.number)
			}
			return true
		}
	}
}

// listen checks the numbers that the talker hears on a connection, until it ends.
func (w *talker) listen(raw *wstest.Raw, own chan<- int) {
	last := map[string]int{}
	for {
		text, err := raw.Next(5 * time.Minute)
		if err != nil {
			var closed wstest.ClosedError
			if errors.As(err, &closed) && closed.Code == 1008 {
				w.p.s.fault("chats: %s: %v", w.user, err)
			}
			return
		}
		var f struct {
			Message      *words
			Joined, Left string
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			w.p.s.fault("chats: %s got %.200q", w.user, text)
			return
		}
		switch {
		case f.Joined != "":
			w.p.joins.Add(1)
		case f.Left != "":
			w.p.leaves.Add(1)
		case f.Message == nil:
			w.p.s.fault("chats: %s got %.200q", w.user, text)
		default:
			w.p.heard.Add(1)
			if before := last[f.Message.User]; f.Message.N <= before {
				w.p.s.fault("chats: %s heard %d of %s after %d", w.user, f.Message.N, f.Message.User, before)
			}
			last[f.Message.User] = f.Message.N
			if f.Message.User == w.user {
				own <- f.Message.N
			}
		}
	}
}

// token returns a token of a user for auth jwt.
func token(user string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"sub":%q,"exp":%d}`, user, time.Now().Add(24*time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(tokenKey))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}
