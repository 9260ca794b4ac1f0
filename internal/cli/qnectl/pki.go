package qnectl

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/internal/strictyaml"
	urfave "github.com/urfave/cli/v2"
)

func pkiCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "pki",
		Usage: "make and renew the certificates of labs and small networks",
		Description: `Keeps a directory with a certificate authority and what it has issued: ca.crt, the
authorities to trust; ca.key; and NAME.crt and NAME.key of each certificate. Asks
no qned. Who has an authority of his own needs none of this.

A LIFETIME is a number of years (365 days), weeks, days, hours or minutes: 10y, 90d.`,
		Subcommands: []*urfave.Command{
			{
				Name:  "init",
				Usage: "make a certificate authority",
				Flags: []urfave.Flag{
					dirFlag(),
					&urfave.StringFlag{Name: "name", Value: "interqos CA", Usage: "`NAME` of the authority"},
					&urfave.StringFlag{Name: "lifetime", Value: "10y", Usage: "how long it is valid, a `LIFETIME`"},
					forceFlag("overwrite an authority: nobody trusts any more what it has issued"),
				},
				Action: pkiInit,
			},
			{
				Name:      "issue",
				Usage:     "make a key and a certificate",
				ArgsUsage: "NAME",
				Description: `For a QNE, give its AS and the addresses that its peers know. For a client of the
admin API the name is enough: admin.remote.roles gives it its role.

    qnectl pki issue as65001 --as 65001 --ip 127.1.0.1
    qnectl pki issue alice`,
				Flags: []urfave.Flag{
					dirFlag(),
					&urfave.StringFlag{Name: "as", Usage: "the AS that it speaks for, a `NUMBER`"},
					&urfave.StringSliceFlag{Name: "ip", Usage: "an `ADDRESS` of the node; may be repeated"},
					&urfave.StringSliceFlag{Name: "dns", Usage: "a DNS `NAME` of the node; may be repeated"},
					&urfave.StringFlag{Name: "lifetime", Value: "90d", Usage: "how long it is valid, a `LIFETIME`"},
					forceFlag("overwrite a certificate of this name and its key"),
				},
				Action: pkiIssue,
			},
			{
				Name:      "renew",
				Usage:     "give certificates a new key and a new time",
				ArgsUsage: "NAME...",
				Description: `The names in them stay. Nothing is replaced if one of them cannot be made.

    qnectl pki renew --all --within 30d`,
				Flags: []urfave.Flag{
					dirFlag(),
					&urfave.BoolFlag{Name: "all", DisableDefaultText: true, Usage: "all certificates of the directory"},
					&urfave.StringFlag{Name: "within", DefaultText: "any", Usage: "only those that end within a `LIFETIME` or that an old authority has signed"},
					&urfave.StringFlag{Name: "lifetime", DefaultText: "as before", Usage: "how long they are valid, a `LIFETIME`"},
				},
				Action:       pkiRenew,
				BashComplete: cli.CompleteWith(completeCertificates),
			},
			{
				Name:  "rotate-ca",
				Usage: "replace the certificate authority, in two steps",
				Description: `First ca.crt gets a new authority, which issues from then on, beside the old one:
what that has issued is still trusted. When ca.crt has come to every node and all
certificates are renewed, --finish drops the old one.`,
				Flags: []urfave.Flag{
					dirFlag(),
					&urfave.StringFlag{Name: "name", DefaultText: "as before", Usage: "`NAME` of the new authority"},
					&urfave.StringFlag{Name: "lifetime", DefaultText: "as before", Usage: "how long it is valid, a `LIFETIME`"},
					&urfave.BoolFlag{Name: "finish", DisableDefaultText: true, Usage: "drop the old authority"},
					forceFlag("finish although certificates of the old authority are left"),
				},
				Action: pkiRotate,
			},
			{
				Name:   "list",
				Usage:  "list the authorities and certificates of a directory",
				Flags:  []urfave.Flag{dirFlag()},
				Action: pkiList,
			},
			{
				Name:      "show",
				Usage:     "show what the certificates in a file say",
				ArgsUsage: "FILE",
				Action:    pkiShow,
			},
			{
				Name:      "verify",
				Usage:     "say whether a certificate would be accepted",
				ArgsUsage: "FILE",
				Description: `It has to be signed by a trusted authority, to be in time, and to be good for both
sides of a connection; a key beside it has to be its own.

    qnectl pki verify pki/as65001.crt --as 65001 --host 127.1.0.1`,
				Flags: []urfave.Flag{
					dirFlag(),
					&urfave.StringFlag{Name: "ca", DefaultText: "ca.crt of --dir", Usage: "the authorities that are trusted, a PEM `FILE`"},
					&urfave.StringFlag{Name: "as", DefaultText: "any", Usage: "it has to be of this AS, a `NUMBER`"},
					&urfave.StringFlag{Name: "host", DefaultText: "any", Usage: "it has to name this `ADDRESS` or DNS name"},
				},
				Action: pkiVerify,
			},
		},
	}
}

func dirFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "dir", EnvVars: []string{"INTERQOS_PKI"}, Value: "pki", Usage: "the `DIRECTORY` of keys and certificates"}
}

func forceFlag(usage string) urfave.Flag {
	return &urfave.BoolFlag{Name: "force", DisableDefaultText: true, Usage: usage}
}

// lifetime reads an option; 0 where it is not there.
func lifetime(c *urfave.Context, name string) (time.Duration, error) {
	if c.String(name) == "" {
		return 0, nil
	}
	d, err := pki.ParseLifetime(c.String(name))
	if err != nil {
		return 0, cli.Usagef("--%s %v", name, err)
	}
	return d, nil
}

// asNumber reads --as; 0 where it is not there.
func asNumber(c *urfave.Context) (uint32, error) {
	text := c.String("as")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || !strictyaml.UsableAS(uint32(n)) {
		return 0, cli.Usagef("--as %q: expected the number of an AS, e.g. 65001", text)
	}
	return uint32(n), nil
}

func completeCertificates(c *urfave.Context) ([]string, error) { return pki.Names(c.String("dir")) }

func pkiInit(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	life, err := lifetime(c, "lifetime")
	if err != nil {
		return err
	}
	dir := c.String("dir")
	ca, err := pki.Init(dir, pki.CAOptions{Name: c.String("name"), Lifetime: life}, c.Bool("force"))
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s has an authority already: replace it with qnectl pki rotate-ca, or overwrite it with --force", dir)
	}
	if err != nil {
		return err
	}
	if format != cli.Table {
		return cli.Print(c.App.Writer, format, certMap(ca.Cert, "ca", pki.BundleFile(dir)))
	}
	_, err = fmt.Fprintf(c.App.Writer, "made the authority %q in %s, %s\n", ca.Cert.Subject.CommonName, dir, validFor(ca.Cert))
	return err
}

// validFor says how long a certificate is valid from now on.
func validFor(cert *x509.Certificate) string {
	return fmt.Sprintf("valid for %s, until %s", pki.HumanLifetime(time.Until(cert.NotAfter)), cert.NotAfter.Format(time.RFC3339))
}

func pkiIssue(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "name")
	if err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	name, dir := args[0], c.String("dir")
	r := pki.Request{Name: name, DNS: c.StringSlice("dns")}
	if err := pki.CheckName(name); err != nil {
		return cli.Usagef("%v", err)
	}
	if r.AS, err = asNumber(c); err != nil {
		return err
	}
	if r.Lifetime, err = lifetime(c, "lifetime"); err != nil {
		return err
	}
	for _, text := range c.StringSlice("ip") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return cli.Usagef("--ip %q: expected an address, e.g. 127.1.0.1 or 2001:db8::1", text)
		}
		r.IPs = append(r.IPs, a)
	}
	ca, err := pki.LoadCA(dir)
	if err != nil {
		return err
	}
	pair, err := ca.Issue(r)
	if err != nil {
		return err
	}
	save := pair.Save
	if c.Bool("force") {
		save = pair.Replace
	}
	err = save(dir, name)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: give it a new time with qnectl pki renew %s, or overwrite it with --force", err, name)
	}
	if err != nil {
		return err
	}
	cert, err := pair.Cert()
	if err != nil {
		return err
	}
	if format != cli.Table {
		return cli.Print(c.App.Writer, format, certMap(cert, name, pki.CertFile(dir, name)))
	}
	_, err = fmt.Fprintf(c.App.Writer, "made %s and %s, %s\n", pki.CertFile(dir, name), pki.KeyFile(dir, name), validFor(cert))
	return err
}

