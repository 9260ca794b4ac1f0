package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigErrorsSayWhatWasExpected(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	good := func() Config {
		return Config{
			AS: 65001, RouterID: a, Originate: prefixes("10.0.0.0/8"),
			Neighbors: []Neighbor{{AS: 65002, Local: a, Remote: netip.AddrPortFrom(b, 179)}},
		}
	}
	if _, err := New(good(), nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		spoil func(*Config)
		want  string
	}{
		{"no AS", func(c *Config) { c.AS = 0 }, "AS is 0"},
		{"IPv6 router id", func(c *Config) { c.RouterID = netip.IPv6Loopback() }, "expected an IPv4 address"},
		{"port", func(c *Config) { c.ListenPort = 65536 }, "listen port 65536"},
		{"retry", func(c *Config) { c.ConnectRetry = 1500 * time.Millisecond }, "connect retry 1.5s"},
		{"listen address", func(c *Config) { c.ListenAddresses = []netip.Addr{{}} }, "listen address"},
		{"neighbor's AS", func(c *Config) { c.Neighbors[0].AS = 0 }, "neighbor 1 (192.0.2.2:179, AS 0): AS is 0"},
		{"no remote", func(c *Config) { c.Neighbors[0].Remote = netip.AddrPort{} }, "remote address"},
		{"no local", func(c *Config) { c.Neighbors[0].Local = netip.Addr{} }, "local address"},
		{"families", func(c *Config) { c.Neighbors[0].Local = netip.IPv6Loopback() }, "same IP version"},
		{"itself", func(c *Config) { c.Neighbors[0].Local = b }, "are both 192.0.2.2"},
		{"hold time", func(c *Config) { c.Neighbors[0].HoldTime = 2 * time.Second }, "hold time 2s"},
		{"password", func(c *Config) { c.Neighbors[0].Password = strings.Repeat("x", 81) }, "password of 81 octets"},
		{"twice", func(c *Config) { c.Neighbors = append(c.Neighbors, c.Neighbors[0]) }, "there twice"},
		{"nobody connects", func(c *Config) { c.ListenPort, c.Neighbors[0].Passive = -1, true }, "nobody would connect"},
		{"host bits", func(c *Config) { c.Originate[0] = netip.MustParsePrefix("10.0.0.1/8") }, "without host bits"},
	} {
		c := good()
		tc.spoil(&c)
		if _, err := New(c, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
