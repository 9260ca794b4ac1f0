package sls

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/strictyaml"
)

// Parse reads the SLSs of a YAML text, of which JSON is a part. The text may
// hold several documents, each an SLS or a list of them. It is strict: unknown
// and repeated keys are errors, and so are anchors, aliases and tags. name is
// what errors call the text; all errors are told at once, in the order of the
// text, each as name:line:column, where in the document, what was found and
// what was expected.
//
// Rates are in bit/s (100M, 1.5G), sizes in octets (64k, 128Ki), times as in
// 20ms. A rate that is not a whole number of octets/s is rounded down.
//
// Time zones come from the time package's own database; nothing else is read.
func Parse(name string, text []byte) ([]SLS, error) {
	r := &strictyaml.Reader{File: name}
	d := &decoder{r: r, ids: make(map[string]int)}
	for _, doc := range r.Documents(text) {
		switch {
		case doc.IsList():
			for _, v := range doc.List("") {
				d.sls(v)
			}
		case !doc.IsNull():
			d.sls(doc)
		}
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return d.slss, nil
}

// decoder collects the SLSs of a text.
type decoder struct {
	r    *strictyaml.Reader
	slss []SLS
	ids  map[string]int // line of each id
}

// sls reads one SLS, and checks it if its form was right.
func (d *decoder) sls(v strictyaml.Value) {
	before := d.r.Count()
	s := readSLS(v.Check())
	if d.r.Count() > before {
		return
	}
	if bad, ok := errors.AsType[*Invalid](s.Normalize()); ok {
		for _, p := range bad.Problems {
			v.At(p.Path).Wrong(p.Found, p.Expected, "")
		}
		return
	}
	id := v.At("id")
	if line, ok := d.ids[s.ID]; ok {
		id.Wrong(fmt.Sprintf("%q, which is in line %d already", s.ID, line), "each id once", "")
		return
	}
	d.ids[s.ID] = id.Line()
	d.slss = append(d.slss, s)
}

func readSLS(v strictyaml.Value) SLS {
	o := v.Object("an SLS, a mapping", "id", "version", "changed_by", "changed_at", "changed_why", "customer", "provider", "direction",
		"egress", "ingress", "scope", "degree", "classes", "valid", "schedule", "time_zone", "admission", "status")
	scope := o.Get("scope").Object("a mapping with destinations and sources", "destinations", "sources")
	valid := o.Get("valid").Object("a mapping with from and to", "from", "to")
	admission := o.Get("admission").Object("a mapping", "oversubscription", "priorities", "preemption", "policy")
	s := SLS{
		ID:           text(o.Get("id")),
		Version:      uint32(o.Get("version").Number("", 0, math.MaxUint32, 0)),
		ChangedBy:    text(o.Get("changed_by")),
		ChangedAt:    instant(o.Get("changed_at"), time.UTC),
		ChangedWhy:   text(o.Get("changed_why")),
		Customer:     o.Need("customer").AS("the AS whose traffic leaves it"),
		Provider:     o.Need("provider").AS("the AS that the traffic enters"),
		Egress:       address(o.Get("egress"), "any or the customer's border interface"),
		Ingress:      address(o.Get("ingress"), "any or the provider's border interface"),
		Destinations: prefixes(scope.Get("destinations")),
		Sources:      prefixes(scope.Get("sources")),
		Degree:       oneOf[Degree](o.Get("degree"), degreeNames),
		Zone:         zone(o.Get("time_zone")),
		Admission: Admission{
			Oversubscription: admission.Get("oversubscription").Decimal("", 0),
			Priorities:       nameSet(admission.Get("priorities"), []string{"0", "1", "2", "3", "4", "5", "6", "7"}),
			Preemption:       admission.Get("preemption").Bool(false),
			Policy:           text(admission.Get("policy")),
		},
		Status: oneOf[Status](o.Get("status"), statusNames),
	}
	s.ValidFrom, s.ValidUntil = instant(valid.Get("from"), s.Zone), instant(valid.Get("to"), s.Zone)
	direction(o.Get("direction"))
	for _, c := range o.Get("classes").List("a list of classes") {
		s.Classes = append(s.Classes, class(c))
	}
	for _, w := range o.Get("schedule").List("a list of windows") {
		s.Schedule = append(s.Schedule, window(w))
	}
	return s
}

// text reads a text, which may be empty.
func text(v strictyaml.Value) string {
	if v.IsNull() {
		return ""
	}
	s, _ := v.Scalar("a text")
	return s
}

func oneOf[T ~uint8](v strictyaml.Value, names []string) T {
	return T(slices.Index(names, v.Word(names[0], names...)))
}

func direction(v strictyaml.Value) {
	const expected = "to-provider"
	if s, ok := v.Scalar(expected); ok && s != expected {
		v.Bad(expected, "for the other direction write an SLS with customer and provider exchanged")
	}
}

// address reads an address, or any.
func address(v strictyaml.Value, what string) netip.Addr {
	if v.Is("any") {
		return netip.Addr{}
	}
	return v.Address(what)
}

// prefixes reads a list of prefixes, or any.
func prefixes(v strictyaml.Value) []netip.Prefix {
	const expected = "a list of prefixes, or any"
	if v.Is("any") {
		return nil
	}
	items := v.List(expected)
	if len(items) == 1 && items[0].Is("any") {
		return nil
	}
	if v.IsList() && len(items) == 0 {
		v.Wrong("an empty list", expected, "")
	}
	var list []netip.Prefix
	for _, item := range items {
		list = append(list, item.PrefixOrAddress("any alone"))
	}
	return list
}

func class(v strictyaml.Value) ClassSpec {
	o := v.Object("a class, a mapping", "class", "relative", "cir", "pir", "cbs", "pbs", "largest_flow",
		"excess", "excess_class", "dscp_wire", "dscp_inside", "delay", "jitter", "loss")
	c := ClassSpec{
		Class:       phb(o.Need("class")),
		Relative:    o.Get("relative").Bool(false),
		CIR:         rate(o.Get("cir")),
		PIR:         rate(o.Get("pir")),
		CBS:         o.Get("cbs").Size("", 0),
		PBS:         o.Get("pbs").Size("", 0),
		LargestFlow: rate(o.Get("largest_flow")),
		Excess:      oneOf[Excess](o.Get("excess"), excessNames),
		ExcessClass: phb(o.Get("excess_class")),
		Wire:        phb(o.Get("dscp_wire")),
		Inside:      phb(o.Get("dscp_inside")),
		Delay:       o.Get("delay").Duration("", 0, math.MaxInt64, 0),
		Jitter:      o.Get("jitter").Duration("", 0, math.MaxInt64, 0),
		Loss:        o.Get("loss").Ratio("the share of packets that may be lost", 0),
	}
	if c.Excess == Remark {
		o.Get("excess_class").Required("the class that excess traffic is remarked to")
	}
	apart(o.Get("dscp_wire"), c.Wire, c.Class)
	apart(o.Get("dscp_inside"), c.Inside, c.Class)
	return c
}

// apart notes the marking BE of another class: a zero Wire or Inside stands for
// the class itself.
func apart(v strictyaml.Value, mark, class Class) {
	if v.There() && mark == BE && class != BE {
		v.Wrong(fmt.Sprintf("%s for class %s", mark, class), "a DSCP that keeps it apart from best effort", "")
	}
}

func phb(v strictyaml.Value) Class {
	s, ok := v.Scalar("a class, " + classForms)
	if !ok {
		return BE
	}
	c, err := ParseClass(s)
	if err != nil {
		v.Bad("a class, "+classForms, "")
	}
	return c
}

func rate(v strictyaml.Value) uint64 { return OctetsDown(v.Rate("", 8)) }

// instant reads a point in time; a date alone is its first second in zone.
func instant(v strictyaml.Value, zone *time.Location) time.Time {
	const expected = "a time as in 2027-01-31T08:00:00Z, a date as in 2027-01-31, or nothing"
	if v.IsNull() || v.Is("") {
		return time.Time{}
	}
	s, ok := v.Scalar(expected)
	if !ok {
		return time.Time{}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC()
	}
	t, err := time.ParseInLocation(time.DateOnly, s, zone)
	if err != nil {
		v.Bad(expected, "")
	}
	return t.UTC()
}

func zone(v strictyaml.Value) *time.Location {
	const expected = "the name of a time zone, as in Europe/Berlin or UTC"
	s, ok := v.Scalar(expected)
	if !ok {
		return time.UTC
	}
	zone, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		v.Bad(expected, "")
		return time.UTC
	}
	return zone
}

