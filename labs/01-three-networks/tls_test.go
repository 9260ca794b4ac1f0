package three_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/pki"
)

// Certificates between real processes: who has a wrong one is refused with a
// clear word on both sides while others go on, and all of it is mended, and
// replaced, by reloads without a restart. RFC 5971 §4.4.2, §5.7.3;
// interdomain-qosm §4
func TestCertificates(t *testing.T) {
	w := start(t, quick)
	dir := filepath.Join(w.dir, "pki")
	first := w.reserve(0)
	w.tls()
	w.release(first)

	// AS65002 wants another name than AS65001's certificate has.
	transit := filepath.Join(w.dir, "as65002.yaml")
	text, err := os.ReadFile(transit)
	if err != nil {
		t.Fatal(err)
	}
	named := strings.Replace(string(text), "qnes: [127.1.0.1]", "qnes: [127.1.0.1], names: [somebody.else]", 1)
	w.write(transit, named)
	w.reload(1, "edges.to-as65001.neighbor.names")
	w.refusedAndOthersGoOn(100, "as65002", "not-authorised", "as65001", "association-refused")
	w.write(transit, string(text))
	w.reload(1, "edges.to-as65001.neighbor.names")
	w.mended(200)

	// AS65001 starts with a certificate of an authority that nobody knows.
	foreign, err := pki.NewCA(pki.CAOptions{Name: "nobody's"})
	if err != nil {
		t.Fatal(err)
	}
	mine := []string{pki.CertFile(dir, "as65001"), pki.KeyFile(dir, "as65001")}
	var saved [][]byte
	for _, f := range mine {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		saved = append(saved, b)
	}
	p, err := foreign.Issue(pki.Request{Name: "as65001", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1")}})
	if err == nil {
		err = p.Replace(dir, "as65001")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.kill("as65001")
	w.revive("as65001")
	w.ready()
	w.refusedAndOthersGoOn(300, "as65002", "not-authenticated", "as65001", "not-authenticated")
	for i, f := range mine {
		w.write(f, string(saved[i]))
	}
	w.reload(0, "gist.tls")
	w.mended(400)

	// What peers would refuse does not come into force.
	if p, err = foreign.Issue(pki.Request{Name: "as65001", AS: 65009}); err == nil {
		err = p.Replace(dir, "as65001")
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Nodes[0].Admin.Reload(t.Context(), &api.ReloadRequest{}); err == nil || !strings.Contains(err.Error(), "it is of AS65009, expected AS65001") {
		t.Errorf("a certificate of another AS is reloaded: %v", err)
	}
	for i, f := range mine {
		w.write(f, string(saved[i]))
	}

	// A new authority: first both are trusted, then the certificates are its
	// own, then the old one goes, and its associations with it.
	if _, err := pki.Rotate(dir, pki.CAOptions{}); err != nil {
		t.Fatal(err)
	}
	w.reloadAll("gist.tls")
	w.mended(500)
	if _, err := pki.Renew(dir, []string{"as65001", "as65002", "as65003"}, 0, 0, time.Now); err != nil {
		t.Fatal(err)
	}
	w.reloadAll("gist.tls")
	w.mended(600)
	if _, err := pki.Finish(dir, time.Now(), false); err != nil {
		t.Fatal(err)
	}
	w.reloadAll("gist.tls")
	w.mended(700)

	w.stand(0)
}

func (w *world) write(file, text string) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// reload wants a network to bring exactly this into force.
func (w *world) reload(i int, applied ...string) {
	w.t.Helper()
	r, err := w.Nodes[i].Admin.Reload(w.t.Context(), &api.ReloadRequest{})
	if err != nil || !slices.Equal(r.Applied, applied) || len(r.NeedsRestart) != 0 {
		w.t.Fatalf("AS%d reloaded %v, %v; expected %v", w.Nodes[i].AS, r, err, applied)
	}
}

func (w *world) reloadAll(applied ...string) {
	w.t.Helper()
	for i := range w.Nodes {
		w.reload(i, applied...)
	}
}

// tls wants every message of a session's own to have gone over TLS.
func (w *world) tls() {
	w.t.Helper()
	list, err := w.Nodes[0].List(w.t.Context(), &api.ListReservationsRequest{})
	if err != nil || len(list.Reservations) != 1 {
		w.t.Fatalf("%v, %v", list, err)
	}
	for _, n := range w.Nodes {
		tr, err := n.Admin.Trace(w.t.Context(), &api.TraceRequest{SessionId: list.Reservations[0].SessionId})
		if err != nil || len(tr.Events) == 0 {
			w.t.Fatalf("AS%d: %v, %v", n.AS, tr, err)
		}
		for _, e := range tr.Events {
			if e.Layer == "QoS-NSLP" && e.Transport != "tls" {
				w.t.Errorf("AS%d sent %s by %s", n.AS, e.Message, e.Transport)
			}
		}
	}
}

// refusedAndOthersGoOn wants AS65001's reservations to fail over its
// association, with a line in the logs of both, and AS65002's own to be made.
func (w *world) refusedAndOthersGoOn(i int, who, what, other, hears string) {
	w.t.Helper()
	r := request(i)
	r.Timeout = durationpb.New(patience)
	if out, err := w.Nodes[0].Reserve(w.t.Context(), r); err == nil && out.Accepted {
		w.t.Fatalf("reservation %d was made: %v", i, out)
	}
	for name, kind := range map[string]string{who: what, other: hears} {
		w.until(fmt.Sprintf("%s to say %s", name, kind), func(context.Context) error {
			if !strings.Contains(w.Tail(name, 1000), "kind="+kind) {
				return errors.New("it does not")
			}
			return nil
		})
	}
	r = request(i + 1)
	r.Source = "10.2.0.10"
	out, err := w.Nodes[1].Reserve(w.t.Context(), r)
	if err != nil || !out.Accepted {
		w.t.Fatalf("AS65002's own reservation: %v, %v", out, err)
	}
	if out, err := w.Nodes[1].Release(w.t.Context(), &api.ReleaseRequest{SessionId: out.SessionId}); err != nil || !out.Accepted {
		w.t.Fatalf("AS65002's own reservation not released: %v, %v", out, err)
	}
}

// mended wants reservations through all three to be made again.
func (w *world) mended(i int) {
	w.t.Helper()
	w.until(fmt.Sprintf("reservation %d", i), func(ctx context.Context) error {
		i++
		out, err := w.Nodes[0].Reserve(ctx, request(i))
		if err == nil && !out.Accepted {
			err = fmt.Errorf("refused: %v", out)
		}
		if err == nil {
			_, err = w.Nodes[0].Release(ctx, &api.ReleaseRequest{SessionId: out.SessionId})
		}
		return err
	})
}
