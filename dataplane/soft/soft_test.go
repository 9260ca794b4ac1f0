package soft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/interqos/interqos/dataplane"
)

// ip builds an IP packet with a UDP header, of size octets in all.
func ip(src, dst string, srcPort, dstPort uint16, dscp uint8, size int) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	b := make([]byte, size)
	header := 20
	if s.Is4() {
		b[0], b[1] = 0x45, dscp<<2|1 // ECN bits must stay as they are
		binary.BigEndian.PutUint16(b[2:], uint16(size))
		b[8], b[9] = 64, protoUDP
		copy(b[12:], s.AsSlice())
		copy(b[16:], d.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^sum16(b[:20]))
	} else {
		header = 40
		b[0], b[1] = 0x60|dscp>>2, dscp<<6|0x15
		binary.BigEndian.PutUint16(b[4:], uint16(size-40))
		b[6], b[7] = protoUDP, 64
		copy(b[8:], s.AsSlice())
		copy(b[24:], d.AsSlice())
	}
	binary.BigEndian.PutUint16(b[header:], srcPort)
	binary.BigEndian.PutUint16(b[header+2:], dstPort)
	binary.BigEndian.PutUint16(b[header+4:], uint16(size-header))
	return b
}

const mbit = 1e6 / 8

func subscriber1() dataplane.Subscriber {
	return dataplane.Subscriber{ID: dataplane.ID{1}, Name: "alice",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.3.0.10/32"), netip.MustParsePrefix("2001:db8:3::/64")},
		Wire:     netip.MustParseAddrPort("127.0.0.1:9"),
		Policer:  dataplane.Policer{CIR: 40 * mbit, CBS: 64000, PIR: 40 * mbit, PBS: 64000},
		Mark:     dataplane.Marking{Set: true}, Excess: dataplane.ExcessForward}
}

func flow1() dataplane.Flow {
	return dataplane.Flow{ID: dataplane.ID{2}, Subscriber: dataplane.ID{1},
		Matches: []dataplane.Match{{Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
			HasProtocol: true, Protocol: protoUDP, HasDestinationPort: true, DestinationPort: 5001}},
		Policer: dataplane.Policer{CIR: 20 * mbit, CBS: 30000, PIR: 20 * mbit, PBS: 30000},
		Mark:    dataplane.Marking{Set: true, DSCP: 46}}
}

type rig struct {
	testing.TB
	*Plane
	now int64
}

func newRig(t testing.TB) *rig {
	r := &rig{TB: t}
	r.Plane = New(func() int64 { return r.now })
	return r
}

func (r *rig) update(u dataplane.Update) error {
	c := r.Begin()
	if err := c.Update(u); err != nil {
		c.Abort()
		return err
	}
	return c.Commit()
}

func (r *rig) must(u dataplane.Update) {
	r.Helper()
	if err := r.update(u); err != nil {
		r.Fatal(err)
	}
}

// offer sends constant flows, each at a rate in bit/s, in 1400-octet packets for a
// time in ns, and returns what of each was forwarded, bit/s.
func (r *rig) offer(length int64, flows map[string]offered) map[string]float64 {
	names := make([]string, 0, len(flows))
	for name := range flows {
		names = append(names, name)
	}
	slices.Sort(names)
	sent, passed := map[string]int64{}, map[string]int64{}
	b := make([]byte, 1400)
	for end := r.now + length; r.now < end; r.now += 10_000 {
		for _, name := range names {
			f := flows[name]
			for due := int64(f.rate * float64(r.now-(end-length)) / 1e9 / (1400 * 8)); sent[name] <= due; sent[name]++ {
				copy(b, f.packet)
				if r.Process(r.now, b).Reason == Forwarded {
					passed[name]++
				}
			}
		}
	}
	rates := map[string]float64{}
	for name := range flows {
		rates[name] = float64(passed[name]*1400*8) * 1e9 / float64(length)
	}
	return rates
}

type offered struct {
	rate   float64
	packet []byte
}

