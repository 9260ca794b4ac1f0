package qspec

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawFloat draws any number that r, b, p or Bp may have, the edges often.
func drawFloat(t *rapid.T, label string) float32 {
	bits := rapid.Uint32Range(math.Float32bits(1), math.Float32bits(math.MaxFloat32)).Draw(t, label)
	if rapid.Bool().Draw(t, label+" round") {
		return float32(rapid.SampledFrom([]float64{1, 8, 1500, 64e3, 2.5e6, 1e9, 1e12}).Draw(t, label))
	}
	return math.Float32frombits(bits)
}

func drawAnyTMOD(t *rapid.T, o ObjectType) TMOD {
	if o == MinimumQoS && rapid.Bool().Draw(t, "zero") {
		return TMOD{}
	}
	x := TMOD{Rate: drawFloat(t, "r"), Bucket: drawFloat(t, "b"), Peak: infinity, MPS: rapid.Uint32Min(1).Draw(t, "MPS")}
	x.Unit = rapid.Uint32Range(1, x.MPS).Draw(t, "m")
	if rapid.Bool().Draw(t, "peak") {
		x.Peak = max(x.Rate, drawFloat(t, "p"))
	}
	return x
}

func drawBorder(t *rapid.T) BorderID {
	addrs := []string{"0.0.0.0", "127.1.0.2", "255.255.255.255", "::", "2001:db8::1", "::ffff:10.0.0.1"}
	return BorderID{rapid.Uint32().Draw(t, "AS"), netip.MustParseAddr(rapid.SampledFrom(addrs).Draw(t, "address"))}
}

func drawMicros(t *rapid.T, label string) uint32 {
	unit := rapid.SampledFrom([]uint32{1, 1000, 1_000_000}).Draw(t, label+" unit")
	return rapid.OneOf(rapid.Just(Indeterminate), rapid.Map(rapid.Uint32Range(0, math.MaxUint32/unit), func(v uint32) uint32 { return v * unit })).Draw(t, label)
}

