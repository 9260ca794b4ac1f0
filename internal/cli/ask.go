package cli

import (
	"fmt"
	"io"

	urfave "github.com/urfave/cli/v2"
)

// Question asks a daemon one thing. It returns the answer, and what prints it
// as a table; JSON and YAML need no more than the answer.
type Question func(conn *Conn, args []string) (answer any, table func(w io.Writer) error, err error)

// Ask runs a command that asks the daemon one thing: it checks that there are
// from low to high arguments, as Args does, connects, and prints the answer.
func Ask(c *urfave.Context, low, high int, what string, ask Question) error {
	args, err := Args(c, low, high, what)
	if err != nil {
		return err
	}
	format, err := OutputFormat(c)
	if err != nil {
		return err
	}
	conn, err := Dial(c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, table, err := ask(conn, args)
	switch {
	case err != nil:
		return conn.Explain(err)
	case format != Table:
		return Print(c.App.Writer, format, answer)
	}
	return table(c.App.Writer)
}

// Section is a table among others.
type Section struct {
	Header []string
	Rows   [][]string
}

// PrintSections writes tables, each after an empty line. A table without rows
// is left out.
func PrintSections(w io.Writer, sections ...Section) error {
	for _, s := range sections {
		if len(s.Rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := PrintTable(w, s.Header, s.Rows); err != nil {
			return err
		}
	}
	return nil
}

// PrintSome writes a table of some of total things, and how many more there
// are.
func PrintSome(w io.Writer, header []string, rows [][]string, total uint64) error {
	err := PrintTable(w, header, rows)
	if shown := uint64(len(rows)); err == nil && total > shown {
		_, err = fmt.Fprintf(w, "and %d more; see --limit\n", total-shown)
	}
	return err
}