func window(v strictyaml.Value) Window {
	o := v.Object("a mapping with days, start and duration", "days", "start", "duration")
	return Window{
		Days:     nameSet(o.Get("days"), dayNames),
		Start:    clock(o.Get("start")),
		Duration: o.Get("duration").Duration("how long the window is", time.Second, week, 0),
	}
}

// clock reads a time of day.
func clock(v strictyaml.Value) time.Duration {
	const expected = `a time of day as in "08:00" or "08:00:30"`
	s, ok := v.Scalar(expected)
	if !ok {
		return 0
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		t, err = time.Parse("15:04:05", s)
	}
	if err != nil || t.Nanosecond() != 0 {
		v.Bad(expected, "")
		return 0
	}
	return t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC))
}

// nameSet reads a set: names, or ranges of them as in mon..fri, as bits in the
// order of names.
func nameSet(v strictyaml.Value, names []string) (set uint8) {
	expected := fmt.Sprintf("a list of %s, or ranges as in %s..%s", strings.Join(names, ", "), names[0], names[4])
	items := v.List(expected)
	if v.IsList() && len(items) == 0 {
		v.Wrong("an empty list", expected, "")
	}
	for _, item := range items {
		s, ok := item.Scalar(expected)
		if !ok {
			continue
		}
		first, last, isRange := strings.Cut(s, "..")
		if !isRange {
			last = first
		}
		i, j := slices.Index(names, first), slices.Index(names, last)
		if i < 0 || j < i {
			item.Bad(expected, "")
			continue
		}
		for ; i <= j; i++ {
			set |= 1 << i
		}
	}
	return set
}
