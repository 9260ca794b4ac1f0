package qnectl

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
)

// view is what one AS shows of a session to who may ask it.
type view struct {
	status      *api.NodeStatus
	reservation *api.Reservation // nil: it has none (any more)
	events      []*api.TraceEvent
}

// look asks this AS and those of --peer-socket about a session. What cannot be
// seen is left out, with a warning.
func look(c *urfave.Context, own *clients, id string) []view {
	var views []view
	ask := func(k *clients) error {
		var v view
		var err error
		if v.status, err = k.node.Status(c.Context, &api.StatusRequest{}); err != nil {
			return k.Explain(err)
		}
		if v.reservation, err = k.reservations.Get(c.Context, &api.GetReservationRequest{SessionId: id}); err != nil {
			v.reservation = nil
			if !cli.IsNotFound(err) {
				return k.Explain(err)
			}
		}
		trace, err := k.node.Trace(c.Context, &api.TraceRequest{SessionId: id})
		if err != nil && !cli.IsNotFound(err) {
			return k.Explain(err)
		}
		v.events = trace.GetEvents()
		views = append(views, v)
		return nil
	}
	warn := func(err error) {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "%s: warning: %v\n", c.App.Name, err)
	}
	if err := ask(own); err != nil {
		warn(err)
	}
	// From the environment they come in one text.
	targets := strings.FieldsFunc(strings.Join(c.StringSlice("peer-socket"), ","), func(r rune) bool { return r == ',' })
	for _, target := range targets {
		k, err := connect(c, target)
		if err == nil {
			err = ask(k)
			_ = k.Close()
		}
		if err != nil {
			warn(err)
		}
	}
	return views
}

// hop is one AS of the path.
type hop struct {
	*api.Domain
	slsIn, slsOut string
	end           string // what it is where it is the last one
}

type path []hop

// buildPath puts together what the domains told and what the views show.
func buildPath(o *api.Outcome, views []view) path {
	var p path
	for _, d := range o.GetDomains() {
		h := hop{Domain: d, end: endText(o)}
		for _, v := range views {
			if v.status.GetAs() == d.GetAs() && v.reservation != nil {
				r := v.reservation
				h.slsIn, h.slsOut = r.GetSlsIn(), r.GetSlsOut()
				if d.GetIngress() == "" {
					d.Ingress = r.GetIngress()
				}
				if d.GetEgress() == "" {
					d.Egress = r.GetEgress()
				}
			}
		}
		p = append(p, h)
	}
	return p
}

// endText says what the end of a path is.
func endText(o *api.Outcome) string {
	switch {
	case o.GetScope() == api.Scope_SCOPE_NEXT_HOP:
		return "(end of scope)"
	case o.GetProxy():
		return "(proxy or destination)"
	}
	return "(destination)"
}

// sls is what the domain told, or else what its own records show.
func (h hop) sls() string {
	switch {
	case h.slsIn != "" && h.slsOut != "" && h.slsIn != h.slsOut:
		return h.slsIn + " → " + h.slsOut
	case h.slsIn+h.slsOut != "":
		return h.slsIn + h.slsOut
	}
	return h.GetSlsId()
}

func (p path) print(w io.Writer) error {
	header := []string{"AS", "INGRESS", "EGRESS", "SLS", "VERDICT", "TIME"}
	proofs := p.proofs()
	if proofs {
		header = append(header, "RECORD")
	}
	var rows [][]string
	for i, h := range p {
		ingress, egress := h.GetIngress(), h.GetEgress()
		if ingress == "" && i == 0 {
			ingress = "(source)"
		}
		if egress == "" && i == len(p)-1 && h.GetVerdict() == api.Verdict_VERDICT_COMMITTED {
			egress = h.end
		}
		took := ""
		if h.GetElapsedUs() > 0 {
			took = cli.Micros(h.GetElapsedUs())
		}
		row := []string{as(h.GetAs()), ingress, egress, h.sls(), cli.Enum(h.GetVerdict()), took}
		if proofs {
			row = append(row, proofText(h.GetProof()))
		}
		rows = append(rows, row)
	}
	return cli.PrintTable(w, header, rows)
}

// proofs says whether there is anything to tell of the records' signatures: that
// one is wrong, or that there are certificates to check others' with.
func (p path) proofs() bool {
	for i, h := range p {
		if h.GetProof() == api.Proof_PROOF_BAD || i > 0 && h.GetProof() == api.Proof_PROOF_VERIFIED {
			return true
		}
	}
	return false
}

