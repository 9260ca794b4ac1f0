package gist

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// RFC 5971 §6: every (state, event) cell of every machine is present, the
// ignored ones too.
func TestTablesAreComplete(t *testing.T) {
	for ev, name := range nodeEventNames {
		if name == "" || (nodeTable[ev] == 0) {
			t.Errorf("Node-SM: event %d %q has no rule", ev, name)
		}
	}
	for _, st := range []smState{awaitingResponse, established, awaitingRefresh} {
		for ev, name := range queryEventNames {
			if name == "" || queryTable[st][ev] == 0 {
				t.Errorf("Querying-SM: %v, %s has no rule", st, name)
			}
		}
	}
	for _, st := range []smState{awaitingConfirm, established, awaitingRefresh} {
		for ev, name := range respondEventNames {
			if name == "" || respondTable[st][ev] == 0 {
				t.Errorf("Responding-SM: %v, %s has no rule", st, name)
			}
		}
	}
	for st := range numMAStates {
		for ev, name := range maEventNames {
			if name == "" || maTable[st][ev] == 0 {
				t.Errorf("MA-SM: %v, %s has no rule", st, name)
			}
		}
	}
	want := int(numNodeEvents) + 3*int(numQueryEvents) + 3*int(numRespondEvents) + int(numMAStates)*int(numMAEvents)
	seen := map[Transition]bool{}
	for _, tr := range Transitions() {
		if tr.Machine == "" || tr.State == "" || tr.Event == "" || tr.Rule == "" || tr.Ignored != strings.Contains(tr.Rule, "ignore") {
			t.Errorf("%+v", tr)
		}
		seen[Transition{Machine: tr.Machine, State: tr.State, Event: tr.Event}] = true
	}
	if len(seen) != want {
		t.Errorf("%d cells are listed, want %d", len(seen), want)
	}
	if len(queryTable) != len(smStateNames) || len(respondTable) != len(smStateNames) || queryTable[awaitingConfirm] != [numQueryEvents]queryRule{} {
		t.Error("a machine has a row for a state that is not its own")
	}
}

