package interdomain

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

var hostAddr = netip.MustParseAddr("10.1.0.10")

func hostBinding() Binding {
	return Binding{SID: gistwire.SID(bytes.Repeat([]byte{7}, 16)), NSLPID: 1, MRI: gistwire.MRI{Flow: gistwire.Flow{
		Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
		HasProtocol: true, Protocol: udp, HasDstPort: true, DstPort: 5001}}}
}

// gate is a domain that issues tokens, and the gate of its edge.
type gate struct {
	t    testing.TB
	ca   *authority
	leaf *x509.Certificate
	g    *TokenGate
}

func newGate(t testing.TB, limit int) *gate {
	t.Helper()
	ca := newAuthority(t, 1, nil)
	leaf := ca.issue(recordKey(5), nil)
	return &gate{t, ca, leaf, NewTokenGate(NewCertificateVerifier(ca.pool(), 0), func(c *x509.Certificate) bool {
		return c.Subject.Organization[0] == "AS65001"
	}, limit)}
}

// message is a RESERVE with tokens, each changed before it is signed.
func (g *gate) message(edits ...func(*wire.AuthToken)) []byte {
	g.t.Helper()
	msg := authMessage()
	for _, edit := range edits {
		b := hostBinding()
		x, err := NewToken(authNow, time.Hour, b.SID, b.MRI.Flow)
		if err != nil {
			g.t.Fatal(err)
		}
		if edit != nil {
			edit(&x)
		}
		if err := SignX509(&x, recordKey(5), []*x509.Certificate{g.leaf}, nil); err != nil {
			g.t.Fatal(err)
		}
		value, err := x.Append(nil)
		if err != nil {
			g.t.Fatal(err)
		}
		msg = wire.AppendObject(msg, wire.Forward, wire.TypeSessionAuth, value)
	}
	return msg
}

