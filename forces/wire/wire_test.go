package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

const (
	ce ID = 0x40000001
	fe ID = 0x00000002
)

func header(t MessageType, from, to ID, correlator uint64, f Flags) Header {
	return Header{Type: t, Source: from, Destination: to, Correlator: correlator, Flags: f}
}

func sel(class, instance uint32, ops ...Operation) LFBSelect {
	return LFBSelect{Class: class, Instance: instance, Operations: ops}
}

func op(t OperType, paths ...PathData) Operation { return Operation{Type: t, Paths: paths} }

func path(ids ...uint32) PathData { return PathData{IDs: ids} }

func (p PathData) full(b ...byte) PathData {
	p.Data, p.Full = FullData, b
	if b == nil {
		p.Full = []byte{}
	}
	return p
}

func (p PathData) sparse(v ...ILV) PathData { p.Data, p.Sparse = SparseData, v; return p }
func (p PathData) result(r Result) PathData { p.Data, p.Result = ResultData, &r; return p }
func (p PathData) key(id uint32, b ...byte) PathData {
	p.Key = &Key{ID: id, Data: b}
	return p
}
func (p PathData) rows(from, to uint32) PathData { p.Range = &TableRange{from, to}; return p }
func (p PathData) under(list ...PathData) PathData {
	p.Paths = list
	return p
}

// samples has every message type, operation, kind of data and selector.
func samples() []Message {
	always := Flags{ACK: AlwaysACK, Priority: 7, Mode: ExecuteAllOrNone}
	commit := Flags{ACK: AlwaysACK, Priority: 4, Mode: ExecuteAllOrNone, Atomic: true, Phase: EndOfTransaction}
	return []Message{
		{Header: header(AssociationSetup, 0, ce, 1, Flags{Priority: 7})}, // wants an FE ID
		{
			Header: header(AssociationSetup, fe, ce, 2, Flags{Priority: 7}), // RFC 5810 §7.5.1 figure 24
			Select: []LFBSelect{
				sel(FEObject, CoreInstance),
				sel(FEProtocol, CoreInstance, op(Report, path(2).full(0, 0, 0, 2), path(7).full(0, 0, 1, 0xf4))),
			},
		},
		{Header: header(AssociationSetupResponse, ce, fe, 2, Flags{Priority: 7}), Result: SetupPermissionDenied},
		{Header: header(AssociationTeardown, fe, ce, 0, Flags{Priority: 7}), Reason: TeardownUnspecified},
		{
			Header: header(Config, ce, fe, 3, always), // RFC 5810 appendix D, examples 2, 4, 11, 13, 14
			Select: []LFBSelect{sel(70000, 5,
				op(Set, path(2).full(0, 0, 0, 10)),
				op(Set, path(4).under(path(0).full(1, 2, 3, 4, 5, 6, 7, 8), path(2).full('o', 'd', 'd'))),
				op(Set, path(3).key(1, 0, 0, 0, 10).under(path(2).full(0, 0, 0, 20))),
				op(Set, path(8, 1).sparse(ILV{1, []byte{1, 2}}, ILV{3, []byte("string")})),
				op(SetProp, path(60, 1).sparse(ILV{1, []byte{1}})),
				op(Del, path(4).key(1, 0, 0, 0, 100, 0, 0, 0, 200), path(4).rows(3, 9)),
			), sel(70001, 1, op(Del, path(1, 7)))},
		},
		{
			Header: header(Config, ce, AllFEs, 4, Flags{ACK: FailureACK, Priority: 1, Mode: ContinueExecuteOnFailure}),
			Select: []LFBSelect{sel(70000, 1, op(Set, path(2).full()))},
		},
		{
			Header: header(Config, ce, 0xc0000001, 5, commit),
			Select: []LFBSelect{sel(FEProtocol, 1, Operation{Type: Commit})},
		},
		{
			Header: header(Config, ce, fe, 6, Flags{Mode: ExecuteUntilFailure, Atomic: true, Phase: MiddleOfTransaction}),
			Select: []LFBSelect{sel(FEProtocol, 1, Operation{Type: TRComp})},
		},
		{
			Header: header(ConfigResponse, fe, ce, 3, Flags{Priority: 7}),
			Select: []LFBSelect{sel(70000, 5,
				op(SetResponse, path(2).result(Result{}), path(4).under(
					path(0).result(Result{Code: EReadOnly}),
					path(2).result(Result{HasData: true, Data: []byte{9, 9, 9}}))),
				op(SetPropResponse, path(60, 1).result(Result{Code: EUnspecifiedError})),
				op(DelResponse, path(4, 15).result(Result{Code: 0x104, Extended: true, Data: []byte("not a table")}),
					path(4).result(Result{Code: EEmpty, Extended: true})),
			), sel(FEProtocol, 1, Operation{Type: CommitResponse, Result: &Result{Code: EInternalError}})},
		},
		{
			Header: header(Query, ce, fe, 1<<63|7, Flags{Priority: 1}), // examples 1, 16
			Select: []LFBSelect{sel(FEObject, 1,
				op(Get, path(1), path(7, 10, 2).key(1, 0, 0, 0, 10).under(path(2)), path(6).rows(0, 0xffffffff), path()),
				op(GetProp, path(2)))},
		},
		{
			Header: header(QueryResponse, fe, ce, 1<<63|7, Flags{Priority: 1}),
			Select: []LFBSelect{sel(FEObject, 1,
				op(GetResponse, path(1).full(0, 0, 0, 1), path(5).sparse(ILV{ID: 0, Value: []byte{}}),
					path(7, 10, 2).key(1, 0, 0, 0, 10).result(Result{Code: EComponentDoesNotExist})),
				op(GetPropResponse, path(2).full(0, 0, 0, 3)))},
		},
		{
			Header: header(EventNotification, fe, ce, 0, Flags{Priority: 2}),
			Select: []LFBSelect{sel(70000, 5, op(Report, path(60, 1).full(0, 0, 0, 3)), op(Report, path(60, 2), path(60, 3).sparse(ILV{1, []byte{4}})))},
		},
		{
			Header: header(PacketRedirect, fe, ce, 0, Flags{Priority: 0}),
			Redirect: []Redirect{
				{Metadata: []ILV{{1, []byte{0, 0, 0, 9}}, {2, []byte{5}}}, HasPacket: true, Packet: []byte("a PPPoE frame")},
				{Metadata: []ILV{{3, []byte{}}}},
				{HasPacket: true, Packet: []byte{}},
			},
		},
		{Header: header(Heartbeat, ce, fe, 9, Flags{ACK: AlwaysACK, Priority: 3})},
		{Header: header(Heartbeat, fe, All, 0, Flags{})},
	}
}

