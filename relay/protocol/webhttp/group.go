package webhttp

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// ItemType is the message type of published items.
const ItemType = "grip.item"

const (
	groupPrefix  = "grip."
	hashedPrefix = "grip-."
)

// Group returns the group of a GRIP channel: "grip.<channel>", if that is a valid group name. Otherwise it is "grip-."
// with the SHA-256 of the channel in base64url, because a channel of GRIP may have any name.
func Group(channel string) string {
	if name := groupPrefix + channel; relay.ValidGroup(name) {
		return name
	}
	sum := sha256.Sum256([]byte(channel))
	return hashedPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// IsGroup reports whether a group can be that of a GRIP channel.
func IsGroup(group string) bool {
	return strings.HasPrefix(group, groupPrefix) || strings.HasPrefix(group, hashedPrefix)
}
