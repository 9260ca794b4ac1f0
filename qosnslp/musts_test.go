package qosnslp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// must is a sentence of RFC 5974 §5 with MUST, MUST NOT or SHALL in it.
type must struct {
	section string
	quote   string   // as it stands there, line breaks apart
	tests   []string // that prove it, here; "wire:TestX" in that directory
	why     string   // instead: why there is none
}

// mustsOf is how often MUST (NOT) and SHALL stand in each section, so that none is
// left out of musts.
var mustsOf = map[string]int{"5.1": 1, "5.1.1": 3, "5.1.2.1": 6, "5.1.2.2": 3, "5.1.2.3": 1, "5.1.2.4": 1, "5.1.3": 7, "5.1.3.1": 1, "5.1.3.4": 1, "5.1.3.5": 3, "5.2.3": 2, "5.2.4": 1, "5.2.5.1": 2, "5.2.5.2": 4, "5.2.5.3": 1, "5.3.1": 7, "5.3.2": 7, "5.3.3": 3, "5.3.5": 15, "5.3.6": 6, "5.3.7": 4, "5.4.1": 17, "5.4.2": 9, "5.4.3": 11, "5.4.4": 1}

// musts are all of them, in the order of the text.
var musts = []must{
	{"5.1", `MUST accept the objects in any order`, []string{"wire:TestAnyOrder"}, ""},
	{"5.1.1", `All GIST NSLP-Data objects for the QoS NSLP MUST contain this common header`, []string{"TestMustFormOfMessages", "wire:TestParseErrors"}, ""},
	{"5.1.1", `MUST be set to zero on sending and MUST be ignored on receiving`, []string{"TestMustFormOfMessages", "wire:TestReservedBitsIgnored"}, ""},
	{"5.1.2.1", `The RSN is the only mandatory object and MUST always be present in all cases`, []string{"TestMustFormOfMessages"}, ""},
	{"5.1.2.1", `A QSPEC MUST be included in the initial RESERVE sent towards the QNR`, []string{"TestMustFormOfMessages"}, ""},
	{"5.1.2.1", `MUST NOT include a PACKET-CLASSIFIER either`, []string{"TestMustFormOfMessages", "TestCopied"}, ""},
	{"5.1.2.1", `then the RESERVE message MUST include the SESSION-ID of that other session`, []string{"TestBoundInAllMessages"}, ""},
	{"5.1.2.1", `then an error indicating "RESERVE received from wrong direction" MUST be sent`, []string{"TestWrongDirection", "TestWrongDirectionOfReceivers"}, ""},
	{"5.1.2.1", `When the QNE sends out a tearing RESERVE, it MUST NOT send refresh messages anymore`, []string{"TestNothingAfterTear", "TestSummaryRefresh"}, ""},
	{"5.1.2.2", `QUERY messages MUST always include a QSPEC`, []string{"TestMustFormOfMessages"}, ""},
	{"5.1.2.2", `MUST contain an RII object to match an incoming RESPONSE to the QUERY`, []string{"TestMustFormOfMessages", "TestQueryForm"}, ""},
	{"5.1.2.2", `then the RESERVE message MUST include the SESSION-ID of that other session`, []string{"TestInitObjects"}, ""},
	{"5.1.2.3", `A RESPONSE message MUST contain an INFO-SPEC object`, []string{"TestMustFormOfMessages"}, ""},
	{"5.1.2.4", `A NOTIFY message MUST contain an INFO-SPEC object`, []string{"TestMustFormOfMessages", "TestNotifyWithoutReason"}, ""},
	{"5.1.3", `the entire message containing it MUST be rejected, and an error message sent back`, []string{"TestUnknownObjects"}, ""},
	{"5.1.3", `it MUST be deleted and the rest of the message processed as usual`, []string{"TestUnknownObjects", "wire:TestIgnoredObjectIsDeleted"}, ""},
	{"5.1.3", `it MUST be retained unchanged in any message forwarded as a result of message processing`, []string{"TestUnknownObjects"}, ""},
	{"5.1.3", `These SHALL be set to 0 and SHALL be ignored on reception`, []string{"TestMustFormOfMessages", "wire:TestReservedBitsIgnored"}, ""},
	{"5.1.3", `All objects defined in this specification MUST be understood by all QNEs`, []string{"wire:TestGolden"}, ""},
	{"5.1.3", `thus, they MUST have the AB-bits set to "00"`, []string{"TestMustFormOfMessages"}, ""},
	{"5.1.3.1", `An identifier that MUST be (probabilistically) unique within the context of a SESSION-ID`, []string{"TestMustRIIBeUnique"}, ""},
	{"5.1.3.4", `the session that MUST be bound to the session associated with the message`, []string{"TestDependent"}, ""},
	{"5.1.3.5", `The flags indicate which fields from the MRI MUST be used by the packet classifier`, nil, `binds who classifies packets, above this package: a Question hands it over in Message, and TestCopied has it travel on`},
	{"5.1.3.5", `Flags MUST only be set if the data is present in the MRI`, []string{"TestOffendingObjectComesBack"}, ""},
	{"5.1.3.5", `appropriate method-specific classifier data for the PACKET-CLASSIFIER object MUST be defined`, nil, `binds who defines an MRM; for the Off-Path one it is as for the Path-Coupled one (wire/packet_classifier.go)`},
	{"5.2.3", `the receiving QNE MUST NOT propagate the message any further`, []string{"TestMustNotPropagateIncomplete"}, ""},
	{"5.2.3", `It MUST construct a RESPONSE message indicating the error condition`, []string{"TestMustNotPropagateIncomplete", "TestMalformed"}, ""},
	{"5.2.4", `Retransmissions MUST be made with exponentially increasing wait intervals`, []string{"TestRetransmission", "TestNotAcknowledged"}, ""},
	{"5.2.5.1", `MUST continue to attempt to send messages downstream to probe for path changes`, []string{"TestTakesOverAsLast"}, ""},
	{"5.2.5.1", `MUST take over as the last node on the signaling path`, []string{"TestTakesOverAsLast", "TestLastNodeChanges"}, ""},
	{"5.2.5.2", `An SII-Handle MUST NOT be specified when passing this message over the API to GIST`, []string{"TestReroute"}, ""},
	{"5.2.5.2", `it MUST request GIST to use its explicit routing mechanism, and the QoS NSLP MUST supply an SII-Handle relating to the old peer QNE`, []string{"TestReroute"}, ""},
	{"5.2.5.2", `it MUST contain an RSN that is RSN[current] - 1`, []string{"TestReroute"}, ""},
	{"5.2.5.3", `it MUST be sent to the old peer using the GIST explicit routing mechanism`, []string{"TestUpstreamRouteChange"}, ""},
	{"5.3.1", `It MUST be incremented for each new RESERVE message where the reservation for the session changes`, []string{"TestMustRaiseRSN"}, ""},
	{"5.3.1", `then the RESERVE message MUST be treated as an updated reservation (even if the RSN is less than the current stored value)`, []string{"TestNewEpochIsNewer"}, ""},
	{"5.3.1", `and the stored RSN and Epoch Identifier MUST be updated to the new values`, []string{"TestNewEpochIsNewer"}, ""},
	{"5.3.1", `the current state MUST be refreshed`, []string{"TestEqualRSNRefreshes"}, ""},
	{"5.3.1", `the current reservation MUST be modified appropriately as specified in the QSPEC`, []string{"TestRSNWraps", "TestMustRaiseRSN"}, ""},
	{"5.3.1", `it indicates an out-of-order message, and the RESERVE message MUST be discarded`, []string{"TestOlderRSNDiscarded"}, ""},
	{"5.3.1", `It MUST also copy the same RSN into the RESERVE message (if any) that it sends as a consequence`, []string{"TestInteriorMessages"}, ""},
	{"5.3.2", `the QNE MUST select the value for the RII such that it is probabilistically unique`, []string{"TestMustRIIBeUnique"}, ""},
	{"5.3.2", `The node that created the RII object MUST remember the value used in the RII`, []string{"TestQueryUnderLoss"}, ""},
	{"5.3.2", `the QNE MUST NOT generate any RESPONSE or NOTIFY message to notify this error`, []string{"TestQueryUnanswered"}, ""},
	{"5.3.2", `the QNE MUST NOT add a new RII object nor replace the old RII object, but MUST simply remember this RII`, []string{"TestRIIPassesRSNDoesNot"}, ""},
	{"5.3.2", `it MUST NOT set up a retransmission timer`, []string{"TestRetransmission"}, ""},
	{"5.3.2", `When receiving a message containing an RII object the node MUST send a RESPONSE if`, []string{"TestScoping", "TestProxyReserve", "TestProxyOfOthers"}, ""},
	{"5.3.3", `a QNE MUST copy the BOUND-SESSION-ID object into all messages it sends for the same session`, []string{"TestBoundInAllMessages", "TestCopied", "TestQueryCopied", "TestSummaryBounds"}, ""},
	{"5.3.3", `A QNE that stores per-session state MUST store the value of the BOUND-SESSION-ID`, []string{"TestBoundInAllMessages"}, ""},
	{"5.3.3", `MUST be ready to process more than one BOUND-SESSION-ID object within a single message`, []string{"TestBoundInAllMessages"}, ""},
	{"5.3.5", `A RESPONSE message MUST carry INFO-SPEC objects towards the QNI`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `The RESPONSE message MUST be forwarded unconditionally up to the QNI`, []string{"TestMustForwardInfoSpec"}, ""},
	{"5.3.5", `The Informational INFO-SPEC class MUST be generated by a stateful QoS NSLP QNE`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `The Informational INFO-SPEC object MUST be carried by a RESPONSE or a NOTIFY message`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `the Success INFO-SPEC class MUST be generated by a stateful QoS NSLP QNR`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `The Success INFO-SPEC object MUST be carried by a RESPONSE or a NOTIFY message`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `the Protocol Error INFO-SPEC class MUST be generated by a stateful QoS NSLP QNE`, []string{"TestErrorCatalogue", "wire:TestParseErrors"}, ""},
	{"5.3.5", `a protocol error is caught. A RESPONSE message MUST carry this object, which MUST be forwarded unconditionally`, []string{"TestMustForwardInfoSpec", "TestQueryRefused"}, ""},
	{"5.3.5", `the Transient Failure INFO-SPEC class MUST be generated by a stateful QoS NSLP QNE`, []string{"TestErrorCatalogue", "TestAbandon"}, ""},
	{"5.3.5", `and one Transient failure error code is caught. A RESPONSE message MUST carry this object, which MUST be forwarded unconditionally`, []string{"TestMustForwardInfoSpec"}, ""},
	{"5.3.5", `the Permanent Failure INFO-SPEC class MUST be generated by a stateful QoS NSLP QNE`, []string{"TestErrorCatalogue"}, ""},
	{"5.3.5", `or authorization failed. A RESPONSE message MUST carry this object, which MUST be forwarded unconditionally`, []string{"TestMustForwardInfoSpec"}, ""},
	{"5.3.6", `If the primary SESSION-ID is not understood, the SESSION-ID-LIST object MUST NOT be processed`, []string{"TestListNotProcessed"}, ""},
	{"5.3.6", `for each session in the SESSION-ID-LIST, the stateful QNE MUST inform the RMF that the reservation is no longer required`, []string{"TestSummaryTear"}, ""},
	{"5.3.6", `RSN values MUST also be interpreted in order to distinguish whether the tear down is valid`, []string{"TestTearOvertakesReserve", "TestSummaryTear"}, ""},
	{"5.3.6", `the stateful QNE MUST also process the RSN-LIST object`, []string{"TestListErrors"}, ""},
	{"5.3.6", `for each session in the SESSION-ID-LIST, the QNE MUST inform the RMF that the reservation is no longer required`, []string{"TestSummaryTear"}, ""},
	{"5.3.6", `RSN values MUST be interpreted`, []string{"TestSummaryTear", "TestOldTear"}, ""},
	{"5.3.7", `An RSN-LIST MUST be carried in RESERVE messages`, []string{"TestMustFormOfMessages", "TestListNotProcessed"}, ""},
	{"5.3.7", `The RSN-LIST object MUST be populated with RSN values of the same sessions and in the same order`, []string{"TestMustFormOfMessages", "TestListErrors"}, ""},
	{"5.3.7", `the stateful QNE MUST NOT process the RSN-LIST`, []string{"TestListNotProcessed"}, ""},
	{"5.3.7", `The stateful QNE MUST include the erroneous SESSION-ID and RSN values`, []string{"TestListErrors", "TestOutOfStepInList"}, ""},
	{"5.4.1", `RESERVE messages MUST only be sent towards the QNR`, []string{"TestMustFormOfMessages", "TestNoPathState"}, ""},
	{"5.4.1", `Before performing any state-changing actions, a QNE MUST determine whether the request is authorized`, []string{"TestMustAuthorizeFirst"}, ""},
	{"5.4.1", `the QNE MUST inform the RMF that the reservation is no longer required. The RSN value MUST be processed`, []string{"TestMustInformRMF", "TestOldTear"}, ""},
	{"5.4.1", `the stateful QNE MUST process the object as described earlier in this document`, []string{"TestSummaryTear"}, ""},
	{"5.4.1", `the QNE MUST silently drop the message and not forward it downstream`, []string{"TestMustDropRefreshOfRemoved"}, ""},
	{"5.4.1", `(identified by its SII) MUST be ignored and MUST NOT be forwarded`, []string{"TestTearOfAnotherPeer", "TestTearOfFormerPeer"}, ""},
	{"5.4.1", `it MUST send a NOTIFY message for each of the reservations with an appropriate INFO-SPEC`, []string{"TestDependent"}, ""},
	{"5.4.1", `then the node MUST send a RESPONSE message with an INFO-SPEC that indicates a missing QSPEC`, []string{"TestFullQSPECRequired", "TestResynchronization"}, ""},
	{"5.4.1", `It MUST update the lifetime of the reservation`, []string{"TestLifetime"}, ""},
	{"5.4.1", `the BREAK flag of newly generated messages (e.g., RESERVE or RESPONSE) MUST be set`, []string{"TestCopied", "TestGapAppears"}, ""},
	{"5.4.1", `then the IP-TTL and Original-TTL values in the GIST RecvMessage primitive MUST be monitored`, []string{"TestGapIsSeen"}, ""},
	{"5.4.1", `any of the following are true, the QNE MUST send a RESPONSE message`, []string{"TestScoping", "TestProxyReserve", "TestForcedRefresh"}, ""},
	{"5.4.1", `the QNE MUST continue to use full refresh messages`, []string{"TestFullRefreshMandated", "TestNotifyBetweenNeighbours"}, ""},
	{"5.4.1", `then the RESERVE message MUST include the SESSION-ID of that other session`, []string{"TestBoundInAllMessages"}, ""},
	{"5.4.1", `The QNE MUST create a new RESERVE and send it to its next peer`, []string{"TestMustInformRMF", "TestMobility", "TestInviteAgain"}, ""},
	{"5.4.2", `The QSPEC MUST be passed to the RMF`, []string{"TestMustForwardQuery"}, ""},
	{"5.4.2", `then an error MUST be sent back along the path`, []string{"TestReceiverUnwilling"}, ""},
	{"5.4.2", `The QNE MUST generate a RESPONSE message and pass it back along the reverse of the path used by the QUERY if`, []string{"TestQuery", "TestQueryScoped"}, ""},
	{"5.4.2", `the PROXY scope flag is set and the QNE is a P-QNE, the QNE MUST generate a RESPONSE message`, []string{"TestProxyQuery"}, ""},
	{"5.4.2", `the QNE MUST generate a QUERY message that is then forwarded further along the path using the same MRI, Session ID, and Direction`, []string{"TestMustForwardQuery"}, ""},
	{"5.4.2", `the QNE MUST copy the RII object (if present) unchanged into the new QUERY message`, []string{"TestQuery"}, ""},
	{"5.4.2", `QUERY messages with the RESERVE-INIT flag set MUST be answered by the QNR`, []string{"TestInviteAgain"}, ""},
	{"5.4.2", `the BREAK flag of newly generated messages (e.g., QUERY, RESERVE, or RESPONSE) MUST be set`, []string{"TestInitObjects", "TestQueryCopied"}, ""},
	{"5.4.2", `then the IP-TTL and Original-TTL values in GIST RecvMessage primitive MUST be monitored`, []string{"TestGapIsSeenInQuery"}, ""},
	{"5.4.3", `A RESPONSE message MUST be sent when the QNR processes a RESERVE or QUERY message containing an RII object or if the QNE receives a scoped RESERVE or a scoped QUERY`, []string{"TestScopedIsAnswered"}, ""},
	{"5.4.3", `the RESPONSE message MUST contain the RII object copied from the RESERVE or the QUERY`, []string{"TestScopedIsAnswered"}, ""},
	{"5.4.3", `the RII and RSN, if available, MUST be included in the RESPONSE`, []string{"TestErrorHasRIIAndRSN", "wire:TestParseReturnsWhatItRead"}, ""},
	{"5.4.3", `MUST attempt to match it to the outstanding response requests for that signaling session`, []string{"TestUnmatchedResponse"}, ""},
	{"5.4.3", `then the RESPONSE MUST NOT be forwarded further along the path if it contains an Informational or Success INFO-SPEC class`, []string{"TestMissingRII"}, ""},
	{"5.4.3", `MUST compare the RSN to that of the appropriate signaling session`, []string{"TestUnmatchedResponse"}, ""},
	{"5.4.3", `then the INFO-SPEC MUST be processed`, []string{"TestErrorByRSNGoesUp"}, ""},
	{"5.4.3", `then the node MUST use the stored upstream peer RSN value`, []string{"TestErrorByRSNGoesUp"}, ""},
	{"5.4.3", `if the RESPONSE message carries an RSN, the message MUST NOT be forwarded further along the path`, []string{"TestMustNotForwardSuccessByRSN"}, ""},
	{"5.4.3", `containing neither an RII nor an RSN object, the RESPONSE MUST NOT be forwarded further along the path`, []string{"TestUnmatchedResponse"}, ""},
	{"5.4.3", `the BREAK flag of newly generated message (e.g., RESPONSE) MUST be set`, []string{"TestMustCopyBreakOfResponse"}, ""},
	{"5.4.4", `The QNE receiving such a RESERVE MUST reply with a NOTIFY and a proper INFO-SPEC code`, nil, `"the appropriate flag in the RESERVE" is none that §5.1.1 or §5.1.2.1 defines; reduced refreshes are used unless a peer says that it has none`},
}

