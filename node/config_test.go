package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func exampleConfig(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/as65001.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLoad(t *testing.T) {
	got, err := Load("testdata/as65001.yaml")
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(1000), uint32(27)
	want := &Config{
		File: "testdata/as65001.yaml", AS: 65001, RouterID: netip.MustParseAddr("127.1.0.1"), Insecure: true,
		Log: LogConfig{Level: slog.LevelInfo, Format: "text"},
		Admin: AdminConfig{
			Listen: Listen{"unix", "testdata/run/qned.sock"},
			Allow:  []AllowConfig{{UID: &uid, Role: RoleOperate}, {GID: &gid, Role: RoleRead}},
		},
		Metrics: MetricsConfig{Listen{"tcp", "127.1.0.1:9400"}},
		Store:   StoreConfig{"testdata/as65001.db"},
		GIST: GISTConfig{
			Address: netip.MustParseAddr("127.1.0.1"), Port: 10270, TCPPort: 10270, Shards: 2,
			AssociationHoldTime: 90 * time.Second,
			Limits:              GISTLimits{RoutingStates: 100000, QueriesPerSecond: 50.5, DModePerSecond: 100_000},
			IngressFilter:       IngressStrict,
		},
		NSLP: NSLPConfig{RefreshPeriod: 30 * time.Second},
		BGP:  BGPConfig{ListenPort: 10179, Originate: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:1::/48")}},
		Edges: []EdgeConfig{{
			Name: "to-as65002", Internal: netip.MustParseAddr("127.1.0.2"), External: netip.MustParseAddr("127.1.2.1"),
			Neighbor: NeighborConfig{
				AS: 65002, Address: netip.MustParseAddr("127.2.1.1"), BGPPort: 10179,
				QNEs: []netip.Addr{netip.MustParseAddr("127.2.0.1")},
			},
			Discovery: DiscoveryRelay, IngressFilter: IngressLoose,
		}},
		Keys:        []KeyConfig{{ID: 12, AS: 65002, Name: "as65002-2026", Secret: Secret("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f")}},
		Intradomain: []DriverConfig{{Name: "pathdb", Path: "intradomain[0].pathdb"}},
	}
	opts := cmp.Options{
		cmpopts.IgnoreFields(DriverConfig{}, "Node"),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("unexpected configuration (-want +got):\n%s", diff)
	}
	var driver struct{ Nodes []string }
	if err := got.Intradomain[0].Node.Decode(&driver); err != nil || !slices.Equal(driver.Nodes, []string{"a", "b"}) {
		t.Errorf("the driver's part decodes as %v, %v", driver, err)
	}
}

func TestLoadDefaults(t *testing.T) {
	const least = "as: 1\nrouter_id: 1.1.1.1\ninsecure: true\nadmin: {listen: 'unix:/s'}\nstore: {path: /d}\ngist: {address: 1.1.1.1}\n"
	c, err := Parse("q.yaml", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File: "q.yaml", AS: 1, RouterID: netip.MustParseAddr("1.1.1.1"), Insecure: true, Log: LogConfig{Format: "text"},
		Admin: AdminConfig{Listen: Listen{"unix", "/s"}}, Store: StoreConfig{"/d"},
		GIST: GISTConfig{Address: netip.MustParseAddr("1.1.1.1"), Port: 270, TCPPort: 270, Limits: GISTLimits{DModePerSecond: 100_000}, IngressFilter: IngressStrict},
		BGP:  BGPConfig{ListenPort: 179},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

// Every wrong configuration is the example with one thing changed.
func TestConfigErrors(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"unknown key":              {"router_id:", "router-id:", "q.yaml:2:1: router_id: found nothing, expected the BGP identifier, an IPv4 address\nq.yaml:3:1: router-id: found an unknown key, expected one of as, router_id, insecure, log, admin, metrics, store, gist, nslp, bgp, edges, keys, auth, path, intradomain (did you mean router_id?)"},
		"unknown inner key":        {"bgp_port", "bgpport", "q.yaml:30:7: edges[0].neighbor.bgpport: found an unknown key, expected one of as, address, bgp_port, qnes, names (did you mean bgp_port?)"},
		"duplicate key":            {"metrics: {listen: 127.1.0.1:9400}", "as: 65001", "q.yaml:11:1: as: found the key a second time, expected it once (the first is in line 2)"},
		"duplicate inner":          {"shards: 2", "port: 10270", "q.yaml:16:3: gist.port: found the key a second time, expected it once (the first is in line 15)"},
		"AS with letters":          {"as: 65001", "as: AS65001", `q.yaml:2:5: as: found "AS65001", expected an AS number from 1 to 4294967294 (write 65001)`},
		"AS 0":                     {"as: 65001", "as: 0", `q.yaml:2:5: as: found "0", expected an AS number from 1 to 4294967294`},
		"AS_TRANS":                 {"as: 65001", "as: 23456", `q.yaml:2:5: as: found "23456", expected an AS number from 1 to 4294967294 (this one is reserved)`},
		"no AS":                    {"as: 65001\n", "", "q.yaml:2:1: as: found nothing, expected an AS number from 1 to 4294967294"},
		"empty value":              {"as: 65001", "as:", "q.yaml:2:4: as: found nothing, expected an AS number from 1 to 4294967294"},
		"router id v6":             {"router_id: 127.1.0.1", "router_id: '::1'", `q.yaml:3:12: router_id: found "::1", expected the BGP identifier, an IPv4 address`},
		"neither":                  {"insecure: true", "insecure: false", `q.yaml:14:3: gist.tls: found nothing, expected a mapping with certificate, key and ca (qnectl pki makes certificates; in a lab insecure: true does without)`},
		"TLS without a key":        {"shards: 2", "shards: 2\n  tls: {certificate: a.crt, ca: ca.crt}", "q.yaml:14:3: gist.plain_port: found nothing, expected a TCP port for associations without TLS, which insecure: true allows beside gist.tls\nq.yaml:17:8: gist.tls.key: found nothing, expected the certificate's key, a PEM file"},
		"TLS version":              {"shards: 2", "shards: 2\n  plain_port: 11000\n  tls: {certificate: a.crt, key: a.key, ca: ca.crt, min_version: 1.1}", `q.yaml:18:66: gist.tls.min_version: found "1.1", expected one of 1.3, 1.2 (did you mean 1.3?)`},
		"both, one port":           {"shards: 2", "shards: 2\n  plain_port: 10271\n  tls: {certificate: a.crt, key: a.key, ca: ca.crt}", `q.yaml:17:15: gist.plain_port: found "10271", expected ports apart from those from tcp_port 10270 on, one for each shard`},
		"plain port alone":         {"shards: 2", "shards: 2\n  plain_port: 10999", `q.yaml:17:15: gist.plain_port: found "10999", expected plain_port only with gist.tls and insecure: true (without one of them tcp_port is the only port)`},
		"name":                     {"bgp_port: 10179\n", "bgp_port: 10179\n      names: [qne.example, 'a b']\n", `q.yaml:31:28: edges[0].neighbor.names[1]: found "a b", expected a DNS name, perhaps with *. before it`},
		"not boolean":              {"insecure: true", "insecure: yes", `q.yaml:4:11: insecure: found "yes", expected true or false`},
		"log level":                {"level: info", "level: inof", `q.yaml:5:14: log.level: found "inof", expected one of debug, info, warn, error (did you mean info?)`},
		"admin over TCP":           {"unix:run/qned.sock", "127.0.0.1:99", `q.yaml:7:11: admin.listen: found "127.0.0.1:99", expected a Unix socket, unix:/path (for the API over TCP see admin.remote)`},
		"no admin":                 {"  listen: unix:run/qned.sock\n", "", "q.yaml:7:3: admin.listen: found nothing, expected a Unix socket such as unix:qned.sock, or admin.remote"},
		"allow whom":               {"{gid: 27, role: read}", "{role: read}", "q.yaml:10:7: admin.allow[1]: found neither uid nor gid, expected one of the two"},
		"role":                     {"role: operate", "role: write", `q.yaml:9:25: admin.allow[0].role: found "write", expected one of read, operate`},
		"metrics":                  {"127.1.0.1:9400", "9400", `q.yaml:11:19: metrics.listen: found "9400", expected where /metrics, /healthz and /readyz are served, host:port, e.g. 127.0.0.1:9400`},
		"store":                    {"store: {path: as65001.db}", "store: as65001.db", `q.yaml:12:8: store: found "as65001.db", expected a mapping with path`},
		"address and port":         {"address: 127.1.0.1\n", "address: 127.1.0.1:270\n", `q.yaml:14:12: gist.address: found "127.1.0.1:270", expected this QNE's own address, an IPv4 or IPv6 address (without the port: 127.1.0.1)`},
		"own address twice":        {"shards: 2", "shards: 2\n  addresses: ['fd00:1::1', 127.1.0.1]", `q.yaml:17:28: gist.addresses[1]: found "127.1.0.1", expected each of this QNE's addresses once (gist.address is one of them)`},
		"edge's own address":       {"shards: 2", "shards: 2\n  addresses: [127.1.0.2]", `q.yaml:26:15: edges[0].internal: found "127.1.0.2", expected an address of the edge's own (the QNE, or the edge's external side, has it too)`},
		"IPv6 peer, IPv4 alone":    {"[127.2.0.1]", "['fd00:2::1']", "q.yaml:31:13: edges[0].neighbor.qnes: found fd00:2::1, expected an address of an IP version that this QNE has (see gist.addresses)"},
		"IPv6 edge, IPv4 alone":    {"internal: 127.1.0.2", "internal: 'fd00:1::2'", `q.yaml:25:15: edges[0].internal: found "fd00:1::2", expected an address of an IP version that this QNE has (see gist.addresses)`},
		"peer of two versions":     {"[127.2.0.1]", "[127.2.0.1, 'fd00:2::1']", "q.yaml:31:13: edges[0].neighbor.qnes: found 127.2.0.1 and fd00:2::1, expected addresses of one IP version (the one in which this QNE is to be their peer)"},
		"port":                     {"port: 10270", "port: 70000", `q.yaml:15:9: gist.port: found "70000", expected a UDP port, a whole number from 1 to 65535`},
		"duration":                 {"90s", "90", `q.yaml:17:26: gist.association_hold_time: found "90", expected how long an idle messaging association is kept, a duration from 1s to 24h, e.g. 500ms, 30s, 5m, 1h30m (which unit? 90s?)`},
		"rate of zero":             {"50.5", "0", `q.yaml:18:56: gist.limits.queries_per_second: found "0", expected the mean rate of Queries per neighbour, a number above 0`},
		"host bits":                {"10.1.0.0/16", "10.1.0.10/16", `q.yaml:22:15: bgp.originate[0]: found "10.1.0.10/16", expected a prefix of this AS, a prefix such as 10.3.0.0/16 (it has host bits: did you mean 10.1.0.0/16?)`},
		"prefix without len":       {"10.1.0.0/16", "10.1.0.0", `q.yaml:22:15: bgp.originate[0]: found "10.1.0.0", expected a prefix of this AS, a prefix such as 10.3.0.0/16 (did you mean 10.1.0.0/32?)`},
		"list":                     {"[10.1.0.0/16, \"2001:db8:1::/48\"]", "10.1.0.0/16", `q.yaml:22:14: bgp.originate: found "10.1.0.0/16", expected a list of prefixes`},
		"own AS":                   {"as: 65002\n", "as: 65001\n", "q.yaml:28:7: edges[0].neighbor: found as 65001, expected another AS than our own"},
		"no key":                   {"as: 65002\n", "as: 65009\n", "q.yaml:28:7: edges[0].neighbor: found no key for AS 65009, expected one in keys (every message between domains is signed)"},
		"qnes":                     {"[127.2.0.1]", "[]", "q.yaml:31:13: edges[0].neighbor.qnes: found an empty list, expected at least one address"},
		"IP version":               {"external: 127.1.2.1", "external: '2001:db8::1'", `q.yaml:26:15: edges[0].external: found "2001:db8::1", expected an address of the same IP version as the neighbour's, 127.2.1.1`},
		"edge name":                {"name: to-as65002", "name: to as65002", `q.yaml:24:11: edges[0].name: found "to as65002", expected the edge's name, letters, digits, '.', '_' and '-', at most 64`},
		"ingress filter":           {"external: 127.1.2.1", "external: 127.1.2.1\n    ingress_filter: yes", `q.yaml:27:21: edges[0].ingress_filter: found "yes", expected one of strict, loose, off`},
		"discovery":                {"external: 127.1.2.1", "external: 127.1.2.1\n    discovery: dns", `q.yaml:27:16: edges[0].discovery: found "dns", expected one of relay, configured`},
		"a time that is none":      {"as65002-2026,", "as65002-2026, from: tomorrow,", "q.yaml:33:51: keys[0].from: found \"tomorrow\", expected a time such as 2027-01-01T00:00:00Z"},
		"it ends before it begins": {"as65002-2026,", "as65002-2026, from: 2027-01-02T00:00:00Z, until: 2027-01-01T00:00:00+01:00,", "q.yaml:33:80: keys[0].until: found \"2027-01-01T00:00:00+01:00\", expected a time after from, 2027-01-02T00:00:00Z"},
		"short secret":             {"hex:000102030405060708090a0b0c0d0e0f", "hex:0001", "q.yaml:33:53: keys[0].secret: found a secret of 2 octets, expected a secret of at least 16 octets, hex:… or base64:… (openssl rand -hex 32 makes one)"},
		"bare secret":              {"hex:000102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0f", "q.yaml:33:53: keys[0].secret: found a secret that does not say how it is written, expected a secret of at least 16 octets, hex:… or base64:… (openssl rand -hex 32 makes one)"},
		"unknown driver":           {"- pathdb:", "- pathbd:", "q.yaml:35:5: intradomain[0].pathbd: found an unknown key, expected one of pathdb, bng (did you mean pathdb?)"},
		"driver's content":         {"pathdb:\n      nodes: [a, b]", "pathdb: here", `q.yaml:35:13: intradomain[0].pathdb: found "here", expected the driver's configuration, a mapping`},
		"alias":                    {"[127.2.0.1]", "*qnes", "q.yaml:24:11: edges[0].name: found the anchor &qnes, expected just a value (anchors and aliases are not supported)\nq.yaml:31:13: edges[0].neighbor.qnes: found the alias *qnes, expected the value itself (anchors and aliases are not supported)"},
		"tag":                      {"as: 65001", "as: !!str 65001", "q.yaml:2:5: as: found the tag !!str, expected a value without a tag"},
		"two documents":            {"# The source AS of three.", "---\n---", "q.yaml:2:1: found a second document, expected one document in the file"},
		"unknown anchor":           {"as: 65001", "as: *x", "q.yaml:2:1: found a YAML syntax error: unknown anchor 'x' referenced, expected YAML"},
		"not UTF-8":                {"router_id: 1", "router_id: \xff1", "q.yaml:3:12: found the octet 0xff, expected UTF-8 text"},
		"tab":                      {"  listen: unix", "\tlisten: unix", "q.yaml:7:1: found a YAML syntax error: found character that cannot start any token, expected YAML"},
		"syntax":                   {"as: 65001", "as: [65001", "q.yaml:2:1: found a YAML syntax error: did not find expected ',' or ']', expected YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			text := exampleConfig(t)
			if !strings.Contains(text, test.old) {
				t.Fatalf("the example has no %q", test.old)
			}
			if name == "alias" {
				text = strings.Replace(text, "name: to-as65002", "name: &qnes to-as65002", 1)
			}
			_, err := Parse("q.yaml", []byte(strings.Replace(text, test.old, test.new, 1)))
			var errs ConfigErrors
			if !errors.As(err, &errs) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestConfigErrorsAllAtOnce(t *testing.T) {
	_, err := Parse("q.yaml", []byte("as: x\nrouter_id: y\nlog: {levle: info}\nedges: [{}, 7]\n"))
	want := strings.Join([]string{
		`q.yaml:1:1: admin: found nothing, expected a mapping with listen (unix:/path), and optionally allow and remote`,
		`q.yaml:1:1: store: found nothing, expected a mapping with path`,
		`q.yaml:1:1: gist: found nothing, expected a mapping with at least address`,
		`q.yaml:1:5: as: found "x", expected an AS number from 1 to 4294967294`,
		`q.yaml:2:12: router_id: found "y", expected the BGP identifier, an IPv4 or IPv6 address`,
		`q.yaml:3:7: log.levle: found an unknown key, expected one of level, format (did you mean level?)`,
		`q.yaml:4:9: edges[0].name: found nothing, expected the edge's name, letters, digits, '.', '_' and '-', at most 64`,
		`q.yaml:4:9: edges[0].internal: found nothing, expected the address where our QNE reaches the edge, an IPv4 or IPv6 address`,
		`q.yaml:4:9: edges[0].external: found nothing, expected the address that faces the neighbour, an IPv4 or IPv6 address`,
		`q.yaml:4:9: edges[0].neighbor: found nothing, expected a mapping with as, address and qnes`,
		`q.yaml:4:13: edges[1]: found "7", expected an edge, a mapping`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestConfigNotAMapping(t *testing.T) {
	for text, want := range map[string]string{
		"":        "q.yaml:1:1: found an empty file, expected the configuration of a qned",
		"# hm\n":  "q.yaml:1:1: found an empty file, expected the configuration of a qned",
		"- as: 1": "q.yaml:1:1: found a list, expected the configuration of a qned, a mapping",
		"hello":   `q.yaml:1:1: found "hello", expected the configuration of a qned, a mapping`,
	} {
		if _, err := Parse("q.yaml", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestEdgesOfTheirOwn(t *testing.T) {
	text := strings.Replace(exampleConfig(t), "keys:", `  - name: to-as65002
    internal: 127.1.0.3
    external: 127.1.3.1
    neighbor: {as: 65002, address: 127.2.1.1, qnes: [127.2.0.1]}
keys:`, 1)
	_, err := Parse("q.yaml", []byte(text))
	want := "q.yaml:32:11: edges[1].name: found \"to-as65002\", expected a name of its own (the edge in line 24 has it too)\n" +
		"q.yaml:35:15: edges[1].neighbor: found address 127.2.1.1, expected a neighbour of its own (the edge in line 24 has it too)"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	text := strings.Replace(exampleConfig(t), "run/qned.sock", strings.Repeat("x", 100), 1)
	_, err := Parse("/folder/q.yaml", []byte(text))
	if err == nil || !strings.Contains(err.Error(), "/folder/q.yaml:7:11: admin.listen: found a socket path of 108 octets, expected at most 107") {
		t.Errorf("got %v", err)
	}
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "q.yaml"), filepath.Join(dir, "key")
	text := strings.Replace(exampleConfig(t), `secret: "hex:000102030405060708090a0b0c0d0e0f"`, "secret_file: key", 1)
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(path, text, 0o600)
	fails := func(want string) {
		t.Helper()
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path+":33:58: keys[0].secret_file: ") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	fails("no such file")
	write(secret, "base64:AAECAwQFBgcICQoLDA0ODw==\n", 0o644)
	fails(secret + " with mode 0644")
	write(secret, "abc", 0o600)
	fails("does not say how it is written")
	write(secret, "base64:AAECAwQFBgcICQoLDA0ODw==\n", 0o640)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Keys[0].Secret; len(got) != 16 || got[15] != 15 {
		t.Errorf("got %x", []byte(got))
	}
	if text := fmt.Sprintf("%v %+v %#v", c.Keys[0].Secret, c.Keys, c.Keys); strings.Contains(text, "15") || !strings.Contains(text, "[secret]") {
		t.Errorf("the secret prints: %s", text)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// A neighbour whose keys are all of the past could neither be answered nor be
// understood; an old key beside one that lasts is fine.
func TestExpiredKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.yaml")
	load := func(keys string) error {
		t.Helper()
		text := strings.Replace(exampleConfig(t), "name: as65002-2026,", "name: as65002-2026, until: 2026-01-01T00:00:00Z,", 1)
		text = strings.Replace(text, "intradomain:", keys+"intradomain:", 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		return err
	}
	const want = `keys[0].until: found "2026-01-01T00:00:00Z", expected a key for AS 65002 that has not expired (no key of this AS ends later)`
	if err := load(""); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	const next = `  - {id: 13, as: 65002, secret: "hex:10101010101010101010101010101010", from: 2025-12-01T00:00:00Z}` + "\n"
	if err := load(next); err != nil {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	for name, test := range map[string]struct {
		old, new      string
		live, restart []string
	}{
		"nothing":       {"as: 65001", "as:  65001 # same", nil, nil},
		"AS":            {"as: 65001", "as: 65003", nil, []string{"as"}},
		"log level":     {"level: info", "level: debug", []string{"log.level"}, nil},
		"log format":    {"format: text", "format: json", nil, []string{"log.format"}},
		"socket":        {"qned.sock", "q.sock", nil, []string{"admin.listen"}},
		"allow":         {"uid: 1000", "uid: 1001", []string{"admin.allow"}, nil},
		"metrics":       {"9400", "9401", nil, []string{"metrics.listen"}},
		"store":         {"as65001.db", "x.db", nil, []string{"store.path"}},
		"port":          {" port: 10270", " port: 270", nil, []string{"gist.port", "gist.tcp_port"}},
		"limits":        {"50.5", "60", nil, []string{"gist.limits"}},
		"D-mode limit":  {"50.5", "50.5, dmode_per_second: 2000", nil, []string{"gist.limits"}},
		"path":          {"log:", "path: {latency: 3ms}\nlog:", nil, []string{"path"}},
		"refresh":       {"refresh_period: 30s", "refresh_period: 31s", nil, []string{"nslp"}},
		"proxy":         {"refresh_period: 30s", "refresh_period: 30s, proxy: true", nil, []string{"nslp"}},
		"originate":     {"10.1.0.0/16", "10.9.0.0/16", []string{"bgp.originate"}, nil},
		"order":         {`10.1.0.0/16, "2001:db8:1::/48"`, `"2001:db8:1::/48", 10.1.0.0/16`, nil, nil},
		"qnes":          {"qnes: [127.2.0.1]", "qnes: [127.2.0.1, 127.2.0.2]", []string{"edges.to-as65002.neighbor.qnes"}, nil},
		"edge moved":    {"external: 127.1.2.1", "external: 127.1.2.2", nil, []string{"edges.to-as65002"}},
		"edge renamed":  {"name: to-as65002", "name: west", nil, []string{"edges.to-as65002", "edges.west"}},
		"key":           {"0d0e0f", "0d0e10", []string{"keys"}, nil},
		"key's end":     {"as65002-2026,", "as65002-2026, until: 2099-01-01T00:00:00Z,", []string{"keys"}, nil},
		"driver":        {"[a, b]", "[a, c]", nil, []string{"intradomain"}},
		"driver, style": {"[a, b]", "\n        - a\n        - b", nil, nil},
		"remote":        {"  allow:", "  remote: {listen: 'h:1', cert: c, key: k, client_ca: a, roles: [{cn: x, role: read}]}\n  allow:", nil, []string{"admin.remote"}},
		"edge, all":     {"external: 127.1.2.1\n    neighbor:\n      as: 65002\n      address: 127.2.1.1\n      bgp_port: 10179\n      qnes: [127.2.0.1]", "external: 127.1.2.2\n    neighbor:\n      as: 65002\n      address: 127.2.1.1\n      bgp_port: 10179\n      qnes: [127.2.0.9]", nil, []string{"edges.to-as65002"}},
		"SCTP":          {"shards: 2", "shards: 2\n  sctp: true", nil, []string{"gist.sctp"}},
		"addresses":     {"shards: 2", "shards: 2\n  addresses: ['fd00:1::1']", nil, []string{"gist.addresses"}},
		"ingress":       {"shards: 2", "shards: 2\n  ingress_filter: loose", nil, []string{"gist.ingress_filter"}},
		"ingress, same": {"shards: 2", "shards: 2\n  ingress_filter: strict", nil, nil},
		"edge ingress":  {"external: 127.1.2.1", "external: 127.1.2.1\n    ingress_filter: strict", nil, []string{"edges.to-as65002"}},
		"names":         {"qnes: [127.2.0.1]", "qnes: [127.2.0.1]\n      names: [qne.example]", []string{"edges.to-as65002.neighbor.names"}, nil},
		"TLS":           {"shards: 2", "shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c}", nil, []string{"gist.plain_port", "gist.tls"}},
		"TLS version":   {"shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c}", "shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c, min_version: 1.2}", []string{"gist.tls"}, nil},
		"TLS files":     {"shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c}", "shards: 2\n  plain_port: 11000\n  tls: {certificate: x, key: y, ca: z}", nil, nil},
		"TLS key log":   {"shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c}", "shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c, keylog: k}", []string{"gist.tls"}, nil},
		"remote's CA":   {"client_ca: a", "client_ca: b", nil, []string{"admin.remote"}},
		"remote's role": {"{cn: x, role: read}", "{cn: x, role: operate}", []string{"admin.remote.roles"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			text := exampleConfig(t)
			if strings.HasPrefix(name, "remote's") {
				text = strings.Replace(text, "  allow:", "  remote: {listen: 'h:1', cert: c, key: k, client_ca: a, roles: [{cn: x, role: read}]}\n  allow:", 1)
			}
			if strings.HasPrefix(name, "TLS ") {
				text = strings.Replace(text, "shards: 2", "shards: 2\n  plain_port: 11000\n  tls: {certificate: a, key: b, ca: c}", 1)
			}
			if !strings.Contains(text, test.old) {
				t.Fatalf("the example has no %q", test.old)
			}
			running, err := Parse("q.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			next, err := Parse("q.yaml", []byte(strings.Replace(text, test.old, test.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			got := Diff(running, next)
			if !slices.Equal(got.Live, test.live) || !slices.Equal(got.Restart, test.restart) {
				t.Errorf("got %+v, want live %v, restart %v", got, test.live, test.restart)
			}
			// What can be brought into force is, and nothing else.
			now := Live(running, next)
			if done := Diff(running, now); !slices.Equal(done.Live, test.live) || len(done.Restart) > 0 {
				t.Errorf("Live changes %+v", done)
			}
			if left := Diff(now, next); len(left.Live) > 0 || !slices.Equal(left.Restart, test.restart) {
				t.Errorf("Live leaves %+v", left)
			}
			if got.Empty() != (test.live == nil && test.restart == nil) {
				t.Errorf("Empty says %v", got.Empty())
			}
		})
	}
}

// Every field of the configuration is one that Diff looks at.
func TestDiffSeesEveryField(t *testing.T) {
	var fields []string
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		if typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
			fields = append(fields, path)
			return
		}
		for i := range typ.NumField() {
			walk(typ.Field(i).Type, path+"."+typ.Field(i).Name)
		}
	}
	walk(reflect.TypeFor[Config](), "")
	const known = 93 // a new field: teach Diff, add a case to TestDiff, and count it here
	if len(fields) != known {
		t.Errorf("the configuration has %d fields, Diff was written for %d: %v", len(fields), known, fields)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(exampleConfig(f))
	f.Add("")
	f.Add("as: 1\nrouter_id: 1.1.1.1\ninsecure: true\nadmin: {listen: 'unix:/s'}\nstore: {path: /d}\ngist: {address: 1.1.1.1}\n")
	f.Add("admin: {remote: {listen: ':1', cert: c, key: k, client_ca: a, roles: [{cn: x, role: read}]}}\n")
	f.Add("? [a]\n: b\n&a x: *a\n")
	f.Add("keys: [{id: 1, as: 2, secret_file: k}]\nintradomain: [{bng: {target: 'unix:b'}}, {pathdb: {}}]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("q.yaml", []byte(text))
		if err != nil {
			var errs ConfigErrors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("not a ConfigErrors: %v", err)
			}
			lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") +
				strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 2
			for _, e := range errs {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || strings.Contains(e.Error(), "\n") {
					t.Fatalf("bad error %+v", e)
				}
			}
			return
		}
		if c.AS == 0 || !c.RouterID.Is4() || !c.Insecure || !c.GIST.Address.IsValid() || c.Store.Path == "" ||
			c.Admin.Listen.Network == "" && c.Admin.Remote == nil {
			t.Fatalf("accepted: %+v", c)
		}
		again, err := Parse("q.yaml", []byte(text))
		if err != nil || !Diff(c, again).Empty() {
			t.Fatalf("read twice, two results: %v, %+v", err, Diff(c, again))
		}
	})
}
