package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A directory has ca.crt, the bundle of authorities to trust; ca.key, the key of
// one of them, which issues; and NAME.crt and NAME.key for each certificate.
const (
	caName  = "ca"
	certExt = ".crt"
	keyExt  = ".key"

	dirMode  = 0o700
	keyMode  = 0o600
	certMode = 0o644
)

// maxFile is more than any file of ours has, in octets.
const maxFile = 1 << 20

// CertFile is where a certificate is.
func CertFile(dir, name string) string { return filepath.Join(dir, name+certExt) }

// KeyFile is where the key of a certificate is.
func KeyFile(dir, name string) string { return filepath.Join(dir, name+keyExt) }

// BundleFile has the authorities that are trusted.
func BundleFile(dir string) string { return CertFile(dir, caName) }

// file is one to be written.
type file struct {
	path string
	data []byte
	mode fs.FileMode
}

// write puts files in place, in order. Each is whole or not there at all, also
// after a crash. Without replace none may be there before: then what was written
// is taken back, and the error is fs.ErrExist.
func write(replace bool, files ...file) (err error) {
	dir := filepath.Dir(files[0].path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	var temps, linked []string
	defer func() {
		for _, t := range temps {
			_ = os.Remove(t)
		}
		if err != nil {
			for _, l := range linked {
				_ = os.Remove(l)
			}
		}
	}()
	for _, f := range files {
		temp, err := writeTemp(f)
		if err != nil {
			return err
		}
		temps = append(temps, temp)
	}
	for i, f := range files {
		if replace {
			if err := os.Rename(temps[i], f.path); err != nil {
				return err
			}
			continue
		}
		// A link fails where a rename would overwrite.
		if err := os.Link(temps[i], f.path); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return &fs.PathError{Op: "write", Path: f.path, Err: fs.ErrExist}
			}
			return err
		}
		linked = append(linked, f.path)
	}
	return syncDir(dir)
}

// writeTemp writes a file's content beside where it belongs.
func writeTemp(f file) (name string, err error) {
	unique := make([]byte, 8)
	if _, err := rand.Read(unique); err != nil {
		return "", err
	}
	name = filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+"."+hex.EncodeToString(unique))
	// 0600 from the first moment on: nobody else may open a key.
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, keyMode)
	if err != nil {
		return "", err
	}
	_, err = w.Write(f.data)
	err = errors.Join(err, w.Chmod(f.mode), w.Sync(), w.Close())
	if err != nil {
		_ = os.Remove(name)
		return "", err
	}
	return name, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a file of sensible size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: longer than %d octets: this is no file of certificates", path, maxFile)
	}
	return b, nil
}

// ReadCerts reads all certificates of a PEM file, one at least.
func ReadCerts(path string) ([]*x509.Certificate, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	list, err := parseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func parseCerts(b []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != certBlock {
			return nil, fmt.Errorf("PEM block %d is %q, expected %q", len(list)+1, block.Type, certBlock)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list)+1, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate in PEM form in it")
	}
	if rest := bytes.TrimSpace(b); len(rest) > 0 {
		return nil, fmt.Errorf("after certificate %d: %d octets that are no PEM block", len(list), len(rest))
	}
	return list, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%s: expected a PEM block %q", path, keyBlock)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T, expected ECDSA", path, key)
	}
	return ec, nil
}

// ErrNoCA: a directory has no authority.
var ErrNoCA = errors.New("no certificate authority")

// LoadCA reads an authority from its directory.
func LoadCA(dir string) (*CA, error) {
	bundle, err := ReadCerts(BundleFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: there is no %s; make one with qnectl pki init --dir %s", ErrNoCA, dir, BundleFile(dir), dir)
	}
	if err != nil {
		return nil, err
	}
	key, err := readKey(KeyFile(dir, caName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: put it back, or begin anew with qnectl pki init --force --dir %s", err, dir)
	}
	if err != nil {
		return nil, err
	}
	// While an authority is replaced the bundle has several: the key says which
	// one issues, so that a crash between two files leaves a whole authority.
	at := slices.IndexFunc(bundle, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if at < 0 {
		return nil, fmt.Errorf("%s is the key of no certificate in %s: put back the files that belong together", KeyFile(dir, caName), BundleFile(dir))
	}
	if !bundle[at].IsCA {
		return nil, fmt.Errorf("%s: %q is not an authority's certificate", BundleFile(dir), bundle[at].Subject.CommonName)
	}
	ca := &CA{Cert: bundle[at], key: key}
	ca.Old = slices.Delete(bundle, at, at+1)
	ca.setDefaults()
	return ca, nil
}

// Bundle is all authorities that are to be trusted, in PEM, the one that issues
// first.
func (ca *CA) Bundle() []byte {
	b := marshalCert(ca.Cert.Raw)
	for _, old := range ca.Old {
		b = append(b, marshalCert(old.Raw)...)
	}
	return b
}

// Save writes a new authority into a directory that has none.
func (ca *CA) Save(dir string) error { return ca.save(dir, false) }

// save writes the bundle before the key: see LoadCA.
func (ca *CA) save(dir string, replace bool) error {
	key, err := marshalKey(ca.key)
	if err != nil {
		return err
	}
	return write(replace,
		file{BundleFile(dir), ca.Bundle(), certMode},
		file{KeyFile(dir, caName), key, keyMode})
}

// Cert is the certificate of a pair.
func (p *Pair) Cert() (*x509.Certificate, error) {
	list, err := parseCerts(p.CertPEM)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Save writes a new certificate and its key. It overwrites nothing: where there
// is one of this name already the error is fs.ErrExist.
func (p *Pair) Save(dir, name string) error { return p.save(dir, name, false) }

// Replace writes a certificate and its key over those of that name.
func (p *Pair) Replace(dir, name string) error { return p.save(dir, name, true) }

func (p *Pair) save(dir, name string, replace bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return write(replace,
		file{KeyFile(dir, name), p.KeyPEM, keyMode},
		file{CertFile(dir, name), p.CertPEM, certMode})
}