func pkiRenew(c *urfave.Context) error {
	least := 1
	if c.Bool("all") {
		least = 0
	}
	names, err := cli.Args(c, least, -1, "certificate (or --all)")
	if err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	within, err := lifetime(c, "within")
	if err != nil {
		return err
	}
	life, err := lifetime(c, "lifetime")
	if err != nil {
		return err
	}
	dir := c.String("dir")
	if c.Bool("all") {
		if len(names) > 0 {
			return cli.Usagef("%s: either --all or names", c.Command.HelpName)
		}
		if _, err := pki.LoadCA(dir); err != nil {
			return err
		}
		if names, err = pki.Names(dir); err != nil {
			return err
		}
	}
	done, err := pki.Renew(dir, names, life, within, time.Now)
	if err != nil {
		return err
	}
	if format != cli.Table {
		list := make([]any, 0, len(done))
		for _, r := range done {
			cert := r.New
			if cert == nil {
				cert = r.Old
			}
			list = append(list, append(certMap(cert, r.Name, pki.CertFile(dir, r.Name)), cli.Field{Key: "renewed", Value: r.New != nil}))
		}
		return cli.Print(c.App.Writer, format, cli.Map{{Key: "certificates", Value: list}})
	}
	for _, r := range done {
		text := "left as it is, " + validFor(r.Old)
		if r.New != nil {
			text = fmt.Sprintf("renewed, %s; was valid until %s", validFor(r.New), r.Old.NotAfter.Format(time.RFC3339))
		}
		if _, err := fmt.Fprintf(c.App.Writer, "%s %s\n", r.Name, text); err != nil {
			return err
		}
	}
	return nil
}

func pkiRotate(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	life, err := lifetime(c, "lifetime")
	if err != nil {
		return err
	}
	dir := c.String("dir")
	if c.Bool("finish") {
		if c.String("name") != "" || life != 0 {
			return cli.Usagef("%s: --finish makes nothing new, it takes no --name and no --lifetime", c.Command.HelpName)
		}
		return pkiFinish(c, format, dir)
	}
	if c.Bool("force") {
		return cli.Usagef("%s: --force is for --finish", c.Command.HelpName)
	}
	ca, err := pki.Rotate(dir, pki.CAOptions{Name: c.String("name"), Lifetime: life})
	if err != nil {
		return err
	}
	if format != cli.Table {
		list := []any{certMap(ca.Cert, "ca", pki.BundleFile(dir))}
		for _, old := range ca.Old {
			list = append(list, certMap(old, "ca", pki.BundleFile(dir)))
		}
		return cli.Print(c.App.Writer, format, cli.Map{{Key: "authorities", Value: list}})
	}
	bundle := pki.BundleFile(dir)
	_, err = fmt.Fprintf(c.App.Writer, `made the authority %q beside the old one, %s
1. give %s to every node, and have it read again: qnectl reload
2. qnectl pki renew --all --dir %s, and give every node its certificate and key
3. qnectl pki rotate-ca --finish --dir %s, and give %s to every node once more
`, ca.Cert.Subject.CommonName, validFor(ca.Cert), bundle, dir, dir, bundle)
	return err
}

func pkiFinish(c *urfave.Context, format cli.Format, dir string) error {
	dropped, err := pki.Finish(dir, time.Now(), c.Bool("force"))
	if err != nil {
		return err
	}
	if format != cli.Table {
		list := make([]any, 0, len(dropped))
		for _, old := range dropped {
			list = append(list, certMap(old, "ca", pki.BundleFile(dir)))
		}
		return cli.Print(c.App.Writer, format, cli.Map{{Key: "dropped", Value: list}})
	}
	text := "no authority is being replaced: there is nothing to drop"
	if len(dropped) > 0 {
		text = fmt.Sprintf("dropped %q: give %s to every node, and have it read again", dropped[0].Subject.CommonName, pki.BundleFile(dir))
	}
	_, err = fmt.Fprintln(c.App.Writer, text)
	return err
}

func pkiList(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	now := time.Now()
	entries, err := pki.List(c.String("dir"), now)
	if err != nil {
		return err
	}
	if format != cli.Table {
		list := make([]any, 0, len(entries))
		for _, e := range entries {
			m := cli.Map{{Key: "name", Value: e.Name}, {Key: "file", Value: e.File}}
			if e.Cert != nil {
				m = certMap(e.Cert, e.Name, e.File)
			}
			m = append(m, cli.Field{Key: "state", Value: string(e.State)}, cli.Field{Key: "problem", Value: errorText(e.Err)})
			list = append(list, m)
		}
		return cli.Print(c.App.Writer, format, cli.Map{{Key: "certificates", Value: list}})
	}
	rows := make([][]string, 0, len(entries))
	var problems []string
	for _, e := range entries {
		row := []string{e.Name, "", "", "", "", string(e.State)}
		if e.Cert != nil {
			if n, ok := pki.ASOf(e.Cert); ok {
				row[1] = as(n)
			}
			row[2] = strings.Join(append(certAddresses(e.Cert), e.Cert.DNSNames...), " ")
			row[3] = pki.HumanLifetime(e.Cert.NotAfter.Sub(now))
			row[4] = e.Cert.Issuer.CommonName
		}
		rows = append(rows, row)
		if e.Err != nil {
			problems = append(problems, e.Name+": "+e.Err.Error())
		}
	}
	if err := cli.PrintTable(c.App.Writer, []string{"NAME", "AS", "ADDRESSES", "EXPIRES IN", "ISSUER", "STATE"}, rows); err != nil {
		return err
	}
	for _, p := range problems {
		if _, err := fmt.Fprintln(c.App.Writer, p); err != nil {
			return err
		}
	}
	return nil
}

