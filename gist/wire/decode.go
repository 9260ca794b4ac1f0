package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// decoder is one run over one message.
type decoder struct {
	m     *Message
	in    []byte // from the common header on
	dmode bool
	// at is where, in words, an object of a known type begins; 0: not seen.
	at [numObjects]uint32
}

func (m *Message) decode(b []byte, dmode bool) error {
	m.reset()
	h, err := ParseHeader(b)
	if err != nil {
		return err
	}
	m.Header = h
	d := decoder{m: m, in: b, dmode: dmode}
	if err := d.checkHeader(); err != nil {
		return err
	}
	bad := d.readObjects()
	if bad == nil {
		bad = d.checkObjects()
	}
	if bad != nil {
		return d.salvage(bad)
	}
	return nil
}

// fail builds the error that reports id.
func (d *decoder) fail(id ErrorID, info []AdditionalInfo, format string, args ...any) *ParseError {
	return &ParseError{
		Report: ErrorData{ID: id, Header: d.m.Header, DMode: d.dmode, Info: info},
		Detail: fmt.Sprintf(format, args...),
	}
}

// checkHeader finds what RFC 5971 §A.4.4.1 calls a Common Header Parse Error,
// but for what needs the objects.
func (d *decoder) checkHeader() error {
	h := &d.m.Header
	switch {
	case h.Version != Version1:
		return d.fail(UnknownVersion, nil, "version %d, want %d", h.Version, Version1)
	case int(h.Type) >= len(grammars):
		return d.fail(UnknownType, nil, "type %d", uint8(h.Type))
	}
	var err *ParseError
	switch {
	// RFC 5971 §A.1: R "MUST always be set (R=1) in Query messages [...] and
	// never in Confirm, Data, or Error messages".
	case h.Type == Query && !h.R:
		err = d.fail(InvalidRFlag, nil, "clear in a Query")
	case h.R && (h.Type == Confirm || h.Type == Data || h.Type == Error):
		err = d.fail(InvalidRFlag, nil, "set in a message of type %v", h.Type)
	case HeaderLen+4*int(h.Words) != len(d.in):
		words := d.countWords()
		err = d.fail(IncorrectMessageLength, []AdditionalInfo{MessageLengthInfo(words)},
			"Message Length %d words, but %d octets follow the common header and the objects in them take %d words",
			h.Words, len(d.in)-HeaderLen, words)
	case h.E && h.Type != Data:
		err = d.fail(InvalidEFlag, nil, "set in a message of type %v", h.Type)
	case h.C && h.Type != Query && h.Type != Data:
		err = d.fail(InvalidCFlag, nil, "set in a message of type %v", h.Type)
	case !h.C && h.Type == Query:
		err = d.fail(InvalidCFlag, nil, "clear in a Query")
	}
	if err != nil {
		return d.salvage(err)
	}
	return nil
}

// countWords adds up the objects that are there, in words.
func (d *decoder) countWords() uint16 {
	n := HeaderLen
	for n+tlvHeaderLen <= len(d.in) {
		n += tlvHeaderLen + 4*int(binary.BigEndian.Uint16(d.in[n+2:])&lengthMask)
	}
	return uint16(min((n-HeaderLen)/4, 0xffff))
}

