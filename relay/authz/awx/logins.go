package awx

import "sync"

const (
	// loginsPerGeneration is the capacity of one generation. One to two generations of logins are remembered.
	loginsPerGeneration = 16 << 10
	// maxLoginsPerUser bounds the share of one user. A user with a token can create any number of logins.
	maxLoginsPerUser = 64
)

// confirmedLogins remembers which logins AWX has confirmed, and their users. A full generation replaces
// the previous one, and the logins of the previous generation are forgotten.
type confirmedLogins struct {
	mu                sync.Mutex // guards all below
	current, previous loginGeneration
}

type loginGeneration struct {
	users map[string]string // user by credentials.key
	count map[string]int    // logins by user
}

// user returns the user of a confirmed login.
func (l *confirmedLogins) user(login string) (user string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user, ok = l.current.users[login]; !ok {
		user, ok = l.previous.users[login]
	}
	return user, ok
}

// add remembers a login that AWX has confirmed.
func (l *confirmedLogins) add(login, user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.current.users[login]; known || l.current.count[user] >= maxLoginsPerUser {
		return
	}
	if l.current.users == nil || len(l.current.users) >= loginsPerGeneration {
		l.previous, l.current = l.current, loginGeneration{map[string]string{}, map[string]int{}}
	}
	l.current.users[login] = user
	l.current.count[user]++
}

// remove forgets a login that AWX has rejected.
func (l *confirmedLogins) remove(login string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range []loginGeneration{l.current, l.previous} {
		if user, ok := g.users[login]; ok {
			delete(g.users, login)
			if g.count[user]--; g.count[user] <= 0 {
				delete(g.count, user)
			}
		}
	}
}
