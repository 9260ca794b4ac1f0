package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/internal/pki"
)

// tlsFiles is a folder with an authority, and the example's configuration with
// TLS from it.
type tlsFiles struct {
	t   *testing.T
	dir string
	ca  *pki.CA
}

func newTLSFiles(t *testing.T) *tlsFiles {
	t.Helper()
	ca, err := pki.NewCA(pki.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := &tlsFiles{t: t, dir: t.TempDir(), ca: ca}
	if err := ca.Save(filepath.Join(f.dir, "pki")); err != nil {
		t.Fatal(err)
	}
	return f
}

// issue makes the certificate pki/NAME.crt and its key.
func (f *tlsFiles) issue(r pki.Request) {
	f.t.Helper()
	p, err := f.ca.Issue(r)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := p.Replace(filepath.Join(f.dir, "pki"), r.Name); err != nil {
		f.t.Fatal(err)
	}
}

// load reads the example with gist.tls instead of insecure.
func (f *tlsFiles) load(tls string) (*Config, error) {
	f.t.Helper()
	return f.loadWith(tls, "")
}

// loadWith does so with more at the end of the file.
func (f *tlsFiles) loadWith(tls, more string) (*Config, error) {
	f.t.Helper()
	text := strings.Replace(exampleConfig(f.t), "insecure: true", "insecure: false", 1)
	text = strings.Replace(text, "shards: 2", "shards: 2\n  tls: "+tls, 1)
	path := filepath.Join(f.dir, "q.yaml")
	if err := os.WriteFile(path, []byte(text+more), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return Load(path)
}

const goodTLS = "{certificate: pki/a.crt, key: pki/a.key, ca: pki/ca.crt}"

var exampleQNE = []netip.Addr{netip.MustParseAddr("127.1.0.1")}

func TestLoadTLS(t *testing.T) {
	f := newTLSFiles(t)
	f.issue(pki.Request{Name: "a", AS: 65001, IPs: exampleQNE})
	c, err := f.load(goodTLS)
	if err != nil {
		t.Fatal(err)
	}
	g := c.GIST.TLS
	if c.Insecure || g == nil || g.Certificate.Leaf.Subject.CommonName != "a" || g.CAs == nil || g.CertificateFile != filepath.Join(f.dir, "pki/a.crt") {
		t.Errorf("got %+v", g)
	}
	// The same files again are no change; other ones under the same names are,
	// in the certificate as in the authorities.
	again, err := f.load(goodTLS)
	if err != nil || !Diff(c, again).Empty() {
		t.Errorf("the same again: %v, %+v", err, Diff(c, again))
	}
	f.issue(pki.Request{Name: "a", AS: 65001})
	renewed, err := f.load(goodTLS)
	if d := Diff(c, renewed); err != nil || !slices.Equal(d.Live, []string{"gist.tls"}) || len(d.Restart) != 0 {
		t.Errorf("renewed: %v, %+v", err, d)
	}
	if d := Diff(c, Live(c, renewed)); !slices.Equal(d.Live, []string{"gist.tls"}) {
		t.Errorf("Live changes %+v", d)
	}
}

// What peers would refuse is refused here first, with what to do.
func TestLoadTLSErrors(t *testing.T) {
	f := newTLSFiles(t)
	f.issue(pki.Request{Name: "a", AS: 65001, IPs: exampleQNE})
	f.issue(pki.Request{Name: "other", AS: 65009, IPs: exampleQNE})
	f.issue(pki.Request{Name: "none"})
	f.issue(pki.Request{Name: "elsewhere", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.9.0.1")}})
	f.issue(pki.Request{Name: "open", AS: 65001})
	if err := os.Chmod(filepath.Join(f.dir, "pki/open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	now := f.ca.Now
	f.ca.Now = func() time.Time { return time.Now().Add(-48 * time.Hour) }
	f.issue(pki.Request{Name: "old", AS: 65001, Lifetime: 24 * time.Hour})
	f.ca.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	f.issue(pki.Request{Name: "early", AS: 65001, Lifetime: 24 * time.Hour})
	f.ca.Now = now
	if err := os.WriteFile(filepath.Join(f.dir, "pki/text.crt"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	pair := func(name string) string {
		return fmt.Sprintf("{certificate: pki/%s.crt, key: pki/%s.key, ca: pki/ca.crt}", name, name)
	}
	for name, c := range map[string]struct{ tls, key, want string }{
		"no certificate":   {"{certificate: pki/b.crt, key: pki/a.key, ca: pki/ca.crt}", "certificate", "no such file"},
		"no key":           {"{certificate: pki/a.crt, key: pki/b.key, ca: pki/ca.crt}", "key", "no such file"},
		"no authority":     {"{certificate: pki/a.crt, key: pki/a.key, ca: pki/b.crt}", "ca", "no such file"},
		"no PEM":           {"{certificate: pki/a.crt, key: pki/a.key, ca: pki/text.crt}", "ca", "qnectl pki makes certificates"},
		"not an authority": {"{certificate: pki/a.crt, key: pki/a.key, ca: pki/a.crt}", "ca", "is not an authority's"},
		"another's key":    {"{certificate: pki/a.crt, key: pki/other.key, ca: pki/ca.crt}", "certificate", "does not match"},
		"open key":         {pair("open"), "key", "open.key with mode 0644"},
		"another AS":       {pair("other"), "certificate", "it is of AS65009, expected AS65001"},
		"no AS":            {pair("none"), "certificate", "it names no AS, expected the URI urn:interqos:as:65001"},
		"another address":  {pair("elsewhere"), "certificate", "gist.address 127.1.0.1 is not among them"},
		"expired":          {pair("old"), "certificate", "it expired on "},
		"not valid yet":    {pair("early"), "certificate", "it is not valid before "},
	} {
		_, err := f.load(c.tls)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "gist.tls."+c.key+": found ") {
			t.Errorf("%s: got %v, want gist.tls.%s and %q", name, err, c.key, c.want)
		}
	}
}

// The database that is made of the edges (RFC 5971 §4.4.2), as a Machine reads it.
func TestPeerEntries(t *testing.T) {
	f := newTLSFiles(t)
	f.issue(pki.Request{Name: "a", AS: 65001})
	c, err := f.load(goodTLS)
	if err != nil {
		t.Fatal(err)
	}
	qne, border := netip.MustParseAddr("127.2.0.1"), netip.MustParseAddr("127.1.2.1")
	got := peerEntries(c)
	if len(got) != 1 || got[0].Unauthenticated || !got[0].OwnAddress || !slices.Equal(got[0].Peers, []netip.Addr{qne}) || got[0].Border != border ||
		!slices.Equal(got[0].Identities, []gist.Identity{{Namespace: gist.NamespaceURI, Name: "urn:interqos:as:65002"}}) {
		t.Errorf("TLS: %+v", got)
	}
	c.Edges[0].Neighbor.Names = []string{"a.example", "*.b.example"}
	got = peerEntries(c)
	if len(got) != 2 || len(got[0].Identities) != 2 || got[1].Identities[1] != (gist.Identity{Namespace: gist.NamespaceDNS, Name: "*.b.example"}) {
		t.Errorf("with names: %+v", got)
	}
	c.Edges = nil
	if got := peerEntries(c); got == nil || len(got) != 0 {
		t.Errorf("without edges: %#v, want an empty database and not none", got)
	}
	c, err = Parse("q.yaml", []byte(exampleConfig(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range peerEntries(c) {
		if !e.Unauthenticated || len(e.Identities) != 0 {
			t.Errorf("insecure: %+v", e)
		}
	}
}

// Refusals are warnings, but not as fast as a stranger sends.
func TestRefusalsAreWarningsInBounds(t *testing.T) {
	var c counters
	now := simStart
	count := func(n int, step time.Duration) (warned int) {
		for range n {
			if c.warns(now) {
				warned++
			}
			now = now.Add(step)
		}
		return warned
	}
	if got := count(1000, 0); got != warnBurst {
		t.Errorf("%d of 1000 at once, want %d", got, warnBurst)
	}
	if got := count(10_000, time.Millisecond); got < 9 || got > 11 {
		t.Errorf("%d in ten seconds, want ten", got)
	}
	_ = count(1, 0)
	now = now.Add(-time.Hour) // a clock that was set back
	if got := count(1, 0); got > 1 {
		t.Error("a clock that goes back gives more")
	}
}

// The key log is another file only where its name is, is appended to, and is
// its owner's.
func TestKeyLogFile(t *testing.T) {
	f := newTLSFiles(t)
	f.issue(pki.Request{Name: "a", AS: 65001})
	c, err := f.load(strings.Replace(goodTLS, "}", ", keylog: keys.txt}", 1))
	if err != nil {
		t.Fatal(err)
	}
	var k tlsKeys
	path := filepath.Join(f.dir, "keys.txt")
	for _, line := range []string{"one\n", "two\n"} {
		cfg, err := k.transportTLS(c.GIST.TLS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.KeyLog.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		k.close()
	}
	b, err := os.ReadFile(path)
	info, serr := os.Stat(path)
	if err != nil || serr != nil || string(b) != "one\ntwo\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v %v", b, info.Mode(), err, serr)
	}
	c.GIST.TLS.KeyLog = filepath.Join(f.dir, "none", "keys.txt")
	if _, err := k.transportTLS(c.GIST.TLS); err == nil || !strings.Contains(err.Error(), "gist.tls.keylog: ") {
		t.Errorf("a folder that is not there: %v", err)
	}
	c.GIST.TLS.KeyLog = ""
	if cfg, err := k.transportTLS(c.GIST.TLS); err != nil || cfg.KeyLog != nil {
		t.Errorf("no key log: %v, %v", cfg.KeyLog, err)
	}
}

// A reload that takes a neighbour's QNE away ends its associations; who stays is
// not touched, and what comes back is welcome.
func TestSimPeersReloaded(t *testing.T) {
	w := newSimWorld(t, 33)
	s := w.session()
	w.mustReserve(s, mbit(20))
	transit := w.as[1]
	without := *transit.cfg
	without.Edges = slices.Clone(without.Edges)
	without.Edges[0].Neighbor.Names = []string{"someone.else"}
	assocs := func() (n int) {
		transit.p.q.gist.Associations(func(a gist.AssociationInfo) bool { n++; return true })
		return n
	}
	transit.p.handle(gist.SetPeers{Entries: peerEntries(&without)})
	if n := assocs(); n != 1 {
		t.Errorf("%d associations, want that with the sink alone", n)
	}
	if st := transit.p.q.gist.RoutingStatesOf(s.sid); len(st) != 1 || st[0].MRI.Upstream {
		t.Errorf("routing state %+v, want that towards the sink alone", st)
	}
	transit.p.handle(gist.SetPeers{Entries: peerEntries(transit.cfg)})
	w.net.Run(time.Minute)
	w.mustReserve(w.session(), mbit(5))
	if n := assocs(); n != 2 {
		t.Errorf("%d associations, want both again", n)
	}
}
