package sls

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// epoch is second 0 of the model.
var epoch = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// modelEnd is how many seconds from now the model looks at; nothing that is
// drawn starts or ends later, so the last one stands for all that follow.
const modelEnd = 60

// The model is the obvious ledger: for each reservation and leg what is
// committed and held, and at every second a sum over all of them.
type model struct {
	now   int64
	slss  map[string]SLS
	parts map[modelKey]*modelLeg
	until map[ID]int64 // expiry of holds
	held  map[ID]uint32
}

type modelKey struct {
	id  ID
	leg Leg
}

type modelLeg struct{ committed, held *modelPart }

type modelPart struct {
	version uint32
	sls     string
	rate    int64
	spans   []span
}

func (p *modelPart) at(sls string, t int64) int64 {
	if p != nil && p.sls == sls {
		for _, s := range p.spans {
			if s.from <= t && t < s.until {
				return p.rate
			}
		}
	}
	return 0
}

func (m *model) used(sls string, t int64, but modelKey) (sum int64) {
	for k, g := range m.parts {
		if k != but {
			sum += max(g.committed.at(sls, t), g.held.at(sls, t))
		}
	}
	return sum
}

func (m *model) capacity(sls string) int64 { return int64(m.slss[sls].Classes[0].CIR) }

// room is the largest rate that fits beside all others at every second.
func (m *model) room(sls string, spans []span, but modelKey) int64 {
	r := int64(m.slss[sls].Classes[0].LargestFlow)
	for t := m.now; t <= m.now+modelEnd; t++ {
		if slices.ContainsFunc(spans, func(s span) bool { return s.from <= t && t < s.until }) {
			r = min(r, m.capacity(sls)-m.used(sls, t, but))
		}
	}
	return r
}

// modelOrder is the order in which Hold has to try the SLSs: the more specific
// destination first.
var modelOrder = []string{"specific", "wide"}

func modelSLS(id, destination string, cir uint64) SLS {
	return SLS{
		ID: id, Customer: 65001, Provider: 65002,
		Destinations: []netip.Prefix{netip.MustParsePrefix(destination)},
		Classes:      []ClassSpec{{Class: EF, CIR: cir, PIR: 1000, LargestFlow: max(1, cir*2/3)}},
	}
}

type machine struct {
	l *Ledger
	m *model
}

func newMachine(t *rapid.T) *machine {
	m := &machine{l: New(Config{HoldTime: 10 * time.Second}), m: &model{
		slss: make(map[string]SLS), parts: make(map[modelKey]*modelLeg),
		until: make(map[ID]int64), held: make(map[ID]uint32),
	}}
	m.put(t, modelSLS("specific", "10.3.0.0/16", 30))
	m.put(t, modelSLS("wide", "10.0.0.0/8", 50))
	return m
}

func (m *machine) time() time.Time { return epoch.Add(time.Duration(m.m.now) * time.Second) }

func (m *machine) put(t *rapid.T, s SLS) {
	if _, err := m.l.Put(m.time(), s, "test"); err != nil {
		t.Fatal(err)
	}
	_ = s.Normalize()
	m.m.slss[s.ID] = s
}

func drawID(t *rapid.T) ID { return ID{byte(rapid.IntRange(1, 5).Draw(t, "id"))} }

func drawSpans(t *rapid.T, now int64) ([]Interval, []span) {
	if rapid.Bool().Draw(t, "at once and open") {
		return nil, []span{{past, forever}}
	}
	var list []Interval
	var spans []span
	from := now + rapid.Int64Range(-3, 10).Draw(t, "from")
	for range rapid.IntRange(1, 3).Draw(t, "intervals") {
		until := max(from, now) + rapid.Int64Range(1, 8).Draw(t, "length")
		list = append(list, Interval{epoch.Add(time.Duration(from) * time.Second), epoch.Add(time.Duration(until) * time.Second)})
		spans = append(spans, span{from, until})
		from = until + rapid.Int64Range(0, 4).Draw(t, "gap")
	}
	if rapid.IntRange(0, 3).Draw(t, "open end") == 0 {
		list[len(list)-1].Until = time.Time{}
		spans[len(spans)-1].until = forever
	}
	return list, spans
}