// readObjects reads every object, in the order in which they stand.
func (d *decoder) readObjects() *ParseError {
	place := &places[d.m.Type]
	last := uint8(0)
	for off := HeaderLen; off < len(d.in); {
		head := binary.BigEndian.Uint32(d.in[off:]) // lengths are whole words
		end := off + tlvHeaderLen + 4*int(head&lengthMask)
		if end > len(d.in) {
			words := d.countWords()
			return d.fail(IncorrectMessageLength, []AdditionalInfo{MessageLengthInfo(words)},
				"Message Length %d words, but the objects take %d", d.m.Words, words)
		}
		object := d.in[off:end:end]
		t, ext := ObjectType(head>>16&typeMask), head>>30
		switch {
		case ext == extReserved:
			return d.typeError(InvalidExtensibilityFlags, t, "AB=11")
		case t >= numObjects:
			if err := d.unknown(t, ext, object); err != nil {
				return err
			}
		case d.at[t] != 0:
			return d.typeError(DuplicateObject, t, "at octets %d and %d", 4*d.at[t], off)
		case place[t] == 0:
			return d.typeError(InvalidObjectType, t, "not in a message of type %v", d.m.Type)
		case place[t] < last:
			// There is no subcode for a wrong order; at that place the
			// object is not valid for the message type.
			return d.typeError(InvalidObjectType, t, "out of order: after %v", grammars[d.m.Type].order[last-1])
		default:
			if bad := d.m.readValue(t, object[tlvHeaderLen:]); bad != nil {
				return d.fail(bad.id, []AdditionalInfo{ObjectValueInfo(object, bad.at)}, "%v: octet %d: %s", t, bad.at, bad.detail)
			}
			d.at[t] = uint32(off / 4)
			last = place[t]
		}
		off = end
	}
	return nil
}

// unknown deals with an object of unknown type by its A and B bits.
// RFC 5971 §A.2.1
func (d *decoder) unknown(t ObjectType, ext uint32, object []byte) *ParseError {
	switch ext {
	case extMandatory:
		return d.typeError(UnrecognisedObject, t, "AB=00")
	case extForward:
		d.m.Unknown = append(d.m.Unknown, Object{Type: t, Value: object[tlvHeaderLen:]})
	case extIgnore:
	}
	return nil
}

// typeError is an Object Type Error. RFC 5971 §A.4.4.9
func (d *decoder) typeError(id ErrorID, t ObjectType, format string, args ...any) *ParseError {
	return d.fail(id, []AdditionalInfo{ObjectTypeInfo(t)}, "%v: %s", t, fmt.Sprintf(format, args...))
}

// readValue reads the value of an object of a known type.
func (m *Message) readValue(t ObjectType, v []byte) (bad *valueError) {
	switch t {
	case ObjMRI:
		bad = m.MRI.parse(v)
		m.HasMRI = bad == nil
	case ObjSID:
		if len(v) != len(m.SID) {
			return badValue(IncorrectLength, tlvHeaderLen, "%d octets, want %d", len(v), len(m.SID))
		}
		m.SID, m.HasSID = SID(v), true
	case ObjNLI:
		m.NLI, bad = parseNLI(v)
		m.HasNLI = bad == nil
	case ObjStackProposal:
		m.StackProposal, bad = parseStackProposal(v, m.StackProposal)
	case ObjStackConfig:
		m.StackConfig, bad = parseStackConfig(v, m.StackConfig.Options)
		m.HasStackConfig = bad == nil
	case ObjQueryCookie:
		m.QueryCookie = v
	case ObjResponderCookie:
		m.ResponderCookie = v
	case ObjNATTraversal:
		if _, bad = parseNATTraversal(v); bad == nil {
			m.NATTraversal = v
		}
	case ObjNSLPData:
		m.NSLPData = v
	case ObjError:
		m.Error, bad = parseErrorData(v)
	case ObjHelloID:
		return m.readHelloID(v)
	}
	return bad
}

// Hello-ID, RFC 5971 §A.3.8, is one 32-bit word. §5.2.2: "if a message is
// received with R=1 and Hello-ID=0, an "Object Value Error" message [...] with
// subcode 1 ("Value Not Supported") MUST be returned".
func (m *Message) readHelloID(v []byte) *valueError {
	r := tlv.NewReader(v)
	id := r.U32()
	if err := r.Close(); err != nil {
		return badLength(&r, err)
	}
	if m.R && id == 0 {
		return badValue(ValueNotSupported, tlvHeaderLen, "Hello-ID 0 with R-flag set")
	}
	m.HelloID, m.HasHelloID = id, true
	return nil
}

