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
	type answer struct {
		host int
		id   string
		err  error
	}
	answers := make(chan answer, i.Hosts.Size)
	settled := make(chan string, i.Hosts.Size-1)
	go func() {
		id, err := i.run(ctx, 0, identityScript, rand.Text())
		answers <- answer{0, id, err}
	}()
	for host := 1; host < i.Hosts.Size; host++ {
		go func() {
			id, err := i.run(ctx, host, peekScript)
			answers <- answer{host, id, err}
			if right := <-settled; err == nil && right != "" && right != id {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), copyTimeout)
				defer cancel()
				_, _ = i.run(ctx, host, copyScript, right) // or the next time
			}
		}()
	}
	right := ""
	defer func() {
		for range i.Hosts.Size - 1 {
			settled <- right
		}
	}()
	known, failed, enough := "", error(nil), (<-chan time.Time)(nil)
	for range i.Hosts.Size {
		select {
		case a := <-answers:
			switch {
			case a.host == 0 && a.err == nil:
				right = a.id
				return right, nil
			case a.host == 0:
				failed = a.err
			case a.err == nil && a.id != "" && known == "":
				known, enough = a.id, time.After(firstHostTimeout)
			}
			if known != "" && failed != nil {
				return known, nil
			}
		case <-enough:
			return known, nil
		}
	}
	return "", fmt.Errorf("reading or storing %s (the user needs access to edgerelay:*): %w", i.Key, failed)
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
