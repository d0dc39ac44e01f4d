package redis

import "hash/crc32"

// ringIndex says which of n hosts keeps value: groups by their name, messages by the receiver's
// (channels_redis 4, consistent hashing by the low 12 bits of a CRC-32).
func ringIndex(value string, n int) int {
	if n == 1 {
		return 0
	}
	return int(float64(crc32.ChecksumIEEE([]byte(value))&0xfff) / (4096 / float64(n)))
}
