package qnectl

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	urfave "github.com/urfave/cli/v2"
)

const traceHelp = `A node remembers its latest messages. With --peer-socket, for an operator who may
see them, those of other ASs are put in order with these, by the nodes' clocks.

    qnectl trace 5f3a --peer-socket unix:as65002.sock --peer-socket unix:as65003.sock`

// merge puts the events of all views in one order. A message that one node sent
// and another received is in it once.
func merge(views []view) []*api.TraceEvent {
	var all []*api.TraceEvent
	type key struct{ from, to, message string }
	keyOf := func(e *api.TraceEvent) key { return key{host(e.GetFrom()), host(e.GetTo()), e.GetMessage()} }
	sent := make(map[key]int)
	for _, v := range views {
		for _, e := range v.events {
			if e.GetDirection() == api.TraceEvent_SENT {
				sent[keyOf(e)]++
			}
		}
	}
	for _, v := range views {
		for _, e := range v.events {
			if e.GetDirection() == api.TraceEvent_RECEIVED && sent[keyOf(e)] > 0 {
				sent[keyOf(e)]--
				continue
			}
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b *api.TraceEvent) int {
		return cmp.Or(cmp.Compare(a.GetTimeNs(), b.GetTimeNs()), cmp.Compare(a.GetAs(), b.GetAs()), cmp.Compare(a.GetSeq(), b.GetSeq()))
	})
	return all
}

// host is the address of an address with or without a port.
func host(text string) string {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().String()
	}
	return text
}

// endpoint leaves out a port that is not known.
func endpoint(text string) string {
	if a, err := netip.ParseAddrPort(text); err == nil && a.Port() == 0 {
		return a.Addr().String()
	}
	return text
}

// addresses says which AS an address belongs to, as far as that can be known.
func addresses(views []view, events []*api.TraceEvent) map[string]uint32 {
	known := make(map[string]uint32)
	for _, v := range views {
		for _, e := range v.status.GetEdges() {
			for _, a := range append([]string{e.GetNeighborAddress()}, e.GetNeighborQnes()...) {
				known[a] = e.GetNeighborAs()
			}
		}
	}
	for _, v := range views {
		for _, e := range v.status.GetEdges() {
			known[e.GetInternal()], known[e.GetExternal()] = v.status.GetAs(), v.status.GetAs()
		}
	}
	for _, e := range events {
		switch e.GetDirection() {
		case api.TraceEvent_SENT:
			known[host(e.GetFrom())] = e.GetAs()
		case api.TraceEvent_RECEIVED:
			known[host(e.GetTo())] = e.GetAs()
		}
	}
	return known
}

const (
	ladderWidth = 16 // columns from one AS's line to the next, at least
	elsewhere   = 0  // the AS of an address that nobody knows
)

// ladder draws messages between ASs.
type ladder struct {
	ases  []uint32
	known map[string]uint32
	start int64
	width int // columns from one AS's line to the next
	last  int // columns behind the last AS's line
}

