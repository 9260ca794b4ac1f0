package qosnslp

import "github.com/interqos/interqos/qosnslp/wire"

// Message scoping (RFC 5974 §3.2.7, §5.1.1): what has the SCOPING flag "should not
// travel down the entire path but only as far as the next QNE", which answers it
// as the last one. The flag is the initiator's; it stands in each full RESERVE of
// its session, so that a next peer that has forgotten the session learns it
// again, and is never passed on.

// scope has a session's full RESERVEs scoped.
func (a *also) scope() *also {
	if a == nil {
		a = new(also)
	}
	a.flags |= wire.Scoping
	return a
}

// answersScoped has a RESERVE without RII answered by its RSN: "A RESPONSE message
// MUST be sent … if the QNE receives a scoped RESERVE or a scoped QUERY".
// RFC 5974 §5.4.3
func (t *txn) answersScoped(msg *wire.Message) {
	t.scoped = msg.Flags&wire.Scoping != 0
	t.last = t.last || t.scoped
	t.quiet = t.quiet && !t.scoped
}
