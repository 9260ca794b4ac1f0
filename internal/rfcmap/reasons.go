package main

import (
	"fmt"
	"slices"
	"strings"
)

// accountable are the documents each of whose sections has code and a test, or a
// reason why not, and whose rows are challenged by mutation.
var accountable = []string{"RFC 2113", "RFC 2711", "RFC 5350", "RFC 5971", "RFC 5974", "RFC 5979", "RFC 5981"}

// reasonsPath has lines "RFC 5971 §1: reason", for a section and all its parts.
const reasonsPath = "docs/rfc-reasons.txt"

// unaccounted lists the sections with neither code and test nor a reason, and the
// reasons for sections that have code. What a part has counts for the whole.
func unaccounted(known *catalogue, cites []cite, reasons map[string]string) []string {
	code, tested, own := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range cites {
		if !c.Place.Test {
			own[c.Doc+" §"+c.Section] = true
		}
		parents(c.Section, func(s string) {
			if k := c.Doc + " §" + s; c.Place.Test {
				tested[k] = true
			} else {
				code[k] = true
			}
		})
	}
	var out []string
	used := map[string]bool{}
	for _, doc := range accountable {
		for _, sec := range known.sections[doc] {
			k := doc + " §" + sec
			given := false
			parents(sec, func(s string) {
				if r := doc + " §" + s; reasons[r] != "" {
					given, used[r] = true, true
				}
			})
			switch {
			case own[k] && reasons[k] != "":
				out = append(out, fmt.Sprintf("%s gives a reason for %s, which has code", reasonsPath, k))
			case !given && (!code[k] || !tested[k]):
				out = append(out, fmt.Sprintf("%s (%s) has no code, or no test, and %s gives no reason", k, known.title[doc][sec], reasonsPath))
			}
		}
	}
	for k := range reasons {
		if !used[k] {
			out = append(out, fmt.Sprintf("%s gives a reason for %s, which is no section of %s", reasonsPath, k, strings.Join(accountable, ", ")))
		}
	}
	slices.Sort(out)
	return out
}
