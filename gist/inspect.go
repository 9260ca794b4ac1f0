package gist

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// Stats counts what a Machine has and has done since it was made.
type Stats struct {
	RoutingStates int // now, of them
	Querying      int // made by our own Queries
	Associations  int // now, in any state
	Peers         int // now, with those remembered for their SII only
	Handshakes    int // Queries without a Response, now
	QueuedBytes   int // NSLP data that waits, now

	QueriesOut, QueriesIn            uint64
	HandshakesDone, HandshakesFailed uint64
	DatagramsIn, DatagramsOut        uint64
	ConnMessagesIn, ConnMessagesOut  uint64
	MessagesIn, MessagesFailed       uint64
	Forwarded                        uint64 // intercepted packets
	ErrorsIn, ErrorsOut              uint64
	HellosOut, AssociationsFailed    uint64
	NotAuthorised                    uint64 // refusals by the authorised peer database
	Notes                            uint64
}

// Stats returns the counts.
func (m *Machine) Stats() Stats {
	s := m.stats
	s.Peers, s.QueuedBytes = len(m.peers), m.queued
	return s
}

// RoutingStateInfo describes one item of routing state.
type RoutingStateInfo struct {
	NSLPID      wire.NSLPID
	SID         wire.SID
	MRI         wire.MRI // the direction in which messages are sent by it
	Querying    bool     // made by our own Query
	State       string   // of its state machine, by the RFC's name
	Status      RoutingStatus
	Peer        netip.Addr // zero: not known yet
	PeerID      string
	SII         SII
	Via         netip.Addr // our edge that relayed the peer's Query
	Association ConnID     // 0: none
	Waiting     int        // messages that wait
	Expires     time.Time  // unless refreshed; zero: not valid yet
}

// RoutingStates calls f for each item of routing state until it returns false.
// f may call the machine, as where iter.Pull puts the loop off: an item that is
// there all the time is met once, one that comes or goes perhaps.
func (m *Machine) RoutingStates(f func(RoutingStateInfo) bool) {
	var chain []RoutingStateInfo
	for _, r := range m.sessions {
		// A session's items are described together: the chain may be another one
		// after f.
		for chain = chain[:0]; r != nil; r = r.next {
			chain = append(chain, m.describe(r))
		}
		for i := range chain {
			if !f(chain[i]) {
				return
			}
		}
	}
}

// RoutingStatesOf returns a session's items of routing state.
func (m *Machine) RoutingStatesOf(sid wire.SID) []RoutingStateInfo {
	var all []RoutingStateInfo
	for r := m.sessions[sid]; r != nil; r = r.next {
		all = append(all, m.describe(r))
	}
	return all
}

func (m *Machine) describe(r *routing) RoutingStateInfo {
	i := RoutingStateInfo{
		NSLPID: r.nslp, SID: r.sid, MRI: r.mri, Querying: r.querying,
		State: r.state.String(), Status: r.status, Via: r.via, Expires: m.timeAt(r.validUntil),
	}
	if r.peer != nil {
		i.Peer, i.PeerID, i.SII = r.peer.addr, r.peer.id, r.peer.sii
	}
	if r.ma != nil {
		i.Association = r.ma.id
	}
	if r.waiting != nil {
		i.Waiting = len(r.waiting.msgs)
	}
	return i
}

func (m *Machine) timeAt(at instant) time.Time {
	if at == never {
		return time.Time{}
	}
	return m.base.Add(time.Duration(at))
}

// AssociationInfo describes one messaging association.
type AssociationInfo struct {
	Conn          ConnID
	State         string // by the RFC's name
	Remote        netip.AddrPort
	Peer          netip.Addr // zero: an accepted connection that has not confirmed
	PeerID        string
	Dialled       bool // opened by us
	Stack         Stack
	Certificate   *Certificate // the peer's; nil: the stack has none
	RoutingStates int          // that use it
	LastReceived  time.Time
	LastSent      time.Time
	PeerHoldTime  time.Duration
}

// Associations calls f for each messaging association until it returns false.
// f may call the machine, as with RoutingStates.
func (m *Machine) Associations(f func(AssociationInfo) bool) {
	for _, a := range m.assocs {
		i := AssociationInfo{
			Conn: a.id, State: a.state.String(), Remote: a.remote, Dialled: a.dialled, Stack: a.stack, Certificate: a.cert,
			RoutingStates: a.nUsers, LastReceived: m.timeAt(a.lastRx), LastSent: m.timeAt(a.lastTx),
			PeerHoldTime: a.holdPeer,
		}
		if a.peer != nil {
			i.Peer, i.PeerID = a.peer.addr, a.peer.id
		}
		if !f(i) {
			return
		}
	}
}
