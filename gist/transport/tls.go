package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/interqos/interqos/gist"
)

// TLSConfig is what messaging associations over TLS need. RFC 5971 §5.7.3
type TLSConfig struct {
	// Certificate is ours, with its key, for both directions.
	Certificate tls.Certificate
	// CAs are the authorities that peers' certificates must come from.
	CAs *x509.CertPool
	// MinVersion is tls.VersionTLS13, or tls.VersionTLS12 where a peer has no
	// better. 0: TLS 1.3.
	MinVersion uint16
	// KeyLog gets the secrets of every connection, in the format of
	// SSLKEYLOGFILE: whoever reads it reads all messages. Nil: nobody.
	KeyLog io.Writer
}

// TLS is a TLSConfig that can be replaced while connections stand.
type TLS struct{ current atomic.Pointer[tlsSides] }

// tlsSides are the two sides' configurations.
type tlsSides struct {
	server, client *tls.Config
	roots          *x509.CertPool
}

// ErrTLS: a connection over TLS could not be set up.
var ErrTLS = errors.New("TLS")

// NewTLS makes a TLS, or says what its configuration lacks.
func NewTLS(cfg TLSConfig) (*TLS, error) {
	t := new(TLS)
	return t, t.Replace(cfg)
}

// Replace has new connections use cfg. Those that stand go on; TCP.Recheck ends
// the ones that cfg's authorities do not vouch for.
func (t *TLS) Replace(cfg TLSConfig) error {
	switch {
	case len(cfg.Certificate.Certificate) == 0 || cfg.Certificate.PrivateKey == nil:
		return fmt.Errorf("%w: no certificate with its key", ErrTLS)
	case cfg.CAs == nil:
		return fmt.Errorf("%w: no certificate authorities for the peers", ErrTLS)
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS13
	}
	if cfg.MinVersion < tls.VersionTLS12 || cfg.MinVersion > tls.VersionTLS13 {
		return fmt.Errorf("%w: minimum version %s, want TLS 1.2 or TLS 1.3", ErrTLS, tls.VersionName(cfg.MinVersion))
	}
	base := &tls.Config{
		Certificates: []tls.Certificate{cfg.Certificate}, MinVersion: cfg.MinVersion, KeyLogWriter: cfg.KeyLog,
		// A resumed session would skip the certificates, and with them the
		// authorisation. RFC 5971 §4.4.2
		SessionTicketsDisabled: true,
		// Records are as large as they can be: what is written at once arrives
		// at once.
		DynamicRecordSizingDisabled: true,
	}
	s := &tlsSides{server: base, client: base.Clone(), roots: cfg.CAs}
	s.server.ClientAuth, s.server.ClientCAs = tls.RequireAndVerifyClientCert, cfg.CAs
	// A peer is an AS's node and has no host name to look for: which peer may
	// have which certificate says the authorised peer database. The chain is
	// verified here.
	s.client.InsecureSkipVerify = true
	// Also to a server that has our authority not on its list: then it says what
	// it thinks of it.
	s.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cfg.Certificate, nil }
	s.client.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := verifyChain(cs.PeerCertificates, cfg.CAs, x509.ExtKeyUsageServerAuth)
		return err
	}
	t.current.Store(s)
	return nil
}

// verifyChain is the "general certificate validation" of RFC 5971 §5.7.3.1; it
// returns when the first certificate of the chain expires.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage) (end time.Time, err error) {
	if len(certs) == 0 {
		return end, errors.New("the peer has no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(o)
	if err != nil {
		return end, &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	for _, chain := range chains { // the one that is good for longest
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(end) {
			end = first
		}
	}
	return end, nil
}

// facts is what a verified certificate says, in the core's terms.
func facts(c *x509.Certificate, end time.Time) *gist.Certificate {
	f := &gist.Certificate{CommonName: c.Subject.CommonName, DNSNames: c.DNSNames, NotAfter: end}
	for _, u := range c.URIs {
		f.URIs = append(f.URIs, u.String())
	}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			f.Addresses = append(f.Addresses, a.Unmap())
		}
	}
	return f
}

// tlsState is what a connection over TLS has besides.
type tlsState struct {
	wire   *records
	conn   *tls.Conn
	peer   []*x509.Certificate
	facts  *gist.Certificate
	cost   int  // octets that count as queued and are sealed but not written; the writer's
	worked bool // the reader's: data have come
}

