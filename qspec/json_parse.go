package qspec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// UnmarshalJSON reads what MarshalJSON writes. An error is a *TextError. The result
// has passed no Check.
func (q *QSPEC) UnmarshalJSON(b []byte) error {
	r := jsonReader{b: b}
	out := QSPEC{}
	if err := out.readJSON(&r, 0); err != nil {
		return err
	}
	if r.space(); r.at < len(b) {
		return r.fail("end of the text")
	}
	*q = out
	return nil
}

// headerMembers are the members beside the objects.
var headerMembers = []string{"version", "type", "local", "sequence", "combination", "encapsulated"}

func (q *QSPEC) readJSON(r *jsonReader, depth int) error {
	return r.members(func(name part) (err error) {
		var v uint64
		switch name.s {
		case "version":
			v, err = r.uint(15)
			q.Version = uint8(v)
		case "type":
			v, err = r.uint(31)
			q.Type = Type(v)
		case "local":
			q.Local, err = r.bool()
		case "sequence":
			v, err = r.uint(15)
			q.Sequence = MessageSequence(v)
		case "combination":
			v, err = r.uint(15)
			q.Combination = uint8(v)
		case "encapsulated":
			if depth > 0 {
				return name.fail(errors.New("an encapsulated QSPEC encapsulates nothing"))
			}
			q.Encapsulated, err = readEncapsulatedJSON(r)
		default:
			if !slices.Contains(objectNames[:], name.s) {
				return name.unknown("member", name.s, append(objectNames[:], headerMembers...))
			}
			t, _ := objectNamed(name)
			return q.Object(t).readJSON(r, t)
		}
		return err
	})
}

func readEncapsulatedJSON(r *jsonReader) ([]byte, error) {
	if r.space(); r.peek() == '"' {
		x, err := r.string()
		if err != nil {
			return nil, err
		}
		b, err := parseHex(x.s)
		if err == nil {
			err = checkEncapsulated(b)
		}
		return b, x.fail(err)
	}
	var inner QSPEC
	from := r.at
	if err := inner.readJSON(r, 1); err != nil {
		return nil, err
	}
	b := inner.Append(nil)
	return b, part{"encapsulated", from}.fail(checkEncapsulated(b))
}

