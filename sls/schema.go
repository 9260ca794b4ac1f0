package sls

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The model in the two languages in which others describe such things: a JSON
// Schema, for editors and for checks of YAML and JSON before they are applied,
// and a YANG module, for those who manage by it (interdomain-qosm §5). Both are
// written from one table, so that they say the same; what they cannot say, such
// as that valid.to comes after valid.from, Normalize checks.

// kind is the type of a key: what a schema and what a module say of it.
type kind struct {
	json map[string]any
	yang string        // the type's statements
	data func(any) any // from JSON's value to that of RFC 7951; nil: the same
}

// key is one key of the outward form.
type key struct {
	name, about string
	kind        kind
	needed      bool
	most        int    // elements of a list; 0: not said
	list        bool   // of kind, or of mappings with keys
	any         bool   // the word any may stand for it; YANG leaves it out then
	unique      string // in a list of mappings, the key that tells them apart
	keys        []key  // of a mapping
	must        []must // what YANG says of it beyond its type
	noYANG      bool   // has only one value
}

// must is a condition as XPath, and what is wrong if it does not hold.
type must struct{ xpath, message string }

type object = map[string]any

func textual(pattern string) object { return object{"type": "string", "pattern": pattern} }

// scalars is a text of a form, or a number, which YAML makes of some texts.
func scalars(pattern string) object { return numbers(object{"type": "number", "minimum": 0}, pattern) }

// numbers is a number, which may stand in quotes.
func numbers(number object, pattern string) object {
	return object{"anyOf": []any{number, textual(pattern)}}
}

func words(names []string) object { return object{"enum": names} }

func enumeration(names []string) string {
	var b strings.Builder
	b.WriteString("type enumeration {\n")
	for _, n := range names {
		fmt.Fprintf(&b, "  enum %q;\n", n)
	}
	b.WriteString("}")
	return b.String()
}

// What the readers of package strictyaml and units take. A schema need not find
// every error, but it must not find one where there is none.
const (
	ratePattern     = `^\s*[0-9]+(\.[0-9]+)? *[kKMGT]?( *(bit/s|bps|b/s))?\s*$`
	sizePattern     = `^\s*[0-9]+(\.[0-9]+)? *([kKMGT]|[kKMGT]i)?( *B)?\s*$`
	durationPattern = `^[+-]?(0|([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$`
	instantPattern  = `^([0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{1,2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?$`
	clockPattern    = `^[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,]0+)?)?$`
	addressPattern  = `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$`
	prefixPattern   = `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)(/[0-9]{1,3})?$`
)

var (
	kindID = kind{
		json: scalars(fmt.Sprintf(`^[A-Za-z0-9._-]{1,%d}$`, maxID)),
		yang: fmt.Sprintf("type string {\n  length \"1..%d\";\n  pattern '[A-Za-z0-9._\\-]+';\n}", maxID),
	}
	kindText  = kind{json: object{"type": []any{"string", "number", "boolean", "null"}}, yang: "type string;"}
	kindEmpty = kind{json: object{"enum": []any{"", nil}}, yang: "type string {\n  length \"0\";\n}"}
	kindAS    = kind{
		json: numbers(object{"type": "integer", "minimum": 1, "maximum": 4294967294, "not": object{"enum": []any{23456, 65535}}}, `^[0-9]+$`),
		yang: "type uint32 {\n  range \"1..23455|23457..65534|65536..4294967294\";\n}",
	}
	kindCount   = kind{json: numbers(object{"type": "integer", "minimum": 0, "maximum": 4294967295}, `^\+?[0-9]+$`), yang: "type uint32;"}
	kindInstant = kind{json: object{"anyOf": []any{textual(instantPattern), object{"type": "null"}}}, yang: "type yang:date-and-time;"}
	kindAddress = kind{json: textual(addressPattern), yang: "type inet:ip-address-no-zone;"}
	kindPrefix  = kind{json: textual(prefixPattern), yang: "type inet:ip-prefix;"}
	kindFlag    = kind{json: object{"anyOf": []any{object{"type": "boolean"}, words([]string{"true", "false"})}}, yang: "type boolean;"}
	kindRate    = kind{json: scalars(ratePattern), yang: "type uint64;\nunits \"bit/s\";", data: long}
	kindSize    = kind{json: scalars(sizePattern), yang: "type uint64;\nunits \"octets\";", data: long}
	kindBound   = kind{
		json: textual(durationPattern), data: decimalSeconds,
		yang: "type decimal64 {\n  fraction-digits 9;\n  range \"0..max\";\n}\nunits \"seconds\";",
	}
	kindLength = kind{json: textual(durationPattern), yang: "type uint32 {\n  range \"1..604800\";\n}\nunits \"seconds\";", data: wholeSeconds}
	kindClock  = kind{json: textual(clockPattern), yang: "type string {\n  pattern '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]';\n}"}
	kindZone   = kind{json: textual(`^[^ ]+$`), yang: "type string;"}
	kindLoss   = kind{
		json: numbers(object{"type": "number", "minimum": 0, "maximum": 1}, `^[^ ]+$`), data: decimal(18),
		yang: "type decimal64 {\n  fraction-digits 18;\n  range \"0..1\";\n}",
	}
	kindFactor = kind{
		json: numbers(object{"type": "number", "minimum": 0.01, "maximum": maxFactor}, `^[^ ]+$`), data: decimal(15),
		yang: fmt.Sprintf("type decimal64 {\n  fraction-digits 15;\n  range \"0.01..%d\";\n}", maxFactor),
	}
	kindPriority = kind{json: numbers(object{"type": "integer", "minimum": 0, "maximum": 7}, `^[0-7](\.\.[0-7])?$`), yang: "type uint8 {\n  range \"0..7\";\n}"}
	kindDay      = kind{json: words(dayRanges()), yang: enumeration(dayNames)}
	kindClass    = kind{
		json: object{"anyOf": []any{classText(), object{"type": "integer", "minimum": 0, "maximum": 63}}}, data: nameOrNumber,
		yang: "type union {\n  " + strings.ReplaceAll(enumeration(standardClasses()), "\n", "\n  ") + "\n  type uint8 {\n    range \"0..63\";\n  }\n}",
	}
)

