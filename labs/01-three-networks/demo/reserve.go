package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/units"
	three "github.com/interqos/interqos/labs/01-three-networks"
)

// reserveWith has qnectl reserve, shows what it prints, and reads what it saved.
func (d *demo) reserveWith(ctx context.Context, status int, port string, bps uint64, answer *Answer) error {
	const save = "answer.json"
	args := []string{
		"-s", "unix:" + three.SocketName(three.ASs[0]), "reserve", "--from", host, "--to", subscriber,
		"--protocol", "udp", "--port", port, "--rate", units.FormatRate(bps), "--class", class, "--ladder", "--save", save,
	}
	for _, as := range three.ASs[1:] {
		args = append(args, "--peer-socket", "unix:"+three.SocketName(as))
	}
	if _, err := d.tell(ctx, status, "qnectl", args...); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(d.lab.Dir, save))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s of qnectl: %w", save, err)
	}
	return nil
}

func (d *demo) reserve(ctx context.Context) error {
	r := &Reservation{}
	if err := d.reserveWith(ctx, 0, flowPort, flowRate, &r.Answer); err != nil {
		return err
	}
	d.facts.Reservation = r
	d.page.line("")
	if err := checkReserved(&r.Answer); err != nil {
		return err
	}
	// The answer is there when all have committed: no need to poll.
	var err error
	if r.Held, r.Policers, err = d.held(ctx); err != nil {
		return err
	}
	d.page.table(heldRows(r.Held, r.Policers)...)
	if err := d.checkOnlyFirst(r.Held, r.Policers); err != nil {
		return err
	}
	d.page.good("every network has committed; the gateway has a policer of %s for the flow", units.HumanRate(flowRate))
	return nil
}

// checkReserved checks the answer, the path and the ladder.
func checkReserved(a *Answer) error {
	fail := func(what, expected, format string, args ...any) error {
		return &failure{what: what, expected: expected, found: fmt.Sprintf(format, args...), logs: []string{"as65001", "as65002", "as65003"}}
	}
	if !a.Outcome.OK || a.Outcome.Granted != flowRate {
		return fail("the answer to the reservation", units.HumanRate(flowRate)+" granted", "%+v", a.Outcome)
	}
	if len(a.Path) != len(three.ASs) {
		return fail("the path", fmt.Sprint(three.ASs), "%+v", a.Path)
	}
	for i, want := range []Hop{
		{AS: 65001, Egress: "127.1.2.1", SLS: "as65001-as65002"},
		{AS: 65002, Ingress: "127.2.1.1", Egress: "127.2.3.1", SLS: "as65001-as65002 → as65002-as65003"},
		{AS: 65003, Ingress: "127.3.2.1", SLS: "as65002-as65003"},
	} {
		want.Verdict = "committed"
		got := a.Path[i]
		if want.Elapsed = got.Elapsed; got != want || got.Elapsed == 0 {
			return fail(fmt.Sprintf("AS%d on the path", want.AS), fmt.Sprintf("%+v and the time it took", want), "%+v", got)
		}
	}
	return checkLadder(a.Messages)
}

// checkLadder wants discovery, then the RESERVE, hop by hop, and the RESPONSE
// back over the same hops, all under TLS. What a slow machine has sent again
// counts once.
func checkLadder(ladder []Message) error {
	var got []string
	for _, m := range ladder {
		if m.Direction == "sent" && m.Layer == "QoS-NSLP" && m.Transport != "tls" {
			return &failure{what: fmt.Sprintf("how AS%d sent %s", m.AS, m.Message), expected: "over TLS", found: "by " + m.Transport}
		}
		if line := fmt.Sprintf("AS%d %s", m.AS, m.Message); m.Direction == "sent" && (m.Layer == "QoS-NSLP" || m.Message == "Response") && !slices.Contains(got, line) {
			got = append(got, line)
		}
	}
	want := []string{
		"AS65002 Response", "AS65001 Data{RESERVE}", "AS65003 Response", "AS65002 Data{RESERVE}",
		"AS65003 Data{RESPONSE}", "AS65002 Data{RESPONSE}",
	}
	if !slices.Equal(got, want) {
		return &failure{what: "the ladder of messages", expected: strings.Join(want, ", "), found: strings.Join(got, ", ")}
	}
	return nil
}

