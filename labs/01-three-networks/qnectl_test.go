package three_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/interqos/interqos/api"
)

// update writes what the tools answered into the page.
var update = os.Getenv("UPDATE_QNECTL_PAGE") != ""

// clock is a time of day, of which the page shows some.
var clock = regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ`)

// TestQnectlPage types what docs/qnectl.md shows of the three networks, in its order,
// and compares what comes back.
func TestQnectlPage(t *testing.T) {
	w := start(t)
	w.ready()
	const page = "../../docs/qnectl.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	same := func(s string) string { return normal(clock.ReplaceAllString(s, "CLOCK")) }
	run := 0
	blocks := regexp.MustCompile("(?s)```console lab\n(.*?)```")
	changed := blocks.ReplaceAllStringFunc(string(text), func(b string) string {
		var out strings.Builder
		out.WriteString("```console lab\n")
		for _, part := range strings.Split("\n"+blocks.FindStringSubmatch(b)[1], "\n$ ")[1:] {
			command, want, _ := strings.Cut(part, "\n")
			cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
			cmd.Dir = w.dir
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "INTERQOS_SOCKET=unix:as65001.sock")
			got, err := cmd.CombinedOutput()
			if err != nil {
				got = fmt.Appendf(got, "%v\n", err)
			}
			if run++; !update && same(string(got)) != same(want) {
				t.Errorf("$ %s\n%s\nthe page has\n%s", command, got, want)
			}
			fmt.Fprintf(&out, "$ %s\n%s", command, got)
		}
		out.WriteString("```")
		return out.String()
	})
	if run < 5 {
		t.Errorf("the page has %d commands to run", run)
	}
	if update {
		if err := os.WriteFile(page, []byte(changed), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// Between real processes: a booking's policer is at the gateway in its interval and at
// no other time, a receiver-initiated reservation is released by the receiver's AS, and
// who watches sees the one and the other.
func TestBookingReceiverAndWatch(t *testing.T) {
	w := start(t)
	w.ready()
	ctx := t.Context()

	r := request(0)
	r.Times = "when=in/2s/3s"
	out, err := w.Nodes[0].Reserve(ctx, r)
	if err != nil || !out.Accepted {
		t.Fatalf("booking: %v, %v", out, err)
	}
	seen := watching(t, w, 0, out.SessionId)
	w.policers(1)
	w.policers(0)
	if last := <-seen; !last.GetGone() {
		t.Errorf("the last event of the booking is %v", last)
	}
	w.stand(0)

	r = request(1)
	r.ReceiverInitiated = true
	if out, err = w.Nodes[0].Reserve(ctx, r); err != nil || !out.Accepted || out.GrantedRate != flowRate {
		t.Fatalf("by the receiver: %v, %v", out, err)
	}
	w.stand(1)
	seen = watching(t, w, 0, out.SessionId)
	if o, err := w.Nodes[0].Release(ctx, &api.ReleaseRequest{SessionId: out.SessionId}); err == nil {
		t.Errorf("the sender's AS has released it: %v", o)
	}
	changed, err := w.Nodes[2].Modify(ctx, &api.ModifyRequest{SessionId: out.SessionId, Rate: 2 * flowRate})
	if err != nil || !changed.Accepted || changed.GrantedRate != 2*flowRate {
		t.Errorf("the receiver's AS changes it: %v, %v", changed, err)
	}
	if o, err := w.Nodes[2].Release(ctx, &api.ReleaseRequest{SessionId: out.SessionId}); err != nil || !o.Accepted {
		t.Fatalf("the receiver's AS releases it: %v, %v", o, err)
	}
	if last := <-seen; !last.GetGone() {
		t.Errorf("the last event is %v", last)
	}
	w.until("everything to be gone", func(ctx context.Context) error {
		for i, n := range w.Nodes {
			st, err := n.Admin.Status(ctx, &api.StatusRequest{})
			if err != nil {
				return err
			}
			if st.Nslp.Sessions != 0 || st.Ledger.Committed != 0 || st.Store.Records != 0 {
				return fmt.Errorf("AS%d: %v %v", i+65001, st.Nslp, st.Ledger)
			}
		}
		return nil
	})
}

// Between real processes: a reservation of the next hop's scope has no part in the AS
// beyond, and keeps its scope through a change. RFC 5974 §5.1.1
func TestScope(t *testing.T) {
	w := start(t)
	w.ready()
	ctx := t.Context()
	beyond := func() uint64 {
		t.Helper()
		st, err := w.Nodes[2].Admin.Status(ctx, &api.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return st.Nslp.Sessions
	}
	r := request(0)
	r.Scope = api.Scope_SCOPE_NEXT_HOP
	out, err := w.Nodes[0].Reserve(ctx, r)
	if err != nil || !out.Accepted || out.Scope != r.Scope || len(out.Domains) != 2 {
		t.Fatalf("scoped: %v, %v", out, err)
	}
	changed, err := w.Nodes[0].Modify(ctx, &api.ModifyRequest{SessionId: out.SessionId, Rate: 2 * flowRate})
	if err != nil || !changed.Accepted || changed.Scope != r.Scope || changed.GrantedRate != 2*flowRate || len(changed.Domains) != 2 {
		t.Errorf("changed: %v, %v", changed, err)
	}
	r = request(0)
	r.SessionId = out.SessionId
	if o, err := w.Nodes[0].Reserve(ctx, r); err == nil || !strings.Contains(err.Error(), "was made with scope next hop") {
		t.Errorf("its scope is changed: %v, %v", o, err)
	}
	r.Proxy, r.Scope = true, api.Scope_SCOPE_NEXT_HOP
	if o, err := w.Nodes[0].Reserve(ctx, r); err == nil || !strings.Contains(err.Error(), "give one of the two") {
		t.Errorf("scope and proxy: %v, %v", o, err)
	}
	if n := beyond(); n != 0 {
		t.Errorf("AS65003 has %d sessions", n)
	}
	w.release(out.SessionId)
	r = request(1)
	r.Proxy = true // nobody is one
	if out, err = w.Nodes[0].Reserve(ctx, r); err != nil || !out.Accepted || !out.Proxy || len(out.Domains) != 3 || beyond() != 1 {
		t.Errorf("proxy: %v, %v", out, err)
	}
}

// watching watches a reservation, and hands over the last event when it is over.
func watching(t *testing.T, w *world, i int, sid string) <-chan *api.WatchEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	stream, err := w.Nodes[i].ReservationServiceClient.Watch(ctx, &api.WatchRequest{SessionId: sid})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetReservation().GetSessionId() != sid {
		cancel()
		t.Fatalf("the first event: %v, %v", first, err)
	}
	last := make(chan *api.WatchEvent, 1)
	go func() {
		defer cancel()
		var ev *api.WatchEvent
		for {
			next, err := stream.Recv()
			if err != nil {
				last <- ev
				return
			}
			ev = next
		}
	}()
	return last
}
