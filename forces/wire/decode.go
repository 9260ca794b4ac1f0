package wire

import "github.com/interqos/interqos/internal/tlv"

// Parse reads a message that is exactly b. Octets in it alias b. It refuses what
// breaks the grammar of RFC 5810 §7 (tables 1 and 2), unknown TLVs, and more
// than MaxDepth, MaxIDs and MaxNodes allow. Errors are *Error.
func Parse(b []byte) (Message, error) {
	var d Decoder
	return d.Parse(b)
}

// Decoder is Parse with memory that is used again: what it returned is good
// until its next call. The zero value is ready.
type Decoder struct {
	nodes     int // how many more are allowed
	selects   arena[LFBSelect]
	opers     arena[Operation]
	paths     arena[PathData]
	ids       arena[uint32]
	keys      arena[Key]
	ranges    arena[TableRange]
	results   arena[Result]
	ilvs      arena[ILV]
	redirects arena[Redirect]
}

// arena hands out slices of one array, and starts over when it is reset.
type arena[T any] struct {
	buf  []T
	used int
}

func (a *arena[T]) take(n int) []T {
	if n == 0 {
		return nil
	}
	if n > len(a.buf)-a.used {
		a.buf = make([]T, max(n, 2*len(a.buf))) // what was handed out stays where it is
		a.used = 0
	}
	s := a.buf[a.used : a.used+n : a.used+n]
	a.used += n
	clear(s)
	return s
}

