package publish

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// check returns a problem unless the key may publish all messages. It takes the publications from the key's rate.
func check(k *Key, list []publication) *problem {
	count := 0
	for i := range list {
		p := &list[i]
		if !k.allowsType(p.message.Type, p.grip) {
			kind := p.message.Type
			if kind == "" {
				kind = "internal.message"
			}
			return &problem{
				Status: http.StatusForbidden, Reason: ReasonType, Pointer: p.pointer + "/type",
				Detail: fmt.Sprintf("key %s may not publish messages of the type %s; list the type in types of the key",
					k.Name(), kind),
			}
		}
		for j, group := range p.groups {
			allowed := k.allowsGroup(group)
			if p.channel != "" {
				group = gripPrefix + p.channel
				allowed = allowed || k.allowsGroup(group)
			}
			if !allowed {
				return &problem{
					Status: http.StatusForbidden, Reason: ReasonGroup, Pointer: p.groupPointer(j),
					Detail: fmt.Sprintf("key %s may not publish to %s; add a pattern to groups of the key", k.Name(), group),
				}
			}
		}
		count += len(p.groups)
	}
	if wait := k.limit.take(count); wait > 0 {
		return &problem{
			Status: http.StatusTooManyRequests, Reason: ReasonRate, retryAfter: wait,
			Detail: fmt.Sprintf("key %s publishes more than its rate of %g a second", k.Name(), k.settings.Rate),
		}
	}
	return nil
}

// seconds returns a duration as the value of Retry-After, at least one second.
func seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}
