package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// catalogue holds the sections that exist, in their documents' order.
type catalogue struct {
	docs     []string
	sections map[string][]string          // document → sections
	title    map[string]map[string]string // document → section → title
}

// readCatalogue reads lines "document TAB section TAB title".
func readCatalogue(r io.Reader) (*catalogue, error) {
	c := &catalogue{sections: map[string][]string{}, title: map[string]map[string]string{}}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 3 {
			return nil, fmt.Errorf("sections.txt:%d: %d fields, expected document, section and title, separated by tabs", n, len(f))
		}
		doc, sec := f[0], f[1]
		if c.title[doc] == nil {
			c.docs = append(c.docs, doc)
			c.title[doc] = map[string]string{}
		}
		if _, twice := c.title[doc][sec]; twice {
			return nil, fmt.Errorf("sections.txt:%d: %s §%s is there twice", n, doc, sec)
		}
		if sec != "*" {
			c.sections[doc] = append(c.sections[doc], sec)
		}
		c.title[doc][sec] = f[2]
	}
	return c, sc.Err()
}

// exists says what is wrong with a section. Drafts, and documents listed with
// the section "*", are believed.
func (c *catalogue) exists(doc, sec string) error {
	t, ok := c.title[doc]
	if _, all := t["*"]; all || (!ok && strings.HasPrefix(doc, "draft-")) {
		return nil
	}
	if !ok {
		return fmt.Errorf("%s §%s: the headings of %s are not in internal/rfcmap/sections.txt", doc, sec, doc)
	}
	if _, ok := t[sec]; !ok {
		return fmt.Errorf("%s has no section %s", doc, sec)
	}
	return nil
}

// between lists the sections from one to another, both included.
func (c *catalogue) between(doc, from, to string) ([]string, error) {
	var out []string
	for _, s := range c.sections[doc] {
		if s == from {
			out = []string{}
			continue
		}
		if out == nil {
			continue
		}
		out = append(out, s)
		if s == to {
			return out, nil
		}
	}
	return nil, fmt.Errorf("no such range of sections of %s: %s to %s", doc, from, to)
}

// parents calls f with a section and all sections that it is part of.
func parents(sec string, f func(string)) {
	for {
		f(sec)
		i := strings.LastIndexByte(sec, '.')
		if i < 0 {
			return
		}
		sec = sec[:i]
	}
}