// printLadder draws one line per message: when, from which AS to which, what,
// and between which addresses. Ports are for printMessages. order is that of the path; other ASs follow.
func printLadder(w io.Writer, events []*api.TraceEvent, order []uint32, known map[string]uint32) error {
	if len(events) == 0 {
		_, err := fmt.Fprintln(w, "no messages are remembered of this session")
		return err
	}
	l := &ladder{ases: slices.Clone(order), known: known, start: events[0].GetTimeNs(), width: ladderWidth}
	unknown := false
	for _, e := range events {
		from, to := l.ends(e)
		for _, n := range []uint32{from, to} {
			if n == elsewhere {
				unknown = true
			} else if !slices.Contains(l.ases, n) {
				l.ases = append(l.ases, n)
			}
		}
		l.start = min(l.start, e.GetTimeNs())
	}
	if unknown {
		l.ases = append(l.ases, elsewhere)
	}
	l.measure(events)
	var b strings.Builder
	head := l.line(nil)
	for i, n := range l.ases {
		name := as(n)
		if n == elsewhere {
			name = "elsewhere"
		}
		put(head, i*l.width, name)
	}
	fmt.Fprintf(&b, "%8s  %s\n", "ms", strings.TrimRight(string(head), " "))
	for _, e := range events {
		b.WriteString(l.row(e))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// measure makes room for what is to be written on and beside the lines.
func (l *ladder) measure(events []*api.TraceEvent) {
	const around = 7 // spaces, line and head of an arrow
	l.last = len("elsewhere") + 2
	for _, e := range events {
		from, to := l.ends(e)
		need := utf8.RuneCountInString(clip(label(e))) + around
		if from == to && from == l.ases[len(l.ases)-1] {
			l.last = max(l.last, need)
		} else {
			l.width = max(l.width, need)
		}
	}
}

// label is what is written on a message's line.
func label(e *api.TraceEvent) string {
	if e.GetTransport() == "" {
		return e.GetMessage()
	}
	return e.GetMessage() + " " + e.GetTransport()
}

// ends are the ASs of a message.
func (l *ladder) ends(e *api.TraceEvent) (from, to uint32) {
	from, to = l.known[host(e.GetFrom())], l.known[host(e.GetTo())]
	switch e.GetDirection() {
	case api.TraceEvent_SENT:
		from = e.GetAs()
	case api.TraceEvent_RECEIVED:
		to = e.GetAs()
	default:
		from, to = e.GetAs(), e.GetAs()
	}
	return from, to
}

// line is the ASs' lines, without a message.
func (l *ladder) line(bar []rune) []rune {
	line := []rune(strings.Repeat(" ", (len(l.ases)-1)*l.width+l.last))
	if bar != nil {
		for i := range l.ases {
			put(line, i*l.width, string(bar))
		}
	}
	return line
}

func put(line []rune, at int, text string) {
	for _, r := range text {
		if at < len(line) {
			line[at] = r
		}
		at++
	}
}

func (l *ladder) row(e *api.TraceEvent) string {
	line := l.line([]rune("│"))
	from, to := l.ends(e)
	a, b := slices.Index(l.ases, from)*l.width, slices.Index(l.ases, to)*l.width
	what := clip(label(e))
	switch {
	case e.GetDirection() == api.TraceEvent_INTERNAL:
		put(line, a, "● "+what)
	case a == b:
		put(line, a, "├╴"+what+" ↓")
	default:
		left, right := min(a, b), max(a, b)
		what = " " + what + " "
		for i := left + 1; i < right; i++ {
			line[i] = '─'
		}
		for i := left + l.width; i < right; i += l.width {
			line[i] = '┼'
		}
		put(line, left+(right-left-utf8.RuneCountInString(what)+1)/2, what)
		if a < b {
			line[left], line[right-1] = '├', '►'
		} else {
			line[left+1], line[right] = '◄', '┤'
		}
	}
	text := fmt.Sprintf("%8.3f  %s", float64(e.GetTimeNs()-l.start)/float64(time.Millisecond), string(line))
	if e.GetDirection() != api.TraceEvent_INTERNAL {
		text += host(e.GetFrom()) + " → " + host(e.GetTo())
	} else {
		text += e.GetNote()
	}
	return strings.TrimRight(text, " ") + "\n"
}

// clip shortens a label that is longer than any that this project has.
func clip(s string) string {
	const longest = 28
	if utf8.RuneCountInString(s) <= longest {
		return s
	}
	return string([]rune(s)[:longest-1]) + "…"
}

// printMessages lists what the ladder has no room for.
func printMessages(w io.Writer, events []*api.TraceEvent) error {
	rows := make([][]string, len(events))
	for i, e := range events {
		at := time.Unix(0, e.GetTimeNs()).UTC().Format("15:04:05.000000")
		rows[i] = []string{at, as(e.GetAs()), e.GetNode(), endpoint(e.GetFrom()), endpoint(e.GetTo()), e.GetTransport(), e.GetLayer(), e.GetMessage(), e.GetNote()}
	}
	return cli.PrintTable(w, []string{"TIME", "AS", "NODE", "FROM", "TO", "VIA", "LAYER", "MESSAGE", "NOTE"}, rows)
}

func traceSession(c *urfave.Context) error {
	return ask(c, 1, 1, "session", func(k *clients, args []string) (any, func(io.Writer) error, error) {
		id, err := k.session(c, args[0])
		if err != nil {
			return nil, nil, err
		}
		views := look(c, k, id)
		events := merge(views)
		return cli.Map{{Key: "session_id", Value: id}, {Key: "messages", Value: cli.List(events)}}, func(w io.Writer) error {
			if err := printLadder(w, events, nil, addresses(views, events)); err != nil || len(events) == 0 {
				return err
			}
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
			return printMessages(w, events)
		}, nil
	})
}
