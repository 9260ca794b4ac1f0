// Package wireshark_test compares the dissector in Lua with qnectl decode, field
// by field: two decoders, each written from the RFCs.
package wireshark_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/cli/clitest"
	"github.com/interqos/interqos/internal/cli/qnectl"
	"github.com/interqos/interqos/qspec"
)

const script = "gist.lua"

// tshark runs it with the dissector; settings of whoever runs the test play no
// part.
func tshark(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed: nobody else reads our messages here")
	}
	home := t.TempDir()
	cmd := exec.Command("tshark", append(args, "-X", "lua_script:"+script)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "WIRESHARK_RUN_FROM_BUILD_DIRECTORY=", "TZ=UTC", "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("tshark %v: %v\n%s", args, err, errs.String())
	}
	if s := errs.String(); strings.Contains(s, ".lua") {
		t.Fatalf("tshark %v: %s", args, s)
	}
	return out.String()
}

// fields are the names of all fields of the dissector.
func fields(t *testing.T) []string {
	var list []string
	for _, line := range strings.Split(tshark(t, "-G", "fields"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) < 3 || f[0] != "F" {
			continue
		}
		for _, p := range []string{"gist.", "nslp.", "qspec."} {
			if strings.HasPrefix(f[2], p) {
				list = append(list, f[2])
			}
		}
	}
	if len(list) < 150 {
		t.Fatalf("%d fields, want those of three protocols: %v", len(list), list)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// values are, of one frame, the values of each field in order.
type values map[string][]string

func (v values) add(field, value string) { v[field] = append(v[field], value) }

// dissected is what tshark makes of a capture: by frame.
func dissected(t *testing.T, names []string, args []string) map[string]values {
	t.Helper()
	args = append(args, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|", "-e", "frame.number")
	for _, n := range names {
		args = append(args, "-e", n)
	}
	args = append(args, "-e", "_ws.lua.error")
	out := map[string]values{}
	for _, line := range strings.Split(tshark(t, args...), "\n") {
		columns := strings.Split(line, "\t")
		if len(columns) != len(names)+2 {
			continue
		}
		if text := columns[len(names)+1]; text != "" {
			t.Errorf("frame %s: error in the dissector: %s", columns[0], text)
		}
		v := values{}
		for i, n := range names {
			switch text := columns[i+1]; {
			case text == "":
			case strings.HasSuffix(n, ".malformed"):
				v.add(n, text)
			default:
				for _, x := range strings.Split(text, "|") {
					v.add(n, normal(x))
				}
			}
		}
		if len(v) > 0 {
			out[columns[0]] = v
		}
	}
	return out
}

// normal is a value without what is a matter of taste.
func normal(s string) string {
	switch s {
	case "True", "true":
		return "1"
	case "False", "false":
		return "0"
	}
	s = strings.ReplaceAll(s, ":", "")
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		if n, err := strconv.ParseUint(h, 16, 64); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	return s
}

var (
	gistTypes = []string{"Query", "Response", "Confirm", "Data", "Error", "MA-Hello"}
	nslpTypes = []string{"", "RESERVE", "QUERY", "RESPONSE", "NOTIFY"}
)

// number is a type's: its place among names, or the number that its text ends in.
func number(names []string, text string) string {
	if i := slices.Index(names, text); i >= 0 {
		return strconv.Itoa(i)
	}
	return text[strings.LastIndexByte(text, ' ')+1:]
}

// object is a JSON object with its keys in order.
type object []member

type member struct {
	key   string
	value any // object, []any, string, bool, json.Number or nil
}

func parse(t *testing.T, d *json.Decoder) any {
	t.Helper()
	tok, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch tok {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			key, _ := d.Token()
			o = append(o, member{key.(string), parse(t, d)})
		}
		_, _ = d.Token()
		return o
	case json.Delim('['):
		list := []any{}
		for d.More() {
			list = append(list, parse(t, d))
		}
		_, _ = d.Token()
		return list
	}
	return tok
}

// decoded is what qnectl makes of a capture: by frame, under the dissector's
// names.
func decoded(t *testing.T, args []string) map[string]values {
	t.Helper()
	r := clitest.Run(t, qnectl.App(), "", append([]string{"decode", "-o", "json"}, args...)...)
	if r.Status != 0 || r.Stderr != "" {
		t.Fatalf("qnectl: status %d, %s", r.Status, r.Stderr)
	}
	out := map[string]values{}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		m := parse(t, d).(object)
		frame := m[0].value.(json.Number).String()
		v := out[frame]
		if v == nil {
			v = values{}
			out[frame] = v
		}
		for _, x := range m {
			v.top(t, x)
		}
	}
	return out
}

func (v values) top(t *testing.T, x member) {
	switch key := x.key; {
	case key == "gist.type":
		v.add(key, number(gistTypes, x.value.(string)))
	case key == "nslp.type":
		v.add(key, number(nslpTypes, x.value.(string)))
	case key == "gist.error" || key == "nslp.error":
		v.add(strings.TrimSuffix(key, "error")+"malformed", "")
	case key == "gist.objects" || key == "nslp.objects":
		for _, o := range x.value.([]any) {
			v.object(t, key[:4], o.(object))
		}
	case strings.HasPrefix(key, "qspec"):
		v.qspec(t, x.value.(object))
	case key == "gist.octets": // of what has no objects: the dissector marks it
	case strings.HasPrefix(key, "gist.") || strings.HasPrefix(key, "nslp."):
		v.walk(key, x.value)
	}
}

func (v values) object(t *testing.T, protocol string, o object) {
	for _, m := range o {
		switch m.key {
		case "type", "ab", "length":
			v.walk(protocol+".object."+m.key, m.value)
		case "name", "offset":
		case "error": // told of the whole message
		case "octets":
			if last := o[len(o)-1]; last.key != "error" {
				v.walk(protocol+".octets", m.value)
			}
		default:
			v.walk(protocol+"."+m.key, m.value)
		}
	}
}

// renamed are JSON's keys whose fields have another name: a list has the plural.
var renamed = strings.NewReplacer(".profiles", ".profile", ".protocols", ".protocol", ".options", ".option", ".nats", ".nat",
	".rsns", ".rsn", ".domain_records", ".domain_record")

// addresses are fields that have a second name for IPv6.
var addresses = []string{".source", ".destination", ".egress", ".ingress", ".address"}

func (v values) walk(path string, x any) {
	switch x := x.(type) {
	case object:
		for _, m := range x {
			v.walk(path+"."+m.key, m.value)
		}
	case []any:
		for _, y := range x {
			v.walk(path, y)
		}
	default:
		if strings.HasSuffix(path, "_text") {
			return
		}
		name := renamed.Replace(path)
		if i := strings.LastIndex(name, "mri."); i >= 0 {
			name = "gist." + name[i:]
		}
		if strings.HasPrefix(name, "gist.") && strings.HasSuffix(name, ".sid") {
			name = "gist.sid"
		}
		text := fmt.Sprint(x)
		if slices.ContainsFunc(addresses, func(s string) bool { return strings.HasSuffix(name, s) }) && strings.Contains(text, ":") {
			name += "6"
		}
		if text == "" {
			return // tshark shows no empty octets
		}
		v.add(name, normal(text))
	}
}

var qspecObjects = []string{"desired", "available", "reserved", "minimum"}

func (v values) qspec(t *testing.T, q object) {
	for _, m := range q {
		switch i := slices.Index(qspecObjects, m.key); {
		case m.key == "error":
			v.add("qspec.malformed", "")
		case m.key == "octets":
		case m.key == "encapsulated":
			v.qspec(t, m.value.(object))
		case i >= 0:
			v.add("qspec.object", strconv.Itoa(i))
			v.params(t, m.value.(object))
		default:
			v.walk("qspec."+m.key, m.value)
		}
	}
}

func flagOf(o object, key string) string {
	if slices.ContainsFunc(o, func(m member) bool { return m.key == key && m.value == true }) {
		return "1"
	}
	return "0"
}

func (v values) params(t *testing.T, o object) {
	v.add("qspec.object.failed", flagOf(o, "failed"))
	for _, m := range o {
		if m.key == "failed" {
			continue
		}
		p := m.value.(object)
		for _, flag := range []string{"must", "failed", "unsupported"} {
			v.add("qspec.parameter."+flag, flagOf(p, flag))
		}
		v.param(t, m.key, p[0].value)
	}
}

// param adds a parameter's id and values; what is text in JSON is taken apart
// by qspec's own reader of that text.
func (v values) param(t *testing.T, name string, value any) {
	t.Helper()
	if o, ok := value.(object); ok { // a TMOD
		v.add("qspec.parameter", map[string]string{"tmod": "1", "tmod2": "2"}[name])
		for _, m := range o {
			text := fmt.Sprint(m.value)
			if m.value == nil {
				text = "inf"
			}
			v.add("qspec.tmod."+m.key, text)
		}
		return
	}
	if _, err := strconv.Atoi(name); err == nil { // unknown to us
		v.add("qspec.parameter", name)
		v.add("qspec.octets", value.(string))
		return
	}
	if value == nil {
		value = "inf"
	}
	p, err := qspec.ParseParams(name + "=" + fmt.Sprint(value))
	if err != nil {
		t.Fatalf("%s=%v: %v", name, value, err)
	}
	id := p.Has.IDs()[0]
	v.add("qspec.parameter", strconv.Itoa(int(id)))
	put := func(name string, values ...any) {
		for _, x := range values {
			v.add("qspec."+name, fmt.Sprint(x))
		}
	}
	border := func(b qspec.BorderID) {
		put("border.as", b.AS)
		if b.Addr.Is6() {
			put("border.address6", strings.ReplaceAll(b.Addr.String(), ":", ""))
		} else {
			put("border.address", b.Addr)
		}
	}
	switch id {
	case qspec.PathLatencyID:
		put("latency", p.PathLatency)
	case qspec.PathJitterID:
		put("jitter", p.PathJitter.Variance, p.PathJitter.P999, p.PathJitter.MinLatency)
	case qspec.PathPLRID:
		put("ratio", p.PathPLR)
	case qspec.PathPERID:
		put("ratio", p.PathPER)
	case qspec.SlackTermID:
		put("slack", p.SlackTerm)
	case qspec.PreemptionID:
		put("preemption.priority", p.Preemption.Preempting)
		put("preemption.defending", p.Preemption.Defending)
	case qspec.AdmissionID:
		put("admission.y2171", p.Admission.Y2171)
		put("admission.local", p.Admission.Local)
	case qspec.RPHID:
		put("rph.namespace", p.RPH.Namespace)
		put("rph.priority", p.RPH.Priority)
	case qspec.ExcessID:
		put("excess.treatment", uint8(p.Excess.Treatment))
		put("excess.remark", p.Excess.Remark)
	case qspec.PHBClassID:
		put("phb", uint16(p.PHB))
	case qspec.DSTEClassID:
		put("dste", p.DSTE)
	case qspec.Y1541ClassID:
		put("y1541", p.Y1541)
	case qspec.TMODExtID:
		put("peakbucket", p.PeakBucket)
	case qspec.RestorationID:
		put("restore.priority", p.Restoration.Priority)
		put("restore.ttr", p.Restoration.TimeToRestore)
		put("restore.eor", p.Restoration.Extent)
	case qspec.EgressID:
		border(p.Egress)
	case qspec.IngressID:
		border(p.Ingress)
	case qspec.AbsoluteTimeID:
		for _, x := range p.Absolute {
			put("time.start", x.Start)
			put("time.end", x.End)
		}
	case qspec.RelativeTimeID:
		put("when.kind", uint8(p.Relative.Kind))
		put("when.days", p.Relative.Days)
		put("when.utc_offset", p.Relative.UTCOffset)
		put("when.start", p.Relative.Start)
		put("when.duration", p.Relative.Duration)
	default:
		t.Fatalf("the test knows no parameter %v", id)
	}
}

// same compares two values of a field; tshark prints six digits or so of a
// floating-point number.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && strings.ContainsAny(a+b, ".e") && math.Abs(x-y) <= 1e-5*math.Abs(x)
}

