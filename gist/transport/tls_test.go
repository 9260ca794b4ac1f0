package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/internal/pki"
)

// authority is a certificate authority for one test.
type authority struct {
	t    testing.TB
	ca   *pki.CA
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ca, err := pki.NewCA(pki.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, ca: ca, pool: x509.NewCertPool()}
	a.pool.AddCert(ca.Cert)
	return a
}

func (a *authority) issue(r pki.Request) tls.Certificate {
	a.t.Helper()
	p, err := a.ca.Issue(r)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// config is that of the QNE of an AS.
func (a *authority) config(as uint32) TLSConfig {
	return TLSConfig{CAs: a.pool, Certificate: a.issue(pki.Request{
		Name: "qne", AS: as, IPs: []netip.Addr{loopback4.Addr()}, DNS: []string{"qne.example"},
	})}
}

func newTLS(t testing.TB, cfg TLSConfig) *TLS {
	t.Helper()
	s, err := NewTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tlsEnds returns two transports that could be connected, and where the second
// listens.
func tlsEnds(t testing.TB, a, b TLSConfig, change ...func(*TCPConfig)) (from, to *TCP, fromSink, toSink *sink, errs errorSink) {
	t.Helper()
	fromSink, toSink, errs = newSink(), newSink(), make(errorSink, 16)
	ca := TCPConfig{Handler: fromSink.handle, TLS: newTLS(t, a)}
	cb := TCPConfig{Handler: toSink.handle, TLS: newTLS(t, b), ListenTLS: []netip.AddrPort{loopback4}, OnError: errs.hear}
	for _, f := range change {
		f(&ca)
		f(&cb)
	}
	return listenTCP(t, ca), listenTCP(t, cb), fromSink, toSink, errs
}

func connectTLS(t testing.TB, from, to *TCP) {
	t.Helper()
	if err := from.Connect(gist.Connect{Conn: 1, Local: loopback4.Addr(), To: to.LocalAddrs()[0], Stack: gist.StackTLS}); err != nil {
		t.Fatal(err)
	}
}

func tlsPair(t testing.TB, change ...func(*TCPConfig)) (from, to *TCP, fromSink, toSink *sink) {
	t.Helper()
	a := newAuthority(t)
	from, to, fromSink, toSink, _ = tlsEnds(t, a.config(65001), a.config(65002), change...)
	connectTLS(t, from, to)
	fromSink.until(t, "ConnUp", has[gist.ConnUp])
	return from, to, fromSink, toSink
}

// RFC 5971 §5.7.3: "a client/server X.509 certificate exchange. The Querying
// node acts as a TLS client, and the Responding node acts as a TLS server", and
// both ends learn whom the other's certificate names.
func TestTLSMessagesBothWaysAndCertificates(t *testing.T) {
	from, to, fromSink, toSink := tlsPair(t)
	const n = 500
	for i := range n {
		if i%3 == 0 {
			send(t, from, 1, message(4*(i%50)))
			continue
		}
		queue(t, from, 1, message(4*(i%50)))
		if i%7 == 0 {
			from.Flush()
		}
	}
	from.Flush()
	events := toSink.count(t, n+1)
	accepted, ok := events[0].(gist.ConnAccepted)
	if !ok || accepted.Stack != gist.StackTLS || accepted.Certificate == nil {
		t.Fatalf("first event %+v, want ConnAccepted over TLS", events[0])
	}
	up, _ := find[gist.ConnUp](fromSink.all())
	for as, c := range map[uint32]*gist.Certificate{65001: accepted.Certificate, 65002: up.Certificate} {
		if c == nil || c.CommonName != "qne" || len(c.URIs) != 1 || c.URIs[0] != pki.ASURI(as) || len(c.Addresses) != 1 ||
			c.Addresses[0] != loopback4.Addr() || len(c.DNSNames) != 1 || c.DNSNames[0] != "qne.example" || c.NotAfter.Before(time.Now()) {
			t.Errorf("the peer's certificate of AS%d is told as %+v", as, c)
		}
	}
	for i, ev := range events[1:] {
		if m, ok := ev.(*gist.ConnMessage); !ok || m.Conn != accepted.Conn || !bytes.Equal(m.Payload, message(4*(i%50))) {
			t.Fatalf("event %d is %+v, want message %d", i+1, ev, i)
		}
	}
	send(t, to, accepted.Conn, message(8))
	if got, ok := fromSink.count(t, 2)[1].(*gist.ConnMessage); !ok || !bytes.Equal(got.Payload, message(8)) {
		t.Errorf("answer %+v, want the message sent", got)
	}
}

// countingConn counts what is written to it: each is a system call.
type countingConn struct {
	net.Conn
	writes, octets int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	c.octets += len(p)
	return c.Conn.Write(p)
}

// RFC 5971 §5.4: messages that wait together leave together: a batch is sealed
// into full records, and they are written at once.
func TestTLSBatchIsOneWriteOfFewRecords(t *testing.T) {
	a := newAuthority(t)
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	counted := &countingConn{Conn: near}
	w := newRecords(counted, 1<<20, func() {})
	client := tls.Client(w, newTLS(t, a.config(1)).current.Load().client)
	server := tls.Server(far, newTLS(t, a.config(2)).current.Load().server)
	var wg sync.WaitGroup
	defer wg.Wait()
	got := make(chan int, 1)
	wg.Go(func() {
		b := make([]byte, 64<<10)
		n, err := io.ReadFull(server, b[:100*300])
		if err != nil {
			t.Error(err)
		}
		got <- n
	})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.hold()
	*counted = countingConn{Conn: near}
	if err := w.seal(client, make([]byte, 100*300)); err != nil {
		t.Fatal(err)
	}
	if counted.writes != 0 {
		t.Errorf("%d writes while messages are sealed, want none", counted.writes)
	}
	if err := w.drain(patience); err != nil {
		t.Fatal(err)
	}
	// 30,000 octets are two records of at most 16 KiB, each with a header of 5
	// and a type and tag of 17 octets.
	if want := 30_000 + 2*22; counted.writes != 1 || counted.octets != want {
		t.Errorf("%d writes with %d octets, want one with %d", counted.writes, counted.octets, want)
	}
	if n := <-got; n != 30_000 {
		t.Errorf("%d octets arrived", n)
	}
}

// Order and bounds hold where the peer is slow, whoever writes.
func TestTLSFlushAndWriterKeepTheOrder(t *testing.T) {
	a := newAuthority(t)
	release, toSink, up := make(chan struct{}), newSink(), newSink()
	to := listenTCP(t, TCPConfig{ListenTLS: []netip.AddrPort{loopback4}, TLS: newTLS(t, a.config(2)), Handler: func(e []gist.Event) {
		<-release
		toSink.handle(e)
	}})
	from := listenTCP(t, TCPConfig{Handler: up.handle, QueueBytes: 64 << 20, CloseTimeout: patience, TLS: newTLS(t, a.config(1))})
	connectTLS(t, from, to)
	up.count(t, 1)
	if err := from.conn(1).tls.wire.Conn.(*net.TCPConn).SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	const n = 600
	length := func(i int) int { return 4 * (i % 4000) * 5 }
	left := false
	for i := range n {
		if i%7 == 0 {
			send(t, from, 1, message(length(i)))
			continue
		}
		queue(t, from, 1, message(length(i)))
		if i%5 == 0 {
			from.Flush()
			c := from.conn(1)
			c.mu.Lock()
			left = left || len(c.queue) > 0 || c.writing || c.tls.wire.pending()
			c.mu.Unlock()
		}
	}
	from.Flush()
	if err := from.CloseConn(gist.CloseConn{Conn: 1}); err != nil {
		t.Fatal(err)
	}
	close(release)
	if !left {
		t.Error("the kernel took everything at once: this test tests nothing")
	}
	events := toSink.until(t, "ConnDown", has[gist.ConnDown])
	if len(events) != n+2 {
		t.Fatalf("%d events, want %d messages between ConnAccepted and ConnDown", len(events), n)
	}
	for i, ev := range events[1 : n+1] {
		if m, ok := ev.(*gist.ConnMessage); !ok || !bytes.Equal(m.Payload, message(length(i))) {
			t.Fatalf("event %d is not message %d", i+1, i)
		}
	}
	if down := events[n+1].(gist.ConnDown); !errors.Is(down.Err, io.EOF) {
		t.Errorf("ConnDown with %v, want the end of the stream", down.Err)
	}
}

// RFC 5971 §5.7.3.1: "a node MUST verify the binding between the identity of the
// peer to which it connects and the public key presented by that peer". Who is
// refused, and who refuses, both say so, as an error that another try would not
// mend.
func TestTLSWrongCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.config(65001)
	foreign := other.config(65001)
	foreign.CAs = a.pool
	past := a.ca.Now
	a.ca.Now = func() time.Time { return time.Now().Add(-48 * time.Hour) }
	expired := TLSConfig{CAs: a.pool, Certificate: a.issue(pki.Request{Name: "old", AS: 65001, Lifetime: 24 * time.Hour})}
	a.ca.Now = past
	for name, c := range map[string]struct {
		client, server TLSConfig
		text           string // on the side that looks
	}{
		"client of another authority": {foreign, good, "signed by unknown authority"},
		"client, expired":             {expired, good, "expired"},
		"server of another authority": {good, foreign, "signed by unknown authority"},
		"server, expired":             {good, expired, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, fromSink, toSink, errs := tlsEnds(t, c.client, c.server)
			connectTLS(t, from, to)
			fromSink.until(t, "ConnDown", has[gist.ConnDown])
			down, _ := find[gist.ConnDown](fromSink.all())
			refused := errs.next(t)
			if !errors.Is(down.Err, gist.ErrAuthentication) || !errors.Is(refused, gist.ErrAuthentication) {
				t.Errorf("client: %v; server: %v; want ErrAuthentication on both sides", down.Err, refused)
			}
			who := refused
			if strings.HasPrefix(name, "server") {
				who = down.Err
			}
			if !strings.Contains(who.Error(), c.text) {
				t.Errorf("%v, want it to say %q", who, c.text)
			}
			if e := toSink.all(); len(e) != 0 {
				t.Errorf("the machine heard of it: %+v", e)
			}
		})
	}
}