func errorText(err error) any {
	if err == nil {
		return nil
	}
	return err.Error()
}

func certAddresses(cert *x509.Certificate) []string {
	list := make([]string, 0, len(cert.IPAddresses))
	for _, ip := range cert.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

// certMap is a certificate for JSON and YAML.
func certMap(cert *x509.Certificate, name, file string) cli.Map {
	var number any
	if n, ok := pki.ASOf(cert); ok {
		number = n
	}
	return cli.Map{
		{Key: "name", Value: name}, {Key: "file", Value: file}, {Key: "authority", Value: cert.IsCA},
		{Key: "subject", Value: cert.Subject.CommonName}, {Key: "issuer", Value: cert.Issuer.CommonName},
		{Key: "serial", Value: cert.SerialNumber.Text(16)}, {Key: "as", Value: number},
		{Key: "addresses", Value: cli.List(certAddresses(cert))}, {Key: "dns", Value: cli.List(cert.DNSNames)},
		{Key: "not_before", Value: cert.NotBefore.Format(time.RFC3339)}, {Key: "not_after", Value: cert.NotAfter.Format(time.RFC3339)},
		{Key: "sha256", Value: fingerprint(cert)},
	}
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

func pkiShow(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "file")
	if err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	certs, err := pki.ReadCerts(args[0])
	if err != nil {
		return err
	}
	if format != cli.Table {
		list := make([]any, 0, len(certs))
		for _, cert := range certs {
			list = append(list, certMap(cert, cert.Subject.CommonName, args[0]))
		}
		return cli.Print(c.App.Writer, format, cli.Map{{Key: "certificates", Value: list}})
	}
	for i, cert := range certs {
		if i > 0 {
			if _, err := fmt.Fprintln(c.App.Writer); err != nil {
				return err
			}
		}
		var number, authority string
		if n, ok := pki.ASOf(cert); ok {
			number = as(n)
		}
		if cert.IsCA {
			authority = "yes: it can issue certificates"
		}
		err := cli.PrintPairs(c.App.Writer, [][2]string{
			{"subject", cert.Subject.CommonName}, {"issuer", cert.Issuer.CommonName}, {"serial", cert.SerialNumber.Text(16)},
			{"authority", authority}, {"AS", number},
			{"addresses", strings.Join(certAddresses(cert), " ")}, {"DNS names", strings.Join(cert.DNSNames, " ")},
			{"valid", fmt.Sprintf("from %s until %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))},
			{"expires in", pki.HumanLifetime(time.Until(cert.NotAfter))},
			{"key", cert.PublicKeyAlgorithm.String()},
			{"SHA-256", fingerprint(cert)},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func pkiVerify(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "file")
	if err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	want := pki.Want{Host: c.String("host")}
	if want.AS, err = asNumber(c); err != nil {
		return err
	}
	certs, err := pki.ReadCerts(args[0])
	if err != nil {
		return err
	}
	bundle := c.String("ca")
	if bundle == "" {
		bundle = pki.BundleFile(c.String("dir"))
	}
	trusted, err := pki.ReadCerts(bundle)
	if err != nil {
		return fmt.Errorf("trusted authorities: %w (name them with --ca or --dir)", err)
	}
	verdict := pki.Verify(certs[0], trusted, time.Now(), want)
	if verdict == nil {
		verdict = pki.KeyOf(certs[0], args[0])
	}
	if format != cli.Table {
		m := append(certMap(certs[0], certs[0].Subject.CommonName, args[0]),
			cli.Field{Key: "accepted", Value: verdict == nil}, cli.Field{Key: "problem", Value: errorText(verdict)})
		if err := cli.Print(c.App.Writer, format, m); err != nil {
			return err
		}
		if verdict != nil {
			return cli.ErrTold
		}
		return nil
	}
	if verdict != nil {
		return fmt.Errorf("%s would not be accepted: %w", args[0], verdict)
	}
	text := ""
	if n, ok := pki.ASOf(certs[0]); ok {
		text = " for " + as(n)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s would be accepted%s: signed by %q, %s\n", args[0], text, certs[0].Issuer.CommonName, validFor(certs[0]))
	return err
}
