package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/interqos/interqos/api"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// RFC 5974 §3.2.7: "two scoping flags limit the part of the path on which state is
// installed"; what of it cannot be is refused before anything is sent.
func TestScopeFlags(t *testing.T) {
	const next = api.Scope_SCOPE_NEXT_HOP
	for _, c := range []struct {
		r    *api.ReserveRequest
		want uint16
		err  string
	}{
		{r: &api.ReserveRequest{}},
		{r: &api.ReserveRequest{Scope: api.Scope_SCOPE_WHOLE_PATH, OppositeSessionId: "x"}},
		{r: &api.ReserveRequest{Scope: next}, want: nslpwire.Scoping},
		{r: &api.ReserveRequest{Proxy: true}, want: nslpwire.Proxy},
		{r: &api.ReserveRequest{Proxy: true, ReceiverInitiated: true}, want: nslpwire.Proxy},
		{r: &api.ReserveRequest{Scope: 3}, err: "scope 3, expected whole path (1) or next hop (2)"},
		{r: &api.ReserveRequest{Scope: next, Proxy: true}, err: "give one of the two"},
		{r: &api.ReserveRequest{Scope: next, ReceiverInitiated: true}, err: "to invite a P-QNE ask for proxy"},
		{r: &api.ReserveRequest{Scope: next, OppositeSessionId: "x"}, err: "leave scope and proxy out"},
		{r: &api.ReserveRequest{Proxy: true, OppositeSessionId: "x"}, err: "leave scope and proxy out"},
	} {
		got, err := scopeFlags(c.r)
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%v: %#x, %v, want %#x", c.r, got, err, c.want)
		case c.err != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%v: %v, want %s", c.r, err, c.err)
		case c.err == "":
			if s, proxy := apiScope(got); (s == next) != (c.r.GetScope() == next) || proxy != c.r.GetProxy() {
				t.Errorf("%v: told as %v, proxy %t", c.r, s, proxy)
			}
		}
	}
}