func (p *Params) readJSON(r *jsonReader, t ObjectType) error {
	return r.members(func(name part) (err error) {
		if name.s == "failed" {
			p.ObjectFailed, err = r.bool()
			return err
		}
		id, err := p.named(name)
		if err != nil {
			return err
		}
		var m, e, n bool
		x := RawParam{ID: id}
		valued := false
		err = r.members(func(member part) (err error) {
			switch member.s {
			case "value":
				valued = true
				x.Value, err = p.readJSONValue(r, t, id)
			case "must":
				m, err = r.bool()
			case "failed":
				e, err = r.bool()
			case "unsupported":
				n, err = r.bool()
			default:
				err = member.unknown("member", member.s, []string{"value", "must", "failed", "unsupported"})
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case !valued:
			return name.fail(errors.New("without a value"))
		case bitOf(id) >= 0:
			p.put(id, m, e, n)
		default:
			x.Must, x.Failed, x.Unsupported = m, e, n
			p.Extra = append(p.Extra, x)
		}
		return nil
	})
}

// readJSONValue reads the value of one parameter; of an unknown one it returns it.
func (p *Params) readJSONValue(r *jsonReader, t ObjectType, id ParameterID) (raw []byte, err error) {
	r.space()
	from := r.at
	switch {
	case id == TMOD1ID:
		err = p.TMOD1.readJSON(r)
	case id == TMOD2ID:
		err = p.TMOD2.readJSON(r)
	case id == TMODExtID:
		p.PeakBucket, err = r.float()
	default:
		var x part
		if x, err = r.scalar(); err != nil {
			return nil, err
		}
		if bitOf(id) < 0 {
			raw, err = parseHex(x.s)
			return raw, x.fail(err)
		}
		if err = p.parseValueText(id, x.s); err != nil {
			return nil, x.fail(err)
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, part{string(r.b[from:r.at]), from}.fail(p.checkValue(t, id))
}

func (t *TMOD) readJSON(r *jsonReader) error {
	*t = TMOD{Peak: infinity, Unit: DefaultUnit, MPS: DefaultMPS}
	return r.members(func(name part) (err error) {
		var v uint64
		switch name.s {
		case "rate":
			t.Rate, err = r.float()
		case "bucket":
			t.Bucket, err = r.float()
		case "peak":
			t.Peak, err = r.float()
		case "unit":
			v, err = r.uint(1<<32 - 1)
			t.Unit = uint32(v)
		case "mps":
			v, err = r.uint(1<<32 - 1)
			t.MPS = uint32(v)
		default:
			err = name.unknown("member", name.s, []string{"rate", "bucket", "peak", "unit", "mps"})
		}
		return err
	})
}

// jsonReader reads the JSON that a QSPEC is written in, without reflection (a codec
// has none): objects, and scalars without escapes, which no value needs.
type jsonReader struct {
	b  []byte
	at int
}

func (r *jsonReader) space() {
	for r.at < len(r.b) && (r.b[r.at] == ' ' || r.b[r.at] == '\t' || r.b[r.at] == '\r' || r.b[r.at] == '\n') {
		r.at++
	}
}

// peek returns the next octet, 0 at the end.
func (r *jsonReader) peek() byte {
	if r.at < len(r.b) {
		return r.b[r.at]
	}
	return 0
}

func (r *jsonReader) take(c byte) bool {
	if r.space(); r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *jsonReader) fail(want string) error {
	end := min(r.at+20, len(r.b))
	return part{string(r.b[r.at:end]), r.at}.fail(fmt.Errorf("expected %s", want))
}

// members reads an object, each value by f; a name that comes twice is refused.
func (r *jsonReader) members(f func(name part) error) error {
	if !r.take('{') {
		return r.fail("an object")
	}
	if r.take('}') {
		return nil
	}
	var seen []string
	for {
		name, err := r.string()
		if err != nil {
			return err
		}
		if slices.Contains(seen, name.s) {
			return name.fail(errDuplicate)
		}
		seen = append(seen, name.s)
		if !r.take(':') {
			return r.fail("a colon")
		}
		if err := f(name); err != nil {
			return err
		}
		if r.take('}') {
			return nil
		}
		if !r.take(',') {
			return r.fail("a comma or }")
		}
	}
}

func (r *jsonReader) string() (part, error) {
	if !r.take('"') {
		return part{}, r.fail("a string")
	}
	from := r.at
	for ; r.at < len(r.b); r.at++ {
		switch c := r.b[r.at]; {
		case c == '"':
			x := part{string(r.b[from:r.at]), from}
			r.at++
			if !utf8.ValidString(x.s) {
				return x, x.fail(errors.New("not UTF-8"))
			}
			return x, nil
		case c == '\\' || c < ' ':
			return part{}, r.fail("a string without escapes")
		}
	}
	return part{}, r.fail("the end of the string")
}

// scalar reads a string or a number, as text.
func (r *jsonReader) scalar() (part, error) {
	if r.space(); r.peek() == '"' {
		return r.string()
	}
	return r.number()
}

func (r *jsonReader) number() (part, error) {
	r.space()
	from := r.at
	for r.at < len(r.b) && (r.b[r.at] >= '0' && r.b[r.at] <= '9' || slices.Contains([]byte("+-.eE"), r.b[r.at])) {
		r.at++
	}
	if r.at == from {
		return part{}, r.fail("a number or a string")
	}
	return part{string(r.b[from:r.at]), from}, nil
}

func (r *jsonReader) uint(most uint64) (uint64, error) {
	x, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(x.s, 10, 64)
	if err != nil || v > most {
		return 0, x.fail(fmt.Errorf("expected a number from 0 to %d", most))
	}
	return v, nil
}

// float reads a number, or null for infinity.
func (r *jsonReader) float() (float32, error) {
	if r.word("null") {
		return infinity, nil
	}
	x, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(x.s, 32)
	return float32(v), x.fail(err)
}

func (r *jsonReader) bool() (bool, error) {
	switch {
	case r.word("true"):
		return true, nil
	case r.word("false"):
		return false, nil
	}
	return false, r.fail("true or false")
}

func (r *jsonReader) word(w string) bool {
	if r.space(); r.at+len(w) > len(r.b) || string(r.b[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}
