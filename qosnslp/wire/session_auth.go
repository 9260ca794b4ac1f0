package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/internal/tlv"
)

// SESSION_AUTH, RFC 5981 §3.1, is an NSLP object of type 0x016, A/B = 10, and
// a list of attributes, RFC 5981 §3.2:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            Length             |    X-Type     |   SubType     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                           Value ...                         //
//	+---------------------------------------------------------------+
//
// Length counts octets with this header and without the padding to a whole
// word; "all padding bytes MUST have a value of zero". The numbers are those of RFC 5981 §8; §3.2 counts them differently.

// AuthType is the X-Type of an attribute.
type AuthType uint8

// Attributes (RFC 5981 §8).
const (
	AuthEntID          AuthType = 1
	AuthSessionID      AuthType = 2
	AuthSourceAddr     AuthType = 3
	AuthDestAddr       AuthType = 4
	AuthStartTime      AuthType = 5
	AuthEndTime        AuthType = 6
	AuthObjectList     AuthType = 7
	AuthenticationData AuthType = 8
)

// Sub-types (RFC 5981 §8).
const (
	EntIPv4         uint8 = 1 // of AuthEntID
	EntIPv6         uint8 = 2
	EntFQDN         uint8 = 3
	EntASCIIDN      uint8 = 4
	EntUnicodeDN    uint8 = 5
	EntURI          uint8 = 6
	EntKrbPrincipal uint8 = 7
	EntX509Cert     uint8 = 8
	EntPGPCert      uint8 = 9
	EntHMACSigned   uint8 = 10

	AddrIPv4    uint8 = 1 // of AuthSourceAddr and AuthDestAddr
	AddrIPv6    uint8 = 2
	AddrUDPPort uint8 = 3
	AddrTCPPort uint8 = 4
	AddrSPI     uint8 = 5

	NTPTimestamp uint8 = 1 // of AuthStartTime and AuthEndTime
)

// HMACSHA256 is the transform id AUTH_HMAC_SHA2_256_128 of IKEv2's transform
// type 3: HMAC-SHA-256 cut to 128 bits, mandatory by RFC 5981 §4.1.1.
const HMACSHA256 uint8 = 12

// HMACSHA256Len is the length of its authentication data in octets.
const HMACSHA256Len = 16

// AuthAttribute is one attribute of a SESSION_AUTH object.
type AuthAttribute struct {
	Type    AuthType
	SubType uint8
	Value   []byte // without header and padding
}

const authHeaderLen = 4

// nextAuthAttribute takes an attribute off the front of a value.
func nextAuthAttribute(r *tlv.Reader) (a AuthAttribute, err error) {
	at := r.Offset()
	n := int(r.U16())
	a.Type, a.SubType = AuthType(r.U8()), r.U8()
	if err := r.Err(); err != nil {
		return a, fmt.Errorf("SESSION_AUTH: attribute header: %w", err)
	}
	if n <= authHeaderLen {
		// RFC 5981 §3.2.1: "MUST be > 4", and so for every attribute.
		return a, fmt.Errorf("SESSION_AUTH: attribute %d at offset %d: length %d, want more than 4", a.Type, at, n)
	}
	a.Value = r.Bytes(n - authHeaderLen)
	padding := r.Bytes(-n & 3)
	if err := r.Err(); err != nil {
		return a, fmt.Errorf("SESSION_AUTH: attribute %d: %w", a.Type, err)
	}
	for _, x := range padding {
		if x != 0 && a.Type != AuthObjectList { // there it "MUST be ignored" (RFC 5981 §3.2.7)
			return a, fmt.Errorf("SESSION_AUTH: attribute %d at offset %d: padding of %#x, want zero", a.Type, at, padding)
		}
	}
	return a, nil
}

// ParseSessionAuth reads the value of a SESSION_AUTH object of any kind. The
// attributes alias b. It refuses an attribute after AUTHENTICATION_DATA, which
// "MUST be the last attribute in the list" (RFC 5981 §3.2.8).
func ParseSessionAuth(b []byte) ([]AuthAttribute, error) {
	var list []AuthAttribute
	for r := tlv.NewReader(b); r.Len() > 0; {
		a, err := nextAuthAttribute(&r)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
		if a.Type == AuthenticationData && r.Len() > 0 {
			return nil, errAfterData
		}
	}
	return list, nil
}

var errAfterData = errors.New("SESSION_AUTH: AUTHENTICATION_DATA is not the last attribute")

// Append appends the attribute with its padding.
func (a AuthAttribute) Append(b []byte) []byte {
	b = appendAuthHeader(b, a.Type, a.SubType, len(a.Value))
	b = append(b, a.Value...)
	return tlv.AppendZeros(b, -len(a.Value)&3)
}