func encode(t testing.TB, m Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatalf("%v: %v", m.Type, err)
	}
	return b
}

// RFC 5810 §7.5 to §7.10: what is written is read again; the samples miss no
// type, no operation and no kind of data.
func TestEveryMessageComesBack(t *testing.T) {
	types, opers, kinds := map[MessageType]bool{}, map[OperType]bool{}, map[DataKind]bool{}
	var visit func([]PathData)
	visit = func(list []PathData) {
		for _, p := range list {
			kinds[p.Data] = true
			visit(p.Paths)
		}
	}
	var d Decoder
	for _, m := range samples() {
		types[m.Type] = true
		for _, s := range m.Select {
			for _, o := range s.Operations {
				opers[o.Type] = true
				visit(o.Paths)
			}
		}
		prefix := []byte("kept")
		b, err := m.Append(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, prefix) || (len(b)-len(prefix))%4 != 0 {
			t.Fatalf("%v: % x", m.Type, b)
		}
		b = b[len(prefix):]
		for _, parse := range []func([]byte) (Message, error){Parse, d.Parse} {
			got, err := parse(b)
			if err != nil {
				t.Fatalf("%v: %v\n% x", m.Type, err, b)
			}
			if !reflect.DeepEqual(got, m) {
				t.Fatalf("got  %+v\nwant %+v", got, m)
			}
		}
		h, size, err := ParseHeader(b[:HeaderSize])
		if err != nil || h != m.Header || size != len(b) {
			t.Fatalf("%v: header %+v, %d octets, %v", m.Type, h, size, err)
		}
	}
	if len(types) != 10 || len(opers) != 14 || len(kinds) != 4 {
		t.Errorf("samples have %d message types, %d operations, %d kinds of data; want 10, 14, 4", len(types), len(opers), len(kinds))
	}
}

