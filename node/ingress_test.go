package node

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain/bgp"
	"github.com/interqos/interqos/internal/prefix"
)

// fakeReverse is a kernel whose routes to all sources lead out by one interface.
type fakeReverse struct {
	iface uint32
	err   error
}

func (f fakeReverse) Arrives(_ netip.Prefix, iface uint32, how transport.ReversePath) (bool, error) {
	return how == transport.ReverseLoose || iface == f.iface, f.err
}

// fakePaths is one best path for everything, nil for none.
type fakePaths struct {
	r   *bgp.Route
	err error
}

func (f fakePaths) Every(_ netip.Prefix, ok func(*bgp.Route) bool) (bool, error) {
	return ok(f.r), f.err
}

// RFC 5971 §5.8.1.2: along the path the kernel's routes say where a flow can come
// in, as exactly as is configured.
func TestPathIngress(t *testing.T) {
	source := netip.MustParsePrefix("198.51.100.7/32")
	for how, want := range map[IngressFilter][2]bool{
		IngressStrict: {true, false}, IngressLoose: {true, true}, IngressOff: {true, true},
	} {
		for i, iface := range []uint32{3, 4} {
			if got, err := pathIngress(how, fakeReverse{iface: 3}, source, gist.Ingress{Interface: iface}); err != nil || got != want[i] {
				t.Errorf("%s, interface %d: %v, %v; want %v", how, iface, got, err, want[i])
			}
		}
	}
	if !(&Node{cfg: &Config{}}).ingress(source, gist.Ingress{}) {
		t.Error("without the kernel's routes a Query is refused")
	}
}

// At a border BGP says it, and the kernel whether the neighbour is where the Query
// came by.
func TestBorderIngress(t *testing.T) {
	neighbor, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")
	kernel := fakeReverse{iface: 3}
	broken := errors.New("broken")
	by := func(hop netip.Addr) fakePaths { return fakePaths{r: &bgp.Route{NextHop: hop}} }
	for name, c := range map[string]struct {
		how    IngressFilter
		paths  fakePaths
		kernel reverseRoutes
		iface  uint32
		want   bool
		err    error
	}{
		"by this neighbour":            {IngressStrict, by(neighbor), kernel, 3, true, nil},
		"by another one":               {IngressStrict, by(other), kernel, 3, false, nil},
		"no path":                      {IngressStrict, fakePaths{}, kernel, 3, false, nil},
		"our own":                      {IngressStrict, fakePaths{r: &bgp.Route{Local: true}}, kernel, 3, false, nil},
		"loose, by this neighbour":     {IngressLoose, by(neighbor), kernel, 3, true, nil},
		"loose, by another one":        {IngressLoose, by(other), kernel, 3, true, nil},
		"loose, no path":               {IngressLoose, fakePaths{}, kernel, 3, true, nil},
		"loose, our own":               {IngressLoose, fakePaths{r: &bgp.Route{Local: true}}, kernel, 3, false, nil},
		"loose, a wrong interface":     {IngressLoose, by(neighbor), kernel, 4, false, nil},
		"off":                          {IngressOff, fakePaths{r: &bgp.Route{Local: true}}, kernel, 4, true, nil},
		"no kernel":                    {IngressStrict, by(neighbor), nil, 4, true, nil},
		"kernel that cannot be asked":  {IngressStrict, by(neighbor), fakeReverse{3, broken}, 3, false, broken},
		"a range with too many routes": {IngressLoose, fakePaths{err: prefix.ErrRegions}, kernel, 3, true, prefix.ErrRegions},
	} {
		e := &EdgeConfig{IngressFilter: c.how, Neighbor: NeighborConfig{Address: neighbor}}
		got, err := borderIngress(e, c.paths, c.kernel, netip.MustParsePrefix("198.51.100.7/32"), gist.Ingress{Interface: c.iface})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, err, c.want, c.err)
		}
	}
	n := &Node{log: slog.New(slog.DiscardHandler)}
	if n.told(gist.Ingress{}, func() (bool, error) { return true, broken }) {
		t.Error("what cannot be told is let in")
	}
}

// A neighbour's QNE asks for flows from our own addresses, and from others: its own
// border lets both out, ours refuses the first, and the neighbour hears of it.
func TestSimSpoofedSource(t *testing.T) {
	w := newSimWorld(t, 77)
	refused := func() uint64 { return w.as[1].p.relays[0].Stats().Errors }
	for i, c := range []struct {
		source  string
		refused uint64
	}{{"10.1.0.11/32", 0}, {"203.0.113.1/32", 0}, {"10.2.0.11/32", 1}, {"10.3.0.11/32", 1}} {
		mri := gistwire.MRI{
			Method: gistwire.OffPath, Flow: simFlow,
			Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1"),
		}
		mri.Flow.Source = netip.MustParsePrefix(c.source)
		w.as[0].p.handle(gist.SendMessage{NSLPID: nslpID, SID: gistwire.SID{byte(i + 1)}, MRI: mri, NSLPData: make([]byte, 4)})
		w.net.Run(100 * time.Millisecond)
		if got := refused(); got != c.refused {
			t.Errorf("%s: %d Errors from the edge, want %d", c.source, got, c.refused)
		}
	}
	if why := w.as[0].last["gist/error-received"]; !strings.Contains(why, gistwire.IngressFilterFailure.String()) {
		t.Errorf("the neighbour was told %q", why)
	}
}
