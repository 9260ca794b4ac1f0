package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// newSimDiamond is the three ASs with a fourth, AS65004, beside AS65002: AS65001
// reaches AS65003 by either.
func newSimDiamond(t testing.TB, seed uint64, change ...func(*Config)) *simWorld {
	t.Helper()
	w := newSimWorldOf(t, seed)
	w.transit = 1
	other := strings.NewReplacer("65002", "65004", "127.2.", "127.4.", "10.2.", "10.4.", "127.1.2.1", "127.1.4.1", "127.3.2.1", "127.3.4.1",
		"id: 12", "id: 14", "id: 23", "id: 34", "7f1c0c64", "7f1c0c65", "0b2d4f61", "0b2d4f62", "as65002", "as65004")
	w.slsTexts = labTexts(t, "sls", "as65001-as65002", "as65002-as65003")
	for file, text := range w.slsTexts.sorted() {
		w.slsTexts[other.Replace(file)] = other.Replace(text)
	}
	second := func(text, own, far string) string {
		for _, part := range []string{"edges:\n", "keys:\n", "attachments:\n"} {
			at := strings.Index(text, part) + len(part)
			end := at
			for line := range strings.Lines(text[at:]) {
				if !strings.HasPrefix(strings.TrimLeft(line, " "), "- ") && !strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "  - bng") {
					break
				}
				end += len(line)
			}
			added := ""
			for line := range strings.Lines(text[at:end]) {
				if part != "attachments:\n" || strings.Contains(line, "border") {
					added += line
				}
			}
			// Its own addresses stay its own, but for those of another edge.
			added = strings.NewReplacer(own+".2.1", own+".4.1", own+".0.2", own+".0.4").Replace(added)
			added = strings.NewReplacer("65002", "65004", "127.2.", "127.4.", "id: 12", "id: 14", "id: 23", "id: 34", "7f1c0c64", "7f1c0c65", "0b2d4f61", "0b2d4f62").Replace(added)
			text = text[:end] + added + text[end:]
		}
		return text
	}
	texts := labTexts(t, "config", "as65001", "as65002", "as65003")
	for file, text := range texts.sorted() {
		switch {
		case strings.Contains(file, "as65001"):
			texts[file] = second(text, "127.1", "127.2")
		case strings.Contains(file, "as65003"):
			texts[file] = second(text, "127.3", "127.2")
		default:
			texts[other.Replace(file)] = other.Replace(text)
		}
	}
	for file, text := range texts.sorted() {
		w.add(file, text, change...)
	}
	w.start()
	return w
}

// turn makes all flows go by another AS, and BGP say so.
func (w *simWorld) turn(transit int) {
	w.logf("the best path is by AS%d", w.as[transit].cfg.AS)
	w.transit = transit
	for _, a := range w.as {
		if a.p != nil {
			a.p.handle(gist.RouteChanged{})
		}
	}
}

// "Route change: addresses are derived anew; the new path first, with REPLACE; the
// old path torn by its SII handle (RFC 5974 §5.2.5.2). One SID counts max(old, new)
// on an SLS that both paths share, never the sum." interdomain-qosm §6
func TestSimReroute(t *testing.T) {
	w := newSimDiamond(t, 1)
	s := w.session()
	w.mustReserve(s, mbit(30)) // of the 40 that each sells of AS65003
	w.mustAgree()
	sent := w.record()
	w.turn(3)
	w.net.Run(10 * time.Second)
	w.mustAgree()
	w.wantRoutingOnPath(1)
	torn := false
	for _, m := range *sent {
		switch to3 := m.from == w.as[0].cfg.GIST.Address && m.to == w.as[3].cfg.GIST.Address; {
		case isTear(m) && m.from == w.as[0].cfg.GIST.Address:
			torn = true
			if m.to != w.as[1].cfg.GIST.Address {
				w.fatalf("TEAR to %v", m.to)
			}
		case isFullReserve(m) && to3 && (torn || m.msg.MessageFlags&nslpwire.Replace == 0 || !m.msg.HasRII):
			w.fatalf("RESERVE down the new path %+v, torn before %v", m.msg, torn)
		}
	}
	if !torn {
		w.fatalf("the old path was not torn")
	}
	w.net.Run(30 * time.Minute)
	w.mustAgree()
	w.mustReserve(s, mbit(35)) // and changed
	w.mustAgree()
	w.turn(1)
	w.net.Run(time.Minute)
	w.mustAgree()
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("%s", kindText(r.Kind))
	}
	w.net.Run(10 * time.Minute)
	w.mustAgree()
	w.wantRoutingOnPath(0)
}

// wantRoutingOnPath wants routing state for so many sessions on the path, and none
// elsewhere.
func (w *simWorld) wantRoutingOnPath(sessions int) {
	w.t.Helper()
	for _, a := range w.as {
		want := 0
		if a.onPath() {
			want = sessions * a.legs()
		}
		if n := a.p.q.gist.Stats().RoutingStates; n != want {
			a.p.q.gist.RoutingStates(func(i gist.RoutingStateInfo) bool { w.logf("%+v", i); return true })
			w.fatalf("AS%d has %d routing states, want %d", a.cfg.AS, n, want)
		}
	}
}

// The new path refuses: the initiator is told, and "the old one stays as long as it
// works". RFC 5974 §5.2.5.2, interdomain-qosm §6
func TestSimRerouteRefused(t *testing.T) {
	w := newSimDiamond(t, 2)
	s := w.session()
	w.mustReserve(s, mbit(30))
	refuse := true
	w.as[3].device.fault = func(verb string, _ intradomain.ID) fault {
		if refuse && verb == "hold" {
			return notDone
		}
		return noFault
	}
	w.turn(3)
	w.net.Run(5 * time.Second)
	w.transit = 1 // what must stand is what stood
	w.mustAgree()
	w.transit = 3
	if w.as[0].notes["qos-nslp/reroute-refused"] != 1 {
		w.fatalf("the initiator was not told")
	}
	w.net.Run(30 * time.Minute)
	w.transit = 1
	w.mustAgree()
	w.transit = 3
	refuse = false
	w.net.Run(5 * time.Minute)
	w.mustAgree()
}