// octets removes all but hexadecimal digits.
func octets(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Messages put together by hand from the figures of RFC 5810 §6.1, §6.2, §7.1:
// a path with a key in an LFBselect among them. RFC 5810 §6.4.2, §7.1.2, §7.4
func TestOctets(t *testing.T) {
	for name, c := range map[string]struct {
		hex string
		m   Message
	}{
		"heartbeat: ACK 11, priority 101, EM 10, A 1, TP 11 (RFC 5810 §6.1)": {
			"10 0f 0006 40000001 00000002 0102030405060708 e8b80000",
			Message{Header: header(Heartbeat, ce, fe, 0x0102030405060708,
				Flags{ACK: AlwaysACK, Priority: 5, Mode: ExecuteUntilFailure, Atomic: true, Phase: AbortTransaction})},
		},
		"setup response (RFC 5810 §7.5.2)": {
			"10 11 0008 40000001 00000002 0000000000000001 00000000 0010 0008 00000001",
			Message{Header: header(AssociationSetupResponse, ce, fe, 1, Flags{}), Result: SetupFEIDInvalid},
		},
		"teardown (RFC 5810 §7.5.3)": {
			"10 02 0008 00000002 40000001 0000000000000000 08000000 0011 0008 00000001",
			Message{Header: header(AssociationTeardown, fe, ce, 0, Flags{Priority: 1}), Reason: TeardownHeartbeatsLost},
		},
		"set by key with an odd value (RFC 5810 §7.1.4, §7.1.5)": {
			`10 03 0016 40000001 00000002 0000000000000009 c0400000
			 1000 0040 00011170 00000005
			 0001 0034 0110 0030
			 8000 0001 00000003
			 0111 0010 00000001 0112 0008 0000000a
			 0110 0014 0000 0001 00000002 0112 0007 61626300`,
			Message{Header: header(Config, ce, fe, 9, Flags{ACK: AlwaysACK, Mode: ExecuteAllOrNone}), Select: []LFBSelect{sel(70000, 5,
				op(Set, path(3).key(1, 0, 0, 0, 10).under(path(2).full('a', 'b', 'c'))))}},
		},
		"delete a table range (RFC 7391 §3.1)": {
			`10 03 0010 40000001 00000002 0000000000000009 c0c00000
			 1000 0028 00011170 00000005
			 0005 001c 0110 0018 4000 0001 00000004 0117 000c 00000003 00000009`,
			Message{Header: header(Config, ce, fe, 9, Flags{ACK: AlwaysACK, Mode: ContinueExecuteOnFailure}),
				Select: []LFBSelect{sel(70000, 5, op(Del, path(4).rows(3, 9)))}},
		},
		"results (RFC 5810 §7.1.7, RFC 7391 §3.2.3)": {
			`10 13 001a 00000002 40000001 0000000000000009 00000000
			 1000 0050 00011170 00000001
			 0003 0038
			 0110 001c 0000 0001 00000001 0114 0010 0c000000 0112 0005 07000000
			 0110 0018 0000 0001 00000002 0118 000b 00000104 61626300
			 000d 000c 0114 0008 17000000`,
			Message{Header: header(ConfigResponse, fe, ce, 9, Flags{}), Select: []LFBSelect{sel(70000, 1,
				op(SetResponse, path(1).result(Result{Code: EReadOnly, HasData: true, Data: []byte{7}}),
					path(2).result(Result{Code: 0x104, Extended: true, Data: []byte("abc")})),
				Operation{Type: CommitResponse, Result: &Result{Code: EInternalError}})}},
		},
		"redirect with metadata (RFC 5810 §6.3, §7.9)": {
			`10 06 000d 00000002 40000001 0000000000000000 00000000
			 0001 001c 0115 0010 0000000a 00000009 01000000
			 0116 0006 abcd0000`,
			Message{Header: header(PacketRedirect, fe, ce, 0, Flags{}), Redirect: []Redirect{
				{Metadata: []ILV{{10, []byte{1}}}, HasPacket: true, Packet: []byte{0xab, 0xcd}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := octets(t, c.hex)
			if got := encode(t, c.m); !bytes.Equal(got, want) {
				t.Errorf("wrote\n% x, want\n% x", got, want)
			}
			m, err := Parse(want)
			if err != nil || !reflect.DeepEqual(m, c.m) {
				t.Errorf("read %+v, %v; want %+v", m, err, c.m)
			}
		})
	}
}

// What Append refuses: a message that Parse would refuse, or that does not fit.
func TestAppendRefuses(t *testing.T) {
	deep := path(1)
	for range MaxDepth {
		deep = path(1).under(deep)
	}
	query := func(p ...PathData) Message {
		return Message{Header: header(Query, ce, fe, 1, Flags{}), Select: []LFBSelect{sel(1, 1, op(Get, p...))}}
	}
	config := func(o ...Operation) Message {
		return Message{Header: header(Config, ce, fe, 1, Flags{}), Select: []LFBSelect{sel(1, 1, o...)}}
	}
	response := func(o ...Operation) Message {
		return Message{Header: header(ConfigResponse, fe, ce, 1, Flags{}), Select: []LFBSelect{sel(1, 1, o...)}}
	}
	big := bytes.Repeat([]byte{1}, 0xffff)
	many := Message{Header: header(PacketRedirect, fe, ce, 0, Flags{})}
	for range 5 {
		many.Redirect = append(many.Redirect, Redirect{HasPacket: true, Packet: big[:65000]})
	}
	for name, c := range map[string]struct {
		m    Message
		code ResultCode
	}{
		"type":               {Message{Header: header(0x7f, ce, fe, 0, Flags{})}, EInvalidMessageType},
		"broadcast source":   {Message{Header: header(Heartbeat, AllFEs, ce, 0, Flags{})}, EInvalidHeader},
		"reserved source":    {Message{Header: header(Heartbeat, 0x80000000, ce, 0, Flags{})}, EInvalidHeader},
		"reserved target":    {Message{Header: header(Heartbeat, ce, 0xfffffff0, 0, Flags{})}, EInvalidDestinationPID},
		"teardown's cookie":  {Message{Header: header(AssociationTeardown, fe, ce, 1, Flags{})}, EInvalidHeader},
		"priority":           {Message{Header: header(Heartbeat, ce, fe, 0, Flags{Priority: 8})}, EInvalidFlags},
		"no body":            {Message{Header: header(Config, ce, fe, 0, Flags{})}, EInvalidTLV},
		"no operation":       {config(), EInvalidTLV},
		"body of another":    {Message{Header: header(Heartbeat, ce, fe, 0, Flags{}), Select: []LFBSelect{sel(1, 1)}}, EInvalidTLV},
		"redirect elsewhere": {Message{Header: header(Heartbeat, ce, fe, 0, Flags{}), Redirect: []Redirect{{HasPacket: true}}}, EInvalidTLV},
		"empty redirect":     {Message{Header: header(PacketRedirect, ce, fe, 0, Flags{}), Redirect: []Redirect{{}}}, EInvalidTLV},
		"hidden packet":      {Message{Header: header(PacketRedirect, ce, fe, 0, Flags{}), Redirect: []Redirect{{Metadata: []ILV{{1, nil}}, Packet: big[:1]}}}, EInvalidTLV},
		"three selects":      {Message{Header: header(AssociationSetup, fe, ce, 0, Flags{}), Select: []LFBSelect{sel(1, 1), sel(2, 1), sel(2, 1)}}, EInvalidTLV},
		"setup's class":      {Message{Header: header(AssociationSetup, fe, ce, 0, Flags{}), Select: []LFBSelect{sel(3, 1)}}, EInvalidTLV},
		"two events' places": {Message{Header: header(EventNotification, fe, ce, 0, Flags{}), Select: []LFBSelect{sel(3, 1, op(Report, path(1))), sel(3, 1, op(Report, path(1)))}}, EInvalidTLV},
		"get in config":      {config(op(Get, path(1))), EInvalidTLV},
		"set without data":   {config(op(Set, path(1))), EInvalidTLV},
		"set without path":   {config(op(Set)), EInvalidTLV},
		"set with result":    {config(op(Set, path(1).result(Result{}))), EInvalidTLV},
		"commit with path":   {config(op(Commit, path(1))), EInvalidTLV},
		"get with data":      {query(path(1).full(1)), EInvalidTLV},
		"response with data": {response(op(SetResponse, path(1).full(1))), EInvalidTLV},
		"commit-response":    {response(op(CommitResponse)), EInvalidTLV},
		"result 0x100":       {response(op(SetResponse, path(1).result(Result{Code: 0x100}))), EInvalidTLV},
		"result's data":      {response(op(SetResponse, path(1).result(Result{Data: big[:1]}))), EInvalidTLV},
		"data and paths":     {config(op(Set, path(1).full(1).under(path(2).full(1)))), EInvalidTLV},
		"unsaid data":        {query(PathData{IDs: []uint32{1}, Full: big[:1]}), EInvalidTLV},
		"range in set":       {config(op(Set, path(1).rows(1, 2).full(1))), EInvalidTFlags},
		"range in response":  {response(op(DelResponse, path(1).rows(1, 2).result(Result{}))), EInvalidTFlags},
		"range in range":     {query(path(1).rows(1, 2).under(path(2).under(path(3).rows(1, 2)))), EInvalidTFlags},
		"range and key":      {query(path(1).rows(1, 2).key(1, 1)), EInvalidTFlags},
		"range backwards":    {query(path(1).rows(2, 1)), EInvalidParameters},
		"IDs":                {query(path(make([]uint32, MaxIDs+1)...)), EInvalidPath},
		"depth":              {query(deep), EInvalidPath},
		"parts":              {query(make([]PathData, MaxNodes-1)...), EMemoryError},
		"TLV's size":         {config(op(Set, path(1).full(big...))), EContentsTooLong},
		"message's size":     {many, EContentsTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := c.m.Append([]byte("kept"))
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code {
				t.Fatalf("%v, want %v", err, c.code)
			}
			if string(b) != "kept" {
				t.Errorf("%d octets are left in the buffer", len(b))
			}
		})
	}
}

// What Parse refuses, with the result that goes back.
func TestParseRefuses(t *testing.T) {
	head := "10 %s 40000001 00000002 0000000000000009 00000000 "
	h := func(typeAndLength string) string { return strings.Replace(head, "%s", typeAndLength, 1) }
	for name, c := range map[string]struct {
		hex    string
		code   ResultCode
		offset int
	}{
		"short header":      {"10 0f 0006 40000001", ELengthMismatch, 8},
		"version":           {"20 0f 0006 40000001 00000002 0000000000000009 00000000", EVersionMismatch, 0},
		"type":              {h("10 0006"), EInvalidMessageType, 1},
		"length below":      {h("0f 0005"), ELengthMismatch, 2},
		"length above":      {h("0f 0007"), ELengthMismatch, 2},
		"broadcast source":  {"10 0f 0006 ffffffff 00000002 0000000000000009 00000000", EInvalidHeader, 4},
		"reserved target":   {"10 0f 0006 40000001 80000002 0000000000000009 00000000", EInvalidDestinationPID, 8},
		"heartbeat's body":  {h("0f 0007") + "00000000", EInvalidTLV, 24},
		"no ASResult":       {h("11 0006"), EInvalidTLV, 24},
		"ASResult's size":   {h("11 0007") + "0010 0004", EInvalidTLV, 24},
		"two ASResults":     {h("11 000a") + "0010 0008 00000000 0010 0008 00000000", EInvalidTLV, 32},
		"TLV length 3":      {h("04 0007") + "1000 0003", EInvalidTLV, 26},
		"TLV length 5":      {h("04 0007") + "1000 0005", EInvalidTLV, 26},
		"not an LFBselect":  {h("04 0007") + "1001 0004", EInvalidTLV, 24},
		"LFBselect's size":  {h("04 0008") + "1000 0008 00000001", EInvalidTLV, 24},
		"unknown operation": {h("04 000a") + "1000 0010 00000001 00000001 000f 0004", EInvalidTLV, -1},
		"not a path":        {h("04 000b") + "1000 0014 00000001 00000001 0007 0008 0112 0004", EInvalidTLV, 40},
		"path's size":       {h("04 000b") + "1000 0014 00000001 00000001 0007 0008 0110 0004", EInvalidTLV, 40},
		"IDcount":           {h("04 000d") + "1000 001c 00000001 00000001 0007 0010 0110 000c 0000 0002 00000001", EInvalidPath, 46},
		"IDcount of 65535":  {h("04 000d") + "1000 001c 00000001 00000001 0007 0010 0110 000c 0000 ffff 00000001", EInvalidPath, 46},
		"key is missing":    {h("04 000d") + "1000 001c 00000001 00000001 0007 0010 0110 000c 8000 0001 00000001", EInvalidTLV, 52},
		"key unannounced":   {h("04 000f") + "1000 0024 00000001 00000001 0007 0018 0110 0014 0000 0001 00000001 0111 0008 00000001", EInvalidTLV, 52},
		"key without data":  {h("04 000f") + "1000 0024 00000001 00000001 0007 0018 0110 0014 8000 0001 00000001 0111 0008 00000001", EInvalidTLV, 60},
		"both selectors":    {h("04 000d") + "1000 001c 00000001 00000001 0007 0010 0110 000c c000 0001 00000001", EInvalidTFlags, 44},
		"range's size":      {h("04 000f") + "1000 0024 00000001 00000001 0007 0018 0110 0014 4000 0001 00000001 0117 0008 00000001", EInvalidTLV, 52},
		"two data":          {h("03 000f") + "1000 0024 00000001 00000001 0001 0018 0110 0014 0000 0001 00000001 0112 0004 0112 0004", EInvalidTLV, 56},
		"ILV's length 7":    {h("03 0010") + "1000 0028 00000001 00000001 0001 001c 0110 0018 0000 0001 00000001 0113 000c 00000001 00000007", EInvalidTLV, 60},
		"ILV's length 2^32": {h("03 0010") + "1000 0028 00000001 00000001 0001 001c 0110 0018 0000 0001 00000001 0113 000c 00000001 ffffffff", EInvalidTLV, 60},
		"commit's body":     {h("03 000b") + "1000 0014 00000001 00000001 000c 0008 00000000", EInvalidTLV, 36},
		"result's size":     {h("13 000e") + "1000 0020 00000001 00000001 0003 0014 0110 0010 0000 0001 00000001 0114 0004", EInvalidTLV, 52},
		"no redirect":       {h("06 0006"), EInvalidTLV, -1},
		"redirect's order":  {h("06 0009") + "0001 000c 0116 0004 0115 0004", EInvalidTLV, 32},
		"two metadata":      {h("06 0009") + "0001 000c 0115 0004 0115 0004", EInvalidTLV, 32},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(octets(t, c.hex))
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code || e.Offset != c.offset {
				t.Fatalf("%v, want %v at octet %d", err, c.code, c.offset)
			}
			if !strings.Contains(err.Error(), c.code.String()) {
				t.Errorf("%q does not say %v", err, c.code)
			}
		})
	}
}

