package qosnslp

import "github.com/interqos/interqos/qosnslp/wire"

// Proxy mode (RFC 5974 §3.2.7, §4.8): signaling with the PROXY flag is confined to
// the section of the path that ends at a P-QNE. There it is answered as by the
// last node. A path that ends before it has met one ends at its last node, which
// answers all the same: "This QNE is the last one on the path" (§5.3.2).
//
// For incoming data flows a host's RESERVE travels upstream without a QUERY
// before it: the next peer is the verdict's then, and GIST finds it or "will
// indicate a failure to deliver it" (§4.8).

// proxies says whether a received RESERVE or QUERY is meant to end here: "The PROXY
// scope flag is set and the QNE is the P-QNE". RFC 5974 §5.3.2, §5.4.1, §5.4.2
func (m *Machine) proxies(msg *wire.Message) bool {
	return m.cfg.Proxy && msg.Flags&wire.Proxy != 0
}
