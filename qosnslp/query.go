package qosnslp

import (
	"slices"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// query is a QUERY under way. It makes no session: nothing is reserved, and
// nothing of it is kept once it is answered. RFC 5974 §5.4.2
type query struct {
	heapPos int32
	phase   phase // waitAdmit, waitResponse, or waitCommit for Conclude's verdict
	made    bool  // by this node's own application
	last    bool  // this node answers it
	hasRII  bool
	init    bool // RESERVE-INIT: see receiver.go
	proxied bool // this node is the P-QNE that it is scoped to

	sid      gistwire.SID
	nslpid   gistwire.NSLPID
	rii      uint32
	ticket   uint64
	up, down side

	msg  *wire.Message // as received
	data []byte        // as sent
	resp *wire.Message

	kept              any // the layer above's, from Inspect to Conclude
	handle            uint64
	wait              time.Duration
	retryAt, giveUpAt instant
}

// maxQueriesOfSession bounds the QUERYs under way of one SID.
const maxQueriesOfSession = 4

func (q *query) pos() *int32       { return &q.heapPos }
func (q *query) deadline() instant { return earliest(q.retryAt, q.giveUpAt) }

// queryFrom is what an application does. RFC 5974 §4.2
func (m *Machine) queryFrom(ev *Query) {
	reject := func(why string, info wire.InfoSpec) {
		m.note("query-refused", ev.SID, Local, "%s", why)
		m.do(Result{SID: ev.SID, Kind: Rejected, Info: info})
	}
	if err := sendable(ev.QSPEC, ev.Extra); err != nil {
		reject(err.Error(), m.own(wire.ClassPermanentFailure, wire.InternalError))
		return
	}
	if !m.queryRoom(ev.SID) {
		reject("too many queries", m.own(wire.ClassTransientFailure, wire.ReservationFailure))
		return
	}
	msg := &wire.Message{Type: wire.Query, Flags: ev.Flags, HasRII: true, RII: m.newRII(), QSPEC: ev.QSPEC, Objects: ev.Extra}
	m.startQuery(&query{made: true, hasRII: true, rii: msg.RII, sid: ev.SID, nslpid: ev.NSLPID,
		up: side{mri: ev.MRI, peer: Local, nslpid: ev.NSLPID}, msg: msg}, gist.RecvMessage{})
}

// queryRoom says whether one more QUERY of this SID can be taken in.
func (m *Machine) queryRoom(sid gistwire.SID) bool {
	return len(m.queries[sid]) < maxQueriesOfSession && m.queryCount+len(m.tickets) < m.cfg.MaxQuestions
}

// queried is RFC 5974 §5.4.2.
func (m *Machine) queried(r *Received, msg *wire.Message) {
	init := msg.MessageFlags&wire.ReserveInit != 0
	if init && !m.inviting(r, msg) {
		return
	}
	if !init && !msg.HasRII {
		// "A QUERY message for requesting information about network
		// resources MUST contain an RII object". RFC 5974 §5.1.2.2
		e := wire.ParseError{Code: wire.MissingObject, Type: wire.TypeRII, Want: "the object, mandatory in a QUERY for information"}
		m.malformed(r, msg, &e)
		return
	}
	for _, q := range m.queries[r.SID] {
		if q.rii != msg.RII || q.hasRII != msg.HasRII || q.init != init || q.made && init {
			continue
		}
		if q.up.peer != r.Peer || q.nslpid != r.NSLPID {
			// "to indicate an RII collision, and request a retry".
			// RFC 5974 §5.3.2
			m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.RIIConflict))
			return
		}
		m.stats.Repeated++
		q.up.sii = r.SII
		if q.phase == waitResponse {
			m.sendQuery(q)
		}
		return
	}
	if !m.queryRoom(r.SID) {
		m.note("no-room", r.SID, r.Peer, "%d queries, %d open questions", m.queryCount, len(m.tickets))
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.ReservationFailure))
		return
	}
	m.startQuery(&query{hasRII: msg.HasRII, init: init, rii: msg.RII, sid: r.SID, nslpid: r.NSLPID, msg: msg,
		up: side{mri: r.MRI, sii: r.SII, peer: r.Peer, nslpid: r.NSLPID}, last: msg.Flags&wire.Scoping != 0, proxied: m.proxies(msg)}, r.RecvMessage)
}

// startQuery: "When a QNE receives a QUERY message the QSPEC is passed to the
// RMF for processing." RFC 5974 §5.4.2
func (m *Machine) startQuery(q *query, in gist.RecvMessage) {
	m.queries[q.sid] = append(m.queries[q.sid], q)
	m.queryCount++
	m.stats.Queries++
	q.phase, q.giveUpAt = waitAdmit, m.after(m.cfg.HoldTimeout)
	m.askQuery(q, Inspect, Question{Message: q.msg, In: in, Scoped: q.msg.Flags&wire.Scoping != 0 && !q.made, Proxy: q.proxied})
	m.armQuery(q)
}