// held asks every part of every network, and the gateway's own table.
func (d *demo) held(ctx context.Context) ([]Held, []Policer, error) {
	var all []Held
	for _, n := range d.lab.Nodes {
		st, err := n.Admin.Status(ctx, &api.StatusRequest{})
		if err != nil {
			return nil, nil, err
		}
		h := Held{
			AS: n.AS, LedgerHeld: st.Ledger.Held, LedgerCommitted: st.Ledger.Committed, LedgerRate: st.Ledger.HeldRate + st.Ledger.CommittedRate,
			StoreRecords: st.Store.Records, RoutingStates: st.Gist.RoutingStates, Handshakes: st.Gist.Pending,
			Associations: st.Gist.Associations, Sessions: st.Nslp.Sessions, Transactions: st.Nslp.Pending,
		}
		for _, driver := range st.Drivers {
			if driver.Error != "" {
				return nil, nil, fmt.Errorf("AS%d: driver %s: %s", n.AS, driver.Name, driver.Error)
			}
			h.DriverHeld += driver.Held
			h.DriverCommitted += driver.Committed
		}
		all = append(all, h)
	}
	policers, err := d.policers(ctx)
	return all, policers, err
}

// policers are the gateway's ports that are no subscribers: whatever they are,
// none may be there when nothing is reserved.
func (d *demo) policers(ctx context.Context) ([]Policer, error) {
	snap, err := d.gateway.List(ctx)
	if err != nil {
		return nil, err
	}
	found := []Policer{}
	for i := range snap.Ports {
		port := &snap.Ports[i]
		if port.Static {
			continue
		}
		one := Policer{Session: port.ID.String()}
		for _, prop := range port.Properties {
			if prop.QoS.CIR > 0 {
				one.Rate, one.DSCP = units.Bits(prop.QoS.CIR), prop.QoS.DSCP
			}
		}
		for _, r := range snap.Rules {
			if r.Port == port.ID {
				one.Match = r.Match.String()
			}
		}
		found = append(found, one)
	}
	return found, nil
}

func heldRows(all []Held, policers []Policer) [][]string {
	rows := [][]string{{"what each has:", ">SLS ledger", ">driver", ">store", ">GIST states", ">NSLP sessions", ">associations", ">policers"}}
	count := func(done, held uint64) string {
		if held == 0 {
			return fmt.Sprint(done)
		}
		return fmt.Sprintf("%d+%d", done, held)
	}
	for i, h := range all {
		row := []string{
			fmt.Sprintf("AS%d", h.AS), count(h.LedgerCommitted, h.LedgerHeld), count(h.DriverCommitted, h.DriverHeld), fmt.Sprint(h.StoreRecords),
			count(h.RoutingStates, h.Handshakes), count(h.Sessions, h.Transactions), fmt.Sprint(h.Associations), "",
		}
		if i == len(all)-1 {
			row[7] = fmt.Sprint(len(policers))
		}
		rows = append(rows, row)
	}
	return rows
}

// checkOnlyFirst wants the first reservation in every part, and nothing else.
func (d *demo) checkOnlyFirst(all []Held, policers []Policer) error {
	for i, h := range all {
		want := Held{
			AS: h.AS, LedgerCommitted: 1, LedgerRate: flowRate, DriverCommitted: 1, StoreRecords: 1,
			RoutingStates: 1, Sessions: 1, Associations: h.Associations,
		}
		if i == 1 { // transit: two SLSs, two sides
			want.LedgerRate, want.RoutingStates = 2*flowRate, 2
		}
		if h != want {
			return &failure{what: fmt.Sprintf("what AS%d has of reservations", h.AS), expected: fmt.Sprintf("%+v", want), found: fmt.Sprintf("%+v", h), logs: []string{fmt.Sprintf("as%d", h.AS)}}
		}
	}
	want := Policer{
		Session: d.facts.Reservation.Outcome.Session, Rate: flowRate, DSCP: classDSCP,
		Match: fmt.Sprintf("%s/32 to %s/32 port %s protocol 17", host, subscriber, flowPort),
	}
	if len(policers) != 1 || policers[0] != want {
		return &failure{what: "the gateway's policers", expected: fmt.Sprintf("[%+v]", want), found: fmt.Sprintf("%+v", policers), logs: []string{"bngfe", "as65003"}}
	}
	return nil
}

func (d *demo) overask(ctx context.Context) error {
	r := &Refusal{}
	used, err := d.usage(ctx)
	if err != nil {
		return err
	}
	if err := d.reserveWith(ctx, 1, overPort, overRate, &r.Answer); err != nil {
		return err
	}
	d.facts.Refusal = r
	d.page.line("")
	if err := r.check(); err != nil {
		return err
	}
	// A refused request goes hop by hop, and so does its undoing.
	err = d.until(ctx, "nothing to be left of what was refused", func(ctx context.Context) error {
		var err error
		if r.Held, r.Policers, err = d.held(ctx); err != nil {
			return err
		}
		return errors.Join(d.checkOnlyFirst(r.Held, r.Policers), d.checkNothingOf(ctx, r.Outcome.Session))
	})
	d.page.table(heldRows(r.Held, r.Policers)...)
	if err != nil {
		return err
	}
	if err := d.checkUsage(ctx, "after the refusal", used); err != nil {
		return err
	}
	d.page.good("refused by AS%d, for its SLS has %s left; nothing of it is held in any network", r.RefusedBy, units.HumanRate(r.Outcome.Largest))
	return nil
}

