package node

import (
	"strings"
	"testing"
)

// What --check says of the parts that only a driver can read.
func TestCheckDrivers(t *testing.T) {
	base := `as: 65001
router_id: 127.0.0.1
insecure: true
admin: {listen: unix:a.sock}
store: {path: a.db}
gist: {address: 127.0.0.1}
intradomain:
`
	cases := []struct{ drivers, want string }{
		{"  - pathdb: {nodes: [a]}\n", ""},
		{"  - bng: {target: unix:b.sock}\n", ""},
		{"  - pathdb: {nodes: [a], links: [{a: a, b: z, capacity: 1G}]}\n", "lab.yaml:8"},
		{"  - bng: {target: unix:b.sock, speed: 3}\n", "speed"},
		{"  - bng: {target: \"unix:\"}\n", "expected unix: and a path"},
	}
	for _, c := range cases {
		cfg, err := Parse("lab.yaml", []byte(base+c.drivers))
		if err != nil {
			t.Fatalf("%s: %v", c.drivers, err)
		}
		err = CheckDrivers(cfg)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.drivers, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.drivers, err, c.want)
		}
	}
}