// checkObjects judges what is there as a whole.
func (d *decoder) checkObjects() *ParseError {
	m := d.m
	for _, t := range grammars[m.Type].required {
		if d.at[t] == 0 {
			return d.missing(t, "in a message of type %v", m.Type)
		}
	}
	// RFC 5971 §5.5: "If a message that can only be sent in Q-mode or D-mode
	// arrives in C-mode or vice versa, this MUST be rejected".
	switch {
	case m.Type == Query && !d.dmode:
		return d.fail(IncorrectEncapsulation, nil, "a Query in C-mode")
	case m.Type == MAHello && d.dmode:
		return d.fail(IncorrectEncapsulation, nil, "an MA-Hello in D-mode")
	case m.Type == Data && m.C && !d.dmode:
		return d.fail(InvalidCFlag, nil, "set in a Data message in C-mode")
	}
	// RFC 5971 §5.1, Data: NLI "MUST be carried in the D-mode case, but MUST
	// NOT be included otherwise"; Error: in D-mode "the originator of the error
	// message MUST include its own Network-Layer-Information object".
	switch {
	case d.dmode && !m.HasNLI && (m.Type == Data || m.Type == Error):
		return d.missing(ObjNLI, "in a message of type %v in D-mode", m.Type)
	case !d.dmode && m.HasNLI && m.Type == Data:
		return d.typeError(InvalidObjectType, ObjNLI, "not in a Data message in C-mode")
	}
	return d.checkHandshake()
}

// checkHandshake judges the cookies and the stack objects of Query, Response
// and Confirm. RFC 5971 §5.1, §A.1, §A.4.4.9
func (d *decoder) checkHandshake() *ParseError {
	m := d.m
	proposal, cookie := len(m.StackProposal) > 0, m.ResponderCookie != nil
	switch {
	case m.Type == Response && cookie && !m.R:
		return d.fail(InvalidRFlag, nil, "clear in a Response with a Responder-Cookie")
	case m.HasStackConfig && !proposal:
		return d.missing(ObjStackProposal, "beside Stack-Configuration-Data")
	case proposal && !m.HasStackConfig && m.Type != Confirm:
		return d.missing(ObjStackConfig, "beside Stack-Proposal")
	case proposal && !cookie && m.Type != Query:
		return d.missing(ObjResponderCookie, "beside Stack-Proposal")
	case proposal && m.HasStackConfig:
		if bad := checkStack(m.Type, m.StackProposal, &m.StackConfig); bad != nil {
			return d.fail(bad.id, []AdditionalInfo{
				ObjectValueInfo(d.object(ObjStackProposal), bad.at),
				ObjectValueInfo(d.object(ObjStackConfig), bad.at),
			}, "%s", bad.detail)
		}
	}
	return nil
}

func (d *decoder) missing(t ObjectType, format string, args ...any) *ParseError {
	return d.typeError(MissingObject, t, "missing "+format, args...)
}

// object returns an object that was read, TLV header included.
func (d *decoder) object(t ObjectType) []byte {
	off := 4 * int(d.at[t])
	end := off + tlvHeaderLen + 4*int(binary.BigEndian.Uint16(d.in[off+2:])&lengthMask)
	return d.in[off:end]
}

// salvage reads, of a message that is rejected, what an Error message needs:
// the NLI says where to send it (RFC 5971 §5.6), a NAT-Traversal object has to
// be echoed (§7.2.3), and SID and MRI are to be included "if these could be
// decoded correctly" (§A.4.1), but not with a Common Header Parse Error
// (§A.4.4.1).
func (d *decoder) salvage(err *ParseError) error {
	for off := HeaderLen; off+tlvHeaderLen <= len(d.in); {
		head := binary.BigEndian.Uint32(d.in[off:])
		end := off + tlvHeaderLen + 4*int(head&lengthMask)
		if end > len(d.in) {
			break
		}
		switch t := ObjectType(head >> 16 & typeMask); t {
		case ObjMRI, ObjSID, ObjNLI, ObjNATTraversal:
			if !d.m.has(t) {
				_ = d.m.readValue(t, d.in[off+tlvHeaderLen:end:end])
			}
		}
		off = end
	}
	if err.Report.ID.Code() != UnknownVersion.Code() {
		err.Report.HasSID, err.Report.SID = d.m.HasSID, d.m.SID
		err.Report.HasMRI, err.Report.MRI = d.m.HasMRI, d.m.MRI
	}
	return err
}