// The reason for all of this: a 20 Mbit/s flow beside one that offers five times
// the subscriber's 40 Mbit/s is starved, and gets its rate once it is reserved;
// the subscriber's total stays within its rate.
func TestReservedFlowGetsItsRate(t *testing.T) {
	r := newRig(t)
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}})
	load := map[string]offered{
		"reserved": {20e6, ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 1400)},
		"greedy":   {200e6, ip("10.1.0.66", "10.3.0.10", 4000, 80, 0, 1400)},
	}
	const length = 3e9
	before := r.offer(length, load)
	if before["reserved"] > 0.5*20e6 {
		t.Errorf("without a reservation the flow got %.1f Mbit/s", before["reserved"]/1e6)
	}
	r.must(dataplane.Update{PutFlows: []dataplane.Flow{flow1()}})
	after := r.offer(length, load)
	if after["reserved"] < 0.999*20e6 {
		t.Errorf("reserved, it got %.3f Mbit/s of 20", after["reserved"]/1e6)
	}
	total := after["reserved"] + after["greedy"]
	const bound = 40e6 + (64000+30000)*8/(length/1e9)
	if total > bound || total < 0.999*40e6 {
		t.Errorf("the subscriber got %.3f Mbit/s, expected 40 and at most %.3f", total/1e6, bound/1e6)
	}
	t.Logf("before: %.2f and %.2f Mbit/s; after: %.2f and %.2f", before["reserved"]/1e6, before["greedy"]/1e6, after["reserved"]/1e6, after["greedy"]/1e6)
	// What a reserved flow leaves is best effort's.
	load["reserved"] = offered{5e6, load["reserved"].packet}
	if less := r.offer(length, load); less["greedy"] < 0.99*35e6 {
		t.Errorf("the flow used 5 Mbit/s, best effort got %.3f of 35", less["greedy"]/1e6)
	}
	// And when it is gone, all is as before.
	r.must(dataplane.Update{DeleteFlows: []dataplane.ID{{2}}})
	if again := r.offer(length, load); again["greedy"] < 0.9*40e6 {
		t.Errorf("released, best effort got %.3f Mbit/s of 40", again["greedy"]/1e6)
	}
	if n := len(r.Flows()); n != 0 {
		t.Errorf("%d flows in the table", n)
	}
}

// A flow that sends more than it reserved gets its rate, and of its excess what
// best effort leaves; nothing of it if it is to be dropped.
func TestReservedFlowGetsNoMore(t *testing.T) {
	r := newRig(t)
	f := flow1()
	f.Policer.PIR, f.Policer.PBS = 30*mbit, 30000
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{f}})
	flow := offered{100e6, ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 1400)}
	alone := r.offer(3e9, map[string]offered{"flow": flow})
	if got := alone["flow"]; got < 0.999*40e6 || got > 1.01*40e6 {
		t.Errorf("alone it got %.3f Mbit/s, want what its subscriber has, 40", got/1e6)
	}
	beside := r.offer(3e9, map[string]offered{"flow": flow, "greedy": {1000e6, ip("10.1.0.66", "10.3.0.10", 4000, 80, 0, 1400)}})
	if got := beside["flow"]; got < 0.999*20e6 || got > 22e6 {
		t.Errorf("beside best effort it got %.3f Mbit/s, want its rate of 20 and little more", got/1e6)
	}
	f.Excess = dataplane.ExcessDrop
	r.must(dataplane.Update{PutFlows: []dataplane.Flow{f}})
	dropped := r.offer(3e9, map[string]offered{"flow": flow})
	if got := dropped["flow"]; got < 0.999*20e6 || got > 1.005*20e6 {
		t.Errorf("with its excess dropped it got %.3f Mbit/s, want 20", got/1e6)
	}
	c, _ := r.Counters(f.ID)
	if c.Dropped.Packets < c.Yellow.Packets/2 || c.Green.Packets == 0 || c.Red.Packets == 0 {
		t.Errorf("counters %+v", c)
	}
}

