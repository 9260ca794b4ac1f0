package interception_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/pki"
)

// authority makes a folder of certificates, for A of AS 65001 and R of the AS
// given, both of the addresses that the test gives them.
func authority(t *testing.T, v version, as uint32) string {
	t.Helper()
	ca, err := pki.NewCA(pki.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	for _, r := range []pki.Request{
		{Name: "a", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr(v.a)}},
		{Name: "r", AS: as, IPs: []netip.Addr{netip.MustParseAddr(v.r1)}},
	} {
		pair, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Save(dir, r.Name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// RFC 5971 §4.4.2, §5.7.3: an intercepting router is a peer over TLS if its
// certificate comes from the right authority and is of the right AS; otherwise
// it gets no message, and A says why.
func TestRouterOverTLS(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		right, other := authority(t, v, 65002), authority(t, v, 65002)
		wrongAS := authority(t, v, 65009)
		for _, c := range []struct {
			name       string
			aDir, rDir string
			noted      string // by A; "": R is accepted
		}{{"right", right, right, ""}, {"other authority", right, other, "not-authenticated"}, {"wrong AS", wrongAS, wrongAS, "not-authorised"}} {
			t.Run(c.name, func(t *testing.T) {
				l := newLab(t)
				r := l.r1.start(v.r1, "-intercept", "nftables", "-pki", c.rDir, "-name", "r", "-peer-as", "65001")
				a := l.a.start(v.a, "-pki", c.aDir, "-name", "a", "-peer-as", "65002")
				a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: "secret", Reliable: true, Secure: true, Seconds: 5})
				if c.noted == "" {
					if got := r.received("secret"); got.Peer != v.a || !got.Secure {
						t.Errorf("R received %+v", got)
					}
					a.peer(1, 1, v.r1)
					return
				}
				a.until("to hear that the message failed", func(r report) bool { return r.Event == "failed" && r.SID == 1 })
				a.until("to say why", func(r report) bool { return r.Event == "note" && r.Text == c.noted && r.Peer == v.r1 })
				if c.noted == "not-authenticated" { // the other end of the handshake sees it fail too
					r.until("to say why", func(r report) bool { return r.Event == "note" && strings.Contains(r.Detail, "could not authenticate") })
				}
				if r.has(func(r report) bool { return r.Event == "received" }) {
					t.Errorf("R received something: %v", r.all())
				}
				a.send(command{NSLPID: 1, SID: 2, From: v.a, To: v.b, Text: "still alive", Secure: true, Reliable: true, Seconds: 2})
				a.until("to go on", func(r report) bool { return r.Event == "failed" && r.SID == 2 })
			})
		}
	})
}
