package fe

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/internal/strictyaml"
	"github.com/interqos/interqos/internal/units"
)

// Config is bngfe's configuration. Rates are bit/s in the file and octets per
// second here; sizes are octets.
//
//	dpn: bng3                        # DPN_ID, a name
//	listen: unix:bngfe.sock          # FPC; plain TCP on loopback needs insecure: true
//	insecure: false
//	wire: 127.3.0.1:9000             # packets from the network, one a datagram
//	metrics: 127.3.0.1:9300          # optional: Prometheus, over HTTP
//	log: {level: info, format: text} # optional
//	subscribers:
//	  - id: alice
//	    address: 10.3.0.10           # or a prefix; or addresses: [...]
//	    access: 127.3.0.10:9000      # where the subscriber's packets go
//	    cir: 40M                     # what can be reserved, and more guaranteed to nobody
//	    cbs: 64k                     # default: what 50 ms bring
//	    pir: 40M                     # default: cir
//	    pbs: 64k                     # default: what 50 ms bring
//	    dscp: 0                      # of what is not reserved: keep, or 0 (default) to 63
//	    excess: forward              # above cir, within pir: forward (default), remark or drop
type Config struct {
	DPN         string
	Listen      string
	Insecure    bool
	Wire        netip.AddrPort
	Metrics     netip.AddrPort // zero: none
	LogLevel    string         // debug, info, warn, error
	LogFormat   string         // text, json
	Subscribers []SubscriberConfig
}

// SubscriberConfig is one subscriber.
type SubscriberConfig struct {
	ID        string
	Addresses []netip.Prefix
	Access    netip.AddrPort
	QoS       fpc.QoS
}

// LoadConfig reads a configuration file. The error names, for everything that is
// wrong, file and line, what was found, and what was expected.
func LoadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return ParseConfig(path, b)
}

// ParseConfig reads a configuration from memory; name is the file's.
func ParseConfig(name string, b []byte) (*Config, error) {
	const what = "the configuration of a bngfe, a mapping"
	r := &strictyaml.Reader{File: name}
	o := r.Document(b, what).Object(what, "dpn", "listen", "insecure", "wire", "metrics", "log", "subscribers")
	log := o.Get("log").Object("a mapping with level and format", "level", "format")
	c := &Config{
		DPN:       o.Get("dpn").Text("the element's name", "bng"),
		Listen:    o.Need("listen").Text("where FPC is served, e.g. unix:bngfe.sock", ""),
		Insecure:  o.Get("insecure").Bool(false),
		Wire:      o.Need("wire").AddrPort("where packets from the network come in"),
		Metrics:   o.Get("metrics").AddrPort("where metrics are served"),
		LogLevel:  log.Get("level").Word("info", "debug", "info", "warn", "error"),
		LogFormat: log.Get("format").Word("text", "text", "json"),
	}
	ids := map[string]bool{}
	prefixes := map[netip.Prefix]string{}
	for _, v := range o.Need("subscribers").List("a list of subscribers") {
		s := readSubscriber(v)
		if ids[s.ID] && s.ID != "" {
			v.At("id").Wrong(fmt.Sprintf("%q again", s.ID), "each id once", "")
		}
		ids[s.ID] = true
		for _, p := range s.Addresses {
			if other, ok := prefixes[p]; ok {
				v.At("address").Wrong(fmt.Sprintf("%v, which is %q's", p, other), "each address once", "")
			}
			prefixes[p] = s.ID
		}
		c.Subscribers = append(c.Subscribers, s)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

func readSubscriber(v strictyaml.Value) SubscriberConfig {
	o := v.Object("a subscriber, a mapping", "id", "address", "addresses", "access", "cir", "cbs", "pir", "pbs", "dscp", "excess")
	s := SubscriberConfig{
		ID:        o.Need("id").Text("the subscriber's name", ""),
		Addresses: readAddresses(o),
		Access:    o.Need("access").AddrPort("where the subscriber's packets go"),
		QoS: fpc.QoS{
			CIR: units.Octets(o.Need("cir").Rate("what can be reserved", 1)), CBS: o.Get("cbs").Size("the burst of cir", 1),
			PIR: units.Octets(o.Get("pir").Rate("the most that passes", 1)), PBS: o.Get("pbs").Size("the burst of pir", 1),
		},
	}
	q := &s.QoS
	if q.PIR == 0 {
		q.PIR = q.CIR
	}
	if q.PIR < q.CIR {
		o.Get("pir").Wrong(fmt.Sprintf("less than cir: %d and %d octets/s", q.PIR, q.CIR), "at least cir", "")
	}
	q.CBS = burst(q.CBS, q.CIR)
	q.PBS = max(burst(q.PBS, q.PIR), q.CBS)
	excess := o.Get("excess").Word("forward", "forward", "remark", "drop")
	q.Excess = map[string]fpc.Excess{"forward": fpc.ExcessForward, "remark": fpc.ExcessRemark, "drop": fpc.ExcessDrop}[excess]
	if dscp := o.Get("dscp"); !dscp.Is("keep") {
		q.Mark, q.DSCP = true, uint8(dscp.Number("keep or a DSCP", 0, 63, 0))
	}
	return s
}

func readAddresses(o strictyaml.Object) []netip.Prefix {
	const what = "a subscriber's address"
	one, several := o.Get("address"), o.Get("addresses")
	if !one.There() && !several.There() {
		one.Required("an IP address or a prefix")
	}
	var list []netip.Prefix
	elements := several.List("a list of addresses and prefixes")
	if several.IsList() && len(elements) == 0 && !one.There() {
		several.Wrong("an empty list", "at least one address", "")
	}
	for _, v := range append(elements, one) {
		if p := v.PrefixOrAddress(what); p.IsValid() {
			list = append(list, p)
		}
	}
	return list
}

// burst is the default of a burst: what 50 ms bring, and ten packets at least.
func burst(given, rate uint64) uint64 {
	if given != 0 {
		return given
	}
	return max(rate/20, 15000)
}
