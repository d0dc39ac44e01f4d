package layers

import (
	"context"
	"slices"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay"
)

// Examine implements [guest.Examiner].
func (l *RedisLayer) Examine(ctx context.Context) (list []guest.Finding) {
	s := l.settings
	hosts, closeAll, err := s.Clients()
	if err != nil { // unreachable: Provision has validated the settings
		return nil
	}
	defer closeAll()
	found := make([][]guest.Finding, len(hosts))
	eachHost(hosts, func(i int, h *goredis.Client) {
		if found[i] = doctor.Redis(ctx, h); found[i][0].Level != guest.Failure {
			found[i] = append(found[i], doctor.Access(ctx, h, s.Prefix)...)
		}
	})
	var reachable []*goredis.Client
	for i, h := range hosts {
		if list = append(list, found[i]...); found[i][0].Level != guest.Failure {
			reachable = append(reachable, h)
		}
	}
	if len(reachable) > 0 {
		list = append(list, doctor.Prefix(ctx, reachable, s.Prefix),
			doctor.Capacity(ctx, reachable, s.Prefix, s.Capacity))
	}
	return list
}

// ListGroups implements [guest.GroupLister].
func (l *RedisLayer) ListGroups(ctx context.Context, limit int) ([]string, error) {
	hosts, closeAll, err := l.settings.Clients()
	if err != nil {
		return nil, err
	}
	defer closeAll()
	return doctor.Groups(ctx, hosts, l.settings.Prefix, limit)
}

// ListGroups implements [guest.GroupLister].
func (l *RedisPubSubLayer) ListGroups(ctx context.Context, limit int) ([]string, error) {
	hosts, closeAll, err := l.settings.Clients()
	if err != nil {
		return nil, err
	}
	defer closeAll()
	return doctor.PubSubGroups(ctx, hosts, l.settings.Prefix, limit)
}

// ExamineHistory implements [guest.HistoryExaminer]. [RedisLayer.Examine] reports hosts that are unreachable.
func (l *RedisLayer) ExamineHistory(ctx context.Context, policy relay.HistoryPolicy) []guest.Finding {
	s := l.settings
	hosts, closeAll, err := s.Clients()
	if err != nil { // unreachable: Provision has validated the settings
		return nil
	}
	defer closeAll()
	found := make([][]guest.Finding, len(hosts))
	eachHost(hosts, func(i int, h *goredis.Client) {
		if h.Ping(ctx).Err() != nil {
			return
		}
		if found[i] = []guest.Finding{doctor.HistoryAccess(ctx, h, s.Prefix)}; found[i][0].Level != guest.Failure {
			found[i] = append(found[i], doctor.HistoryMemory(ctx, h, s.Prefix, policy.Limits))
		}
	})
	return slices.Concat(found...)
}

// Examine implements [guest.Examiner]. Pub/sub stores nothing that could be full, disappear or expire.
func (l *RedisPubSubLayer) Examine(ctx context.Context) []guest.Finding {
	hosts, closeAll, err := l.settings.Clients()
	if err != nil { // unreachable: Provision has validated the settings
		return nil
	}
	defer closeAll()
	found := make([][]guest.Finding, len(hosts))
	eachHost(hosts, func(i int, h *goredis.Client) { found[i] = doctor.Redis(ctx, h) })
	return slices.Concat(found...)
}

// Examine implements [guest.Examiner] for the configured nodes. Sharded pub/sub stores nothing to check.
func (l *RedisClusterLayer) Examine(ctx context.Context) []guest.Finding {
	hosts, closeAll := l.settings.Clients()
	defer closeAll()
	found := make([][]guest.Finding, len(hosts))
	eachHost(hosts, func(i int, h *goredis.Client) { found[i] = doctor.Redis(ctx, h) })
	return slices.Concat(found...)
}

var _ guest.HistoryExaminer = (*RedisLayer)(nil)

// eachHost calls fn for all hosts concurrently, so that a host that hangs does not delay the rest.
func eachHost(hosts []*goredis.Client, fn func(i int, h *goredis.Client)) {
	var checks sync.WaitGroup
	for i, h := range hosts {
		checks.Go(func() { fn(i, h) })
	}
	checks.Wait()
}
