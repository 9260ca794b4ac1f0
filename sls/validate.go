package sls

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/strictyaml"
)

// Bounds of what an SLS may say.
const (
	maxID       = 64
	maxPrefixes = 65536 // in destinations, and in sources
	maxWindows  = 64
	maxFactor   = 100 // over-subscription

	maxWhyLength = 1000 // octets of ChangedWhy
)

// Invalid says what is wrong with an SLS.
type Invalid struct {
	SLS      string
	Problems []Problem
}

// Problem is one thing wrong with an SLS: where, as in "classes[0].pir", what
// was found there, and what was expected.
type Problem struct{ Path, Found, Expected string }

func (e *Invalid) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = fmt.Sprintf("%s: found %s, expected %s", p.Path, p.Found, p.Expected)
	}
	return fmt.Sprintf("SLS %q: %s", e.SLS, strings.Join(texts, "; "))
}

// problems collects.
type problems []Problem

func (p *problems) add(path, found, expected string) {
	*p = append(*p, Problem{path, found, expected})
}

// Normalize fills in what an SLS leaves out: a zero PIR and LargestFlow are
// the CIR, a zero Wire and Inside the class itself, a zero Oversubscription 1,
// zero Priorities all of them, a nil Zone UTC. It then returns nil or
// *Invalid. The slices of s may be changed in place.
func (s *SLS) Normalize() error {
	for i := range s.Classes {
		s.Classes[i].normalize()
	}
	if s.Admission.Oversubscription == 0 {
		s.Admission.Oversubscription = 1
	}
	if s.Admission.Priorities == 0 {
		s.Admission.Priorities = 0xff
	}
	if s.Zone == nil {
		s.Zone = time.UTC
	}
	s.Egress, s.Ingress = s.Egress.Unmap(), s.Ingress.Unmap()
	var p problems
	s.checkParties(&p)
	s.checkScope(&p)
	s.checkClasses(&p)
	s.checkTimes(&p)
	s.checkAdmission(&p)
	if len(p) > 0 {
		return &Invalid{SLS: s.ID, Problems: p}
	}
	return nil
}

func (c *ClassSpec) normalize() {
	if !c.Relative {
		if c.PIR == 0 {
			c.PIR = c.CIR
		}
		if c.LargestFlow == 0 {
			c.LargestFlow = c.CIR
		}
	}
	if c.Wire == 0 {
		c.Wire = c.Class
	}
	if c.Inside == 0 {
		c.Inside = c.Class
	}
}

func (s *SLS) checkParties(p *problems) {
	if s.ID == "" || len(s.ID) > maxID || strings.Trim(s.ID, idLetters) != "" || !plainID(s.ID) {
		p.add("id", strconv.Quote(s.ID), fmt.Sprintf("1 to %d letters, digits, '.', '_' or '-'", maxID))
	}
	for _, as := range []struct {
		path   string
		number uint32
	}{{"customer", s.Customer}, {"provider", s.Provider}} {
		if !strictyaml.UsableAS(as.number) {
			p.add(as.path, fmt.Sprint(as.number), "an AS number from 1 to 4294967294 that is not reserved")
		}
	}
	if s.Customer == s.Provider && s.Customer != 0 {
		p.add("provider", fmt.Sprintf("AS%d, which is the customer", s.Provider), "another AS")
	}
	for _, a := range []struct {
		path string
		addr netip.Addr
	}{{"egress", s.Egress}, {"ingress", s.Ingress}} {
		if a.addr.IsValid() && (a.addr.IsUnspecified() || a.addr.IsMulticast() || a.addr.Zone() != "") {
			p.add(a.path, a.addr.String(), "the unicast address of a border interface, or any")
		}
	}
	if s.Egress.IsValid() && s.Ingress.IsValid() && s.Egress.Is4() != s.Ingress.Is4() {
		p.add("ingress", fmt.Sprintf("%s beside egress %s", s.Ingress, s.Egress), "the same IP version")
	}
	if len(s.ChangedWhy) > maxWhyLength {
		p.add("changed_why", fmt.Sprintf("%d octets", len(s.ChangedWhy)), fmt.Sprintf("at most %d", maxWhyLength))
	}
	if int(s.Status) >= len(statusNames) {
		p.add("status", fmt.Sprintf("%d", s.Status), strings.Join(statusNames, ", "))
	}
}

const idLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func plainID(id string) bool {
	return !strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(idLetters, r) })
}

func (s *SLS) checkScope(p *problems) {
	if int(s.Degree) >= len(degreeNames) {
		p.add("degree", fmt.Sprintf("%d", s.Degree), strings.Join(degreeNames, " or "))
	}
	for _, l := range []struct {
		path string
		list []netip.Prefix
	}{{"scope.destinations", s.Destinations}, {"scope.sources", s.Sources}} {
		if len(l.list) > maxPrefixes {
			p.add(l.path, fmt.Sprintf("%d prefixes", len(l.list)), fmt.Sprintf("at most %d", maxPrefixes))
		}
		seen := make(map[netip.Prefix]bool, len(l.list))
		for i, x := range l.list {
			at := fmt.Sprintf("%s[%d]", l.path, i)
			switch {
			case !x.IsValid() || x.Addr().Is4In6():
				p.add(at, x.String(), "an IPv4 or IPv6 prefix")
			case x != x.Masked():
				p.add(at, fmt.Sprintf("%s, which has host bits set", x), x.Masked().String())
			case seen[x]:
				p.add(at, fmt.Sprintf("%s a second time", x), "each prefix once")
			}
			seen[x] = true
		}
	}
}

