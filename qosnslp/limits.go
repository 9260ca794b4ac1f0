package qosnslp

import (
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// Rate limits (RFC 5974 §7, "Rate Limitation", §5.1.2.1): what one neighbour can
// make this node send. "An attacker could send erroneous messages on purpose,
// forcing the QNE to constantly reply with an error message"; a host could
// "constantly force the QNEs on the path to send refreshing RESERVE messages".
//
// What is above a limit is dropped and counted, not answered: its sender's
// retransmission or next refresh comes when there is room again. A TEAR and a
// RESPONSE that ends a request of ours are never dropped; refreshes of what stands
// cost nothing. Nor is an error ever answered by one: a RESPONSE or a NOTIFY,
// whatever is wrong with it, has no answer.

// Limits bound, for each peer, messages per second, with bursts of as many.
// 0: the default; negative: none.
type Limits struct {
	// Requests are those of the peer that make this node send others, to anybody:
	// RESERVEs with a QSPEC or an RII, QUERYs, NOTIFYs, and RESPONSEs that ask
	// for RESERVEs, each entry of their lists. Default 100,000.
	Requests int
	// Answers are RESPONSEs to it about what is not under way or installed here,
	// or cannot be: errors of form, unknown sessions, refusals for want of room,
	// acknowledgements. Default 20,000.
	Answers int
}

// Defaults of Limits.
const (
	DefaultPeerRequests = 100_000
	DefaultPeerAnswers  = 20_000
)

// maxBuckets bounds the peers that are told apart. Those beyond it share a place.
const maxBuckets = 4096

// bucket is a token bucket, full after a second without use.
type bucket struct {
	tokens float64
	last   instant
}

// take takes cost tokens of a bucket of rate per second, if they are there.
func (b *bucket) take(now instant, rate, cost int) bool {
	if rate < 0 {
		return true
	}
	b.tokens = min(b.tokens+float64(now-b.last)*float64(rate)/float64(time.Second), float64(rate))
	b.last = now
	// One that costs more than there can ever be passes when the bucket is full.
	if need := min(float64(cost), float64(rate)); b.tokens < need {
		return false
	}
	b.tokens -= float64(cost)
	return true
}

// buckets are one peer's.
type buckets struct {
	requests, answers bucket
	told              instant // of the last note about them
}

func (m *Machine) newBuckets() *buckets {
	return &buckets{requests: bucket{float64(m.cfg.Limits.Requests), m.now}, answers: bucket{float64(m.cfg.Limits.Answers), m.now}}
}

// bucketsOf finds the peer's, or makes some.
func (m *Machine) bucketsOf(p Peer) *buckets {
	if m.lastBuckets != nil && m.lastPeer == p {
		return m.lastBuckets
	}
	b := m.buckets[p]
	if b == nil {
		if len(m.buckets) >= maxBuckets {
			m.sweepBuckets()
		}
		b = m.newBuckets()
		if len(m.buckets) >= maxBuckets {
			p, b = Local, m.buckets[Local] // those beyond the bound share this one
			if b == nil {
				b = m.newBuckets()
			}
		}
		m.buckets[p] = b
	}
	m.lastPeer, m.lastBuckets = p, b
	return b
}

// sweepBuckets forgets those that have not been used for as long as it takes to
// fill them: they are as new ones.
func (m *Machine) sweepBuckets() {
	m.lastBuckets = nil
	if m.now < m.sweepAt {
		return // not for each message of a crowd
	}
	m.sweepAt = m.after(time.Second)
	for p, b := range m.buckets {
		if max(b.requests.last, b.answers.last)+instant(2*time.Second) < m.now {
			delete(m.buckets, p)
		}
	}
}

// admits says whether a message may make this node send others.
func (m *Machine) admits(r *Received, msg *wire.Message) bool {
	cost := causes(msg)
	if cost == 0 || m.cfg.Limits.Requests < 0 {
		return true
	}
	b := m.bucketsOf(r.Peer)
	if b.requests.take(m.now, m.cfg.Limits.Requests, cost) {
		return true
	}
	m.stats.LimitedRequests++
	m.limited(b, r, "requests", m.cfg.Limits.Requests)
	return false
}

// causes is how many messages one can make this node send: about so many, and 0
// for what keeps and ends sessions.
func causes(msg *wire.Message) int {
	switch msg.Type {
	case wire.Reserve:
		if msg.Tears() || msg.QSPEC == nil && !msg.HasRII {
			return 0
		}
	case wire.Response:
		if msg.InfoSpec.Class == wire.ClassSuccess || msg.HasRII {
			return 0
		}
		return 1 + len(msg.SessionIDs)
	}
	return 1
}

// mayAnswer says whether a RESPONSE that no state asks for may go to a peer.
func (m *Machine) mayAnswer(r *Received) bool {
	if m.cfg.Limits.Answers < 0 {
		return true
	}
	b := m.bucketsOf(r.Peer)
	if b.answers.take(m.now, m.cfg.Limits.Answers, 1) {
		return true
	}
	m.stats.LimitedAnswers++
	m.limited(b, r, "answers", m.cfg.Limits.Answers)
	return false
}

// limited says so, once a second for each peer.
func (m *Machine) limited(b *buckets, r *Received, what string, rate int) {
	if b.told == 0 || m.now-b.told >= instant(time.Second) {
		b.told = m.now
		m.note("rate-limit", r.SID, r.Peer, "more than %d %s a second of this peer", rate, what)
	}
}
