package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	urfave "github.com/urfave/cli/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// DefaultSocket is where qned is looked for.
const DefaultSocket = "unix:/run/interqos/qned.sock"

const (
	dialTimeout = 5 * time.Second
	maxMessage  = 256 << 20 // octets of an answer
)

// Flags are the options that every tool has.
func Flags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{
			Name: "socket", Aliases: []string{"s"}, EnvVars: []string{"INTERQOS_SOCKET"}, Value: DefaultSocket,
			Usage: "qned's admin API: `unix:PATH`, or HOST:PORT with --cert, --key and --ca",
		},
		&urfave.StringFlag{Name: "cert", EnvVars: []string{"INTERQOS_CERT"}, Usage: "client certificate for HOST:PORT, a PEM `FILE`"},
		&urfave.StringFlag{Name: "key", EnvVars: []string{"INTERQOS_KEY"}, Usage: "the certificate's key, a PEM `FILE`"},
		&urfave.StringFlag{Name: "ca", EnvVars: []string{"INTERQOS_CA"}, Usage: "authority of qned's certificate, a PEM `FILE`"},
		&urfave.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT` of the answer: table, json or yaml"},
	}
}

// Conn is a connection to one daemon.
type Conn struct {
	*grpc.ClientConn
	Target string
}

// Dial connects to the daemon that the options name.
func Dial(c *urfave.Context) (*Conn, error) { return DialTarget(c, c.String("socket")) }

// DialTarget connects to another daemon, with the options' certificates.
func DialTarget(c *urfave.Context, target string) (*Conn, error) {
	var address string
	creds := insecure.NewCredentials()
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if err := tryUnix(c.Context, path); err != nil {
			return nil, err
		}
		address = "unix:" + path
	} else {
		if _, _, err := net.SplitHostPort(target); err != nil {
			return nil, Usagef("--socket %q: expected unix:PATH or HOST:PORT", target)
		}
		config, err := clientTLS(c)
		if err != nil {
			return nil, err
		}
		creds, address = credentials.NewTLS(config), "passthrough:///"+target
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, Usagef("--socket %q: %v", target, err)
	}
	return &Conn{ClientConn: conn, Target: target}, nil
}

// tryUnix connects once, for the system's own words on what is wrong.
func tryUnix(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return nil
	}
	const where = "its socket is admin.listen in its configuration; name it with --socket unix:PATH or INTERQOS_SOCKET"
	text := fmt.Sprintf("cannot reach qned at unix:%s: %v", path, err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = fmt.Sprintf("cannot reach qned: there is no socket %s. Is qned running? Otherwise %s", path, where)
	case errors.Is(err, syscall.ECONNREFUSED):
		text = fmt.Sprintf("cannot reach qned: nobody listens on %s any more. Has qned ended? Otherwise %s", path, where)
	case errors.Is(err, fs.ErrPermission):
		text = fmt.Sprintf("cannot reach qned: no permission to open %s. Run as qned's user or root, or have your user named in admin.allow of qned's configuration", path)
	}
	return &UnreachableError{text}
}

func clientTLS(c *urfave.Context) (*tls.Config, error) {
	if c.String("cert") == "" || c.String("key") == "" || c.String("ca") == "" {
		return nil, Usagef("--socket %s: over TCP the API needs --cert, --key and --ca", c.String("socket"))
	}
	pair, err := tls.LoadX509KeyPair(c.String("cert"), c.String("key"))
	if err != nil {
		return nil, Usagef("--cert %s, --key %s: %v", c.String("cert"), c.String("key"), err)
	}
	pem, err := os.ReadFile(c.String("ca"))
	if err != nil {
		return nil, Usagef("--ca: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, Usagef("--ca %s: no certificate in PEM form in it", c.String("ca"))
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// Explain turns an error of a call into one for people.
func (c *Conn) Explain(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.Unavailable:
		return &UnreachableError{fmt.Sprintf("cannot reach qned at %s: %s", c.Target, s.Message())}
	case codes.Unimplemented:
		return fmt.Errorf("qned at %s cannot do this: %s", c.Target, s.Message())
	case codes.DeadlineExceeded:
		return errors.New("no outcome in time: " + s.Message())
	case codes.Canceled:
		return fmt.Errorf("%w: %s", context.Canceled, s.Message())
	}
	return errors.New(strings.TrimPrefix(s.Message(), "invalid request: "))
}

// IsNotFound says that a call failed because what it asked for is not there.
func IsNotFound(err error) bool { return status.Code(err) == codes.NotFound }
