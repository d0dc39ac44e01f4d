package redisnet

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// HelloPause is how long HELLO is not sent to a host that hangs up at HELLO.
const HelloPause = 10 * time.Minute

// ErrHungUp means that a host closed the connection after HELLO.
var ErrHungUp = errors.New("the host closes the connection at HELLO")

// code returns the first word of a rejection.
func code(refused resp.Error) string {
	word, _, _ := strings.Cut(string(refused), " ")
	return word
}

// rejectsLogin reports whether a rejection concerns the user, whatever the protocol.
func rejectsLogin(refused resp.Error) bool {
	switch code(refused) {
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return true
	}
	return false
}

// Momentary reports whether a rejection is due to the server's state rather than to missing abilities.
func Momentary(refused resp.Error) bool {
	switch code(refused) {
	case "BUSY", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "OOM", "MISCONF", "NOREPLICAS":
		return true
	}
	return strings.Contains(string(refused), "max number of clients")
}

// hangsUp reports whether an error means that the other end has closed the connection.
func hangsUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Hello authenticates with HELLO, and returns whether the host knows it. refused is the rejection; after a
// rejection the connection is authenticated with AUTH. The error for a host that hangs up is [ErrHungUp].
func Hello(c *resp.Conn, o *goredis.Options) (known bool, refused resp.Error, err error) {
	hello := []string{"HELLO", "3"}
	if o.Password != "" {
		user := o.Username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, o.Password)
	}
	_, err = c.Do(ReplyTimeout, hello...)
	switch {
	case err == nil:
		return true, "", nil
	case hangsUp(err):
		return false, "", ErrHungUp
	case !errors.As(err, &refused), rejectsLogin(refused), Momentary(refused):
		return false, "", err
	}
	return false, refused, Auth(c, o)
}

// Auth authenticates on a connection without HELLO.
func Auth(c *resp.Conn, o *goredis.Options) error {
	if o.Password == "" {
		return nil
	}
	auth := []string{"AUTH", o.Password}
	if o.Username != "" {
		auth = []string{"AUTH", o.Username, o.Password}
	}
	_, err := c.Do(ReplyTimeout, auth...)
	return err
}

// IsReply reports whether an error is a reply of Redis, rather than a failure of the connection.
func IsReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

// WrongType reports whether a command failed because its key holds another type.
func WrongType(err error) bool {
	return IsReply(err) && strings.HasPrefix(err.Error(), "WRONGTYPE")
}

const (
	// ProbeInterval is how long a quiet connection goes without a command. A host without an answer is unhealthy.
	ProbeInterval = 500 * time.Millisecond
	// ReplyTimeout is how long a reply may take before the connection is closed.
	ReplyTimeout = 10 * time.Second
)
