package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Soon is how long before its end a certificate should be renewed: that, or a
// third of its lifetime if that is less.
const Soon = 30 * day

// State says how a certificate is.
type State string

// States, the worse before the better: an entry has the first that applies.
const (
	Unreadable  State = "unreadable"   // it is no certificate
	NoKey       State = "no key"       // its key is missing or not readable
	WrongKey    State = "wrong key"    // the key beside it is another's
	OpenKey     State = "open key"     // others than its owner can read the key
	Untrusted   State = "untrusted"    // no authority of the bundle has signed it
	Expired     State = "expired"      // its time, or its authority's, is over
	NotYetValid State = "not yet"      // its time has not begun
	OldCA       State = "old CA"       // signed by an authority that is being replaced
	ExpiresSoon State = "expires soon" // within Soon of its end
	Valid       State = "valid"
)

// Entry is one certificate of a directory.
type Entry struct {
	Name  string
	File  string
	CA    bool              // an authority of the bundle
	Cert  *x509.Certificate // nil where it is unreadable
	State State
	Err   error // why it is unreadable, has no key, ...; may be nil
}

// lock keeps two processes from changing a directory at the same time.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { _ = d.Close() }, nil
}

// Names returns the names of the certificates in a directory, in order.
func Names(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), certExt)
		if ok && CheckName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// List returns what a directory has: the authorities, then the certificates by
// name.
func List(dir string, now time.Time) ([]Entry, error) {
	ca, err := LoadCA(dir)
	if err != nil {
		return nil, err
	}
	names, err := Names(dir)
	if err != nil {
		return nil, err
	}
	list := []Entry{{Name: caName, File: BundleFile(dir), CA: true, Cert: ca.Cert, State: timeState(ca.Cert, now)}}
	if err := checkKeyMode(KeyFile(dir, caName)); err != nil {
		list[0].State, list[0].Err = OpenKey, err
	}
	for _, old := range ca.Old {
		e := Entry{Name: caName, File: BundleFile(dir), CA: true, Cert: old, State: OldCA}
		if timeState(old, now) == Expired {
			e.State = Expired
		}
		list = append(list, e)
	}
	for _, name := range names {
		list = append(list, ca.entry(dir, name, now))
	}
	return list, nil
}

// entry looks at one certificate.
func (ca *CA) entry(dir, name string, now time.Time) Entry {
	e := Entry{Name: name, File: CertFile(dir, name)}
	certs, err := ReadCerts(e.File)
	if err != nil {
		e.State, e.Err = Unreadable, err
		return e
	}
	e.Cert = certs[0]
	if e.State, e.Err = checkKey(e.Cert, KeyFile(dir, name)); e.State != "" {
		return e
	}
	issuer := ca.issuer(e.Cert)
	switch {
	case issuer == nil:
		e.State = Untrusted
		e.Err = fmt.Errorf("%s: no authority in %s has signed it", e.File, BundleFile(dir))
	case timeState(issuer, now) == Expired:
		e.State = Expired
		e.Err = fmt.Errorf("the authority %q ended %s", issuer.Subject.CommonName, timeText(issuer.NotAfter))
	default:
		e.State = timeState(e.Cert, now)
		if issuer != ca.Cert && (e.State == Valid || e.State == ExpiresSoon) {
			e.State = OldCA
		}
	}
	return e
}

// issuer is the authority that has signed a certificate; nil: none of ours.
func (ca *CA) issuer(c *x509.Certificate) *x509.Certificate {
	for _, a := range append([]*x509.Certificate{ca.Cert}, ca.Old...) {
		if c.CheckSignatureFrom(a) == nil {
			return a
		}
	}
	return nil
}

func timeState(c *x509.Certificate, now time.Time) State {
	switch {
	case now.After(c.NotAfter):
		return Expired
	case now.Before(c.NotBefore):
		return NotYetValid
	case c.NotAfter.Sub(now) < min(Soon, c.NotAfter.Sub(c.NotBefore)/3):
		return ExpiresSoon
	}
	return Valid
}

