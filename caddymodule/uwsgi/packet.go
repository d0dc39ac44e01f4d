package uwsgi

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// headerSize is the size of a packet's header: the first modifier, the size of the variables, the second modifier.
const headerSize = 4

// packet is a uwsgi packet of variables. The request body follows it on the wire without framing.
type packet struct {
	b []byte
	// full is set once a variable did not fit.
	full bool
}

// errTooLarge rejects a request with variables that do not fit into a packet.
var errTooLarge = errors.New("variables exceed the 65,535 bytes of a uwsgi packet; send fewer or shorter headers")

func newPacket(modifier1, modifier2 uint8) *packet {
	p := &packet{b: make([]byte, headerSize, 2048)}
	p.b[0], p.b[3] = modifier1, modifier2
	return p
}

// add appends a variable, or sets full.
func (p *packet) add(name, value string) {
	if len(p.b)-headerSize+2+len(name)+2+len(value) > math.MaxUint16 {
		p.full = true
		return
	}
	p.b = binary.LittleEndian.AppendUint16(p.b, uint16(len(name)))
	p.b = append(p.b, name...)
	p.b = binary.LittleEndian.AppendUint16(p.b, uint16(len(value)))
	p.b = append(p.b, value...)
}

func (p *packet) addInt(name string, value int64) { p.add(name, strconv.FormatInt(value, 10)) }

// fits reports whether all variables so far and n more bytes fit into the packet.
func (p *packet) fits(n int) bool { return !p.full && len(p.b)-headerSize+n <= math.MaxUint16 }

// bytes returns the encoded packet, with the final size in the header.
func (p *packet) bytes() []byte {
	binary.LittleEndian.PutUint16(p.b[1:3], uint16(len(p.b)-headerSize))
	return p.b
}