func appendAuthHeader(b []byte, t AuthType, sub uint8, n int) []byte {
	b = tlv.AppendU16(b, uint16(authHeaderLen+n))
	return append(b, byte(t), sub)
}

// ErrNotSigned says that a SESSION_AUTH object is not of sub-type HMAC_SIGNED.
var ErrNotSigned = errors.New("SESSION_AUTH: not HMAC_SIGNED")

// SignedAuth is a SESSION_AUTH object of sub-type HMAC_SIGNED, RFC 5981 §4.4,
// with exactly the attributes of the figure there:
//
//	AUTH_ENT_ID / HMAC_SIGNED  |        reserved         | Transform ID  |
//	SOURCE_ADDR                |     IPv4 or IPv6 address                |
//	START_TIME / NTP_TIMESTAMP |     NTP timestamp, 64 bits              |
//	NSLP_OBJECT_LIST           |  n (16) | rsv (4), type (12) | …        |
//	AUTHENTICATION_DATA        |     Key-ID (32)    | HMAC               |
type SignedAuth struct {
	Transform uint8
	Source    netip.Addr
	Start     uint64       // NTP timestamp, era implied
	Objects   []ObjectType // in the order in which they are hashed
	KeyID     uint32
	MAC       []byte
}

// MaxAuthObjects is how many objects a SignedAuth may list.
const MaxAuthObjects = 256

// Parse reads the value of a SESSION_AUTH object into a; Objects is reused, MAC
// aliases b. covered is the part of b that the HMAC covers: everything up to
// AUTHENTICATION_DATA (RFC 5981 §3.2.8). ErrNotSigned: it is of another kind.
func (a *SignedAuth) Parse(b []byte) (covered []byte, err error) {
	*a = SignedAuth{Objects: a.Objects[:0]}
	var seen uint16
	for r := tlv.NewReader(b); r.Len() > 0; {
		at := r.Offset()
		x, err := nextAuthAttribute(&r)
		if err != nil {
			return nil, err
		}
		if x.Type == AuthEntID && x.SubType != EntHMACSigned {
			return nil, ErrNotSigned
		}
		if x.Type > AuthenticationData || seen&(1<<x.Type) != 0 {
			return nil, fmt.Errorf("SESSION_AUTH: attribute %d is unknown or there twice in an HMAC_SIGNED object", x.Type)
		}
		seen |= 1 << x.Type
		if err := a.take(x); err != nil {
			return nil, err
		}
		if x.Type == AuthenticationData {
			if r.Len() > 0 {
				return nil, errAfterData
			}
			covered = b[:at:at]
		}
	}
	const want = 1<<AuthEntID | 1<<AuthSourceAddr | 1<<AuthStartTime | 1<<AuthObjectList | 1<<AuthenticationData
	switch {
	case seen&(1<<AuthEntID) == 0:
		return nil, ErrNotSigned
	case seen != want:
		return nil, fmt.Errorf("SESSION_AUTH: HMAC_SIGNED with the attributes %#x, want %#x (one bit an X-Type)", seen, want)
	}
	return covered, nil
}

func (a *SignedAuth) take(x AuthAttribute) (err error) {
	v := x.Value
	switch x.Type {
	case AuthEntID:
		if len(v) != 4 {
			return authLength(x, 4)
		}
		a.Transform = v[3]
	case AuthSourceAddr:
		a.Source, err = x.address()
	case AuthStartTime:
		a.Start, err = x.time()
	case AuthObjectList:
		a.Objects, err = x.objects(a.Objects)
	case AuthenticationData:
		if len(v) <= 4 {
			return fmt.Errorf("SESSION_AUTH: AUTHENTICATION_DATA of %d octets, want a Key-ID and a HMAC", len(v))
		}
		a.KeyID, a.MAC = binary.BigEndian.Uint32(v), v[4:]
	default:
		return fmt.Errorf("SESSION_AUTH: attribute %d in an HMAC_SIGNED object", x.Type)
	}
	return err
}

// address reads a SOURCE_ADDR or DEST_ADDR that is an address. RFC 5981 §3.2.3
func (a AuthAttribute) address() (netip.Addr, error) {
	want := 4
	if a.SubType == AddrIPv6 {
		want = 16
	} else if a.SubType != AddrIPv4 {
		return netip.Addr{}, authSubType(a, "1 or 2, an IPv4 or IPv6 address")
	}
	if len(a.Value) != want {
		return netip.Addr{}, authLength(a, want)
	}
	addr, _ := netip.AddrFromSlice(a.Value)
	return addr, nil
}