// RFC 5971 figures 7, 8 and 9, cell by cell: the transitions that they draw.
func TestTablesFollowTheFigures(t *testing.T) {
	query := []struct {
		st   smState
		ev   queryEvent
		rule queryRule
	}{
		{awaitingResponse, tgNSLPData, qStore},          // 1
		{awaitingResponse, toNoResponse, qRetryOrDie},   // 2
		{established, erNoRSM, qRestart},                // 3
		{awaitingRefresh, erNoRSM, qRestart},            // 3
		{awaitingResponse, qrxResponse, qResponse},      // 4
		{established, qrxResponse, qResponse},           // 4
		{awaitingRefresh, qrxResponse, qResponse},       // 4
		{established, tgNSLPData, qSend},                // 5
		{awaitingRefresh, tgNSLPData, qSend},            // 5
		{awaitingResponse, toInactiveQNode, qTerminate}, // 6
		{established, toInactiveQNode, qTerminate},      // 6
		{awaitingRefresh, toInactiveQNode, qTerminate},  // 6
		{established, qrxData, qDeliver},                // 7
		{awaitingRefresh, qrxData, qDeliver},            // 7
		{established, toRefreshQNode, qRefresh},         // 8
		{awaitingRefresh, toNoResponse, qRetryOrDie},    // 2
	}
	for _, c := range query {
		if queryTable[c.st][c.ev] != c.rule {
			t.Errorf("Querying-SM: %v, %s: rule %d, want %d", c.st, queryEventNames[c.ev], queryTable[c.st][c.ev], c.rule)
		}
	}
	respond := []struct {
		st   smState
		ev   respondEvent
		rule respondRule
	}{
		{awaitingConfirm, rrxConfirm, rConfirmed},       // 8
		{awaitingConfirm, rrxData, rRefuseData},         // 6
		{awaitingConfirm, tgNSLPDataResponder, rStore},  // 7
		{established, rrxConfirm, rIgnore},              // 10
		{established, rrxData, rDeliver},                // 4
		{established, tgNSLPDataResponder, rSend},       // 3
		{established, rrxQuery, rAnswer},                // 1
		{established, toExpireRNode, rTerminate},        // 11
		{established, erNoRSMResponder, rTerminate},     // 11
		{awaitingRefresh, rrxData, rDeliver},            // 4
		{awaitingRefresh, tgNSLPDataResponder, rSend},   // 3
		{awaitingRefresh, rrxQuery, rAnswer},            // 1
		{awaitingRefresh, rrxConfirm, rConfirmed},       // 8
		{awaitingRefresh, toExpireRNode, rTerminate},    // 11
		{awaitingRefresh, erNoRSMResponder, rTerminate}, // 11
	}
	for _, c := range respond {
		if respondTable[c.st][c.ev] != c.rule {
			t.Errorf("Responding-SM: %v, %s: rule %d, want %d", c.st, respondEventNames[c.ev], respondTable[c.st][c.ev], c.rule)
		}
	}
	ma := []struct {
		st   maState
		ev   maEvent
		rule maRule
	}{
		{maAwaitingConnection, maTgConnected, maUp}, // 6
		{maAwaitingConnection, maErConnect, maDie},  // 8
		{maConnected, maTgRawData, maPass},          // 1
		{maConnected, maRxMessage, maHandle},        // 2
		{maConnected, maRxMAHello, maHello},         // 3
		{maConnected, maToSendHello, maSendHello},   // 4
		{maConnected, maTgMAIdle, maToIdle},         // 7
		{maConnected, maErFailure, maDie},           // 8
		{maIdle, maTgRawData, maPass},               // 1
		{maIdle, maRxMessage, maHandle},             // 2
		{maIdle, maToNoHello, maDie},                // 8
		{maIdle, maErFailure, maDie},                // 8
		{maIdle, maRxMAHello, maIdleHello},          // 9
	}
	for _, c := range ma {
		if maTable[c.st][c.ev] != c.rule {
			t.Errorf("MA-SM: %v, %s: rule %d, want %d", c.st, maEventNames[c.ev], maTable[c.st][c.ev], c.rule)
		}
	}
}

type testTimer struct{ tm alarm }

func (x *testTimer) alarm() *alarm   { return &x.tm }
func (x *testTimer) fire(m *Machine) {}

// The heap against a map: set, move, remove, in any order.
func TestTimerHeap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var ts timers
	all := make([]*testTimer, 200)
	want := map[*testTimer]instant{}
	for i := range all {
		all[i] = new(testTimer)
	}
	for range 20_000 {
		x := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0:
			ts.remove(&x.tm)
			delete(want, x)
		case 1:
			at := r.Int64N(1000)
			ts.notLater(x, at)
			if old, ok := want[x]; !ok || at < old {
				want[x] = at
			}
		default:
			at := r.Int64N(1000)
			ts.set(x, at)
			want[x] = at
		}
		least := never
		for _, at := range want {
			least = min(least, at)
		}
		if ts.next() != least || len(ts.heap) != len(want) {
			t.Fatalf("next %d of %d, want %d of %d", ts.next(), len(ts.heap), least, len(want))
		}
	}
	last := instant(-1)
	for len(ts.heap) > 0 {
		x := ts.pop().(*testTimer)
		if x.tm.at < last || want[x] != x.tm.at || x.tm.pos != 0 {
			t.Fatalf("popped %d after %d, want %d", x.tm.at, last, want[x])
		}
		last = x.tm.at
	}
}

// RFC 5971 §5.3.3: a token bucket.
func TestBucket(t *testing.T) {
	var b bucket
	taken := 0
	for now := instant(0); now < int64(10*time.Second); now += int64(time.Millisecond) {
		for b.take(now, 100, 20) {
			taken++
		}
	}
	if taken < 1015 || taken > 1021 {
		t.Errorf("%d tokens in 10 s at 100 a second and a burst of 20", taken)
	}
	if w := b.wait(1, 100); w <= 0 || w > 10*time.Millisecond+1 {
		t.Errorf("next token in %v", w)
	}
}
