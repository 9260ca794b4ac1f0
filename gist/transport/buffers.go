package transport

import "sync"

// Buffers for what is to be written are shared by all connections: most have
// nothing to write most of the time.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// keepBuffer is the largest that is used again.
const keepBuffer = 1 << 20

func getBuffer() []byte { return *buffers.Get().(*[]byte) } // nothing else is put there

// giveBack ends the use of a buffer.
func giveBack(b []byte) {
	if cap(b) > 0 && cap(b) <= keepBuffer {
		b = b[:0]
		buffers.Put(&b)
	}
}
