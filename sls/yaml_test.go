package sls

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// goldText says everything that an SLS can say (interdomain-qosm §5).
const goldText = `# what AS65002 sells to AS65001
id: as65001-as65002-gold
customer: 65001
provider: 65002
direction: to-provider
egress: 127.1.2.1
ingress: 127.2.1.1
scope: {destinations: [10.3.0.0/16, "2001:db8:3::/48"], sources: [any]}
degree: per-aggregate
classes:
  - {class: EF, cir: 100M, cbs: 64k, pir: 120M, pbs: 128Ki, largest_flow: 50M, excess: drop,
     dscp_wire: EF, dscp_inside: 44, delay: 20ms, jitter: 5ms, loss: 0.001}
  - {class: AF41, relative: true, excess: remark, excess_class: AF43}
valid: {from: 2027-01-01, to: 2028-01-01T00:00:00Z}
schedule:
  - {days: [mon..fri], start: "08:00", duration: 10h}
  - {days: [sat, sun], start: "22:30:15", duration: 3h30m}
time_zone: Europe/Berlin
admission: {oversubscription: 1.5, priorities: [0..3, 7], preemption: false, policy: ""}
status: suspended
---
id: small
customer: 65002
provider: 4200000003
scope: {destinations: any}
classes: [{class: BE, cir: 8001}]
`

func parseGold(t testing.TB) []SLS {
	t.Helper()
	list, err := Parse("gold.yaml", []byte(goldText))
	if err != nil || len(list) != 2 {
		t.Fatalf("%d SLSs, %v", len(list), err)
	}
	return list
}

// "id, version; customer AS and provider AS; ...; per class: absolute or
// relative; validity and a schedule; admission; lifecycle". interdomain-qosm §5
func TestParse(t *testing.T) {
	list := parseGold(t)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	gold := SLS{
		ID: "as65001-as65002-gold", Customer: 65001, Provider: 65002,
		Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1"),
		Destinations: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("2001:db8:3::/48")},
		Degree:       PerAggregate,
		Classes: []ClassSpec{
			{
				Class: EF, CIR: 12_500_000, CBS: 64_000, PIR: 15_000_000, PBS: 131_072, LargestFlow: 6_250_000,
				Wire: EF, Inside: 44, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.001,
			},
			{Class: AF41, Relative: true, Excess: Remark, ExcessClass: AF43, Wire: AF41, Inside: AF41},
		},
		ValidFrom:  time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC), // midnight in Berlin
		ValidUntil: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC),
		Schedule: []Window{
			{Days: 0b0011111, Start: 8 * time.Hour, Duration: 10 * time.Hour},
			{Days: 0b1100000, Start: 22*time.Hour + 30*time.Minute + 15*time.Second, Duration: 210 * time.Minute},
		},
		Zone:      berlin,
		Admission: Admission{Oversubscription: 1.5, Priorities: 0b10001111},
		Status:    Suspended,
	}
	small := SLS{
		ID: "small", Customer: 65002, Provider: 4200000003,
		Classes: []ClassSpec{{Class: BE, CIR: 1000, PIR: 1000, LargestFlow: 1000}}, // 8001 bit/s, rounded down
		Zone:    time.UTC, Admission: Admission{Oversubscription: 1, Priorities: 0xff},
	}
	for i, want := range []SLS{gold, small} {
		got, wanted := fmt.Sprintf("%+v", list[i]), fmt.Sprintf("%+v", want)
		if got != wanted {
			t.Errorf("SLS %d:\n got %s\nwant %s", i, got, wanted)
		}
	}
}

// What is written as JSON and as YAML reads back as the same. interdomain-qosm §5
func TestWriteAndRead(t *testing.T) {
	for _, s := range parseGold(t) {
		s.Version, s.ChangedBy, s.ChangedAt, s.ChangedWhy = 3, "uid 0", time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), "as: agreed\n"
		asJSON, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{asJSON, asYAML} {
			list, err := Parse("text", text)
			if err != nil || len(list) != 1 {
				t.Fatalf("%v in %s", err, text)
			}
			if got, want := fmt.Sprintf("%+v", list[0]), fmt.Sprintf("%+v", s); got != want {
				t.Errorf("%s\n got %s\nwant %s", text, got, want)
			}
		}
		var back SLS
		if err := json.Unmarshal(asJSON, &back); err != nil || fmt.Sprint(back) != fmt.Sprint(s) {
			t.Errorf("unmarshalled: %v\n got %+v\nwant %+v", err, back, s)
		}
	}
}

// The JSON form is what scripts rely on.
func TestJSONGolden(t *testing.T) {
	var indented bytes.Buffer
	for _, s := range parseGold(t) {
		b, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Indent(&indented, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
	}
	want, err := os.ReadFile("testdata/gold.json")
	if err != nil {
		t.Fatal(err)
	}
	if indented.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", &indented, want)
	}
}