// RFC 5975 §5.2.11: what becomes of "traffic not covered by the <TMOD>
// parameter", of a flow that sends 30 Mbit/s, has reserved 20 and no peak rate of
// its own. Alone, the excess finds room; beside a greedy flow it does not, and
// never takes more of the subscriber's rate than best effort may.
func TestExcessTreatment(t *testing.T) {
	for name, test := range map[string]struct {
		excess dataplane.Excess
		dscp   uint8
		want   map[uint8]float64 // bit/s by DSCP, alone
	}{
		"drop":        {dataplane.ExcessDrop, 0, map[uint8]float64{46: 20e6}},
		"re-mark":     {dataplane.ExcessRemark, 14, map[uint8]float64{46: 20e6, 14: 10e6}},
		"no metering": {dataplane.ExcessForward, 0, map[uint8]float64{46: 30e6}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			f := flow1()
			f.Excess, f.ExcessDSCP = test.excess, test.dscp
			r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{f}})
			reserved := ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 1400)
			const length = 3e9
			// A bucket of 30,000 octets and a few packets.
			near := func(got, want float64) bool { return math.Abs(got-want) <= (30000+5*1400)*8/(length/1e9) }
			got := r.byDSCP(length, 30e6, reserved, 0, nil)
			if len(got) != len(test.want) {
				t.Errorf("alone: %v", got)
			}
			for dscp, want := range test.want {
				if !near(got[dscp], want) {
					t.Errorf("alone, DSCP %d: %.3f Mbit/s, want %.0f", dscp, got[dscp]/1e6, want/1e6)
				}
			}
			greedy := ip("10.1.0.66", "10.3.0.10", 4000, 80, 0, 1400)
			if got = r.byDSCP(length, 30e6, reserved, 1000e6, greedy); got[46] < 0.999*20e6 || got[46] > 21e6 || got[14] > 1e6 {
				t.Errorf("beside best effort: %v, want 20 Mbit/s of DSCP 46 and hardly any excess", got)
			}
			if total := got[0] + got[14] + got[46]; total > 40e6+(64000+30000)*8/(length/1e9) {
				t.Errorf("the subscriber got %.3f Mbit/s", total/1e6)
			}
		})
	}
}

// byDSCP is offer for two flows, with what was forwarded by DSCP.
func (r *rig) byDSCP(length int64, rate float64, packet []byte, otherRate float64, other []byte) map[uint8]float64 {
	octets := map[uint8]int64{}
	b := make([]byte, 1400)
	var sent [2]int64
	start := r.now
	for ; r.now < start+length; r.now += 10_000 {
		for i, f := range []offered{{rate, packet}, {otherRate, other}} {
			for due := int64(f.rate * float64(r.now-start) / 1e9 / (1400 * 8)); sent[i] < due; sent[i]++ {
				copy(b, f.packet)
				if r.Process(r.now, b).Reason == Forwarded {
					octets[b[1]>>2] += 1400
				}
			}
		}
	}
	rates := map[uint8]float64{}
	for dscp, n := range octets {
		rates[dscp] = float64(n*8) * 1e9 / float64(length)
	}
	return rates
}

// RFC 5975 §5.2.11: above a flow's peak rate is not covered by the TMOD either,
// and has the same treatment: here what comes faster than PIR is re-marked,
// although the committed bucket has room. RFC 2698 §5 is only an example: "a
// service may discard all red packets".
func TestAboveThePeakIsExcess(t *testing.T) {
	r := newRig(t)
	f := flow1()
	f.Policer = dataplane.Policer{CIR: 10 * mbit, CBS: 30000, PIR: 20 * mbit, PBS: 1500}
	f.ExcessDSCP = 14
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{f}})
	for n, want := range []struct {
		color dataplane.Color
		dscp  uint8
	}{{dataplane.Green, 46}, {dataplane.Red, 14}} {
		b := ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 1400)
		if v := r.Process(0, b); v.Reason != Forwarded || v.Color != want.color || b[1]>>2 != want.dscp {
			t.Errorf("packet %d: %v, %v, DSCP %d, want %v, DSCP %d", n, v.Reason, v.Color, b[1]>>2, want.color, want.dscp)
		}
	}
}

