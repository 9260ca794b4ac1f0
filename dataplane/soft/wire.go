package soft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/net/ipv4"
)

const (
	batch = 64
	// maxPacket is the largest packet that a wire carries; what is cut off is
	// dropped as Short.
	maxPacket = 16 << 10
	// socketBuffer is asked of the kernel, which may give less.
	socketBuffer = 4 << 20
)

// Wire is the plane's network side: a UDP socket whose datagrams are packets.
type Wire struct {
	plane *Plane
	conn  *net.UDPConn
	batch *ipv4.PacketConn

	received, sent, failed counter
	closed                 atomic.Bool
}

// WireStats counts packets of a wire. Failed are those that the kernel did not
// take.
type WireStats struct {
	ReceivedPackets, ReceivedOctets uint64
	SentPackets, SentOctets         uint64
	FailedPackets, FailedOctets     uint64
}

// Listen opens the network side at an address.
func Listen(plane *Plane, at netip.AddrPort) (*Wire, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("network wire: %w", err)
	}
	// A smaller buffer than asked for is no error.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	// The batch calls of package ipv4 don't look at the IP version.
	return &Wire{plane: plane, conn: conn, batch: ipv4.NewPacketConn(conn)}, nil
}

// Addr is where the wire listens.
func (w *Wire) Addr() netip.AddrPort { return w.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Close ends Serve.
func (w *Wire) Close() error {
	w.closed.Store(true)
	return w.conn.Close()
}

// Stats returns the wire's counters.
func (w *Wire) Stats() WireStats {
	return WireStats{
		ReceivedPackets: w.received.packets.Load(), ReceivedOctets: w.received.octets.Load(),
		SentPackets: w.sent.packets.Load(), SentOctets: w.sent.octets.Load(),
		FailedPackets: w.failed.packets.Load(), FailedOctets: w.failed.octets.Load(),
	}
}

// Serve forwards packets until Close, and then returns nil. It is to run in one
// goroutine.
func (w *Wire) Serve() error {
	in, out := messages(maxPacket), messages(0)
	for {
		n, err := w.batch.ReadBatch(in, 0)
		if w.closed.Load() {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			var again interface{ Temporary() bool }
			if errors.As(err, &again) && again.Temporary() {
				continue
			}
			return fmt.Errorf("network wire %v: %w", w.Addr(), err)
		}
		w.write(out[:w.decide(in[:n], out)])
	}
}

func messages(size int) []ipv4.Message {
	ms := make([]ipv4.Message, batch)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, size)}
	}
	return ms
}

// decide hands a batch to the plane, and returns how many packets of it are now
// in out.
func (w *Wire) decide(in, out []ipv4.Message) int {
	now := w.plane.clock()
	n, octets := 0, 0
	for i := range in {
		b := in[i].Buffers[0][:in[i].N]
		octets += len(b)
		if v := w.plane.Process(now, b); v.Reason == Forwarded {
			out[n].Buffers[0], out[n].Addr = b, v.Wire
			n++
		}
	}
	w.received.add(len(in), octets)
	return n
}

// write sends a batch. What the kernel refuses is counted and left out.
func (w *Wire) write(out []ipv4.Message) {
	octets, sent := 0, 0
	for len(out) > 0 {
		n, err := w.batch.WriteBatch(out, 0)
		if err != nil {
			n = 0
			w.failed.add(1, len(out[0].Buffers[0]))
			out = out[1:]
		}
		for i := range n {
			octets += len(out[i].Buffers[0])
		}
		sent += n
		out = out[n:]
	}
	w.sent.add(sent, octets)
}

func (c *counter) add(packets, octets int) {
	c.packets.Add(uint64(packets))
	c.octets.Add(uint64(octets))
}
