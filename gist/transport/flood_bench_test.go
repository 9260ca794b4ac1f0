package transport

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// What BenchmarkFlood offers.
const (
	floodQueries  = 1_000_000
	floodRate     = 100_000 // a second
	floodSessions = 1000    // live; each has a message a second answered
	floodRepeat   = 500 * time.Millisecond
)

// floodFrom sends floodQueries Queries at floodRate, or as fast as the machine can,
// each of another session and from one of half a million addresses that are not
// its own: all of 127/8 is the host's. Answers come back to it, for it is bound to
// any address.
type floodFrom struct {
	udp      *UDP
	answered atomic.Int64
	took     time.Duration
	cpu      time.Duration
	refused  int64 // by the socket
}

func newFloodFrom(b *testing.B) *floodFrom {
	f := &floodFrom{}
	var err error
	f.udp, err = ListenUDP(UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}, Handler: func(evs []gist.Event) { f.answered.Add(int64(len(evs))) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.udp.Close() })
	return f
}

// run floods; it keeps to a thread of its own, whose CPU time is not the nodes'.
func (f *floodFrom) run(to netip.AddrPort, mri wire.MRI) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := cpuTime(unix.RUSAGE_THREAD)
	batch := make([]Outgoing, 64)
	q := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: 1, Type: wire.Query, C: true, R: true},
		HasMRI: true, MRI: mri, HasSID: true, HasNLI: true,
		NLI:         wire.NLI{PeerIdentity: []byte("a stranger"), ValidityMS: 30_000},
		QueryCookie: []byte("12345678"), StackProposal: wire.StackProposal{{wire.ForwardsTCP}}, HasStackConfig: true,
		StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: wire.ForwardsTCP}}},
	}
	start := time.Now()
	for sent := 0; sent < floodQueries; {
		n := min(len(batch), floodQueries-sent)
		for i := range n {
			k := uint32(sent + i)
			from := netip.AddrFrom4([4]byte{127, 64 + byte(k>>16&7), byte(k >> 8), byte(k)})
			q.NLI.Address = from
			binary.BigEndian.PutUint32(q.SID[:], k+1)
			o := &batch[i]
			o.Local, o.To, o.TTL, o.Payload = from, to, 64, q.AppendDatagram(o.Payload[:0])
		}
		f.refused += int64(len(SendErrors(f.udp.Send(batch[:n]))))
		sent += n
		if ahead := time.Duration(sent)*time.Second/floodRate - time.Since(start); ahead > time.Millisecond {
			<-time.After(ahead) // the rate is of real time
		}
	}
	f.took, f.cpu = time.Since(start), cpuTime(unix.RUSAGE_THREAD)-before
}

func cpuTime(who int) time.Duration {
	var u unix.Rusage
	if unix.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// liveLoad has every session send a message a second, half of them over an
// association and half in D-mode, and be answered. What is sent in D-mode is sent
// again until it is, as a signalling application does.
type liveLoad struct {
	a, b     *livePeer
	mri      wire.MRI
	waiting  map[uint64]time.Time // not answered yet: session and number; when it was sent first
	latency  [2][]time.Duration   // over the association, in D-mode
	messages int
	again    int
	doubled  int // answers to nothing that waits, over the association
}

func overMA(s uint64) bool { return s%2 == 0 }

func newLiveLoad(b *testing.B, mri wire.MRI) *liveLoad {
	l := &liveLoad{mri: mri, waiting: map[uint64]time.Time{}}
	l.a, l.b = newLivePeers(b, func(c *gist.Config) {
		c.DModeData = true
		c.ValidityPathCoupled = 6 * time.Second // all are refreshed while the flood lasts
	})
	l.a.do(func() {
		l.a.got = func(r gist.RecvMessage) {
			k := binary.BigEndian.Uint64(r.Data)
			at, ok := l.waiting[k]
			delete(l.waiting, k)
			kind := 0
			if !overMA(k >> 32) {
				kind = 1
			}
			switch {
			case ok:
				l.latency[kind] = append(l.latency[kind], time.Since(at))
			case kind == 0:
				l.doubled++
			}
		}
	})
	l.b.do(func() {
		l.b.got = func(r gist.RecvMessage) {
			l.send(l.b, binary.BigEndian.Uint64(r.Data), r.MRI.Reverse())
		}
	})
	return l
}

func (l *liveLoad) send(p *livePeer, k uint64, mri wire.MRI) {
	p.handle(gist.SendMessage{
		NSLPData: binary.BigEndian.AppendUint64(nil, k), NSLPID: 1, SID: liveSID(int(k >> 32)), MRI: mri, Timeout: time.Minute,
		Attr: gist.TransferAttributes{Reliable: overMA(k >> 32)},
	})
}

// round sends number n of the sessions from first on, and again what waits too
// long.
func (l *liveLoad) round(n uint32, first, count int) {
	l.a.do(func() {
		now := time.Now()
		for s := first; s < first+count; s++ {
			k := uint64(s)<<32 | uint64(n)
			l.waiting[k] = now
			l.messages++
			l.send(l.a, k, l.mri)
		}
	})
}

func (l *liveLoad) repeat() {
	l.a.do(func() {
		for k, at := range l.waiting {
			if !overMA(k>>32) && time.Since(at) > floodRepeat {
				l.again++
				l.send(l.a, k, l.mri)
			}
		}
	})
}

func (l *liveLoad) left() (n int) {
	l.a.do(func() { n = len(l.waiting) })
	return n
}

// settle waits until all is answered, or for ten seconds.
func (l *liveLoad) settle() {
	for end := time.Now().Add(10 * time.Second); l.left() > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // poll
		l.repeat()
	}
}

