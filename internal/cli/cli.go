// Package cli is what the project's command line tools have in common: running
// a command line, finding the daemon, and printing answers.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/interqos/interqos/internal/suggest"
	urfave "github.com/urfave/cli/v2"
)

// Exit statuses.
const (
	ExitOK          = 0
	ExitFailed      = 1 // refused, or it failed
	ExitUsage       = 2 // the command line is wrong
	ExitUnreachable = 3 // the daemon can't be reached
)

// ExitHelp is the part of a help text that explains exit statuses.
const ExitHelp = `Exit status: 0 done; 1 refused or failed; 2 wrong usage; 3 the daemon cannot be reached.`

// UsageError says that the command line is wrong.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// UnreachableError says that the daemon can't be reached, and what to do.
type UnreachableError struct{ Text string }

func (e *UnreachableError) Error() string { return e.Text }

// ErrTold is an error that the output has told already: exit status 1 and
// nothing more to say.
var ErrTold = errors.New("failed")

// Version is the version that the program was built as.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (version == "" || version == "(devel)") {
			version = s.Value
		}
	}
	if version == "" {
		return "(devel)"
	}
	return version
}

// Main runs a command line of this process; an interrupt ends it.
func Main(app *urfave.App) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := Run(ctx, app, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// Run runs a command line and returns the exit status.
func Run(ctx context.Context, app *urfave.App, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	app.Version = Version()
	app.HideHelpCommand = true
	app.EnableBashCompletion = true
	app.DisableSliceFlagSeparator = true
	app.UseShortOptionHandling = false
	app.ExitErrHandler = func(*urfave.Context, error) {}
	prepare(app.Commands, app.Name)
	app.OnUsageError = usageError(app.Name)
	app.Action = unknownCommand(app.Name, app.Commands)

	err := app.RunContext(ctx, permute(app, args))
	var usage *UsageError
	var unreachable *UnreachableError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrTold):
		return ExitFailed
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", app.Name, err)
		return ExitUsage
	case errors.As(err, &unreachable):
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", app.Name, err)
		return ExitUnreachable
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintf(stderr, "%s: interrupted\n", app.Name)
		return ExitFailed
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", app.Name, err)
	return ExitFailed
}

// prepare gives every command our own treatment of usage errors.
func prepare(commands []*urfave.Command, path string) {
	for _, c := range commands {
		full := path + " " + c.Name
		c.HideHelpCommand = true
		c.OnUsageError = usageError(full)
		if len(c.Subcommands) > 0 {
			prepare(c.Subcommands, full)
			if c.Action == nil {
				c.Action = unknownCommand(full, c.Subcommands)
			}
		}
	}
}

func usageError(path string) urfave.OnUsageErrorFunc {
	return func(_ *urfave.Context, err error, _ bool) error {
		text := err.Error()
		if flag, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
			text = "there is no option " + flag
		}
		return Usagef("%s; see %s --help", text, path)
	}
}

// unknownCommand is the action where no command was found.
func unknownCommand(path string, commands []*urfave.Command) urfave.ActionFunc {
	return func(c *urfave.Context) error {
		if !c.Args().Present() {
			return Usagef("which command? One of %s; see %s --help", strings.Join(names(commands), ", "), path)
		}
		hint := suggest.Hint(c.Args().First(), names(commands))
		if hint == "" {
			hint = "one of " + strings.Join(names(commands), ", ")
		}
		return Usagef("%s has no command %q: %s", path, c.Args().First(), hint)
	}
}

func names(commands []*urfave.Command) []string {
	var list []string
	for _, c := range commands {
		if !c.Hidden {
			list = append(list, c.Name)
		}
	}
	return list
}

// Open opens the file of this name to read, or for - standard input.
func Open(c *urfave.Context, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.App.Reader), nil
	}
	return os.Open(name)
}

// Args checks that there are from low to high arguments (high < 0: any number)
// and returns them.
func Args(c *urfave.Context, low, high int, what string) ([]string, error) {
	args := c.Args().Slice()
	switch path := c.Command.HelpName; {
	case len(args) < low:
		return nil, Usagef("%s: which %s? See %s --help", path, what, path)
	case high >= 0 && len(args) > high:
		return nil, Usagef("%s: %q is one argument too many; see %s --help", path, args[high], path)
	}
	return args, nil
}

// permute moves options to the command that knows them, so that they may stand
// anywhere: the library wants them before the arguments.
func permute(app *urfave.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	type level struct {
		name  string
		flags []urfave.Flag
		args  []string
	}
	levels := []level{{name: args[0], flags: app.Flags}}
	commands := app.Commands
	var rest []string
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(append(rest, "--"), args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if k := slices.IndexFunc(commands, func(c *urfave.Command) bool { return c.HasName(arg) }); k >= 0 && len(rest) == 0 {
				levels = append(levels, level{name: arg, flags: commands[k].Flags})
				commands = commands[k].Subcommands
				continue
			}
			rest = append(rest, arg)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		at, takesValue := len(levels)-1, false
		for k := len(levels) - 1; k >= 0; k-- {
			if f := findFlag(levels[k].flags, name); f != nil {
				at = k
				_, isBool := f.(*urfave.BoolFlag)
				takesValue = !isBool
				break
			}
		}
		levels[at].args = append(levels[at].args, arg)
		if takesValue && !hasValue && i+1 < len(args) {
			i++
			levels[at].args = append(levels[at].args, args[i])
		}
	}
	var out []string
	for _, l := range levels {
		out = append(append(out, l.name), l.args...)
	}
	return append(out, rest...)
}

func findFlag(flags []urfave.Flag, name string) urfave.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}