// The bound that the package promises, over any time, for any traffic of any
// admitted flows: PIR·t + PBS + the sum of the flows' CBS.
func TestSubscriberStaysWithinItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(0)
		p := New(func() int64 { return now })
		s := subscriber1()
		s.Policer = dataplane.Policer{CIR: 50000, CBS: 3000, PIR: 50000 + rapid.Uint64Range(0, 50000).Draw(t, "more"), PBS: 4000}
		var burst, reserved uint64
		u := dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}}
		packets := [][]byte{ip("10.1.0.66", "10.3.0.10", 4000, 80, 0, 1000)}
		for n := range rapid.IntRange(1, 4).Draw(t, "flows") {
			f := flow1()
			f.ID = dataplane.ID{9, byte(n)}
			f.Matches[0].DestinationPort = uint16(n)
			f.Policer.CIR = rapid.Uint64Range(0, 50000-reserved).Draw(t, "cir")
			f.Policer.PIR = f.Policer.CIR + rapid.Uint64Range(0, 50000).Draw(t, "more")
			f.Policer.CBS = rapid.Uint64Range(1, 5000).Draw(t, "cbs")
			f.Policer.PBS = f.Policer.CBS
			f.Excess = dataplane.Excess(rapid.IntRange(0, 2).Draw(t, "excess"))
			reserved += f.Policer.CIR
			burst += f.Policer.CBS
			u.PutFlows = append(u.PutFlows, f)
			packets = append(packets, ip("10.1.0.10", "10.3.0.10", 4000, uint16(n), 0, 1000))
		}
		c := p.Begin()
		if err := c.Update(u); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
		type passed struct{ at, octets int64 }
		var log []passed
		for range rapid.IntRange(1, 200).Draw(t, "packets") {
			now += rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1e8)).Draw(t, "gap")
			b := slices.Clone(rapid.SampledFrom(packets).Draw(t, "packet"))
			if p.Process(now, b).Reason == Forwarded {
				log = append(log, passed{now, int64(len(b))})
			}
		}
		for i := range log {
			var sum int64
			for _, one := range log[i:] {
				sum += one.octets
				bound := float64(s.Policer.PIR)*float64(one.at-log[i].at)/1e9 + float64(s.Policer.PBS+burst)
				if float64(sum) > bound+1 {
					t.Fatalf("%d octets in %d ns, at most %.0f", sum, one.at-log[i].at, bound)
				}
			}
		}
		sub := p.tab.Load()
		entry, _ := sub.subs.get(s.ID)
		if _, tp := entry.account.meter.Tokens(); tp < -int64(burst) {
			t.Fatalf("debt %d, at most %d", -tp, burst)
		}
	})
}

// RFC 2474 §3: the DSCP is six bits of the octet; the other two stay as they are.
func TestMarking(t *testing.T) {
	r := newRig(t)
	f := flow1()
	f6 := flow1()
	f6.ID = dataplane.ID{3}
	f6.Policer.CIR = 10 * mbit
	f6.Matches = []dataplane.Match{{Destination: netip.MustParsePrefix("2001:db8:3::10/128")}}
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{f, f6}})
	for name, test := range map[string]struct {
		packet []byte
		want   uint8
	}{
		"reserved":               {ip("10.1.0.10", "10.3.0.10", 4000, 5001, 10, 100), 46},
		"reserved, IPv6":         {ip("2001:db8:1::10", "2001:db8:3::10", 1, 2, 10, 100), 46},
		"nobody reserved it":     {ip("10.1.0.11", "10.3.0.10", 4000, 5001, 46, 100), 0},
		"nobody reserved, IPv6":  {ip("2001:db8:1::10", "2001:db8:3::11", 1, 2, 46, 100), 0},
		"has the right DSCP now": {ip("10.1.0.10", "10.3.0.10", 4000, 5001, 46, 100), 46},
	} {
		was := slices.Clone(test.packet)
		if v := r.Process(0, test.packet); v.Reason != Forwarded {
			t.Errorf("%s: %v", name, v.Reason)
		}
		var p packet
		if reason := parse(test.packet, &p); reason != Forwarded || p.dscp != test.want {
			t.Errorf("%s: DSCP %d (%v), want %d and a good checksum", name, p.dscp, reason, test.want)
		}
		// Nothing but the DSCP and the checksum has changed.
		setDSCP(was, test.want)
		if !slices.Equal(was, test.packet) {
			t.Errorf("%s: %x", name, test.packet)
		}
	}
}

