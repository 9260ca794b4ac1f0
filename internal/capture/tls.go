package capture

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// Opening of TLS 1.3 (RFC 8446) and of TLS 1.2 (RFC 5246) with AEAD suites, from
// what both sides sent and the secrets of a key log. It follows the handshakes
// as far as the keys ask for, and checks nothing but the AEADs' tags.

const (
	recordHeaderLen = 5
	maxRecord       = 1<<14 + 2048 // RFC 5246 §6.2.3; TLS 1.3 has less
	maxHandshake    = 256 << 10    // one handshake message, octets
	maxTLSWaiting   = 256 << 10    // records of one side that wait for the other's hello
)

// Record types.
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordData             = 23
)

// Handshake messages.
const (
	helloClient = 1
	helloServer = 2
	finished    = 20
	keyUpdate   = 24
)

const (
	version12 = 0x0303
	version13 = 0x0304

	extSupportedVersions = 43
)

// helloRetry is the random of a ServerHello that is a HelloRetryRequest.
// RFC 8446 §4.1.3
var helloRetry = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

// tlsConn is TLS on one connection.
type tlsConn struct {
	hasClient    bool
	client       int // the direction of the client
	random       [32]byte
	serverRandom [32]byte
	suite        *tlsSuite // nil: no ServerHello yet
	version      uint16
	half         [2]tlsHalf
}

// tlsHalf is what one side sends.
type tlsHalf struct {
	buf       []byte // records, not yet read
	at        int64  // where buf begins
	handshake []byte // handshake messages, not yet read
	key       *tlsKey
	pending   *tlsKey // TLS 1.2: from ChangeCipherSpec on
	secret    []byte  // TLS 1.3: of the key
	traffic   bool    // application data may come
	skip      int     // octets of a record that are of no use
	dead      bool    // cannot be read any more; has been remarked upon
}

func (t *tlsConn) size() int {
	n := 0
	for i := range t.half {
		n += len(t.half[i].buf) + len(t.half[i].handshake)
	}
	return n
}

// isRecord says whether b begins like a TLS record.
func isRecord(b []byte) verdict {
	if len(b) > 0 && (b[0] < recordChangeCipherSpec || b[0] > recordData) || len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
		return no
	}
	if len(b) < recordHeaderLen {
		return maybe
	}
	if n := binary.BigEndian.Uint16(b[3:]); n == 0 || n > maxRecord {
		return no
	}
	return yes
}

// records takes octets of TLS.
func (r *Reader) records(c *conn, dir int, b []byte, at packet) {
	h := &c.tls.half[dir]
	if h.dead {
		return
	}
	if h.skip > 0 {
		n := min(h.skip, len(b))
		h.skip -= n
		h.at += int64(n)
		b = b[n:]
	}
	h.buf = append(h.buf, b...)
	// What one side says may let the other's records be read.
	for r.readRecords(c, dir, at) && r.readRecords(c, 1-dir, at) {
	}
	if len(h.buf) > maxTLSWaiting {
		r.tlsFail(c, dir, at, "the other side's hello is not in the capture")
	}
}

// readRecords reads what can be read of one direction, and says whether that
// was anything.
func (r *Reader) readRecords(c *conn, dir int, at packet) bool {
	h := &c.tls.half[dir]
	progress := false
	for !h.dead && len(h.buf) >= recordHeaderLen {
		if isRecord(h.buf) != yes {
			r.tlsFail(c, dir, at, fmt.Sprintf("no record at offset %d: % x", h.at, h.buf[:recordHeaderLen]))
			break
		}
		n := recordHeaderLen + int(binary.BigEndian.Uint16(h.buf[3:]))
		if len(h.buf) < n {
			break
		}
		ready, err := r.record(c, dir, h.buf[:n], at)
		if err != nil {
			r.tlsFail(c, dir, at, fmt.Sprintf("record at offset %d: %v", h.at, err))
			break
		}
		if !ready {
			break
		}
		progress = true
		h.buf = h.buf[n:]
		h.at += int64(n)
	}
	if len(h.buf) == 0 {
		h.buf = nil
	}
	return progress
}

func (r *Reader) tlsFail(c *conn, dir int, at packet, why string) {
	h := &c.tls.half[dir]
	h.dead, h.buf, h.handshake = true, nil, nil
	if other := &c.tls.half[1-dir]; other.key == nil {
		other.dead, other.buf, other.handshake = true, nil, nil // for the same reason
	}
	r.streamRemark(c, dir, TLS, at, "TLS cannot be opened from here on: "+why)
}

