package interdomain

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// A host's token is a SESSION_AUTH object that its domain signs with a certificate
// and the host puts into its messages as it is (RFC 5981, section 6.2.1). It
// authorizes one session of one flow for a time: the non-associated model of
// RFC 5981 §5.4, with
//
//	SESSION_ID   the SID, 16 octets
//	SOURCE_ADDR  the flow's source
//	DEST_ADDR    the flow's destination, and perhaps its port
//	START_TIME   the moment of issue
//	END_TIME     the end of the authorization
//
// Since it is good for every message of that session until END_TIME, refreshes
// among them, START_TIME only has to be past: what keeps a copy from being of use
// is that it is bound to SID and flow, and to the first peer that shows it.

// MaxTokenLifetime is the longest time that a token may authorize.
const MaxTokenLifetime = 7 * 24 * time.Hour

// Errors of TokenGate.
var (
	ErrNoToken    = errors.New("no token: SESSION_AUTH of a domain that is trusted here")
	ErrTokenScope = errors.New("the token authorizes something else")
	ErrTokenTime  = errors.New("the token is not valid now")
	ErrTokenTaken = errors.New("another peer uses this token")
)

// NewToken is a token for one flow of a session, not signed yet: SignX509 does.
func NewToken(now time.Time, lifetime time.Duration, sid gistwire.SID, flow gistwire.Flow) (wire.AuthToken, error) {
	if lifetime <= 0 || lifetime > MaxTokenLifetime {
		return wire.AuthToken{}, fmt.Errorf("a token for %v, want more than 0 and at most %v", lifetime, MaxTokenLifetime)
	}
	t := wire.AuthToken{SessionID: sid[:], HasStart: true, Start: ntp(now), HasEnd: true, End: ntp(now.Add(lifetime))}
	for _, x := range []struct {
		name   string
		prefix netip.Prefix
		to     *wire.AuthAddresses
	}{{"source", flow.Source, &t.Source}, {"destination", flow.Destination, &t.Dest}} {
		if !x.prefix.IsSingleIP() {
			return wire.AuthToken{}, fmt.Errorf("a token for the %s %v, want one address", x.name, x.prefix)
		}
		x.to.Addrs = []netip.Addr{plain(x.prefix.Addr())}
	}
	if !flow.HasDstPort {
		return t, nil
	}
	switch {
	case flow.HasProtocol && flow.Protocol == udp:
		t.Dest.UDP = []uint16{flow.DstPort}
	case flow.HasProtocol && flow.Protocol == tcp:
		t.Dest.TCP = []uint16{flow.DstPort}
	default:
		return wire.AuthToken{}, fmt.Errorf("a token for port %d, want UDP or TCP with it", flow.DstPort)
	}
	return t, nil
}

const tcp, udp = 6, 17

// TokenGate says which hosts' messages are authorized. It is used from one
// goroutine.
type TokenGate struct {
	verifier *CertificateVerifier
	trusts   func(*x509.Certificate) bool
	limit    int
	used     map[[sha256.Size]byte]use
}

// use is who shows a token, and until when that matters.
type use struct {
	peer  netip.Addr
	until time.Time
}

// NewTokenGate accepts tokens of certificates that verifier and trusts both
// accept, and remembers who uses each of at most limit tokens at a time; 0:
// DefaultReplaySessions.
func NewTokenGate(verifier *CertificateVerifier, trusts func(*x509.Certificate) bool, limit int) *TokenGate {
	if limit <= 0 {
		limit = DefaultReplaySessions
	}
	return &TokenGate{verifier: verifier, trusts: trusts, limit: limit, used: make(map[[sha256.Size]byte]use)}
}

