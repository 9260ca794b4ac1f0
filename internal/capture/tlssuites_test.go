package capture_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/interqos/interqos/internal/capture"
)

// tap is a net.Conn whose octets, both ways, are also frames of a capture.
type tap struct {
	net.Conn
	mu  *sync.Mutex
	me  *side
	all *[]frame
}

func (c tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	for rest := b; len(rest) > 0; rest = rest[min(len(rest), 1400):] {
		*c.all = append(*c.all, frame{data: c.me.send(rest[:min(len(rest), 1400)])})
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// tapped are the two ends of a connection, and its capture.
func tapped(t *testing.T) (client, server tap, all *[]frame) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
	}
	mu := &sync.Mutex{}
	all = &[]frame{}
	x, y := newSides(t, 30001)
	*all = frames(x.syn(), y.syn())
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return tap{a, mu, x, all}, tap{b, mu, y, all}, all
}

func keyLog(t *testing.T, keys string) capture.Options {
	t.Helper()
	k, err := capture.ReadKeyLog(strings.NewReader("# a comment\n\nOTHER_LABEL 00 11\n" + keys))
	if err != nil {
		t.Fatal(err)
	}
	return capture.Options{KeyLog: k}
}

func wantAssociation(t *testing.T, list []frame, o capture.Options) {
	t.Helper()
	messages, remarks, err := readAll(t, bytes.NewReader(pcap(101, list)), o)
	got := kinds(messages)
	if err != nil || len(remarks) > 0 || got["tls Confirm"] != 1 || got["tls Data RESERVE"] != 2 || got["tls Data RESPONSE"] != 2 || got["tls MA-Hello"] != 2 {
		for _, e := range remarks {
			t.Log(e.Remark)
		}
		t.Errorf("%v, %v", got, err)
	}
}

// Every AEAD suite that crypto/tls has, and a HelloRetryRequest.
func TestTLSSuites(t *testing.T) {
	changes := map[string]func(*tls.Config){
		"TLS 1.3": tls13,
		"TLS 1.3, HelloRetryRequest": func(c *tls.Config) {
			tls13(c)
			// The client sends a share of the first, the server wants the second.
			c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
			if c.KeyLogWriter == nil && c.ServerName == "server" {
				c.CurvePreferences = []tls.CurveID{tls.CurveP384}
			}
		},
	}
	for _, s := range tls.CipherSuites() {
		if s.SupportedVersions[0] < tls.VersionTLS13 && strings.Contains(s.Name, "ECDSA") && !strings.Contains(s.Name, "CBC") {
			changes["TLS 1.2 "+s.Name] = func(c *tls.Config) { tls12(c); c.CipherSuites = []uint16{s.ID} }
		}
	}
	if len(changes) < 5 {
		t.Fatalf("%d cases, want three suites of TLS 1.2 among them", len(changes))
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			var keys bytes.Buffer
			client, server := tlsConfigs(t, &keys, change)
			if strings.Contains(name, "Retry") {
				server.ServerName = "server"
				change(server)
			}
			a, b, all := tapped(t)
			_, _, turns := association()
			x, y := tls.Client(a, client), tls.Server(b, server)
			talk(t, x, y, turns)
			if state := x.ConnectionState(); strings.Contains(name, "TLS_") && !strings.HasSuffix(name, tls.CipherSuiteName(state.CipherSuite)) {
				t.Fatalf("suite %s", tls.CipherSuiteName(state.CipherSuite))
			} else if state.Version == tls.VersionTLS13 {
				t.Log(tls.CipherSuiteName(state.CipherSuite))
			}
			if strings.Contains(name, "Retry") && !bytes.Contains((*all)[3].data, []byte{0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a}) {
				t.Fatal("no HelloRetryRequest")
			}
			wantAssociation(t, *all, keyLog(t, keys.String()))
			damaged(t, *all, keyLog(t, keys.String()), keys.String())
		})
	}
}

