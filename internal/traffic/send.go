package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
)

// SendConfig says what to send.
type SendConfig struct {
	// Wire is the UDP address that takes the packets: the network side of a
	// data plane, or a receiver.
	Wire netip.AddrPort
	Flow Tuple
	// Stream tells several senders of one flow apart.
	Stream uint32
	Rate   uint64 // bit/s of IP packets
	Size   int    // octets of an IP packet; 0: 1400
	DSCP   uint8
	// Duration, 0: until the context ends.
	Duration time.Duration
}

// SendReport says what was sent. Rates are bit/s of IP packets.
type SendReport struct {
	Flow    string        `json:"flow"`
	Packets uint64        `json:"packets"`
	Octets  uint64        `json:"octets"`
	Failed  uint64        `json:"failed"` // packets that the kernel did not take
	Elapsed time.Duration `json:"elapsed_ns"`
	Rate    uint64        `json:"rate"`
	// Skipped is time in which the machine did not let the sender run, beyond
	// what it makes up for by sending more at once.
	Skipped time.Duration `json:"skipped_ns"`
}

const (
	// tick is how often the sender wakes up, on average: where several send at
	// once, none is to come always just before or after another.
	tick = time.Millisecond
	// catchUp is how much lateness is made up for: more would come as a burst
	// that no bucket takes.
	catchUp   = 10 * time.Millisecond
	sendBatch = 64
)

// Send sends a flow at a steady rate, in small bursts about every millisecond, until
// Duration is over or the context ends, which is no error.
func Send(ctx context.Context, c SendConfig) (SendReport, error) {
	if c.Size == 0 {
		c.Size = 1400
	}
	report := SendReport{Flow: c.Flow.String()}
	if c.Rate == 0 {
		return report, errors.New("traffic: a rate of 0, expected bit/s above 0")
	}
	first, err := template(c.Flow, c.DSCP, c.Size)
	if err != nil {
		return report, err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(unspecified(c.Wire.Addr()), 0)))
	if err != nil {
		return report, fmt.Errorf("traffic: %w", err)
	}
	defer conn.Close()
	_ = conn.SetWriteBuffer(4 << 20) // what the kernel allows
	s := sender{conn: ipv4.NewPacketConn(conn), c: &c, report: &report, ms: make([]ipv4.Message, sendBatch)}
	for i := range s.ms {
		s.ms[i] = ipv4.Message{Buffers: [][]byte{append([]byte(nil), first...)}, Addr: net.UDPAddrFromAddrPort(c.Wire)}
	}
	s.run(ctx)
	return report, nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

type sender struct {
	conn   *ipv4.PacketConn
	c      *SendConfig
	report *SendReport
	ms     []ipv4.Message
	next   uint64 // sequence number
}

func (s *sender) run(ctx context.Context) {
	p := pacer{rate: s.c.Rate, size: s.c.Size}
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		elapsed := time.Since(start)
		over := ctx.Err() != nil || s.c.Duration > 0 && elapsed >= s.c.Duration
		if s.c.Duration > 0 {
			elapsed = min(elapsed, s.c.Duration)
		}
		if ctx.Err() == nil {
			s.send(p.due(elapsed))
		}
		if over {
			s.finish(elapsed, p.skipped)
			return
		}
		timer.Reset(tick/2 + rand.N(tick))
	}
}

func (s *sender) finish(elapsed, skipped time.Duration) {
	r := s.report
	r.Elapsed, r.Skipped = elapsed, skipped
	r.Octets = r.Packets * uint64(s.c.Size)
	r.Rate = bitsPerSecond(r.Octets, elapsed)
}

func bitsPerSecond(octets uint64, over time.Duration) uint64 {
	if over <= 0 {
		return 0
	}
	return uint64(float64(octets) * 8 / over.Seconds())
}

// send sends n packets.
func (s *sender) send(n int) {
	now := time.Now().UnixNano()
	for n > 0 {
		ms := s.ms[:min(n, len(s.ms))]
		for i := range ms {
			stamp(ms[i].Buffers[0], s.c.Stream, s.next, now)
			s.next++
		}
		n -= len(ms)
		for len(ms) > 0 {
			sent, err := s.conn.WriteBatch(ms, 0)
			if err != nil {
				sent = 0
				s.report.Failed++
				ms = ms[1:]
			}
			s.report.Packets += uint64(sent)
			ms = ms[sent:]
		}
	}
}

// pacer says how many packets are due, exactly over any length of time.
type pacer struct {
	rate    uint64 // bit/s
	size    int    // octets
	sent    uint64 // packets handed out
	skipped time.Duration
}

// due returns how many packets are to be sent by a time since the start.
func (p *pacer) due(elapsed time.Duration) int {
	bits := float64(p.size) * 8
	total := uint64(float64(p.rate) * (elapsed - p.skipped).Seconds() / bits)
	if total <= p.sent {
		return 0
	}
	n := total - p.sent
	if most := uint64(float64(p.rate)*catchUp.Seconds()/bits) + 1; n > most {
		p.skipped += time.Duration(float64(n-most) * bits / float64(p.rate) * float64(time.Second))
		n = most
	}
	p.sent += n
	return int(n)
}
