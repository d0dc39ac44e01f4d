package plugins

// minBuffer is the smallest input buffer that the host asks for.
const minBuffer = 4096

// growBuffer asks the guest for an input buffer of need bytes or more: for the next power of two, and if the guest
// refuses that, for need bytes.
func (in *instance) growBuffer(need uint32) *Failure {
	size := uint32(minBuffer)
	for size < need {
		size *= 2 // does not overflow: need is below 2^30
	}
	at, f := in.requestBuffer(size)
	if at == 0 && f == nil && size > need && need > minBuffer {
		size = need
		at, f = in.requestBuffer(size)
	}
	if f != nil {
		return f
	}
	if at == 0 {
		return in.refuse(KindTooLarge, exportBuffer,
			"the module refuses an input buffer of %d bytes%s", size, in.lastLogSuffix())
	}
	if _, ok := in.mem.Read(at, size); !ok {
		return in.fail(KindRange, exportBuffer,
			"the input buffer %#x + %d lies outside the memory of %d bytes", at, size, in.mem.Size())
	}
	in.buffer, in.capacity = at, size
	return nil
}

// requestBuffer calls ev_buffer. A trap there counts as a failure by size.
func (in *instance) requestBuffer(size uint32) (at uint32, f *Failure) {
	in.stack[0] = uint64(size)
	if err := in.bufferFn.CallWithStack(in, in.stack[:1]); err != nil {
		f := in.failure(exportBuffer, err)
		if f.Kind == KindTrap && in.started() {
			f.Kind = KindTooLarge
		}
		return 0, f
	}
	return uint32(in.stack[0]), nil
}

// started reports whether the instance is ready for calls.
func (in *instance) started() bool { return in.buffer != 0 }

// prepare sets the budget, the input and the state of the next call. The input is a followed by b.
func (in *instance) prepare(a string, b []byte, budget *allowance) *Failure {
	need := len(a) + len(b)
	spec := &in.m.spec
	in.begin(spec.budget(need), spec.timeLimit(need))
	if budget != nil {
		in.share(budget)
	}
	in.resultLimit, in.emitLeft = spec.resultLimit(need), spec.emitLimit(need)
	if need > int(in.capacity) {
		if int64(need) > in.m.spec.Memory/2 || need > 1<<29 {
			return in.refuse(KindTooLarge, exportBuffer,
				"an event of %d bytes does not fit into half of the memory of %d bytes; raise memory",
				need, in.m.spec.Memory)
		}
		if f := in.growBuffer(uint32(need)); f != nil {
			return f
		}
	}
	buf, ok := in.mem.Read(in.buffer, uint32(need))
	if !ok {
		return in.fail(KindRange, exportBuffer, "the input buffer lies outside the memory")
	}
	copy(buf, a)
	copy(buf[len(a):], b)
	in.firstLog = ""
	in.document = b
	in.audience = allClasses
	in.emits = in.emits[:0]
	in.own.reset()
	return nil
}

// finish drops the reference to the call's input.
func (in *instance) finish() { in.document = nil }
