package interdomain

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// put replaces an SLS with one whose class says something more.
func (w *world) put(doc, more string) {
	w.t.Helper()
	docs, err := sls.Parse("sls", []byte(strings.Replace(doc, "class: EF,", "class: EF, "+more+",", 1)))
	if err == nil {
		_, err = w.ledger.Put(w.now, docs[0], "test")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// asked is what the driver is asked to hold.
func (w *world) asked() intradomain.QoS {
	w.t.Helper()
	if len(w.pending) != 1 {
		w.t.Fatalf("actions %+v, want one DriverHold; %+v", w.pending, w.notes)
	}
	return w.pending[0].(DriverHold).Request.QoS
}

func withExcess(e qspec.Excess) func(*qspec.QSPEC) {
	return func(q *qspec.QSPEC) {
		q.Desired.Has |= qspec.SetOf(qspec.ExcessID)
		q.Desired.Excess = e
	}
}

func TestExcessTreatmentOfTheQSPEC(t *testing.T) {
	// RFC 5975 §5.2.11: "The Excess Treatment Parameter is set by the QNI", so it
	// counts whatever the SLS says.
	for asked, want := range map[qspec.Excess]intradomain.Excess{
		{Treatment: qspec.ExcessDrop}:               {Treatment: intradomain.ExcessDrop},
		{Treatment: qspec.ExcessShape}:              {Treatment: intradomain.ExcessShape},
		{Treatment: qspec.ExcessRemark, Remark: 10}: {Treatment: intradomain.ExcessRemark, DSCP: 10},
		{Treatment: qspec.ExcessNoMeter}:            {Treatment: intradomain.ExcessNoMeter},
	} {
		w := newWorld(t)
		w.put(west, "excess: remark, excess_class: AF43")
		w.admit(1, local(t, 20e6, 0, withExcess(asked)), "10.3.0.10")
		if got := w.asked().Excess; got != want {
			t.Errorf("%v: the driver is asked for %+v, want %+v", asked, got, want)
		}
	}
}

func TestExcessTreatmentOfTheSLS(t *testing.T) {
	// RFC 5975 §5.2.11: "If no Excess Treatment Parameter is specified [...] a QNE
	// can do whatever it finds suitable": what the SLS says that the traffic comes
	// in by.
	for says, want := range map[string]intradomain.Excess{
		"excess: drop":                       {Treatment: intradomain.ExcessDrop},
		"excess: shape":                      {Treatment: intradomain.ExcessDrop},
		"excess: remark, excess_class: AF13": {Treatment: intradomain.ExcessRemark, DSCP: 14},
		"excess: none":                       {Treatment: intradomain.ExcessNoMeter},
		"excess: none, dscp_inside: 44":      {Treatment: intradomain.ExcessNoMeter},
	} {
		w := newWorld(t)
		w.put(west, says)
		w.put(east, "excess: remark, excess_class: AF43, dscp_inside: 12")
		w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
		if got := w.asked().Excess; got != want {
			t.Errorf("%s: the driver is asked for %+v, want %+v", says, got, want)
		}
	}
}

func TestInsideDSCP(t *testing.T) {
	// interdomain-qosm §5: "DSCP on the wire between the domains and DSCP inside
	// this one (re-marking both ways)"
	for says, want := range map[string]uint8{"": 46, "dscp_inside: 44": 44} {
		w := newWorld(t)
		if says != "" {
			w.put(west, says)
		}
		w.put(east, "dscp_inside: 12")
		w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
		if got := w.asked(); got.Class != 46 || got.DSCP != want {
			t.Errorf("%q: class %d, DSCP %d; want 46 and %d", says, got.Class, got.DSCP, want)
		}
	}
}

func TestFirstQNEGoesByTheSLSThatTheFlowLeavesBy(t *testing.T) {
	// interdomain-qosm §5: at the first QNE there is no other.
	w := newWorld(t)
	w.put(east, "excess: remark, excess_class: AF43, dscp_inside: 12")
	phb := qspec.PHB(46)
	q, err := qspec.NewInitiator(qspec.Ask{CIR: 1e6, PHB: &phb})
	if err != nil {
		t.Fatal(err)
	}
	w.ticket++
	w.do(Asked{qosnslp.Question{
		Ticket: w.ticket, Kind: qosnslp.Admit, SID: sid1, RSN: 1, Upstream: qosnslp.Local,
		MRI: wire.MRI{Method: wire.OffPath, Flow: flow("10.3.0.10")}, In: gist.RecvMessage{},
		Message: &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: q.Append(nil)},
	}})
	want := intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 38}
	if got := w.asked(); got.Excess != want || got.DSCP != 12 {
		t.Errorf("the driver is asked for %+v", got)
	}
}

