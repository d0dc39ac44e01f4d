package sortedset

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// epoch is the source of a host's positions.
type epoch struct {
	value string // of the key in Redis
	marks *hasher
}

// The value of the key in Redis begins with its kind: a random key in hexadecimal digits, the same encrypted, or the
// fingerprint of a configured key and a random number.
const (
	plainKey      = "r:"
	sealedKey     = "s:"
	configuredKey = "c:"
)

// keySize is the length of a random key, and of the random number beside a fingerprint.
const keySize = 32

// errOtherKey means that another node's settings made the key in Redis.
const errOtherKey refusal = "another node has stored a key with other settings; " +
	"give all nodes the same history_key and symmetric_encryption_keys"

// newEpochValue returns a new value of the key in Redis.
func (st *settings) newEpochValue() string {
	var random [keySize]byte
	_, _ = rand.Read(random[:]) // never fails
	switch {
	case st.policy.Key != "":
		return configuredKey + st.fingerprint() + ":" + hex.EncodeToString(random[:8])
	case len(st.keys) > 0:
		return sealedKey + hex.EncodeToString([]byte(st.keys.seal("", relay.Position{}, random[:])))
	}
	return plainKey + hex.EncodeToString(random[:])
}

// fingerprint identifies the configured key.
func (st *settings) fingerprint() string {
	return hex.EncodeToString(derive([]byte(st.policy.Key), "edgerelay history: fingerprint")[:8])
}

// epoch reads a value of the key in Redis.
func (st *settings) epoch(value string) (*epoch, error) {
	rest := value[min(len(value), len(plainKey)):]
	switch {
	case st.policy.Key != "":
		if !strings.HasPrefix(value, configuredKey+st.fingerprint()+":") {
			return nil, errOtherKey
		}
		return &epoch{value, newHasher(derive([]byte(st.policy.Key), "edgerelay history: marks"))}, nil
	case len(st.keys) > 0 && strings.HasPrefix(value, sealedKey):
		sealed, err := hex.DecodeString(rest)
		if err != nil {
			return nil, errOtherKey
		}
		key, broken := st.keys.open("", relay.Position{}, string(sealed))
		if broken {
			return nil, errOtherKey
		}
		return &epoch{value, newHasher(key)}, nil
	case len(st.keys) == 0 && strings.HasPrefix(value, plainKey):
		key, err := hex.DecodeString(rest)
		if err != nil || len(key) != keySize {
			return nil, errOtherKey
		}
		return &epoch{value, newHasher(key)}, nil
	}
	return nil, errOtherKey
}

// head is what a host says about itself, read before each answer.
type head struct {
	key, run, server *goredis.StringCmd
	gaps             *goredis.ZSliceCmd
}

// askHead adds the commands to a pipeline.
func (h *host) askHead(ctx context.Context, pipe goredis.Pipeliner) *head {
	return &head{
		key: pipe.Get(ctx, h.store.keyKey()), run: pipe.Get(ctx, h.store.runKey()),
		server: pipe.Info(ctx, "server"),
		gaps:   pipe.ZRangeWithScores(ctx, h.store.gapsKey(), 0, -1),
	}
}

// serverRun returns the identity of the running server.
func (a *head) serverRun() (string, error) {
	if err := a.server.Err(); err != nil {
		return "", fmt.Errorf("reading INFO (give the redis user +info): %w", err)
	}
	for line := range strings.Lines(a.server.Val()) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok && strings.TrimSpace(id) != "" {
			return strings.TrimSpace(id), nil
		}
	}
	return "", refusal("INFO has no run_id, so that a restart of redis would not be noticed")
}

// gapEntries returns the gaps of all groups, and the time since when gaps are known; 0 if the set is not one that a
// relay has created.
func (a *head) gapEntries() (gaps []entry, since int64) {
	for _, z := range a.gaps.Val() {
		e := decode(fmt.Sprint(z.Member), z.Score, "", nil)
		switch e.kind {
		case baseKind:
			since = max(since, e.Micros)
		case gapKind:
			gaps = append(gaps, e)
		}
	}
	return gaps, since
}

