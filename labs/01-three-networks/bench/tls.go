package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/internal/pki"
)

// peerAS is what the certificates of the two processes that a measurement
// connects say, by their address.
var peerAS = map[string]uint32{querier: 65001, answerer: 65002}

// pkiDir has the certificates of measurements between two processes.
func (b *bench) pkiDir() string { return filepath.Join(b.dir, "peers") }

// certificates makes an authority, and a certificate for each end.
func (b *bench) certificates() error {
	ca, err := pki.NewCA(pki.CAOptions{Name: "bench"})
	if err != nil {
		return err
	}
	if err := ca.Save(b.pkiDir()); err != nil {
		return err
	}
	for address, as := range peerAS {
		p, err := ca.Issue(pki.Request{Name: address, AS: as, IPs: []netip.Addr{netip.MustParseAddr(address)}})
		if err != nil {
			return err
		}
		if err := p.Save(b.pkiDir(), address); err != nil {
			return err
		}
	}
	return nil
}

// loadTLS reads one end's certificate.
func loadTLS(dir, address string) (cfg transport.TLSConfig, err error) {
	if cfg.Certificate, err = tls.LoadX509KeyPair(pki.CertFile(dir, address), pki.KeyFile(dir, address)); err != nil {
		return cfg, err
	}
	bundle, err := os.ReadFile(pki.BundleFile(dir))
	if err != nil {
		return cfg, err
	}
	cfg.CAs = x509.NewCertPool()
	if !cfg.CAs.AppendCertsFromPEM(bundle) {
		return cfg, fmt.Errorf("%s has no certificates", pki.BundleFile(dir))
	}
	return cfg, nil
}

// tlsEchoServer sends back what each read of a TLS connection brings.
func tlsEchoServer(dir string) error {
	cfg, err := loadTLS(dir, answerer)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", answerer+":0", &tls.Config{
		Certificates: []tls.Certificate{cfg.Certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: cfg.CAs, MinVersion: tls.VersionTLS13,
	})
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, io.EOF) { // measured
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// tlsBaseline measures a raw TLS echo between two processes, a record for each
// message: what the UDP echo is to datagrams.
func (b *bench) tlsBaseline(ctx context.Context) error {
	line, stop, err := startChild(ctx, "tls-echo", b.pkiDir())
	if err != nil {
		return err
	}
	defer stop()
	cfg, err := loadTLS(b.pkiDir(), querier)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(line)
	if err != nil {
		return err
	}
	d := tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{cfg.Certificate}, RootCAs: cfg.CAs, ServerName: host, MinVersion: tls.VersionTLS13}}
	c, err := d.DialContext(ctx, "tcp", line)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // only read and written
	for _, flight := range []int{1, inFlight} {
		rate, err := streamEchoRate(c, flight, time.Second)
		if err != nil {
			return fmt.Errorf("TLS echo: %w", err)
		}
		name := "tls_echo_64_per_s"
		if flight == 1 {
			name = "tls_echo_seq_per_s"
		}
		b.add(name, rate, "1/s")
	}
	return nil
}

// streamEchoRate keeps so many messages in flight on a connection that echoes.
func streamEchoRate(c net.Conn, flight int, length time.Duration) (float64, error) {
	msg := make([]byte, messageSize)
	start, n := time.Now(), 0
	if err := c.SetDeadline(start.Add(length + 10*time.Second)); err != nil {
		return 0, err
	}
	for range flight {
		if _, err := c.Write(msg); err != nil {
			return 0, err
		}
	}
	for time.Since(start) < length {
		for range 64 { // the clock costs, too
			if _, err := io.ReadFull(c, msg); err != nil {
				return 0, err
			}
			n++
			if _, err := c.Write(msg); err != nil {
				return 0, err
			}
		}
	}
	rate := float64(n) / time.Since(start).Seconds()
	for range flight { // nothing is left for the next round
		if _, err := io.ReadFull(c, msg); err != nil {
			return 0, err
		}
	}
	return rate, nil
}