// compare says whether both decoders say the same of a frame.
func compare(t *testing.T, frame string, names []string, ours, theirs values) (compared int) {
	t.Helper()
	for _, n := range names {
		a, b := ours[n], theirs[n]
		switch {
		case strings.HasSuffix(n, ".malformed"):
			// Objects beside the one that is wrong may be read by one alone.
			if (len(a) > 0) != (len(b) > 0) {
				t.Errorf("frame %s: %s: qnectl %d times, tshark %q", frame, n, len(a), b)
			}
		case n == "gist.magic":
		case len(ours["qspec.malformed"]) > 0 && strings.HasPrefix(n, "qspec."):
		case len(ours["gist.malformed"]) > 0 && (strings.HasPrefix(n, "gist.mri.") || n == "gist.octets"):
		case !slices.EqualFunc(a, b, same):
			t.Errorf("frame %s: %s: qnectl %q, tshark %q", frame, n, a, b)
		default:
			compared += len(a)
		}
	}
	for n := range ours {
		if !slices.Contains(names, n) {
			t.Errorf("frame %s: qnectl has %s, the dissector has no such field", frame, n)
		}
	}
	return compared
}

// Every field of every message in the captures of testdata, our own and those of
// an independent implementation, is the same to both decoders.
func TestDissectorAgreesWithDecode(t *testing.T) {
	names := fields(t)
	total := map[string]bool{}
	files, err := filepath.Glob("../../testdata/captures/*.pcap")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	vectors, err := filepath.Glob("../../gist/wire/testdata/vectors/*.pcap")
	if err != nil || len(vectors) != 4 {
		t.Fatal(vectors, err)
	}
	files = append(files, vectors...)
	files = append(files, everything(t))
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ours, theirs := []string{file}, []string{"-2", "-r", file}
			if keys := strings.TrimSuffix(file, ".pcap") + ".keys"; exists(keys) {
				ours = append(ours, "--keylog", keys)
				theirs = append(theirs, "-o", "tls.keylog_file:"+keys)
			}
			if strings.HasSuffix(file, "reserve.pcap") {
				ours = append(ours, "--port", "10270")
				theirs = append(theirs, "-o", "gist.port:10270")
			}
			a, b := decoded(t, ours), dissected(t, names, theirs)
			compared := 0
			for frame, v := range a {
				compared += compare(t, frame, names, v, b[frame])
				for n := range v {
					total[n] = true
				}
			}
			for frame, v := range b {
				if a[frame] == nil {
					t.Errorf("frame %s: tshark has %v, qnectl nothing", frame, v)
				}
			}
			t.Logf("%d frames, %d values", len(a), compared)
			if compared < 100 {
				t.Errorf("%d values compared, want hundreds", compared)
			}
		})
	}
	var unseen []string
	for _, n := range names {
		if !total[n] {
			unseen = append(unseen, n)
		}
	}
	if want := []string{"gist.magic"}; !slices.Equal(unseen, want) { // JSON does not tell the magic number
		t.Errorf("fields that no capture has: %v, want %v", unseen, want)
	}
}

// As plugins the files are loaded by their names, each once more than gist.lua
// loads them.
func TestAsPlugins(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed: nobody else reads our messages here")
	}
	home := t.TempDir()
	plugins := filepath.Join(home, ".local/lib/wireshark/plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(plugins, file), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("tshark", "-r", "../../testdata/captures/dmode-ipv6.pcap", "-T", "fields", "-e", "gist.type", "-e", "nslp.rii")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if want := "0\t\n1\t\n2\t\n3\t51966\n3\t51966\n"; err != nil || string(out) != want || strings.Contains(errs.String(), ".lua") {
		t.Errorf("%v, %q, want %q\n%s", err, out, want, errs.String())
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
