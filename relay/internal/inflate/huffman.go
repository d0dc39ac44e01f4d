package inflate

const (
	maxLength   = 15  // of a code in bits
	maxLiterals = 286 // that may occur
	maxOffsets  = 30
	endOfBlock  = 256
	firstLength = 257 // the first symbol of a repetition
)

// code is a Huffman code. It has no tables to look several bits up at once: to fill them can take a hundred times as
// long as to read the description of the code, which has some ten bytes.
type code struct {
	counts  [maxLength + 1]uint16 // of symbols by length
	symbols [288]uint16           // in the order of their codes
}

// set makes c the code in which each symbol has a length, 0 for a symbol that does not occur. The code must be
// complete, have one symbol, or none.
func (c *code) set(lengths []uint8) error {
	c.counts = [maxLength + 1]uint16{}
	for _, n := range lengths {
		c.counts[n]++
	}
	none := int(c.counts[0]) == len(lengths)
	c.counts[0] = 0
	free := 1 // codes of the current length
	var offsets [maxLength + 1]uint16
	for n := 1; n <= maxLength; n++ {
		free = 2*free - int(c.counts[n])
		if free < 0 {
			return ErrInvalid
		}
		offsets[n] = offsets[n-1] + c.counts[n-1]
	}
	one := c.counts[1] == 1 && free == 1<<(maxLength-1)
	if free > 0 && !one && !none {
		return ErrInvalid
	}
	for symbol, n := range lengths {
		if n != 0 {
			c.symbols[offsets[n]] = uint16(symbol)
			offsets[n]++
		}
	}
	return nil
}

// find returns the symbol whose code the bits begin with, and the length of the code. The length is 0 if there is none.
func (c *code) find(bits uint64) (symbol int, length uint) {
	code, first, index := 0, 0, 0 // first is the first code of the length, and index its place among the symbols
	for length = 1; length <= maxLength; length++ {
		code |= int(bits & 1)
		bits >>= 1
		count := int(c.counts[length])
		if code-first < count {
			return int(c.symbols[index+code-first]), length
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}

// The codes of blocks without a description of their own (RFC 1951 section 3.2.6).
var fixedLiterals, fixedDistances = fixedCodes()

func fixedCodes() (literals, distances code) {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	_ = literals.set(lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	_ = distances.set(lengths[:32])
	return literals, distances
}

// lengthOrder is the order in which the lengths of the code of the lengths are written (RFC 1951 section 3.2.7).
var lengthOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block.
func (d *decoder) readCodes() error {
	sizes, err := d.take(14)
	if err != nil {
		return err
	}
	literals, distances, described := sizes&31+257, sizes>>5&31+1, sizes>>10+4
	if literals > maxLiterals || distances > maxOffsets {
		return ErrInvalid
	}
	var lengths [maxLiterals + maxOffsets]uint8
	for i := range described {
		n, err := d.take(3)
		if err != nil {
			return err
		}
		lengths[lengthOrder[i]] = uint8(n)
	}
	if err := d.literals.set(lengths[:len(lengthOrder)]); err != nil {
		return err
	}
	clear(lengths[:len(lengthOrder)])
	if err := d.readLengths(&d.literals, lengths[:literals+distances]); err != nil {
		return err
	}
	if err := d.literals.set(lengths[:literals]); err != nil {
		return err
	}
	return d.distances.set(lengths[literals : literals+distances])
}

// readLengths reads lengths in a code, in which some symbols repeat a length.
func (d *decoder) readLengths(c *code, lengths []uint8) error {
	for i := 0; i < len(lengths); {
		symbol, err := d.symbol(c)
		if err != nil {
			return err
		}
		if symbol < 16 {
			lengths[i] = uint8(symbol)
			i++
			continue
		}
		repeated, shortest, extra := uint8(0), 3, uint(3)
		switch symbol {
		case 16:
			if i == 0 {
				return ErrInvalid
			}
			repeated, extra = lengths[i-1], 2
		case 18:
			shortest, extra = 11, 7
		}
		more, err := d.take(extra)
		if err != nil || shortest+more > len(lengths)-i {
			return ErrInvalid
		}
		for range shortest + more {
			lengths[i] = repeated
			i++
		}
	}
	return nil
}

// symbol decodes a symbol.
func (d *decoder) symbol(c *code) (int, error) {
	if d.count < maxLength {
		d.fill()
	}
	symbol, length := c.find(d.bits)
	if length == 0 || length > d.count {
		return 0, ErrInvalid
	}
	d.skip(length)
	return symbol, nil
}

// The least value of each length and distance, and how many bits are added (RFC 1951 section 3.2.5).
var (
	leastLength = [...]uint16{
		3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
		227, 258,
	}
	lengthBits = [...]uint8{
		0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
	}
	leastDistance = [...]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
		6145, 8193, 12289, 16385, 24577,
	}
	distanceBits = [...]uint8{
		0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
	}
)

// decode decodes the content of a block with compression (RFC 1951 section 3.2.3).
func (d *decoder) decode(literals, distances *code) error {
	for {
		symbol, err := d.symbol(literals)
		switch {
		case err != nil:
			return err
		case symbol < endOfBlock:
			if len(d.out) == cap(d.out) && !d.reserve(1) {
				return ErrTooLong
			}
			d.out = append(d.out, byte(symbol))
		case symbol == endOfBlock:
			return nil
		default:
			if err := d.repeat(symbol-firstLength, distances); err != nil {
				return err
			}
		}
	}
}

// repeat decodes the rest of a repetition with the i-th length.
func (d *decoder) repeat(i int, distances *code) error {
	if i >= len(leastLength) {
		return ErrInvalid
	}
	more, err := d.take(uint(lengthBits[i]))
	if err != nil {
		return err
	}
	length := int(leastLength[i]) + more
	if i, err = d.symbol(distances); err != nil || i >= len(leastDistance) {
		return ErrInvalid
	}
	if more, err = d.take(uint(distanceBits[i])); err != nil {
		return err
	}
	from := len(d.out) - int(leastDistance[i]) - more
	switch {
	case from < 0:
		return ErrInvalid
	case !d.reserve(length):
		return ErrTooLong
	}
	for length > 0 { // the repetition may overlap its original
		n := min(length, len(d.out)-from)
		d.out = append(d.out, d.out[from:from+n]...)
		length -= n
	}
	return nil
}