// Re-marking keeps the IPv4 header's checksum right, whatever it was: every carry
// is counted. The checksum is right if the words add up to a multiple of 65535.
func TestChecksumFollowsTheMark(t *testing.T) {
	b := ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 60)
	for id := range 1 << 16 {
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^sum16(b[:20]))
		for _, dscp := range []uint8{46, 0, 63, 10} {
			setDSCP(b, dscp)
			var words uint64
			for i := 0; i < 20; i += 2 {
				words += uint64(binary.BigEndian.Uint16(b[i:]))
			}
			if words%65535 != 0 || sum16(b[:20]) != 65535 || b[1] != dscp<<2|1 {
				t.Fatalf("id %d, DSCP %d: header %x", id, dscp, b[:20])
			}
		}
	}
}

// A flow whose policer knows colors gives a packet no better one than it had.
func TestColorAwareFlow(t *testing.T) {
	r := newRig(t)
	f := flow1()
	f.ColorAware, f.Mark, f.Excess = true, dataplane.Marking{}, dataplane.ExcessDrop
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{f}})
	for dscp, want := range map[uint8]dataplane.Color{10: dataplane.Green, 12: dataplane.Yellow, 14: dataplane.Red} {
		if v := r.Process(0, ip("10.1.0.10", "10.3.0.10", 4000, 5001, dscp, 100)); v.Color != want || (v.Reason == Policed) != (want != dataplane.Green) {
			t.Errorf("DSCP %d: %v, %v, want %v", dscp, v.Color, v.Reason, want)
		}
	}
}

func TestMostSpecificMatchWins(t *testing.T) {
	r := newRig(t)
	u := dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}}
	host, any := netip.MustParsePrefix("10.1.0.10/32"), netip.Prefix{}
	dst := netip.MustParsePrefix("10.3.0.10/32")
	for n, m := range []dataplane.Match{
		0: {Destination: dst},
		1: {Source: netip.MustParsePrefix("10.1.0.0/16"), Destination: dst},
		2: {Source: host, Destination: dst},
		3: {Source: any, Destination: dst, HasProtocol: true, Protocol: protoUDP, HasDestinationPort: true, DestinationPort: 5001},
		4: {Source: host, Destination: dst, HasProtocol: true, Protocol: protoUDP, HasDestinationPort: true, DestinationPort: 5001},
		5: {Source: host, Destination: dst, HasProtocol: true, Protocol: protoUDP, HasDestinationPort: true, DestinationPort: 5001, HasSourcePort: true, SourcePort: 4000},
	} {
		f := flow1()
		f.ID, f.Policer.CIR, f.Matches = dataplane.ID{8, byte(n)}, 1, []dataplane.Match{m}
		u.PutFlows = append(u.PutFlows, f)
	}
	r.must(u)
	for _, test := range []struct {
		packet []byte
		want   int
	}{
		{ip("10.9.0.1", "10.3.0.10", 1, 2, 0, 60), 0},
		{ip("10.1.9.9", "10.3.0.10", 1, 2, 0, 60), 1},
		{ip("10.1.0.10", "10.3.0.10", 1, 2, 0, 60), 2},
		{ip("10.9.0.1", "10.3.0.10", 1, 5001, 0, 60), 3},
		{ip("10.1.0.10", "10.3.0.10", 1, 5001, 0, 60), 4},
		{ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 60), 5},
	} {
		var before []uint64
		for n := range u.PutFlows {
			c, _ := r.Counters(dataplane.ID{8, byte(n)})
			before = append(before, c.Green.Packets+c.Yellow.Packets+c.Red.Packets)
		}
		r.Process(0, test.packet)
		for n := range u.PutFlows {
			c, _ := r.Counters(dataplane.ID{8, byte(n)})
			if got := c.Green.Packets + c.Yellow.Packets + c.Red.Packets - before[n]; (got == 1) != (n == test.want) {
				t.Errorf("packet for match %d counted %d times by match %d", test.want, got, n)
			}
		}
	}
}

