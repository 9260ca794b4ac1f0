package wire

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/interqos/interqos/internal/tlv"
)

// Error, RFC 5971 §A.4.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Error Class  |           Error Code          | Error Subcode |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|S|M|C|D|Q|       Reserved      |  MRI Length   |  Info Count   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                                                               |
//	+            Common Header (of original message)                +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                          Session ID                           :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                    Message Routing Information                :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                 Additional Information Fields                 :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                       Debugging Comment                       :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// ErrorData is the value of the Error object (GIST-Error-Data).
type ErrorData struct {
	ID     ErrorID
	DMode  bool   // D: the original message came in D-mode
	QMode  bool   // Q: and Q-mode encapsulated; only together with DMode
	HasSID bool   // S
	HasMRI bool   // M
	Header Header // of the original message, Words included
	SID    SID
	MRI    MRI
	Info   []AdditionalInfo // 255 at most
	// Comment is for people who debug; without NUL. Empty: none.
	Comment string
}

const (
	errS, errM, errC, errD, errQ = 0x80, 0x40, 0x20, 0x10, 0x08

	errFixedLen = 16
)

// AdditionalInfo is one additional information field. RFC 5971 §A.4.2
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          AI-Type              |         AI-Length             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                          AI-Value                           //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type AdditionalInfo struct {
	Type  AIType
	Value []byte // a whole number of words
}

// AIType names a kind of additional information.
type AIType uint16

// Additional information types.
const (
	AIMessageLength AIType = 1
	AIMTU           AIType = 2
	AIObjectType    AIType = 3
	AIObjectValue   AIType = 4
)

// MaxErrorObject is how many octets of an invalid object an Error message of
// ours carries back at most, so that it cannot amplify.
const MaxErrorObject = 256

const shortErrorObject = 32

// MessageLengthInfo carries the length, in words, that adding up the objects gave.
func MessageLengthInfo(words uint16) AdditionalInfo {
	return AdditionalInfo{AIMessageLength, []byte{byte(words >> 8), byte(words), 0, 0}}
}

// MTUInfo carries the IP MTU in octets of the link that a message did not fit.
func MTUInfo(octets uint16) AdditionalInfo {
	return AdditionalInfo{AIMTU, []byte{byte(octets >> 8), byte(octets), 0, 0}}
}

// ObjectTypeInfo carries the type of the object at fault.
func ObjectTypeInfo(t ObjectType) AdditionalInfo {
	return AdditionalInfo{AIObjectType, []byte{byte(t >> 8), byte(t), 0, 0}}
}

// ObjectValueInfo carries an invalid object, TLV header included, and the
// octet in it where the error was found. At most MaxErrorObject octets of the
// object are taken.
//
//	|  Rsv  |  Real Object Length   |            Offset             |
//	//                           Object                            //
func ObjectValueInfo(object []byte, offset int) AdditionalInfo {
	object = object[:min(len(object), MaxErrorObject)]
	v := make([]byte, 0, 4+words(len(object))*4)
	v = tlv.AppendU16(v, uint16(words(len(object))))
	v = tlv.AppendU16(v, uint16(min(max(offset, 0), 0xffff)))
	v = append(v, object...)
	return AdditionalInfo{AIObjectValue, tlv.AppendZeros(v, pad(len(object)))}
}

// Shorten leaves of an Object Value Info as much as shows where the error is.
func (a *AdditionalInfo) Shorten() {
	if a.Type == AIObjectValue && len(a.Value) > 4+shortErrorObject {
		a.Value = a.Value[: 4+shortErrorObject : 4+shortErrorObject]
		tlv.PutU16(a.Value, 0, shortErrorObject/4)
	}
}

// Number returns what MessageLengthInfo (words), MTUInfo (octets) or
// ObjectTypeInfo (an ObjectType) carries.
func (a *AdditionalInfo) Number() (n uint16, ok bool) {
	if a.Type < AIMessageLength || a.Type > AIObjectType || len(a.Value) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint16(a.Value), true
}

