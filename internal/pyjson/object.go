package pyjson

import (
	"bytes"
	"slices"
)

// Objects writes objects as Python's json.dumps writes a dict that was made from pairs: the last of several members of
// the same name counts, in the place of the first one. The zero Objects is ready for use; it serves one text at a time.
type Objects struct {
	members []member // of the open objects
}

// member is the place of a member: its name, and its value from value to end.
type member struct{ name, named, value, end int }

// Object is an open object. Each member needs calls of Begin, Named and End.
type Object struct {
	all   *Objects
	start int // of the object in dst
	base  int // the first of its members
	next  member
	index map[string]int // members by name, of a large object
}

// indexAbove is the number of members above which they are looked up in a map.
const indexAbove = 32

// Open begins an object. Objects are closed in the reverse order.
func (s *Objects) Open(dst []byte) ([]byte, Object) {
	return append(dst, '{'), Object{all: s, start: len(dst), base: len(s.members)}
}

// Close ends the object.
func (o *Object) Close(dst []byte) []byte {
	o.all.members = o.all.members[:o.base]
	return append(dst, '}')
}

// Begin begins a member: the caller appends its name.
func (o *Object) Begin(dst []byte) []byte {
	if len(dst) > o.start+1 {
		dst = append(dst, ", "...)
	}
	o.next = member{name: len(dst)}
	return dst
}

// Named ends the name: the caller appends the value.
func (o *Object) Named(dst []byte) []byte {
	o.next.named = len(dst)
	dst = append(dst, ": "...)
	o.next.value = len(dst)
	return dst
}

// End ends a member. If the object has one of the same name, the new value replaces that one's.
func (o *Object) End(dst []byte) []byte {
	o.next.end = len(dst)
	before := o.find(dst)
	if before < 0 {
		o.add(dst)
		return dst
	}
	value := slices.Clone(dst[o.next.value:])
	list := o.all.members[o.base:]
	old := list[before]
	dst = slices.Replace(dst[:o.next.name-len(", ")], old.value, old.end, value...)
	shift := len(value) - (old.end - old.value)
	list[before].end += shift
	for i := before + 1; i < len(list); i++ {
		m := &list[i]
		m.name, m.named, m.value, m.end = m.name+shift, m.named+shift, m.value+shift, m.end+shift
	}
	return dst
}

// find returns the index of the member with the name of the next one, -1 if there is none.
func (o *Object) find(dst []byte) int {
	name := dst[o.next.name:o.next.named]
	if o.index != nil {
		if at, ok := o.index[string(name)]; ok {
			return at
		}
		return -1
	}
	for i, m := range o.all.members[o.base:] {
		if bytes.Equal(dst[m.name:m.named], name) {
			return i
		}
	}
	return -1
}

// add notes the next member.
func (o *Object) add(dst []byte) {
	o.all.members = append(o.all.members, o.next)
	list := o.all.members[o.base:]
	switch {
	case o.index != nil:
		o.index[string(dst[o.next.name:o.next.named])] = len(list) - 1
	case len(list) > indexAbove:
		o.index = make(map[string]int, 4*indexAbove)
		for i, m := range list {
			o.index[string(dst[m.name:m.named])] = i
		}
	}
}