func TestTLSWithoutClientCertificate(t *testing.T) {
	a := newAuthority(t)
	_, to, _, toSink, errs := tlsEnds(t, a.config(1), a.config(2))
	nc := tls.Client(dialRaw(t, to), &tls.Config{InsecureSkipVerify: true})
	if err := nc.Handshake(); err != nil { // TLS 1.3: the client has not heard yet
		t.Fatal(err)
	}
	if _, err := nc.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("the client hears %v", err)
	}
	if err := errs.next(t); !errors.Is(err, gist.ErrAuthentication) || !strings.Contains(err.Error(), "didn't provide a certificate") {
		t.Errorf("the server says %v", err)
	}
	if e := toSink.all(); len(e) != 0 {
		t.Errorf("events %+v", e)
	}
}

// Who speaks no TLS on its port, and who speaks it on the other, is told from a
// peer by the first octets.
func TestTLSAndPlainDoNotMix(t *testing.T) {
	a := newAuthority(t)
	_, to, _, _, errs := tlsEnds(t, a.config(1), a.config(2))
	nc := dialRaw(t, to)
	write(t, nc, message(4))
	if err := errs.next(t); !errors.Is(err, ErrTLS) || !strings.Contains(err.Error(), "does not look like a TLS handshake") {
		t.Errorf("GIST on the TLS port: %v", err)
	}
	in := newSink()
	plain := listenTCP(t, TCPConfig{Handler: in.handle, Listen: []netip.AddrPort{loopback4}})
	nc = dialRaw(t, plain)
	write(t, nc, []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc}) // a ClientHello begins
	_ = nc.(*net.TCPConn).CloseWrite()
	down, _ := find[gist.ConnDown](in.until(t, "ConnDown", has[gist.ConnDown]))
	if !errors.Is(down.Err, ErrFraming) {
		t.Errorf("TLS on the plain port: %v", down.Err)
	}
	if err := plain.Connect(gist.Connect{Conn: 1, To: to.LocalAddrs()[0], Stack: gist.StackTLS}); !errors.Is(err, ErrNoStack) {
		t.Errorf("Connect over a stack that is not configured: %v", err)
	}
}