// Object returns what ObjectValueInfo carries.
func (a *AdditionalInfo) Object() (object []byte, offset int, ok bool) {
	if a.Type != AIObjectValue || len(a.Value) < 4 {
		return nil, 0, false
	}
	n := int(binary.BigEndian.Uint16(a.Value)&0xfff) * 4
	if n > len(a.Value)-4 {
		return nil, 0, false
	}
	return a.Value[4 : 4+n : 4+n], int(binary.BigEndian.Uint16(a.Value[2:])), true
}

func parseErrorData(b []byte) (*ErrorData, *valueError) {
	r := tlv.NewReader(b)
	e := &ErrorData{ID: ErrorID(r.U32())}
	flags := r.U16() >> 8
	mriWords, infos := int(r.U8()), int(r.U8())
	header := r.Bytes(HeaderLen)
	e.DMode, e.QMode = flags&errD != 0, flags&errQ != 0
	if e.HasSID = flags&errS != 0; e.HasSID {
		copy(e.SID[:], r.Bytes(len(e.SID)))
	}
	mriAt := r.Offset()
	mri := r.Bytes(4 * mriWords)
	for range infos {
		a := AdditionalInfo{Type: AIType(r.U16())}
		a.Value = r.Bytes(4 * int(r.U16()))
		if r.Err() != nil {
			break
		}
		e.Info = append(e.Info, a)
	}
	commentAt := r.Offset()
	var comment []byte
	if flags&errC != 0 {
		comment = r.Rest()
	}
	if err := r.Close(); err != nil {
		return nil, badLength(&r, err)
	}
	e.Header, _ = ParseHeader(header) // eight octets: cannot fail
	if e.QMode && !e.DMode {
		return nil, badValue(InvalidFlagFieldCombination, tlvHeaderLen+4, "Q-flag set without D-flag")
	}
	if e.HasMRI = flags&errM != 0; !e.HasMRI && mriWords > 0 {
		return nil, badValue(InvalidFlagFieldCombination, tlvHeaderLen+4, "MRI length %d without M-flag", mriWords)
	}
	if e.HasMRI {
		var bad *valueError
		if bad = e.MRI.parse(mri); bad != nil {
			return nil, badValue(bad.id, mriAt+bad.at, "original MRI: %s", bad.detail)
		}
	}
	if flags&errC != 0 {
		end := bytes.IndexByte(comment, 0)
		if end < 0 {
			return nil, badValue(IncorrectLength, tlvHeaderLen+commentAt, "comment without a terminating null")
		}
		e.Comment = strings.ToValidUTF8(string(comment[:end]), "?")
	}
	return e, nil
}

// Append appends the object's value (without TLV header).
func (e *ErrorData) Append(b []byte) []byte {
	var flags, mriWords uint8
	if e.HasSID {
		flags |= errS
	}
	if e.HasMRI {
		flags |= errM
		mriWords = uint8(mriLen(&e.MRI) / 4)
	}
	if e.Comment != "" {
		flags |= errC
	}
	if e.DMode {
		flags |= errD
		if e.QMode {
			flags |= errQ
		}
	}
	infos := e.Info[:min(len(e.Info), 0xff)]
	b = tlv.AppendU32(b, uint32(e.ID))
	b = append(b, flags, 0, mriWords, uint8(len(infos)))
	b = e.Header.Append(b)
	if e.HasSID {
		b = append(b, e.SID[:]...)
	}
	if e.HasMRI {
		b = AppendMRI(b, &e.MRI)
	}
	for i := range infos {
		b = tlv.AppendU16(b, uint16(infos[i].Type))
		b = tlv.AppendU16(b, uint16(words(len(infos[i].Value))))
		b = append(b, infos[i].Value...)
		b = tlv.AppendZeros(b, pad(len(infos[i].Value)))
	}
	if e.Comment != "" {
		b = append(b, e.Comment...)
		b = tlv.AppendZeros(b, 1+pad(len(e.Comment)+1))
	}
	return b
}

func (e *ErrorData) len() int {
	n := errFixedLen
	if e.HasSID {
		n += len(e.SID)
	}
	if e.HasMRI {
		n += mriLen(&e.MRI)
	}
	for i := range e.Info[:min(len(e.Info), 0xff)] {
		n += 4 + words(len(e.Info[i].Value))*4
	}
	if e.Comment != "" {
		n += words(len(e.Comment)+1) * 4
	}
	return n
}