// Paths that change under requests, over a network that loses, doubles and
// reorders, with restarts: afterwards each AS on the path has what the initiator
// was told, those beside it nothing, and no SLS was ever oversold.
// interdomain-qosm §6, RFC 5974 §5.2.5
func TestSimRerouteProperty(t *testing.T) {
	runs := uint64(40)
	if testing.Short() {
		runs = 8
	}
	moved, refused := uint64(0), uint64(0)
	for seed := range runs {
		w := newSimDiamond(t, seed)
		w.net.Default = simnet.Link{Delay: time.Millisecond, Loss: 0.1 * float64(seed%3), Duplicate: 0.1 * float64(seed%2), Jitter: time.Duration(seed%4) * 10 * time.Millisecond}
		slow := func() time.Duration { return time.Duration(w.rng.IntN(1+int(seed%5)*200)) * time.Millisecond }
		for _, a := range w.as {
			a.disk.delay, a.device.delay = slow, slow
		}
		var all []*simSession
		for range 3 {
			all = append(all, w.session())
		}
		for range 12 {
			s := all[w.rng.IntN(len(all))]
			switch step := w.rng.IntN(10); {
			case s.pending != "":
			case step < 4:
				w.reserve(s, mbit(1+uint64(w.rng.IntN(12))), 0)
			case step < 8:
				w.turn(4 - w.transit)
			case step == 8 && s.reserved:
				w.release(s)
				all[slices.Index(all, s)] = w.session() // a SID is not used again
			case step == 9 && seed%2 == 0:
				w.as[w.rng.IntN(4)].restart(time.Duration(w.rng.IntN(20))*time.Second, w.rng.IntN(2) == 0)
				w.net.Run(30 * time.Second)
			}
			w.net.Run(time.Duration(1+w.rng.IntN(5000)) * time.Millisecond * time.Duration(1+9*w.rng.IntN(2)))
		}
		w.net.Default = simnet.Link{Delay: time.Millisecond}
		w.net.Run(time.Minute)
		w.turn(w.transit)
		w.net.Run(5 * simLifetime)
		for _, s := range w.app {
			if s.unsure {
				w.resolve(s)
			}
		}
		w.mustAgreeWithin(20 * time.Minute)
		w.net.Run(20 * time.Minute)
		w.mustAgree()
		st := w.as[0].p.q.nslp.Stats()
		moved, refused = moved+st.Rerouted, refused+st.RerouteRefused
	}
	t.Logf("%d moves, %d refused", moved, refused)
	if moved < 2*runs {
		t.Errorf("%d moves in %d runs", moved, runs)
	}
}

// Receiver-initiated reservations move as the data do: the QNR repeats its QUERY.
// RFC 5974 §3.2.12, interdomain-qosm §2
func TestSimRerouteReceiverInitiated(t *testing.T) {
	for _, text := range []string{"initiator type=0 proc=1/0 desired{tmod=30M/64k class=EF}", "initiator type=0 proc=1/2 desired{tmod=60M/64k class=EF} available{tmod=60M/64k}"} {
		w := newSimDiamond(t, 5)
		s := w.session()
		q, err := qspec.ParseText(text)
		if err != nil {
			t.Fatal(err)
		}
		w.as[0].p.handle(qosnslp.Invite{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
		w.net.Run(10 * time.Second)
		r, ok := w.as[0].p.q.domain.Session(s.sid)
		if !ok {
			w.fatalf("nothing is reserved")
		}
		s.reserved, s.rate = true, r.Rate
		w.mustAgree()
		for _, transit := range []int{3, 1} {
			w.turn(transit)
			w.net.Run(time.Minute)
			w.mustAgree()
			w.wantRoutingOnPath(1)
			w.net.Run(20 * time.Minute)
			w.mustAgree()
		}
		w.as[2].p.handle(qosnslp.Terminate{SID: s.sid})
		s.reserved = false
		w.net.Run(15 * time.Minute)
		w.mustAgree()
	}
}

// "Mobility (a new flow address under the same SID) is the same machinery (RFC
// 5980)." interdomain-qosm §6, RFC 5980 §4.1: "the effect is an update to the states,
// not a full new request": an SLS that has room for one of them is enough.
func TestSimMobility(t *testing.T) {
	for _, transit := range []int{1, 3} {
		w := newSimDiamond(t, 7)
		s := w.session()
		w.mustReserve(s, mbit(30))
		for i, handover := range []string{"10.1.0.77/32", "10.1.200.1/32", "10.1.0.10/32"} {
			if i == 1 { // another way as well, before BGP has said so
				w.transit = transit
			}
			s.flow.Source = netip.MustParsePrefix(handover)
			w.mustReserve(s, mbit(30))
			w.net.Run(10 * time.Second)
			w.mustAgree()
			w.wantRoutingOnPath(1)
			for _, a := range w.as {
				if r, ok := a.p.q.domain.Session(s.sid); ok && r.Flow != s.flow {
					w.fatalf("AS%d has the flow %+v", a.cfg.AS, r.Flow)
				}
			}
		}
		w.net.Run(30 * time.Minute)
		w.mustAgree()
		w.release(s)
		w.answer(s)
		w.net.Run(10 * time.Minute)
		w.mustAgree()
		w.wantRoutingOnPath(0)
	}
}