// intact reports whether the host is the one that the node knows: the same key, the same run, and a set of gaps.
func (h *host) intact(a *head) (bool, error) {
	run, err := a.serverRun()
	if err != nil {
		return false, err
	}
	for _, cmd := range []goredis.Cmder{a.key, a.run, a.gaps} {
		if err := cmd.Err(); err != nil && !errors.Is(err, goredis.Nil) && !redisnet.WrongType(err) {
			return false, err
		}
	}
	known := h.epoch.Load()
	_, since := a.gapEntries()
	return known != nil && a.key.Val() == known.value && a.run.Val() == run && since > 0, nil
}

// establishTries bounds the attempts to agree with other nodes.
const establishTries = 5

// establish makes the host intact: it reads or creates the key, and records a gap of all groups if entries may have
// been lost. replace: a key of other settings is replaced. See
// docs/decisions/history.md#how-does-a-node-notice-that-redis-was-wiped-or-restarted
func (h *host) establish(ctx context.Context, replace bool) error {
	h.loading.Lock()
	defer h.loading.Unlock()
	for range establishTries {
		pipe := h.client().Pipeline()
		a := h.askHead(ctx, pipe)
		_, err := pipe.Exec(ctx)
		if err != nil && !errors.Is(err, goredis.Nil) && !redisnet.IsReply(err) {
			return err
		}
		ok, err := h.intact(a)
		if err != nil {
			return err
		}
		if ok {
			gaps, since := a.gapEntries()
			h.saw(since) // Positions of gaps and bases from now on are behind the beginning of the set of gaps.
			return h.dropGaps(ctx, gaps)
		}
		known := h.epoch.Load()
		found, err := h.store.settings.Load().epoch(a.key.Val())
		switch {
		case a.key.Err() != nil: // Missing, or of another type.
		case err != nil && !replace:
			h.epoch.Store(nil)
			return err
		case err == nil:
			h.epoch.Store(found)
		}
		if err := h.repair(ctx, a, known); err != nil {
			return err
		}
	}
	return refusal("other nodes change the key of the history again and again")
}

// repair writes missing keys on a host, in one transaction. known is the epoch that the node knew before.
func (h *host) repair(ctx context.Context, a *head, known *epoch) error {
	run, err := a.serverRun()
	if err != nil {
		return err
	}
	_, since := a.gapEntries()
	readable := a.key.Err() == nil && h.epoch.Load() != nil && h.epoch.Load().value == a.key.Val()
	// A host with none of the keys is new to everyone, unless this node knows better. Positions from before have no
	// entry there.
	isNew := known == nil && since == 0 && errors.Is(a.key.Err(), goredis.Nil) && errors.Is(a.run.Err(), goredis.Nil)
	changed := known != nil && known.value != a.key.Val()
	same := readable && since > 0 && a.run.Val() == run
	if same && !changed {
		return nil
	}
	pipe := h.client().TxPipeline()
	for _, cmd := range []goredis.Cmder{a.key, a.run, a.gaps} {
		if redisnet.WrongType(cmd.Err()) {
			key := fmt.Sprint(cmd.Args()[1])
			pipe.Del(ctx, key)
			h.healed(key)
		}
	}
	newest := h.newest.Load()
	at := h.store.nextGap(newest)
	if since == 0 {
		began := relay.Position{Micros: h.store.now().UnixMicro(), Mark: at.Mark}
		pipe.ZAdd(ctx, h.store.gapsKey(), metaEntry(baseKind, began))
	}
	if !isNew {
		pipe.ZAdd(ctx, h.store.gapsKey(), metaEntry(gapKind, at, uint64(h.store.soon(newest))))
		h.store.stats.gaps.Add(1)
	}
	switch {
	case readable:
	case known != nil && a.key.Err() != nil: // Other nodes know the same key.
		pipe.SetNX(ctx, h.store.keyKey(), known.value, 0)
	case a.key.Err() != nil:
		pipe.SetNX(ctx, h.store.keyKey(), h.store.settings.Load().newEpochValue(), 0)
	default:
		pipe.Set(ctx, h.store.keyKey(), h.store.settings.Load().newEpochValue(), 0)
	}
	pipe.Set(ctx, h.store.runKey(), run, 0)
	_, err = pipe.Exec(ctx)
	return err
}
