package traffic

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/ipv4"
)

// ReceiveConfig says what to measure.
type ReceiveConfig struct {
	Listen netip.AddrPort // an access wire
	// Conn is used instead of Listen if set; Receive closes it.
	Conn *net.UDPConn
	// Skip is how much time after the first packet does not count, so that
	// what token buckets had saved up is gone. Window is how much time after
	// that does; 0: until the context ends.
	Skip, Window time.Duration
}

// ReceiveReport says what arrived in the window.
type ReceiveReport struct {
	Listen string        `json:"listen"`
	Window time.Duration `json:"window_ns"` // as measured
	Flows  []FlowReport  `json:"flows"`     // by 5-tuple and stream
	// Before is how many packets came before the window; Foreign how many in
	// it were not of this package.
	Before  uint64 `json:"before"`
	Foreign uint64 `json:"foreign"`
}

// Flow returns the report of a flow, all its streams together; zero if nothing
// of it arrived.
func (r *ReceiveReport) Flow(t Tuple) FlowReport {
	sum := FlowReport{Flow: t.String()}
	for _, f := range r.Flows {
		if f.Flow == sum.Flow {
			sum.Packets += f.Packets
			sum.Octets += f.Octets
			sum.Lost += f.Lost
			sum.Reordered += f.Reordered
			sum.Rate += f.Rate
			sum.DSCP = f.DSCP
		}
	}
	return sum
}

// FlowReport says what of one stream arrived. Rate is bit/s of IP packets over
// the window.
type FlowReport struct {
	Flow    string `json:"flow"`
	Stream  uint32 `json:"stream"`
	Packets uint64 `json:"packets"`
	Octets  uint64 `json:"octets"`
	// Lost is how many are missing between the first and the last that
	// arrived; Reordered how many came after a later one, or twice.
	Lost      uint64 `json:"lost"`
	Reordered uint64 `json:"reordered"`
	Rate      uint64 `json:"rate"`
	DSCP      uint8  `json:"dscp"` // of the last
	// Delay from sending to receiving, on one machine's clock.
	DelayMean time.Duration `json:"delay_mean_ns"`
	DelayMax  time.Duration `json:"delay_max_ns"`
}

// Receive measures what arrives until the window is over or the context ends,
// which is no error.
func Receive(ctx context.Context, c ReceiveConfig) (ReceiveReport, error) {
	conn := c.Conn
	if conn == nil {
		var err error
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(c.Listen)); err != nil {
			return ReceiveReport{}, fmt.Errorf("traffic: %w", err)
		}
	}
	defer conn.Close()
	_ = conn.SetReadBuffer(4 << 20) // what the kernel allows
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	m := meter{c: &c, flows: map[streamKey]*stream{}}
	report := ReceiveReport{Listen: conn.LocalAddr().String()}
	pc := ipv4.NewPacketConn(conn)
	ms := make([]ipv4.Message, sendBatch)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, MaxSize)}
	}
	for ctx.Err() == nil {
		n, err := pc.ReadBatch(ms, 0)
		now := time.Now()
		if err != nil {
			if ctx.Err() != nil || m.over(now) {
				break
			}
			return report, fmt.Errorf("traffic: %w", err)
		}
		if m.first.IsZero() {
			m.begin(now)
			if c.Window > 0 {
				_ = conn.SetReadDeadline(m.end)
			}
			if ctx.Err() != nil { // and its deadline has just been overwritten
				break
			}
		}
		if m.over(now) {
			break
		}
		for i := range ms[:n] {
			m.add(now, ms[i].Buffers[0][:ms[i].N])
		}
	}
	m.report(&report, time.Now())
	return report, nil
}

type streamKey struct {
	tuple  Tuple
	stream uint32
}

type stream struct {
	FlowReport
	low, high uint64
	delay     time.Duration
}

type meter struct {
	c           *ReceiveConfig
	first, from time.Time // first packet, beginning of the window
	end         time.Time // zero: none
	flows       map[streamKey]*stream
	before      uint64
	foreign     uint64
}

func (m *meter) begin(now time.Time) {
	m.first, m.from = now, now.Add(m.c.Skip)
	if m.c.Window > 0 {
		m.end = m.from.Add(m.c.Window)
	}
}

func (m *meter) over(now time.Time) bool { return !m.end.IsZero() && !now.Before(m.end) }

func (m *meter) add(now time.Time, b []byte) {
	if now.Before(m.from) {
		m.before++
		return
	}
	var a arrival
	if read(b, &a) != nil {
		m.foreign++
		return
	}
	key := streamKey{a.tuple, a.stream}
	s := m.flows[key]
	if s == nil {
		s = &stream{FlowReport: FlowReport{Flow: a.tuple.String(), Stream: a.stream}, low: a.sequence, high: a.sequence}
		m.flows[key] = s
	} else if a.sequence <= s.high {
		s.Reordered++
	}
	s.low, s.high = min(s.low, a.sequence), max(s.high, a.sequence)
	s.Packets++
	s.Octets += uint64(len(b))
	s.DSCP = a.dscp
	delay := time.Duration(now.UnixNano() - a.sent)
	s.delay += delay
	s.DelayMax = max(s.DelayMax, delay)
}

func (m *meter) report(r *ReceiveReport, now time.Time) {
	r.Before, r.Foreign = m.before, m.foreign
	if !m.first.IsZero() && now.After(m.from) {
		r.Window = now.Sub(m.from)
		if m.c.Window > 0 {
			r.Window = min(r.Window, m.c.Window)
		}
	}
	for _, s := range m.flows {
		if expected := s.high - s.low + 1; expected > s.Packets {
			s.Lost = expected - s.Packets
		}
		s.Rate = bitsPerSecond(s.Octets, r.Window)
		s.DelayMean = s.delay / time.Duration(s.Packets)
		r.Flows = append(r.Flows, s.FlowReport)
	}
	slices.SortFunc(r.Flows, func(a, b FlowReport) int {
		return cmp.Or(cmp.Compare(a.Flow, b.Flow), cmp.Compare(a.Stream, b.Stream))
	})
}
