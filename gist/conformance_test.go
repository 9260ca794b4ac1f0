package gist

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// storyCase is one case of testdata/conformance: lines that configure a machine,
// say what happens to it, and what must come of that.
type storyCase struct {
	file, name string
	lines      []storyLine
}

type storyLine struct {
	n     int
	words []string // "two words" of a quoted text are one, quotes removed
	cell  *Transition
	conn  ConnID // of cell
}

func (c *storyCase) errorf(l storyLine, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", c.file, l.n, fmt.Errorf(format, args...))
}

// split takes a line into words; a quote holds what is in it together.
func split(s string) (words []string, err error) {
	var b strings.Builder
	quoted, any := false, false
	for _, r := range s {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				words = append(words, b.String())
			}
			b.Reset()
			any = false
		default:
			b.WriteRune(r)
			any = true
		}
	}
	if quoted {
		return nil, errors.New("a quote does not end")
	}
	if any {
		words = append(words, b.String())
	}
	return words, nil
}

// readStories reads the cases of one file. Comments are whole lines.
func readStories(file, text string) ([]*storyCase, error) {
	var all []*storyCase
	for i, s := range strings.Split(text, "\n") {
		if s = strings.TrimSpace(s); s == "" || s[0] == '#' {
			continue
		}
		words, err := split(s)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		l := storyLine{n: i + 1, words: words}
		switch words[0] {
		case "case":
			if len(words) != 2 {
				return nil, fmt.Errorf("%s:%d: want: case NAME", file, l.n)
			}
			if slices.ContainsFunc(all, func(c *storyCase) bool { return c.name == words[1] }) {
				return nil, fmt.Errorf("%s:%d: a second case %q", file, l.n, words[1])
			}
			all = append(all, &storyCase{file: file, name: words[1]})
			continue
		case "cell":
			if l.cell, l.conn, err = readCell(strings.TrimPrefix(s, "cell ")); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, l.n, err)
			}
		case "config", "at", "in", "out", "deadline", "state", "force", "route":
		default:
			return nil, fmt.Errorf("%s:%d: unknown word %q", file, l.n, words[0])
		}
		if len(all) == 0 || len(words) < 2 {
			return nil, fmt.Errorf("%s:%d: want a case first, and more than %q", file, l.n, s)
		}
		c := all[len(all)-1]
		c.lines = append(c.lines, l)
	}
	return all, nil
}

// readCell reads "MA-SM #1 | Connected | to_SendHello | 4": the cell of the table
// that the next event is for, and the rule there.
func readCell(s string) (*Transition, ConnID, error) {
	part := strings.Split(s, " | ")
	if len(part) != 4 {
		return nil, 0, fmt.Errorf("cell %s: want MACHINE | STATE | EVENT | RULE", s)
	}
	machine, number, _ := strings.Cut(part[0], " #")
	id, _ := strconv.ParseUint(number, 10, 64)
	for _, tr := range Transitions() {
		if tr.Machine == machine && tr.State == part[1] && tr.Event == part[2] {
			if !strings.HasPrefix(tr.Rule, part[3]) {
				return nil, 0, fmt.Errorf("the rule is %q, and not %q", tr.Rule, part[3])
			}
			return &tr, ConnID(id), nil
		}
	}
	return nil, 0, fmt.Errorf("no table has the cell %s", s)
}

// stage is where a story is played.
type stage struct {
	m       *Machine
	edge    *Edge
	now     time.Duration // since the story began
	got     []Action      // not yet expected
	names   map[string]string
	path    Path
	noRoute bool
	accept  PeerAnswer
	forward *ForwardDatagram // the last one
}