func TestRestartKeepsExcessAndInsideDSCP(t *testing.T) {
	// interdomain-qosm §6: what is committed is held and committed again; with the
	// terms of its own time, not those of an SLS that has changed since.
	w := newWorld(t)
	w.put(west, "excess: remark, excess_class: AF13, dscp_inside: 44")
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	want := w.asked()
	w.answer(nil)
	w.ask(qosnslp.Commit, 1, response(t, w.verdict().QSPEC, 0))
	at := slices.IndexFunc(w.pending, func(a Action) bool { _, ok := a.(StorePut); return ok })
	if at < 0 {
		t.Fatalf("actions %+v, want a StorePut", w.pending)
	}
	record := w.pending[at].(StorePut).Record
	w.put(west, "excess: drop")
	w.m = w.newMachine()
	w.do(Restore{record})
	if r, ok := w.m.DriverRequest(sid1); !ok || r.QoS != want || r.QoS.DSCP != 44 || r.QoS.Excess.DSCP != 14 {
		t.Errorf("after a restart the driver gets %+v, want %+v", r.QoS, want)
	}
}

// golden is a committed reservation of AS65002 as it is stored.
const golden = `
03 76 2e 03 2c 03 0e              # version; has protocol, traffic, SPI, both ports, label not; EF, priority 3; inside 44, re-mark to AF13
0000fde9 0000fdeb                 # from AS65001, to AS65003
0000000000000064 0000000000000032 # rate 100, least 50 octets/s
00000000000000c8 00000000000005dc # peak 200 octets/s, burst 1500 octets
0004 77657374 0004 65617374       # SLSs west, east
04 c0000201 04 c0000202           # from 192.0.2.1 to 192.0.2.2
04 c0000205 04 c0000206           # from 192.0.2.5 to 192.0.2.6
04 0a01000a 20 04 0a03000a 20     # 10.1.0.10/32, 10.3.0.10/32
11 2e 00000000 00000007           # UDP, DSCP 46, flow label, SPI 7
0fa0 1389                         # ports 4000, 5001
01 0000000000000001 0000000000000002 # one interval
`

func TestDomainStateGolden(t *testing.T) {
	var text strings.Builder
	for line := range strings.Lines(golden) {
		line, _, _ = strings.Cut(line, "#")
		for _, f := range strings.Fields(line) {
			text.WriteString(f)
		}
	}
	want, err := hex.DecodeString(text.String())
	if err != nil {
		t.Fatal(err)
	}
	terms := Terms{
		Flow: wire.Flow{
			Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
			HasProtocol: true, Protocol: 17, HasTraffic: true, DSCP: 46, HasSPI: true, SPI: 7,
			HasSrcPort: true, SrcPort: 4000, HasDstPort: true, DstPort: 5001,
		},
		Class: 46, Rate: 100, MinRate: 50, Peak: 200, Burst: 1500, SLSIn: "west", SLSOut: "east",
		PreviousEgress: addr("192.0.2.1"), Ingress: addr("192.0.2.2"), Egress: addr("192.0.2.5"), NextIngress: addr("192.0.2.6"),
		Priority: 3, Inside: 44, Times: []qspec.Interval{{Start: 1, End: 2}}, Excess: intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14},
	}
	if got := encodeDomain(65001, 65003, &terms); string(got) != string(want) {
		t.Errorf("encoded\n%x\nwant\n%x", got, want)
	}
	up, down, got, err := decodeDomain(want)
	if err != nil || up != 65001 || down != 65003 || !reflect.DeepEqual(got, terms) {
		t.Errorf("decoded %d, %d, %+v, %v\nwant %+v", up, down, got, err, terms)
	}
}
