package wire

import "github.com/interqos/interqos/internal/tlv"

// Limits on what is read and written, beside those of the format, so that a
// message of MaxMessage octets costs bounded memory and stack.
const (
	MaxDepth = 16    // PATH-DATA-TLVs inside each other
	MaxIDs   = 64    // IDs in one PATH-DATA-TLV
	MaxNodes = 16384 // LFBselect-, OPER-, PATH-DATA-, KEYINFO-, REDIRECT-TLVs, results and ILVs of a message together
)

// Message is a message of any type. Which fields it uses follows from its type.
// RFC 5810 §7
type Message struct {
	Header
	Select   []LFBSelect    // AssociationSetup, Config, Query, their responses, EventNotification
	Result   SetupResult    // AssociationSetupResponse
	Reason   TeardownReason // AssociationTeardown
	Redirect []Redirect     // PacketRedirect
}

// LFBSelect names an LFB instance and what is done there. From the CE it is the
// target in the FE, from the FE the source there. RFC 5810 §7.1.5, §7.4
//
//	+-------------------------------+-------------------------------+
//	|        Type = LFBselect       |               Length          |
//	|                          LFB Class ID                         |
//	|                        LFB Instance ID                        |
//	|                        OPER-TLV ...                           |
type LFBSelect struct {
	Class      uint32
	Instance   uint32
	Operations []Operation
}

// Operation is an OPER-TLV: paths, or nothing in COMMIT and TRCOMP, or the
// result alone in COMMIT-RESPONSE. RFC 5810 §7.1.6
type Operation struct {
	Type   OperType
	Paths  []PathData
	Result *Result // COMMIT-RESPONSE only
}

// DataKind is what stands at the end of a path. RFC 5810 §7
type DataKind uint8

// Kinds of data.
const (
	NoData     DataKind = iota
	FullData            // PathData.Full
	SparseData          // PathData.Sparse
	ResultData          // PathData.Result
)

// PathData is a PATH-DATA-TLV: a path from where its parent's ends, and either
// data or further paths. RFC 5810 §7, §7.1.2; ranges RFC 7391 §3.1
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|      Type = PATH-DATA         |               Length          |
//	|S|T|      reserved             |              IDcount          |
//	|                              IDs ...                          |
//	|              KEYINFO-TLV (S) or TABLERANGE-TLV (T)            |
//	|    FULLDATA-, SPARSEDATA-, RESULT- or PATH-DATA-TLVs          |
type PathData struct {
	IDs    []uint32
	Key    *Key        // selects rows of the array by content
	Range  *TableRange // selects rows of the array by index
	Data   DataKind    // says which of the next three counts
	Full   []byte      // content as the LFB class lays it out
	Sparse []ILV
	Result *Result
	Paths  []PathData // only with NoData
}

// The flags of a path: bits 0 and 1, counted from the most significant as in
// figure 18.
// RFC 5810 §7.1.2, RFC 7391 §3.1
const (
	selectKey   uint16 = 1 << 15
	selectRange uint16 = 1 << 14
)

// Key is a KEYINFO-TLV: rows whose fields of that key have this content.
// RFC 5810 §6.4.2, §7.1.4
type Key struct {
	ID   uint32
	Data []byte // laid out as in a FULLDATA-TLV
}

// TableRange is a TABLERANGE-TLV: rows Start to End, both included; 0 and
// 0xffffffff are the first and the last there is. RFC 7391 §3.1
type TableRange struct {
	Start, End uint32
}

// Result is a RESULT-TLV, or an EXTENDEDRESULT-TLV when Extended.
// RFC 5810 §7.1.7, RFC 7391 §3.2.3
//
//	+-------------------------------+-------------------------------+
//	|    Type = RESULT-TLV          |               Length          |
//	| Result Value  |                  Reserved                     |
//	|                  optional FULLDATA-TLV                        |
//
//	|   Type = EXTENDEDRESULT-TLV   |               Length          |
//	|                          Result Value                         |
//	|                  optional cause content                       |
type Result struct {
	Code     ResultCode // up to 0xff unless Extended
	Extended bool
	HasData  bool   // a FULLDATA-TLV, even an empty one; not if Extended
	Data     []byte // its value, or the cause if Extended
}

// ILV is a value with a 32-bit identifier: a component's in a SPARSEDATA-TLV, a
// metadata ID in a METADATA-TLV. RFC 5810 §6.3, §7.9
type ILV struct {
	ID    uint32
	Value []byte
}

// Redirect is a REDIRECT-TLV: a packet, its metadata, or both. RFC 5810 §7.9
type Redirect struct {
	Metadata  []ILV
	HasPacket bool // a REDIRECTDATA-TLV is there, even an empty one
	Packet    []byte
}