// drawObject draws an object with any of the parameters, each with any value that
// Parse takes and any flags.
func drawObject(t *rapid.T, o ObjectType) Params {
	all := ParamSet(rapid.Uint32().Draw(t, "has")) & AllParams
	flags := func(label string) ParamSet { return ParamSet(rapid.Uint32().Draw(t, label)) & all }
	p := Params{Has: all, Must: flags("M") | all&(1<<TMOD1ID), Failed: flags("E"), Unsupported: flags("N") &^ (1 << TMOD1ID)}
	for _, id := range all.IDs() {
		switch id {
		case TMOD1ID:
			p.TMOD1 = drawAnyTMOD(t, o)
		case TMOD2ID:
			p.TMOD2 = drawAnyTMOD(t, o)
		case PathLatencyID:
			p.PathLatency = drawMicros(t, "latency")
		case PathJitterID:
			p.PathJitter = PathJitter{rapid.OneOf(rapid.Just(Indeterminate), rapid.Uint32()).Draw(t, "v"), drawMicros(t, "q"), drawMicros(t, "l")}
		case PathPLRID:
			p.PathPLR = rapid.Float32Range(0, 1).Draw(t, "plr")
		case PathPERID:
			p.PathPER = rapid.Float32Range(0, 1).Draw(t, "per")
		case SlackTermID:
			p.SlackTerm = drawMicros(t, "slack")
		case PreemptionID:
			p.Preemption.Defending = rapid.Uint16().Draw(t, "defending")
			p.Preemption.Preempting = rapid.Uint16Range(0, p.Preemption.Defending).Draw(t, "preempting")
		case AdmissionID:
			p.Admission = Admission{rapid.Uint8().Draw(t, "Y.2171"), rapid.Uint8().Draw(t, "local")}
		case RPHID:
			p.RPH = RPH{rapid.Uint16().Draw(t, "namespace"), rapid.Uint8().Draw(t, "priority")}
		case ExcessID:
			p.Excess = Excess{ExcessTreatment(rapid.Uint8().Draw(t, "excess")), rapid.Uint8Range(0, 63).Draw(t, "remark")}
		case PHBClassID:
			p.PHB = PHBClass(rapid.Uint16().Draw(t, "phb"))
		case DSTEClassID:
			p.DSTE = rapid.Uint8().Draw(t, "dste")
		case Y1541ClassID:
			p.Y1541 = rapid.Uint8().Draw(t, "y1541")
		case TMODExtID:
			p.PeakBucket = rapid.OneOf(rapid.Just(infinity), rapid.Map(rapid.Uint32Range(1, 1<<24), func(v uint32) float32 { return float32(v) })).Draw(t, "Bp")
		case RestorationID:
			p.Restoration = Restoration{rapid.Uint8().Draw(t, "restore"), rapid.Uint8Range(0, 15).Draw(t, "TTR"), rapid.Uint8Range(0, 15).Draw(t, "EOR")}
		case EgressID:
			p.Egress = drawBorder(t)
		case IngressID:
			p.Ingress = drawBorder(t)
		case AbsoluteTimeID:
			at := rapid.Int64().Draw(t, "start")
			for range rapid.IntRange(1, MaxIntervals).Draw(t, "intervals") {
				x := Interval{at, at + rapid.Int64Range(1, 1e9).Draw(t, "long")}
				if at = x.End; x.Start < x.End {
					p.Absolute = append(p.Absolute, x)
				}
			}
			if checkIntervals(p.Absolute) != nil {
				p.Absolute = []Interval{{math.MinInt64, math.MaxInt64}}
			}
		case RelativeTimeID:
			p.Relative = RelativeTime{Start: rapid.Uint32().Draw(t, "start"), Duration: rapid.Uint32Min(1).Draw(t, "duration")}
			if rapid.Bool().Draw(t, "weekly") {
				p.Relative = RelativeTime{Weekly, rapid.Uint8Range(1, 127).Draw(t, "days"), rapid.Int16().Draw(t, "offset"),
					rapid.Uint32Range(0, 86399).Draw(t, "second"), rapid.Uint32Range(1, 7*86400).Draw(t, "duration")}
			}
		}
	}
	for _, id := range rapid.SliceOfNDistinct(rapid.Uint16Range(300, 4095), 0, 2, rapid.ID[uint16]).Draw(t, "unknown") {
		p.Extra = append(p.Extra, RawParam{ID: ParameterID(id), Must: rapid.Bool().Draw(t, "M"), Failed: rapid.Bool().Draw(t, "E"),
			Unsupported: rapid.Bool().Draw(t, "N"), Value: make([]byte, 4*rapid.IntRange(0, 3).Draw(t, "words"))})
	}
	if !p.Empty() {
		p.ObjectFailed = rapid.Bool().Draw(t, "object E")
	}
	return p
}

func drawQSPEC(t *rapid.T, local bool) QSPEC {
	q := QSPEC{Local: local, Type: Type(rapid.IntRange(0, 31).Draw(t, "type")),
		Sequence: MessageSequence(rapid.IntRange(0, 15).Draw(t, "sequence")), Combination: rapid.Uint8Range(0, 15).Draw(t, "combination")}
	for o := QoSDesired; o <= MinimumQoS; o++ {
		*q.Object(o) = drawObject(t, o)
	}
	if q.present() == 0 {
		q.Desired = Params{Has: 1 << Y1541ClassID}
	}
	return q
}

// Every QSPEC there can be goes through octets, text and JSON unchanged: parse(text(q))
// == q, and the same with JSON and with the wire.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawQSPEC(t, rapid.Bool().Draw(t, "local"))
		if q.Local && rapid.Bool().Draw(t, "encapsulates") {
			inner := drawQSPEC(t, false)
			q.Encapsulated = inner.Append(nil)
			if rapid.Bool().Draw(t, "with reserved bits") {
				q.Encapsulated[1] |= 0x30
			}
		}
		same := func(how string, got QSPEC, err error) {
			if err != nil || !reflect.DeepEqual(got, q) {
				t.Fatalf("%s: %v\n%s", how, err, cmp.Diff(q, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })))
			}
		}
		got, err := Parse(q.Append(nil))
		same("octets", got, err)
		text := q.String()
		got, err = ParseText(text)
		same(text, got, err)
		js, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		got = QSPEC{}
		err = json.Unmarshal(js, &got)
		same(string(js), got, err)
	})
}