// A million Queries from made-up sources, 100,000 a second, over kernel sockets,
// against a node with a thousand live sessions: `make flood`. RFC 5971 §8.4
func BenchmarkFlood(b *testing.B) {
	for b.Loop() {
		flood(b)
	}
}

func flood(b *testing.B) {
	mri := wire.MRI{Flow: wire.Flow{
		Source: netip.MustParsePrefix("127.0.6.100/32"), Destination: netip.MustParsePrefix("127.0.6.101/32"),
	}}
	l, f := newLiveLoad(b, mri), newFloodFrom(b)
	l.round(0, 0, floodSessions)
	l.settle()
	if n := l.left(); n > 0 {
		b.Fatalf("%d sessions do not stand before the flood", n)
	}
	l.latency = [2][]time.Duration{}
	heapBefore, cpuBefore := heap(), cpuTime(unix.RUSAGE_SELF)
	var before gist.Stats
	l.b.do(func() { before = l.b.m.Stats() })

	done := make(chan struct{})
	go func() { f.run(l.b.addr, mri); close(done) }()
	const slices = 20 // of a second
	tick := time.NewTicker(time.Second / slices)
	defer tick.Stop()
	for i := 0; ; i++ {
		<-tick.C
		const part = floodSessions / slices
		l.round(uint32(1+i/slices), i%slices*part, part)
		l.repeat()
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	cpu := cpuTime(unix.RUSAGE_SELF) - cpuBefore - f.cpu
	l.settle()

	var after gist.Stats
	l.b.do(func() { after = l.b.m.Stats() })
	heapAfter := heap()
	reached := int(l.b.udp.Stats().Received)
	handled := after.QueriesIn - before.QueriesIn
	lost := [2]int{}
	l.a.do(func() {
		for k := range l.waiting {
			if overMA(k >> 32) {
				lost[0]++
			} else {
				lost[1]++
			}
		}
	})
	fmt.Printf(`
offered    %d Queries in %.1f s, %.0f a second; %d more the sender's socket refused
received   %d datagrams by the node's sockets, of its peer's too; the rest the kernel dropped
handled    %d Queries by the machine, its peer's refreshes among them; %d were answered to strangers
live       %d sessions, %d messages answered over an association, %d in D-mode
lost       %d over the association (%d answered twice), %d in D-mode, with %d repetitions
latency    over the association %s, in D-mode %s
states     %d of routing, %d peers, %d associations, %d handshakes under way
heap       %.1f MB before, %.1f MB after
CPU        %.1f s for both nodes in %.1f s, and %.1f s for the flood itself
`,
		floodQueries-int(f.refused), f.took.Seconds(), float64(floodQueries-f.refused)/f.took.Seconds(), f.refused,
		reached, handled, f.answered.Load(),
		floodSessions, len(l.latency[0]), len(l.latency[1]), lost[0], l.doubled, lost[1], l.again,
		spread(l.latency[0]), spread(l.latency[1]),
		after.RoutingStates, after.Peers, after.Associations, after.Handshakes, heapBefore, heapAfter, cpu.Seconds(), f.took.Seconds(), f.cpu.Seconds())
	b.ReportMetric(float64(floodQueries-f.refused)/f.took.Seconds(), "queries/s")
	b.ReportMetric(float64(handled), "handled")
	b.ReportMetric(float64(lost[0]+lost[1]), "lost")
	b.ReportMetric(heapAfter-heapBefore, "MB-grown")
	if lost[0]+lost[1]+l.doubled > 0 {
		b.Errorf("lost %v, twice %d", lost, l.doubled)
	}
	if after.RoutingStates != floodSessions || after.Peers != 1 || after.Associations != 1 {
		b.Errorf("strangers left something behind: %+v", after)
	}
	if grown := heapAfter - heapBefore; grown > 32 {
		b.Errorf("the heap has grown by %.1f MB", grown)
	}
	if q := after.QueriesIn - before.QueriesIn; q < floodSessions {
		b.Errorf("%d Queries came in: not even the sessions were refreshed", q)
	}
}

// spread is the median, the 99th and the last of a hundred.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "of nothing"
	}
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[int(math.Ceil(q*float64(len(d))))-1].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%v median, %v 99%%, %v at most", at(0.5), at(0.99), at(1))
}