func (m *machine) hold(t *rapid.T) {
	rate := rapid.Uint64Range(1, 35).Draw(t, "rate")
	key := modelKey{drawID(t), Leg(rapid.IntRange(0, 1).Draw(t, "leg"))}
	intervals, spans := drawSpans(t, m.m.now)
	r := Request{
		ID: key.id, Leg: key.leg, Version: uint32(rapid.IntRange(1, 20).Draw(t, "version")),
		Customer: 65001, Provider: 65002, Class: EF, Rate: rate,
		Source: netip.MustParsePrefix("10.1.0.1/32"), Destination: netip.MustParsePrefix("10.3.0.1/32"),
		Intervals: intervals,
	}
	if rapid.Bool().Draw(t, "reducible") {
		r.MinRate = rapid.Uint64Range(1, rate).Draw(t, "minimum")
	}
	order := modelOrder
	if rapid.Bool().Draw(t, "elsewhere") {
		r.Destination, order = netip.MustParsePrefix("10.9.0.1/32"), modelOrder[1:]
	}
	grant, err := m.l.Hold(m.time(), r)

	leg := m.m.parts[key]
	if leg == nil {
		leg = new(modelLeg)
	}
	for _, p := range []*modelPart{leg.held, leg.committed} {
		switch {
		case p == nil:
		case p.version == r.Version:
			if err != nil || grant.SLS != p.sls || grant.Rate != uint64(p.rate) {
				t.Fatalf("repeat of version %d: %+v, %v; want %+v", r.Version, grant, err, p)
			}
			return
		case p.version > r.Version:
			if !errors.Is(err, ErrStale) {
				t.Fatalf("version %d after %d: %v; want ErrStale", r.Version, p.version, err)
			}
			return
		}
	}
	best, most, largest := "", int64(0), int64(0)
	least := int64(leastRate(&r))
	for _, s := range order {
		x := min(int64(rate), m.m.room(s, spans, key))
		largest = max(largest, x)
		if x >= least && x > most {
			best, most = s, x
		}
		if x == int64(rate) {
			best, most = s, x
			break
		}
	}
	var no *Refusal
	switch {
	case best == "":
		if !errors.As(err, &no) || no.Code != NoCapacity || no.Largest != uint64(largest) || no.SLS != order[0] || len(no.Why) == 0 {
			t.Fatalf("got %+v, %#v; want a refusal with largest %d", grant, err, largest)
		}
		m.checkEarliest(t, &r, order, spans, no.Earliest, leg.held, key)
		return
	case err != nil || grant.SLS != best || grant.Rate != uint64(most):
		t.Fatalf("got %+v, %v; want %d on %s", grant, err, most, best)
	}
	leg.held = &modelPart{r.Version, best, most, spans}
	m.m.parts[key] = leg
	if v, ok := m.m.held[key.id]; !ok || r.Version > v {
		m.m.held[key.id], m.m.until[key.id] = r.Version, m.m.now+10
	}
}

// checkEarliest asserts that the ledger's earliest start is what trying every
// second finds, with all that the reservation itself has committed in use.
func (m *machine) checkEarliest(t *rapid.T, r *Request, order []string, spans []span, got time.Time, held *modelPart, key modelKey) {
	if len(spans) != 1 {
		if !got.IsZero() {
			t.Fatalf("earliest %s for several intervals", got)
		}
		return
	}
	from := max(spans[0].from, m.m.now)
	var committed *modelPart
	if g := m.m.parts[key]; g != nil {
		committed = g.committed
	}
	fits := func(sls string, from int64) bool {
		until := int64(forever)
		if spans[0].until != forever {
			until = from + spans[0].until - max(spans[0].from, m.m.now)
		}
		if r.Rate > m.m.slss[sls].Classes[0].LargestFlow {
			return false
		}
		for at := from; at < min(until, from+modelEnd); at++ {
			if m.m.used(sls, at, key)+committed.at(sls, at)+int64(r.Rate) > m.m.capacity(sls) {
				return false
			}
		}
		return true
	}
	want := time.Time{}
	for at := from; at <= m.m.now+3*modelEnd && want.IsZero(); at++ {
		if slices.ContainsFunc(order, func(s string) bool { return fits(s, at) }) {
			want = epoch.Add(time.Duration(at) * time.Second)
		}
	}
	if !got.Equal(want) {
		t.Fatalf("earliest %s, want %s", got, want)
	}
}