var keyword = regexp.MustCompile(`\b(?:MUST|SHALL)\b`)

// Each MUST of the RFC has a test that is there and that cites the section, or a
// reason why it has none. That the tests prove anything, make conformance shows.
func TestEveryMustHasATest(t *testing.T) {
	cites := map[string]string{}
	for _, dir := range []string{".", "wire"} {
		testTexts(t, dir, cites)
	}
	found := map[string]int{}
	seen := map[string]bool{}
	for _, m := range musts {
		n := len(keyword.FindAllString(m.quote, -1))
		if found[m.section] += n; n == 0 || seen[m.section+m.quote] {
			t.Errorf("§%s: %q is no MUST, or is there twice", m.section, m.quote)
		}
		seen[m.section+m.quote] = true
		if (len(m.tests) == 0) == (m.why == "") {
			t.Errorf("§%s: %q: want tests or a reason, not both", m.section, m.quote)
		}
		section := regexp.MustCompile(`§` + regexp.QuoteMeta(m.section) + `(?:[^.0-9]|\.(?:[^0-9]|$)|$)`)
		for _, name := range m.tests {
			switch text, ok := cites[name]; {
			case !ok:
				t.Errorf("§%s: %q: there is no %s", m.section, m.quote, name)
			case !section.MatchString(text):
				t.Errorf("§%s: %q: %s does not cite the section", m.section, m.quote, name)
			}
		}
	}
	for s, n := range mustsOf {
		if found[s] != n {
			t.Errorf("§%s has %d MUST and SHALL, here are %d", s, n, found[s])
		}
		delete(found, s)
	}
	for s := range found {
		t.Errorf("§%s has none", s)
	}
}

// testTexts adds the tests of a directory, each with its comment and body.
func testTexts(t *testing.T, dir string, out map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			name := fn.Name.Name
			if dir != "." {
				name = dir + ":" + name
			}
			from := fn.Pos()
			if fn.Doc != nil {
				from = fn.Doc.Pos()
			}
			out[name] = string(src[fset.Position(from).Offset:fset.Position(fn.End()).Offset])
		}
	}
}