func (m *Machine) askQuery(q *query, kind QuestionKind, x Question) {
	m.ticket++
	q.ticket = m.ticket
	m.asked[m.ticket] = q
	x.Ticket, x.Kind, x.SID, x.NSLPID, x.Upstream, x.MRI = m.ticket, kind, q.sid, q.nslpid, q.up.peer, q.up.mri
	m.stats.Questions++
	m.do(x)
}

func (m *Machine) armQuery(q *query) {
	m.timers.want(timed{at: q.deadline(), who: q})
}

// queryVerdict takes the answer to Inspect or Conclude.
func (m *Machine) queryVerdict(q *query, v *Verdict) {
	delete(m.asked, v.Ticket)
	q.ticket = 0
	switch {
	case !v.Accept:
		info := v.Info
		if !info.IsError() {
			info = m.own(wire.ClassPermanentFailure, wire.InternalError)
		}
		if info.Source.Type == wire.SourceNone {
			info.Source = m.cfg.ErrorSource
		}
		m.answerQuery(q, info, v)
	case q.phase == waitCommit:
		m.answerQuery(q, q.resp.InfoSpec, v)
	case q.init && (v.Last || q.proxied) && !q.made:
		m.acknowledge(q)
		m.answerInvitation(q, v)
	case v.Last || q.last || q.proxied:
		// "At the QNR, a RESPONSE message must be generated if the QUERY
		// message includes an RII object." RFC 5974 §4.2
		m.answerQuery(q, m.own(wire.ClassSuccess, wire.Acknowledgement), v)
	default:
		m.acknowledge(q)
		m.forwardQuery(q, v)
	}
}

// acknowledge answers ACK-REQ: "the stateful QNE SHOULD send back a RESPONSE
// with an INFO-SPEC carrying the acknowledgement success code". With an RII the
// answer to that is the acknowledgement. RFC 5974 §5.4.2
func (m *Machine) acknowledge(q *query) {
	if q.msg.Flags&wire.AckReq != 0 && !q.hasRII && !q.made {
		m.respond(q.nslpid, q.sid, reply{to: q.up.byState(), info: m.own(wire.ClassSuccess, wire.Acknowledgement),
			flags: q.msg.Flags & (wire.Proxy | wire.Break), bound: q.msg.BoundSessions})
	}
}

// forwardQuery sends the QUERY on "using the same MRI, Session ID, and
// Direction"; it "MUST copy the RII object". RFC 5974 §5.4.2
func (m *Machine) forwardQuery(q *query, v *Verdict) {
	err := sendable(v.QSPEC, v.Extra)
	if err == nil {
		err = v.onLevel()
	}
	if err != nil {
		m.note("bad-verdict", q.sid, v.NextPeer, "%v", err)
		m.answerQuery(q, m.own(wire.ClassPermanentFailure, wire.InternalError), &Verdict{})
		return
	}
	q.down, q.kept = side{mri: v.Next, peer: v.NextPeer, nslpid: v.level(q.nslpid)}, v.Keep
	q.down.mri.Upstream = q.up.mri.Upstream
	flags := q.msg.Flags & (wire.Proxy | wire.Break) // RFC 5974 §5.4.2
	if q.made {
		flags = q.msg.Flags
	}
	out := wire.Message{Type: wire.Query, MessageFlags: q.msg.MessageFlags, Flags: flags, HasRII: q.hasRII, RII: q.rii,
		BoundSessions: q.msg.BoundSessions, PacketClassifier: q.msg.PacketClassifier, HasInfoSpec: q.msg.HasInfoSpec,
		InfoSpec: q.msg.InfoSpec, QSPEC: v.QSPEC, QSPEC2: q.msg.QSPEC2, Objects: passedOn(q.msg.Objects, v.Extra)}
	q.data = m.encode(&out)
	q.phase, q.giveUpAt = waitResponse, m.after(m.cfg.HoldTimeout)
	if q.made {
		// Only who made the RII retransmits. RFC 5974 §5.3.2, §5.2.4
		q.wait = m.cfg.RequestRetry
		q.retryAt, q.giveUpAt = m.after(q.wait), m.after(m.cfg.RetryMax)
	}
	if q.init {
		m.setPath(q)
	}
	m.sendQuery(q)
	if q.init && !q.made && !q.hasRII {
		m.endQuery(q) // the path is what is left of it
		return
	}
	m.armQuery(q)
}

func (m *Machine) sendQuery(q *query) {
	q.handle = m.newHandle()
	m.send(q.data, q.nslpid, q.sid, q.down.byState(), q.handle)
}