// checkKey says what is wrong with the key of a certificate.
func checkKey(c *x509.Certificate, path string) (State, error) {
	key, err := readKey(path)
	switch {
	case err != nil:
		return NoKey, err
	case !key.PublicKey.Equal(c.PublicKey):
		return WrongKey, fmt.Errorf("%s is not the key of this certificate", path)
	}
	if err := checkKeyMode(path); err != nil {
		return OpenKey, err
	}
	return "", nil
}

func checkKeyMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", path, mode)
	}
	return nil
}

// RequestOf says what would make a certificate like this one again.
func RequestOf(c *x509.Certificate) (Request, error) {
	r := Request{Name: c.Subject.CommonName, DNS: c.DNSNames, Lifetime: c.NotAfter.Sub(c.NotBefore) - Backdate}
	as, ok := ASOf(c)
	if !ok && len(c.URIs) > 0 {
		return r, fmt.Errorf("%q has URIs that do not name one AS: %v", r.Name, c.URIs)
	}
	r.AS = as
	for _, ip := range c.IPAddresses {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return r, fmt.Errorf("%q has an address of %d octets", r.Name, len(ip))
		}
		r.IPs = append(r.IPs, a.Unmap())
	}
	return r, nil
}

// Renewal says what Renew did with one certificate.
type Renewal struct {
	Name     string
	Old, New *x509.Certificate // New is nil where it was left alone
}

// lockCA keeps others from changing the directory, and reads its authority.
func lockCA(dir string) (ca *CA, unlock func(), err error) {
	if unlock, err = lock(dir); err != nil {
		return nil, nil, noDir(dir, err)
	}
	if ca, err = LoadCA(dir); err != nil {
		unlock()
		return nil, nil, err
	}
	return ca, unlock, nil
}

