package interdomain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"slices"
	"testing"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/qosnslp/wire"
)

func recordKey(as uint32) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(as)}, ed25519.SeedSize))
}

func recordKeys(as, keyID uint32) (crypto.PublicKey, bool) {
	if keyID != 1 {
		return nil, false
	}
	return recordKey(as).Public(), true
}

// signWith appends a record signed with a key under id 1.
func signWith(t testing.TB, list []byte, r wire.DomainRecord, id uint32, key crypto.Signer) []byte {
	t.Helper()
	list, err := SignRecord(list, r, recordSID, 9, &RecordSigner{KeyID: id, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var recordSID = gistwire.SID{1, 2, 3}

// threeRecords is what the initiator gets when the last of three refuses.
func threeRecords(t testing.TB) []byte {
	t.Helper()
	var list []byte
	for _, r := range []wire.DomainRecord{
		{AS: 65003, Verdict: wire.VerdictRefused, Class: wire.ClassQoSModelError, Code: 65, SLSID: "sls-7", Largest: 1.25e6},
		{AS: 65002, Verdict: wire.VerdictReleased, Micros: 300},
		{AS: 65001, Verdict: wire.VerdictReleased},
	} {
		list = signWith(t, list, r, 1, recordKey(r.AS))
	}
	return list
}

func trustOf(t testing.TB, list []byte, sid gistwire.SID, rii uint32) []RecordTrust {
	t.Helper()
	records, trust, err := VerifyRecords(list, sid, rii, recordKeys)
	if err != nil || len(records) != len(trust) {
		t.Fatalf("%d records, %d judged, %v", len(records), len(trust), err)
	}
	return trust
}

// interdomain-qosm §7: "signature … over SID, RII, this record, and the hash of
// the record before it in the list".
func TestRecordsAreProved(t *testing.T) {
	list := threeRecords(t)
	all := []RecordTrust{RecordProved, RecordProved, RecordProved}
	if got := trustOf(t, list, recordSID, 9); !slices.Equal(got, all) {
		t.Fatalf("%v", got)
	}
	bad := []RecordTrust{RecordBad, RecordBad, RecordBad}
	if got := trustOf(t, list, gistwire.SID{}, 9); !slices.Equal(got, bad) {
		t.Errorf("another session: %v", got)
	}
	if got := trustOf(t, list, recordSID, 10); !slices.Equal(got, bad) {
		t.Errorf("another request: %v", got)
	}
}

// Whatever octet changes, some signature breaks or the list does not parse.
func TestRecordsRefuseEveryChange(t *testing.T) {
	list := threeRecords(t)
	for i := range list {
		b := bytes.Clone(list)
		b[i] ^= 1 << (i % 8)
		_, trust, err := VerifyRecords(b, recordSID, 9, recordKeys)
		if err == nil && !slices.ContainsFunc(trust, func(x RecordTrust) bool { return x != RecordProved }) {
			t.Fatalf("octet %d changed, and all is proved", i)
		}
	}
}

// A record that is dropped, or moved, breaks the signature of the one after it.
func TestRecordsRefuseAChangedOrder(t *testing.T) {
	raw, err := wire.SplitDomainRecords(threeRecords(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		order []int
		want  []RecordTrust
	}{
		{[]int{0, 1}, []RecordTrust{RecordProved, RecordProved}}, // the end can be cut off
		{[]int{1, 2}, []RecordTrust{RecordBad, RecordProved}},
		{[]int{0, 2}, []RecordTrust{RecordProved, RecordBad}},
		{[]int{1, 0, 2}, []RecordTrust{RecordBad, RecordBad, RecordBad}},
	} {
		var list []byte
		for _, i := range c.order {
			list = append(list, raw[i]...)
		}
		if got := trustOf(t, list, recordSID, 9); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.order, got, c.want)
		}
	}
}

func TestRecordsOfOtherKinds(t *testing.T) {
	list, err := wire.AppendDomainRecord(nil, wire.DomainRecord{AS: 65003, Verdict: wire.VerdictCommitted})
	if err != nil {
		t.Fatal(err)
	}
	list = signWith(t, list, wire.DomainRecord{AS: 65002}, 2, recordKey(65002))
	list = signWith(t, list, wire.DomainRecord{AS: 65001}, 1, recordKey(65009))
	want := []RecordTrust{RecordUnsigned, RecordUnknownKey, RecordBad}
	if got := trustOf(t, list, recordSID, 9); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	sign := func(list []byte, id uint32, key crypto.Signer) error {
		before := bytes.Clone(list)
		out, err := SignRecord(list, wire.DomainRecord{}, recordSID, 9, &RecordSigner{KeyID: id, Key: key})
		if err != nil && !bytes.Equal(out, before) {
			t.Error("an error, and another list")
		}
		return err
	}
	if sign(list, 0, recordKey(1)) == nil {
		t.Error("signed with key id 0")
	}
	if sign(list[:9], 1, recordKey(1)) == nil {
		t.Error("a broken list was signed on")
	}
	if _, _, err := VerifyRecords(list[:9], recordSID, 9, recordKeys); err == nil {
		t.Error("a broken list was read")
	}
	for _, key := range []crypto.Signer{ecdsaKey(t, elliptic.P224()), rsaKey(t, 1024)} {
		if sign(list, 1, key) == nil {
			t.Errorf("signed with %T that is too weak", key)
		}
	}
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Every kind of key that a certificate may have signs and verifies, in the
// length that interdomain-qosm §7 gives, the same each time; and no octet of the
// list can change.
func TestRecordsWithEveryKindOfKey(t *testing.T) {
	for name, c := range map[string]struct {
		key    crypto.Signer
		length int
	}{
		"Ed25519": {recordKey(1), 64}, "P-256": {ecdsaKey(t, elliptic.P256()), 64}, "P-384": {ecdsaKey(t, elliptic.P384()), 96},
		"P-521": {ecdsaKey(t, elliptic.P521()), 132}, "RSA": {rsaKey(t, 2048), 256},
	} {
		keys := func(uint32, uint32) (crypto.PublicKey, bool) { return c.key.Public(), true }
		one := signWith(t, nil, wire.DomainRecord{AS: 65003, Verdict: wire.VerdictCommitted}, 1, c.key)
		list := signWith(t, bytes.Clone(one), wire.DomainRecord{AS: 65002, SLSID: "gold"}, 1, c.key)
		records, trust, err := VerifyRecords(list, recordSID, 9, keys)
		if err != nil || !slices.Equal(trust, []RecordTrust{RecordProved, RecordProved}) || len(records[0].Signature) != c.length {
			t.Fatalf("%s: %v, %v", name, trust, err)
		}
		if again := signWith(t, nil, wire.DomainRecord{AS: 65003, Verdict: wire.VerdictCommitted}, 1, c.key); !bytes.Equal(one, again) {
			t.Errorf("%s: two signatures of one record differ", name)
		}
		for i := range list {
			b := bytes.Clone(list)
			b[i] ^= 1 << (i % 8)
			_, trust, err := VerifyRecords(b, recordSID, 9, recordKeysOnly(keys))
			if err == nil && !slices.ContainsFunc(trust, func(x RecordTrust) bool { return x != RecordProved }) {
				t.Fatalf("%s: octet %d changed, and all is proved", name, i)
			}
		}
	}
}

// recordKeysOnly knows keys under id 1 alone.
func recordKeysOnly(keys RecordKeys) RecordKeys {
	return func(as, id uint32) (crypto.PublicKey, bool) {
		if id != 1 {
			return nil, false
		}
		return keys(as, id)
	}
}

// A certificate's key id is of its key, and never 0.
func TestRecordKeyID(t *testing.T) {
	if a, b := RecordKeyID([]byte{1}), RecordKeyID([]byte{2}); a != 0x4bf5122f || a == b {
		t.Errorf("%08x, %08x", a, b)
	}
}

// A record is signed for the RII of the RESERVE: of one without there is nothing
// to tie it to, and a stranger makes nobody work.
func TestWhoGetsASignature(t *testing.T) {
	for name, c := range map[string]struct {
		upstream qosnslp.Peer
		hasRII   bool
		want     RecordTrust
	}{
		"a neighbour": {65001, true, RecordProved}, "our own application": {qosnslp.Local, true, RecordProved},
		"no RII": {65001, false, RecordUnsigned}, "a stranger": {qosnslp.Stranger, true, RecordUnsigned},
	} {
		w := newWorld(t)
		w.m.SetRecordSigner(&RecordSigner{KeyID: 1, Key: recordKey(65002)})
		w.do(Asked{qosnslp.Question{Ticket: 1, Kind: qosnslp.Admit, SID: recordSID, RSN: 1, Upstream: c.upstream,
			Message: &wire.Message{Type: wire.Reserve, HasRII: c.hasRII, RII: 9}}}) // without a QSPEC: refused
		if len(w.answers) != 1 || w.answers[0].Accept || len(w.answers[0].Extra) != 1 {
			t.Fatalf("%s: %+v", name, w.answers)
		}
		if got := trustOf(t, w.answers[0].Extra[0].Value, recordSID, 9); !slices.Equal(got, []RecordTrust{c.want}) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What this node says to its own application only may be signed later, by whoever
// shows it; what goes to a neighbour may not.
func TestOwnRecordsAreSignedLater(t *testing.T) {
	for upstream, want := range map[qosnslp.Peer]RecordTrust{65001: RecordProved, qosnslp.Local: RecordUnsigned} {
		w := newWorld(t)
		with := &RecordSigner{KeyID: 1, Key: recordKey(65002)}
		w.m.cfg.OwnLater = true
		w.m.SetRecordSigner(with)
		w.do(Asked{qosnslp.Question{Ticket: 1, Kind: qosnslp.Admit, SID: recordSID, RSN: 1, Upstream: upstream,
			Message: &wire.Message{Type: wire.Reserve, HasRII: true, RII: 9}}})
		list := w.answers[0].Extra[0].Value
		if got := trustOf(t, list, recordSID, 9); !slices.Equal(got, []RecordTrust{want}) {
			t.Fatalf("upstream %d: %v, want %v", upstream, got, want)
		}
		list, err := SignAppended(list, 0, 65002, recordSID, 9, with)
		if err != nil {
			t.Fatal(err)
		}
		if got := trustOf(t, list, recordSID, 9); !slices.Equal(got, []RecordTrust{RecordProved}) {
			t.Fatalf("upstream %d, later: %v", upstream, got)
		}
	}
}

// Only what this AS has appended itself gets its signature: nothing that others
// have written in its name.
func TestSignAppended(t *testing.T) {
	with := &RecordSigner{KeyID: 1, Key: recordKey(65001)}
	unsigned := func(list []byte, as uint32) []byte {
		list, err := wire.AppendDomainRecord(slices.Clip(list), wire.DomainRecord{AS: as, Verdict: wire.VerdictCommitted, SLSID: "an SLS"})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	received := signWith(t, nil, wire.DomainRecord{AS: 65002}, 1, recordKey(65002))
	forged := unsigned(received, 65001)
	for name, c := range map[string]struct {
		list     []byte
		received int
		want     []RecordTrust
	}{
		"nothing":              {nil, 0, []RecordTrust{}},
		"ours alone":           {unsigned(nil, 65001), 0, []RecordTrust{RecordProved}},
		"ours at the end":      {unsigned(received, 65001), len(received), []RecordTrust{RecordProved, RecordProved}},
		"nothing of ours":      {received, len(received), []RecordTrust{RecordProved}},
		"forged, none added":   {forged, len(forged), []RecordTrust{RecordProved, RecordUnsigned}},
		"forged, ours added":   {unsigned(forged, 65001), len(forged), []RecordTrust{RecordProved, RecordUnsigned, RecordProved}},
		"of another AS":        {unsigned(received, 65003), len(received), []RecordTrust{RecordProved, RecordUnsigned}},
		"signed already":       {signWith(t, received, wire.DomainRecord{AS: 65001}, 1, with.Key), len(received), []RecordTrust{RecordProved, RecordProved}},
		"two more":             {unsigned(forged, 65001), len(received), []RecordTrust{RecordProved, RecordUnsigned, RecordUnsigned}},
		"cut since it came":    {received, len(received) + 4, []RecordTrust{RecordProved}},
		"received was no list": {forged, len(received) + 1, nil},
	} {
		before := bytes.Clone(c.list)
		got, err := SignAppended(c.list, c.received, 65001, recordSID, 9, with)
		if !bytes.Equal(c.list, before) {
			t.Errorf("%s: written to", name)
		}
		if c.want == nil {
			if err == nil || !bytes.Equal(got, before) {
				t.Errorf("%s: %v, %x", name, err, got)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if trust := trustOf(t, got, recordSID, 9); !slices.Equal(trust, c.want) {
			t.Errorf("%s: %v, want %v", name, trust, c.want)
		}
	}
}

// Signing costs what the key's own algorithm does, and two allocations: the list
// and the message.
func TestSignRecordAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	list := threeRecords(t)
	for name, key := range map[string]crypto.Signer{"Ed25519": recordKey(65001), "P-256": ecdsaKey(t, elliptic.P256())} {
		with, digest := &RecordSigner{KeyID: 1, Key: key}, make([]byte, 32)
		hash := crypto.Hash(0)
		if name == "P-256" {
			hash = crypto.SHA256
		}
		alone := testing.AllocsPerRun(200, func() {
			key.Public()
			_, _ = key.Sign(nil, digest, hash)
		})
		got := testing.AllocsPerRun(200, func() {
			if _, err := SignRecord(slices.Clip(list), wire.DomainRecord{AS: 65001, SLSID: "as65001-as65002"}, recordSID, 9, with); err != nil {
				t.Fatal(err)
			}
		})
		if got > alone+2 {
			t.Errorf("%s: %v allocations, %v of them the key's", name, got, alone)
		}
	}
}

func FuzzVerifyRecords(f *testing.F) {
	list := threeRecords(f)
	f.Add(list)
	f.Add(list[:len(list)/2])
	signed, err := wire.SplitDomainRecords(list)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		records, trust, err := VerifyRecords(b, recordSID, 9, recordKeys)
		if err != nil {
			if records != nil || trust != nil {
				t.Fatal("refused, and something read")
			}
			return
		}
		raw, err := wire.SplitDomainRecords(b)
		if err != nil || len(raw) != len(records) || len(raw) != len(trust) {
			t.Fatalf("%d records, %d judged, %d split: %v", len(records), len(trust), len(raw), err)
		}
		for i := range trust {
			// Without the keys the fuzzer has only what was signed.
			if trust[i] == RecordProved && !slices.ContainsFunc(signed, func(x []byte) bool { return bytes.Equal(x, raw[i]) }) {
				t.Fatalf("forged %x", raw[i])
			}
		}
	})
}

func BenchmarkSignRecord(b *testing.B) {
	with := &RecordSigner{KeyID: 1, Key: ecdsaKey(b, elliptic.P256())}
	list := signWith(b, nil, wire.DomainRecord{AS: 65003, Verdict: wire.VerdictCommitted}, 1, with.Key)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := SignRecord(list[:len(list):len(list)], wire.DomainRecord{AS: 65002}, recordSID, 9, with); err != nil {
			b.Fatal(err)
		}
	}
}

// answersWith is a signer of P-256 that gives the same answer to everything.
type answersWith struct {
	crypto.Signer
	answer []byte
}

func (a answersWith) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return a.answer, nil }

// What a key's owner (a PKCS #11 module, say) gives us is not trusted to be a
// signature, and the list is as before where it is none.
func TestSignersThatAnswerNonsense(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	der := func(r, s []byte) []byte {
		b := append([]byte{2, byte(len(r))}, r...)
		b = append(append(b, 2, byte(len(s))), s...)
		return append([]byte{0x30, byte(len(b))}, b...)
	}
	long := append([]byte{1}, make([]byte, 32)...)
	for name, answer := range map[string][]byte{
		"nothing": nil, "no sequence": {2, 1, 1}, "one number": {0x30, 3, 2, 1, 1}, "negative": der([]byte{0x80}, []byte{1}),
		"too long": der(long, []byte{1}), "more": append(der([]byte{1}, []byte{2}), 0),
	} {
		got, err := SignRecord([]byte{}, wire.DomainRecord{AS: 65001}, recordSID, 9, &RecordSigner{KeyID: 1, Key: answersWith{key, answer}})
		if err == nil || len(got) != 0 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	list, err := SignRecord(nil, wire.DomainRecord{AS: 65001}, recordSID, 9, &RecordSigner{KeyID: 1, Key: answersWith{key, der([]byte{1}, []byte{2})}})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 64)
	want[31], want[63] = 1, 2
	if got := list[len(list)-64:]; !bytes.Equal(got, want) {
		t.Errorf("short numbers: %x, want %x", got, want)
	}
	ed := answersWith{recordKey(65001), []byte{1, 2, 3, 4}}
	if _, err := SignRecord(nil, wire.DomainRecord{AS: 65001}, recordSID, 9, &RecordSigner{KeyID: 1, Key: ed}); err == nil {
		t.Error("an Ed25519 signature of four octets")
	}
}
