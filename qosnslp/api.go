// Package qosnslp is the QoS signaling application of NSIS (RFC 5974): the
// reservation state machine of one QNE.
//
// A Machine has neither sockets nor a clock, and it decides nothing about
// resources. It asks: an admission question leaves as an action and is
// answered, possibly much later and out of order, by a Verdict event with the
// question's ticket. In the meantime duplicates, tears and refreshes of the
// same session are handled.
package qosnslp

import (
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Peer is the label under which the layer above knows a neighbour (between
// domains: its AS number). Local is this node's own application.
type Peer uint32

// Local is the peer of a session's side that has no neighbour: the initiator's
// upstream, the last node's downstream.
const Local Peer = 0

// Stranger is who could not be authenticated. What a Stranger asks for goes to
// the layer above like anything else, but it changes no session of others, is
// not told of its errors of form, and nothing is remembered of it.
const Stranger Peer = 1<<32 - 1

// Event is something that happened to a Machine. The nil Event only lets time
// pass: it is what to hand in at Deadline.
type Event interface{ nslpEvent() }

// Action is something that a Machine wants done.
type Action interface{ nslpAction() }

// Received is a message that GIST delivered and that the layer above has
// authenticated as coming from Peer.
type Received struct {
	gist.RecvMessage
	Peer Peer
}

// Status is GIST's MessageStatus.
type Status struct{ gist.MessageStatus }

// Notification is GIST's NetworkNotification.
type Notification struct{ gist.NetworkNotification }

// Initiate makes this node the QNI of a session, or, where it is already,
// changes the session's QSPEC (a new RSN). The admission question follows with
// Upstream Local; the outcome is a Result.
type Initiate struct {
	SID    gistwire.SID
	NSLPID gistwire.NSLPID
	MRI    gistwire.MRI  // the flow; the verdict says how the next peer is reached
	QSPEC  []byte        // as the Initiator wrote it
	Extra  []wire.Object // further objects of the RESERVE
	Flags  uint16        // generic flags: wire.Proxy, as far as the P-QNE; wire.Scoping, the next QNE

	Bound            []wire.BoundSession // the sessions that this one depends on
	PacketClassifier []byte              // nil: the whole MRI

	// Message binding (RFC 5974 §4.6): this RESERVE is the one that BOUND-MSG-ID
	// of another names, or it waits for that one. At most one of them.
	MsgID, BoundMsgID *wire.MsgID

	// Keep leaves REPLACE unset: where this changes the flow or the path, what
	// stands on the old branch stays until the session ends, and the resources of
	// both count on what they share (RFC 5974 §3.2.12, §5.4.1).
	Keep bool

	// Stateless says that the nodes up to the next stateful one keep no state of the
	// session (RFC 5974 §4.7): it is the local one between the edges of their region,
	// and names the end-to-end session in Bound, with wire.BindTunnel. Its messages go
	// without GIST state, each refresh has the whole QSPEC, and so has the TEAR.
	Stateless bool

	brk bool // BREAK was set in the QUERY that asked for it
}

// Terminate ends a session that this node initiated. The outcome is a Result.
type Terminate struct{ SID gistwire.SID }

// Invite makes this node, the data sender's, ask the receiver for a reservation
// (RFC 5974 §4.3): a QUERY with RESERVE-INIT, with Inspect as for Query. The
// RESERVE comes as from any peer, with Upstream in its MRI and Downstream Local.
// The outcome is a Result: Answered when it is committed, Rejected or TimedOut.
// It may be repeated, so that the reservation moves to a new path.
//
// At the receiver an accepted Inspect with Last has QSPEC as the RESERVE's; it
// is then the initiator, as if by Initiate.
type Invite struct {
	SID              gistwire.SID
	NSLPID           gistwire.NSLPID
	MRI              gistwire.MRI // the flow
	QSPEC            []byte
	Bound            []wire.BoundSession
	PacketClassifier []byte
	Extra            []wire.Object
	Flags            uint16 // as in Initiate
}

// Query asks along the path of a flow what could be had, without a reservation
// (RFC 5974 §4.2). Inspect and Conclude follow with Upstream Local, then a
// Result: Answered, Rejected or TimedOut. One SID may have several under way.
type Query struct {
	SID    gistwire.SID
	NSLPID gistwire.NSLPID
	MRI    gistwire.MRI // as in Initiate; its Upstream is the QUERY's direction
	QSPEC  []byte
	Flags  uint16        // generic flags: wire.Scoping, as far as the next QNE; wire.Proxy, as far as the P-QNE
	Extra  []wire.Object // further objects of the QUERY
}

// Abandon ends an installed session, or one that is being set up, by this
// domain's own decision: what it stood on is gone. A Release question follows
// with the reason Lost; downstream gets a TEAR, upstream, or this node's own
// application, an error RESPONSE with Info.
type Abandon struct {
	SID  gistwire.SID
	Info wire.InfoSpec // class 4 or 5, what removes a reservation; Source is filled in
}

// Verdict answers a Question. A verdict for a ticket that is no longer open is
// ignored: whoever gave it has had, or will get, a Release question.
type Verdict struct {
	Ticket uint64
	// Accept: the question's wish is granted. To a Release it is always true.
	Accept bool

	// Unchanged, to an accepted Admit with MoveDownstream: the way on is the one
	// there is. Nothing is held, nothing follows.
	Unchanged bool

	// To an accepted Admit or Inspect: the next peer, and the QSPEC for it. Last says
	// that there is none: this node is the last one on the path.
	Last     bool
	Next     gistwire.MRI // how GIST reaches the next peer
	NextPeer Peer
	// OrLast, to an accepted Admit without Last: where GIST finds nobody at Next,
	// this node is the last one for now, and not the path's end (RFC 5974
	// §3.2.12.1): Commit follows without Downstream. It goes on looking for one
	// there. Without OrLast that is an error, 4/0x08.
	OrLast bool
	// NSLPID, to an accepted Admit or Inspect, is the aggregation level on which the
	// message goes on (RFC 5974 §4.5): one more than the question's at an
	// aggregator, one less at a deaggregator. 0: the same.
	NSLPID gistwire.NSLPID
	// Bound, to an accepted Admit, names further sessions that this one is bound
	// to from here on: the aggregate that carries it, with wire.BindAggregate.
	Bound []wire.BoundSession
	// BoundMsgID, to an accepted Admit, has the next peer's side wait for the
	// message with this MSG-ID (RFC 5974 §4.6): an aggregator's RESERVE'.
	BoundMsgID *wire.MsgID
	// QSPEC, to an accepted Commit, replaces the one that went to the next
	// peer, for when it has to be told all of it again: what the path gave in
	// the end, where that is less than what was asked for. The Snapshot has
	// the old one: see WithQSPEC. nil: no change.
	QSPEC []byte

	// SlowRefresh, to an accepted Commit: the session's refresh period may grow up
	// to this. 0: it stays as it is.
	SlowRefresh time.Duration
	// Keep, to an accepted Inspect with Next, comes back as the Conclude's Kept.
	Keep any

	// To a refused Admit, Commit, Inspect or Conclude, and for the RESPONSE
	// that goes upstream after any Commit, Fail or Conclude.
	// (Extra, to an accepted Inspect: for the QUERY to the next peer.)
	Info wire.InfoSpec // where refused
	// Gone, to a refused Commit: nothing is left of the session, of a change
	// not even what was installed before.
	Gone          bool
	ResponseQSPEC []byte        // nil: none
	Extra         []wire.Object // objects to append to that RESPONSE, e.g. DOMAIN-RECORDS
}

// Restore brings back a committed session from a Snapshot that a Commit
// question carried. Its routing state is gone: peers are found again by the
// next refresh.
type Restore struct{ Snapshot []byte }

// QuestionKind is what a Question asks.
type QuestionKind uint8

// Kinds of questions.
const (
	// Admit: a RESERVE that creates or changes a reservation. Authorize,
	// hold, find the next peer.
	Admit QuestionKind = iota + 1
	// Commit: the success RESPONSE has come (or this is the last node, and
	// Admit was accepted). Make it durable; the RESPONSE leaves afterwards.
	// A refusal becomes an error upstream and a tear downstream.
	Commit
	// Fail: an error RESPONSE has come for an Admit that was accepted, or
	// the time to wait for any has passed. Release what the Admit of this RSN
	// holds (what an earlier RSN committed stays); the RESPONSE leaves
	// afterwards.
	Fail
	// Release: the session is over (tear, expiry, or an Admit whose verdict
	// came too late). Release everything it has.
	Release
	// Inspect: a QUERY. What could be had here goes into the QSPEC for the
	// next peer or, at the last node, into ResponseQSPEC; nothing is held.
	Inspect
	// Conclude: the RESPONSE to a QUERY has come. What of it goes upstream is
	// ResponseQSPEC and Extra.
	Conclude
	// Transit, at a stateless node: a RESERVE, also a refresh or a TEAR, or a QUERY
	// passes; RSN is its sender's. It goes on whether it is granted or not, for nobody can be told: the
	// verdict's QSPEC says so to those who come after. nil: where accepted
	// unchanged, else the message is dropped. Next, NextPeer and Extra count.
	Transit
)

// ReleaseReason says why a session is over.
type ReleaseReason uint8

// Reasons.
const (
	Torn    ReleaseReason = iota + 1 // a tearing RESERVE, or Terminate
	Expired                          // not refreshed for its lifetime
	Refused                          // an error RESPONSE ended it
	Lost                             // no answer, or the path is gone
)

// Question asks the layer above. It does not change Message or the byte slices.
type Question struct {
	Ticket uint64
	Kind   QuestionKind
	SID    gistwire.SID
	NSLPID gistwire.NSLPID // on the side of upstream
	// RSN is this node's own one for the reservation in question: the same in
	// its Admit, Commit and Fail, higher in each later Admit of the SID, also
	// where the upstream peer restarts and counts anew.
	RSN      uint32
	Upstream Peer
	// Downstream is known in Commit, Fail and Release, and in Admit where
	// MRI.Upstream: the path was made by the QUERY, and the verdict's Last, Next
	// and NextPeer do not count.
	Downstream Peer
	// DownstreamMRI is, where Admit has Downstream, how its RESERVE goes there.
	DownstreamMRI gistwire.MRI
	MRI           gistwire.MRI // as received from upstream
	// Scoped, in Admit and Inspect: the message has the SCOPING flag. It ends
	// here, as with Proxy, wherever the flow goes on to.
	Scoped bool
	// Proxy, in Admit and Inspect: the message is scoped to this node, the P-QNE
	// (Config.Proxy). It ends here, and the verdict's Last, Next and NextPeer do not
	// count; to an Inspect of RESERVE-INIT the verdict's QSPEC is the RESERVE's.
	Proxy bool
	// In is what GIST said of the message in question (without Data); zero
	// where the question has no message.
	In gist.RecvMessage
	// Message is the RESERVE (Admit), the QUERY (Inspect), either (Transit) or the RESPONSE (Commit,
	// Fail, Conclude); nil at
	// the last node, at a time-out and in Release.
	Message *wire.Message
	// Bound, in Admit, are the sessions that this one is bound to: what is
	// dependent (code 0x04) is to be admitted with the others, or not at all.
	Bound []Binding
	// Kept, in Conclude, is what the verdict on Inspect had as Keep.
	Kept any
	// Snapshot, in Commit, is what Restore wants: keep it with what is made
	// durable.
	Snapshot []byte
	Reason   ReleaseReason // in Release
	// Move, in Admit, says that the session stands and changes its path, and Keep
	// that REPLACE is not set: the old branch stays, too.
	Move Move
	Keep bool
}

// Send hands a message to GIST on its way to Peer. The layer above adds what
// authenticates it (Message ends without SESSION_AUTH). Peer is Local where a
// stateless node sends on what it has not processed: to whoever is next.
type Send struct {
	gist.SendMessage
	Peer Peer
}

// Forget tells GIST that the session's routing state in this direction is no
// longer wanted.
type Forget struct{ gist.SetStateLifetime }

// ResultKind is what became of Initiate or Terminate, or of the session later.
type ResultKind uint8

// Kinds of results.
const (
	Reserved   ResultKind = iota + 1 // the reservation, or the change, stands end to end
	Rejected                         // it was refused; nothing is held (a change: the old one stays)
	TimedOut                         // no answer; nothing is held
	Released                         // Terminate is done everywhere that answered
	Terminated                       // the network ended the session
	Answered                         // a Query has its RESPONSE
)

// Result tells this node's own application about a session it initiated.
type Result struct {
	SID      gistwire.SID
	RSN      uint32
	Kind     ResultKind
	Info     wire.InfoSpec
	Response *wire.Message // nil where none came
	// QSPEC and Extra are what the last verdict of this node said of the
	// RESPONSE: as this node would have sent it on.
	QSPEC []byte
	Extra []wire.Object
}

// Note is something worth a line in the log or a count.
type Note struct {
	Kind   string
	SID    gistwire.SID
	Peer   Peer
	Detail string
}

// Config is what a Machine is made with. Zero durations mean the RFC's
// defaults.
type Config struct {
	// Epoch is this node's epoch identifier (RFC 5974 §5.1.3.2): new at every
	// start.
	Epoch uint32
	// Rand returns random 64 bits: RIIs and the refresh timers' jitter.
	Rand func() uint64
	// ErrorSource goes into every INFO-SPEC this node makes.
	ErrorSource wire.ErrorSource
	// RefreshPeriod is R (default 30 s). Without a refresh a session lives for
	// 5.25 times its upstream peer's R: (K + 0.5) * 1.5 * R with K = 3
	// (RFC 5974 §5.3.4, which refers to RFC 2205 §3.7).
	RefreshPeriod time.Duration
	// RequestRetry and RetryMax are QOSNSLP_REQUEST_RETRY (2 s) and
	// QOSNSLP_RETRY_MAX (30 s), §5.2.4.
	RequestRetry, RetryMax time.Duration
	// HoldTimeout is how long a node in the middle waits for the RESPONSE
	// before it gives up what it holds (default 60 s).
	HoldTimeout time.Duration
	// RouteDamping: where paths change again within that time, what is on an old
	// one is torn only after the path has been the same for as long (RFC 5974
	// §5.2.5.4). 0: RefreshPeriod.
	RouteDamping time.Duration
	// MaxSessions bounds state; a RESERVE above it is refused. 0: 1,000,000.
	MaxSessions int
	// MaxQuestions bounds the questions that are open: above it no Admit is
	// asked, a creating RESERVE is refused and a changing one dropped. 0: 65,536.
	MaxQuestions int
	// Summary is how many sessions one summary refresh or summary tear names
	// at most (RFC 5974 §3.2.6). 0: 500, or 20 where Unreliable; 1: each
	// session has messages of its own.
	Summary int
	// Stateless makes this node an interior one that keeps no state of sessions
	// (RFC 5974 §4.7): what passes is asked about with Transit, and goes on.
	Stateless bool
	// Proxy makes this node a P-QNE, "set by administrator assignment"
	// (RFC 5974 §4.8): what has the PROXY flag goes no further, and it is the
	// QNR, or for a QUERY with RESERVE-INIT the QNI.
	Proxy bool
	// Limits bound what one peer can make this node send.
	Limits Limits
	// AckEvery asks the next peer to acknowledge each so-manieth refresh of a
	// session, or of a list (ACK-REQ, RFC 5974 §5.1.1): at most 255. 0: none.
	AckEvery int
	// Unreliable and Secure are the transfer attributes of what is sent; the
	// zero value is reliable and not secure.
	Unreliable, Secure bool
}

func (Received) nslpEvent()     {}
func (Status) nslpEvent()       {}
func (Notification) nslpEvent() {}
func (Initiate) nslpEvent()     {}
func (Terminate) nslpEvent()    {}
func (Abandon) nslpEvent()      {}
func (Invite) nslpEvent()       {}
func (Query) nslpEvent()        {}
func (Verdict) nslpEvent()      {}
func (Restore) nslpEvent()      {}

func (Question) nslpAction() {}
func (Send) nslpAction()     {}
func (Forget) nslpAction()   {}
func (Result) nslpAction()   {}
func (Note) nslpAction()     {}
