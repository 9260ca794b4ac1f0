package three_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/pki"
)

// Between real processes every domain signs what it says with the key of its
// certificate, and who has the certificates of the others can tell: after a
// reload, and until they are renewed. interdomain-qosm §7
func TestRecordsAreProved(t *testing.T) {
	w := start(t, quick)
	want := func(i int, proofs ...api.Proof) {
		t.Helper()
		r := request(i)
		r.CheckRecords = true
		out, err := w.Nodes[0].Reserve(t.Context(), r)
		if err != nil || !out.Accepted {
			t.Fatalf("%v, %v", out, err)
		}
		var got []api.Proof
		for _, d := range out.Domains {
			got = append(got, d.Proof)
		}
		if !slices.Equal(got, proofs) {
			t.Errorf("reservation %d: %v, want %v", i, got, proofs)
		}
		w.release(out.SessionId)
	}
	const verified, unknown = api.Proof_PROOF_VERIFIED, api.Proof_PROOF_UNKNOWN_KEY
	want(0, verified, unknown, unknown)

	first := filepath.Join(w.dir, "as65001.yaml")
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	w.write(first, strings.TrimRight(string(text), "\n")+"\nauth: {records: {certificates: [pki/as65002.crt, pki/as65003.crt]}}\n")
	w.reload(0, "auth.records")
	want(1, verified, verified, verified)

	// AS65003 has a new certificate, and AS65001 the old one still.
	dir := filepath.Join(w.dir, "pki")
	old, err := os.ReadFile(pki.CertFile(dir, "as65003"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ReadCerts(pki.CertFile(dir, "as65003"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := pki.RequestOf(certs[0])
	if err != nil {
		t.Fatal(err)
	}
	again.Name = "as65003"
	p, err := ca.Issue(again)
	if err == nil {
		err = p.Replace(dir, "as65003")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.reload(2, "gist.tls")
	want(2, verified, verified, unknown)
	renewed, err := os.ReadFile(pki.CertFile(dir, "as65003"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(pki.CertFile(dir, "as65003"), string(old)+string(renewed))
	w.reload(0, "auth.records")
	want(3, verified, verified, verified)
	w.stand(0)
}