// RFC 5971 §5.7.3: "MUST use the highest protocol version supported by both
// peers"; TLS 1.2 only where it is configured, and nothing older.
func TestTLSVersions(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		least, offered uint16
		ok             bool
	}{
		{0, tls.VersionTLS13, true}, {0, tls.VersionTLS12, false},
		{tls.VersionTLS12, tls.VersionTLS12, true}, {tls.VersionTLS12, tls.VersionTLS13, true}, {tls.VersionTLS12, tls.VersionTLS11, false},
	} {
		cfg := a.config(2)
		cfg.MinVersion = c.least
		_, to, _, _, _ := tlsEnds(t, a.config(1), cfg)
		nc := tls.Client(dialRaw(t, to), &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: c.offered, Certificates: []tls.Certificate{a.config(1).Certificate},
		})
		err := nc.Handshake()
		if (err == nil) != c.ok || err == nil && nc.ConnectionState().Version != c.offered {
			t.Errorf("least %s, offered %s: %v, version %s", tls.VersionName(c.least), tls.VersionName(c.offered), err, tls.VersionName(nc.ConnectionState().Version))
		}
		if err == nil && nc.ConnectionState().DidResume {
			t.Error("resumed")
		}
	}
	cfg := a.config(1)
	for _, v := range []uint16{tls.VersionTLS11, tls.VersionTLS13 + 1} {
		cfg.MinVersion = v
		if _, err := NewTLS(cfg); !errors.Is(err, ErrTLS) {
			t.Errorf("minimum version %#x: %v", v, err)
		}
	}
	if _, err := NewTLS(TLSConfig{CAs: a.pool}); !errors.Is(err, ErrTLS) {
		t.Errorf("without a certificate: %v", err)
	}
	if _, err := NewTLS(TLSConfig{Certificate: cfg.Certificate}); !errors.Is(err, ErrTLS) {
		t.Errorf("without authorities: %v", err)
	}
}

