package node

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/gist/transport"
)

func withIntercept(text string) []byte {
	return []byte("as: 1\nrouter_id: 1.1.1.1\ninsecure: true\nadmin: {listen: 'unix:/s'}\nstore: {path: /d}\ngist: {address: 1.1.1.1, intercept: " + text + "}\n")
}

func TestInterceptKeys(t *testing.T) {
	const nft, raw = transport.InterceptNFTables, transport.InterceptRaw
	const mark, forward = transport.DefaultMark, transport.DefaultForwardMark
	for text, want := range map[string]InterceptConfig{
		"{}":                             {Method: nft, Mark: mark, ForwardMark: forward},
		"{ip_version: 6, table: gist.2}": {Method: nft, IPv6: true, Table: "gist.2", Mark: mark, ForwardMark: forward},
		"{method: raw, ip_version: 4}":   {Method: raw, IPv4: true, Mark: mark, ForwardMark: forward},
		"{mark: 7, forward_mark: 8, route_table: 100, rule_priority: 50, rate: 1000, burst: 10}": {
			Method: nft, Mark: 7, ForwardMark: 8, RouteTable: 100, RulePriority: 50, Rate: 1000, Burst: 10,
		},
	} {
		c, err := Parse("q.yaml", withIntercept(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(*c.GIST.Intercept, want) {
			t.Errorf("%s: %+v, want %+v", text, *c.GIST.Intercept, want)
		}
	}
	for text, want := range map[string]string{
		"{methd: raw}":                 "did you mean method?",
		"{method: magic}":              `gist.intercept.method: found "magic", expected one of nftables, raw`,
		"{method: raw, ip_version: 6}": "4 with the raw method",
		"{ip_version: 5}":              "expected one of all, 4, 6",
		"{mark: 0}":                    "a packet mark, a whole number from 1 to 4294967295",
		"{mark: 9, forward_mark: 9}":   "gist.intercept.forward_mark: found 9, expected marks that differ",
		"{mark: 1769013250}":           "gist.intercept.mark: found 1769013250, expected marks that differ",
		"{table: 'a b'}":               "the name of an nftables table",
		"{rate: 0}":                    "packets per second",
		"[]":                           "a mapping, {} for the defaults",
	} {
		if _, err := Parse("q.yaml", withIntercept(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestInterceptChangesNeedARestart(t *testing.T) {
	parse := func(text string) *Config {
		c, err := Parse("q.yaml", withIntercept(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if d := Diff(parse("{rate: 10}"), parse("{rate: 10}")); !d.Empty() {
		t.Errorf("the same: %+v", d)
	}
	if d := Diff(parse("{rate: 10}"), parse("{rate: 20}")); !slices.Equal(d.Restart, []string{"gist.intercept"}) || len(d.Live) != 0 {
		t.Errorf("another rate: %+v", d)
	}
}
