package qnectl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/interqos/interqos/internal/capture"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/dissect"
	urfave "github.com/urfave/cli/v2"
)

func decodeCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "decode",
		Usage:     "print the GIST messages of a capture, field by field",
		ArgsUsage: "FILE",
		Description: `Reads pcap and pcapng (- is standard input), and asks no daemon. With -o json
one object a line for each GIST message. What could not be read is told on
standard error; a malformed message is shown as far as it can be read.

    qnectl decode gist.pcap
    qnectl decode -o json --filter type=RESERVE gist.pcap
    qnectl decode --keylog keys.log tls.pcap`,
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "keylog", Usage: "open TLS with the secrets in this key log, a `FILE` (SSLKEYLOGFILE)"},
			&urfave.IntSliceFlag{Name: "port", DefaultText: "270", Usage: "expect GIST on this `PORT`; may be repeated"},
			&urfave.StringSliceFlag{Name: "filter", Usage: "only messages with `KEY=VALUE`: sid=HEX (or its beginning), type=Query, type=RESERVE, ...; may be repeated"},
		},
		Action: decode,
	}
}

func decode(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "file")
	if err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	if format == cli.YAML {
		return cli.Usagef("decode prints text or JSON: expected -o table or -o json")
	}
	options, err := decodeOptions(c)
	if err != nil {
		return err
	}
	filter, err := parseFilter(c.StringSlice("filter"))
	if err != nil {
		return err
	}
	in, err := cli.Open(c, args[0])
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	r, err := capture.NewReader(in, options)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	out := bufio.NewWriter(c.App.Writer)
	d := decoder{out: out, remarks: c.App.ErrWriter, json: format == cli.JSON, filter: filter}
	err = d.run(c, r)
	if e := out.Flush(); err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, c.Context.Err()) {
		err = fmt.Errorf("%s: %w", args[0], err)
	}
	return err
}

func decodeOptions(c *urfave.Context) (o capture.Options, err error) {
	for _, p := range c.IntSlice("port") {
		if p < 1 || p > 65535 {
			return o, cli.Usagef("--port %d: expected 1 to 65535", p)
		}
		o.Ports = append(o.Ports, uint16(p))
	}
	if name := c.String("keylog"); name != "" {
		f, err := os.Open(name)
		if err != nil {
			return o, err
		}
		defer f.Close()
		if o.KeyLog, err = capture.ReadKeyLog(f); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o, nil
}

// decoder prints the messages of a capture.
type decoder struct {
	out     *bufio.Writer
	remarks io.Writer
	json    bool
	filter  messageFilter
}

func (d *decoder) run(c *urfave.Context, r *capture.Reader) error {
	for first := true; ; {
		if err := c.Context.Err(); err != nil {
			return err
		}
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Remark != "" {
			if err := d.out.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(d.remarks, "qnectl: %s", dissect.RemarkText(&e))
			continue
		}
		m := dissect.GIST(e)
		if !d.filter.takes(&m) {
			continue
		}
		if err := d.print(&m, first); err != nil {
			return err
		}
		first = false
	}
}

func (d *decoder) print(m *dissect.Message, first bool) error {
	if !d.json {
		text := m.Text()
		if !first {
			text = "\n" + text
		}
		_, err := d.out.WriteString(text)
		return err
	}
	line, err := m.JSON()
	if err != nil {
		return err
	}
	_, err = d.out.Write(append(line, '\n'))
	return err
}

// messageFilter says which messages are wanted: those that have one of the
// types, if any, and one of the SIDs, if any.
type messageFilter struct {
	sids, types []string
}

// messageTypes are the types to filter by: those of GIST, and those of QoS-NSLP,
// which are in capitals.
var messageTypes = []string{"Query", "Response", "Confirm", "Data", "Error", "MA-Hello", "RESERVE", "QUERY", "RESPONSE", "NOTIFY"}

func parseFilter(list []string) (f messageFilter, err error) {
	for _, s := range list {
		key, value, _ := strings.Cut(s, "=")
		switch {
		case key == "sid" && value != "" && strings.Trim(strings.ToLower(value), "0123456789abcdef") == "":
			f.sids = append(f.sids, strings.ToLower(value))
		case key == "type" && slices.Contains(messageTypes, value):
			f.types = append(f.types, value)
		default:
			return f, cli.Usagef("--filter %q: expected sid=HEX, or type= and one of %s", s, strings.Join(messageTypes, ", "))
		}
	}
	return f, nil
}

func (f *messageFilter) takes(m *dissect.Message) bool {
	if len(f.sids) > 0 && !slices.ContainsFunc(f.sids, func(sid string) bool { return m.HasSID && strings.HasPrefix(m.SID.String(), sid) }) {
		return false
	}
	return len(f.types) == 0 || m.HasHeader && slices.Contains(f.types, m.Header.Type.String()) ||
		m.HasNSLP && slices.Contains(f.types, m.NSLP.Type.String())
}