const okTail = "scope: {destinations: any}\nclasses: [{class: EF, cir: 1M}]\n"

// Errors say where, what was found, and what was expected.
func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "colour: red\n", `t:6:1: colour: found an unknown key, expected one of id, version, changed_by, changed_at, changed_why, customer, provider, direction, egress, ingress, scope, degree, classes, valid, schedule, time_zone, admission, status`},
		{"id: a\ncostumer: 1\nprovider: 2\n" + okTail, `t:2:1: costumer: found an unknown key, expected one of id, version, changed_by, changed_at, changed_why, customer, provider, direction, egress, ingress, scope, degree, classes, valid, schedule, time_zone, admission, status (did you mean customer?)`},
		{"id: a\nid: b\n", `t:2:1: id: found the key a second time, expected it once (the first is in line 1)`},
		{"id: a b\ncustomer: 1\nprovider: 2\n" + okTail, `t:1:5: id: found "a b", expected 1 to 64 letters, digits, '.', '_' or '-'`},
		{"customer: 1\nprovider: 2\n" + okTail, `t:1:1: id: found "", expected 1 to 64 letters, digits, '.', '_' or '-'`},
		{"id: a\ncustomer: x\n", `t:2:11: customer: found "x", expected the AS whose traffic leaves it, an AS number from 1 to 4294967294`},
		{"id: a\ncustomer: [1]\n", `t:2:11: customer: found a list, expected the AS whose traffic leaves it, an AS number from 1 to 4294967294`},
		{"id: a\ncustomer: 1\nprovider: 1\n" + okTail, `t:3:11: provider: found AS1, which is the customer, expected another AS`},
		{"id: a\ncustomer: 1\nprovider: 2\negress: eth0\n" + okTail, `t:4:9: egress: found "eth0", expected any or the customer's border interface, an IPv4 or IPv6 address`},
		{"id: a\ncustomer: 1\nprovider: 2\negress: 224.0.0.1\n" + okTail, `t:4:9: egress: found "224.0.0.1", expected any or the customer's border interface, a unicast address without a zone`},
		{"id: a\ncustomer: 1\nprovider: 2\negress: 10.0.0.1\ningress: '::1'\n" + okTail, `t:5:10: ingress: found ::1 beside egress 10.0.0.1, expected the same IP version`},
		{"id: a\ncustomer: 1\nprovider: 2\nscope: {destinations: [10.3.0.1/16]}\nclasses: [{class: EF, cir: 1M}]\n", `t:4:24: scope.destinations[0]: found "10.3.0.1/16", expected any alone, an address, or a prefix such as 10.3.0.0/16 (it has host bits: did you mean 10.3.0.0/16?)`},
		{"id: a\ncustomer: 1\nprovider: 2\nscope: {destinations: [10.3.0.0/33]}\nclasses: [{class: EF, cir: 1M}]\n", `t:4:24: scope.destinations[0]: found "10.3.0.0/33", expected any alone, an address, or a prefix such as 10.3.0.0/16`},
		{"id: a\ncustomer: 1\nprovider: 2\nscope: {destinations: [any, 10.0.0.0/8]}\nclasses: [{class: EF, cir: 1M}]\n", `t:4:24: scope.destinations[0]: found "any"`},
		{"id: a\ncustomer: 1\nprovider: 2\nscope: {destinations: [10.0.0.0/8, 10.0.0.0/8]}\nclasses: [{class: EF, cir: 1M}]\n", `t:4:36: scope.destinations[1]: found 10.0.0.0/8 a second time`},
		{"id: a\ncustomer: 1\nprovider: 2\n", `t:1:1: classes: found none, expected at least one class`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EG, cir: 1M}\n", `t:5:11: classes[0].class: found "EG", expected a class, EF, AF11 to AF43, CS0 to CS7, BE, or a DSCP from 0 to 63`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {cir: 1M}\n", `t:5:3: classes[0].class: found nothing, expected a class, EF, AF11 to AF43, CS0 to CS7, BE, or a DSCP from 0 to 63`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 1M}\n- {class: 46, cir: 2M}\n", `t:6:11: classes[1].class: found EF a second time, expected each class once`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: fast}\n", `t:5:20: classes[0].cir: found "fast", expected a rate in bit/s of at least 8, e.g. 64k, 20M, 1.5G ("fast" is not a number)`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 7}\n", `t:5:20: classes[0].cir: found "7", expected a rate in bit/s of at least 8, e.g. 64k, 20M, 1.5G`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF}\n", `t:5:3: classes[0].cir: found none, expected a rate, or relative: true`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 10M, pir: 8M}\n", `t:5:30: classes[0].pir: found 8000000 bit/s, less than cir, expected at least 10000000`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 10M, largest_flow: 20M}\n", `t:5:39: classes[0].largest_flow: found 20000000 bit/s, more than cir, expected at most 10000000`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, relative: true, cir: 1M}\n", `t:5:25: classes[0].relative: found true beside rates or sizes`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 1M, excess: remark}\n", `t:5:3: classes[0].excess_class: found nothing, expected the class that excess traffic is remarked to`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 1M, dscp_wire: BE}\n", `t:5:35: classes[0].dscp_wire: found BE for class EF`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 1M, loss: 2}\n", `t:5:30: classes[0].loss: found "2", expected the share of packets that may be lost, a number from 0 to 1`},
		{"id: a\ncustomer: 1\nprovider: 2\nclasses:\n- {class: EF, cir: 1M, delay: 20}\n", `t:5:31: classes[0].delay: found "20", expected a duration from 0s, e.g. 500ms, 30s, 5m, 1h30m (which unit? 20s?)`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "valid: {from: 2027-02-30}\n", `t:6:15: valid.from: found "2027-02-30", expected a time as in 2027-01-31T08:00:00Z, a date as in 2027-01-31, or nothing`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "valid: {from: 2027-02-02, to: 2027-02-01}\n", `t:6:31: valid.to: found 2027-02-01T00:00:00Z, expected it after valid.from`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "schedule: [{days: [fri..mon], start: '08:00', duration: 1h}]\n", `t:6:20: schedule[0].days[0]: found "fri..mon", expected a list of mon, tue, wed, thu, fri, sat, sun, or ranges as in mon..fri`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "schedule: [{days: [mon], start: '24:00', duration: 1h}]\n", `t:6:33: schedule[0].start: found "24:00", expected a time of day as in "08:00" or "08:00:30"`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "schedule: [{days: [mon], start: '08:00', duration: 200h}]\n", `t:6:52: schedule[0].duration: found "200h", expected how long the window is, a duration from 1s to 168h, e.g. 500ms, 30s, 5m, 1h30m`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "time_zone: Local\n", `t:6:12: time_zone: found "Local", expected the name of a time zone, as in Europe/Berlin or UTC`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "admission: {oversubscription: 0}\n", `t:6:31: admission.oversubscription: found "0", expected a number above 0`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "admission: {priorities: [8]}\n", `t:6:26: admission.priorities[0]: found "8", expected a list of 0, 1, 2, 3, 4, 5, 6, 7, or ranges as in 0..4`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "admission: {policy: 'rate < 10'}\n", `t:6:21: admission.policy: found "rate < 10", expected nothing: policy expressions are not supported yet`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "status: live\n", `t:6:9: status: found "live", expected one of active, offered, negotiated, suspended, expired, withdrawn`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "direction: both\n", `t:6:12: direction: found "both", expected to-provider (for the other direction write an SLS with customer and provider exchanged)`},
		{"id: &x a\ncustomer: 1\nprovider: 2\n" + okTail, `t:1:5: id: found the anchor &x, expected just a value (anchors and aliases are not supported)`},
		{"id: a\ncustomer: 1\nprovider: 2\n" + okTail + "---\nid: a\ncustomer: 1\nprovider: 2\n" + okTail, `t:7:5: id: found "a", which is in line 1 already, expected each id once`},
		{"just text\n", `t:1:1: found "just text", expected an SLS, a mapping`},
		{"id: [\n", `t:2:1: found a YAML syntax error: did not find expected node content, expected YAML`},
	} {
		list, err := Parse("t", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q:\n got %v, %v\nwant %s", test.text, list, err, test.want)
		}
	}
}

// All that is wrong is told at once.
func TestParseTellsAll(t *testing.T) {
	_, err := Parse("t", []byte("id: a\ncustomer: x\nprovidr: 2\nclasses: 7\n"))
	if got := strings.Count(fmt.Sprint(err), "\n") + 1; got != 4 { // provider is missing, too
		t.Errorf("%d errors, want 4: %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goldText))
	for _, s := range parseGold(f) {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("id: a\ncustomer: 1\nprovider: 2\n" + okTail))
	f.Add([]byte("[{id: a, customer: 1, provider: 2, classes: [{class: AF11, relative: true}]}]"))
	f.Add([]byte("a: &a [*a]"))
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		if err := checkDocuments(schema, text); err != nil {
			t.Fatalf("the JSON Schema refuses what Parse takes: %v", err)
		}
		for _, s := range list {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			again, err := Parse("again", b)
			if err != nil || len(again) != 1 {
				t.Fatalf("%s: %v", b, err)
			}
			if c, _ := json.Marshal(again[0]); !bytes.Equal(b, c) {
				t.Fatalf("%s reads back as %s", b, c)
			}
			if err := New(Config{}).LoadSLS(again); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
		}
	})
}
