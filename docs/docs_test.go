// Package docs_test checks that the documentation is true of the tree: its
// examples are read by the programs that they are for, help texts are what the
// tools print, keys and metrics are all there, and links lead somewhere.
//
// A fenced block says after its language what it is:
//
//	yaml qned, yaml bngfe, yaml sls    a file that the program takes
//	console help                       "$ tool … --help" and what it prints
//	console                            a session: the commands have to exist
//	console lab                        the same, run by the test of labs/01-three-networks
//	console run                        a session that is run, and its answers compared
//	go file=NAME                       a part of that file in this folder
//	sh, text                           not checked
package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/bng/fe"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/qnectl"
	"github.com/interqos/interqos/internal/cli/slsctl"
	"github.com/interqos/interqos/node"
	"github.com/interqos/interqos/sls"
	urfave "github.com/urfave/cli/v2"
)

const root = ".."

// pages are the documents that are checked, relative to root.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/adr/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			name, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, name)
		}
	}
	return list
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// block is a fenced block.
type block struct {
	page string
	line int    // of its first line of text
	info string // after the opening fence
	text string
}

func (b block) at() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// blocks returns a page's fenced blocks, and the rest of it.
func blocks(t *testing.T, page string) (all []block, rest string) {
	t.Helper()
	var prose strings.Builder
	var open *block
	for i, line := range strings.Split(read(t, page), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case open == nil && fence:
			open = &block{page: page, line: i + 2, info: info}
		case open == nil:
			prose.WriteString(line + "\n")
		case line == "```":
			all = append(all, *open)
			open = nil
		default:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s: a block that is not closed", open.at())
	}
	return all, prose.String()
}

func TestBlocks(t *testing.T) {
	room := rooms{}
	kinds := map[string]func(*testing.T, block){
		"yaml qned":    qnedFile,
		"yaml bngfe":   bngfeFile,
		"yaml sls":     slsFile,
		"console":      session,
		"console help": help,
		"console lab":  session, // the lab's own test runs them
		"console run":  func(t *testing.T, b block) { runSession(t, b, room.of(t, b.page)) },
		"sh":           func(*testing.T, block) {},
		"text":         func(*testing.T, block) {},
		"go file=":     goFile,
	}
	count := map[string]int{}
	for _, page := range pages(t) {
		all, _ := blocks(t, page)
		for _, b := range all {
			kind := b.info
			if strings.HasPrefix(kind, "go file=") {
				kind = "go file="
			}
			check := kinds[kind]
			if check == nil {
				t.Errorf("%s: a block of kind %q, which nobody checks", b.at(), b.info)
				continue
			}
			count[kind]++
			check(t, b)
		}
	}
	for kind := range kinds {
		if count[kind] == 0 {
			t.Errorf("no page has a block of kind %q any more: was its mark misspelt?", kind)
		}
	}
}

func qnedFile(t *testing.T, b block) {
	if _, err := node.Parse(b.at(), []byte(b.text)); err != nil {
		t.Error(err)
	}
}

func bngfeFile(t *testing.T, b block) {
	if _, err := fe.ParseConfig(b.at(), []byte(b.text)); err != nil {
		t.Error(err)
	}
}

func slsFile(t *testing.T, b block) {
	list, err := sls.Parse(b.at(), []byte(b.text))
	if err != nil || len(list) == 0 {
		t.Errorf("%s: %d SLSs, %v", b.at(), len(list), err)
	}
}

func goFile(t *testing.T, b block) {
	name := strings.TrimPrefix(b.info, "go file=")
	if !strings.Contains(read(t, "docs/"+name), b.text) {
		t.Errorf("%s: this is not a part of %s", b.at(), name)
	}
}

// app returns a tool's command line, nil for a program that has none here.
func app(name string) *urfave.App {
	switch name {
	case "qnectl":
		return qnectl.App()
	case "slsctl":
		return slsctl.App()
	}
	return nil
}

