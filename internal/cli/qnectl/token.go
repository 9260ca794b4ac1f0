package qnectl

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/pki"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	urfave "github.com/urfave/cli/v2"
)

func tokenCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "token",
		Usage: "make and check the tokens of hosts (SESSION_AUTH, RFC 5981)",
		Description: `A domain authorizes one session of one flow of a subscriber with a token that it
signs with its certificate. Asks no qned. qned does not admit hosts yet, whatever
token they have: this is for who tries out other nodes.`,
		Subcommands: []*urfave.Command{
			{
				Name:  "issue",
				Usage: "make a token",
				Description: `Prints a SESSION_AUTH object with its header, in hexadecimal.

    qnectl token issue --sid ID --subscriber 10.1.0.10 --to 10.3.0.10 --protocol udp --port 5001 --lifetime 1h \
        --cert pki/as65001.crt --key pki/as65001.key`,
				Flags: append(tokenFlags(),
					&urfave.StringFlag{Name: "lifetime", Value: "1h", Usage: "how long it is valid, a `LIFETIME` up to 7d"},
					&urfave.StringFlag{Name: "cert", Usage: "certificate of the domain, a `FILE`; those of authorities below a trusted one may follow in it"},
					&urfave.StringFlag{Name: "key", Usage: "its key, a `FILE`"}),
				Action: tokenIssue,
			},
			{
				Name:      "check",
				Usage:     "say whether a token authorizes a session of a flow now",
				ArgsUsage: "FILE",
				Description: `FILE has what issue prints; - is standard input.

    qnectl token check token.hex --sid ID --subscriber 10.1.0.10 --to 10.3.0.10 --protocol udp --port 5001 --as 65001 --ca pki/ca.crt`,
				Flags: append(tokenFlags(),
					&urfave.StringFlag{Name: "as", Usage: "the AS whose tokens are good, a `NUMBER`"},
					&urfave.StringFlag{Name: "ca", Usage: "the authorities of its certificate, a `FILE`"}),
				Action: tokenCheck,
			},
		},
	}
}

func tokenFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "sid", Usage: "`ID` of the session, 32 hexadecimal digits"},
		&urfave.StringFlag{Name: "subscriber", Usage: "source `ADDRESS` of the flow"},
		&urfave.StringFlag{Name: "to", Usage: "destination `ADDRESS` of the flow"},
		&urfave.StringFlag{Name: "protocol", Usage: "`PROTOCOL` of the flow: udp, tcp, …, or its number (default: any)"},
		&urfave.UintFlag{Name: "port", DefaultText: "any", Usage: "destination `PORT` of the flow"},
	}
}

// tokenOf reads what a token is about.
func tokenOf(c *urfave.Context, more ...string) (b interdomain.Binding, err error) {
	for _, name := range append([]string{"sid", "subscriber", "to"}, more...) {
		if c.String(name) == "" {
			return b, cli.Usagef("qnectl token %s needs --%s", c.Command.Name, name)
		}
	}
	raw, err := hex.DecodeString(c.String("sid"))
	if err != nil || len(raw) != len(b.SID) {
		return b, cli.Usagef("--sid %q: expected 32 hexadecimal digits", c.String("sid"))
	}
	b.SID = wire.SID(raw)
	f := &b.MRI.Flow
	for name, to := range map[string]*netip.Prefix{"subscriber": &f.Source, "to": &f.Destination} {
		a, err := netip.ParseAddr(c.String(name))
		if err != nil || a.Zone() != "" {
			return b, cli.Usagef("--%s %q: expected an address", name, c.String(name))
		}
		*to = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
	}
	protocol, err := parseProtocol(c.String("protocol"))
	if err != nil {
		return b, cli.Usagef("--protocol %q: %v", c.String("protocol"), err)
	}
	if c.Uint("port") > 65535 {
		return b, cli.Usagef("--port %d: expected at most 65535", c.Uint("port"))
	}
	f.HasProtocol, f.Protocol = protocol != 0, uint8(protocol)
	f.HasDstPort, f.DstPort = c.Uint("port") != 0, uint16(c.Uint("port"))
	return b, nil
}

func tokenIssue(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	b, err := tokenOf(c, "cert", "key")
	if err != nil {
		return err
	}
	life, err := lifetime(c, "lifetime")
	if err != nil {
		return err
	}
	t, err := interdomain.NewToken(time.Now(), life, b.SID, b.MRI.Flow)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	pair, err := tls.LoadX509KeyPair(c.String("cert"), c.String("key"))
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s: a key of type %T signs nothing", c.String("key"), pair.PrivateKey)
	}
	chain, err := pki.ReadCerts(c.String("cert"))
	if err != nil {
		return err
	}
	if err := interdomain.SignX509(&t, key, chain, nil); err != nil {
		return err
	}
	object, err := t.Append(nslpwire.BeginSessionAuth(nil))
	if err != nil {
		return err
	}
	if err := nslpwire.EndObject(object, 0); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%x\n", object)
	return err
}

// maxTokenText is how much of a file is read: an object in hexadecimal, with room
// for spaces.
const maxTokenText = 4 * nslpwire.MaxValueLen

func tokenCheck(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "file")
	if err != nil {
		return err
	}
	b, err := tokenOf(c, "as", "ca")
	if err != nil {
		return err
	}
	as, err := asNumber(c)
	if err != nil {
		return err
	}
	in, err := cli.Open(c, args[0])
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	text, err := io.ReadAll(io.LimitReader(in, maxTokenText))
	if err != nil {
		return err
	}
	object, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		return fmt.Errorf("%s: not hexadecimal: %w", args[0], err)
	}
	certs, err := pki.ReadCerts(c.String("ca"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	for _, ca := range certs {
		roots.AddCert(ca)
	}
	gate := interdomain.NewTokenGate(interdomain.NewCertificateVerifier(roots, 0), func(c *x509.Certificate) bool {
		of, ok := pki.ASOf(c)
		return ok && of == as
	}, 0)
	// As it would stand in a message.
	msg := append((&nslpwire.Message{Type: nslpwire.Reserve}).Append(nil), object...)
	by, err := gate.Check(time.Now(), b, b.MRI.Flow.Source.Addr(), msg)
	if err != nil {
		return fmt.Errorf("%s does not authorize this: %w", args[0], err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s authorizes this: signed by %q of AS%d\n", args[0], by.Subject.CommonName, as)
	return err
}