// time reads START_TIME or END_TIME. RFC 5981 §3.2.5, §3.2.6
func (a AuthAttribute) time() (uint64, error) {
	if a.SubType != NTPTimestamp {
		return 0, authSubType(a, "1, NTP_TIMESTAMP")
	}
	if len(a.Value) != 8 {
		return 0, authLength(a, 8)
	}
	return binary.BigEndian.Uint64(a.Value), nil
}

// objects appends what NSLP_OBJECT_LIST names to list. RFC 5981 §3.2.7
func (a AuthAttribute) objects(list []ObjectType) ([]ObjectType, error) {
	v := a.Value
	if len(v) < 2 {
		return list, authLength(a, 2)
	}
	n := int(binary.BigEndian.Uint16(v))
	v = v[2:]
	// Some count the padding in Length, as if it belonged to the list.
	if n > MaxAuthObjects || len(v) != 2*n && !(n%2 == 0 && len(v) == 2*n+2) {
		return list, fmt.Errorf("SESSION_AUTH: NSLP_OBJECT_LIST: %d objects in %d octets, want 2 octets each and at most %d", n, len(v), MaxAuthObjects)
	}
	for i := range n {
		list = append(list, ObjectType(binary.BigEndian.Uint16(v[2*i:])&0x0fff))
	}
	return list, nil
}

func authSubType(x AuthAttribute, want string) error {
	return fmt.Errorf("SESSION_AUTH: attribute %d of sub-type %d, want %s", x.Type, x.SubType, want)
}

func authLength(x AuthAttribute, want int) error {
	return fmt.Errorf("SESSION_AUTH: attribute %d of sub-type %d: %d octets, want %d", x.Type, x.SubType, len(x.Value), want)
}

// AppendCovered appends the attributes that the HMAC covers: all but
// AUTHENTICATION_DATA.
func (a *SignedAuth) AppendCovered(b []byte) []byte {
	b = appendAuthHeader(b, AuthEntID, EntHMACSigned, 4)
	b = append(b, 0, 0, 0, a.Transform)
	b = appendAuthAddress(b, AuthSourceAddr, a.Source)
	b = appendAuthTime(b, AuthStartTime, a.Start)
	return appendAuthObjects(b, a.Objects)
}

func appendAuthAddress(b []byte, t AuthType, a netip.Addr) []byte {
	if a.Is4() {
		b = appendAuthHeader(b, t, AddrIPv4, 4)
		x := a.As4()
		return append(b, x[:]...)
	}
	b = appendAuthHeader(b, t, AddrIPv6, 16)
	x := a.As16()
	return append(b, x[:]...)
}

func appendAuthTime(b []byte, t AuthType, at uint64) []byte {
	b = appendAuthHeader(b, t, NTPTimestamp, 8)
	return tlv.AppendU64(b, at)
}

// appendAuthObjects writes NSLP_OBJECT_LIST with its padding. RFC 5981 §3.2.7
func appendAuthObjects(b []byte, list []ObjectType) []byte {
	b = appendAuthHeader(b, AuthObjectList, 0, 2+2*len(list))
	b = tlv.AppendU16(b, uint16(len(list)))
	for _, t := range list {
		b = tlv.AppendU16(b, uint16(t&0x0fff))
	}
	if len(list)%2 == 0 {
		b = append(b, 0, 0)
	}
	return b
}

// AppendData appends AUTHENTICATION_DATA.
func (a *SignedAuth) AppendData(b []byte) []byte {
	b = appendAuthHeader(b, AuthenticationData, 0, 4+len(a.MAC))
	b = tlv.AppendU32(b, a.KeyID)
	b = append(b, a.MAC...)
	return tlv.AppendZeros(b, -len(a.MAC)&3)
}

// Append appends the value of the object.
func (a *SignedAuth) Append(b []byte) []byte { return a.AppendData(a.AppendCovered(b)) }

// BeginSessionAuth appends the header of a SESSION_AUTH object whose length is
// known only later: EndObject writes it. "MUST have the AB bits set to '10'"
// (RFC 5981 §3.1).
func BeginSessionAuth(b []byte) []byte { return appendHeader(b, Forward, TypeSessionAuth, 0) }

// EndObject writes the length of the object whose header is at b[at:] and
// whose value goes to the end of b.
func EndObject(b []byte, at int) error {
	n := len(b) - at - ObjectHeaderLen
	if n%4 != 0 {
		return fmt.Errorf("object of %d octets: %w", n, ErrAlignment)
	}
	if n > MaxValueLen {
		return fmt.Errorf("object of %d octets, want at most %d", n, MaxValueLen)
	}
	tlv.PutU16(b, at+2, uint16(n/4))
	return nil
}