// run runs a tool of ours in this process.
func run(args []string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = cli.Run(context.Background(), app(args[0]), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// session checks that the commands of a session, and their options, exist. What
// they answered needs networks; the demo's test has them.
func session(t *testing.T, b block) {
	for _, line := range strings.Split(b.text, "\n") {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		args := strings.Fields(command)
		if a := app(args[0]); a != nil {
			for _, unknown := range unknownWords(a, args[1:]) {
				t.Errorf("%s: %s: there is no %s", b.at(), command, unknown)
			}
		}
	}
}

// unknownWords returns what of a command line is no command and no option.
func unknownWords(a *urfave.App, args []string) (unknown []string) {
	flags, commands, found := a.Flags, a.Commands, false
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		name, _, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !isFlag {
			k := slices.IndexFunc(commands, func(c *urfave.Command) bool { return c.HasName(name) })
			switch {
			case k >= 0:
				flags, commands, found = append(slices.Clone(flags), commands[k].Flags...), commands[k].Subcommands, true
			case !found || len(commands) > 0:
				unknown = append(unknown, "command "+args[i])
			}
			continue
		}
		k := slices.IndexFunc(flags, func(f urfave.Flag) bool { return slices.Contains(f.Names(), name) })
		if k < 0 {
			unknown = append(unknown, "option "+args[i])
		} else if _, isBool := flags[k].(*urfave.BoolFlag); !isBool && !hasValue {
			i++
		}
	}
	return unknown
}

var versionPart = regexp.MustCompile(`(?m)^VERSION:\n.*\n\n`)

// help compares a help text with what the tool prints, but for its version and
// blanks at the ends of lines.
func help(t *testing.T, b block) {
	first, want, _ := strings.Cut(b.text, "\n")
	args := strings.Fields(strings.TrimPrefix(first, "$ "))
	var got string
	if app(args[0]) != nil {
		_, got, _ = run(args)
	} else {
		out, err := exec.Command("go", append([]string{"run", "../cmd/" + args[0]}, args[1:]...)...).Output()
		if err != nil {
			t.Errorf("%s: %s: %v", b.at(), first, err)
			return
		}
		got = string(out)
	}
	lines := strings.Split(strings.TrimSpace(versionPart.ReplaceAllString(got, "")), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if got = strings.Join(lines, "\n") + "\n"; got != want {
		t.Errorf("%s: %s\nprints\n%s\nthe page has\n%s", b.at(), first, got, want)
	}
}

func TestMain(m *testing.M) {
	for _, name := range os.Environ() {
		if strings.HasPrefix(name, "INTERQOS_") { // changes the tools' defaults
			name, _, _ = strings.Cut(name, "=")
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

var oneOf = regexp.MustCompile(`expected (?:a mapping with |one of )([a-z_, ]+)`)

// keysOf returns the keys that a message about an unknown key names.
func keysOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		t.Fatal("an unknown key is no error any more")
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		if !strings.Contains(line, "zzz") {
			continue
		}
		if m := oneOf.FindStringSubmatch(line); m != nil {
			return strings.Split(m[1], ", ")
		}
	}
	t.Fatalf("no list of keys in: %v", err)
	return nil
}

// Every key that the three kinds of files may have is on its page.
func TestEveryKeyIsDocumented(t *testing.T) {
	qned := func(text string) error { _, err := node.Parse("x", []byte(text)); return err }
	bngfe := func(text string) error { _, err := fe.ParseConfig("x", []byte(text)); return err }
	slss := func(text string) error { _, err := sls.Parse("x", []byte(text)); return err }
	for _, mapping := range []struct {
		page, path, text string
		parse            func(string) error
	}{
		{"docs/configuration.md", "", "zzz: 1", qned},
		{"docs/configuration.md", "log.", "log: {zzz: 1}", qned},
		{"docs/configuration.md", "admin.", "admin: {zzz: 1}", qned},
		{"docs/configuration.md", "admin.allow[].", "admin: {allow: [{zzz: 1}]}", qned},
		{"docs/configuration.md", "admin.remote.", "admin: {remote: {zzz: 1}}", qned},
		{"docs/configuration.md", "admin.remote.roles[].", "admin: {remote: {roles: [{zzz: 1}]}}", qned},
		{"docs/configuration.md", "metrics.", "metrics: {zzz: 1}", qned},
		{"docs/configuration.md", "store.", "store: {zzz: 1}", qned},
		{"docs/configuration.md", "gist.", "gist: {zzz: 1}", qned},
		{"docs/configuration.md", "gist.limits.", "gist: {limits: {zzz: 1}}", qned},
		{"docs/configuration.md", "nslp.", "nslp: {zzz: 1}", qned},
		{"docs/configuration.md", "bgp.", "bgp: {zzz: 1}", qned},
		{"docs/configuration.md", "edges[].", "edges: [{zzz: 1}]", qned},
		{"docs/configuration.md", "edges[].neighbor.", "edges: [{neighbor: {zzz: 1}}]", qned},
		{"docs/configuration.md", "keys[].", "keys: [{zzz: 1}]", qned},
		{"docs/configuration.md", "", "zzz: 1", bngfe},
		{"docs/configuration.md", "log.", "log: {zzz: 1}", bngfe},
		{"docs/configuration.md", "subscribers[].", "subscribers: [{zzz: 1}]", bngfe},
		{"docs/sls.md", "", "zzz: 1", slss},
		{"docs/sls.md", "scope.", "scope: {zzz: 1}", slss},
		{"docs/sls.md", "", "classes: [{zzz: 1}]", slss},
		{"docs/sls.md", "valid.", "valid: {zzz: 1}", slss},
		{"docs/sls.md", "admission.", "admission: {zzz: 1}", slss},
	} {
		page := read(t, mapping.page)
		for _, key := range keysOf(t, mapping.parse(mapping.text)) {
			name := mapping.path + key
			if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`"+name+".") && !strings.Contains(page, "`"+name+"[") {
				t.Errorf("%s does not tell of `%s`", mapping.page, name)
			}
		}
	}
}

// Every metric that the programs have is in the documentation.
func TestEveryMetricIsDocumented(t *testing.T) {
	for _, source := range []struct{ file, page, prefix, name string }{
		{"node/metrics.go", "docs/operations.md", "", `NewDesc\("([a-z_]+)"`},
		{"cmd/bngfe/metrics.go", "docs/bngfe.md", "bngfe_", `= +desc\("([a-z_]+)"`},
	} {
		names := regexp.MustCompile(source.name).FindAllStringSubmatch(read(t, source.file), -1)
		if len(names) == 0 {
			t.Errorf("%s: no metrics found", source.file)
		}
		page := read(t, source.page)
		for _, m := range names {
			if !strings.Contains(page, "`"+source.prefix+m[1]+"`") {
				t.Errorf("%s does not tell of %s%s", source.page, source.prefix, m[1])
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names that the headings of a page get on GitHub.
func anchors(t *testing.T, page string) []string {
	_, prose := blocks(t, page)
	var list []string
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		list = append(list, strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return list
}

// Links into the tree lead to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		_, prose := blocks(t, page)
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: link to %s: there is no %s", page, m[1], target)
			} else if anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s: link to %s: %s has no such heading", page, m[1], target)
			}
		}
	}
}

var sourceFile = regexp.MustCompile("`((?:[a-z0-9-]+/)+[a-z0-9_.-]+\\.(?:go|proto|md))`(?: `([A-Za-z]+)`)?")

// A file that a page names is there, and so is the function named right after
// it: `node/qne.go` `receive`.
func TestNamedSources(t *testing.T) {
	for _, page := range pages(t) {
		if page == "docs/rfc-map.md" {
			continue // generated
		}
		_, prose := blocks(t, page)
		for _, m := range sourceFile.FindAllStringSubmatch(prose, -1) {
			b, err := os.ReadFile(filepath.Join(root, m[1]))
			if err != nil {
				t.Errorf("%s names %s: %v", page, m[1], err)
			} else if f := m[2]; f != "" && !regexp.MustCompile(`(?m)^func (\([^)]*\) )?`+f+`\(`).Match(b) {
				t.Errorf("%s: there is no function %s in %s", page, f, m[1])
			}
		}
	}
}