// Append appends the message to b. It refuses what Parse would refuse, and what
// does not fit: a TLV of more than 65,535 octets, a message of more than
// MaxMessage. After an error b is returned as it was. Errors are *Error.
func (m *Message) Append(b []byte) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, err
	}
	w := writer{b: m.append(b), start: len(b)}
	switch {
	case m.Type.selects():
		for i := range m.Select {
			w.lfbSelect(&m.Select[i])
		}
	case m.Type == AssociationSetupResponse:
		at := w.open(tlvASResult)
		w.u32(uint32(m.Result))
		w.close(at)
	case m.Type == AssociationTeardown:
		at := w.open(tlvASTReason)
		w.u32(uint32(m.Reason))
		w.close(at)
	case m.Type == PacketRedirect:
		for i := range m.Redirect {
			w.redirect(&m.Redirect[i])
		}
	}
	size := len(w.b) - w.start
	if w.err == nil && size > MaxMessage {
		w.err = failure(EContentsTooLong, -1, "%v of %d octets, at most %d fit", m.Type, size, MaxMessage)
	}
	if w.err != nil {
		return b, w.err
	}
	tlv.PutU16(w.b, w.start+2, uint16(size/4))
	return w.b, nil
}

// writer appends TLVs, and keeps the first error.
type writer struct {
	b     []byte
	start int // of the message in b
	err   error
}

func (w *writer) u32(v uint32) { w.b = tlv.AppendU32(w.b, v) }

func (w *writer) open(t uint16) int {
	at := len(w.b)
	w.b = tlv.AppendU16(w.b, t)
	w.b = tlv.AppendU16(w.b, 0)
	return at
}

// close fills in the length, without the padding that it adds. RFC 5810 §6.2
func (w *writer) close(at int) {
	n := len(w.b) - at
	if n > 0xffff {
		if w.err == nil {
			w.err = failure(EContentsTooLong, at-w.start, "a TLV of %d octets, at most %d fit", n, 0xffff)
		}
		return
	}
	tlv.PutU16(w.b, at+2, uint16(n))
	w.b = tlv.AppendZeros(w.b, padding(n))
}

func (w *writer) leaf(t uint16, value []byte) {
	at := w.open(t)
	w.b = append(w.b, value...)
	w.close(at)
}

func (w *writer) lfbSelect(s *LFBSelect) {
	at := w.open(tlvLFBSelect)
	w.u32(s.Class)
	w.u32(s.Instance)
	for i := range s.Operations {
		o := &s.Operations[i]
		op := w.open(uint16(o.Type))
		w.paths(o.Paths)
		if o.Result != nil {
			w.result(o.Result)
		}
		w.close(op)
	}
	w.close(at)
}

func (w *writer) paths(list []PathData) {
	for i := range list {
		p := &list[i]
		at := w.open(tlvPathData)
		var flags uint16
		if p.Key != nil {
			flags |= selectKey
		}
		if p.Range != nil {
			flags |= selectRange
		}
		w.b = tlv.AppendU16(w.b, flags)
		w.b = tlv.AppendU16(w.b, uint16(len(p.IDs)))
		for _, id := range p.IDs {
			w.u32(id)
		}
		if k := p.Key; k != nil {
			key := w.open(tlvKeyInfo)
			w.u32(k.ID)
			w.leaf(tlvFullData, k.Data)
			w.close(key)
		}
		if r := p.Range; r != nil {
			rng := w.open(tlvTableRange)
			w.u32(r.Start)
			w.u32(r.End)
			w.close(rng)
		}
		switch p.Data {
		case FullData:
			w.leaf(tlvFullData, p.Full)
		case SparseData:
			w.ilvs(tlvSparseData, p.Sparse)
		case ResultData:
			w.result(p.Result)
		case NoData:
			w.paths(p.Paths)
		}
		w.close(at)
	}
}

func (w *writer) result(r *Result) {
	if r.Extended {
		at := w.open(tlvExtResult)
		w.u32(uint32(r.Code))
		w.b = append(w.b, r.Data...)
		w.close(at)
		return
	}
	at := w.open(tlvResult)
	w.u32(uint32(r.Code) << 24)
	if r.HasData {
		w.leaf(tlvFullData, r.Data)
	}
	w.close(at)
}

func (w *writer) ilvs(t uint16, list []ILV) {
	at := w.open(t)
	for _, v := range list {
		w.b = AppendILV(w.b, v)
	}
	w.close(at)
}

func (w *writer) redirect(r *Redirect) {
	at := w.open(tlvRedirect)
	if len(r.Metadata) > 0 {
		w.ilvs(tlvMetadata, r.Metadata)
	}
	if r.HasPacket {
		w.leaf(tlvRedirectData, r.Packet)
	}
	w.close(at)
}

// padding is how many octets bring n to a multiple of four. RFC 5810 §6.2
func padding(n int) int { return -n & 3 }
