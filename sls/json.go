package sls

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/internal/units"
)

// document is the outward form of an SLS. In JSON rates are numbers in bit/s,
// in YAML texts as people write them; Parse reads both.
type document struct {
	ID         string          `json:"id" yaml:"id"`
	Version    uint32          `json:"version,omitempty" yaml:"version,omitempty"`
	ChangedBy  string          `json:"changed_by,omitempty" yaml:"changed_by,omitempty"`
	ChangedAt  string          `json:"changed_at,omitempty" yaml:"changed_at,omitempty"`
	ChangedWhy string          `json:"changed_why,omitempty" yaml:"changed_why,omitempty"`
	Customer   uint32          `json:"customer" yaml:"customer"`
	Provider   uint32          `json:"provider" yaml:"provider"`
	Direction  string          `json:"direction" yaml:"direction"`
	Egress     string          `json:"egress" yaml:"egress"`
	Ingress    string          `json:"ingress" yaml:"ingress"`
	Scope      scopeDocument   `json:"scope" yaml:"scope"`
	Degree     string          `json:"degree" yaml:"degree"`
	Classes    []classDocument `json:"classes" yaml:"classes"`
	Valid      *validDocument  `json:"valid,omitempty" yaml:"valid,omitempty"`
	Schedule   []winDocument   `json:"schedule,omitempty" yaml:"schedule,omitempty"`
	TimeZone   string          `json:"time_zone,omitempty" yaml:"time_zone,omitempty"`
	Admission  admDocument     `json:"admission" yaml:"admission"`
	Status     string          `json:"status" yaml:"status"`
}

type scopeDocument struct {
	Destinations []string `json:"destinations" yaml:"destinations,flow"`
	Sources      []string `json:"sources" yaml:"sources,flow"`
}

type classDocument struct {
	Class       string     `json:"class" yaml:"class"`
	Relative    bool       `json:"relative,omitempty" yaml:"relative,omitempty"`
	CIR         bitRate    `json:"cir,omitempty" yaml:"cir,omitempty"`
	CBS         octetCount `json:"cbs,omitempty" yaml:"cbs,omitempty"`
	PIR         bitRate    `json:"pir,omitempty" yaml:"pir,omitempty"`
	PBS         octetCount `json:"pbs,omitempty" yaml:"pbs,omitempty"`
	LargestFlow bitRate    `json:"largest_flow,omitempty" yaml:"largest_flow,omitempty"`
	Excess      string     `json:"excess" yaml:"excess"`
	ExcessClass string     `json:"excess_class,omitempty" yaml:"excess_class,omitempty"`
	Wire        string     `json:"dscp_wire" yaml:"dscp_wire"`
	Inside      string     `json:"dscp_inside" yaml:"dscp_inside"`
	Delay       string     `json:"delay,omitempty" yaml:"delay,omitempty"`
	Jitter      string     `json:"jitter,omitempty" yaml:"jitter,omitempty"`
	Loss        float64    `json:"loss,omitempty" yaml:"loss,omitempty"`
}

type validDocument struct {
	From string `json:"from,omitempty" yaml:"from,omitempty"`
	To   string `json:"to,omitempty" yaml:"to,omitempty"`
}

type winDocument struct {
	Days     []string `json:"days" yaml:"days,flow"`
	Start    string   `json:"start" yaml:"start"`
	Duration string   `json:"duration" yaml:"duration"`
}

type admDocument struct {
	Oversubscription float64 `json:"oversubscription" yaml:"oversubscription"`
	Priorities       []int   `json:"priorities" yaml:"priorities,flow"`
	Preemption       bool    `json:"preemption" yaml:"preemption"`
	Policy           string  `json:"policy" yaml:"policy"`
}

// bitRate is bit/s, octetCount octets: numbers in JSON, texts in YAML.
type (
	bitRate    uint64
	octetCount uint64
)

// MarshalYAML writes a rate as people do.
func (r bitRate) MarshalYAML() (any, error) { return units.FormatRate(uint64(r)), nil }

// MarshalYAML writes a size as people do.
func (n octetCount) MarshalYAML() (any, error) { return units.FormatSize(uint64(n)), nil }

// MarshalJSON writes the SLS with the keys that Parse reads; rates are numbers
// in bit/s.
func (s SLS) MarshalJSON() ([]byte, error) { return json.Marshal(s.document()) }

// MarshalYAML gives the YAML encoder the form that Parse reads.
func (s SLS) MarshalYAML() (any, error) { return s.document(), nil }

// UnmarshalJSON reads what MarshalJSON writes, as strictly as Parse.
func (s *SLS) UnmarshalJSON(b []byte) error {
	list, err := Parse("JSON", b)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("found %d SLSs; expected one", len(list))
	}
	*s = list[0]
	return nil
}

func (s *SLS) document() document {
	d := document{
		ID: s.ID, Version: s.Version, ChangedBy: s.ChangedBy, ChangedAt: rfc3339(s.ChangedAt), ChangedWhy: s.ChangedWhy,
		Customer: s.Customer, Provider: s.Provider, Direction: "to-provider",
		Egress: addressText(s.Egress), Ingress: addressText(s.Ingress),
		Scope:  scopeDocument{Destinations: prefixTexts(s.Destinations), Sources: prefixTexts(s.Sources)},
		Degree: s.Degree.String(), Status: s.Status.String(),
		Admission: admDocument{
			Oversubscription: s.Admission.Oversubscription, Priorities: []int{},
			Preemption: s.Admission.Preemption, Policy: s.Admission.Policy,
		},
	}
	for i := range 8 {
		if s.Admission.Priorities>>i&1 == 1 {
			d.Admission.Priorities = append(d.Admission.Priorities, i)
		}
	}
	for i := range s.Classes {
		d.Classes = append(d.Classes, s.Classes[i].document())
	}
	if !s.ValidFrom.IsZero() || !s.ValidUntil.IsZero() {
		d.Valid = &validDocument{From: rfc3339(s.ValidFrom), To: rfc3339(s.ValidUntil)}
	}
	for _, w := range s.Schedule {
		v := winDocument{Duration: w.Duration.String(), Start: time.Unix(0, 0).UTC().Add(w.Start).Format("15:04:05")}
		for i, day := range dayNames {
			if w.Days>>i&1 == 1 {
				v.Days = append(v.Days, day)
			}
		}
		d.Schedule = append(d.Schedule, v)
	}
	if s.Zone != nil && s.Zone != time.UTC {
		d.TimeZone = s.Zone.String()
	}
	return d
}

func (c *ClassSpec) document() classDocument {
	d := classDocument{
		Class: c.Class.String(), Relative: c.Relative,
		CIR: bitRate(c.CIR * 8), PIR: bitRate(c.PIR * 8), LargestFlow: bitRate(c.LargestFlow * 8),
		CBS: octetCount(c.CBS), PBS: octetCount(c.PBS),
		Excess: c.Excess.String(), Wire: c.Wire.String(), Inside: c.Inside.String(), Loss: c.Loss,
	}
	if c.Excess == Remark {
		d.ExcessClass = c.ExcessClass.String()
	}
	if c.Delay != 0 {
		d.Delay = c.Delay.String()
	}
	if c.Jitter != 0 {
		d.Jitter = c.Jitter.String()
	}
	return d
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "any"
	}
	return a.String()
}

func prefixTexts(list []netip.Prefix) []string {
	if len(list) == 0 {
		return []string{"any"}
	}
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return texts
}
