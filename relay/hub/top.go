package hub

import (
	"slices"
	"sort"
)

// top keeps the first few of many items. before must be a total order.
type top[T any] struct {
	limit  int
	before func(a, b *T) bool
	items  []T
}

// add offers an item, which is kept if among the first.
func (t *top[T]) add(item T) {
	if t.limit <= 0 {
		return
	}
	if n := len(t.items); n == t.limit {
		if !t.before(&item, &t.items[n-1]) {
			return
		}
		t.items = t.items[:n-1]
	}
	at := sort.Search(len(t.items), func(i int) bool { return t.before(&item, &t.items[i]) })
	t.items = slices.Insert(t.items, at, item)
}