// RFC 5971 §5.8.1.1: a flow's addresses are those of nodes also where its
// prefixes are shorter; what classifies is the prefix.
func TestMatchIsMasked(t *testing.T) {
	sub := subscriber1()
	sub.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}
	f := flow1()
	m := &f.Matches[0]
	m.Source, m.Destination = netip.MustParsePrefix("10.1.0.10/24"), netip.MustParsePrefix("10.3.0.10/28")
	r := newRig(t)
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{sub}, PutFlows: []dataplane.Flow{f}})
	same := f
	same.ID = dataplane.ID{77}
	same.Policer.CIR = 1000
	same.Matches = []dataplane.Match{*m}
	same.Matches[0].Source, same.Matches[0].Destination = m.Source.Masked(), m.Destination.Masked()
	if err := r.update(dataplane.Update{PutFlows: []dataplane.Flow{same}}); !errors.Is(err, dataplane.ErrConflict) {
		t.Errorf("the masked match beside it: %v, want it to be the same match", err)
	}
	for _, test := range []struct {
		from, to string
		want     uint64
	}{{"10.1.0.99", "10.3.0.15", 1}, {"10.1.0.10", "10.3.0.10", 1}, {"10.1.1.10", "10.3.0.10", 0}, {"10.1.0.10", "10.3.0.16", 0}} {
		before, _ := r.Counters(f.ID)
		r.Process(0, ip(test.from, test.to, m.SourcePort, m.DestinationPort, 0, 60))
		after, _ := r.Counters(f.ID)
		if got := after.Green.Packets - before.Green.Packets; got != test.want {
			t.Errorf("%s to %s: counted %d times, want %d", test.from, test.to, got, test.want)
		}
	}
}

func TestUpdatesAreRefusedWhole(t *testing.T) {
	sub2 := subscriber1()
	sub2.ID, sub2.Name, sub2.Prefixes = dataplane.ID{7}, "bob", []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}
	flow := func(change func(*dataplane.Flow)) dataplane.Update {
		f := flow1()
		f.ID, f.Policer.CIR = dataplane.ID{5}, 1000
		f.Matches[0].DestinationPort = 99
		change(&f)
		return dataplane.Update{PutFlows: []dataplane.Flow{f}}
	}
	for name, test := range map[string]struct {
		u    dataplane.Update
		want error
	}{
		"more than the subscriber's rate": {flow(func(f *dataplane.Flow) { f.Policer.CIR = 20*mbit + 1; f.Policer.PIR = f.Policer.CIR }), dataplane.ErrOverCommitted},
		"no subscriber":                   {flow(func(f *dataplane.Flow) { f.Subscriber = dataplane.ID{99} }), dataplane.ErrNotFound},
		"somebody else's address":         {flow(func(f *dataplane.Flow) { f.Matches[0].Destination = netip.MustParsePrefix("10.3.0.11/32") }), dataplane.ErrInvalid},
		"nobody's address":                {flow(func(f *dataplane.Flow) { f.Matches[0].Destination = netip.MustParsePrefix("10.4.0.11/32") }), dataplane.ErrInvalid},
		"any destination":                 {flow(func(f *dataplane.Flow) { f.Matches[0].Destination = netip.Prefix{} }), dataplane.ErrInvalid},
		"two versions":                    {flow(func(f *dataplane.Flow) { f.Matches[0].Source = netip.MustParsePrefix("::1/128") }), dataplane.ErrInvalid},
		"another flow's match":            {flow(func(f *dataplane.Flow) { f.Matches[0].DestinationPort = 5001 }), dataplane.ErrConflict},
		"no match":                        {flow(func(f *dataplane.Flow) { f.Matches = nil }), dataplane.ErrInvalid},
		"no burst":                        {flow(func(f *dataplane.Flow) { f.Policer.CBS = 0 }), dataplane.ErrInvalid},
		"delete a subscriber with flows":  {dataplane.Update{DeleteSubscribers: []dataplane.ID{{1}}}, dataplane.ErrConflict},
		"subscriber's rate below its flows'": {func() dataplane.Update {
			s := subscriber1()
			s.Policer.CIR = 19 * mbit
			return dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}}
		}(), dataplane.ErrOverCommitted},
		"subscriber leaves a flow's address": {func() dataplane.Update {
			s := subscriber1()
			s.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
			return dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}}
		}(), dataplane.ErrInvalid},
		"another subscriber's prefix": {func() dataplane.Update {
			s := sub2
			s.Prefixes = subscriber1().Prefixes
			return dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}}
		}(), dataplane.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1(), sub2}, PutFlows: []dataplane.Flow{flow1()}})
			before := fmt.Sprintf("%+v %+v", r.Subscribers(), r.Flows())
			u := test.u
			u.PutFlows = append([]dataplane.Flow{}, u.PutFlows...)
			if err := r.update(u); !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if after := fmt.Sprintf("%+v %+v", r.Subscribers(), r.Flows()); after != before {
				t.Errorf("the table changed:\n%s\n%s", before, after)
			}
		})
	}
}

