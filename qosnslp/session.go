package qosnslp

import (
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// side is what a session knows of its neighbour in one direction.
type side struct {
	mri       gistwire.MRI // as a RESERVE on this side carries it
	sii       gist.SII     // 0: not known (after a restart)
	peer      Peer
	nslpid    gistwire.NSLPID // 0: the session's; see level.go
	stateless bool            // the nodes on this side keep no state; see interior.go
}

type sessionState uint8

const (
	creating  sessionState = iota // the first RESERVE is being worked on
	installed                     // committed
	closing                       // released; only the tear's RESPONSE is of interest
)

func (s sessionState) String() string {
	return [...]string{"creating", "installed", "closing"}[s]
}

// session is the persistent state of RFC 5974 §5.2.1, and what belongs to it.
type session struct {
	heapPos int32
	state   sessionState

	initiator   bool // the upstream is this node's own application
	last        bool // there is no downstream
	tail        bool // but there may be one day; down and qspec are for it, see lastnode.go
	fullRefresh bool // the downstream peer wants no reduced refreshes
	needSync    bool // tell downstream all of it, once nothing else is under way
	refreshBad  bool // GIST could not send the last refresh
	keep        bool // upstream did not set REPLACE: old branches stay
	resync      bool // tell downstream all of it, at the next refresh

	nslpid   gistwire.NSLPID
	sid      gistwire.SID
	up, down side

	upRSN   wire.RSN // from the upstream peer
	rsn     uint32   // the local one that stands for what is installed
	nextRSN uint32   // never used before

	upPeriod uint32 // milliseconds: R of the upstream peer
	// Of a booking, towards the downstream peer: see slow.go. 0: R.
	period, mostPeriod uint32
	inSum              uint64 // of the QSPEC that came from upstream
	qspec              []byte // as sent downstream
	also               *also  // nil: nothing

	expireAt  instant // the lifetime's end
	refreshAt instant
	badSince  instant // the downstream peer cannot be reached since; 0: it can
	handle    uint64  // of the last refresh

	ack   *ackWait // nil: no refresh waits for its acknowledgement
	batch *batch   // that it is refreshed with, or nil
	place int32    // in it
	alone uint8    // so many refreshes more without a list
	unack uint8    // refreshes since one had ACK-REQ

	answer *answer    // to the last request from upstream
	prior  *tombstone // while creating: of the SID's last session
	txn    *txn
	queue  []queued
	move   *move // nil: its path has never changed
}

// also is what few sessions have.
type also struct {
	flags      uint16 // generic flags to set: Proxy, Break; Scoping: see scope.go
	bound      []wire.BoundSession
	classifier []byte
	objects    []wire.Object // for RESERVE messages: Refresh (AB=11) ones
}

// answer is the last RESPONSE that went upstream, for repeats of its request.
type answer struct {
	rii   uint32
	rsn   wire.RSN
	until instant
	data  []byte
}

// queued is a request that waits until the one under way is done.
type queued struct {
	recv *Received // nil: init
	msg  *wire.Message
	init *Initiate
}

// maxQueue bounds what waits in one session.
const maxQueue = 4

type txnKind uint8

const (
	create  txnKind = iota // a RESERVE that makes the session
	modify                 // one that changes it
	syncing                // our own full RESERVE to the downstream peer
	reroute                // to another one, on a new path
	probe                  // a refresh with RII, forwarded to the path's end
	closeIt                // the session's end
)

type phase uint8

const (
	waitAdmit    phase = iota // for the verdict
	waitResponse              // for the RESPONSE
	waitCommit                // for the verdict
	waitFail                  // for the verdict
	waitRelease               // for the verdict, and the tear's RESPONSE
	waitBound                 // for the message with the BOUND-MSG-ID
)

func (p phase) String() string {
	return [...]string{"admit", "response", "commit", "fail", "release", "bound"}[p]
}

// txn is the operational state of the request under way (RFC 5974 §5.2.1); a
// session has at most one.
type txn struct {
	kind      txnKind
	phase     phase
	made      bool // the RII is ours: we retransmit, and the RESPONSE ends here
	quiet     bool // upstream asked for no RESPONSE
	last      bool // this node answers the RESERVE
	proxied   bool // because it is the P-QNE
	orLast    bool // this node is the last if there is nobody at down
	extend    bool // syncing only: is there somebody now?
	stateless bool // the initiator's: down will be
	scoped    bool // because the RESERVE has the SCOPING flag
	ackReq    bool // upstream asked for an acknowledgement, and for no RESPONSE
	routed    bool // down is known, and not asked for
	sent      bool // downstream has seen, or may have seen, the RESERVE
	torn      bool // downstream was sent a TEAR after it

	move    Move
	keep    bool // REPLACE is not set
	toNew   bool // GIST has another peer than the one that has the reservation
	oldTorn bool // the upstream peer before this one has torn its branch
	newTorn bool // this one has
	oldLost bool // what stood on the old path downstream is gone

	// closeIt only
	needVerdict, needResponse, unconfirmed bool
	tellUp                                 bool // info goes upstream at the end
	reason                                 ReleaseReason
	verdict                                *Verdict

	rii      uint32
	hasRII   bool
	rsn      uint32 // local
	upRSN    wire.RSN
	upPeriod uint32
	inSum    uint64
	ticket   uint64

	up, down side
	in       gist.RecvMessage // of the RESERVE, without Data
	qspec    []byte
	also     *also
	forward  []wire.Object // Forward (AB=10) ones, and the initiator's

	// Message binding: what the RESERVE had, and the BOUND-MSG-ID to send.
	hasMsgID, hasBoundMsg bool
	discard               bool // it waited in vain: as if it had not come
	msgID                 wire.MsgID
	boundMsg              messageID
	outBound              *wire.MsgID

	data     []byte // the RESERVE as sent
	handle   uint64
	retryAt  instant
	wait     time.Duration
	giveUpAt instant

	// The RESPONSE in hand while a verdict is waited for, and what goes
	// upstream after it.
	resp    *wire.Message
	info    wire.InfoSpec
	outcome ResultKind
}

// upstream says that the transaction was asked for by the upstream peer or the
// application, with an RSN of its own.
func (t *txn) upstream() bool { return t != nil && (t.kind == create || t.kind == modify) }

func (t *txn) deadline() instant { return earliest(t.retryAt, t.giveUpAt) }

func (s *session) deadline() instant {
	d := earliest(earliest(s.expireAt, s.refreshAt), s.move.deadline())
	if s.txn != nil {
		d = earliest(d, s.txn.deadline())
	}
	return earliest(d, s.ack.deadline())
}

// takeRSNAfterGap leaves one out, for the TEAR down an old path: it "MUST contain
// an RSN that is RSN[current] - 1", and that is to be newer than what the old
// peer has. RFC 5974 §5.2.5.2
func (s *session) takeRSNAfterGap() uint32 {
	s.nextRSN++
	return s.takeRSN()
}

// takeRSN returns the next local RSN. It starts at zero and goes on for the
// session's whole life (RFC 5974 §5.3.1).
func (s *session) takeRSN() uint32 {
	n := s.nextRSN
	s.nextRSN++
	return n
}

// hasDown says whether there is a downstream peer that knows of the session.
func (s *session) hasDown() bool { return s.state == installed && !s.last }

// upstreamPeer is the current one, or who is about to be.
func (s *session) upstreamPeer() Peer {
	if s.state == creating && s.txn != nil {
		return s.txn.up.peer
	}
	return s.up.peer
}

func (s *session) flags() uint16 {
	if s.also != nil {
		return s.also.flags
	}
	return 0
}

// tombstone is what is kept of a session that is over: enough to drop what is
// not newer, to answer a repeat, and to go on with our own numbers.
type tombstone struct {
	heapPos   int32
	hasUp     bool
	torn      bool  // by its initiator: the SID is not to be used again
	tears     uint8 // sent downstream
	hasAnswer bool
	class     wire.ErrorClass
	code      uint8
	rii       uint32
	nextRSN   uint32
	upRSN     wire.RSN
	peer      Peer
	sid       gistwire.SID
	until     instant
}

// sumQSPEC is FNV-1a: enough to see that a QSPEC is the one that is installed,
// for a peer that forges a collision cheats itself.
func sumQSPEC(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