// RFC 5981 §5.4: "All SESSION_AUTH fields MUST match with the resource request.
// If a field does not match, the request SHOULD be denied."
func TestTokenAuthorizesOneFlow(t *testing.T) {
	for name, c := range map[string]struct {
		token   func(*wire.AuthToken)
		request func(*Binding)
		at      time.Duration
		want    error
	}{
		"as issued":                   {nil, nil, 0, nil},
		"shortly before the end":      {nil, nil, time.Hour - time.Second, nil},
		"issuer's clock ahead":        {nil, nil, -AuthWindow, nil},
		"before its time":             {nil, nil, -AuthWindow - time.Second, ErrTokenTime},
		"after its time":              {nil, nil, time.Hour, ErrTokenTime},
		"no end":                      {func(x *wire.AuthToken) { x.HasEnd = false }, nil, 0, ErrTokenTime},
		"no start":                    {func(x *wire.AuthToken) { x.HasStart = false }, nil, 0, ErrTokenTime},
		"for too long":                {func(x *wire.AuthToken) { x.End = ntp(authNow.Add(MaxTokenLifetime + time.Second)) }, nil, 0, ErrTokenTime},
		"another session":             {nil, func(b *Binding) { b.SID[3]++ }, 0, ErrTokenScope},
		"no session":                  {func(x *wire.AuthToken) { x.SessionID = nil }, nil, 0, ErrTokenScope},
		"another source":              {nil, func(b *Binding) { b.MRI.Flow.Source = netip.MustParsePrefix("10.1.0.11/32") }, 0, ErrTokenScope},
		"a whole network as source":   {nil, func(b *Binding) { b.MRI.Flow.Source = netip.MustParsePrefix("10.1.0.0/24") }, 0, ErrTokenScope},
		"another destination":         {nil, func(b *Binding) { b.MRI.Flow.Destination = netip.MustParsePrefix("10.3.0.11/32") }, 0, ErrTokenScope},
		"no destination":              {func(x *wire.AuthToken) { x.Dest = wire.AuthAddresses{} }, nil, 0, ErrTokenScope},
		"another port":                {nil, func(b *Binding) { b.MRI.Flow.DstPort++ }, 0, ErrTokenScope},
		"all ports":                   {nil, func(b *Binding) { b.MRI.Flow.HasDstPort = false }, 0, ErrTokenScope},
		"TCP":                         {nil, func(b *Binding) { b.MRI.Flow.Protocol = tcp }, 0, ErrTokenScope},
		"every port is authorized":    {func(x *wire.AuthToken) { x.Dest.UDP = nil }, func(b *Binding) { b.MRI.Flow.DstPort = 9 }, 0, nil},
		"one of several ports":        {func(x *wire.AuthToken) { x.Dest.UDP = []uint16{9, 5001} }, nil, 0, nil},
		"an SPI that the flow lacks":  {func(x *wire.AuthToken) { x.Source.SPIs = []uint32{1} }, nil, 0, ErrTokenScope},
		"what nobody here knows":      {func(x *wire.AuthToken) { x.Other = []wire.AuthAttribute{{Type: 200, Value: []byte{1}}} }, nil, 0, ErrTokenScope},
		"a list of objects":           {func(x *wire.AuthToken) { x.HasObjects = true }, nil, 0, ErrTokenScope},
		"a source port, none in flow": {func(x *wire.AuthToken) { x.Source.UDP = []uint16{1} }, nil, 0, ErrTokenScope},
	} {
		g, b := newGate(t, 0), hostBinding()
		if c.request != nil {
			c.request(&b)
		}
		by, err := g.g.Check(authNow.Add(c.at), b, hostAddr, g.message(c.token))
		if !errors.Is(err, c.want) || (err == nil) != (by != nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if (len(g.g.used) == 1) != (c.want == nil) {
			t.Errorf("%s: %d tokens are remembered", name, len(g.g.used))
		}
	}
}

// RFC 5981 §6.2.3: kinds that are not supported are errors with the kind's name;
// another token beside them is as good.
func TestTokenKinds(t *testing.T) {
	g := newGate(t, 0)
	for sub, value := range map[uint8]string{wire.EntKrbPrincipal: "johndoe@nowhere", wire.EntPGPCert: "\x99\x01", wire.EntURI: "x:y"} {
		x := wire.AuthToken{HasEntity: true, Entity: wire.AuthEntity{SubType: sub, Value: []byte(value)}, Data: []byte{1, 2, 3, 4, 5}}
		object, err := x.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		msg := wire.AppendObject(authMessage(), wire.Forward, wire.TypeSessionAuth, object)
		if _, err := g.g.Check(authNow, hostBinding(), hostAddr, msg); !errors.Is(err, ErrAuthKind) || !strings.Contains(err.Error(), x.Entity.Kind()) {
			t.Errorf("%s: %v", x.Entity.Kind(), err)
		}
		both := wire.AppendObject(g.message(nil), wire.Forward, wire.TypeSessionAuth, object)
		if _, err := g.g.Check(authNow, hostBinding(), hostAddr, both); err != nil {
			t.Errorf("%s beside a good one: %v", x.Entity.Kind(), err)
		}
	}
	for name, msg := range map[string][]byte{"none": authMessage(), "no message": nil,
		"one that cannot be read": wire.AppendObject(authMessage(), wire.Forward, wire.TypeSessionAuth, []byte{0, 1, 2, 3})} {
		if _, err := g.g.Check(authNow, hostBinding(), hostAddr, msg); !errors.Is(err, ErrNoToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A certificate of the authority that may not issue tokens.
	g.leaf = g.ca.issue(recordKey(5), func(c *x509.Certificate) { c.Subject.Organization = []string{"AS65002"} })
	if _, err := g.g.Check(authNow, hostBinding(), hostAddr, g.message(nil)); !errors.Is(err, ErrNoToken) {
		t.Errorf("of another domain: %v", err)
	}
}

// RFC 5981 §7: "If a SESSION_AUTH object is replayed, it MUST be detected": whoever
// shows a token first may go on with it, nobody else may.
func TestTokenIsOfOnePeer(t *testing.T) {
	g := newGate(t, 2)
	token := g.message(nil)
	check := func(at time.Duration, from string, msg []byte) error {
		_, err := g.g.Check(authNow.Add(at), hostBinding(), netip.MustParseAddr(from), msg)
		return err
	}
	for at := time.Duration(0); at < time.Hour; at += 10 * time.Minute {
		if err := check(at, "10.1.0.10", token); err != nil {
			t.Errorf("again after %v: %v", at, err)
		}
		if err := check(at, "10.1.0.66", token); !errors.Is(err, ErrTokenTaken) {
			t.Errorf("a copy after %v: %v", at, err)
		}
	}
	// The memory is bounded, and what has expired makes room.
	long := func(n byte) []byte {
		return g.message(func(x *wire.AuthToken) { x.End = ntp(authNow.Add(time.Duration(n) * 2 * time.Hour)) })
	}
	if err := check(0, "10.1.0.10", long(1)); err != nil {
		t.Error(err)
	}
	if err := check(0, "10.1.0.10", long(2)); !errors.Is(err, ErrReplayFull) {
		t.Errorf("a third: %v", err)
	}
	if err := check(time.Hour-time.Second, "10.1.0.10", long(2)); !errors.Is(err, ErrReplayFull) {
		t.Errorf("just before the first expires: %v", err)
	}
}

func TestNewTokenRefuses(t *testing.T) {
	good := hostBinding()
	for name, c := range map[string]struct {
		lifetime time.Duration
		edit     func(*gistwire.Flow)
	}{
		"no time":           {0, func(*gistwire.Flow) {}},
		"too long":          {MaxTokenLifetime + 1, func(*gistwire.Flow) {}},
		"a network":         {time.Hour, func(f *gistwire.Flow) { f.Source = netip.MustParsePrefix("10.1.0.0/24") }},
		"no destination":    {time.Hour, func(f *gistwire.Flow) { f.Destination = netip.Prefix{} }},
		"a port of what":    {time.Hour, func(f *gistwire.Flow) { f.HasProtocol = false }},
		"a port of no such": {time.Hour, func(f *gistwire.Flow) { f.Protocol = 47 }},
	} {
		f := good.MRI.Flow
		c.edit(&f)
		if _, err := NewToken(authNow, c.lifetime, good.SID, f); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
}

func FuzzTokenGate(f *testing.F) {
	g := newGate(f, 0)
	f.Add(g.message(nil))
	f.Add(g.message())
	good := g.message(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		g.g.used = make(map[[32]byte]use)
		by, err := g.g.Check(authNow, hostBinding(), hostAddr, b)
		if err != nil && (by != nil || len(g.g.used) != 0) {
			t.Fatalf("refused (%v), and something is left", err)
		}
		if err == nil && !bytes.Contains(b, good[len(authMessage())+8:len(authMessage())+60]) {
			t.Fatalf("forged %x", b)
		}
	})
}
