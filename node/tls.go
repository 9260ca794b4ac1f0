package node

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/internal/pki"
)

// tlsKeys is the process's TLS between domains: what all shards share.
type tlsKeys struct {
	tls    *transport.TLS
	keyLog *os.File // nil: none
	path   string   // of keyLog
}

// transportTLS turns the configuration into the transport's. It opens the key
// log if that is another one than before.
func (k *tlsKeys) transportTLS(c *TLSConfig) (transport.TLSConfig, error) {
	t := transport.TLSConfig{Certificate: c.Certificate, CAs: c.CAs, MinVersion: c.MinVersion}
	if c.KeyLog != k.path {
		var next *os.File
		if c.KeyLog != "" {
			var err error
			if next, err = os.OpenFile(c.KeyLog, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
				return t, fmt.Errorf("gist.tls.keylog: %w", err)
			}
		}
		k.close() // connections that stand have written theirs
		k.keyLog, k.path = next, c.KeyLog
	}
	if k.keyLog != nil {
		t.KeyLog = io.Writer(k.keyLog)
	}
	return t, nil
}

func (k *tlsKeys) close() {
	if k.keyLog != nil {
		_ = k.keyLog.Close() // whole lines, each written at once
	}
	k.keyLog, k.path = nil, ""
}

// openTLS sets TLS up, where it is configured.
func (n *Node) openTLS() error {
	c := n.cfg.GIST.TLS
	if c == nil {
		return nil
	}
	t, err := n.tls.transportTLS(c)
	if err != nil {
		return err
	}
	n.defers(n.tls.close)
	if n.tls.tls, err = transport.NewTLS(t); err != nil {
		return err
	}
	n.tellTLS(c)
	return nil
}

// replaceTLS brings reloaded certificates into force: for new connections at
// once, and for those that stand where their authority is gone.
func (n *Node) replaceTLS(c *TLSConfig) error {
	if n.tls.tls == nil || c == nil || c.same(n.running.GIST.TLS) {
		return nil
	}
	t, err := n.tls.transportTLS(c)
	if err != nil {
		return err
	}
	if err := n.tls.tls.Replace(t); err != nil {
		return err
	}
	n.certificate.Store(c.Certificate.Leaf)
	for _, s := range n.shards {
		s.tcp.Recheck()
	}
	n.tellTLS(c)
	return nil
}

// tellTLS logs what the neighbours will see, and what an operator should know.
func (n *Node) tellTLS(c *TLSConfig) {
	leaf := c.Certificate.Leaf
	n.certificate.Store(leaf)
	n.log.Info("TLS between domains", "certificate", leaf.Subject.CommonName, "serial", leaf.SerialNumber.Text(16), "expires", leaf.NotAfter.UTC().Format(time.RFC3339))
	if left := time.Until(leaf.NotAfter); left < renewBefore(leaf) {
		n.log.Warn("the certificate expires soon: renew it and reload", "in", left.Round(time.Minute).String())
	}
	if c.KeyLog != "" {
		n.log.Warn("INSECURE: gist.tls.keylog: the secrets of all connections are written to a file; whoever reads it reads all messages. For debugging only.", "file", c.KeyLog)
	}
}

// renewBefore is a third of a certificate's lifetime, at most pki.Soon.
func renewBefore(c *x509.Certificate) time.Duration {
	return min(pki.Soon, c.NotAfter.Sub(c.NotBefore)/3)
}

// peerEntries is the authorised peer database (RFC 5971 §4.4.2): a peer behind an
// edge has an address of the neighbour's QNEs, and a certificate of the
// neighbour's AS that has one of the neighbour's names where there are any.
// Where insecure is allowed, who is behind no edge may come, and QoS-NSLP refuses
// him.
func peerEntries(cfg *Config) []gist.PeerEntry {
	all := []gist.PeerEntry{} // not nil: whom it does not name is refused
	for i := range cfg.Edges {
		e := &cfg.Edges[i]
		entry := gist.PeerEntry{Peers: e.Neighbor.QNEs, Border: e.External}
		if cfg.Insecure {
			plain := entry
			plain.Unauthenticated = true
			all = append(all, plain)
		}
		if cfg.GIST.TLS == nil {
			continue
		}
		entry.OwnAddress = true
		as := gist.Identity{Namespace: gist.NamespaceURI, Name: pki.ASURI(e.Neighbor.AS)}
		if len(e.Neighbor.Names) == 0 {
			entry.Identities = []gist.Identity{as}
			all = append(all, entry)
		}
		for _, name := range e.Neighbor.Names {
			entry.Identities = []gist.Identity{as, {Namespace: gist.NamespaceDNS, Name: name}}
			all = append(all, entry)
		}
	}
	if cfg.Insecure {
		for i := range cfg.Edges {
			all = append(all, gist.PeerEntry{Unauthenticated: true, Border: cfg.Edges[i].External, Deny: true})
		}
		all = append(all, gist.PeerEntry{Unauthenticated: true})
	}
	return all
}
