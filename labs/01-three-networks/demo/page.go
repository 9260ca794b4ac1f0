package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// The story's width, in columns, and what stands before its lines.
const (
	width  = 98
	indent = "  "
)

// page is where the story is told.
type page struct {
	w     io.Writer
	color bool
	steps int
	begun time.Time // of the present step
}

// newPage colours on terminals only, and not where NO_COLOR is set.
func newPage(f *os.File) *page {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &page{w: f, color: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Colours.
const (
	bold  = "1"
	faint = "2"
	green = "32"
	red   = "31"
	cyan  = "36"
)

func (p *page) paint(color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (p *page) line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if text != "" {
		text = indent + text
	}
	_, _ = fmt.Fprintln(p.w, text)
}

// title opens a step.
func (p *page) title(text string) {
	p.steps++
	p.begun = time.Now()
	_, _ = fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, fmt.Sprintf("%d. %s", p.steps, text)))
}

// good closes a step, or a part of one: it has been checked.
func (p *page) good(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	took := ""
	if d := time.Since(p.begun); d >= 100*time.Millisecond {
		took = fmt.Sprintf("%.1f s", d.Seconds())
	}
	gap := max(2, width-len(indent)-2-utf8.RuneCountInString(text)-len(took))
	p.line("%s", p.paint(green, "✓ "+text)+strings.Repeat(" ", gap)+p.paint(faint, took))
}

// command shows a command line and what it printed. A line is broken before an
// option.
func (p *page) command(words []string, output string) {
	line := "$"
	for i, word := range words {
		ahead := len(word)
		if strings.HasPrefix(word, "-") && i+1 < len(words) {
			ahead += 1 + len(words[i+1])
		}
		if strings.HasPrefix(word, "-") && utf8.RuneCountInString(line)+ahead > width-7 {
			p.line("%s", p.paint(cyan, line+" \\"))
			line = "     "
		}
		line += " " + word
	}
	p.line("%s", p.paint(cyan, line))
	for l := range strings.Lines(output) {
		p.line("%s", strings.TrimRight(l, "\n"))
	}
}

// table writes rows in columns. A column whose title begins with ">" is flush
// right.
func (p *page) table(rows ...[]string) {
	widths := make([]int, len(rows[0]))
	for i, row := range rows {
		for k, cell := range row {
			if i == 0 {
				cell = strings.TrimPrefix(cell, ">")
			}
			widths[k] = max(widths[k], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		var b strings.Builder
		for k, cell := range row {
			if i == 0 {
				cell = strings.TrimPrefix(cell, ">")
			}
			pad := strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell))
			if strings.HasPrefix(rows[0][k], ">") {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
			b.WriteString("  ")
		}
		text := strings.TrimRight(b.String(), " ")
		if i == 0 {
			text = p.paint(faint, text)
		}
		p.line("%s", text)
	}
}

// failure is something that was not as it should be.
type failure struct {
	what, expected, found string
	logs                  []string // names of the processes to hear
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s: expected %s, found %s", f.what, f.expected, f.found)
}
