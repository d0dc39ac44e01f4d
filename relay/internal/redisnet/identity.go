package redisnet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Scripts: read a layer's identity; read the identity or store a proposal; store the identity.
const (
	peekScript     = `return redis.call('GET',KEYS[1])`
	identityScript = `local id=redis.call('GET',KEYS[1])
if not id then id=ARGV[1] redis.call('SET',KEYS[1],id) end
return id`
	copyScript = `return redis.call('SET',KEYS[1],ARGV[1])`
)

const (
	// firstHostTimeout bounds the wait for the first host of a ring once another host has answered with the identity.
	firstHostTimeout = 500 * time.Millisecond
	// copyTimeout bounds the copying of an identity to another host.
	copyTimeout = 5 * time.Second
)

// Identity is a random text that identifies a layer.
// See docs/decisions/layers.md#why-is-the-layers-identity-copied-to-the-other-hosts
type Identity struct {
	Hosts  *Ring
	Key    string
	Before string                     // begins each script
	Healed func(host int, key string) // called for a key that held another type and was deleted
}

// Read returns the identity on the first host of the ring, which alone may store a new identity. The other hosts have
// copies, which count while the first host is away.
func (i *Identity) Read(ctx context.Context) (string, error) {
	replies := make(chan identityReply, i.Hosts.Size)
	settled := make(chan string, i.Hosts.Size-1)
	go func() {
		id, err := i.run(ctx, 0, identityScript, rand.Text())
		replies <- identityReply{0, id, err}
	}()
	for host := 1; host < i.Hosts.Size; host++ {
		go i.readCopy(ctx, host, replies, settled)
	}
	id, isFirst, err := i.choose(replies)
	original := ""
	if isFirst {
		original = id
	}
	for range i.Hosts.Size - 1 {
		settled <- original
	}
	return id, err
}

// identityReply is the answer of a host. The id is empty if the host has none.
type identityReply struct {
	host int
	id   string
	err  error
}

// readCopy reads the copy of a host, and corrects it once the identity of the first host is settled, unless that is
// empty.
func (i *Identity) readCopy(ctx context.Context, host int, replies chan<- identityReply, settled <-chan string) {
	id, err := i.run(ctx, host, peekScript)
	replies <- identityReply{host, id, err}
	if original := <-settled; err == nil && original != "" && original != id {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), copyTimeout)
		defer cancel()
		_, _ = i.run(ctx, host, copyScript, original) // After an error, the next Read corrects the copy.
	}
}

// choose waits for the first host, or for a copy if the first host fails or is late.
func (i *Identity) choose(replies <-chan identityReply) (id string, isFirst bool, err error) {
	var known string
	var failed error
	var enough <-chan time.Time
	for range i.Hosts.Size {
		select {
		case r := <-replies:
			switch {
			case r.host == 0 && r.err == nil:
				return r.id, true, nil
			case r.host == 0:
				failed = r.err
			case r.err == nil && r.id != "" && known == "":
				known, enough = r.id, time.After(firstHostTimeout)
			}
			if known != "" && failed != nil {
				return known, false, nil
			}
		case <-enough:
			return known, false, nil
		}
	}
	return "", false, fmt.Errorf("reading or storing %s (the user needs access to edgerelay:*): %w", i.Key, failed)
}

// run runs a script on a host. A key of another type is deleted first.
func (i *Identity) run(ctx context.Context, host int, script string, args ...any) (string, error) {
	id, err := i.runOnce(ctx, host, script, args...)
	if !strings.Contains(fmt.Sprint(err), "WRONGTYPE") { // Before Redis 7, not at the beginning.
		return id, err
	}
	if _, err := i.runOnce(ctx, host, "return tostring(redis.call('DEL',KEYS[1]))"); err != nil {
		return "", err
	}
	i.Healed(host, i.Key)
	return i.runOnce(ctx, host, script, args...)
}

func (i *Identity) runOnce(ctx context.Context, host int, script string, args ...any) (string, error) {
	id, err := goredis.NewScript(i.Before+script).Run(ctx, i.Hosts.Client(host), []string{i.Key}, args...).Text()
	if errors.Is(err, goredis.Nil) {
		return "", nil
	}
	return id, err
}

// Set stores a string.
func Set(ctx context.Context, client *goredis.Client, key, value string, lifetime time.Duration) error {
	if err := client.Set(ctx, key, value, lifetime).Err(); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}