// Parse is like the function of that name.
func (d *Decoder) Parse(b []byte) (Message, error) {
	d.nodes = MaxNodes
	d.selects.used, d.opers.used, d.paths.used, d.ids.used, d.keys.used = 0, 0, 0, 0, 0
	d.ranges.used, d.results.used, d.ilvs.used, d.redirects.used = 0, 0, 0, 0
	h, size, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	if size != len(b) {
		return Message{}, failure(ELengthMismatch, 2, "length %d octets, the message has %d", size, len(b))
	}
	m := Message{Header: h}
	r := tlv.NewReader(b)
	r.Skip(HeaderSize)
	switch {
	case h.Type.selects():
		err = d.lfbSelects(&r, &m)
	case h.Type == AssociationSetupResponse:
		var v uint32
		v, err = word(&r, tlvASResult, "an ASResult-TLV")
		m.Result = SetupResult(v)
	case h.Type == AssociationTeardown:
		var v uint32
		v, err = word(&r, tlvASTReason, "an ASTreason-TLV")
		m.Reason = TeardownReason(v)
	case h.Type == PacketRedirect:
		err = d.redirect(&r, &m)
	}
	if err == nil && r.Len() > 0 {
		err = failure(EInvalidTLV, r.Offset(), "%d octets after the body of %v", r.Len(), h.Type)
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

// spend counts n parts against MaxNodes, before anything is allocated for them.
func (d *Decoder) spend(n, at int) error {
	if d.nodes -= n; d.nodes < 0 {
		return failure(EMemoryError, at, "more than %d parts in one message", MaxNodes)
	}
	return nil
}

// count is how many TLVs are in r before one that is malformed; r is a copy.
func count(r tlv.Reader) int {
	for n := 0; ; n++ {
		if r.Len() == 0 {
			return n
		}
		if _, _, err := peek(&r); err {
			return n + 1 // whoever reads it will say what is wrong
		}
	}
}

// peek is next without words for what is wrong.
func peek(r *tlv.Reader) (uint16, int, bool) {
	if r.Len() < tlvHead {
		return 0, 0, true
	}
	t, n := r.U16(), int(r.U16())
	if n < tlvHead || n-tlvHead > r.Len() {
		return t, n, true
	}
	r.Skip(n - tlvHead)
	r.Skip(min(padding(n), r.Len()))
	return t, n, false
}

// word reads a TLV of one 32-bit value.
func word(r *tlv.Reader, want uint16, what string) (uint32, error) {
	at := r.Offset()
	t, v, err := next(r)
	if err != nil {
		return 0, err
	}
	if t != want || v.Len() != 4 {
		return 0, failure(EInvalidTLV, at, "TLV %#04x with %d octets, want %s with 4", t, v.Len(), what)
	}
	return v.U32(), nil
}

func (d *Decoder) lfbSelects(r *tlv.Reader, m *Message) error {
	n := count(*r)
	if err := d.spend(n, r.Offset()); err != nil {
		return err
	}
	m.Select = d.selects.take(n)
	for i := range m.Select {
		at := r.Offset()
		t, v, err := next(r)
		if err != nil {
			return err
		}
		if t != tlvLFBSelect || v.Len() < 8 {
			return failure(EInvalidTLV, at, "TLV %#04x with %d octets, want an LFBselect-TLV with 8 or more", t, v.Len())
		}
		s := &m.Select[i]
		s.Class, s.Instance = v.U32(), v.U32()
		if err := d.operations(&v, s); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) operations(r *tlv.Reader, s *LFBSelect) error {
	n := count(*r)
	if err := d.spend(n, r.Offset()); err != nil {
		return err
	}
	s.Operations = d.opers.take(n)
	for i := range s.Operations {
		at := r.Offset()
		t, v, err := next(r)
		if err != nil {
			return err
		}
		o := &s.Operations[i]
		o.Type = OperType(t)
		switch o.Type {
		case Commit, TRComp:
			if v.Len() > 0 {
				return failure(EInvalidTLV, at, "%v with %d octets, want none", o.Type, v.Len())
			}
		case CommitResponse:
			rt, rv, err := next(&v)
			if err != nil {
				return err
			}
			if o.Result, err = d.result(rt, rv); err != nil {
				return err
			}
			if v.Len() > 0 {
				return failure(EInvalidTLV, v.Offset(), "%d octets after the result of COMMIT-RESPONSE", v.Len())
			}
		default:
			if o.Paths, err = d.pathDatas(v, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Decoder) pathDatas(r tlv.Reader, depth int) ([]PathData, error) {
	if r.Len() == 0 {
		return nil, nil
	}
	if depth > MaxDepth {
		return nil, failure(EInvalidPath, r.Offset(), "PATH-DATA-TLVs nested more than %d deep", MaxDepth)
	}
	n := count(r)
	if err := d.spend(n, r.Offset()); err != nil {
		return nil, err
	}
	list := d.paths.take(n)
	for i := range list {
		at := r.Offset()
		t, v, err := next(&r)
		if err != nil {
			return nil, err
		}
		if t != tlvPathData || v.Len() < 4 {
			return nil, failure(EInvalidTLV, at, "TLV %#04x with %d octets, want a PATH-DATA-TLV with 4 or more", t, v.Len())
		}
		if err := d.pathData(v, &list[i], depth); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *Decoder) pathData(r tlv.Reader, p *PathData, depth int) error {
	at := r.Offset()
	flags, n := r.U16(), int(r.U16())
	if n > MaxIDs || n*4 > r.Len() {
		return failure(EInvalidPath, at+2, "IDcount %d, want at most %d and what fits into %d octets", n, MaxIDs, r.Len())
	}
	p.IDs = d.ids.take(n)
	for i := range p.IDs {
		p.IDs[i] = r.U32()
	}
	if flags&(selectKey|selectRange) == selectKey|selectRange {
		return failure(EInvalidTFlags, at, "a path that selects both by key and by range")
	}
	if flags&selectKey != 0 {
		if err := d.key(&r, p); err != nil {
			return err
		}
	}
	if flags&selectRange != 0 {
		if err := d.tableRange(&r, p); err != nil {
			return err
		}
	}
	if r.Len() == 0 {
		return nil
	}
	look := r
	t, v, err := next(&look)
	if err != nil {
		return err
	}
	switch t {
	case tlvPathData:
		p.Paths, err = d.pathDatas(r, depth+1)
		return err
	case tlvFullData:
		p.Data, p.Full = FullData, v.Rest()
	case tlvSparseData:
		p.Data = SparseData
		p.Sparse, err = d.ilvList(&v)
	default:
		p.Data = ResultData
		p.Result, err = d.result(t, v)
	}
	if err == nil && look.Len() > 0 {
		err = failure(EInvalidTLV, look.Offset(), "%d octets after the data of a path", look.Len())
	}
	return err
}

func (d *Decoder) key(r *tlv.Reader, p *PathData) error {
	at := r.Offset()
	t, v, err := next(r)
	if err != nil {
		return err
	}
	if t != tlvKeyInfo || v.Len() < 4 {
		return failure(EInvalidTLV, at, "TLV %#04x with %d octets, want a KEYINFO-TLV as the path's flags say", t, v.Len())
	}
	if err := d.spend(1, at); err != nil {
		return err
	}
	p.Key = &d.keys.take(1)[0]
	p.Key.ID = v.U32()
	dt, dv, err := next(&v)
	if err != nil {
		return err
	}
	if dt != tlvFullData || v.Len() > 0 {
		return failure(EInvalidTLV, at+8, "TLV %#04x in a KEYINFO-TLV and %d octets after it, want one FULLDATA-TLV", dt, v.Len())
	}
	p.Key.Data = dv.Rest()
	return nil
}

func (d *Decoder) tableRange(r *tlv.Reader, p *PathData) error {
	at := r.Offset()
	t, v, err := next(r)
	if err != nil {
		return err
	}
	if t != tlvTableRange || v.Len() != 8 {
		return failure(EInvalidTLV, at, "TLV %#04x with %d octets, want a TABLERANGE-TLV with 8 as the path's flags say", t, v.Len())
	}
	if err := d.spend(1, at); err != nil {
		return err
	}
	p.Range = &d.ranges.take(1)[0]
	p.Range.Start, p.Range.End = v.U32(), v.U32()
	return nil
}

func (d *Decoder) result(t uint16, v tlv.Reader) (*Result, error) {
	at := v.Offset() - tlvHead
	if t != tlvResult && t != tlvExtResult {
		return nil, failure(EInvalidTLV, at, "TLV %#04x is no data or result", t)
	}
	if v.Len() < 4 {
		return nil, failure(EInvalidTLV, at, "a result of %d octets, want 4 or more", v.Len())
	}
	if err := d.spend(1, at); err != nil {
		return nil, err
	}
	res := &d.results.take(1)[0]
	if t == tlvExtResult {
		res.Extended, res.Code = true, ResultCode(v.U32())
		if v.Len() > 0 {
			res.Data = v.Rest()
		}
		return res, nil
	}
	res.Code = ResultCode(v.U32() >> 24)
	if v.Len() == 0 {
		return res, nil
	}
	dt, dv, err := next(&v)
	if err != nil {
		return nil, err
	}
	if dt != tlvFullData || v.Len() > 0 {
		return nil, failure(EInvalidTLV, at+8, "TLV %#04x in a RESULT-TLV and %d octets after it, want one FULLDATA-TLV", dt, v.Len())
	}
	res.HasData, res.Data = true, dv.Rest()
	return res, nil
}

// ilvList reads ILVs to the end of r.
func (d *Decoder) ilvList(r *tlv.Reader) ([]ILV, error) {
	n := 0
	for c := *r; c.Len() > 0; n++ {
		if _, err := nextILV(&c); err != nil {
			return nil, err
		}
	}
	if err := d.spend(n, r.Offset()); err != nil {
		return nil, err
	}
	list := d.ilvs.take(n)
	for i := range list {
		v, err := nextILV(r)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

func (d *Decoder) redirect(r *tlv.Reader, m *Message) error {
	n := count(*r)
	if err := d.spend(n, r.Offset()); err != nil {
		return err
	}
	m.Redirect = d.redirects.take(n)
	for i := range m.Redirect {
		at := r.Offset()
		t, v, err := next(r)
		if err != nil {
			return err
		}
		if t != tlvRedirect {
			return failure(EInvalidTLV, at, "TLV %#04x, want a REDIRECT-TLV", t)
		}
		x, metadata := &m.Redirect[i], false
		for v.Len() > 0 {
			at := v.Offset()
			t, part, err := next(&v)
			if err != nil {
				return err
			}
			switch {
			case t == tlvMetadata && !metadata && !x.HasPacket:
				metadata = true
				if x.Metadata, err = d.ilvList(&part); err != nil {
					return err
				}
			case t == tlvRedirectData && !x.HasPacket:
				x.HasPacket, x.Packet = true, part.Rest()
			default:
				return failure(EInvalidTLV, at, "TLV %#04x, want at most one METADATA-TLV, then one REDIRECTDATA-TLV", t)
			}
		}
	}
	return nil
}