func wordKind(names []string) kind { return kind{json: words(names), yang: enumeration(names)} }

// dayRanges are all that can stand in a list of days.
func dayRanges() []string {
	all := slices.Clone(dayNames)
	for i, first := range dayNames {
		for _, last := range dayNames[i:] {
			all = append(all, first+".."+last)
		}
	}
	return all
}

func standardClasses() []string {
	var all []string
	for _, n := range classNames {
		if n != "" {
			all = append(all, n)
		}
	}
	return all
}

// classText takes a class's name in any case, as ParseClass does, and offers
// the usual ones to an editor.
func classText() object {
	var forms []string
	for _, n := range append(standardClasses(), "CS0") {
		form := ""
		for _, r := range n {
			if r >= 'A' {
				form += fmt.Sprintf("[%c%c]", r, r|0x20)
			} else {
				form += string(r)
			}
		}
		forms = append(forms, form)
	}
	return object{"type": "string", "pattern": "^(" + strings.Join(forms, "|") + "|0*[1-5]?[0-9]|0*6[0-3])$", "examples": standardClasses()}
}

// modelKeys is the table. Descriptions are sentences without their full stop.
var modelKeys = []key{
	{name: "id", needed: true, kind: kindID, about: "The SLS's name, in this network and in answers to requests"},
	{name: "version", kind: kindCount, about: "Counts the changes, from 1; filled in, and ignored in what is applied"},
	{name: "changed_by", kind: kindText, about: "Who wrote this version; filled in, and ignored in what is applied"},
	{name: "changed_at", kind: kindInstant, about: "When this version was written; filled in, and ignored in what is applied"},
	{name: "changed_why", kind: kindText, about: "What they said about it; filled in, and ignored in what is applied"},
	{name: "customer", needed: true, kind: kindAS, about: "AS number of the network whose traffic leaves it"},
	{name: "provider", needed: true, kind: kindAS, about: "AS number of the network that the traffic enters",
		must: []must{{". != ../customer", "customer and provider are two networks"}}},
	{name: "direction", noYANG: true, kind: wordKind([]string{"to-provider"}), about: "Traffic goes from customer to provider; for the other direction write a second SLS with the two exchanged"},
	{name: "egress", any: true, kind: kindAddress, about: "The customer's border interface that it is bound to"},
	{name: "ingress", any: true, kind: kindAddress, about: "The provider's border interface that it is bound to"},
	{name: "scope", about: "Which traffic it is for", keys: []key{
		{name: "destinations", list: true, most: maxPrefixes, any: true, kind: kindPrefix, about: "Prefixes or addresses to which the traffic goes; none: any"},
		{name: "sources", list: true, most: maxPrefixes, any: true, kind: kindPrefix, about: "Prefixes or addresses from which it comes; none: any"},
	}},
	{name: "degree", kind: wordKind(degreeNames), about: "What one reservation may stand for: a flow between two addresses, or also prefixes"},
	{name: "classes", list: true, most: len(classNames), needed: true, unique: "class", about: "What is sold", keys: []key{
		{name: "class", needed: true, kind: kindClass, about: "The per-hop behaviour, or its DSCP"},
		{name: "relative", kind: kindFlag, about: "Sold without a rate; then no rates and no sizes",
			must: []must{{". = 'false' or not(../cir or ../pir or ../cbs or ../pbs or ../largest-flow)", "a relative class has neither rates nor sizes"}}},
		{name: "cir", kind: kindRate, about: "Committed information rate: the sum of what may be reserved, in bit/s"},
		{name: "cbs", kind: kindSize, about: "Committed burst size, in octets"},
		{name: "pir", kind: kindRate, about: "Peak information rate: the largest peak of one reservation, in bit/s; left out: the cir",
			must: []must{{". >= ../cir", "the pir is at least the cir"}}},
		{name: "pbs", kind: kindSize, about: "Peak burst size, in octets"},
		{name: "largest_flow", kind: kindRate, about: "The largest cir of one reservation, in bit/s; left out: the cir",
			must: []must{{". <= ../cir", "the largest flow is at most the cir"}}},
		{name: "excess", kind: wordKind(excessNames), about: "What happens to traffic beyond the profile"},
		{name: "excess_class", kind: kindClass, about: "With excess remark: the class that excess traffic gets",
			must: []must{{"../excess = 'remark'", "only with excess remark"}}},
		{name: "dscp_wire", kind: kindClass, about: "The mark between the two networks; left out: the class"},
		{name: "dscp_inside", kind: kindClass, about: "The mark inside the network that keeps this copy; left out: the class"},
		{name: "delay", kind: kindBound, about: "Bound on the delay"},
		{name: "jitter", kind: kindBound, about: "Bound on the jitter"},
		{name: "loss", kind: kindLoss, about: "Bound on the ratio of lost packets"},
	}},
	{name: "valid", about: "The agreement's validity", keys: []key{
		{name: "from", kind: kindInstant, about: "First second; RFC 3339, or a date, whose first second in time_zone it is"},
		{name: "to", kind: kindInstant, about: "The end, not included"},
	}},
	{name: "schedule", list: true, most: maxWindows, about: "When it sells, in windows that recur every week; none: always", keys: []key{
		{name: "days", list: true, needed: true, kind: kindDay, about: "Weekdays on which the window starts"},
		{name: "start", needed: true, kind: kindClock, about: "Time of day at which it starts, on the wall clock of time_zone"},
		{name: "duration", needed: true, kind: kindLength, about: "How long it lasts on the wall clock, at most a week"},
	}},
	{name: "time_zone", kind: kindZone, about: "Name of the time zone of schedule and of dates, as in Europe/Berlin; left out: UTC"},
	{name: "admission", about: "How the capacity is given out", keys: []key{
		{name: "oversubscription", kind: kindFactor, about: "Multiplies every cir"},
		{name: "priorities", list: true, kind: kindPriority, about: "Priorities that it takes, 0 to 7; left out: all"},
		{name: "preemption", kind: kindFlag, about: "Whether a request may displace what is reserved"},
		{name: "policy", kind: kindEmpty, about: "Has to be empty"},
	}},
	{name: "status", kind: wordKind(statusNames), about: "State in the lifecycle; only active admits, suspended keeps what is sold"},
}

