package dissect

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/interqos/interqos/internal/capture"
)

// JSON returns the message as one line.
func (m *Message) JSON() ([]byte, error) { return appendJSON(nil, m.flat()) }

func appendJSON(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case Fields:
		b = append(b, '{')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, f.Key) // keys are plain ASCII
			b = append(b, ':')
			if b, err = appendJSON(b, f.Value); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case []Fields:
		return appendList(b, v)
	case []byte: // numbers, not base64
		return appendList(b, v)
	case hexBytes:
		return append(append(append(b, '"'), v.String()...), '"'), nil
	}
	text, err := json.Marshal(v)
	return append(b, text...), err
}

func appendList[T any](b []byte, list []T) (_ []byte, err error) {
	b = append(b, '[')
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, x); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// Text returns the message as a block of lines for people.
func (m *Message) Text() string {
	var b strings.Builder
	head(&b, &m.Event)
	if m.HasHeader {
		h := &m.Header
		flags := ""
		for _, f := range [...]struct {
			on   bool
			name string
		}{{h.C, " C"}, {h.S, " S"}, {h.R, " R"}, {h.E, " E"}} {
			if f.on {
				flags += f.name
			}
		}
		if flags == "" {
			flags = " none"
		}
		fmt.Fprintf(&b, "  GIST %v: version %d, %d hops left, length %d words, NSLPID %d, flags%s\n", h.Type, h.Version, h.HopCount, h.Words, h.NSLPID, flags)
	}
	if m.Err != nil {
		fmt.Fprintf(&b, "    MALFORMED: %v\n", m.Err)
		if len(m.Objects) == 0 {
			fmt.Fprintf(&b, "    octets %x\n", m.Event.Octets[:min(len(m.Event.Octets), maxShown)])
		}
	}
	for i := range m.Objects {
		textObject(&b, &m.Objects[i], m.HasNSLP)
	}
	if !m.HasNSLP {
		return b.String()
	}
	fmt.Fprintf(&b, "  QoS-NSLP %v: flags%s\n", m.NSLP.Type, flagNames(nslpFlags(&m.NSLP)))
	if m.NSLPErr != nil {
		fmt.Fprintf(&b, "    MALFORMED: %v\n", m.NSLPErr)
	}
	for i := range m.Inner {
		textObject(&b, &m.Inner[i], false)
	}
	for _, q := range m.QSPECs {
		if q.Err != nil {
			fmt.Fprintf(&b, "  QSPEC\n    MALFORMED: %v\n    octets %x\n", q.Err, q.Octets)
		} else {
			fmt.Fprintf(&b, "  QSPEC %v\n", q.QSPEC)
		}
	}
	return b.String()
}

// RemarkText returns a remark as a line for people.
func RemarkText(e *capture.Event) string {
	var b strings.Builder
	head(&b, e)
	fmt.Fprintf(&b, "  %s\n", e.Remark)
	return b.String()
}

func head(b *strings.Builder, e *capture.Event) {
	fmt.Fprintf(b, "frame %d  %s", e.Frame, e.Time.Format("2006-01-02T15:04:05.000000Z"))
	if e.From.IsValid() {
		fmt.Fprintf(b, "  %v → %v  %s", e.From, e.To, e.Transport)
	}
	if e.Remark == "" && e.DMode() {
		fmt.Fprintf(b, ", IP TTL %d", e.TTL)
		if e.RouterAlert >= 0 {
			fmt.Fprintf(b, ", router alert %d", e.RouterAlert)
		}
	} else if e.Remark == "" {
		fmt.Fprintf(b, ", at offset %d", e.Offset)
	}
	b.WriteByte('\n')
}

func flagNames(f Fields) string {
	text := ""
	for _, x := range f {
		if x.Value == true {
			text += " " + x.Key
		}
	}
	if text == "" {
		return " none"
	}
	return text
}

// textObject writes an object: its name and fields on one line, and what is
// nested on lines of its own.
func textObject(b *strings.Builder, o *Object, carriesNSLP bool) {
	const indent = "    "
	b.WriteString(indent + o.Name)
	if o.Action != 0 {
		fmt.Fprintf(b, " (AB=%02b)", o.Action)
	}
	b.WriteByte(':')
	switch {
	case o.Err != nil:
		fmt.Fprintf(b, " MALFORMED: at offset %d: %v;", o.Offset, o.Err)
	case len(o.Value) == 0 || carriesNSLP && o.Value[0].Key == "nslp_data":
		fmt.Fprintf(b, " %d octets\n", o.Length)
		return
	}
	switch v := o.Value[0].Value.(type) {
	case Fields:
		textFields(b, v, indent+"  ")
	case []Fields:
		b.WriteByte('\n')
		textList(b, v, indent+"  ")
	default:
		unit := ""
		if strings.HasSuffix(o.Value[0].Key, "_ms") {
			unit = " ms"
		}
		fmt.Fprintf(b, " %s%s\n", scalarText(v), unit)
	}
}

// textFields writes scalars on the line that is open, and then the rest.
func textFields(b *strings.Builder, f Fields, indent string) {
	var parts []string
	for _, x := range f {
		switch x.Value.(type) {
		case Fields, []Fields:
			continue
		}
		text := scalarText(x.Value)
		switch name, unit := strings.CutSuffix(x.Key, "_ms"); {
		case strings.HasSuffix(x.Key, "_text") && len(parts) > 0:
			parts[len(parts)-1] += " (" + text + ")"
			continue
		case unit:
			parts = append(parts, words(name)+" "+text+" ms")
		case text == "":
			parts = append(parts, words(name)+" -")
		default:
			parts = append(parts, words(name)+" "+text)
		}
	}
	if len(parts) > 0 {
		b.WriteString(" " + strings.Join(parts, ", "))
	}
	b.WriteByte('\n')
	for _, x := range f {
		switch v := x.Value.(type) {
		case Fields:
			b.WriteString(indent + words(x.Key) + ":")
			textFields(b, v, indent+"  ")
		case []Fields:
			b.WriteString(indent + words(x.Key) + ":\n")
			textList(b, v, indent+"  ")
		}
	}
}

func textList(b *strings.Builder, list []Fields, indent string) {
	for _, f := range list {
		b.WriteString(indent + "-")
		textFields(b, f, indent+"  ")
	}
}

func words(key string) string { return strings.ReplaceAll(key, "_", " ") }

func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return strings.Map(func(r rune) rune { // what came from the wire does not steer a terminal
			if !unicode.IsPrint(r) {
				return unicode.ReplacementChar
			}
			return r
		}, v)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return strings.Trim(fmt.Sprint(v), "[]")
}

// ntpTime writes an NTP time stamp of era 0.
func ntpTime(v uint64) string {
	const since1900 = 2208988800
	nanos := (v & 0xffffffff) * 1e9 >> 32
	return time.Unix(int64(v>>32)-since1900, int64(nanos)).UTC().Format(time.RFC3339Nano)
}