// Updates of a change become visible together, at Commit; one that is refused
// takes no other with it; an entry that gets new contents keeps its counters.
func TestChange(t *testing.T) {
	r := newRig(t)
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{flow1()}})
	pkt := func() []byte { return ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 1400) }
	r.Process(0, pkt())
	c := r.Begin()
	f := flow1()
	f.Mark.DSCP = 34
	second := flow1()
	second.ID, second.Matches[0].DestinationPort = dataplane.ID{4}, 5002
	if err := c.Update(dataplane.Update{PutFlows: []dataplane.Flow{f}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(dataplane.Update{PutFlows: []dataplane.Flow{{ID: dataplane.ID{5}}}}); err == nil {
		t.Fatal("an empty flow was taken")
	}
	if err := c.Update(dataplane.Update{PutFlows: []dataplane.Flow{second}}); err != nil {
		t.Fatal(err)
	}
	b := pkt()
	r.Process(0, b)
	if b[1]>>2 != 46 || len(r.Flows()) != 1 {
		t.Errorf("DSCP %d and %d flows before Commit", b[1]>>2, len(r.Flows()))
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	b = pkt()
	r.Process(0, b)
	if b[1]>>2 != 34 || len(r.Flows()) != 2 {
		t.Errorf("DSCP %d and %d flows after Commit", b[1]>>2, len(r.Flows()))
	}
	if c, _ := r.Counters(f.ID); c.Green.Packets != 3 || c.Green.Octets != 3*1400 {
		t.Errorf("counters %+v", c)
	}
	c = r.Begin()
	if err := c.Update(dataplane.Update{DeleteFlows: []dataplane.ID{f.ID}}); err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if len(r.Flows()) != 2 {
		t.Error("an aborted change has changed something")
	}
}

// A new version of a subscriber takes its flows along.
func TestSubscriberMoves(t *testing.T) {
	r := newRig(t)
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{flow1()}})
	s := subscriber1()
	s.Wire = netip.MustParseAddrPort("127.0.0.2:10")
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}})
	if v := r.Process(0, ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 100)); v.Wire.AddrPort() != s.Wire {
		t.Errorf("sent to %v, want %v", v.Wire, s.Wire)
	}
	r.must(dataplane.Update{DeleteFlows: []dataplane.ID{{2}}, DeleteSubscribers: []dataplane.ID{{1}}})
	if v := r.Process(0, ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 100)); v.Reason != NoSubscriber {
		t.Errorf("%v after the subscriber was deleted", v.Reason)
	}
	if got := r.Drops(NoSubscriber); got != (dataplane.Count{Packets: 1, Octets: 100}) {
		t.Errorf("counted %+v", got)
	}
}