// RFC 5971 §4.4.2: certificates are replaced without a restart: new connections use the new
// ones, those that stand go on, and Recheck ends those whose authority is gone.
func TestTLSReplace(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	from, to, fromSink, toSink, _ := tlsEnds(t, old.config(1), old.config(2))
	connectTLS(t, from, to)
	fromSink.count(t, 1)
	both := x509.NewCertPool()
	both.AddCert(old.ca.Cert)
	both.AddCert(next.ca.Cert)
	for side, as := range map[*TCP]uint32{from: 1, to: 2} {
		cfg := next.config(as)
		cfg.CAs = both
		if err := side.cfg.TLS.Replace(cfg); err != nil {
			t.Fatal(err)
		}
		side.Recheck()
	}
	send(t, from, 1, message(4))
	toSink.until(t, "a message over the old connection", has[*gist.ConnMessage])
	if err := from.Connect(gist.Connect{Conn: 3, To: to.LocalAddrs()[0], Stack: gist.StackTLS}); err != nil {
		t.Fatal(err)
	}
	fromSink.count(t, 2)
	send(t, from, 3, message(8))
	toSink.count(t, 4)
	// The overlap is over.
	cfg := next.config(1)
	if err := from.cfg.TLS.Replace(cfg); err != nil {
		t.Fatal(err)
	}
	from.Recheck()
	events := fromSink.until(t, "ConnDown", has[gist.ConnDown])
	if down, _ := find[gist.ConnDown](events); down.Conn != 1 || !errors.Is(down.Err, gist.ErrAuthentication) {
		t.Errorf("%+v, want the connection with the old certificate to end", down)
	}
	send(t, from, 3, message(12))
	toSink.until(t, "the other one goes on", func(e []gist.Event) bool {
		return slices.ContainsFunc(e, func(ev gist.Event) bool { // the end of the first one may come before it or after
			m, ok := ev.(*gist.ConnMessage)
			return ok && len(m.Payload) == len(message(12))
		})
	})
}

// Silent and slow TLS peers cost a place for a while each, and where there are
// too many the newcomer gets it (RFC 5971 §8.4).
func TestTLSSilentPeersMakeRoom(t *testing.T) {
	a := newAuthority(t)
	from, to, fromSink, toSink, errs := tlsEnds(t, a.config(1), a.config(2), func(c *TCPConfig) { c.MaxAccepted, c.HandshakeTimeout = 4, time.Hour })
	var silent []net.Conn
	for i := range 8 {
		nc := dialRaw(t, to)
		write(t, nc, []byte{22, 3, 1}[:i%4])
		silent = append(silent, nc)
	}
	for range 4 {
		if err := errs.next(t); !errors.Is(err, ErrTooManyConns) {
			t.Errorf("a silent peer was dropped with %v", err)
		}
	}
	connectTLS(t, from, to)
	fromSink.until(t, "ConnUp", has[gist.ConnUp])
	send(t, from, 1, message(4))
	toSink.until(t, "a message among silent peers", has[*gist.ConnMessage])
	for _, nc := range silent {
		_ = nc.Close()
	}
}

