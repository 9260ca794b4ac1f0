package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/interqos/interqos/internal/tlv"
)

// AuthToken is a SESSION_AUTH object of any kind with its attributes read.
// What it has none of is nil or has its Has false.
//
// RFC 5981 §3.2
type AuthToken struct {
	HasEntity bool
	Entity    AuthEntity // who authorized it

	// SessionID is the authorizing entity's own name of the session: nobody
	// else "needs to interpret the contents" (RFC 5981 §3.2.2).
	SessionID []byte

	Source, Dest AuthAddresses

	HasStart, HasEnd bool
	Start, End       uint64 // NTP timestamps, era implied

	HasObjects bool
	Objects    []ObjectType // in the order in which they are hashed

	// Data is AUTHENTICATION_DATA: with symmetric keys a Key-ID of 32 bits and
	// a HMAC (RFC 5981 §4.1.1, §4.4), else what the kind of entity says.
	Data []byte

	// Other are attributes of X-Types that RFC 5981 §8 leaves unassigned.
	// Whoever checks the token does not know what they restrict.
	Other []AuthAttribute
}

// AuthEntity is the value of AUTH_ENT_ID, and its sub-type, which says how it is
// written and how the object is authenticated.
//
// RFC 5981 §3.2.1
type AuthEntity struct {
	SubType uint8
	Value   []byte
}

var entityNames = [...]string{EntIPv4: "IPV4_ADDRESS", EntIPv6: "IPV6_ADDRESS", EntFQDN: "FQDN", EntASCIIDN: "ASCII_DN",
	EntUnicodeDN: "UNICODE_DN", EntURI: "URI", EntKrbPrincipal: "KRB_PRINCIPAL", EntX509Cert: "X509_V3_CERT",
	EntPGPCert: "PGP_CERT", EntHMACSigned: "HMAC_SIGNED"}

// Kind is the name of the sub-type.
func (e AuthEntity) Kind() string {
	if int(e.SubType) < len(entityNames) && entityNames[e.SubType] != "" {
		return entityNames[e.SubType]
	}
	return fmt.Sprintf("AUTH_ENT_ID of sub-type %d", e.SubType)
}

// String is the identifier as a person reads it.
func (e AuthEntity) String() string {
	switch e.SubType {
	case EntIPv4, EntIPv6:
		if a, ok := netip.AddrFromSlice(e.Value); ok {
			return a.String()
		}
	case EntFQDN, EntASCIIDN, EntUnicodeDN, EntURI, EntKrbPrincipal, EntX509Cert:
		return fmt.Sprintf("%q", e.Value)
	}
	return fmt.Sprintf("%x", e.Value)
}

// check says what is wrong with the identifier.
func (e AuthEntity) check() error {
	text := string(e.Value)
	bad := func(expected string) error {
		return fmt.Errorf("SESSION_AUTH: AUTH_ENT_ID: %s %q, want %s", e.Kind(), text, expected)
	}
	length := func(n int) error {
		if len(e.Value) != n {
			return authLength(AuthAttribute{Type: AuthEntID, SubType: e.SubType, Value: e.Value}, n)
		}
		return nil
	}
	switch e.SubType {
	case EntIPv4, EntHMACSigned:
		return length(4)
	case EntIPv6:
		return length(16)
	case EntFQDN:
		if !printable(text) || strings.ContainsAny(text, " /@:") {
			return bad("a domain name in ASCII")
		}
	case EntASCIIDN:
		if !printable(text) {
			return bad("a distinguished name in ASCII")
		}
	case EntUnicodeDN, EntX509Cert:
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return bad("a distinguished name in UTF-8")
		}
	case EntURI:
		if scheme, _, ok := strings.Cut(text, ":"); !printable(text) || !ok || scheme == "" || strings.Contains(text, " ") {
			return bad("a URI")
		}
	case EntKrbPrincipal:
		if user, realm, ok := strings.Cut(text, "@"); !printable(text) || !ok || user == "" || realm == "" {
			return bad("principal@realm")
		}
	}
	return nil
}

