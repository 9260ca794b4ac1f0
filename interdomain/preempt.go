package interdomain

import (
	"fmt"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// Preemption (interdomain-qosm §6): "lowest defending priority first; victims lose
// their resources at the preemptor's commit, not at its hold". The ledger chooses
// them, by what the SLS allows, and ends them in the step that commits; here they
// are taken out of the store together with that, and qosnslp tells their
// initiators.

// Preempt has qosnslp end a reservation whose share the ledger has given to By. It
// may be another shard's.
type Preempt struct{ SID, By wire.SID }

func (Preempt) domainAction() {}

// priorities fills in what a request may displace, and what may displace it.
// RFC 5975 §5.2.8. Without the parameter: nothing, and everybody who may.
func (a *ask) priorities(r *sls.Request) {
	if d := &a.local.Desired; d.Has.Has(qspec.PreemptionID) {
		r.Preempting, r.Defending = d.Preemption.Preempting, d.Preemption.Defending
	}
}

// counts notes what the ledger counts on, so that the network inside does, too: what
// those have there is free at the same commit.
func (a *attempt) counts(on []sls.ID) {
	for _, id := range on {
		a.displaces = append(a.displaces, intradomain.ID(id))
	}
}

// displaced ends what the ledger has ended.
func (m *Machine) displaced(by *session, ids []sls.ID) {
	for _, id := range ids {
		m.note("preempted", wire.SID(id), fmt.Sprintf("by session %v", by.sid))
		m.do(Preempt{SID: wire.SID(id), By: by.sid})
	}
}