func (m *machine) commit(t *rapid.T) {
	id, rate := drawID(t), int64(rapid.IntRange(0, 35).Draw(t, "rate"))
	version := uint32(rapid.IntRange(1, 20).Draw(t, "version"))
	if v, ok := m.m.held[id]; ok && rapid.IntRange(0, 5).Draw(t, "the held version") > 0 {
		version = v
	}
	held, done, tooMuch := false, false, rate == 0
	legs := 0
	for _, g := range []*modelLeg{m.m.parts[modelKey{id, Inbound}], m.m.parts[modelKey{id, Outbound}]} {
		if g == nil {
			continue
		}
		if g.held != nil && g.held.version == version {
			held, tooMuch = true, tooMuch || rate > g.held.rate
		}
		done = done || g.committed != nil && g.committed.version == version
	}
	bookings, err := m.l.Commit(m.time(), id, version, uint64(rate))
	switch {
	case !held && !done:
		if !errors.Is(err, ErrNoHold) {
			t.Fatalf("commit without a hold: %v", err)
		}
		return
	case held && tooMuch:
		if !errors.Is(err, ErrRequest) {
			t.Fatalf("commit of %d: %v; want ErrRequest", rate, err)
		}
		return
	case err != nil:
		t.Fatal(err)
	}
	for leg := range Outbound + 1 {
		g := m.m.parts[modelKey{id, leg}]
		if g != nil && g.held != nil && g.held.version == version {
			g.held.rate = rate
			g.committed, g.held = g.held, nil
		}
		if g != nil && g.committed != nil {
			legs++
		}
	}
	m.settle(id)
	if len(bookings) != legs {
		t.Fatalf("%d bookings, want %d", len(bookings), legs)
	}
}

// settle forgets what has become empty.
func (m *machine) settle(id ID) {
	held := false
	for leg := range Outbound + 1 {
		k := modelKey{id, leg}
		if g := m.m.parts[k]; g != nil {
			held = held || g.held != nil
			if *g == (modelLeg{}) {
				delete(m.m.parts, k)
			}
		}
	}
	if !held {
		delete(m.m.held, id)
		delete(m.m.until, id)
	}
}

func (m *machine) drop(t *rapid.T) {
	id := drawID(t)
	version := uint32(rapid.IntRange(1, 20).Draw(t, "version"))
	if v, ok := m.m.held[id]; ok && rapid.Bool().Draw(t, "the held version") {
		version = v
	}
	want := false
	for leg := range Outbound + 1 {
		if g := m.m.parts[modelKey{id, leg}]; g != nil && g.held != nil && g.held.version == version {
			g.held, want = nil, true
		}
	}
	m.settle(id)
	if got := m.l.Drop(id, version); got != want {
		t.Fatalf("drop says %v, want %v", got, want)
	}
}

func (m *machine) release(t *rapid.T) {
	id, which := drawID(t), rapid.IntRange(0, 2).Draw(t, "legs")
	want := false
	for leg := range Outbound + 1 {
		k := modelKey{id, leg}
		if _, ok := m.m.parts[k]; ok && (which == 2 || Leg(which) == leg) {
			delete(m.m.parts, k)
			want = true
		}
	}
	m.settle(id)
	got := false
	if which == 2 {
		got = m.l.Release(id)
	} else {
		got = m.l.ReleaseLeg(id, Leg(which))
	}
	if got != want {
		t.Fatalf("release says %v, want %v", got, want)
	}
}