func (s *SLS) checkClasses(p *problems) {
	if len(s.Classes) == 0 {
		p.add("classes", "none", "at least one class")
	}
	seen := make(map[Class]bool)
	for i := range s.Classes {
		c, at := &s.Classes[i], fmt.Sprintf("classes[%d].", i)
		if c.Class > 63 || c.Wire > 63 || c.Inside > 63 || c.ExcessClass > 63 {
			p.add(at+"class", "a DSCP above 63", "0 to 63")
		}
		if seen[c.Class] {
			p.add(at+"class", fmt.Sprintf("%s a second time", c.Class), "each class once")
		}
		seen[c.Class] = true
		c.check(at, p)
	}
}

func (c *ClassSpec) check(at string, p *problems) {
	switch {
	case c.Relative && (c.CIR|c.PIR|c.LargestFlow|c.CBS|c.PBS) != 0:
		p.add(at+"relative", "true beside rates or sizes", "either relative or cir and what goes with it")
	case c.Relative:
	case c.CIR == 0:
		p.add(at+"cir", "none", "a rate, or relative: true")
	case c.CIR > MaxRate || c.PIR > MaxRate:
		p.add(at+"cir", fmt.Sprintf("a rate above %d Tbit/s", uint64(MaxRate*8/1e12)), "less")
	case c.PIR < c.CIR:
		p.add(at+"pir", fmt.Sprintf("%d bit/s, less than cir", c.PIR*8), fmt.Sprintf("at least %d", c.CIR*8))
	case c.LargestFlow > c.CIR:
		p.add(at+"largest_flow", fmt.Sprintf("%d bit/s, more than cir", c.LargestFlow*8), fmt.Sprintf("at most %d", c.CIR*8))
	}
	if int(c.Excess) >= len(excessNames) {
		p.add(at+"excess", fmt.Sprintf("%d", c.Excess), strings.Join(excessNames, ", "))
	}
	if c.Excess != Remark && c.ExcessClass != 0 {
		p.add(at+"excess_class", fmt.Sprintf("%s beside excess: %s", c.ExcessClass, c.Excess), "it only with excess: remark")
	}
	if c.Delay < 0 || c.Jitter < 0 {
		p.add(at+"delay", "a negative time", "neither delay nor jitter to be one")
	}
	if !(c.Loss >= 0 && c.Loss <= 1) {
		p.add(at+"loss", fmt.Sprintf("%v", c.Loss), "a ratio from 0 to 1")
	}
}

func (s *SLS) checkTimes(p *problems) {
	for _, t := range []struct {
		path string
		time time.Time
	}{{"valid.from", s.ValidFrom}, {"valid.to", s.ValidUntil}} {
		if !t.time.IsZero() && (t.time.Year() < 1970 || t.time.Year() > 9999 || t.time.Nanosecond() != 0) {
			p.add(t.path, t.time.Format(time.RFC3339Nano), "a whole second from 1970 to 9999")
		}
	}
	if !s.ValidFrom.IsZero() && !s.ValidUntil.IsZero() && !s.ValidFrom.Before(s.ValidUntil) {
		p.add("valid.to", s.ValidUntil.Format(time.RFC3339), "it after valid.from")
	}
	if s.Zone == time.Local {
		p.add("time_zone", "Local", "the name of a time zone, as in Europe/Berlin")
	}
	if len(s.Schedule) > maxWindows {
		p.add("schedule", fmt.Sprintf("%d windows", len(s.Schedule)), fmt.Sprintf("at most %d", maxWindows))
	}
	for i, w := range s.Schedule {
		at := fmt.Sprintf("schedule[%d].", i)
		if w.Days == 0 || w.Days > 0x7f {
			p.add(at+"days", "none", "at least one of "+strings.Join(dayNames, ", "))
		}
		if w.Start < 0 || w.Start >= 24*time.Hour || w.Start%time.Second != 0 {
			p.add(at+"start", w.Start.String(), "a time of day in whole seconds, from 00:00 to 23:59:59")
		}
		if w.Duration <= 0 || w.Duration > week || w.Duration%time.Second != 0 {
			p.add(at+"duration", w.Duration.String(), "whole seconds, more than 0 and at most 168h")
		}
	}
}

var dayNames = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (s *SLS) checkAdmission(p *problems) {
	if f := s.Admission.Oversubscription; !(f >= 0.01 && f <= maxFactor) {
		p.add("admission.oversubscription", fmt.Sprintf("%v", f), fmt.Sprintf("a factor from 0.01 to %d", maxFactor))
	}
	if s.Admission.Policy != "" {
		p.add("admission.policy", strconv.Quote(s.Admission.Policy), "nothing: policy expressions are not supported yet")
	}
}

// clone copies an SLS with its slices.
func (s SLS) clone() SLS {
	s.Destinations = slices.Clone(s.Destinations)
	s.Sources = slices.Clone(s.Sources)
	s.Classes = slices.Clone(s.Classes)
	s.Schedule = slices.Clone(s.Schedule)
	return s
}