// checkUsage wants every SLS to be in use as it was before.
func (d *demo) checkUsage(ctx context.Context, when string, before []Loaded) error {
	now, err := d.usage(ctx)
	if err != nil {
		return err
	}
	for i, was := range before {
		if !slices.Equal(was.Usage, now[i].Usage) {
			return &failure{
				what: fmt.Sprintf("the use of AS%d's SLSs %s", was.AS, when), expected: fmt.Sprintf("as before: %+v", was.Usage),
				found: fmt.Sprintf("%+v", now[i].Usage), logs: []string{fmt.Sprintf("as%d", was.AS)},
			}
		}
	}
	return nil
}

// check wants the refusal by the right AS, for the right reason, with the
// largest rate that could have been had.
func (r *Refusal) check() error {
	for _, h := range r.Path {
		if h.Verdict == "refused" {
			r.RefusedBy = h.AS
		}
	}
	o := &r.Outcome
	if o.OK || r.RefusedBy != refuser || o.Info.Class != refuseClass || o.Info.Code != refuseCode || o.Largest != leftRate {
		return &failure{
			what:     "the answer to asking for too much",
			expected: fmt.Sprintf("refused by AS%d, class %d code %d, largest rate %s", refuser, refuseClass, refuseCode, units.HumanRate(leftRate)),
			found: fmt.Sprintf("accepted %v, refused by AS%d, class %d code %d, largest rate %s", o.OK, r.RefusedBy, o.Info.Class, o.Info.Code,
				units.HumanRate(o.Largest)),
			logs: []string{"as65001", "as65002"},
		}
	}
	return nil
}

// checkNothingOf wants no network to know a session, nor the gateway.
func (d *demo) checkNothingOf(ctx context.Context, session string) error {
	for _, n := range d.lab.Nodes {
		r, err := n.Get(ctx, &api.GetReservationRequest{SessionId: session})
		if status.Code(err) != codes.NotFound {
			return errors.Join(err, fmt.Errorf("AS%d: reservation %v", n.AS, r))
		}
		s, err := n.Admin.State(ctx, &api.StateRequest{SessionId: session, Limit: 10_000})
		if err != nil {
			return err
		}
		if len(s.RoutingStates)+len(s.Sessions) > 0 {
			return fmt.Errorf("AS%d: %d GIST routing states and %d QoS-NSLP sessions of %s", n.AS, len(s.RoutingStates), len(s.Sessions), session)
		}
	}
	policers, err := d.policers(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(policers, func(p Policer) bool { return p.Session == session }) {
		return fmt.Errorf("the gateway has a policer of %s", session)
	}
	return nil
}

func (d *demo) release(ctx context.Context) error {
	r := &Release{}
	session := d.facts.Reservation.Outcome.Session
	args := []string{"-s", "unix:" + three.SocketName(three.ASs[0]), "release", session}
	if _, err := d.tell(ctx, 0, "qnectl", args...); err != nil {
		return err
	}
	d.facts.Release = r
	err := d.until(ctx, "nothing to be held any more", func(ctx context.Context) error {
		var err error
		if r.Held, r.Policers, err = d.held(ctx); err != nil {
			return err
		}
		return errors.Join(checkNothing(r.Held, r.Policers), d.checkNothingOf(ctx, session))
	})
	d.page.table(heldRows(r.Held, r.Policers)...)
	if err != nil {
		return err
	}
	if err := d.checkUsage(ctx, "after the release", d.facts.SLSs); err != nil {
		return err
	}
	d.page.good("no network holds anything any more; associations stay until they have been idle")
	return nil
}

func checkNothing(all []Held, policers []Policer) error {
	for _, h := range all {
		if want := (Held{AS: h.AS, Associations: h.Associations}); h != want {
			return &failure{what: fmt.Sprintf("what AS%d has of reservations", h.AS), expected: "nothing", found: fmt.Sprintf("%+v", h), logs: []string{fmt.Sprintf("as%d", h.AS)}}
		}
	}
	if len(policers) > 0 {
		return &failure{what: "the gateway's policers", expected: "none", found: fmt.Sprintf("%+v", policers), logs: []string{"bngfe", "as65003"}}
	}
	return nil
}
