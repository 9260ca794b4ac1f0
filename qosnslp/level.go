package qosnslp

import (
	"fmt"
	"slices"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Aggregation levels (RFC 5974 §3.2.10.3, §3.3.1, §4.5): "messages have their
// aggregation level incremented on entry to an aggregation region and decremented
// on exit". The level is the NSLPID, from which the router alert value follows, so
// the nodes inside, which serve the lower level only, do not even see the message.
// At an aggregator and a deaggregator the two sides of a session are therefore on
// different levels. Which of its neighbours are inside a region the layer above
// knows: the verdict says the level of the next side.

// MaxLevel is the highest aggregation level: "NSLPIDs 1 to 32" (RFC 5974 §6.6).
const MaxLevel = 31

// LevelNSLPID returns the NSLPID of an aggregation level from 0 to MaxLevel.
func LevelNSLPID(level int) (gistwire.NSLPID, bool) {
	return gistwire.NSLPID(level + 1), level >= 0 && level <= MaxLevel
}

// Level returns the aggregation level of an NSLPID; false: it is not one of
// QoS-NSLP's.
func Level(id gistwire.NSLPID) (int, bool) {
	return int(id) - 1, id >= 1 && id <= MaxLevel+1
}

// at is the NSLPID of messages on this side, of a session on id.
func (d side) at(id gistwire.NSLPID) gistwire.NSLPID {
	if d.nslpid != 0 {
		return d.nslpid
	}
	return id
}

// expects says whether a message is on the level that the session has on the
// message's side. A full RESERVE may be on another: upstream the path has come to
// enter a region elsewhere.
func (s *session) expects(r *Received, msg *wire.Message) bool {
	up, down := s.nslpid, s.down.at(s.nslpid)
	if t := s.txn; t != nil && s.state == creating {
		up, down = t.up.at(up), t.down.at(up)
	} else if t.upstream() && (r.NSLPID == t.up.at(up) || r.NSLPID == t.down.at(down)) {
		return true
	}
	switch msg.Type {
	case wire.Response:
		return r.NSLPID == down
	case wire.Reserve:
		_, ok := Level(r.NSLPID)
		return r.NSLPID == up || ok && msg.QSPEC != nil && !msg.Tears() && s.state == installed
	}
	return r.NSLPID == up || r.NSLPID == down
}

// level is that of the next side, where the one before is on id.
func (v *Verdict) level(id gistwire.NSLPID) gistwire.NSLPID {
	if v.NSLPID != 0 {
		return v.NSLPID
	}
	return id
}

func (v *Verdict) onLevel() error {
	if _, ok := Level(v.NSLPID); !ok && v.NSLPID != 0 {
		return fmt.Errorf("NSLPID %d: want 1 to %d, the aggregation levels", v.NSLPID, MaxLevel+1)
	}
	return nil
}

// usable says what is wrong with an accepted Admit's verdict.
func (m *Machine) usable(s *session, t *txn, v *Verdict) error {
	if err := sendable(v.QSPEC, nil); err != nil {
		return err
	}
	if n := len(t.also.boundTo(v.Bound).bindings()); n > maxBound {
		return fmt.Errorf("%d BOUND-SESSION-IDs, want at most %d", n, maxBound)
	}
	return v.onLevel()
}

// boundTo is a with further bindings. It does not change a, which the session may
// have.
func (a *also) boundTo(bound []wire.BoundSession) *also {
	missing := slices.DeleteFunc(slices.Clone(bound), func(b wire.BoundSession) bool { return slices.Contains(a.bindings(), b) })
	if len(missing) == 0 {
		return a
	}
	var out also
	if a != nil {
		out = *a
	}
	out.bound = append(slices.Clone(out.bound), missing...)
	return &out
}