// damaged captures of TLS give remarks that say why, and what was before.
func damaged(t *testing.T, all []frame, o capture.Options, keys string) {
	t.Helper()
	last := len(all) - 1
	flipped := func() []frame {
		list := append([]frame(nil), all...)
		data := bytes.Clone(list[last].data)
		data[len(data)-1] ^= 1
		list[last] = frame{data: data}
		return list
	}
	cut := append([]frame(nil), all...)
	cut[last] = frame{data: all[last].data[:len(all[last].data)-30], whole: len(all[last].data)}
	wrong := strings.Fields(keys)[1]
	for _, c := range []struct {
		name string
		list []frame
		o    capture.Options
		want string
		min  int // messages, at least
	}{
		{"no key log", all, capture.Options{}, "the key log has no ", 0},
		{"key log of another connection", all, keyLog(t, strings.ReplaceAll(keys, wrong, strings.Repeat("ab", 32))), "the key log has no ", 0},
		{"wrong secrets", all, keyLog(t, wrongSecrets(keys)), "does not open with the key log's secret", 0},
		{"begins late", all[len(all)-3:], o, "the capture does not have the handshake", 0},
		{"server's side alone", serverOnly(all), o, "the capture does not have the ClientHello", 0},
		{"an octet wrong", flipped(), o, "does not open with the key log's secret", 5},
	} {
		messages, remarks, err := readAll(t, bytes.NewReader(pcap(101, c.list)), c.o)
		if err != nil || len(messages) < c.min || len(remarks) == 0 || !strings.Contains(remarks[0].Remark, c.want) {
			t.Errorf("%s: %d messages, %v, %v; want ...%s...", c.name, len(messages), remarks, err, c.want)
		}
	}
	// A record cut by the capture costs its message.
	messages, remarks, err := readAll(t, bytes.NewReader(pcap(101, cut)), o)
	if err != nil || len(messages) < 5 || len(remarks) == 0 || !strings.Contains(remarks[0].Remark, "not in the capture") {
		t.Errorf("cut: %d messages, %v, %v", len(messages), remarks, err)
	}
}

// wrongSecrets changes each secret.
func wrongSecrets(keys string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(keys), "\n") {
		f := strings.Fields(line)
		out = append(out, f[0]+" "+f[1]+" "+strings.Repeat("0", len(f[2])))
	}
	return strings.Join(out, "\n")
}

func serverOnly(all []frame) (list []frame) {
	for _, f := range all {
		if f.data[13] == 2 { // from 10.2.0.1
			list = append(list, f)
		}
	}
	return list
}

// openssl changes its keys in the middle, and asks us to: RFC 8446 §4.6.3.
func TestTLSKeyUpdate(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed: crypto/tls alone never updates keys")
	}
	dir := t.TempDir()
	_, server := tlsConfigs(t, io.Discard, tls13)
	server.ClientAuth = tls.NoClientCert
	var keys bytes.Buffer
	server.KeyLogWriter = &keys
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca := filepath.Join(dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificates[0].Certificate[0]})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(openssl, "s_client", "-connect", l.Addr().String(), "-tls1_3", "-CAfile", ca, "-msg", "-msgfile", filepath.Join(dir, "messages"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	x, y := newSides(t, 30001)
	all := frames(x.syn(), y.syn())
	watched := &watch{Conn: raw, client: x, server: y, all: &all, news: make(chan struct{}, 1000)}
	conn := tls.Server(watched, server)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _, turns := association()
	reader := bufio.NewReader(conn)
	exchange := func(turn int) {
		t.Helper()
		for _, m := range turns[turn] {
			b := m.Append(nil)
			if bytes.HasPrefix(b, []byte("K")) {
				t.Fatal("a message that openssl takes for a command")
			}
			if _, err := in.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(reader, b); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range turns[turn+1] {
			if _, err := conn.Write(m.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	exchange(0)
	before := watched.reads()
	if _, err := in.Write([]byte("K\n")); err != nil { // update, and ask for one
		t.Fatal(err)
	}
	// crypto/tls reads only when asked to.
	got := make(chan error, 1)
	go func() { _, err := reader.Peek(1); got <- err }()
	for watched.reads() == before {
		select {
		case <-watched.news:
		case err := <-got:
			t.Fatalf("no update of keys came: %v", err)
		case <-time.After(time.Minute):
			t.Fatal("no update of keys came")
		}
	}
	b := turns[2][0].Append(nil)
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(reader, b); err != nil {
		t.Fatal(err)
	}
	turns[2] = turns[2][1:]
	exchange(2)
	watched.mu.Lock()
	list := append([]frame(nil), all...)
	watched.mu.Unlock()
	wantAssociation(t, list, keyLog(t, keys.String()))
	log, err := os.ReadFile(filepath.Join(dir, "messages"))
	if err != nil || strings.Count(string(log), "KeyUpdate") < 2 {
		t.Errorf("openssl tells of %d updates of keys, %v; want one each way", strings.Count(string(log), "KeyUpdate"), err)
	}
}

// watch is the server's end of a connection, whose octets both ways are frames.
type watch struct {
	net.Conn
	mu             sync.Mutex
	client, server *side
	all            *[]frame
	n              int
	news           chan struct{}
}

func (w *watch) reads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func (w *watch) add(s *side, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(b) > 0 {
		*w.all = append(*w.all, frame{data: s.send(b)})
	}
}

func (w *watch) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.add(w.client, b[:n])
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	w.news <- struct{}{}
	return n, err
}

func (w *watch) Write(b []byte) (int, error) {
	w.add(w.server, b)
	return w.Conn.Write(b)
}