// Renew gives certificates a new key and a new time, with the same names, and
// replaces their files; lifetime 0: as long as they had. With within above zero
// it leaves alone what is valid for longer than that and signed by the current
// authority. Nothing is replaced if one of them cannot be made.
func Renew(dir string, names []string, lifetime, within time.Duration, now func() time.Time) ([]Renewal, error) {
	ca, unlock, err := lockCA(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	ca.Now = now
	var done []Renewal
	pairs := make(map[string]*Pair)
	for _, name := range names {
		if pairs[name] != nil {
			continue
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		r, pair, err := ca.renew(dir, name, lifetime, within)
		if err != nil {
			return nil, err
		}
		pairs[name] = pair
		done = append(done, r)
	}
	for _, r := range done {
		if r.New == nil {
			continue
		}
		if err := pairs[r.Name].Replace(dir, r.Name); err != nil {
			return nil, err
		}
	}
	return done, nil
}

func (ca *CA) renew(dir, name string, lifetime, within time.Duration) (Renewal, *Pair, error) {
	r := Renewal{Name: name}
	certs, err := ReadCerts(CertFile(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil, fmt.Errorf("there is no certificate %s; see qnectl pki list --dir %s", CertFile(dir, name), dir)
	}
	if err != nil {
		return r, nil, err
	}
	r.Old = certs[0]
	issuer := ca.issuer(r.Old)
	if issuer == nil {
		return r, nil, fmt.Errorf("%s: no authority in %s has signed it: renew it where it was made, or make another with qnectl pki issue", CertFile(dir, name), BundleFile(dir))
	}
	if within > 0 && issuer == ca.Cert && r.Old.NotAfter.Sub(ca.Now()) > within {
		return r, nil, nil
	}
	request, err := RequestOf(r.Old)
	if err != nil {
		return r, nil, fmt.Errorf("%s: %w", CertFile(dir, name), err)
	}
	if lifetime > 0 {
		request.Lifetime = lifetime
	}
	pair, err := ca.Issue(request)
	if err != nil {
		return r, nil, fmt.Errorf("renew %s: %w", name, err)
	}
	r.New, err = pair.Cert()
	return r, pair, err
}

// Init makes an authority in a directory. It overwrites one only with force.
func Init(dir string, o CAOptions, force bool) (*CA, error) {
	ca, err := NewCA(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return ca, ca.save(dir, force)
}

// ErrRotating: an authority is already being replaced.
var ErrRotating = errors.New("the authority is being replaced already")

// Rotate makes a new authority beside the one that there is. The bundle has both
// until Finish. Zero fields of o are taken over from the old one.
func Rotate(dir string, o CAOptions) (*CA, error) {
	old, unlock, err := lockCA(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if len(old.Old) > 0 {
		return nil, fmt.Errorf("%s has %d authorities: %w; renew the certificates, and end that with qnectl pki rotate-ca --finish",
			BundleFile(dir), 1+len(old.Old), ErrRotating)
	}
	if o.Name == "" {
		o.Name = old.Cert.Subject.CommonName
	}
	if o.Lifetime == 0 {
		o.Lifetime = old.Cert.NotAfter.Sub(old.Cert.NotBefore) - Backdate
	}
	ca, err := NewCA(o)
	if err != nil {
		return nil, err
	}
	ca.Old = []*x509.Certificate{old.Cert}
	return ca, ca.save(dir, true)
}

// Finish drops the authorities that were replaced from the bundle and returns
// them. Without force it refuses while they are still needed.
func Finish(dir string, now time.Time, force bool) ([]*x509.Certificate, error) {
	ca, unlock, err := lockCA(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	names, err := Names(dir)
	if err != nil {
		return nil, err
	}
	var needed []string
	for _, name := range names {
		if e := ca.entry(dir, name, now); e.Cert != nil && slices.Contains(ca.Old, ca.issuer(e.Cert)) && e.State != Expired {
			needed = append(needed, name)
		}
	}
	if len(needed) > 0 && !force {
		return nil, fmt.Errorf("the old authority has signed %s, which nobody would trust any more: renew first (qnectl pki renew --all --dir %s), or say --force",
			strings.Join(needed, ", "), dir)
	}
	dropped := ca.Old
	if len(dropped) == 0 {
		return nil, nil
	}
	ca.Old = nil
	return dropped, write(true, file{BundleFile(dir), ca.Bundle(), certMode})
}

// noDir says what to do where a directory is missing.
func noDir(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no directory %s; make one with qnectl pki init --dir %s", ErrNoCA, dir, dir)
	}
	return err
}

// Want says what a certificate has to be good for, beside being signed, in time,
// and for both sides of a connection.
type Want struct {
	AS   uint32 // 0: any or none
	Host string // an address or a DNS name; empty: any
}

// Verify says why a certificate would not be accepted; nil: it would.
func Verify(c *x509.Certificate, trusted []*x509.Certificate, now time.Time, want Want) error {
	roots := x509.NewCertPool()
	for _, a := range trusted {
		roots.AddCert(a)
	}
	for _, use := range []struct {
		usage x509.ExtKeyUsage
		name  string
	}{{x509.ExtKeyUsageServerAuth, "server"}, {x509.ExtKeyUsageClientAuth, "client"}} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use.usage}}); err != nil {
			return fmt.Errorf("as a %s: %w", use.name, explain(c, now, err))
		}
	}
	if as, ok := ASOf(c); want.AS != 0 && (!ok || as != want.AS) {
		has := "none"
		if ok {
			has = ASURI(as)
		}
		return fmt.Errorf("it is not of AS%d: expected the URI %s, it has %s", want.AS, ASURI(want.AS), has)
	}
	if want.Host != "" {
		return c.VerifyHostname(want.Host)
	}
	return nil
}

// explain puts the commonest errors into words that say what to do.
func explain(c *x509.Certificate, now time.Time, err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(c.NotBefore):
		return fmt.Errorf("it is valid from %s on only: is a clock wrong?", timeText(c.NotBefore))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.After(c.NotAfter):
		return fmt.Errorf("it expired %s: renew it (qnectl pki renew)", timeText(c.NotAfter))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errors.New("its authority has expired: make a new one (qnectl pki rotate-ca)")
	case errors.As(err, &unknown):
		return fmt.Errorf("none of the trusted authorities has signed it; its issuer is %q", c.Issuer.CommonName)
	}
	return err
}

// KeyOf says what is wrong with the key beside a certificate's file; nil: nothing,
// or there is none and it is not for us to have it.
func KeyOf(c *x509.Certificate, certFile string) error {
	path := strings.TrimSuffix(certFile, certExt) + keyExt
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := checkKey(c, path)
	return err
}
