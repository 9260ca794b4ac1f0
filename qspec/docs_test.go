package qspec

import (
	"os"
	"strings"
	"testing"
)

// Every QSPEC in docs/qspec.md can be written, sent and read back.
func TestDocumentedTexts(t *testing.T) {
	page, err := os.ReadFile("../docs/qspec.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, block := range strings.Split(string(page), "```text\n") {
		if i == 0 {
			continue
		}
		text, _, _ := strings.Cut(block, "```")
		for line := range strings.Lines(text) {
			n++
			q, err := ParseText(line)
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if q.Check(InReserve) != nil && q.Check(InQuery) != nil {
				t.Errorf("%s: %v", line, q.Check(InReserve))
			}
			if back, err := Parse(q.Append(nil)); err != nil || back.String() != q.String() {
				t.Errorf("%s: %v, %v", line, back, err)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d texts", n)
	}
	for _, name := range parameterNames() {
		if !strings.Contains(string(page), "`"+name+"=") {
			t.Errorf("%s is not documented", name)
		}
	}
}