// record reads one record. ready is false if it has to wait for the other side.
func (r *Reader) record(c *conn, dir int, b []byte, at packet) (ready bool, err error) {
	t := c.tls
	h := &t.half[dir]
	kind, payload := b[0], b[recordHeaderLen:]
	switch {
	case kind == recordChangeCipherSpec:
		return r.changeCipherSpec(c, dir)
	// In TLS 1.3 what is protected is of type data on the outside, and the
	// keys are known before a second ClientHello.
	case kind == recordHandshake && (h.key == nil || h.key.tls13):
		return true, r.handshake(c, dir, payload)
	case kind == recordAlert && (h.key == nil || h.key.tls13):
		return true, nil
	case h.key == nil && t.suite == nil:
		if t.hasClient && t.client == dir && !c.half[1-dir].midway {
			return false, nil
		}
		return false, fmt.Errorf("the capture does not have the handshake")
	case h.key == nil:
		return false, fmt.Errorf("not preceded by a handshake")
	}
	kind, payload, err = h.key.open(b)
	if err != nil {
		return false, err
	}
	switch kind {
	case recordHandshake:
		if t.version == version13 {
			err = r.handshake(c, dir, payload)
		}
	case recordData:
		r.messages(c, dir, TLS, payload, at)
	}
	return true, err
}

// changeCipherSpec begins the use of keys in TLS 1.2; in TLS 1.3 it means
// nothing.
func (r *Reader) changeCipherSpec(c *conn, dir int) (ready bool, err error) {
	t := c.tls
	h := &t.half[dir]
	switch {
	case t.suite == nil && t.hasClient:
		return t.client != dir, nil // the server's follows a HelloRetryRequest
	case t.suite == nil:
		return false, fmt.Errorf("the capture does not have the handshake")
	case t.version == version13:
		return true, nil
	case h.pending == nil:
		return false, fmt.Errorf("the cipher is changed a second time")
	}
	h.key, h.pending, h.traffic = h.pending, nil, true
	return true, nil
}

// handshake takes octets of the handshake protocol; a message may be spread
// over records.
func (r *Reader) handshake(c *conn, dir int, b []byte) error {
	h := &c.tls.half[dir]
	h.handshake = append(h.handshake, b...)
	for len(h.handshake) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(h.handshake)&0xffffff)
		if n > maxHandshake {
			return fmt.Errorf("handshake message of %d octets, expected at most %d", n, maxHandshake)
		}
		if len(h.handshake) < n {
			return nil
		}
		m := h.handshake[:n]
		h.handshake = h.handshake[n:]
		if err := r.handshakeMessage(c, dir, m[0], m[4:]); err != nil {
			return err
		}
	}
	if len(h.handshake) == 0 {
		h.handshake = nil
	}
	return nil
}

func (r *Reader) handshakeMessage(c *conn, dir int, kind byte, b []byte) error {
	t := c.tls
	h := &t.half[dir]
	switch {
	case h.key == nil && kind == helloClient:
		if len(b) < 34 {
			return fmt.Errorf("ClientHello of %d octets", len(b))
		}
		t.hasClient, t.client = true, dir
		copy(t.random[:], b[2:34])
	case h.key == nil && kind == helloServer:
		return r.serverHello(c, dir, b)
	case h.key != nil && kind == finished:
		label := labelServerTraffic
		if dir == t.client {
			label = labelClientTraffic
		}
		secret := r.options.KeyLog.find(label, t.random)
		if secret == nil {
			return fmt.Errorf("the key log has no %s for client random %x", label, t.random)
		}
		h.traffic = true
		return h.use(t.suite, secret)
	case h.key != nil && kind == keyUpdate && h.traffic:
		// RFC 8446 §7.2
		return h.use(t.suite, t.suite.expandLabel(h.secret, "traffic upd", t.suite.hash().Size()))
	}
	return nil
}

// use makes secret the one that the following records are protected with.
func (h *tlsHalf) use(s *tlsSuite, secret []byte) (err error) {
	if len(secret) != s.hash().Size() {
		return fmt.Errorf("a secret of %d octets, expected %d", len(secret), s.hash().Size())
	}
	h.secret = secret
	h.key, err = s.key13(secret)
	return err
}