// printable says that a text is printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// AuthAddresses are all attributes of X-Type SOURCE_ADDR, or all of DEST_ADDR.
//
// RFC 5981 §3.2.3, §3.2.4
type AuthAddresses struct {
	Addrs []netip.Addr
	// UDP and TCP are the ports that are authorized. "If no PORT attributes are
	// specified, then all ports are considered valid; otherwise, only the
	// specified ports are authorized for use": that there is a list, perhaps of
	// the other protocol, makes both of them binding.
	UDP, TCP []uint16
	SPIs     []uint32
}

// Empty says that there is no such attribute.
func (a *AuthAddresses) Empty() bool {
	return len(a.Addrs) == 0 && a.UDP == nil && a.TCP == nil && len(a.SPIs) == 0
}

// Parse reads the value of a SESSION_AUTH object of any kind. Octet strings alias
// b. covered is what AUTHENTICATION_DATA covers: all before it.
func (t *AuthToken) Parse(b []byte) (covered []byte, err error) {
	*t = AuthToken{}
	covered = b
	var seen uint16
	for r := tlv.NewReader(b); r.Len() > 0; {
		at := r.Offset()
		x, err := nextAuthAttribute(&r)
		if err != nil {
			return nil, err
		}
		if x.Type <= AuthenticationData && x.Type != AuthSourceAddr && x.Type != AuthDestAddr {
			if seen&(1<<x.Type) != 0 {
				return nil, fmt.Errorf("SESSION_AUTH: attribute %d at offset %d is there twice", x.Type, at)
			}
			seen |= 1 << x.Type
		}
		if err := t.take(x); err != nil {
			return nil, fmt.Errorf("%w (attribute at offset %d)", err, at)
		}
		if x.Type == AuthenticationData {
			if r.Len() > 0 {
				return nil, errAfterData
			}
			covered = b[:at:at]
		}
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return covered, nil
}

func (t *AuthToken) take(x AuthAttribute) (err error) {
	v := x.Value
	switch x.Type {
	case AuthEntID:
		t.HasEntity, t.Entity = true, AuthEntity{SubType: x.SubType, Value: v}
	case AuthSessionID:
		if x.SubType != 0 { // "this field MUST be set to zero"
			return authSubType(x, "0")
		}
		t.SessionID = v
	case AuthSourceAddr:
		return t.Source.take(x)
	case AuthDestAddr:
		return t.Dest.take(x)
	case AuthStartTime:
		t.HasStart = true
		t.Start, err = x.time()
	case AuthEndTime:
		t.HasEnd = true
		t.End, err = x.time()
	case AuthObjectList:
		t.HasObjects = true
		t.Objects, err = x.objects(nil)
	case AuthenticationData:
		t.Data = v
	case 0:
		return errors.New("SESSION_AUTH: X-Type 0 is reserved (RFC 5981 §8)")
	default:
		t.Other = append(t.Other, x)
	}
	return err
}

// take reads one attribute: "every source address and port list must be included
// in a separate SOURCE_ADDR attribute", and at most one of each list.
func (a *AuthAddresses) take(x AuthAttribute) error {
	switch x.SubType {
	case AddrIPv4, AddrIPv6:
		addr, err := x.address()
		if err != nil {
			return err
		}
		a.Addrs = append(a.Addrs, addr)
		return nil
	case AddrUDPPort:
		return x.ports(&a.UDP)
	case AddrTCPPort:
		return x.ports(&a.TCP)
	case AddrSPI:
		if len(x.Value) != 4 {
			return authLength(x, 4)
		}
		a.SPIs = append(a.SPIs, binary.BigEndian.Uint32(x.Value))
		return nil
	}
	return authSubType(x, "1 to 5")
}

func (a AuthAttribute) ports(list *[]uint16) error {
	if *list != nil {
		return fmt.Errorf("SESSION_AUTH: attribute %d: a second list of ports of sub-type %d, want at most one", a.Type, a.SubType)
	}
	if len(a.Value)%2 != 0 {
		return fmt.Errorf("SESSION_AUTH: attribute %d: ports in %d octets, want 2 octets each", a.Type, len(a.Value))
	}
	for i := 0; i < len(a.Value); i += 2 {
		*list = append(*list, binary.BigEndian.Uint16(a.Value[i:]))
	}
	return nil
}

// check is what attributes say of each other.
func (t *AuthToken) check() error {
	if t.HasEntity {
		if err := t.Entity.check(); err != nil {
			return err
		}
	}
	if t.HasObjects && t.Data == nil {
		return errors.New("SESSION_AUTH: NSLP_OBJECT_LIST without AUTHENTICATION_DATA, which MUST also be present (RFC 5981 §3.2.7)")
	}
	if t.HasStart && t.HasEnd && int64(t.End-t.Start) <= 0 {
		return errors.New("SESSION_AUTH: END_TIME is not after START_TIME")
	}
	return nil
}

// AppendCovered appends all attributes but AUTHENTICATION_DATA, which signs them.
func (t *AuthToken) AppendCovered(b []byte) []byte {
	if t.HasEntity {
		b = AuthAttribute{AuthEntID, t.Entity.SubType, t.Entity.Value}.Append(b)
	}
	if t.SessionID != nil {
		b = AuthAttribute{AuthSessionID, 0, t.SessionID}.Append(b)
	}
	b = t.Source.append(b, AuthSourceAddr)
	b = t.Dest.append(b, AuthDestAddr)
	if t.HasStart {
		b = appendAuthTime(b, AuthStartTime, t.Start)
	}
	if t.HasEnd {
		b = appendAuthTime(b, AuthEndTime, t.End)
	}
	for _, x := range t.Other {
		b = x.Append(b)
	}
	if t.HasObjects {
		b = appendAuthObjects(b, t.Objects)
	}
	return b
}

func (a *AuthAddresses) append(b []byte, t AuthType) []byte {
	for _, addr := range a.Addrs {
		b = appendAuthAddress(b, t, addr)
	}
	for _, list := range []struct {
		sub   uint8
		ports []uint16
	}{{AddrUDPPort, a.UDP}, {AddrTCPPort, a.TCP}} {
		if len(list.ports) == 0 {
			continue
		}
		b = appendAuthHeader(b, t, list.sub, 2*len(list.ports))
		for _, p := range list.ports {
			b = tlv.AppendU16(b, p)
		}
		b = tlv.AppendZeros(b, -2*len(list.ports)&3)
	}
	for _, spi := range a.SPIs {
		b = appendAuthHeader(b, t, AddrSPI, 4)
		b = tlv.AppendU32(b, spi)
	}
	return b
}

// Append appends the value of the object. It fails where a reader would refuse
// it, and leaves b as it was.
func (t *AuthToken) Append(b []byte) ([]byte, error) {
	for _, s := range [][]byte{t.Entity.Value, t.SessionID, t.Data} {
		if len(s) > MaxValueLen {
			return b, fmt.Errorf("SESSION_AUTH: an attribute of %d octets, want at most %d", len(s), MaxValueLen)
		}
	}
	out := t.AppendCovered(b)
	if t.Data != nil {
		out = AuthAttribute{AuthenticationData, 0, t.Data}.Append(out)
	}
	if n := len(out) - len(b); n > MaxValueLen {
		return b, fmt.Errorf("SESSION_AUTH: attributes of %d octets, want at most %d", n, MaxValueLen)
	}
	var again AuthToken
	if _, err := again.Parse(out[len(b):]); err != nil {
		return b, err
	}
	return out, nil
}