func (m *machine) pass(t *rapid.T) {
	m.m.now += rapid.Int64Range(0, 4).Draw(t, "seconds")
	deadline := m.l.Deadline()
	want := make(map[ID]bool)
	for k, g := range m.m.parts {
		if g.held != nil && m.m.until[k.id] <= m.m.now {
			g.held = nil
			want[k.id] = true
		}
		if g.committed != nil && g.committed.spans[len(g.committed.spans)-1].until <= m.m.now {
			g.committed = nil
			want[k.id] = true
		}
	}
	for id := range want {
		m.settle(id)
	}
	if due := !deadline.IsZero() && !deadline.After(m.time()); due != (len(want) > 0) {
		t.Fatalf("deadline %s at %s, but %d are due", deadline, m.time(), len(want))
	}
	got := m.l.Expire(m.time())
	for _, id := range got {
		if !want[id] {
			t.Fatalf("%s expired, want %v", id, want)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("expired %v, want %v", got, want)
	}
}

// change puts new terms; the ledger has to refuse exactly those that what is
// sold does not fit.
func (m *machine) change(t *rapid.T) {
	id := rapid.SampledFrom(modelOrder).Draw(t, "sls")
	s := m.m.slss[id].clone()
	s.Classes[0].CIR = rapid.Uint64Range(5, 60).Draw(t, "cir")
	s.Classes[0].LargestFlow = max(1, s.Classes[0].CIR*2/3)
	fits := true
	for at := m.m.now; at <= m.m.now+modelEnd; at++ {
		fits = fits && m.m.used(id, at, modelKey{}) <= int64(s.Classes[0].CIR)
	}
	for _, g := range m.m.parts {
		for _, p := range []*modelPart{g.committed, g.held} {
			fits = fits && (p == nil || p.sls != id || p.rate <= int64(s.Classes[0].LargestFlow))
		}
	}
	_, err := m.l.Put(m.time(), s, "test")
	var conflict *Conflict
	if fits != (err == nil) || err != nil && !errors.As(err, &conflict) {
		t.Fatalf("put of %d: %v; it fits: %v", s.Classes[0].CIR, err, fits)
	}
	if err == nil {
		m.m.slss[id] = s
	}
}

// restart makes a new ledger of what a store would have.
func (m *machine) restart(t *rapid.T) {
	l := New(Config{HoldTime: 10 * time.Second})
	if err := l.LoadSLS(m.l.SLSs()); err != nil {
		t.Fatal(err)
	}
	var bookings []Booking
	for _, id := range modelOrder {
		for b := range m.l.BySLS(id) {
			if !b.Held {
				bookings = append(bookings, b)
			}
		}
	}
	if err := l.Restore(m.time(), bookings); err != nil {
		t.Fatal(err)
	}
	m.l = l
	for k, g := range m.m.parts {
		g.held = nil
		m.settle(k.id)
	}
}

// check is the invariant: at every second what is sold is what the model says,
// and within the SLS.
func (m *machine) check(t *rapid.T) {
	for id := range m.m.slss {
		for at := m.m.now; at <= m.m.now+modelEnd; at++ {
			u, err := m.l.Usage(id, EF, epoch.Add(time.Duration(at)*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			var committed int64
			for _, g := range m.m.parts {
				committed += g.committed.at(id, at)
			}
			total := m.m.used(id, at, modelKey{})
			if u.Committed != uint64(committed) || u.Committed+u.Held != uint64(total) {
				t.Fatalf("%s at %d: %+v; want %d committed, %d in all", id, at, u, committed, total)
			}
			if u.Committed+u.Held > u.Capacity {
				t.Fatalf("%s at %d: %+v is more than the SLS", id, at, u)
			}
		}
	}
	m.checkCounts(t)
	firm, held := make(map[ID]bool), make(map[ID]bool)
	for k, g := range m.m.parts {
		if g.committed != nil {
			firm[k.id] = true
		}
		if g.held != nil {
			held[k.id] = true
		}
	}
	if s := m.l.Stats(); s.Committed != len(firm) || s.Held != len(held) {
		t.Fatalf("%+v; want %d committed, %d held", s, len(firm), len(held))
	}
}

// checkCounts counts a modification once on an SLS that both its versions use.
func (m *machine) checkCounts(t *rapid.T) {
	now := epoch.Add(time.Duration(m.m.now) * time.Second)
	var sum Usage
	for id := range m.m.slss {
		want := 0
		for _, g := range m.m.parts {
			if g.committed != nil && g.committed.sls == id || g.held != nil && g.held.sls == id {
				want++
			}
		}
		u, err := m.l.Usage(id, EF, now)
		if err != nil || u.Reservations != want {
			t.Fatalf("%s: %+v (%v), want %d reservations", id, u, err, want)
		}
		sum.Committed += u.Committed
		sum.Held += u.Held
		sum.Capacity += u.Capacity
		sum.Reservations += u.Reservations
	}
	if total := m.l.Total(now); total != sum {
		t.Fatalf("in all %+v, want %+v", total, sum)
	}
}

// "The sum of what is admitted never exceeds the SLS at any instant, whatever
// fails or races"; "One SID counts max(old, new) on an SLS that both paths
// share, never the sum". interdomain-qosm §5, interdomain-qosm §6
func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"hold": m.hold, "hold again": m.hold, "commit": m.commit, "drop": m.drop, "release": m.release,
			"pass": m.pass, "change": m.change, "restart": m.restart, "": m.check,
		})
		for id := range 6 {
			m.l.Release(ID{byte(id)})
		}
		for id := range m.m.slss {
			for at := m.m.now; at <= m.m.now+modelEnd; at++ {
				u, _ := m.l.Usage(id, EF, epoch.Add(time.Duration(at)*time.Second))
				if u.Committed != 0 || u.Held != 0 || u.Reservations != 0 {
					t.Fatalf("%s at %d after everything is released: %+v", id, at, u)
				}
			}
		}
		if !m.l.Deadline().IsZero() || len(m.l.byID) != 0 {
			t.Fatalf("after everything is released: deadline %s, %d reservations", m.l.Deadline(), len(m.l.byID))
		}
	})
}