// JSONSchema returns a JSON Schema (draft 7, which editors know) of what Parse
// reads: one document, an SLS or a list of them. It takes all that Parse takes.
func JSONSchema() []byte {
	one := schemaObject(modelKeys)
	one["title"] = "Service level specification"
	schema := object{
		"$schema": "http://json-schema.org/draft-07/schema#",
		"$id":     "https://github.com/interqos/interqos/schema/sls.json",
		"title":   "Service level specifications of interqos",
		"anyOf": []any{
			object{"$ref": "#/definitions/sls"},
			object{"type": "array", "items": object{"$ref": "#/definitions/sls"}},
			object{"type": "null"},
		},
		"definitions": object{"sls": one},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		panic(err) // texts and numbers
	}
	return b.Bytes()
}

func schemaObject(keys []key) object {
	properties, needed := object{}, []string{}
	for _, k := range keys {
		p := schemaOf(k)
		p["description"] = k.about
		properties[k.name] = p
		if k.needed {
			needed = append(needed, k.name)
		}
	}
	o := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(needed) > 0 {
		o["required"] = needed
	}
	return o
}

func schemaOf(k key) object {
	of := maps.Clone(k.kind.json)
	if k.keys != nil {
		of = schemaObject(k.keys)
	}
	if k.list {
		of = object{"type": "array", "items": of}
		if k.most > 0 {
			of["maxItems"] = k.most
		}
		if k.needed || k.kind.json != nil {
			of["minItems"] = 1
		}
	}
	switch {
	case k.any && k.list:
		only := object{"type": "array", "items": object{"const": "any"}, "minItems": 1, "maxItems": 1}
		return object{"anyOf": []any{object{"const": "any"}, only, of}}
	case k.any:
		return object{"anyOf": []any{object{"const": "any"}, of}}
	}
	return of
}