func TestBadPackets(t *testing.T) {
	v4 := func(change func([]byte)) []byte {
		b := ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 100)
		change(b)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^sum16(b[:20]))
		return b
	}
	v6 := func(change func([]byte)) []byte {
		b := ip("2001:db8:1::10", "2001:db8:3::10", 4000, 5001, 0, 100)
		change(b)
		return b
	}
	r := newRig(t)
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}})
	for name, test := range map[string]struct {
		packet []byte
		want   Reason
	}{
		"empty":              {nil, Short},
		"IPv4 header cut":    {v4(func([]byte) {})[:19], Short},
		"IPv4 cut":           {v4(func([]byte) {})[:99], Short},
		"IPv4 with more":     {append(v4(func([]byte) {}), 0), Trailing},
		"IPv4 length":        {v4(func(b []byte) { b[3] = 19 }), Short},
		"IHL 4":              {v4(func(b []byte) { b[0] = 0x44 }), Short},
		"options":            {v4(func(b []byte) { b[0] = 0x46 }), Options},
		"fragment":           {v4(func(b []byte) { b[7] = 1 }), Fragment},
		"first fragment":     {v4(func(b []byte) { b[6] = 0x20 }), Fragment},
		"don't fragment":     {v4(func(b []byte) { b[6] = 0x40 }), Forwarded},
		"no ports":           {v4(func(b []byte) { b[3] = 23 })[:23], Short},
		"checksum":           {func() []byte { b := v4(func([]byte) {}); b[11]++; return b }(), BadChecksum},
		"version 5":          {v4(func(b []byte) { b[0] = 0x55 }), BadVersion},
		"ICMP has no ports":  {v4(func(b []byte) { b[9] = 1; b[3] = 21 })[:21], Forwarded},
		"IPv6 header cut":    {v6(func([]byte) {})[:39], Short},
		"IPv6 cut":           {v6(func([]byte) {})[:99], Short},
		"IPv6 with more":     {append(v6(func([]byte) {}), 0), Trailing},
		"IPv6 fragment":      {v6(func(b []byte) { b[6] = 44 }), Fragment},
		"IPv6 hop-by-hop":    {v6(func(b []byte) { b[6] = 0 }), Options},
		"IPv6 routing":       {v6(func(b []byte) { b[6] = 43 }), Options},
		"nobody's":           {ip("10.1.0.10", "10.3.0.11", 1, 2, 0, 60), NoSubscriber},
		"nobody's, IPv6":     {ip("2001:db8:1::10", "2001:db8:4::10", 1, 2, 0, 60), NoSubscriber},
		"within every limit": {v4(func([]byte) {}), Forwarded},
	} {
		before := r.Drops(test.want)
		if v := r.Process(0, test.packet); v.Reason != test.want {
			t.Errorf("%s: %v, want %v", name, v.Reason, test.want)
		}
		if got := r.Drops(test.want).Packets - before.Packets; test.want != Forwarded && got != 1 {
			t.Errorf("%s: counted %d times", name, got)
		}
	}
}

func FuzzProcess(f *testing.F) {
	f.Add(ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 100))
	f.Add(ip("2001:db8:1::10", "2001:db8:3::10", 4000, 5001, 46, 100))
	f.Add(ip("10.1.0.10", "10.3.0.10", 4000, 5001, 0, 28)[:20])
	r := newRig(f)
	flow := flow1()
	flow.Policer.CIR, flow.Policer.PIR = 40*mbit, 40*mbit
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{subscriber1()}, PutFlows: []dataplane.Flow{flow}})
	now := int64(0)
	f.Fuzz(func(t *testing.T, b []byte) {
		now += 1e9 // buckets are full again
		var before, after packet
		first := parse(b, &before)
		v := r.Process(now, b)
		if first != Forwarded && v.Reason != first {
			t.Fatalf("parsed as %v, processed as %v", first, v.Reason)
		}
		// What is forwarded is as good a packet as before, but for the DSCP.
		if second := parse(b, &after); second != first || before.key != after.key {
			t.Fatalf("%v %+v became %v %+v", first, before, second, after)
		}
		if v.Reason == Forwarded && v.Wire == nil {
			t.Fatal("forwarded to nowhere")
		}
	})
}
