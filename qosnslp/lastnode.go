package qosnslp

import (
	"errors"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// The last node of a path that does not end there (RFC 5974 §3.2.12.1, case 3,
// §5.2.5.1): "the last node is not the data receiver and is not explicitly configured
// to act as a signaling proxy on behalf of the data receiver". GIST says that nobody
// further on answers, and the session ends here for as long as that is so.

// nobody takes GIST's word that there is no further node, and says whether that is
// all: this one "MUST take over as the last node on the signaling path if GIST path
// change detection identifies that there are no further downstream nodes on the
// path". RFC 5974 §5.2.5.1
func (m *Machine) nobody(s *session, t *txn, err error) bool {
	if !errors.Is(err, gist.ErrNoPeer) || !t.orLast && !t.extend {
		return false
	}
	t.retryAt, t.giveUpAt, t.sent = 0, 0, false
	if t.extend {
		m.synced(s, t, nil)
		return true
	}
	m.note("last-node", s.sid, t.down.peer, "nobody answers there: the path ends here for now")
	t.last = true
	if t.hasMsgID && !m.atEndpoint(s, t) {
		return true
	}
	m.askCommit(s, t, nil, nil)
	return true
}

// lookOn: "A node that is the last node on the path, but not the data receiver (or an
// explicitly configured proxy for it), MUST continue to attempt to send messages
// downstream to probe for path changes." RFC 5974 §5.2.5.1
func (m *Machine) lookOn(s *session) {
	if s.txn != nil || s.state != installed {
		return // the next refresh period is early enough
	}
	t := &txn{kind: syncing, extend: true, made: true, quiet: true, rii: m.newRII(), hasRII: true, keep: s.keep,
		rsn: s.takeRSNAfterGap(), up: s.up, upRSN: s.upRSN, down: s.down, qspec: s.qspec, also: s.also}
	s.txn = t
	m.sendReserve(s, t)
}

// lookedOn: "the 'Path Extension' case". The reservation stands beyond this node now,
// or it is as before: nobody there, or nothing to be had. RFC 5974 §5.2.5.1
func (m *Machine) lookedOn(s *session, t *txn, msg *wire.Message) {
	switch {
	case msg == nil && t.sent:
		m.note("extension-unanswered", s.sid, t.down.peer, "RSN %d", t.rsn)
		m.sendTear(s, t.down.byState(), t.also, 0, false)
	case msg == nil:
	case msg.InfoSpec.IsError():
		m.note("extension-refused", s.sid, t.down.peer, "%v; the path still ends here", msg.InfoSpec)
	default:
		m.note("path-extended", s.sid, t.down.peer, "%v", msg.InfoSpec)
		s.last, s.tail = false, false
		s.rsn, s.down = t.rsn, t.down
		s.badSince, s.refreshBad, s.alone = 0, false, 0
	}
	m.nextRefresh(s)
	m.done(s)
}