// What a receiver has to ignore: reserved bits of header and path, padding, the
// correlator of a teardown; and padding of the last TLV that is not counted.
// RFC 5810 §6.1, §6.2, §7.5.3
func TestIgnored(t *testing.T) {
	b := encode(t, Message{Header: header(Config, ce, fe, 1, Flags{Mode: ExecuteAllOrNone}), Select: []LFBSelect{sel(1, 1, op(Set, path(2).full(1, 2, 3)))}})
	want, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	dirty := bytes.Clone(b)
	dirty[0] |= 0x0f
	dirty[20] |= 0x07
	dirty[22], dirty[23] = 0xff, 0xff
	dirty[45] |= 0x3f
	dirty[len(dirty)-1] = 0xaa
	if got, err := Parse(dirty); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	short := bytes.Clone(b)
	for _, at := range []int{26, 38, 42} { // LFBselect, SET, PATH-DATA end where the FULLDATA's value does
		short[at+1]--
	}
	if bytes.Equal(short, b) {
		t.Fatal("nothing changed")
	}
	if got, err := Parse(short); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	down := encode(t, Message{Header: header(AssociationTeardown, fe, ce, 0, Flags{})})
	down[19] = 7
	if got, err := Parse(down); err != nil || got.Correlator != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A message cut anywhere is refused before its body is looked at.
func TestTruncated(t *testing.T) {
	for _, m := range samples() {
		b := encode(t, m)
		for n := range len(b) {
			var e *Error
			if _, err := Parse(b[:n:n]); !errors.As(err, &e) || e.Code != ELengthMismatch {
				t.Fatalf("%v, %d of %d octets: %v", m.Type, n, len(b), err)
			}
		}
	}
}

// RFC 5810 §6.1: type switch.
func TestIDKind(t *testing.T) {
	for id, want := range map[ID]IDKind{
		0: FEID, 0x3fffffff: FEID, 0x40000000: CEID, 0x7fffffff: CEID, 0x80000000: ReservedID, 0xbfffffff: ReservedID,
		0xc0000000: MulticastID, 0xffffffef: MulticastID, 0xfffffff0: ReservedID, 0xfffffffc: ReservedID,
		AllCEs: BroadcastID, AllFEs: BroadcastID, All: BroadcastID,
	} {
		if got := id.Kind(); got != want {
			t.Errorf("%v: %d, want %d", id, got, want)
		}
	}
}

// RFC 5810 §7.1.6: a request's response is allowed in the response message.
func TestResponses(t *testing.T) {
	for o := Set; o <= TRComp; o++ {
		r, ok := o.Response()
		want := Config.allows(o) && o != TRComp || Query.allows(o)
		if ok != want || ok && (!ConfigResponse.allows(r) && !QueryResponse.allows(r) || r.String() != o.String()+"-RESPONSE") {
			t.Errorf("%v is answered by %v, %v", o, r, ok)
		}
	}
	if ResultCode(0x42).String() != "result 0x42" || OperType(0).String() != "operation 0x0000" || MessageType(9).String() != "message type 0x09" {
		t.Error("unknown values have names")
	}
}

// RFC 5810 §7.1.8 and appendix C, example 4: data inside data.
func TestNestedData(t *testing.T) {
	row := AppendILV(AppendILV(nil, ILV{1, []byte{0, 7}}), ILV{2, []byte("b")})
	table := AppendILV(AppendILV(nil, ILV{10, row}), ILV{15, row})
	for _, index := range []uint32{10, 15} {
		var v ILV
		var err error
		if v, table, err = CutILV(table); err != nil || v.ID != index || !bytes.Equal(v.Value, row) {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if len(table) != 0 {
		t.Errorf("%d octets are left", len(table))
	}
	b, err := AppendFullData([]byte{1}, []byte("abcde"))
	if want := octets(t, "01 0112 0009 6162636465 000000"); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("% x, %v, want % x", b, err, want)
	}
	value, rest, err := CutFullData(append(b[1:], 0xff))
	if err != nil || string(value) != "abcde" || !bytes.Equal(rest, []byte{0xff}) {
		t.Errorf("%q, % x, %v", value, rest, err)
	}
	if _, err := AppendFullData(nil, make([]byte, 0xffff)); err == nil {
		t.Error("65,535 octets fit into a TLV with its head")
	}
	for _, bad := range []string{"", "0112", "0113 0004", "0112 0009 61"} {
		if _, _, err := CutFullData(octets(t, bad)); err == nil {
			t.Errorf("%q is a FULLDATA-TLV", bad)
		}
		if _, _, err := CutILV(octets(t, bad)); err == nil {
			t.Errorf("%q is an ILV", bad)
		}
	}
}