// queryOf returns the QUERY that a RESPONSE answers, or nil.
func (m *Machine) queryOf(r *Received, msg *wire.Message) *query {
	for _, q := range m.queries[r.SID] {
		if q.phase != waitAdmit && q.hasRII == msg.HasRII && !(msg.HasRSN && !q.hasRII) && q.rii == msg.RII && q.down.peer == r.Peer &&
			r.MRI.Upstream != q.down.mri.Upstream && q.down.nslpid == r.NSLPID {
			return q
		}
	}
	return nil
}

// queryAnswered handles the RESPONSE to a QUERY.
func (m *Machine) queryAnswered(q *query, r *Received, msg *wire.Message) {
	switch {
	case q.phase != waitResponse:
		m.stats.StrayResponses++ // a repeat
	case msg.InfoSpec.Class == wire.ClassInformational, !q.hasRII && !msg.InfoSpec.IsError():
		m.note("informational", r.SID, r.Peer, "%v", msg.InfoSpec)
	default:
		q.phase, q.resp = waitCommit, msg
		q.retryAt, q.giveUpAt = 0, m.after(m.cfg.HoldTimeout)
		m.askQuery(q, Conclude, Question{Message: msg, In: r.RecvMessage, Downstream: q.down.peer, Kept: q.kept})
		m.armQuery(q)
	}
}

// answerQuery ends a QUERY with what it came to.
func (m *Machine) answerQuery(q *query, info wire.InfoSpec, v *Verdict) {
	extra := v.Extra
	if err := objectsFit(extra); err != nil {
		m.note("bad-verdict", q.sid, q.up.peer, "%v; left out of the RESPONSE", err)
		extra = nil
	}
	var passed []wire.Object
	flags := q.msg.Flags & (wire.Proxy | wire.Break)
	if q.resp != nil {
		passed = q.resp.Objects
		flags |= q.resp.Flags & wire.Break // RFC 5974 §5.4.3
	}
	objects := passedOn(passed, extra)
	if q.made {
		kind := Answered
		if info.IsError() {
			kind = Rejected
		}
		m.do(Result{SID: q.sid, Kind: kind, Info: info, Response: q.resp, QSPEC: v.ResponseQSPEC, Extra: objects})
	} else {
		m.respond(q.nslpid, q.sid, reply{to: q.up.byState(), rii: q.rii, hasRII: q.hasRII, info: info,
			qspec: v.ResponseQSPEC, objects: objects, flags: flags, bound: q.msg.BoundSessions})
	}
	m.endQuery(q)
}

// endQuery forgets a QUERY, and GIST's state for it where it has no other use.
func (m *Machine) endQuery(q *query) {
	if q.ticket != 0 {
		delete(m.asked, q.ticket)
		q.ticket = 0
	}
	m.timers.remove(&q.heapPos)
	rest := slices.DeleteFunc(m.queries[q.sid], func(x *query) bool { return x == q })
	m.queryCount--
	if len(rest) > 0 {
		m.queries[q.sid] = rest
		return
	}
	delete(m.queries, q.sid)
	if m.sessions[q.sid] != nil || m.paths[q.sid] != nil {
		return
	}
	if !q.made {
		m.do(Forget{gist.SetStateLifetime{NSLPID: q.nslpid, SID: q.sid, MRI: q.up.mri.Reverse()}})
	}
	if q.data != nil {
		m.do(Forget{gist.SetStateLifetime{NSLPID: q.down.nslpid, SID: q.sid, MRI: q.down.mri}})
	}
}

// queryDue handles a QUERY's deadline.
func (m *Machine) queryDue(q *query) {
	switch d := q.deadline(); {
	case d == 0:
		m.timers.remove(&q.heapPos)
	case d > m.now:
		m.timers.later(d)
	case q.giveUpAt > m.now:
		q.wait *= 2 // RFC 5974 §5.2.4
		q.retryAt = m.after(q.wait)
		m.stats.Retransmitted++
		m.sendQuery(q)
	default:
		m.note("query-unanswered", q.sid, q.down.peer, "RII %08x", q.rii)
		if q.made {
			m.do(Result{SID: q.sid, Kind: TimedOut, Info: m.own(wire.ClassTransientFailure, wire.PathTruncated)})
		}
		// "MUST NOT generate any RESPONSE or NOTIFY message to notify this
		// error". RFC 5974 §5.3.2
		m.endQuery(q)
	}
}

// queryNotSent handles GIST's word that a QUERY could not be sent; false: it is
// not about one.
func (m *Machine) queryNotSent(st *gistStatus) bool {
	for _, q := range m.queries[st.SID] {
		if st.Handle != 0 && q.handle == st.Handle {
			m.note("not-sent", q.sid, q.down.peer, "%v", st.Err)
			if q.phase == waitResponse {
				m.answerQuery(q, m.sendFailure(st.Err, q.down.mri.Upstream), &Verdict{})
			}
			return true
		}
	}
	return false
}