func TestTLSHandshakeHasToComeInTime(t *testing.T) {
	a := newAuthority(t)
	_, to, _, _, errs := tlsEnds(t, a.config(1), a.config(2), func(c *TCPConfig) { c.HandshakeTimeout, c.CloseTimeout = time.Millisecond, time.Millisecond })
	nc := dialRaw(t, to)
	if err := errs.next(t); !errors.Is(err, ErrTLS) || errors.Is(err, gist.ErrAuthentication) {
		t.Errorf("%v, want a handshake that failed, and not who the peer is", err)
	}
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	// Our own attempts end as well: a server that accepts and says nothing.
	l, err := net.Listen("tcp", loopback4.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	up := newSink()
	from := listenTCP(t, TCPConfig{Handler: up.handle, TLS: newTLS(t, a.config(1)), HandshakeTimeout: time.Millisecond})
	if err := from.Connect(gist.Connect{Conn: 1, To: addrPort(l.Addr()), Stack: gist.StackTLS}); err != nil {
		t.Fatal(err)
	}
	down := up.count(t, 1)[0].(gist.ConnDown)
	if !errors.Is(down.Err, ErrTLS) || errors.Is(down.Err, gist.ErrAuthentication) {
		t.Errorf("ConnDown with %v", down.Err)
	}
}

// A cut stream is not the end of one: without close_notify the peer did not say
// that this was all.
func TestTLSTruncation(t *testing.T) {
	from, to, fromSink, toSink := tlsPair(t)
	send(t, from, 1, message(4))
	toSink.count(t, 2)
	if err := from.conn(1).tls.wire.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	down, _ := find[gist.ConnDown](toSink.until(t, "ConnDown", has[gist.ConnDown]))
	if !errors.Is(down.Err, io.ErrUnexpectedEOF) {
		t.Errorf("ConnDown with %v, want an unexpected end", down.Err)
	}
	fromSink.until(t, "ConnDown", has[gist.ConnDown])
	_ = to
}

// The key log opens what was recorded, and is written only where it is asked
// for.
func TestTLSKeyLog(t *testing.T) {
	a := newAuthority(t)
	var mu sync.Mutex
	var log bytes.Buffer
	cfg := a.config(2)
	cfg.KeyLog = writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	})
	from, to, fromSink, _, _ := tlsEnds(t, a.config(1), cfg)
	connectTLS(t, from, to)
	fromSink.count(t, 1)
	mu.Lock()
	defer mu.Unlock()
	for _, label := range []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_TRAFFIC_SECRET_0 ", "CLIENT_TRAFFIC_SECRET_0 "} {
		if !strings.Contains(log.String(), label) {
			t.Errorf("the key log has no %s", label)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What OpenSSL says of our server: it asks for a client certificate, speaks TLS
// 1.3, gives no ticket, and takes a GIST message.
func TestTLSAgainstOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	a := newAuthority(t)
	dir := t.TempDir()
	if err := a.ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	p, err := a.ca.Issue(pki.Request{Name: "stranger", AS: 65009})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Save(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	_, to, _, toSink, _ := tlsEnds(t, a.config(1), a.config(2))
	cmd := exec.Command(openssl, "s_client", "-connect", to.LocalAddrs()[0].String(), "-CAfile", pki.BundleFile(dir),
		"-cert", pki.CertFile(dir, "stranger"), "-key", pki.KeyFile(dir, "stranger"), "-verify_return_error", "-nocommands", "-ign_eof")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(message(24)); err != nil {
		t.Fatal(err)
	}
	events := toSink.count(t, 2)
	accepted, _ := find[gist.ConnAccepted](events)
	if m, ok := events[1].(*gist.ConnMessage); !ok || !bytes.Equal(m.Payload, message(24)) || accepted.Certificate.URIs[0] != pki.ASURI(65009) {
		t.Errorf("got %+v", events)
	}
	if err := to.CloseConn(gist.CloseConn{Conn: accepted.Conn}); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	_ = cmd.Wait() // its status is about its own input
	text := out.String()
	for _, want := range []string{"Verification: OK", "TLSv1.3", "Acceptable client certificate CA names"} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "New Session Ticket arrived") {
		t.Error("the server gave a session ticket")
	}
}
