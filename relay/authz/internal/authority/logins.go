package authority

import "sync"

const (
	// loginsPerGeneration is the capacity of one generation. One to two generations of logins are remembered.
	loginsPerGeneration = 16 << 10
	// maxLoginsPerUser bounds the share of one user. A user with a token can create any number of logins.
	maxLoginsPerUser = 64
)

// Logins remembers which logins the authority has confirmed, and their users. The zero Logins is ready for use, and
// methods may be called concurrently. A full generation replaces
// the previous one, and the logins of the previous generation are forgotten.
type Logins struct {
	mu                sync.Mutex // guards all below
	current, previous loginGeneration
}

type loginGeneration struct {
	users map[string]string // user by login
	count map[string]int    // logins by user
}

// User returns the user of a confirmed login.
func (l *Logins) User(login string) (user string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user, ok = l.current.users[login]; !ok {
		user, ok = l.previous.users[login]
	}
	return user, ok
}

// Add remembers a login that the authority has confirmed.
func (l *Logins) Add(login, user string) {
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

// Remove forgets a login that the authority has rejected.
func (l *Logins) Remove(login string) {
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
