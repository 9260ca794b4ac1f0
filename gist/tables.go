package gist

// Transition is one cell of the tables of RFC 5971 §6: what a machine does about
// an event in a state.
type Transition struct {
	Machine string // "Node-SM", "Querying-SM", "Responding-SM", "MA-SM"
	State   string // by the RFC's name
	Event   string // by the RFC's name, where it has one
	Rule    string // with the RFC's number, where it has one
	Ignored bool   // "assumed to be impossible [...] and MUST be ignored"
}

var nodeRuleNames = map[nodeRule]string{
	nodeAnswerQuery: "1: send Response with R=1", nodeDiscard: "2, 4: discard", nodeCreateResponse: "3: create Responding-SM",
	nodeNoRoutingState: "4: No Routing State, or pass on what needs none", nodeCreateQuerying: "5: create Querying-SM, or send statelessly",
}

var queryRuleNames = map[queryRule]string{
	qImpossible: "ignore", qStore: "1: store the message", qRetryOrDie: "2: send Query again, or give up",
	qRestart: "3: restart the handshake", qResponse: "4: take the Response", qSend: "5: send Data", qTerminate: "6: terminate",
	qDeliver: "7: pass data to the NSLP", qRefresh: "8: send Query", qPeerExpired: "purge the peer's address",
	qAssociation: "do without the association", qConfirm: "send Confirm and what waits", qAlreadyAsked: "3: send Query, if none is out",
}

var respondRuleNames = map[respondRule]string{
	rImpossible: "ignore", rAnswer: "1: a Response has left", rSend: "3: send Data", rDeliver: "4: pass data to the NSLP",
	rRefuseData: "6: drop, No Routing State", rStore: "7: store the message", rConfirmed: "2, 8: take the Confirm",
	rTerminate: "11: terminate", rAssociation: "wait for another association", rIgnore: "10: ignore silently",
}

var maRuleNames = map[maRule]string{
	maImpossible: "ignore", maPass: "1: pass to the transport", maHandle: "2: pass to the other machines", maHello: "3: reply if requested",
	maSendHello: "4: send MA-Hello", maUp: "6: send what waits", maToIdle: "7: stop SendHello, start NoHello", maDie: "8: report failure, destroy",
	maIdleHello: "9: reply if requested, restart NoHello", maStranger: "refuse whose first message is no Confirm",
}

// Transitions returns every cell of every table.
func Transitions() []Transition {
	var all []Transition
	for ev, rule := range nodeTable {
		all = append(all, Transition{"Node-SM", "Idle", nodeEventNames[ev], nodeRuleNames[rule], false})
	}
	for _, st := range []smState{awaitingResponse, established, awaitingRefresh} {
		for ev, rule := range queryTable[st] {
			all = append(all, Transition{"Querying-SM", st.String(), queryEventNames[ev], queryRuleNames[rule], rule == qImpossible})
		}
	}
	for _, st := range []smState{awaitingConfirm, established, awaitingRefresh} {
		for ev, rule := range respondTable[st] {
			all = append(all, Transition{"Responding-SM", st.String(), respondEventNames[ev], respondRuleNames[rule], rule == rImpossible || rule == rIgnore})
		}
	}
	for st := range numMAStates {
		for ev, rule := range maTable[st] {
			all = append(all, Transition{"MA-SM", st.String(), maEventNames[ev], maRuleNames[rule], rule == maImpossible})
		}
	}
	return all
}
