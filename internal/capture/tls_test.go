package capture_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	nslp "github.com/interqos/interqos/qosnslp/wire"
)

// keyLogDir is where scenarios put their key logs.
var keyLogDir string

func tls13(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }

func tls12(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }

// certificate makes a key and a certificate of its own.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsConfigs are those of two peers that show each other certificates and
// believe them: what is tested here is the opening of records.
func tlsConfigs(t *testing.T, keys io.Writer, change func(*tls.Config)) (client, server *tls.Config) {
	t.Helper()
	make := func() *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true}
		change(c)
		return c
	}
	client, server = make(), make()
	client.KeyLogWriter = keys
	return client, server
}

// association are the messages that the two sides of a messaging association
// send in turn, the querying node first.
func association() (query, response wire.Message, turns [][]wire.Message) {
	mri := flow("10.1.0.1", "10.2.0.1", 5001)
	header := func(kind wire.MessageType) wire.Header { return wire.Header{HopCount: 64, NSLPID: nslpID, Type: kind} }
	nli := func(address string) wire.NLI {
		return wire.NLI{PeerIdentity: []byte(address), Address: netip.MustParseAddr(address), ValidityMS: 30_000, IPTTL: 64}
	}
	stack := wire.StackProposal{{wire.ForwardsTLS, wire.ForwardsTCP}}
	query = wire.Message{Header: header(wire.Query), HasMRI: true, MRI: mri, HasSID: true, SID: testSID, HasNLI: true, NLI: nli("10.1.0.1"), QueryCookie: []byte("question"),
		StackProposal: stack, HasStackConfig: true, StackConfig: wire.StackConfig{HoldTimeMS: 30_000, Options: []wire.MAOptions{{Protocol: wire.ForwardsTCP}}}}
	query.C, query.R = true, true
	response = query
	response.Header, response.NLI, response.MRI = header(wire.Response), nli("10.2.0.1"), mri.Reverse()
	response.R, response.ResponderCookie = true, []byte("responder's cookie!!")
	response.StackConfig.Options = []wire.MAOptions{{Protocol: wire.ForwardsTCP, Data: wire.PortData(30001)}}
	confirm := wire.Message{Header: header(wire.Confirm), HasMRI: true, MRI: mri, HasSID: true, SID: testSID, HasNLI: true, NLI: nli("10.1.0.1"),
		ResponderCookie: response.ResponderCookie, StackProposal: stack, HasStackConfig: true, StackConfig: wire.StackConfig{HoldTimeMS: 30_000}}
	data := func(m wire.MRI, payload []byte) wire.Message {
		return wire.Message{Header: header(wire.Data), HasMRI: true, MRI: m, HasSID: true, SID: testSID, NSLPData: payload}
	}
	hello := wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, R: true}, HasHelloID: true, HelloID: 0x1234}
	echo := hello
	echo.R = false
	return query, response, [][]wire.Message{
		{confirm, data(mri, testReserve)},
		{data(mri.Reverse(), response0()), hello},
		{echo, data(mri, testReserve)},
		{data(mri.Reverse(), response0())},
	}
}

func response0() []byte { return response(nslp.ClassSuccess, nslp.ReservationSuccessful) }

// talk has two ends of a stream say their turns.
func talk(t *testing.T, client, server io.ReadWriter, turns [][]wire.Message) {
	t.Helper()
	for i, turn := range turns {
		from, to := client, server
		if i%2 == 1 {
			from, to = server, client
		}
		var b []byte
		for j := range turn {
			b = turn[j].Append(b)
		}
		wrote := make(chan error, 1)
		go func() { _, err := from.Write(b); wrote <- err }()
		got := make([]byte, len(b))
		if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("turn %d: %v", i, err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
}

// overTLS is an association over TLS, its handshake in datagrams before it.
func overTLS(t *testing.T, keyLog string, change func(*tls.Config)) {
	keys, err := os.Create(filepath.Join(keyLogDir, keyLog))
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	query, response, turns := association()
	a, b := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.1.0.1:270")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.2.0.1:270"))
	for _, m := range []struct {
		from, to *net.UDPAddr
		m        wire.Message
	}{{a, b, query}, {b, a, response}} {
		c, err := net.ListenUDP("udp", m.from)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.WriteToUDP(m.m.AppendDatagram(nil), m.to)
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	client, server := tlsConfigs(t, keys, change)
	l, err := net.Listen("tcp", "10.2.0.1:30001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.1.0.1")}}
	raw, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	x, y := tls.Client(raw, client), tls.Server(accepted, server)
	talk(t, x, y, turns)
	_ = x.Close()
	_ = y.Close()
}