// play runs the case, and says where it goes otherwise than told.
func (c *storyCase) play() error {
	s := &stage{names: map[string]string{}, accept: PeerAnswer{Accept: true}}
	var cell *storyLine
	for i, l := range c.lines {
		kind, rest := l.words[0], l.words[1:]
		if kind != "out" && s.unexpected() {
			return c.errorf(l, "nobody expected:%s", describe(s.got))
		}
		if s.m == nil && s.edge == nil && kind != "config" {
			return c.errorf(l, "want config first")
		}
		var err error
		switch kind {
		case "config":
			err = s.configure(rest)
		case "at":
			err = s.setClock(rest)
		case "cell":
			cell = &c.lines[i]
			continue
		case "in":
			if cell != nil {
				if err = s.isAt(cell, rest); err != nil {
					break
				}
				cell = nil
			}
			err = s.in(rest)
		case "out":
			err = s.out(rest)
		case "deadline":
			err = s.checkDeadline(rest[0])
		case "state":
			err = s.checkState(rest)
		case "force":
			err = s.force(rest)
		case "route":
			err = s.setRoute(rest)
		}
		if err == nil && s.m != nil {
			err = s.m.consistent()
		}
		if err != nil {
			return c.errorf(l, "%s: %w", strings.Join(l.words, " "), err)
		}
	}
	if s.unexpected() {
		return c.errorf(c.lines[len(c.lines)-1], "after the end:%s", describe(s.got))
	}
	return nil
}

// out compares the next action with a line. Notes change nothing, so they need
// not be expected; one that is must come before the next action.
func (s *stage) out(want []string) error {
	for i, a := range s.got {
		if err := matches(want, actionWords(a), s.names); err == nil {
			s.got = s.got[i+1:]
			return nil
		} else if _, note := a.(Note); !note {
			return fmt.Errorf("%w in:%s", err, describe(s.got))
		}
	}
	return fmt.Errorf("nothing more came but%s", describe(s.got))
}

// unexpected says whether more came than notes.
func (s *stage) unexpected() bool {
	return slices.ContainsFunc(s.got, func(a Action) bool { _, note := a.(Note); return !note })
}

func describe(actions []Action) string {
	var b strings.Builder
	for _, a := range actions {
		b.WriteString("\n\tout " + strings.Join(actionWords(a), " "))
	}
	return b.String()
}

