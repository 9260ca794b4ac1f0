package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

var simFlow = wire.Flow{
	Source:      netip.MustParsePrefix("10.1.0.10/32"),
	Destination: netip.MustParsePrefix("10.3.0.10/32"),
	HasProtocol: true, Protocol: 17,
}

// interdomain-qosm §6: "success RESPONSE: commit (durably), then forward". After
// the answer every AS has the reservation in its ledger, its store, its network,
// and the soft state that keeps it; after the release nothing of it is left.
func TestSimReserveModifyRelease(t *testing.T) {
	w := newSimWorld(t, 1)
	s := w.session()
	for _, rate := range []uint64{mbit(20), mbit(35), mbit(5)} { // create, raise, lower
		w.mustReserve(s, rate)
		w.mustAgree()
	}
	for _, a := range w.as {
		if a.disk.puts != 3 {
			w.fatalf("AS%d wrote %d records, want 3", a.cfg.AS, a.disk.puts)
		}
	}
	w.net.Run(30 * time.Minute) // refreshed all the time
	w.mustAgree()
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("released: %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
	w.net.Run(10 * time.Minute)
	for _, a := range w.as {
		if st := a.p.q.gist.Stats(); st.RoutingStates != 0 || st.Associations != 0 {
			w.fatalf("AS%d: %d routing states, %d associations are left", a.cfg.AS, st.RoutingStates, st.Associations)
		}
		if st := a.p.q.nslp.Stats(); st.Tombstones != 0 {
			w.fatalf("AS%d: %d tombstones are left", a.cfg.AS, st.Tombstones)
		}
	}
}

// interdomain-qosm §7: "On refusal the refuser writes into QoS Available of the
// RESPONSE the largest rate that the path so far and itself could give", and §6:
// "failure: release, add the record, forward": nothing is held anywhere.
func TestSimRefusal(t *testing.T) {
	w := newSimWorld(t, 2)
	first := w.session()
	w.mustReserve(first, mbit(30))
	second := w.session()
	w.reserve(second, mbit(20), 0)
	r := w.answer(second)
	if r.Kind != qosnslp.Rejected || r.Info.Class != nslpwire.ClassQoSModelError || r.Info.Code != interdomain.CodeNoCapacity {
		w.fatalf("%s %v, want Rejected 6/65", kindText(r.Kind), r.Info)
	}
	q, err := qspec.Parse(r.QSPEC)
	if err != nil || q.Largest() != mbit(10) {
		w.fatalf("largest rate %d (%v), want %d", q.Largest(), err, mbit(10))
	}
	var records []nslpwire.DomainRecord
	for _, o := range r.Extra {
		if o.Type == nslpwire.DomainRecords {
			if records, err = nslpwire.ParseDomainRecords(o.Value); err != nil {
				w.fatalf("DOMAIN-RECORDS: %v", err)
			}
		}
	}
	// AS65002 knows the SLS with AS65003 as well as that one does: it refuses
	// before it asks.
	if len(records) != 2 || records[0].AS != 65002 || records[0].Verdict != nslpwire.VerdictRefused ||
		records[1].AS != 65001 || records[1].Verdict != nslpwire.VerdictReleased {
		w.fatalf("domain records %+v, want AS65002 refused, AS65001 released", records)
	}
	w.mustAgree()
	// What it was told it could have had, it can have.
	w.reserve(second, mbit(10), 0)
	if r := w.answer(second); r.Kind != qosnslp.Reserved {
		w.fatalf("the largest rate was refused: %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
}