// Check says by whose certificate a message for b from peer is authorized. Of
// several SESSION_AUTH objects one is enough: "a host [...] may add more than one".
// The error is of the one that came closest, and nothing is
// remembered then.
func (g *TokenGate) Check(now time.Time, b Binding, peer netip.Addr, msg []byte) (*x509.Certificate, error) {
	if err := wire.CheckObjects(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	no := ErrNoToken
	for _, o := range wire.Objects(msg) {
		if o.Type != wire.TypeSessionAuth {
			continue
		}
		by, err := g.token(now, b, peer, o.Value)
		if err == nil {
			return by, nil
		}
		no = err
	}
	return nil, no
}

// token checks one object, in the order of RFC 5981 §6.2.3: the kind, the
// integrity, what is authorized.
func (g *TokenGate) token(now time.Time, b Binding, peer netip.Addr, value []byte) (*x509.Certificate, error) {
	var t wire.AuthToken
	covered, err := t.Parse(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	// What costs nothing comes before the signature.
	if err := scope(now, &t, b); err != nil {
		return nil, err
	}
	by, err := g.verifier.Verify(now, &t, covered)
	if err != nil {
		return nil, err
	}
	if !g.trusts(by) {
		return nil, fmt.Errorf("signed by %q: %w", by.Subject, ErrNoToken)
	}
	return by, g.use(now, sha256.Sum256(value), use{plain(peer), now.Add(left(now, t.End))})
}

// left is how long it is until an NTP time.
func left(now time.Time, end uint64) time.Duration { return signedAt(now, end).Sub(now) }

// use notes who shows a token, or refuses whoever is not the first.
func (g *TokenGate) use(now time.Time, token [sha256.Size]byte, by use) error {
	if u, ok := g.used[token]; ok && now.Before(u.until) {
		if u.peer != by.peer {
			return fmt.Errorf("%v shows the token of %v: %w", by.peer, u.peer, ErrTokenTaken)
		}
		return nil
	}
	if len(g.used) >= g.limit {
		for k, u := range g.used {
			if !now.Before(u.until) {
				delete(g.used, k)
			}
		}
		if len(g.used) >= g.limit {
			return ErrReplayFull
		}
	}
	g.used[token] = by
	return nil
}

// scope says why a token, if it is genuine, does not authorize this: "All
// SESSION_AUTH fields MUST match with the resource request" (RFC 5981 §5.4).
func scope(now time.Time, t *wire.AuthToken, b Binding) error {
	f := &b.MRI.Flow
	switch {
	case t.HasEntity && t.Entity.SubType != wire.EntX509Cert:
		return fmt.Errorf("AUTH_ENT_ID %s: %w", t.Entity.Kind(), ErrAuthKind)
	case len(t.Other) > 0:
		return fmt.Errorf("X-Type %d is not known here: %w", t.Other[0].Type, ErrTokenScope)
	case t.HasObjects:
		return fmt.Errorf("NSLP_OBJECT_LIST in a token that is not of one message: %w", ErrTokenScope)
	case !t.HasStart || !t.HasEnd:
		return fmt.Errorf("no START_TIME or no END_TIME: %w", ErrTokenTime)
	case int64(t.End-t.Start) > ntpSpan(MaxTokenLifetime):
		return fmt.Errorf("for more than %v: %w", MaxTokenLifetime, ErrTokenTime)
	case int64(t.Start-ntp(now)) > ntpSpan(AuthWindow):
		return fmt.Errorf("from %s on: %w", signedAt(now, t.Start).UTC().Format(time.RFC3339), ErrTokenTime)
	case int64(t.End-ntp(now)) <= 0:
		return fmt.Errorf("until %s: %w", signedAt(now, t.End).UTC().Format(time.RFC3339), ErrTokenTime)
	case string(t.SessionID) != string(b.SID[:]):
		return fmt.Errorf("SESSION_ID %x, this is session %x: %w", t.SessionID, b.SID, ErrTokenScope)
	case !allows(&t.Source, f.Source, f, f.HasSrcPort, f.SrcPort):
		return fmt.Errorf("SOURCE_ADDR is not the flow's source: %w", ErrTokenScope)
	case !allows(&t.Dest, f.Destination, f, f.HasDstPort, f.DstPort):
		return fmt.Errorf("DEST_ADDR is not the flow's destination: %w", ErrTokenScope)
	}
	return nil
}

// allows says whether a side of a flow is among what is authorized: one of the
// addresses, and one of the ports if there are any, and the SPI.
//
// RFC 5981 §3.2.3, §3.2.4
func allows(a *wire.AuthAddresses, side netip.Prefix, f *gistwire.Flow, hasPort bool, port uint16) bool {
	if !side.IsSingleIP() || !slices.Contains(a.Addrs, plain(side.Addr())) {
		return false
	}
	if len(a.SPIs) > 0 && !(f.HasSPI && slices.Contains(a.SPIs, f.SPI)) {
		return false
	}
	if a.UDP == nil && a.TCP == nil {
		return true
	}
	ports := a.UDP
	if f.Protocol == tcp {
		ports = a.TCP
	}
	return f.HasProtocol && (f.Protocol == udp || f.Protocol == tcp) && hasPort && slices.Contains(ports, port)
}