// configure makes the machine, or the edge.
func (s *stage) configure(words []string) error {
	cfg := Config{
		Identity: []byte("me"), Address: aAddr, Addresses: []netip.Addr{aAddr6}, Port: storyPort, TCPPort: 2270, TLSPort: 3270, SCTPPort: 4270,
		NSLPIDs: []wire.NSLPID{testNSLP}, Rand: testRand(3),
		Route: func(wire.MRI) (QueryRoute, error) {
			if s.noRoute {
				return QueryRoute{}, errors.New("no route")
			}
			return QueryRoute{TTL: 64, RouterAlert: true, Path: s.path}, nil
		},
		AcceptPeer: func(PeerOffer) PeerAnswer { return s.accept },
	}
	switch words[0] {
	case "path-coupled":
	case "off-path":
		cfg.Address, cfg.Addresses = q2Addr, nil
		cfg.Edges = []ServedEdge{{Internal: e2inInt, External: e2inExt, NeighborAS: 65001, PeerQNEs: []netip.Addr{q1Addr}}}
		cfg.Route = func(mri wire.MRI) (QueryRoute, error) {
			return QueryRoute{To: netip.AddrPortFrom(e2outInt, storyPort), AllowedPeers: []netip.Addr{q3Addr}}, nil
		}
	case "edge":
		e, err := NewEdge(EdgeConfig{
			Identity: []byte("edge"), Internal: e2inInt, External: e2inExt, Neighbor: e1Ext, NeighborAS: 65001, QNEs: []netip.Addr{q2Addr},
		})
		s.edge = e
		return err
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	insecure := true
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "dmode-data":
			cfg.DModeData = true
		case "tls":
			cfg.TLS = true
		case "secure-only":
			cfg.TLS, insecure = true, false
		case "sctp":
			cfg.SCTP = true
		case "flow-source":
			cfg.FlowSource = true
		case "cookie-errors":
			cfg.InvalidCookieErrors = true
		case "ingress-filter":
			cfg.IngressFilter = func(netip.Prefix, Ingress) bool { return false }
		case "declines":
			s.accept = PeerAnswer{}
		case "answers":
			s.accept.Payload = pad4(value)
		case "peers":
			cfg.Peers = storyPeers(value)
		case "mtu":
			cfg.MTU, err = strconv.Atoi(value)
		case "associations":
			cfg.Limits.Associations, err = strconv.Atoi(value)
		case "message-timeout":
			cfg.MessageTimeout, err = time.ParseDuration(value)
		case "inactivity":
			cfg.Inactivity, err = time.ParseDuration(value)
		case "hello-timeout":
			cfg.HelloTimeout, err = time.ParseDuration(value)
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	cfg.Insecure = insecure
	m, err := New(cfg)
	if err == nil {
		s.m = m
		m.Handle(testStart, nil)
	}
	return err
}

// storyPeers is a peer database: these names in certificates, and who has none.
func storyPeers(names string) []PeerEntry {
	entries := []PeerEntry{}
	for _, n := range strings.Split(names, ",") {
		switch n {
		case "nobody":
		case "unauthenticated":
			entries = append(entries, PeerEntry{Unauthenticated: true})
		default:
			entries = append(entries, PeerEntry{Identities: []Identity{{NamespaceDNS, n}}})
		}
	}
	return entries
}

func (s *stage) setRoute(words []string) error {
	switch words[0] {
	case "none":
		s.noRoute = true
		return nil
	case "by":
		n, err := strconv.ParseUint(words[1], 10, 8)
		s.noRoute, s.path = false, Path{Interface: uint32(n)}
		return err
	}
	return fmt.Errorf("unknown word %q", words[0])
}

func (s *stage) setClock(words []string) error {
	to := time.Duration(0)
	if words[0] == "deadline" {
		if s.m.Deadline().IsZero() {
			return errors.New("there is none")
		}
		to = s.m.Deadline().Sub(testStart)
	} else {
		var err error
		if to, err = time.ParseDuration(words[0]); err != nil {
			return err
		}
	}
	if to < s.now {
		return fmt.Errorf("it is %v already", s.now)
	}
	s.now = to
	return nil
}

// checkDeadline: "500ms", "15s..22.5s" where the RFC wants a random one, or "never".
func (s *stage) checkDeadline(want string) error {
	at := s.m.Deadline()
	if want == "never" || at.IsZero() {
		if want != "never" || !at.IsZero() {
			return fmt.Errorf("it is %v", at.Sub(testStart))
		}
		return nil
	}
	return inRange(want, at.Sub(testStart))
}

// inRange: "15s..22.5s", both included, or one time.
func inRange(want string, got time.Duration) error {
	from, to, is := strings.Cut(want, "..")
	if !is {
		to = from
	}
	low, err := time.ParseDuration(from)
	if err != nil {
		return err
	}
	high, err := time.ParseDuration(to)
	if err == nil && (got < low || got > high) {
		err = fmt.Errorf("it is %v", got)
	}
	return err
}

// due lets time pass until the machine does something, which must be in the
// range given. Timers that have been put off in the meantime do nothing.
func (s *stage) due(words []string) error {
	for range 50 {
		if s.m.Deadline().IsZero() {
			return errors.New("nothing is due any more")
		}
		s.now = max(s.now, s.m.Deadline().Sub(testStart))
		if s.got = kept(s.m.Handle(testStart.Add(s.now), nil)); len(s.got) > 0 {
			return errors.Join(inRange(words[0], s.now), none(words[1:]))
		}
	}
	return errors.New("timers run, and nothing comes of them")
}

func (s *stage) find(querying bool) *routing {
	for r := s.m.sessions[testSID(1)]; r != nil; r = r.next {
		if r.querying == querying {
			return r
		}
	}
	return nil
}

// checkState: "querying Established Good", "responding gone", "association #1
// Idle", "association #1 gone", "peers 2".
func (s *stage) checkState(words []string) error {
	got := "gone"
	switch words[0] {
	case "querying", "responding":
		if r := s.find(words[0] == "querying"); r != nil {
			got = r.state.String() + " " + storyStatus[r.status]
		}
		words = words[1:]
	case "association":
		id, err := strconv.ParseUint(strings.TrimPrefix(words[1], "#"), 10, 64)
		if err != nil {
			return err
		}
		if a := s.m.assocs[ConnID(id)]; a != nil {
			got = a.state.String()
		}
		words = words[2:]
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	if want := strings.Join(words, " "); got != want {
		return fmt.Errorf("it is %s", got)
	}
	return nil
}

// force puts a machine into a state that our policy never has it in.
func (s *stage) force(words []string) error {
	r := s.find(words[0] == "querying")
	i := slices.Index(smStateNames[:], strings.Join(words[1:], " "))
	if r == nil || i < 0 {
		return errors.New("no such machine or state")
	}
	r.state = smState(i)
	return nil
}

// causes says which events of the world can be an event of a table.
func causes(event string, in []string) bool {
	is := func(verb string, kind string) bool { return in[0] == verb && slices.Contains(in, kind) }
	rx := func(kind string) bool { return is("datagram", kind) || is("conn", kind) }
	switch event {
	case "tg_NSLPData":
		return in[0] == "send"
	case "rx_Query", "rx_Response", "rx_Confirm", "rx_Data":
		return rx(strings.ToLower(strings.TrimPrefix(event, "rx_")))
	case "er_NoRSM":
		return rx("error=No-Routing-State")
	case "rx_MA-Hello":
		return is("conn", "hello")
	case "rx_Message":
		return in[0] == "conn"
	case "tg_RawData":
		return in[0] == "send" || in[0] == "datagram"
	case "tg_Connected":
		return in[0] == "up" || is("conn", "confirm")
	case "er_MAConnect", "er_MAFailure":
		return in[0] == "down" || in[0] == "timer" || in[0] == "due"
	}
	return in[0] == "timer" || in[0] == "due" // to_…, tg_MAIdle
}

// isAt says whether the machine is in the cell's state, and the event that follows
// can be the cell's.
func (s *stage) isAt(l *storyLine, in []string) error {
	state := "Idle"
	switch l.cell.Machine {
	case "Node-SM":
		if l.cell.Event != "rx_Query" && s.m.sessions[testSID(1)] != nil {
			state = "one of another machine"
		}
	case "MA-SM":
		if a := s.m.assocs[l.conn]; a == nil {
			state = "gone"
		} else {
			state = a.state.String()
		}
	default:
		if r := s.find(l.cell.Machine == "Querying-SM"); r == nil {
			state = "gone"
		} else {
			state = r.state.String()
		}
	}
	if state != l.cell.State {
		return fmt.Errorf("line %d: the state is %s", l.n, state)
	}
	if in[0] == "raise" {
		if want := []string{"raise", l.cell.Machine, l.cell.Event}; !slices.Equal(in[:3], want) {
			return fmt.Errorf("want %v", want)
		}
	} else if !causes(l.cell.Event, in) {
		return fmt.Errorf("line %d: this is no %s", l.n, l.cell.Event)
	}
	return nil
}

// stories reads all cases.
func stories(t *testing.T) []*storyCase {
	t.Helper()
	files, err := filepath.Glob("testdata/conformance/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	var all []*storyCase
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := readStories(f, string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cases...)
	}
	return all
}

// The recorded cases: what comes of events, action by action, with the deadlines.
func TestConformance(t *testing.T) {
	for _, c := range stories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(c.file), ".txt")+"/"+c.name, func(t *testing.T) {
			if err := c.play(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every (state, event) of RFC 5971 §6.1, §6.2, §6.3 and §6.4 has a case, and the
// case is about it: with another rule in that cell of the table it goes wrong.
func TestConformanceCells(t *testing.T) {
	cases := map[Transition][]*storyCase{}
	for _, c := range stories(t) {
		for _, l := range c.lines {
			if l.cell != nil {
				cases[*l.cell] = append(cases[*l.cell], c)
			}
		}
	}
	for _, tr := range Transitions() {
		if len(cases[tr]) == 0 {
			t.Errorf("%s | %s | %s | %s: no case", tr.Machine, tr.State, tr.Event, tr.Rule)
			continue
		}
		restore := otherRule(tr)
		if restore == nil {
			continue
		}
		seen := slices.ContainsFunc(cases[tr], (*storyCase).fails)
		restore()
		if !seen {
			t.Errorf("%s | %s | %s: %s passes with another rule there, too", tr.Machine, tr.State, tr.Event, cases[tr][0].name)
		}
	}
}

// Every error of RFC 5971 §A.4.4 is raised in some case.
func TestConformanceErrors(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range stories(t) {
		for _, l := range c.lines {
			for _, w := range l.words[1:] {
				if l.words[0] == "out" && strings.HasPrefix(w, "error=") {
					seen[w] = true
				}
			}
		}
	}
	if n := len(wire.Catalogue()); n != 29 {
		t.Errorf("the catalogue has %d errors, want the RFC's 29", n)
	}
	for _, id := range wire.Catalogue() {
		if !seen["error="+slug(id)] {
			t.Errorf("%v is raised in no case", id)
		}
	}
}

// otherRule puts another rule into a cell: mostly none, and the one that ends the
// machine where the cell has none that does anything. Nil where that is not
// possible: what does not go through a table (the Node-SM's events without a
// message), and timers that only an end of the machine stops.
func otherRule(tr Transition) (restore func()) {
	state := func(names []string) int { return slices.Index(names, tr.State) }
	switch tr.Machine {
	case "Node-SM":
		if tr.Event == "tg_NSLPData" || tr.Event == "er_NoRSM" {
			return nil
		}
		return put(&nodeTable[slices.Index(nodeEventNames[:], tr.Event)], 0)
	case "Querying-SM":
		cell := &queryTable[state(smStateNames[:])][slices.Index(queryEventNames[:], tr.Event)]
		switch *cell {
		case qTerminate:
			return nil
		case qImpossible, qAlreadyAsked, qPeerExpired, qAssociation:
			return put(cell, qTerminate)
		}
		return put(cell, 0)
	case "Responding-SM":
		cell := &respondTable[state(smStateNames[:])][slices.Index(respondEventNames[:], tr.Event)]
		switch *cell {
		case rTerminate:
			if tr.Event != "er_NoRSM" {
				return nil
			}
		case rImpossible, rIgnore, rAssociation, rAnswer:
			return put(cell, rTerminate)
		}
		return put(cell, 0)
	default:
		cell := &maTable[state(maStateNames[:])][slices.Index(maEventNames[:], tr.Event)]
		switch {
		case *cell == maImpossible || *cell == maToIdle || *cell == maHandle:
			return put(cell, maDie)
		case tr.Event == "to_NoHello" || tr.Event == "er_MAConnect":
			return put(cell, maUp)
		}
		return put(cell, 0)
	}
}

func put[T any](cell *T, v T) (restore func()) {
	old := *cell
	*cell = v
	return func() { *cell = old }
}

// fails says whether a case goes wrong, be it with a panic.
func (c *storyCase) fails() (bad bool) {
	defer func() { bad = bad || recover() != nil }()
	return c.play() != nil
}

// The runner refuses what it does not know, and sees what is wrong.
func TestConformanceRunner(t *testing.T) {
	const good = "case x\nconfig path-coupled dmode-data\nin send \"one.\"\nout datagram to=destination query C R S !E\ndeadline 500ms\n"
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"in send", "inn send", `x.txt:3: unknown word "inn"`},
		{"in send", "in sned", "x.txt:3: in sned one.: unknown word"},
		{"dmode-data", "dmode", "x.txt:2"},
		{"!E", "!S", "x.txt:4"},
		{"!E", "!X", "unknown word !X"},
		{"500ms", "501ms", "x.txt:5: deadline 501ms: it is 500ms"},
		{"out datagram to=destination query C R S !E\n", "", "nobody expected:\n\tout datagram"},
		{"deadline", "out note\ndeadline", "nothing more came"},
		{"\"one.\"", "\"one.", "a quote does not end"},
		{"case x", "case x\ncase x", "a second case"},
		{"in send", "cell Node-SM | Idle | rx_Data | 4\nin send", "this is no rx_Data"},
		{"in send", "cell Node-SM | Idle | tg_NSLPData | 4\nin send", `the rule is "5: create Querying-SM`},
		{"in send", "cell Querying-SM | Established | tg_NSLPData | 5\nin send", "the state is gone"},
	} {
		cases, err := readStories("x.txt", strings.Replace(good, c.old, c.new, 1))
		if err == nil {
			err = cases[0].play()
		}
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v, want %s", c.new, c.old, err, c.want)
		}
	}
}