// proofText is what the signature of a domain's record is worth.
func proofText(p api.Proof) string {
	switch p {
	case api.Proof_PROOF_VERIFIED:
		return "verified"
	case api.Proof_PROOF_OWN:
		return "our own"
	case api.Proof_PROOF_BAD:
		return "BAD SIGNATURE"
	case api.Proof_PROOF_UNKNOWN_KEY:
		return "unverified: unknown key"
	case api.Proof_PROOF_UNSIGNED:
		return "unverified: unsigned"
	}
	return ""
}

// fields is the path for scripts.
func (p path) fields() []any {
	out := make([]any, 0, len(p))
	for _, h := range p {
		out = append(out, cli.Map{
			{Key: "as", Value: h.GetAs()},
			{Key: "ingress", Value: h.GetIngress()},
			{Key: "egress", Value: h.GetEgress()},
			{Key: "sls", Value: h.sls()},
			{Key: "verdict", Value: cli.Enum(h.GetVerdict())},
			{Key: "elapsed_us", Value: h.GetElapsedUs()},
			{Key: "record", Value: cli.Enum(h.GetProof())},
			{Key: "largest_rate", Value: h.GetLargestRate()},
		})
	}
	return out
}

// order is the ASs from source to destination.
func (p path) order() []uint32 {
	var list []uint32
	for _, h := range p {
		list = append(list, h.GetAs())
	}
	return list
}

// refuser says who refused, and why.
func (p path) refuser(o *api.Outcome) (string, *api.Info) {
	for _, verdict := range []api.Verdict{api.Verdict_VERDICT_REFUSED, api.Verdict_VERDICT_FAILED} {
		i := slices.IndexFunc(p, func(h hop) bool { return h.GetVerdict() == verdict })
		if i < 0 {
			continue
		}
		info := p[i].GetInfo()
		if info == nil || info.GetClass() == 0 || o.GetInfo().GetText() != "" && info.GetText() == "" &&
			o.GetInfo().GetClass() == info.GetClass() && o.GetInfo().GetCode() == info.GetCode() {
			info = o.GetInfo()
		}
		return as(p[i].GetAs()), info
	}
	if source := o.GetInfo().GetSource(); source != "" {
		return "the node " + source, o.GetInfo()
	}
	return "a domain that does not say so", o.GetInfo()
}

// largest is the largest rate that could be had now, 0: not told.
func (p path) largest(o *api.Outcome) uint64 {
	if o.GetLargestRate() != 0 {
		return o.GetLargestRate()
	}
	for _, h := range p {
		if h.GetVerdict() == api.Verdict_VERDICT_REFUSED {
			return h.GetLargestRate()
		}
	}
	return 0
}

func (p path) earliest() string {
	for _, h := range p {
		if h.GetVerdict() == api.Verdict_VERDICT_REFUSED {
			return cli.Time(h.GetEarliest())
		}
	}
	return ""
}

func reservationPairs(r *api.Reservation) [][2]string {
	rate := units.HumanRate(r.GetRate())
	if r.GetPeak() > r.GetRate() {
		rate += ", peak " + units.HumanRate(r.GetPeak())
	}
	if r.GetBurst() > 0 {
		rate += ", burst " + units.HumanSize(r.GetBurst())
	}
	border := func(neighbor uint32, here, there string) string {
		text := as(neighbor)
		if here != "" {
			text += ", our interface " + here
		}
		if there != "" {
			text += ", theirs " + there
		}
		return text
	}
	if r.GetRelative() {
		rate = "none promised"
	}
	var when []string
	for _, t := range r.GetTimes() {
		when = append(when, cli.Time(t.GetStart())+" to "+cli.Time(t.GetEnd()))
	}
	return [][2]string{
		{"session", fmt.Sprintf("%s, RSN %d", r.GetSessionId(), r.GetRsn())},
		{"state", cli.Enum(r.GetState())},
		{"role", cli.Enum(r.GetRole()) + " AS of the path"},
		{"flow", flowText(r.GetFlow())},
		{"class", r.GetClass()},
		{"rate", rate},
		{"when", strings.Join(when, ", ")},
		{"priority", fmt.Sprint(r.GetPriority())},
		{"from", border(r.GetUpstreamAs(), r.GetIngress(), r.GetPreviousEgress())},
		{"to", border(r.GetDownstreamAs(), r.GetEgress(), r.GetNextIngress())},
		{"SLS in", r.GetSlsIn()},
		{"SLS out", r.GetSlsOut()},
		{"since", cli.Time(r.GetSince())},
		{"refreshed", cli.Time(r.GetRefreshed())},
	}
}