// What a person writes, what it means, and how it is written back.
func TestTextForPeople(t *testing.T) {
	for _, c := range []struct{ text, canonical string }{
		{"tmod=20M/64k class=EF latency<=40ms", "initiator type=0 proc=0/2 desired{tmod=20M/64k latency<=40ms class=EF} available{latency=0us} minimum{latency<=40ms}"},
		{"class=AF41", "initiator type=0 proc=0/0 desired{class=AF41}"},
		{"tmod=1M/3k jitter<=50ms plr<=0.001!M", "initiator type=0 proc=0/2 desired{tmod=1M/3k jitter<=50ms plr<=0.001!M} available{jitter=0/0us/0us plr=0!M} minimum{jitter<=50ms plr<=0.001!M}"},
		{"y1541=0 tmod=1M/3k/2M peakbucket=9k restore=2/1/1", "initiator type=0 proc=0/0 desired{tmod=1M/3k/2M/64/1500 y1541=0 peakbucket=9k restore=2/1/1}"},
		{"class=EF time=2026-12-01T09:00:00+01:00..2026-12-01T10:00:00Z,1800000000..1800003600", "initiator type=0 proc=0/0 " +
			"desired{class=EF time=2026-12-01T08:00:00Z..2026-12-01T10:00:00Z,2027-01-15T08:00:00Z..2027-01-15T09:00:00Z}"},
		{"class=EF when=in/60s/90m", "initiator type=0 proc=0/0 desired{class=EF when=in/1m/90m}"},
		{"class=EF time=0..1000000 when=Mon-Fri,sun/08:00-03:30/1h", "initiator type=0 proc=0/0 " +
			"desired{class=EF time=1970-01-01T00:00:00Z..1970-01-12T13:46:40Z when=mon,tue,wed,thu,fri,sun/08:00-03:30/1h}"},
		{"class=EF when=fri-mon/23:30:15Z/1d time=0..1", "initiator type=0 proc=0/0 " +
			"desired{class=EF time=1970-01-01T00:00:00Z..1970-01-01T00:00:01Z when=mon,fri,sat,sun/23:30:15+00:00/1d}"},
		{"class=EF slack=1.5ms", "initiator type=0 proc=0/0 desired{slack=1500us class=EF}"},
		{"class=EF slack=250", "initiator type=0 proc=0/0 desired{slack=250us class=EF}"},
		{"class=EF latency<=unknown", "initiator type=0 proc=0/2 desired{latency<=unknown class=EF} available{latency=0us} minimum{latency<=unknown}"},
	} {
		q, err := ParseText(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if q.String() != c.canonical {
			t.Errorf("%s\nbecame %s\nwant   %s", c.text, q, c.canonical)
		}
		if err := q.Check(InReserve); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

// An error says where, what was expected and what was probably meant.
func TestTextErrors(t *testing.T) {
	for _, c := range []struct {
		text       string
		pos        int
		suggestion string
		says       string
	}{
		{"class=EF latnecy<=40ms", 9, "latency", "unknown parameter"},
		{"class=EF clas=AF11", 9, "class", "unknown parameter"},
		{"tmod=20M/64k/x", 5, "", "not a number"},
		{"tmod=4/1", 5, "", "at least 1"},
		{"tmod=2M/1k/1M", 5, "", "below the rate"},
		{"class=EF!X", 9, "", "expected M, E or N"},
		{"class", 0, "", "expected name=value"},
		{"class=EF class=EF", 9, "", "twice"},
		{"class=EF 300=00 ", 13, "", "whole words"},
		{"class=EF 300=00000000 300=00000000", 22, "", "twice"},
		{"class<=EF", 0, "", "<= is for bounds"},
		{"slack<=4", 0, "", "<= is for bounds"},
		{"latency=40m", 8, "", "not a time"},
		{"jitter=1/2", 7, "", "quantile"},
		{"time=tomorrow..", 5, "", "not a time"},
		{"time=5", 5, "", "not an interval"},
		{"time=5..5", 5, "", "not after its start"},
		{"when=someday/08:00Z/1h", 5, "", "not a day"},
		{"when=mon/08:00/1h", 5, "", "offset from UTC"},
		{"when=mon/24:00Z/1h", 5, "", "time of day"},
		{"when=mon/08:00Z/1y", 5, "", "span of time"},
		{"when=mon/08:00Z/8d time=0..1", 5, "", "weekly window"},
		{"preempt=7/3", 8, "", "exceeds"},
		{"when=mon/08:00Z/1h", 0, "", "Absolute Time Specification beside it"},
		{"", 0, "", "empty"},
		{"initiator proc=0/0 desird{class=EF}", 19, "desired", "unknown object"},
		{"initiator desired{class=EF", 10, "", "not closed"},
		{"initiator desired{}", 10, "", "empty"},
		{"initiator typ=3", 10, "type", "unknown word"},
		{"initiator available{latency<=3}", 20, "", "expected latency="},
		{"initiator encapsulated[00]", 10, "", "expected local"},
		{"local encapsulated[0000]", 19, "", "whole words"},
		{"local encapsulatd[00]", 6, "encapsulated", "unknown word"},
		{"local proc=0/2 encapsulated[initiator desired{class=EG}]", 52, "", "not a class"},
	} {
		q, err := ParseText(c.text)
		var e *TextError
		if !errors.As(err, &e) {
			t.Errorf("%q: %v, %v", c.text, q, err)
			continue
		}
		if e.Suggestion != c.suggestion || !strings.Contains(e.Error(), c.says) || e.Pos != c.pos && c.text != "when=mon/08:00Z/1h" {
			t.Errorf("%q: %v (at %d)", c.text, e, e.Pos)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	for _, c := range []struct {
		text       string
		pos        int
		suggestion string
	}{
		{``, 0, ""}, {`[]`, 0, ""}, {`{"type":32}`, 8, ""}, {`{"type":1,"type":1}`, 11, ""}, {`{"typ":1}`, 2, "type"},
		{`{"desired":{"tmdo":{"value":1}}}`, 13, "tmod"}, {`{"desired":{"tmod":{"value":{"rate":0.5,"bucket":1}}}}`, 28, ""},
		{`{"desired":{"tmod":{"value":{"rat":1}}}}`, 30, "rate"}, {`{"desired":{"class":{"value":"EG"}}}`, 30, ""},
		{`{"desired":{"class":{"valeu":"EF"}}}`, 22, "value"}, {`{"desired":{"class":{}}}`, 13, ""},
		{`{"desired":{"class":{"value":"E\u0046"}}}`, 31, ""}, {`{"local":maybe}`, 9, ""}, {`{"type":1} x`, 11, ""},
		{`{"desired":{"300":{"value":"0"}}}`, 28, ""}, {`{"local":true,"encapsulated":"00"}`, 30, ""},
		{`{"local":true,"encapsulated":{"encapsulated":""}}`, 31, ""}, {`{"type"`, 7, ""}, {`{"type":1`, 9, ""}, {`{"ty`, 4, ""},
	} {
		var q QSPEC
		err := q.UnmarshalJSON([]byte(c.text))
		var e *TextError
		if !errors.As(err, &e) || e.Pos != c.pos || e.Suggestion != c.suggestion {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

func FuzzUnmarshalJSON(f *testing.F) {
	l, e := localEF(f), everything()
	for _, q := range []QSPEC{l, e} {
		b, _ := q.MarshalJSON()
		f.Add(b)
	}
	f.Add([]byte(`{"desired":{"tmod":{"value":{"rate":1,"bucket":2,"peak":null}},"300":{"value":"00000000","must":true}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q QSPEC
		if q.UnmarshalJSON(b) != nil {
			return
		}
		out, _ := q.MarshalJSON()
		var again QSPEC
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%s became %s: %v", b, out, err)
		}
		if second, _ := again.MarshalJSON(); string(second) != string(out) {
			t.Fatalf("%s became %s, then %s", b, out, second)
		}
	})
}