// secure puts TLS over a fresh TCP connection.
func (c *conn) secure(nc net.Conn) {
	sides := c.t.cfg.TLS.current.Load()
	w := newRecords(nc, 2*c.t.cfg.QueueBytes, c.poke)
	c.tls = &tlsState{wire: w}
	if c.accepted {
		c.tls.conn = tls.Server(w, sides.server)
	} else {
		c.tls.conn = tls.Client(w, sides.client)
	}
	c.nc = c.tls.conn
}

// handshake is TLS's, in the connection's own goroutine and in bounded time. Its
// own place among the accepted connections may be taken meanwhile, which breaks
// it off.
func (c *conn) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.t.cfg.HandshakeTimeout)
	defer cancel()
	s := c.tls
	if err := s.conn.HandshakeContext(ctx); err != nil {
		if c.accepted {
			c.linger()
		}
		return handshakeError(c.remote, err)
	}
	s.peer = s.conn.ConnectionState().PeerCertificates
	end, err := verifyChain(s.peer, c.t.cfg.TLS.current.Load().roots, x509.ExtKeyUsageAny)
	if err != nil { // the authorities were replaced meanwhile
		return handshakeError(c.remote, err)
	}
	s.facts = facts(s.peer[0], end)
	s.wire.hold()
	return nil
}

// linger gives the peer time to read why it was refused: closing at once would
// take the alert back, for what it has sent is not read.
func (c *conn) linger() {
	raw := c.tls.wire.Conn
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || raw.SetReadDeadline(time.Now().Add(c.t.cfg.CloseTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, raw, 64<<10) // until the peer closes, or the deadline
}

func handshakeError(remote netip.AddrPort, err error) error {
	if refusal(err) {
		return fmt.Errorf("%w: %w with %v: %w", gist.ErrAuthentication, ErrTLS, remote, err)
	}
	return fmt.Errorf("%w handshake with %v: %w", ErrTLS, remote, err)
}

// refusal says whether one side did not want the other: its certificate, or what
// it can do. Another try would end the same way.
func refusal(err error) bool {
	var cert *tls.CertificateVerificationError
	var op *net.OpError
	return errors.As(err, &cert) || errors.As(err, &op) && op.Op == "remote error" || // an alert
		strings.Contains(err.Error(), noCertificate)
}

// noCertificate is in the error of crypto/tls that has no type for it.
const noCertificate = "client didn't provide a certificate"

// Recheck breaks off the connections whose peers' certificates the present
// authorities do not vouch for, or that have expired.
func (t *TCP) Recheck() {
	if t.cfg.TLS == nil {
		return
	}
	roots := t.cfg.TLS.current.Load().roots
	t.mu.Lock()
	conns := make([]*conn, 0, len(t.conns))
	for _, c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		s, ready := c.tls, c.ready
		c.mu.Unlock()
		if s == nil || !ready {
			continue
		}
		if _, err := verifyChain(s.peer, roots, x509.ExtKeyUsageAny); err != nil {
			c.fail(fmt.Errorf("%w: %w with %v: %w", gist.ErrAuthentication, ErrTLS, c.remote, err))
		}
	}
}

// writeTLS seals a batch and writes it, each chunk under a deadline of its own.
func (c *conn) writeTLS(batch []byte) error {
	s := c.tls
	for {
		n := min(len(batch), writeChunk)
		if err := s.wire.seal(s.conn, batch[:n]); err != nil {
			return err
		}
		s.cost += n
		batch = batch[n:]
		if err := s.wire.drain(c.t.cfg.WriteTimeout); err != nil {
			return err
		}
		c.mu.Lock()
		c.written(s.cost)
		c.mu.Unlock()
		s.cost = 0
		if len(batch) == 0 {
			return nil
		}
	}
}

// flushTLS is flush's part between taking a batch and giving it back: it seals
// all of it, and writes what the kernel takes.
func (c *conn) flushTLS(batch []byte) {
	s := c.tls
	err := s.wire.seal(s.conn, batch)
	written := false
	if err == nil {
		written, err = s.wire.try(&c.direct)
	}
	if err != nil {
		c.fail(fmt.Errorf("write to %v: %w", c.remote, err))
		return // as the writer does: nothing is written any more
	}
	s.cost += len(batch)
	giveBack(batch)
	c.mu.Lock()
	c.writing = false
	if written {
		c.written(s.cost)
		s.cost = 0
	}
	more := !written || len(c.queue) > 0 || c.closing
	c.mu.Unlock()
	if more {
		c.poke()
	}
}