// serverHello learns version and suite, and takes the keys from the key log.
func (r *Reader) serverHello(c *conn, dir int, b []byte) error {
	t := c.tls
	if !t.hasClient || t.client == dir {
		return fmt.Errorf("the capture does not have the ClientHello")
	}
	if len(b) < 35 || len(b) < 35+int(b[34])+3 {
		return fmt.Errorf("ServerHello of %d octets", len(b))
	}
	version := binary.BigEndian.Uint16(b)
	copy(t.serverRandom[:], b[2:34])
	if bytes.Equal(t.serverRandom[:], helloRetry[:]) {
		return nil
	}
	b = b[35+int(b[34]):]
	id := binary.BigEndian.Uint16(b)
	if b = b[3:]; len(b) >= 2 { // after the compression method: extensions
		for b = b[2:]; len(b) >= 4; {
			kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
			if n > len(b)-4 {
				break
			}
			if kind == extSupportedVersions && n == 2 {
				version = binary.BigEndian.Uint16(b[4:])
			}
			b = b[4+n:]
		}
	}
	suite := suites[id]
	if version != version13 && version != version12 || suite == nil || suite.tls13 != (version == version13) {
		return fmt.Errorf("version %#04x with cipher suite %#04x: expected TLS 1.3, or TLS 1.2 with AES-GCM or ChaCha20-Poly1305", version, id)
	}
	t.version, t.suite = version, suite
	if version == version12 {
		return r.keys12(t)
	}
	for i, label := range [2]string{labelClientHandshake, labelServerHandshake} {
		side := t.client
		if i == 1 {
			side = 1 - t.client
		}
		secret := r.options.KeyLog.find(label, t.random)
		if secret == nil {
			return fmt.Errorf("the key log has no %s for client random %x", label, t.random)
		}
		if err := t.half[side].use(suite, secret); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) keys12(t *tlsConn) error {
	master := r.options.KeyLog.find(labelMaster, t.random)
	if master == nil {
		return fmt.Errorf("the key log has no %s for client random %x", labelMaster, t.random)
	}
	client, server, err := t.suite.keys12(master, t.random[:], t.serverRandom[:])
	t.half[t.client].pending, t.half[1-t.client].pending = client, server
	return err
}

// recordGap says that n octets are not in the capture. As long as they belong to
// one record of data the numbers of the following ones are known.
func (r *Reader) recordGap(c *conn, dir, n int, at packet) {
	h := &c.tls.half[dir]
	switch {
	case h.dead:
	case h.skip >= n:
		h.skip -= n
		h.at += int64(n)
	case h.key == nil || !h.traffic || h.skip > 0 || len(h.buf) < recordHeaderLen ||
		recordHeaderLen+int(binary.BigEndian.Uint16(h.buf[3:]))-len(h.buf) < n || h.buf[0] != recordData:
		r.tlsFail(c, dir, at, fmt.Sprintf("%d octets from offset %d on are not in the capture", n, h.at+int64(len(h.buf))))
	default:
		length := int(binary.BigEndian.Uint16(h.buf[3:]))
		h.key.seq++
		h.skip = recordHeaderLen + length - len(h.buf) - n
		h.at += int64(len(h.buf) + n)
		h.buf = nil
		r.messageGap(c, dir, TLS, max(0, length-h.key.overhead()), at)
	}
}

// endRecords is the end of one side.
func (r *Reader) endRecords(c *conn, dir int) {
	h := &c.tls.half[dir]
	if !h.dead && len(h.buf) > 0 {
		r.tlsFail(c, dir, r.at, fmt.Sprintf("the stream ends within the record at offset %d, or before the other side's hello", h.at))
	}
}

// tlsKey opens the records of one side, in order.
type tlsKey struct {
	aead  cipher.AEAD
	iv    []byte // 12 octets; with explicit nonces 4
	seq   uint64
	tls13 bool
}

// explicit is how many octets of the nonce stand in each record: AES-GCM in TLS
// 1.2 (RFC 5288 §3).
func (k *tlsKey) explicit() int { return k.aead.NonceSize() - len(k.iv) }

// overhead is how many octets of a record are not data.
func (k *tlsKey) overhead() int {
	n := k.explicit() + k.aead.Overhead()
	if k.tls13 {
		n++
	}
	return n
}

// open returns the true type and the content of a record.
func (k *tlsKey) open(record []byte) (kind byte, payload []byte, err error) {
	header, body := record[:recordHeaderLen], record[recordHeaderLen:]
	if len(body) < k.overhead() {
		return 0, nil, fmt.Errorf("%d octets, expected at least %d", len(body), k.overhead())
	}
	var nonce [12]byte
	copy(nonce[:], k.iv)
	additional := header
	if n := k.explicit(); n > 0 {
		copy(nonce[len(k.iv):], body[:n])
		body = body[n:]
	} else {
		var seq [8]byte
		binary.BigEndian.PutUint64(seq[:], k.seq)
		for i, v := range seq {
			nonce[4+i] ^= v
		}
	}
	if !k.tls13 { // RFC 5246 §6.2.3.3
		additional = binary.BigEndian.AppendUint64(nil, k.seq)
		additional = append(additional, header[:3]...)
		additional = binary.BigEndian.AppendUint16(additional, uint16(len(body)-k.aead.Overhead()))
	}
	payload, err = k.aead.Open(nil, nonce[:], body, additional)
	if err != nil {
		return 0, nil, fmt.Errorf("record number %d does not open with the key log's secret", k.seq)
	}
	k.seq++
	if !k.tls13 {
		return header[0], payload, nil
	}
	// RFC 8446 §5.2: content, its type, zeros.
	payload = bytes.TrimRight(payload, "\x00")
	if len(payload) == 0 {
		return 0, nil, fmt.Errorf("record without a content type")
	}
	return payload[len(payload)-1], payload[:len(payload)-1], nil
}
